/* The image's config: diff ids, platform, and the defaults that a container may take from it. */
#include "base/json.h"
#include "worker/pull/manifest.h"

enum {
	STRINGS_MAX = 1000,
	STRING_BYTES_MAX = 32 << 10,
	USER_MAX = 256,
	PATH_BYTES_MAX = 4096,
	SIGNAL_MAX = 32,
};

static int refuse(struct err *err, const char *why)
{
	return err_set(err, -EBADMSG, "InvalidImageLayer", "its config is not valid: %s", why);
}

/* Copies a string member, when it is one. */
static int take_string(const json_t *from, const char *key, size_t max, json_t *to, const char *as,
	struct err *err)
{
	const char *value = json_get_str(from, key, "");

	if (strlen(value) > max)
		return refuse(err, "a value is too long.");
	for (const char *p = value; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return refuse(err, "a value has a control character.");
	if (value[0])
		json_put_str(to, as, value);
	return 0;
}

/* Copies a list of strings; Docker's own reader takes a single string for a list of one. */
static int take_strings(const json_t *from, const char *key, bool environment, json_t *to,
	const char *as, struct err *err)
{
	json_t *value = json_object_get(from, key), *item;
	_cleanup_json_ json_t *list = json_array();
	size_t i;

	if (!value || json_is_null(value))
		return 0;
	if (json_is_string(value)) {
		json_array_append(list, value);
		value = list;
	}
	if (!json_is_array(value) || json_array_size(value) > STRINGS_MAX)
		return refuse(err, "a list is none, or too long.");
	json_array_foreach (value, i, item) {
		const char *text = json_string_value(item);

		if (!text || json_string_length(item) != strlen(text) ||
			strlen(text) >= STRING_BYTES_MAX)
			return refuse(err, "a list has something else than short strings in it.");
		if (environment && (text[0] == '=' || !strchr(text, '=')))
			continue;
		if (value != list)
			json_array_append(list, item);
	}
	json_object_set(to, as, list);
	return 0;
}

static int take_config(const json_t *doc, struct err *err, json_t **ret)
{
	json_t *config = json_get_obj(doc, "config");
	_cleanup_json_ json_t *taken = json_object();
	int r;

	r = take_strings(config, "Entrypoint", false, taken, "entrypoint", err);
	if (r == 0)
		r = take_strings(config, "Cmd", false, taken, "cmd", err);
	if (r == 0)
		r = take_strings(config, "Env", true, taken, "env", err);
	if (r == 0)
		r = take_string(config, "User", USER_MAX, taken, "user", err);
	if (r == 0)
		r = take_string(config, "WorkingDir", PATH_BYTES_MAX, taken, "workingDir", err);
	if (r == 0)
		r = take_string(config, "StopSignal", SIGNAL_MAX, taken, "stopSignal", err);
	if (r < 0)
		return r;
	*ret = take_ptr(taken);
	return 0;
}

static int take_diff_ids(const json_t *doc, struct err *err, struct image_info *ret)
{
	json_t *rootfs = json_get_obj(doc, "rootfs"), *list = json_get_arr(rootfs, "diff_ids");
	size_t n = json_array_size(list);

	if (!list || !str_eq(json_get_str(rootfs, "type", "layers"), "layers"))
		return refuse(err, "it has no list of diff ids.");
	if (n > LAYERS_MAX)
		return err_set(
			err, -EFBIG, "ImageTooLarge", "it has more than %d layers.", LAYERS_MAX);
	ret->diff_ids = xcalloc(n + 1, sizeof(*ret->diff_ids));
	for (size_t i = 0; i < n; i++) {
		const char *diff_id = json_string_value(json_array_get(list, i));

		/* sha256 alone: a layer's name in the store is the hex of it. */
		if (!digest_is_valid(diff_id) || !str_starts(diff_id, "sha256:"))
			return refuse(err, "a diff id is not a SHA-256 digest.");
		(void)str_copy(ret->diff_ids[i], DIGEST_MAX, diff_id);
	}
	ret->n_diff_ids = n;
	return 0;
}

static int check_platform(const json_t *doc, const struct platform *platform, struct err *err)
{
	const char *os = json_get_str(doc, "os", ""),
		   *architecture = json_get_str(doc, "architecture", "");

	if ((os[0] && !str_eq(os, platform->os)) ||
		(architecture[0] && !str_eq(architecture, platform->architecture)))
		return err_set(err, -ENOENT, "InaccessibleImage",
			"it is for %.30s/%.30s, and this node is %s/%s.", os, architecture,
			platform->os, platform->architecture);
	return 0;
}

int image_info_parse(const char *data, size_t len, const struct platform *platform, struct err *err,
	struct image_info *ret)
{
	_cleanup_(image_info_done) struct image_info info = {0};
	_cleanup_json_ json_t *doc = NULL;
	int r;

	if (json_parse(data, len, JSON_DEPTH_MAX, NULL, &doc) < 0 || !json_is_object(doc))
		return refuse(err, "it is not a JSON object.");
	r = check_platform(doc, platform, err);
	if (r == 0)
		r = take_diff_ids(doc, err, &info);
	if (r == 0)
		r = take_config(doc, err, &info.config);
	if (r < 0)
		return r;
	*ret = info;
	info = (struct image_info){0};
	return 0;
}

void image_info_done(struct image_info *info)
{
	free(info->diff_ids);
	json_decref(info->config);
	*info = (struct image_info){0};
}
