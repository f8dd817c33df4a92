/* berth secret: what groups may refer to instead of holding it. A value is read from standard
 * input: arguments can be seen by every process of the machine. */
#include <getopt.h>
#include <stdio.h>

#include "cli/group.h"

#define VALUE_MAX 25600

struct secret_options {
	const char *state, *vault, *name;
};

static int parse(int argc, char **argv, int wanted, struct secret_options *o)
{
	static const struct option longs[] = {{"state", required_argument, NULL, 's'}, {0}};
	int option;

	*o = (struct secret_options){.state = DEFAULT_STATE};
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option != 's')
			return cli_wrong_option("secret");
		o->state = optarg;
	}
	if (argc - optind < wanted)
		return cli_usage("secret",
			wanted == 1 ? "name the vault." : "name the vault and the secret.");
	o->vault = argv[optind++];
	if (wanted == 2)
		o->name = argv[optind++];
	return cli_no_more("secret", argc, argv, optind);
}

static char *path_of(const struct secret_options *o)
{
	_cleanup_free_ char *vault = url_encode(o->vault);
	_cleanup_free_ char *name = url_encode(o->name ? o->name : "");

	return xasprintf("/vaults/%s/secrets%s%s", vault, o->name ? "/" : "", name);
}

static int call(const struct secret_options *o, const char *method, const json_t *body,
	struct err *err, json_t **ret)
{
	_cleanup_(api_freep) struct api *api = NULL;
	_cleanup_free_ char *path = path_of(o);
	int r = api_new(o->state, err, &api);

	return r < 0 ? r : api_call(api, method, path, body, err, ret);
}

static int read_value(struct buf *buf)
{
	ssize_t n;

	do
		n = buf_read(buf, STDIN_FILENO, VALUE_MAX + 2);
	while (n > 0 || n == -EINTR);
	if (n < 0)
		return (int)n;
	if (buf->len > 0 && buf->data[buf->len - 1] == '\n')
		buf->data[--buf->len] = '\0';
	return 0;
}

static int secret_set(int argc, char **argv)
{
	_cleanup_buf_ struct buf value = BUF_MAX(VALUE_MAX + 2);
	_cleanup_json_ json_t *body = NULL, *answer = NULL;
	struct secret_options o;
	struct err err = {0};
	int r = parse(argc, argv, 2, &o);

	if (r != 0)
		return r;
	if (isatty(STDIN_FILENO))
		fprintf(stderr, "Type the value, then Ctrl-D:\n");
	r = read_value(&value);
	if (r < 0 || value.len > VALUE_MAX) {
		err_set(&err, -EINVAL, "BadParameter",
			"The value can't be read: at most %d bytes are allowed.", VALUE_MAX);
		return cli_fail(&err);
	}
	body = json_pack("{s:s}", "value", buf_str(&value));
	if (!body) {
		err_set(&err, -EINVAL, "BadParameter", "The value must be UTF-8 text.");
		return cli_fail(&err);
	}
	if (call(&o, "PUT", body, &err, &answer) < 0)
		return cli_fail(&err);
	printf("%s\n", json_get_str(answer, "id", ""));
	return 0;
}

static int secret_list(int argc, char **argv)
{
	_cleanup_json_ json_t *answer = NULL;
	struct secret_options o;
	struct err err = {0};
	json_t *secret;
	size_t i;
	int r = parse(argc, argv, 1, &o);

	if (r != 0)
		return r;
	if (call(&o, "GET", NULL, &err, &answer) < 0)
		return cli_fail(&err);
	json_array_foreach (json_get_arr(answer, "value"), i, secret)
		printf("%s\n", json_get_str(secret, "id", ""));
	return 0;
}

static int secret_remove(int argc, char **argv)
{
	_cleanup_json_ json_t *answer = NULL;
	struct secret_options o;
	struct err err = {0};
	int r = parse(argc, argv, 2, &o);

	if (r != 0)
		return r;
	return call(&o, "DELETE", NULL, &err, &answer) < 0 ? cli_fail(&err) : 0;
}

int command_secret(int argc, char **argv)
{
	const char *action = argc > 1 ? argv[1] : "";

	if (str_eq(action, "set"))
		return secret_set(argc - 1, argv + 1);
	if (str_eq(action, "list"))
		return secret_list(argc - 1, argv + 1);
	if (str_eq(action, "remove"))
		return secret_remove(argc - 1, argv + 1);
	return cli_usage("secret", "say what to do: set, list or remove.");
}
