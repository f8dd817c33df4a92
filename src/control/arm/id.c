#include "control/arm/id.h"

#include <stdio.h>

/* Decodes in place, once. Returns the new length, -EINVAL on a bad escape. */
static ssize_t decode(char *text, size_t len, bool plus)
{
	size_t out = 0;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (c == '%') {
			int high = i + 2 < len ? str_hex_value(text[i + 1]) : -1;
			int low = i + 2 < len ? str_hex_value(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return -EINVAL;
			c = (char)(high << 4 | low);
			i += 2;
		} else if (plus && c == '+') {
			c = ' ';
		}
		text[out++] = c;
	}
	text[out] = '\0';
	return (ssize_t)out;
}

/* A segment becomes part of ids, store keys and log lines. */
static bool segment_valid(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < 0x20 || c == 0x7f || c == '/' || c == '\\')
			return false;
	}
	return !str_eq(s, ".") && !str_eq(s, "..") && str_is_utf8(s, len);
}

static int bad_uri(struct err *err, const char *why)
{
	return err_set(err, -EINVAL, "InvalidRequestUri", "The request URI is invalid: %s.", why);
}

int arm_path_parse(const char *path, struct err *err, struct arm_path *ret)
{
	_cleanup_free_ char *text = NULL;
	struct arm_path p = {0};
	char *rest, *segment;

	if (path[0] != '/')
		return bad_uri(err, "the path must start with a slash");
	if (strnlen(path, ARM_PATH_MAX + 1) > ARM_PATH_MAX)
		return bad_uri(err, "the path is too long");
	text = xstrdup(path);
	rest = text;
	while ((segment = strsep(&rest, "/"))) {
		ssize_t len;

		if (!*segment)
			continue;
		if (p.n == ARM_SEGMENTS_MAX)
			return bad_uri(err, "the path has too many segments");
		len = decode(segment, strlen(segment), false);
		if (len < 0)
			return bad_uri(
				err, "the path has a percent sign without two hexadecimal digits");
		if (!segment_valid(segment, (size_t)len))
			return bad_uri(
				err, "a segment of the path has a character that none may have");
		p.segments[p.n++] = segment;
	}
	p.text = take_ptr(text);
	*ret = p;
	return 0;
}

void arm_path_done(struct arm_path *path)
{
	free(path->text);
	*path = (struct arm_path){0};
}

const char *arm_path_type(const struct arm_path *path, char *ret_type, size_t size)
{
	size_t at = path->n, used = 0;

	ret_type[0] = '\0';
	for (size_t i = 0; i + 1 < path->n; i++)
		if (str_eq_nocase(path->segments[i], "providers"))
			at = i;
	if (at == path->n)
		return NULL;
	for (size_t i = at + 2; i < path->n && used < size; i += 2) {
		int n = snprintf(
			ret_type + used, size - used, "%s%s", used ? "/" : "", path->segments[i]);

		used += (size_t)n;
	}
	return path->segments[at + 1];
}

int arm_pairs_parse(
	const char *text, size_t len, size_t max, struct err *err, struct arm_pairs *ret)
{
	_cleanup_free_ char *copy = NULL;
	struct arm_pairs p = {0};
	char *rest, *pair;

	if (len > max)
		return bad_uri(err, "there are too many parameters");
	if (memchr(text, '\0', len))
		return bad_uri(err, "a parameter has a NUL byte");
	copy = xstrndup(text, len);
	rest = copy;
	while ((pair = strsep(&rest, "&"))) {
		char *value = strchr(pair, '=');
		ssize_t name_len, value_len;

		if (!*pair)
			continue;
		if (p.n == ARM_PAIRS_MAX)
			return bad_uri(err, "there are too many parameters");
		if (value)
			*value++ = '\0';
		else
			value = pair + strlen(pair);
		/* The value first: without '=' it is the NUL that ends the name. */
		value_len = decode(value, strlen(value), true);
		name_len = decode(pair, strlen(pair), true);
		if (name_len < 0 || value_len < 0)
			return bad_uri(err,
				"a parameter has a percent sign without two hexadecimal digits");
		if (strlen(pair) != (size_t)name_len || strlen(value) != (size_t)value_len)
			return bad_uri(err, "a parameter has a NUL byte");
		if (!str_is_utf8(pair, (size_t)name_len) || !str_is_utf8(value, (size_t)value_len))
			return bad_uri(err, "a parameter isn't UTF-8");
		p.pairs[p.n++] = (struct arm_pair){.name = pair, .value = value};
	}
	p.text = take_ptr(copy);
	*ret = p;
	return 0;
}

void arm_pairs_done(struct arm_pairs *pairs)
{
	free(pairs->text);
	*pairs = (struct arm_pairs){0};
}

const char *arm_pairs_get(const struct arm_pairs *pairs, const char *name)
{
	for (size_t i = 0; i < pairs->n; i++)
		if (str_eq_nocase(pairs->pairs[i].name, name))
			return pairs->pairs[i].value;
	return NULL;
}

const char *arm_pairs_duplicate(const struct arm_pairs *pairs)
{
	for (size_t i = 0; i < pairs->n; i++)
		for (size_t j = 0; j < i; j++)
			if (str_eq(pairs->pairs[i].name, pairs->pairs[j].name))
				return pairs->pairs[i].name;
	return NULL;
}
