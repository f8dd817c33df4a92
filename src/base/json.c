#include <malloc.h>
#include <stdarg.h>

#include "base/json.h"

#define JSON_ERROR_CODE "InvalidRequestContent"

/* jansson recurses, so depth is checked before it sees the text. Brackets that don't match are left
 * to it. */
static int check_depth(const char *data, size_t len, unsigned max_depth, struct err *err)
{
	unsigned depth = 0, line = 1;
	bool in_string = false;
	size_t line_start = 0;

	for (size_t i = 0; i < len; i++) {
		char c = data[i];

		if (c == '\n') {
			line++;
			line_start = i + 1;
		}
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
			continue;
		}
		if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > max_depth)
				return err_set(err, -EINVAL, JSON_ERROR_CODE,
					"The content is nested deeper than %u levels (line %u, "
					"column %zu).",
					max_depth, line, i - line_start + 1);
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return 0;
}

int json_parse(const char *data, size_t len, unsigned max_depth, struct err *err, json_t **ret)
{
	_cleanup_free_ char *text = NULL;
	json_error_t error;
	json_t *value;
	int r;

	r = check_depth(data, len, max_depth, err);
	if (r < 0)
		return r;
	value = json_loadb(len ? data : "", len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (value) {
		*ret = value;
		return 0;
	}
	/* The text quotes the input and may have cut it within a character. */
	text = str_utf8_clean(error.text, strnlen(error.text, sizeof(error.text)));
	return err_set(err, -EINVAL, JSON_ERROR_CODE,
		"The content isn't valid JSON: %s (line %d, column %d).", text, error.line,
		error.column);
}

const char *json_get_str(const json_t *obj, const char *key, const char *fallback)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : fallback;
}

int64_t json_get_int(const json_t *obj, const char *key, int64_t fallback)
{
	const json_t *value = json_object_get(obj, key);

	return json_is_integer(value) ? (int64_t)json_integer_value(value) : fallback;
}

double json_get_num(const json_t *obj, const char *key, double fallback)
{
	const json_t *value = json_object_get(obj, key);

	return json_is_number(value) ? json_number_value(value) : fallback;
}

bool json_get_bool(const json_t *obj, const char *key, bool fallback)
{
	const json_t *value = json_object_get(obj, key);

	return json_is_boolean(value) ? json_is_true(value) : fallback;
}

json_t *json_get_obj(const json_t *obj, const char *key)
{
	json_t *value = json_object_get(obj, key);

	return json_is_object(value) ? value : NULL;
}

json_t *json_get_arr(const json_t *obj, const char *key)
{
	json_t *value = json_object_get(obj, key);

	return json_is_array(value) ? value : NULL;
}

json_t *json_path(const json_t *obj, ...)
{
	/* jansson's getters take const and give non-const, as this one does; without keys it is obj
	 * itself. */
	json_t *at = (json_t *)(uintptr_t)obj;
	const char *key;
	va_list ap;

	va_start(ap, obj);
	while (at && (key = va_arg(ap, const char *)))
		at = json_object_get(at, key);
	va_end(ap);
	return at;
}

char *json_text(const json_t *value)
{
	/* 15 digits: what a person wrote as 0.1 comes back as 0.1, and not with all of a double's
	 * digits. */
	size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15);
	char *text = value ? json_dumps(value, flags) : xstrdup("null");

	if (!text)
		abort();
	return text;
}

void json_put_str(json_t *obj, const char *key, const char *value)
{
	_cleanup_free_ char *clean = NULL;

	if (!value) {
		json_object_del(obj, key);
		return;
	}
	clean = str_utf8_clean(value, strlen(value));
	if (json_object_set_new(obj, key, json_string(clean)) < 0)
		abort();
}

static void wipe_and_free(void *memory)
{
	if (memory)
		explicit_bzero(memory, malloc_usable_size(memory));
	free(memory);
}

void json_wipe_freed(void)
{
	json_set_alloc_funcs(malloc, wipe_and_free);
}
