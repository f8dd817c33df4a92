/* Random bytes of the kernel, ids made of them, and hashes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void random_bytes(void *data, size_t n);

/* RFC 9562 version 4, lower case. */
#define UUID_STR_MAX 37
char *random_uuid(char buf[UUID_STR_MAX]);
/* Written like that: 36 characters, lower case. Such a text is safe as a name on disk. */
bool uuid_is_valid(const char *text);

/* SHA-256 as 64 lower-case hex digits. */
#define SHA256_HEX_MAX 65
void sha256_hex(const void *data, size_t n, char ret[SHA256_HEX_MAX]);
