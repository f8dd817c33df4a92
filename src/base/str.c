#include "base/base.h"

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

int str_copy(char *dst, size_t size, const char *src)
{
	size_t n = strlen(src);

	assert(size > 0);
	if (n >= size) {
		dst[0] = '\0';
		return -E2BIG;
	}
	memcpy(dst, src, n + 1);
	return 0;
}

void str_lower(char *s)
{
	for (; *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s - 'A' + 'a');
}

char *str_lower_dup(const char *s)
{
	char *copy = xstrdup(s);

	str_lower(copy);
	return copy;
}

int str_to_u64(const char *s, uint64_t max, uint64_t *ret_value)
{
	uint64_t value = 0;
	bool over = false;

	if (*s == '\0')
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(*s - '0'), &value))
			over = true;
	}
	if (over || value > max)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

void str_hex(const void *data, size_t n, char *dst)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = data;

	for (size_t i = 0; i < n; i++) {
		dst[2 * i] = digits[p[i] >> 4];
		dst[2 * i + 1] = digits[p[i] & 15];
	}
	dst[2 * n] = '\0';
}

int str_hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int str_unhex(const char *hex, void *dst, size_t n)
{
	unsigned char *p = dst;

	if (strlen(hex) != 2 * n)
		return -EINVAL;
	for (size_t i = 0; i < 2 * n; i++)
		if (str_hex_value(hex[i]) < 0)
			return -EINVAL;
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(str_hex_value(hex[2 * i]) << 4 |
				       str_hex_value(hex[2 * i + 1]));
	return 0;
}

static const char base64_std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static char *base64_encode(const void *data, size_t n, const char *alphabet, bool pad)
{
	const unsigned char *p = data;
	char *text = xmalloc((n + 2) / 3 * 4 + 1);
	char *out = text;

	for (size_t i = 0; i < n; i += 3) {
		size_t left = MIN(n - i, (size_t)3);
		uint32_t v = (uint32_t)p[i] << 16;

		if (left > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (left > 2)
			v |= p[i + 2];
		for (size_t k = 0; k < 4; k++) {
			if (k <= left)
				*out++ = alphabet[(v >> (18 - 6 * k)) & 63];
			else if (pad)
				*out++ = '=';
		}
	}
	*out = '\0';
	return text;
}

char *str_base64(const void *data, size_t n)
{
	return base64_encode(data, n, base64_std, true);
}

char *str_base64url(const void *data, size_t n)
{
	return base64_encode(data, n, base64_url, false);
}

static int base64_value(char c, bool url)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == (url ? '-' : '+'))
		return 62;
	if (c == (url ? '_' : '/'))
		return 63;
	return -1;
}

int str_base64_decode(const char *s, size_t n, bool url, unsigned char **ret_data, size_t *ret_len)
{
	_cleanup_free_ unsigned char *data = NULL;
	uint32_t bits = 0;
	unsigned n_bits = 0;
	size_t len = 0;

	if (n > 0 && n % 4 == 0 && s[n - 1] == '=')
		n -= s[n - 2] == '=' ? 2 : 1;
	if (n % 4 == 1)
		return -EINVAL;
	data = malloc(n / 4 * 3 + 3);
	if (!data)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int v = base64_value(s[i], url);

		if (v < 0)
			return -EINVAL;
		bits = (bits << 6 | (uint32_t)v) & 0xffff;
		n_bits += 6;
		if (n_bits >= 8) {
			n_bits -= 8;
			data[len++] = (unsigned char)(bits >> n_bits);
		}
	}
	/* Bits that are left over must be zero, or two texts would stand for the same bytes (RFC
	 * 4648 section 3.5). */
	if (bits & ((1U << n_bits) - 1))
		return -EINVAL;
	data[len] = '\0';
	*ret_data = take_ptr(data);
	*ret_len = len;
	return 0;
}

/* Length of the valid sequence at s, 0 when there is none. */
static size_t utf8_sequence(const unsigned char *s, size_t n)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		len = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		len = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		len = 4;
	else
		return 0;
	/* The second byte is where overlong forms, surrogates and what is above U+10FFFF show (RFC
	 * 3629 section 4). */
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (n < len || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

bool str_is_utf8(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;

	for (size_t i = 0; i < n;) {
		size_t len = utf8_sequence(p + i, n - i);

		if (len == 0)
			return false;
		i += len;
	}
	return true;
}

char *str_utf8_clean(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t size = n, at = 0;
	char *clean;

	for (size_t i = 0, len; i < n; i += len ? len : 1) {
		len = utf8_sequence(p + i, n - i);
		if (len == 0)
			size += 2;
	}
	clean = xmalloc(size + 1);
	for (size_t i = 0, len; i < n; i += len ? len : 1) {
		len = utf8_sequence(p + i, n - i);
		memcpy(clean + at, len ? s + i : "\xef\xbf\xbd", len ? len : 3);
		at += len ? len : 3;
	}
	clean[at] = '\0';
	return clean;
}

size_t str_utf8_partial(const char *s, size_t n)
{
	for (size_t len = MIN(n, 3); len > 0; len--) {
		unsigned char whole[4] = {0, 0x80, 0x80, 0x80};

		memcpy(whole, s + n - len, len);
		if (whole[0] < 0xc2 || whole[0] > 0xf4 || utf8_sequence(whole, len) > 0)
			continue;
		/* Of the first byte alone any may follow; the second is where it shows. */
		if (len == 1 || utf8_sequence(whole, 4) > len)
			return len;
	}
	return 0;
}

int str_utf8_add(struct buf *out, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;

	for (size_t i = 0; i < n;) {
		size_t valid = 0, len = 0;
		int r;

		while (i + valid < n && (len = utf8_sequence(p + i + valid, n - i - valid)) > 0)
			valid += len;
		r = buf_add(out, s + i, valid);
		i += valid;
		if (r == 0 && i < n) {
			r = buf_adds(out, "\xef\xbf\xbd");
			i++;
		}
		if (r < 0)
			return r;
	}
	return 0;
}
