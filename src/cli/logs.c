/* berth logs: a container's log, as it is or as it grows. */
#include <getopt.h>
#include <stdio.h>

#include "cli/session.h"

struct logs_options {
	struct group_options group;
	const char *container;
	const char *tail;
	bool follow, timestamps, previous;
};

static int parse(int argc, char **argv, struct logs_options *o)
{
	static const struct option longs[] = {{"state", required_argument, NULL, 's'},
		{"resource-group", required_argument, NULL, 'g'},
		{"name", required_argument, NULL, 'n'}, {"container", required_argument, NULL, 'c'},
		{"follow", no_argument, NULL, 'f'}, {"tail", required_argument, NULL, 't'},
		{"timestamps", no_argument, NULL, 'T'}, {"previous", no_argument, NULL, 'p'}, {0}};
	int option;

	*o = (struct logs_options){
		.group = {.state = DEFAULT_STATE, .resource_group = DEFAULT_GROUP}};
	while ((option = getopt_long(argc, argv, "fg:n:c:", longs, NULL)) != -1) {
		const char **single = option == 's'   ? &o->group.state
				      : option == 'g' ? &o->group.resource_group
				      : option == 'n' ? &o->group.name
				      : option == 'c' ? &o->container
				      : option == 't' ? &o->tail
						      : NULL;
		bool *flag = option == 'f'   ? &o->follow
			     : option == 'T' ? &o->timestamps
			     : option == 'p' ? &o->previous
					     : NULL;

		if (single)
			*single = optarg;
		else if (flag)
			*flag = true;
		else
			return cli_wrong_option("logs");
	}
	if (!o->group.name && optind < argc)
		o->group.name = argv[optind++];
	if (!o->container && optind < argc)
		o->container = argv[optind++];
	if (!o->group.name)
		return cli_usage("logs", "name the group.");
	if (o->follow && o->previous)
		return cli_usage(
			"logs", "--previous has come to its end: there is nothing to follow.");
	return cli_no_more("logs", argc, argv, optind);
}

static int print(
	struct api *api, const struct logs_options *o, const char *container, struct err *err)
{
	_cleanup_free_ char *name = url_encode(container);
	_cleanup_free_ char *tail = url_encode(o->tail ? o->tail : "");
	_cleanup_free_ char *suffix = xasprintf("/containers/%s/logs?timestamps=%s&previous=%s%s%s",
		name, o->timestamps ? "true" : "false", o->previous ? "true" : "false",
		o->tail ? "&tail=" : "", tail);
	_cleanup_json_ json_t *logs = NULL;
	int r = group_call(api, "GET", &o->group, suffix, NULL, err, &logs);

	if (r == 0)
		fputs(json_get_str(logs, "content", ""), stdout);
	return r;
}

static int follow(
	struct api *api, const struct logs_options *o, const char *container, struct err *err)
{
	_cleanup_json_ json_t *body =
		json_pack("{s:b, s:b}", "logs", true, "timestamps", o->timestamps);
	struct session_options options = {.container = container, .stderr_as_stdout = true};
	uint64_t tail;

	if (o->tail && str_to_u64(o->tail, INT32_MAX, &tail) < 0)
		return err_set(err, -EINVAL, "InvalidQueryParameterValue",
			"'%s' is not a number of lines.", o->tail);
	if (o->tail)
		json_object_set_new(body, "tail", json_integer((json_int_t)tail));
	return session_run(api, &o->group, "attach", body, &options, err);
}

int command_logs(int argc, char **argv)
{
	_cleanup_(api_freep) struct api *api = NULL;
	_cleanup_free_ char *container = NULL;
	struct logs_options o;
	struct err err = {0};
	int r = parse(argc, argv, &o);

	if (r != 0)
		return r;
	if (api_new(o.group.state, &err, &api) < 0 ||
		session_container(api, &o.group, o.container, true, &err, &container) < 0)
		return cli_fail(&err);
	r = o.follow ? follow(api, &o, container, &err) : print(api, &o, container, &err);
	return r < 0 ? cli_fail(&err) : 0;
}
