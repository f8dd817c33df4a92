/* What the files of auth share. */
#pragma once

#include <openssl/evp.h>
#include <pthread.h>

#include "base/json.h"
#include "base/random.h"
#include "control/auth/auth.h"

/* How long a checked token is taken at its word, and how many are kept: direct-mapped by digest, so
 * that a flood of tokens costs a signature check each and never memory. */
#define TOKEN_CACHE_MS 60000
#define TOKEN_CACHE_SLOTS 1024

struct token_slot {
	unsigned char digest[32];
	int64_t good_until_ms; /* CLOCK_MONOTONIC; 0: empty */
	int64_t expires_s;     /* the token's exp */
	struct principal principal;
};

struct auth {
	struct store *store;
	char *tenant_id;
	char *issuer;
	char *audience;
	EVP_PKEY *key;
	char key_id[44]; /* RFC 7638 thumbprint, base64url */
	char *modulus;	 /* base64url */
	char *exponent;
	pthread_mutex_t lock; /* over cache */
	struct token_slot cache[TOKEN_CACHE_SLOTS];
};

DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free)
DEFINE_CLEANUP(EVP_MD_CTX *, EVP_MD_CTX_free)

/* Forgets checked tokens, so that a change of principals is seen at once. */
void auth_cache_clear(struct auth *auth);
