/* berth run, show, stop, start, restart, rm: one group, through the same API that az uses. */
#include <ctype.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>

#include "base/time.h"
#include "cli/group.h"

#define WAIT_MS 600000

static int parse_amount(const char *text, double *ret)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !isfinite(value) || value <= 0)
		return -EINVAL;
	*ret = value;
	return 0;
}

/* The options that are more than a word. */
static int parse_value(const char *command, int option, struct group_options *o)
{
	if (option == 'c' || option == 'm') {
		if (parse_amount(optarg, option == 'c' ? &o->cpu : &o->memory) < 0)
			return cli_usage(command, "'%s' is not a number greater than 0.", optarg);
	} else if (option == 'p') {
		if (o->n_ports == PORTS_MAX)
			return cli_usage(command, "-p was given more than %d times.", PORTS_MAX);
		if (str_to_u64(optarg, 65535, &o->ports[o->n_ports]) < 0 ||
			o->ports[o->n_ports] == 0)
			return cli_usage(
				command, "'%s' is not a port: a number from 1 to 65535.", optarg);
		o->n_ports++;
	} else if (option == 'e') {
		if (o->n_env == ARRAY_SIZE(o->env))
			return cli_usage(
				command, "-e was given more than %zu times.", ARRAY_SIZE(o->env));
		o->env[o->n_env++] = optarg;
	} else {
		return cli_wrong_option(command);
	}
	return 0;
}

static int parse(const char *command, int argc, char **argv, struct group_options *o)
{
	static const struct option longs[] = {{"state", required_argument, NULL, 's'},
		{"resource-group", required_argument, NULL, 'g'},
		{"name", required_argument, NULL, 'n'}, {"image", required_argument, NULL, 'i'},
		{"dns-name-label", required_argument, NULL, 'l'},
		{"restart-policy", required_argument, NULL, 'r'},
		{"cpu", required_argument, NULL, 'c'}, {"memory", required_argument, NULL, 'm'},
		{"port", required_argument, NULL, 'p'}, {"env", required_argument, NULL, 'e'}, {0}};
	bool is_run = str_eq(command, "run");
	int option;

	*o = (struct group_options){.state = DEFAULT_STATE,
		.resource_group = DEFAULT_GROUP,
		.policy = "Always",
		.cpu = 1,
		.memory = 1};
	/* What follows the first word that isn't an option is the container's command, options and
	 * all. */
	while ((option = getopt_long(argc, argv, is_run ? "+g:n:p:e:" : "g:n:", longs, NULL)) !=
		-1) {
		const char **single = option == 's'   ? &o->state
				      : option == 'g' ? &o->resource_group
				      : option == 'n' ? &o->name
				      : option == 'i' ? &o->image
				      : option == 'l' ? &o->label
				      : option == 'r' ? &o->policy
						      : NULL;

		if (single)
			*single = optarg;
		else {
			int r = parse_value(command, option, o);

			if (r != 0)
				return r;
		}
	}
	if (!o->name && optind < argc && !is_run)
		o->name = argv[optind++];
	if (!o->name)
		return cli_usage(
			command, is_run ? "name the group with -n NAME." : "name the group.");
	return is_run ? 0 : cli_no_more(command, argc, argv, optind);
}

char *url_encode(const char *text)
{
	struct buf buf = BUF_INIT;

	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		buf_printf(&buf, strchr("-._~", *c) || (*c < 0x80 && isalnum(*c)) ? "%c" : "%%%02X",
			*c);
	return buf_take(&buf);
}

char *group_path(const struct api *api, const struct group_options *o, const char *suffix)
{
	_cleanup_free_ char *resource_group = url_encode(o->resource_group);
	_cleanup_free_ char *name = url_encode(o->name);

	return xasprintf(
		"/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerInstance/containerGroups/%s%s",
		api_subscription(api), resource_group, name, suffix);
}

int group_call(struct api *api, const char *method, const struct group_options *o,
	const char *suffix, const json_t *body, struct err *err, json_t **ret)
{
	_cleanup_free_ char *path = group_path(api, o, suffix);
	int r = api_call(api, method, path, body, err, ret);

	if (r == -ENOENT && str_eq(o->resource_group, DEFAULT_GROUP))
		return err_wrap(err, "In the resource group '" DEFAULT_GROUP
				     "' (-g names another, `berth ps` shows them)");
	return r;
}

static json_t *port_list(const struct group_options *o)
{
	json_t *ports = json_array();

	for (size_t i = 0; i < o->n_ports; i++)
		json_array_append_new(ports, json_pack("{s:s, s:I}", "protocol", "TCP", "port",
						     (json_int_t)o->ports[i]));
	return ports;
}

static json_t *container_document(const struct group_options *o, int argc, char **argv)
{
	json_t *properties =
		json_pack("{s:s, s:{s:{s:f, s:f}}, s:o}", "image", o->image, "resources",
			"requests", "cpu", o->cpu, "memoryInGB", o->memory, "ports", port_list(o));
	json_t *env = json_array(), *command = json_array();

	for (size_t i = 0; i < o->n_env; i++) {
		size_t n = strcspn(o->env[i], "=");

		json_array_append_new(env, json_pack("{s:s%, s:s}", "name", o->env[i], n, "value",
						   o->env[i][n] ? o->env[i] + n + 1 : ""));
	}
	json_object_set_new(properties, "environmentVariables", env);
	for (int i = 0; i < argc; i++)
		json_array_append_new(command, json_string(argv[i]));
	if (argc > 0)
		json_object_set(properties, "command", command);
	json_decref(command);
	return json_pack("{s:s, s:o}", "name", o->name, "properties", properties);
}

static json_t *group_document(
	const struct group_options *o, const char *region, int argc, char **argv)
{
	json_t *properties = json_pack("{s:s, s:s, s:[o]}", "osType", "Linux", "restartPolicy",
		o->policy, "containers", container_document(o, argc, argv));

	if (o->n_ports > 0) {
		json_t *address = json_pack("{s:s, s:o}", "type", "Public", "ports", port_list(o));

		json_put_str(address, "dnsNameLabel", o->label);
		json_object_set_new(properties, "ipAddress", address);
	}
	return json_pack("{s:s, s:o}", "location", region, "properties", properties);
}

static int ensure_resource_group(
	struct api *api, const struct group_options *o, const char *region, struct err *err)
{
	_cleanup_free_ char *name = url_encode(o->resource_group);
	_cleanup_free_ char *path =
		xasprintf("/subscriptions/%s/resourcegroups/%s", api_subscription(api), name);
	_cleanup_json_ json_t *body = json_pack("{s:s}", "location", region);
	_cleanup_json_ json_t *answer = NULL;
	int r = api_call(api, "GET", path, NULL, err, &answer);

	if (r != -ENOENT)
		return r;
	return api_call(api, "PUT", path, body, err, &answer);
}

/* Polls until the deployment has ended, well or not. */
static int wait_settled(
	struct api *api, const struct group_options *o, struct err *err, json_t **ret)
{
	_cleanup_free_ char *path = group_path(api, o, "");
	int64_t deadline = time_mono_ms() + WAIT_MS;

	for (;;) {
		_cleanup_json_ json_t *group = NULL;
		int r = api_call(api, "GET", path, NULL, err, &group);
		const char *state;

		if (r < 0)
			return r;
		state = json_get_str(json_get_obj(group, "properties"), "provisioningState", "");
		if (str_eq(state, "Succeeded") || str_eq(state, "Failed") ||
			time_mono_ms() > deadline) {
			*ret = take_ptr(group);
			return 0;
		}
		usleep(200000);
	}
}

static void print_warnings(const json_t *group)
{
	size_t i, j;
	json_t *c, *event;

	json_array_foreach (json_path(group, "properties", "containers", NULL), i, c)
		json_array_foreach (
			json_path(c, "properties", "instanceView", "events", NULL), j, event)
			if (str_eq(json_get_str(event, "type", ""), "Warning"))
				fprintf(stderr, "  %s: %s\n", json_get_str(c, "name", ""),
					json_get_str(event, "message", ""));
}

static int print_result(const json_t *group)
{
	const json_t *properties = json_get_obj(group, "properties");
	const json_t *address = json_get_obj(properties, "ipAddress");

	if (!str_eq(json_get_str(properties, "provisioningState", ""), "Succeeded")) {
		fprintf(stderr, "berth run: '%s' did not start:\n",
			json_get_str(group, "name", ""));
		print_warnings(group);
		return 1;
	}
	printf("%s  %s  %s\n", json_get_str(group, "name", ""),
		json_get_str(address, "ip", "no address"), json_get_str(address, "fqdn", ""));
	return 0;
}

int command_run(int argc, char **argv)
{
	_cleanup_(api_freep) struct api *api = NULL;
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_json_ json_t *body = NULL, *answer = NULL, *group = NULL;
	_cleanup_free_ char *path = NULL;
	struct group_options o;
	struct err err = {0};
	int r = parse("run", argc, argv, &o);

	if (r != 0)
		return r;
	if (!o.image)
		return cli_usage("run", "name the image with --image REFERENCE.");
	if (config_load(o.state, &err, &config) < 0 || api_new(o.state, &err, &api) < 0 ||
		ensure_resource_group(api, &o, config->region, &err) < 0)
		return cli_fail(&err);
	body = group_document(&o, config->region, argc - optind, argv + optind);
	path = group_path(api, &o, "");
	if (api_call(api, "PUT", path, body, &err, &answer) < 0 ||
		wait_settled(api, &o, &err, &group) < 0)
		return cli_fail(&err);
	return print_result(group);
}

/* The events of one view, each with whose it is. */
static void add_events(json_t *all, const json_t *view, const char *who)
{
	json_t *event;
	size_t i;

	json_array_foreach (json_get_arr(view, "events"), i, event) {
		json_put_str(event, "who", who);
		json_array_append(all, event);
	}
}

static void add_containers(json_t *all, const json_t *containers)
{
	const json_t *container;
	size_t i;

	json_array_foreach (containers, i, container)
		add_events(all, json_path(container, "properties", "instanceView", NULL),
			json_get_str(container, "name", ""));
}

/* Times as the API writes them sort as text. */
static int compare_events(const void *a, const void *b)
{
	const json_t *const *x = a, *const *y = b;

	return strcmp(json_get_str(*x, "lastTimestamp", ""), json_get_str(*y, "lastTimestamp", ""));
}

static void print_events(const json_t *all)
{
	size_t i, n = json_array_size(all);
	const json_t **sorted = xcalloc(n + 1, sizeof(*sorted));

	for (i = 0; i < n; i++)
		sorted[i] = json_array_get(all, i);
	qsort(sorted, n, sizeof(*sorted), compare_events);
	if (n > 0)
		printf("%-20s  %-7s  %5s  %-20s  %-20s  %s\n", "LAST", "TYPE", "COUNT", "OF",
			"EVENT", "MESSAGE");
	for (i = 0; i < n; i++) {
		printf("%-20s  %-7s  %5lld  %-20s  %-20s  ",
			json_get_str(sorted[i], "lastTimestamp", ""),
			json_get_str(sorted[i], "type", ""),
			(long long)json_get_int(sorted[i], "count", 1),
			json_get_str(sorted[i], "who", ""), json_get_str(sorted[i], "name", ""));
		cli_print(stdout, json_get_str(sorted[i], "message", ""));
		printf("\n");
	}
	free(sorted);
}

int command_events(int argc, char **argv)
{
	_cleanup_(api_freep) struct api *api = NULL;
	_cleanup_json_ json_t *group = NULL, *all = json_array();
	const json_t *properties;
	struct group_options o;
	struct err err = {0};
	int r = parse("events", argc, argv, &o);

	if (r != 0)
		return r;
	if (api_new(o.state, &err, &api) < 0)
		return cli_fail(&err);
	if (group_call(api, "GET", &o, "", NULL, &err, &group) < 0)
		return cli_fail(&err);
	properties = json_get_obj(group, "properties");
	add_events(all, json_get_obj(properties, "instanceView"), "the group");
	add_containers(all, json_get_arr(properties, "initContainers"));
	add_containers(all, json_get_arr(properties, "containers"));
	print_events(all);
	return 0;
}

int command_show(int argc, char **argv)
{
	_cleanup_(api_freep) struct api *api = NULL;
	_cleanup_json_ json_t *group = NULL;
	struct group_options o;
	struct err err = {0};
	int r = parse("show", argc, argv, &o);

	if (r != 0)
		return r;
	if (api_new(o.state, &err, &api) < 0)
		return cli_fail(&err);
	if (group_call(api, "GET", &o, "", NULL, &err, &group) < 0)
		return cli_fail(&err);
	json_dumpf(group, stdout, JSON_INDENT(2));
	printf("\n");
	return 0;
}

static int simple(
	const char *command, const char *method, const char *suffix, int argc, char **argv)
{
	_cleanup_(api_freep) struct api *api = NULL;
	_cleanup_json_ json_t *answer = NULL;
	struct group_options o;
	struct err err = {0};
	int r = parse(command, argc, argv, &o);

	if (r != 0)
		return r;
	if (api_new(o.state, &err, &api) < 0)
		return cli_fail(&err);
	return group_call(api, method, &o, suffix, NULL, &err, &answer) < 0 ? cli_fail(&err) : 0;
}

int command_stop(int argc, char **argv)
{
	return simple("stop", "POST", "/stop", argc, argv);
}

int command_start(int argc, char **argv)
{
	return simple("start", "POST", "/start", argc, argv);
}

int command_restart(int argc, char **argv)
{
	return simple("restart", "POST", "/restart", argc, argv);
}

int command_rm(int argc, char **argv)
{
	return simple("rm", "DELETE", "", argc, argv);
}
