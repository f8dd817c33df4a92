/* berth exec, attach: what goes on in a running container. */
#include <getopt.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "cli/session.h"

#define CANNOT_START 126
#define NOT_FOUND 127

static int parse(const char *command, int argc, char **argv, struct group_options *o,
	struct session_options *options)
{
	static const struct option longs[] = {{"state", required_argument, NULL, 's'},
		{"resource-group", required_argument, NULL, 'g'},
		{"name", required_argument, NULL, 'n'}, {"container", required_argument, NULL, 'c'},
		{"stdin", no_argument, NULL, 'i'}, {"tty", no_argument, NULL, 't'}, {0}};
	bool is_exec = str_eq(command, "exec");
	int option;

	*o = (struct group_options){.state = DEFAULT_STATE, .resource_group = DEFAULT_GROUP};
	*options = (struct session_options){0};
	while ((option = getopt_long(argc, argv, is_exec ? "g:n:c:it" : "g:n:c:", longs, NULL)) !=
		-1) {
		if (option == 's')
			o->state = optarg;
		else if (option == 'g')
			o->resource_group = optarg;
		else if (option == 'n')
			o->name = optarg;
		else if (option == 'c')
			options->container = optarg;
		else if (option == 'i' && is_exec)
			options->input = true;
		else if (option == 't' && is_exec)
			options->terminal = true;
		else
			return cli_wrong_option(command);
	}
	if (!o->name && optind < argc)
		o->name = argv[optind++];
	if (!o->name)
		return cli_usage(command, "name the group.");
	return 0;
}

static json_t *exec_body(const struct session_options *options, int argc, char **argv)
{
	json_t *arguments = json_array();
	struct winsize size = {0};

	for (int i = 0; i < argc; i++)
		json_array_append_new(arguments, json_string(argv[i]));
	if (options->terminal)
		ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
	return json_pack("{s:o, s:b, s:{s:i, s:i}}", "arguments", arguments, "terminal",
		options->terminal, "terminalSize", "rows", (int)size.ws_row, "cols",
		(int)size.ws_col);
}

/* As a shell tells of a command that it couldn't run. */
static int exec_failed(int r, const struct err *err)
{
	bool missing = strstr(err->message, "not found") ||
		       strstr(err->message, "No such file or directory");

	cli_fail(err);
	if (r != -ENOEXEC || !str_eq(err->code, "ContainerExecFailed"))
		return 1;
	return missing ? NOT_FOUND : CANNOT_START;
}

int command_exec(int argc, char **argv)
{
	_cleanup_(api_freep) struct api *api = NULL;
	_cleanup_json_ json_t *body = NULL;
	_cleanup_free_ char *container = NULL;
	struct session_options options;
	struct group_options o;
	struct err err = {0};
	int r = parse("exec", argc, argv, &o, &options);

	if (r != 0)
		return r;
	if (optind == argc)
		return cli_usage("exec", "say what to execute: -- COMMAND [ARGUMENT…].");
	for (int i = optind; i < argc; i++)
		if (!str_is_utf8(argv[i], strlen(argv[i])))
			return cli_usage("exec", "an argument isn't UTF-8.");
	if (options.terminal && !isatty(STDIN_FILENO))
		return cli_usage("exec", "-t needs a terminal, and standard input is none.");
	if (api_new(o.state, &err, &api) < 0 ||
		session_container(api, &o, options.container, false, &err, &container) < 0)
		return cli_fail(&err);
	options.container = container;
	body = exec_body(&options, argc - optind, argv + optind);
	r = session_run(api, &o, "exec", body, &options, &err);
	return r < 0 ? exec_failed(r, &err) : r;
}

int command_attach(int argc, char **argv)
{
	_cleanup_(api_freep) struct api *api = NULL;
	_cleanup_free_ char *container = NULL;
	struct session_options options;
	struct group_options o;
	struct err err = {0};
	int r = parse("attach", argc, argv, &o, &options);

	if (r == 0)
		r = cli_no_more("attach", argc, argv, optind);
	if (r != 0)
		return r;
	if (api_new(o.state, &err, &api) < 0 ||
		session_container(api, &o, options.container, false, &err, &container) < 0)
		return cli_fail(&err);
	options.container = container;
	r = session_run(api, &o, "attach", NULL, &options, &err);
	/* The result of following is that of following, and not of the container. */
	return r < 0 ? cli_fail(&err) : 0;
}
