#include "worker/pull/digest.h"

#include <openssl/evp.h>
#include <stdio.h>

struct hasher {
	EVP_MD_CTX *ctx;
	const char *algorithm;
};

bool digest_is_valid(const char *s)
{
	size_t want;

	if (!s)
		return false;
	if (str_starts(s, "sha256:"))
		want = 64;
	else if (str_starts(s, "sha512:"))
		want = 128;
	else
		return false;
	s += 7;
	return strlen(s) == want && strspn(s, "0123456789abcdef") == want;
}

const char *digest_hex(const char *digest)
{
	return digest + 7;
}

char *digest_file_name(const char *digest, char ret[DIGEST_MAX])
{
	assert(digest_is_valid(digest));
	(void)str_copy(ret, DIGEST_MAX, digest);
	ret[6] = '-';
	return ret;
}

char *digest_short(const char *digest, char ret[13])
{
	snprintf(ret, 13, "%.12s", digest_hex(digest));
	return ret;
}

struct hasher *hasher_new(const char *like)
{
	bool sha512 = like && str_starts(like, "sha512:");
	struct hasher *hasher = xnew(struct hasher);

	hasher->algorithm = sha512 ? "sha512" : "sha256";
	hasher->ctx = EVP_MD_CTX_new();
	assert(hasher->ctx);
	if (!EVP_DigestInit_ex(hasher->ctx, sha512 ? EVP_sha512() : EVP_sha256(), NULL))
		abort();
	return hasher;
}

void hasher_free(struct hasher *hasher)
{
	if (!hasher)
		return;
	EVP_MD_CTX_free(hasher->ctx);
	free(hasher);
}

void hasher_add(struct hasher *hasher, const void *data, size_t len)
{
	if (!EVP_DigestUpdate(hasher->ctx, data, len))
		abort();
}

char *hasher_digest(struct hasher *hasher, char ret[DIGEST_MAX])
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (!EVP_DigestFinal_ex(hasher->ctx, sum, &len))
		abort();
	memcpy(ret, hasher->algorithm, 6);
	ret[6] = ':';
	str_hex(sum, len, ret + 7);
	return ret;
}

bool digest_matches(const char *digest, const void *data, size_t len)
{
	_cleanup_(hasher_freep) struct hasher *hasher = hasher_new(digest);
	char sum[DIGEST_MAX];

	hasher_add(hasher, data, len);
	return str_eq(hasher_digest(hasher, sum), digest);
}
