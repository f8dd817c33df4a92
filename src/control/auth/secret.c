/* Hashes of client secrets: scrypt (RFC 7914) with its parameters beside the hash. */
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "control/auth/internal.h"

/* RFC 7914 §2's interactive cost: 16 MiB and some 50 ms. */
#define SCRYPT_N 16384u
#define SCRYPT_R 8u
#define SCRYPT_P 1u
#define SCRYPT_MEMORY_MAX ((uint64_t)256 << 20)
#define SALT_BYTES 16
#define HASH_BYTES 32

struct scrypt_hash {
	uint64_t n, r, p;
	unsigned char *salt;
	size_t salt_len;
	unsigned char *hash;
	size_t hash_len;
};

static void scrypt_hash_done(struct scrypt_hash *h)
{
	free(h->salt);
	free(h->hash);
}

static bool derive(
	const char *secret, const struct scrypt_hash *h, unsigned char *out, size_t out_len)
{
	return EVP_PBE_scrypt(secret, strlen(secret), h->salt, h->salt_len, h->n, h->r, h->p,
		       SCRYPT_MEMORY_MAX, out, out_len) == 1;
}

char *auth_secret_hash(const char *secret)
{
	unsigned char salt[SALT_BYTES], out[HASH_BYTES];
	struct scrypt_hash h = {.n = SCRYPT_N,
		.r = SCRYPT_R,
		.p = SCRYPT_P,
		.salt = salt,
		.salt_len = sizeof(salt)};
	_cleanup_free_ char *salt_text = NULL, *hash_text = NULL;

	random_bytes(salt, sizeof(salt));
	/* It can fail only for want of 16 MiB, and then there is nothing sensible to go on with. */
	if (!derive(secret, &h, out, sizeof(out)))
		abort();
	salt_text = str_base64(salt, sizeof(salt));
	hash_text = str_base64(out, sizeof(out));
	OPENSSL_cleanse(out, sizeof(out));
	return xasprintf(
		"scrypt$%u$%u$%u$%s$%s", SCRYPT_N, SCRYPT_R, SCRYPT_P, salt_text, hash_text);
}

/* The hash may come from a file that somebody edited: its cost is bounded before it is paid. */
static int scrypt_hash_parse(const char *text, struct scrypt_hash *ret)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *rest = copy, *field[6];
	struct scrypt_hash h = {0};

	for (size_t i = 0; i < ARRAY_SIZE(field); i++) {
		field[i] = strsep(&rest, "$");
		if (!field[i])
			return -EINVAL;
	}
	if (rest || !str_eq(field[0], "scrypt") || str_to_u64(field[1], 1u << 20, &h.n) < 0 ||
		str_to_u64(field[2], 32, &h.r) < 0 || str_to_u64(field[3], 16, &h.p) < 0)
		return -EINVAL;
	if (h.n < 2 || (h.n & (h.n - 1)) || h.r < 1 || h.p < 1)
		return -EINVAL;
	if (str_base64_decode(field[4], strlen(field[4]), false, &h.salt, &h.salt_len) < 0 ||
		str_base64_decode(field[5], strlen(field[5]), false, &h.hash, &h.hash_len) < 0 ||
		h.hash_len != HASH_BYTES) {
		scrypt_hash_done(&h);
		return -EINVAL;
	}
	*ret = h;
	return 0;
}

bool auth_secret_matches(const char *hash, const char *secret)
{
	_cleanup_(scrypt_hash_done) struct scrypt_hash h = {0};
	unsigned char out[HASH_BYTES];
	bool same;

	if (scrypt_hash_parse(hash, &h) < 0 || !derive(secret, &h, out, sizeof(out)))
		return false;
	same = CRYPTO_memcmp(out, h.hash, sizeof(out)) == 0;
	OPENSSL_cleanse(out, sizeof(out));
	return same;
}
