/*
 * Who calls: principals with secrets (scrypt, RFC 7914), and the RS256 access tokens (RFC 7519)
 * that prove them. The signing key is made at first start and kept in a file beside the store.
 * Nothing here knows HTTP.
 */
#pragma once

#include "base/base.h"
#include "control/store/store.h"

struct auth;

struct principal {
	char client_id[64]; /* appId, a UUID */
	char object_id[64];
	char name[128];
};

struct auth_config {
	struct store *store;
	const char *key_file; /* PEM RSA key, made with mode 0600 if missing */
	const char *tenant_id;
	const char *issuer;   /* "https://HOST:PORT/<tenant>" */
	const char *audience; /* "https://HOST:PORT" */
};

int auth_new(const struct auth_config *config, struct err *err, struct auth **ret);
void auth_free(struct auth *auth);

/* scrypt$N$r$p$salt$hash, for a store document or bootstrap file. Owned by the caller. */
char *auth_secret_hash(const char *secret);
bool auth_secret_matches(const char *hash, const char *secret);

/* Writes or replaces a principal. */
int auth_put_principal(struct auth *auth, const struct principal *principal,
	const char *secret_hash, struct err *err);

/* Reads a bootstrap file, {"clientId","objectId","name","secretHash"}, and stores its principal
 * unless one with that client id exists: a secret that was changed since stays changed. -ENOENT
 * when there is no such file (err untouched); -EINVAL with code "InvalidBootstrap" when it isn't
 * one. */
int auth_import_bootstrap(struct auth *auth, const char *path, struct err *err);

/* The principal's record, or -ENOENT (err untouched). */
int auth_get_principal(
	struct auth *auth, const char *client_id, struct err *err, struct principal *ret);

/* Checks id and secret. -EACCES with code "invalid_client" and AADSTS7000215 words when they don't
 * match; takes as long for an unknown id as for a wrong secret. */
int auth_check_secret(struct auth *auth, const char *client_id, const char *secret, struct err *err,
	struct principal *ret);

/* The public half of the signing key as a JWK set (RFC 7517). Owned by the caller. */
char *auth_jwks(const struct auth *auth);

/* A signed token: aud, iss, iat, nbf, exp, tid, oid, appid, sub. Owned by the caller. */
char *auth_token_new(struct auth *auth, const struct principal *principal, int64_t lifetime_s);

/* Verifies signature, issuer, audience, nbf and exp. -EACCES with code "InvalidAuthenticationToken"
 * or "ExpiredAuthenticationToken". A token whose principal is gone from the store is invalid. A
 * successful check is remembered for up to a minute, so a signature isn't verified anew with each
 * request. Thread-safe. */
int auth_token_check(struct auth *auth, const char *token, struct err *err, struct principal *ret);
