/* Strings and numbers out of strings: checked, without locale. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <strings.h>

struct buf;

static inline bool str_eq(const char *a, const char *b)
{
	return __builtin_strcmp(a, b) == 0;
}

static inline bool str_eq_nocase(const char *a, const char *b)
{
	return strcasecmp(a, b) == 0;
}

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);

/* Copies into a fixed array. 0, or -E2BIG (and dst is "") when it doesn't fit. */
int str_copy(char *dst, size_t size, const char *src);

/* ASCII lower case in place / as a new string. */
void str_lower(char *s);
char *str_lower_dup(const char *s);

/* Digits only, whole string, no sign, no blanks. 0, -EINVAL, or -ERANGE when above max. */
int str_to_u64(const char *s, uint64_t max, uint64_t *ret_value);

/* Lower-case hex of n bytes; dst has room for 2n+1. */
void str_hex(const void *data, size_t n, char *dst);
int str_unhex(const char *hex, void *dst, size_t n);
/* 0 to 15, -1 for what is no hex digit. */
int str_hex_value(char c);

/* Base64 (RFC 4648 §4) and base64url without padding (§5). The result is owned by the caller.
 * Decoding accepts padding or none and refuses any other byte: -EINVAL. */
char *str_base64(const void *data, size_t n);
char *str_base64url(const void *data, size_t n);
int str_base64_decode(const char *s, size_t n, bool url, unsigned char **ret_data, size_t *ret_len);

/* True when all n bytes form valid UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool str_is_utf8(const char *s, size_t n);

/* A copy in which every byte that isn't part of valid UTF-8 is U+FFFD. Owned by the caller. */
char *str_utf8_clean(const char *s, size_t n);

/* For text that comes in pieces. How many bytes at the end of s are the beginning of a character
 * that more bytes may complete: 0 to 3. */
size_t str_utf8_partial(const char *s, size_t n);
/* Appends s as str_utf8_clean() would make it. 0, or -EFBIG. */
int str_utf8_add(struct buf *out, const char *s, size_t n);
