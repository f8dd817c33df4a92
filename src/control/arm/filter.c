#include "control/arm/internal.h"

static const char *skip_blanks(const char *s)
{
	return s + strspn(s, " ");
}

/* A word at *text; false when there is none or it doesn't fit. */
static bool take_word(const char **text, char *dst, size_t size)
{
	const char *s = skip_blanks(*text);
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./");

	if (!n || n >= size)
		return false;
	memcpy(dst, s, n);
	dst[n] = '\0';
	*text = s + n;
	return true;
}

/* A quoted string; two quotes inside stand for one (OData 4, ABNF rule string). */
static bool take_string(const char **text, char *dst, size_t size)
{
	const char *s = skip_blanks(*text);
	size_t n = 0;

	if (*s++ != '\'')
		return false;
	for (; *s; s++) {
		if (*s == '\'' && *++s != '\'') {
			dst[n] = '\0';
			*text = s;
			return true;
		}
		if (n + 1 >= size)
			return false;
		dst[n++] = *s;
	}
	return false;
}

int arm_filter_parse(const char *text, struct err *err, struct arm_filter *ret)
{
	struct arm_filter filter = {0};
	const char *s = text;
	char word[8];

	for (;;) {
		if (filter.n == ARM_FILTER_MAX ||
			!take_word(
				&s, filter.terms[filter.n].field, sizeof(filter.terms[0].field)) ||
			!take_word(&s, word, sizeof(word)) || !str_eq_nocase(word, "eq") ||
			!take_string(
				&s, filter.terms[filter.n].value, sizeof(filter.terms[0].value)))
			break;
		filter.n++;
		s = skip_blanks(s);
		if (!*s) {
			*ret = filter;
			return 0;
		}
		if (!take_word(&s, word, sizeof(word)) || !str_eq_nocase(word, "and"))
			break;
	}
	return err_set(err, -EINVAL, "InvalidFilterInQueryString",
		"Invalid $filter '%s' specified in the query string.", text);
}

const char *arm_filter_get(const struct arm_filter *filter, const char *field)
{
	for (size_t i = 0; i < filter->n; i++)
		if (str_eq_nocase(filter->terms[i].field, field))
			return filter->terms[i].value;
	return NULL;
}
