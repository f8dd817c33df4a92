#include <openssl/evp.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/base.h"
#include "base/random.h"

void random_bytes(void *data, size_t n)
{
	unsigned char *p = data;

	while (n > 0) {
		ssize_t got = getrandom(p, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		/* Nothing that needs randomness can go on without it. */
		if (got <= 0)
			abort();
		p += got;
		n -= (size_t)got;
	}
}

char *random_uuid(char buf[UUID_STR_MAX])
{
	unsigned char b[16];
	char hex[33];

	random_bytes(b, sizeof(b));
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	str_hex(b, sizeof(b), hex);
	snprintf(buf, UUID_STR_MAX, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
		hex + 20);
	return buf;
}

bool uuid_is_valid(const char *text)
{
	size_t i;

	for (i = 0; text[i] && i < UUID_STR_MAX - 1; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !strchr("0123456789abcdef", text[i]))
			return false;
	}
	return i == UUID_STR_MAX - 1 && text[i] == '\0';
}

void sha256_hex(const void *data, size_t n, char ret[SHA256_HEX_MAX])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (EVP_Digest(n ? data : "", n, digest, &len, EVP_sha256(), NULL) != 1 || len != 32)
		abort();
	str_hex(digest, len, ret);
}
