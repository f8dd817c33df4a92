/* One container of a group: its log. */
#include "control/providers/containerinstance/internal.h"
#include "link/link.h"

/* Of a longer log this is its end, which is what matters. */
#define LOG_MAX ((size_t)64 << 20)
#define LOG_TIMEOUT_MS 30000

int container_find(struct arm_request *request, struct err *err, struct group *group)
{
	const char *name = arm_param(request, "containerName");
	const json_t *container;
	size_t i;
	int r;

	r = group_load(arm_services(request), arm_param(request, "resourceGroupName"),
		arm_param(request, "containerGroupName"), err, group);
	if (r < 0)
		return r;
	json_array_foreach (json_path(group->record, "document", "properties", "containers", NULL),
		i, container)
		if (str_eq_nocase(json_get_str(container, "name", ""), name))
			return 0;
	json_array_foreach (
		json_path(group->record, "document", "properties", "initContainers", NULL), i,
		container)
		if (str_eq_nocase(json_get_str(container, "name", ""), name))
			return 0;
	return err_set(err, -ENOENT, "ContainerNotFound",
		"The container '%.80s' was not found in container group '%s'.", name,
		json_get_str(group->record, "name", ""));
}

static bool has_log(const json_t *container, const char *name)
{
	const json_t *view = json_get_obj(container, "instanceView");
	const json_t *current = json_get_obj(view, "currentState");

	/* One that waits to be started again has the log of its last run. */
	return str_eq_nocase(json_get_str(container, "name", ""), name) && current &&
	       (!str_eq(json_get_str(current, "state", ""), "Waiting") ||
		       json_get_obj(view, "previousState"));
}

/* A container that never ran has no log, and a client should hear that and not an empty text. */
int container_check_started(struct arm_request *request, const struct group *group, struct err *err)
{
	const char *name = arm_param(request, "containerName");
	const json_t *container;
	size_t i;

	json_array_foreach (json_get_arr(group->status, "containers"), i, container)
		if (has_log(container, name))
			return 0;
	json_array_foreach (json_get_arr(group->status, "initContainers"), i, container)
		if (has_log(container, name))
			return 0;
	return err_set(err, -EAGAIN, "ContainerLogNotAvailable",
		"The container '%s' in container group '%s' has not started yet: there is no log.",
		name, json_get_str(group->record, "name", ""));
}

static int query_bool(struct arm_request *request, const char *key, struct err *err, json_t *args)
{
	const char *value = arm_query(request, key);
	bool yes = value && str_eq_nocase(value, "true");

	if (value && !yes && !str_eq_nocase(value, "false"))
		return err_set(err, -EINVAL, "InvalidQueryParameterValue",
			"The value '%.40s' of the query parameter '%s' is invalid. It must be true or false.",
			value, key);
	json_object_set_new(args, key, json_boolean(yes));
	return 0;
}

static int logs_args(
	struct arm_request *request, const struct group *group, struct err *err, json_t *args)
{
	const char *tail = arm_query(request, "tail");
	_cleanup_free_ char *container = str_lower_dup(arm_param(request, "containerName"));
	uint64_t lines;
	int r;

	json_put_str(args, "uid", json_get_str(group->record, "uid", ""));
	json_put_str(args, "container", container);
	json_object_set_new(args, "maxBytes", json_integer((json_int_t)LOG_MAX));
	if (tail) {
		if (str_to_u64(tail, INT32_MAX, &lines) < 0)
			return err_set(err, -EINVAL, "InvalidQueryParameterValue",
				"The value '%.40s' of the query parameter 'tail' is invalid. It must be a whole number from 0 up.",
				tail);
		json_object_set_new(args, "tail", json_integer((json_int_t)lines));
	}
	r = query_bool(request, "timestamps", err, args);
	if (r == 0)
		r = query_bool(request, "previous", err, args);
	return r;
}

static int read_all(int fd, struct buf *buf)
{
	ssize_t n;

	do
		n = buf_read(buf, fd, 1u << 18);
	while (n > 0 || n == -EINTR);
	return (int)n;
}

/* Programs write any byte; JSON has only characters, and C strings no NUL. */
static char *log_text(struct buf *buf)
{
	size_t n = 0;

	for (size_t i = 0; i < buf->len; i++)
		if (buf->data[i])
			buf->data[n++] = buf->data[i];
	return str_utf8_clean(n ? buf->data : "", n);
}

int containers_logs(struct arm_request *request, struct arm_response *response, struct err *err)
{
	const struct arm_services *services = arm_services(request);
	_cleanup_(group_done) struct group group = {0};
	_cleanup_buf_ struct buf buf = BUF_MAX(LOG_MAX + 1);
	_cleanup_json_ json_t *args = json_object();
	_cleanup_free_ char *node = NULL;
	_cleanup_free_ char *text = NULL;
	_cleanup_fd_ int fd = -EBADF;
	int r;

	r = container_find(request, err, &group);
	if (r == 0)
		r = logs_args(request, &group, err, args);
	if (r == 0)
		r = container_check_started(request, &group, err);
	if (r == 0)
		r = node_pick(services, err, &node);
	if (r == 0)
		r = link_server_stream(
			services->link, node, "logs", take_ptr(args), LOG_TIMEOUT_MS, err, &fd);
	if (r < 0)
		return r;
	link_stream_bound(fd);
	r = read_all(fd, &buf);
	if (r < 0)
		return err_set(err, r, "NodeUnavailable", "The node stopped sending the log: %s.",
			err_str(r));
	text = log_text(&buf);
	response->body = json_pack("{s:s}", "content", text);
	return 0;
}
