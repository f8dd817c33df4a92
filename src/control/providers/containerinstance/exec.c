/* POST exec and attach: the checks, and a session for the WebSocket that follows. */
#include <stdio.h>

#include "control/providers/containerinstance/internal.h"
#include "control/providers/containerinstance/sessions.h"
#include "control/providers/containerinstance/words.h"

#define SIZE_MAX_CELLS 4096
#define ROWS 24
#define COLS 80

static const struct schema_property TerminalSize[] = {
	{.name = "rows", .type = SCHEMA_INT, .max = SIZE_MAX_CELLS},
	{.name = "cols", .type = SCHEMA_INT, .max = SIZE_MAX_CELLS},
};
static const struct schema_object terminal_size = {
	"TerminalSize", TerminalSize, ARRAY_SIZE(TerminalSize), false};

/* arguments and terminal are Berth's own. */
static const struct schema_property ExecRequest[] = {
	{.name = "command", .type = SCHEMA_STRING, .max = WORDS_TEXT_MAX, .code = "InvalidCommand"},
	{.name = "arguments",
		.type = SCHEMA_ARRAY,
		.items = SCHEMA_STRING,
		.max = WORDS_MAX,
		.code = "InvalidCommand"},
	{.name = "terminal", .type = SCHEMA_BOOL, .fallback = "true"},
	{.name = "terminalSize", .type = SCHEMA_OBJECT, .object = &terminal_size},
};
static const struct schema_object exec_request = {
	"ContainerExecRequest", ExecRequest, ARRAY_SIZE(ExecRequest), false};

/* The service has no body here: all of it is Berth's own. */
static const struct schema_property AttachRequest[] = {
	{.name = "logs", .type = SCHEMA_BOOL, .fallback = "false"},
	{.name = "tail", .type = SCHEMA_INT, .max = INT32_MAX},
	{.name = "timestamps", .type = SCHEMA_BOOL, .fallback = "false"},
};
static const struct schema_object attach_request = {
	"ContainerAttachRequest", AttachRequest, ARRAY_SIZE(AttachRequest), false};

/* A copy of the body, checked; an empty object when there is none and none is needed. */
static int read_body(struct arm_request *request, const struct schema_object *object,
	bool may_be_empty, struct err *err, json_t **ret)
{
	struct schema_context context = {.api_version = arm_api_version(request),
		.group_name = arm_param(request, "containerGroupName")};
	_cleanup_json_ json_t *copy = NULL;
	json_t *body;
	size_t len;
	int r;

	arm_body_raw(request, &len);
	if (len == 0 && may_be_empty) {
		copy = json_object();
	} else {
		r = arm_body(request, err, &body);
		if (r < 0)
			return r;
		copy = json_deep_copy(body);
	}
	r = schema_validate(object, copy, &context, err);
	if (r == 0)
		*ret = take_ptr(copy);
	return r;
}

/* As much as a command in one line has: sessions that wait keep theirs. */
static int check_arguments(const json_t *arguments, struct err *err)
{
	const char *program = json_string_value(json_array_get(arguments, 0));
	const json_t *argument;
	size_t total = 0, i;

	if (!program || !program[0])
		return err_set(err, -EINVAL, "InvalidCommand",
			"The first of 'arguments' is the program and can't be missing or empty.");
	json_array_foreach (arguments, i, argument)
		total += json_string_length(argument);
	if (total > WORDS_TEXT_MAX)
		return err_set(err, -EINVAL, "InvalidCommand",
			"The 'arguments' have %zu bytes together. At most %zu are allowed.", total,
			WORDS_TEXT_MAX);
	return 0;
}

/* The words of the command, from either property. */
static int read_command(const json_t *body, struct err *err, json_t **ret)
{
	const char *command = json_get_str(body, "command", NULL);
	json_t *arguments = json_get_arr(body, "arguments");
	int r;

	if (!command == !arguments)
		return err_set(err, -EINVAL, "InvalidCommand",
			"Either 'command', as one line, or 'arguments', as a list, says what to execute.");
	if (command)
		return words_split(command, err, ret);
	r = check_arguments(arguments, err);
	if (r == 0)
		*ret = json_incref(arguments);
	return r;
}

static const json_t *current_state(const struct group *group, const char *container)
{
	const json_t *item;
	size_t i;

	json_array_foreach (json_get_arr(group->status, "containers"), i, item)
		if (str_eq_nocase(json_get_str(item, "name", ""), container))
			return json_path(item, "instanceView", "currentState", NULL);
	return NULL;
}

static int check_running(struct arm_request *request, const struct group *group, struct err *err)
{
	const char *name = arm_param(request, "containerName");
	const json_t *current = current_state(group, name);
	const char *state = json_get_str(current, "state", "Waiting");

	if (str_eq(state, "Running"))
		return 0;
	return err_set(err, -EAGAIN, "ContainerNotRunning",
		"The container '%s' in container group '%s' is not running: its state is '%s'.",
		name, json_get_str(group->record, "name", ""), state);
}

/* "host:port" out of "https://host:port" */
static const char *authority(const struct arm_services *services)
{
	const char *start = strstr(services->endpoint, "://");

	return start ? start + 3 : services->endpoint;
}

/* Makes the session and answers with where it is; query is added to the URI. */
static int answer(struct arm_request *request, const struct group *group,
	enum session_protocol protocol, json_t *args, const char *query,
	struct arm_response *response, struct err *err)
{
	const struct arm_services *services = arm_services(request);
	_cleanup_free_ char *name = str_lower_dup(arm_param(request, "containerName"));
	const char *uid = json_get_str(group->record, "uid", "");
	_cleanup_free_ char *container = xasprintf("%s/%s", uid, name);
	_cleanup_free_ char *node = NULL;
	_cleanup_free_ char *uri = NULL;
	char id[UUID_STR_MAX], password[SESSION_PASSWORD_MAX];
	struct session_spec spec = {.protocol = protocol,
		.container = container,
		.method = protocol == SESSION_OUTPUT ? "follow" : "exec",
		.args = args};
	int r;

	json_put_str(args, "uid", uid);
	json_put_str(args, "container", name);
	r = node_pick(services, err, &node);
	if (r < 0)
		return r;
	spec.node = node;
	r = sessions_create(services->sessions, &spec, err, id, password);
	if (r < 0)
		return r;
	uri = xasprintf(
		"wss://%s" SESSION_PATH "%s?api-version=1.0%s", authority(services), id, query);
	response->body = json_pack("{s:s, s:s}", "webSocketUri", uri, "password", password);
	explicit_bzero(password, sizeof(password));
	return 0;
}

/* A size that is 0 is one that the client doesn't know. */
static int64_t cells(const json_t *body, const char *key, int64_t fallback)
{
	int64_t n = json_get_int(json_get_obj(body, "terminalSize"), key, 0);

	return n > 0 ? n : fallback;
}

int containers_exec(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(group_done) struct group group = {0};
	_cleanup_json_ json_t *body = NULL, *args = NULL, *command = NULL;
	_cleanup_free_ char *query = NULL;
	int64_t rows, cols;
	bool terminal;
	int r;

	r = container_find(request, err, &group);
	if (r == 0)
		r = read_body(request, &exec_request, false, err, &body);
	if (r == 0)
		r = read_command(body, err, &command);
	if (r == 0)
		r = check_running(request, &group, err);
	if (r < 0)
		return r;
	terminal = json_get_bool(body, "terminal", true);
	rows = cells(body, "rows", ROWS);
	cols = cells(body, "cols", COLS);
	args = json_pack("{s:O, s:b, s:b, s:I, s:I}", "command", command, "terminal", terminal,
		"stdin", true, "rows", rows, "cols", cols);
	query = xasprintf("&rows=%lld&cols=%lld", (long long)rows, (long long)cols);
	return answer(request, &group, terminal ? SESSION_TERMINAL : SESSION_CHANNELS, args, query,
		response, err);
}

int containers_attach(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(group_done) struct group group = {0};
	_cleanup_json_ json_t *body = NULL, *args = NULL;
	bool logs;
	int r;

	r = container_find(request, err, &group);
	if (r == 0)
		r = read_body(request, &attach_request, true, err, &body);
	if (r < 0)
		return r;
	logs = json_get_bool(body, "logs", false);
	if (!logs && json_object_get(body, "tail"))
		return err_set(err, -EINVAL, "InvalidRequestContent",
			"'tail' is for 'logs': true, which begins with the log; without it, attach begins with what comes next.");
	r = logs ? container_check_started(request, &group, err)
		 : check_running(request, &group, err);
	if (r < 0)
		return r;
	args = json_pack("{s:I, s:b}", "tail", logs ? json_get_int(body, "tail", -1) : (int64_t)0,
		"timestamps", json_get_bool(body, "timestamps", false));
	return answer(request, &group, SESSION_OUTPUT, args, "", response, err);
}
