#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/json.h"
#include "main/config.h"

#define CONFIG_BYTES_MAX 65536

enum kind { KIND_STRING, KIND_NUMBER, KIND_BOOL };

struct setting {
	const char *key;
	enum kind kind;
	size_t offset;
	const char *fallback; /* of a string */
	int64_t number, min, max;
	const char *words;
};

static const struct setting settings[] = {
#define STRING(key, fallback, words)                                                               \
	{#key, KIND_STRING, offsetof(struct config, key), fallback, 0, 0, 0, words},
#define NUMBER(key, fallback, min, max, words)                                                     \
	{#key, KIND_NUMBER, offsetof(struct config, key), NULL, fallback, min, max, words},
#define BOOL(key, fallback, words)                                                                 \
	{#key, KIND_BOOL, offsetof(struct config, key), NULL, fallback, 0, 1, words},
#include "main/config.def"
#undef STRING
#undef NUMBER
#undef BOOL
};

static char **string_at(const struct config *config, const struct setting *s)
{
	return (char **)((uintptr_t)config + s->offset);
}

static int64_t *number_at(const struct config *config, const struct setting *s)
{
	return (int64_t *)((uintptr_t)config + s->offset);
}

static bool *bool_at(const struct config *config, const struct setting *s)
{
	return (bool *)((uintptr_t)config + s->offset);
}

struct config *config_new(const char *state)
{
	struct config *config = xnew(struct config);

	config->state = xstrdup(state);
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];

		if (s->kind == KIND_STRING)
			*string_at(config, s) = s->fallback ? xstrdup(s->fallback) : NULL;
		else if (s->kind == KIND_NUMBER)
			*number_at(config, s) = s->number;
		else
			*bool_at(config, s) = s->number;
	}
	return config;
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (settings[i].kind == KIND_STRING)
			free(*string_at(config, &settings[i]));
	free(config->state);
	free(config);
}

static const struct setting *find_setting(const char *key, struct err *err)
{
	_cleanup_buf_ struct buf keys = BUF_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (str_eq(settings[i].key, key))
			return &settings[i];
		buf_printf(&keys, "%s%s", i ? ", " : "", settings[i].key);
	}
	err_set(err, -EINVAL, "InvalidConfiguration",
		"There is no setting '%s'. The settings are: %s.", key, buf_str(&keys));
	return NULL;
}

static int set_number(
	struct config *config, const struct setting *s, int64_t value, struct err *err)
{
	if (value < s->min || value > s->max)
		return err_set(err, -ERANGE, "InvalidConfiguration",
			"The setting '%s' must be a whole number from %lld to %lld.", s->key,
			(long long)s->min, (long long)s->max);
	*number_at(config, s) = value;
	return 0;
}

static void set_string(struct config *config, const struct setting *s, const char *value)
{
	free(*string_at(config, s));
	*string_at(config, s) = xstrdup(value);
}

int config_set(struct config *config, const char *assignment, struct err *err)
{
	const char *equals = strchr(assignment, '=');
	_cleanup_free_ char *key =
		equals ? xstrndup(assignment, (size_t)(equals - assignment)) : NULL;
	const struct setting *s;
	uint64_t number;

	if (!equals)
		return err_set(err, -EINVAL, "InvalidConfiguration",
			"'%s' is not of the form KEY=VALUE.", assignment);
	s = find_setting(key, err);
	if (!s)
		return -EINVAL;
	if (s->kind == KIND_STRING) {
		set_string(config, s, equals + 1);
		return 0;
	}
	if (s->kind == KIND_NUMBER)
		return set_number(config, s,
			str_to_u64(equals + 1, INT64_MAX, &number) < 0 ? -1 : (int64_t)number, err);
	if (!str_eq(equals + 1, "true") && !str_eq(equals + 1, "false"))
		return err_set(err, -EINVAL, "InvalidConfiguration",
			"The setting '%s' must be true or false.", key);
	*bool_at(config, s) = str_eq(equals + 1, "true");
	return 0;
}

static int merge_member(
	struct config *config, const char *key, const json_t *value, struct err *err)
{
	const struct setting *s = find_setting(key, err);

	if (!s)
		return -EINVAL;
	if (s->kind == KIND_STRING && json_is_string(value)) {
		set_string(config, s, json_string_value(value));
		return 0;
	}
	if (s->kind == KIND_NUMBER && json_is_integer(value))
		return set_number(config, s, json_integer_value(value), err);
	if (s->kind == KIND_BOOL && json_is_boolean(value)) {
		*bool_at(config, s) = json_is_true(value);
		return 0;
	}
	return err_set(err, -EINVAL, "InvalidConfiguration", "The setting '%s' must be a %s.", key,
		s->kind == KIND_STRING	 ? "string"
		: s->kind == KIND_NUMBER ? "whole number"
					 : "boolean");
}

int config_merge_file(struct config *config, const char *path, struct err *err)
{
	_cleanup_json_ json_t *json = NULL;
	_cleanup_free_ char *text = NULL;
	const char *key;
	json_t *value;
	size_t len;
	int r;

	r = file_read(AT_FDCWD, path, CONFIG_BYTES_MAX, &text, &len);
	if (r < 0)
		return err_errno(err, r, "%s", path);
	r = json_parse(text, len, 4, err, &json);
	if (r < 0)
		return err_wrap(err, "%s", path);
	json_object_foreach (json, key, value) {
		r = merge_member(config, key, value, err);
		if (r < 0)
			return err_wrap(err, "%s", path);
	}
	return 0;
}

char *config_absolute(const char *path)
{
	_cleanup_free_ char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
	char *full = cwd ? xasprintf("%s/%s", cwd, path) : xstrdup(path);

	for (size_t n = strlen(full); n > 1 && full[n - 1] == '/'; n--)
		full[n - 1] = 0;
	return full;
}

int config_load(const char *state, struct err *err, struct config **ret)
{
	_cleanup_free_ char *absolute = config_absolute(state);
	_cleanup_(config_freep) struct config *config = config_new(absolute);
	_cleanup_free_ char *path = config_path(config, "config.json");
	int r;

	if (access(path, F_OK) < 0 && errno == EACCES)
		return err_set(err, -EACCES, "NotAllowed",
			"%s can't be reached by this user. berthd runs as user 'berth': every folder on the way must let it "
			"through (chmod o+x), or choose another one with --state.",
			absolute);
	if (access(path, F_OK) < 0)
		return err_set(err, -errno, "NotSetUp",
			"There is no Berth in %s: %s. Start one with: sudo berth up --state %s",
			absolute, err_str(-errno), absolute);
	r = config_merge_file(config, path, err);
	if (r < 0)
		return r;
	*ret = take_ptr(config);
	return 0;
}

int config_save(const struct config *config, struct err *err)
{
	_cleanup_free_ char *path = config_path(config, "config.json");
	_cleanup_json_ json_t *json = json_object();
	_cleanup_free_ char *text = NULL;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];

		if (s->kind == KIND_STRING)
			json_put_str(json, s->key, *string_at(config, s));
		else if (s->kind == KIND_NUMBER)
			json_object_set_new(json, s->key, json_integer(*number_at(config, s)));
		else
			json_object_set_new(json, s->key, json_boolean(*bool_at(config, s)));
	}
	text = json_dumps(json, JSON_INDENT(2));
	r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0644);
	return r < 0 ? err_errno(err, r, "write %s", path) : 0;
}

char *config_path(const struct config *config, const char *suffix)
{
	return xasprintf("%s/%s", config->state, suffix);
}

int config_host_port(
	const char *text, char *ret_host, size_t host_size, int *ret_port, struct err *err)
{
	const char *colon = strrchr(text, ':');
	_cleanup_free_ char *host = colon ? xstrndup(text, (size_t)(colon - text)) : NULL;
	struct in_addr address;
	uint64_t port;

	if (!colon || inet_pton(AF_INET, host, &address) != 1 ||
		str_to_u64(colon + 1, 65535, &port) < 0 || port == 0 ||
		str_copy(ret_host, host_size, host) < 0)
		return err_set(err, -EINVAL, "InvalidConfiguration",
			"'%s' is not a numeric IPv4 address and port such as 127.0.0.1:8443.",
			text);
	*ret_port = (int)port;
	return 0;
}

void config_print_reference(void)
{
	printf("# Configuration\n\nGenerated from `src/main/config.def` by `berth up --help-settings`; "
	       "change a setting with\n`berth up --set KEY=VALUE` or in a JSON file given to `--config`.\n\n"
	       "| setting | default | meaning |\n| --- | --- | --- |\n");
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];

		if (s->kind == KIND_STRING)
			printf("| `%s` | %s | %s |\n", s->key,
				!s->fallback	 ? "chosen at first start"
				: s->fallback[0] ? s->fallback
						 : "none",
				s->words);
		else if (s->kind == KIND_NUMBER)
			printf("| `%s` | %lld | %s |\n", s->key, (long long)s->number, s->words);
		else
			printf("| `%s` | %s | %s |\n", s->key, s->number ? "true" : "false",
				s->words);
	}
}
