#include "worker/pull/challenge.h"

enum { REALM_MAX = 2048, SERVICE_MAX = 256, SCOPE_MAX = 1024, VALUE_MAX = 16 << 10 };

#define TOKEN_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"

static const char *skip_blanks(const char *p)
{
	return p + strspn(p, " \t");
}

/* A token or a quoted string into buf; the end, or NULL when there is none. */
static const char *read_value(const char *p, struct buf *buf)
{
	size_t len;

	if (*p != '"') {
		/* token68 and sloppy registries: up to the next comma or blank. */
		len = strcspn(p, ", \t\"");
		return buf_add(buf, p, len) < 0 ? NULL : p + len;
	}
	for (p++; *p && *p != '"'; p++) {
		if (*p == '\\' && p[1])
			p++;
		if (buf_addc(buf, *p) < 0)
			return NULL;
	}
	return *p == '"' ? p + 1 : NULL;
}

static bool is_plain(const char *s)
{
	for (; *s; s++)
		if (*s < 0x20 || *s > 0x7e)
			return false;
	return true;
}

static void keep(char **slot, const char *value, size_t max)
{
	if (!*slot && value[0] && strlen(value) <= max && is_plain(value))
		*slot = xstrdup(value);
}

static void take_param(struct challenge *challenge, const char *name, size_t len, const char *value)
{
	if (len == 5 && !strncasecmp(name, "realm", len))
		keep(&challenge->realm, value, REALM_MAX);
	else if (len == 7 && !strncasecmp(name, "service", len))
		keep(&challenge->service, value, SERVICE_MAX);
	else if (len == 5 && !strncasecmp(name, "scope", len))
		keep(&challenge->scope, value, SCOPE_MAX);
}

void challenge_parse(const char *value, struct challenge *challenge)
{
	const char *p = value;
	bool in_bearer = false;

	if (strnlen(value, VALUE_MAX + 1) > VALUE_MAX)
		return;
	while (*(p = skip_blanks(p + strspn(p, ", \t")))) {
		_cleanup_buf_ struct buf text = BUF_MAX(4096);
		const char *word = p;
		size_t len = strspn(p, TOKEN_CHARS);

		if (!len)
			return;
		p = skip_blanks(p + len);
		if (*p != '=') { /* a scheme begins */
			in_bearer = len == 6 && !strncasecmp(word, "Bearer", len);
			challenge->bearer |= in_bearer;
			challenge->basic |= len == 5 && !strncasecmp(word, "Basic", len);
			continue;
		}
		p = read_value(skip_blanks(p + 1), &text);
		if (!p)
			return;
		if (in_bearer)
			take_param(challenge, word, len, buf_str(&text));
	}
}

void challenge_done(struct challenge *challenge)
{
	free(challenge->realm);
	free(challenge->service);
	free(challenge->scope);
	*challenge = (struct challenge){0};
}
