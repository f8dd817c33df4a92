/* Access tokens: JSON Web Tokens (RFC 7519) signed with RS256 (RFC 7518 §3.3), and only that. */
#include <inttypes.h>
#include <openssl/evp.h>

#include "base/time.h"
#include "control/auth/internal.h"

/* A token that a client carries is some 900 bytes; whatever is much longer is not one of ours. */
#define TOKEN_MAX 8192
/* Clocks of one machine agree, those of several nearly. */
#define SKEW_S 60

static char *sign(struct auth *auth, const char *text)
{
	_cleanup_(EVP_MD_CTX_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	_cleanup_free_ unsigned char *signature = NULL;
	size_t len = 0;

	if (!ctx || EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, auth->key) != 1 ||
		EVP_DigestSign(ctx, NULL, &len, (const unsigned char *)text, strlen(text)) != 1)
		abort();
	signature = xmalloc(len);
	if (EVP_DigestSign(ctx, signature, &len, (const unsigned char *)text, strlen(text)) != 1)
		abort();
	return str_base64url(signature, len);
}

static json_t *claims_new(struct auth *auth, const struct principal *principal, int64_t lifetime_s)
{
	int64_t now = time_now_ms() / 1000;
	char id[UUID_STR_MAX];

	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}",
		"aud", auth->audience, "iss", auth->issuer, "iat", (json_int_t)now, "nbf",
		(json_int_t)now, "exp", (json_int_t)(now + lifetime_s), "appid",
		principal->client_id, "appidacr", "1", "idp", auth->issuer, "idtyp", "app", "oid",
		principal->object_id, "sub", principal->object_id, "tid", auth->tenant_id, "uti",
		random_uuid(id), "ver", "1.0");
}

char *auth_token_new(struct auth *auth, const struct principal *principal, int64_t lifetime_s)
{
	_cleanup_json_ json_t *header =
		json_pack("{s:s, s:s, s:s}", "typ", "JWT", "alg", "RS256", "kid", auth->key_id);
	_cleanup_json_ json_t *claims = claims_new(auth, principal, lifetime_s);
	_cleanup_free_ char *header_text = NULL, *claims_text = NULL, *head = NULL, *body = NULL;
	_cleanup_free_ char *signed_text = NULL, *signature = NULL;

	assert(header && claims);
	header_text = json_text(header);
	claims_text = json_text(claims);
	head = str_base64url(header_text, strlen(header_text));
	body = str_base64url(claims_text, strlen(claims_text));
	signed_text = xasprintf("%s.%s", head, body);
	signature = sign(auth, signed_text);
	return xasprintf("%s.%s", signed_text, signature);
}

static int invalid(struct err *err, const char *why)
{
	return err_set(
		err, -EACCES, "InvalidAuthenticationToken", "The access token is invalid. %s", why);
}

static int expired(struct err *err, int64_t expires_s)
{
	char then[TIME_STR_MAX], now[TIME_STR_MAX];

	return err_set(err, -EACCES, "ExpiredAuthenticationToken",
		"The access token expiry UTC time '%s' is earlier than current UTC time '%s'.",
		time_format(expires_s * 1000, 0, then), time_format(time_now_ms(), 0, now));
}

/* Decodes one dot-separated part as a JSON object. */
static json_t *decode_part(const char *text, size_t len)
{
	_cleanup_free_ unsigned char *data = NULL;
	json_t *value = NULL;
	size_t n = 0;

	if (str_base64_decode(text, len, true, &data, &n) < 0 ||
		json_parse((const char *)data, n, 8, NULL, &value) < 0)
		return NULL;
	if (!json_is_object(value)) {
		json_decref(value);
		return NULL;
	}
	return value;
}

static bool signature_good(struct auth *auth, const char *text, size_t text_len,
	const char *signature, size_t signature_len)
{
	_cleanup_(EVP_MD_CTX_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	_cleanup_free_ unsigned char *bytes = NULL;
	size_t n = 0;

	if (!ctx || str_base64_decode(signature, signature_len, true, &bytes, &n) < 0)
		return false;
	return EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, auth->key) == 1 &&
	       EVP_DigestVerify(ctx, bytes, n, (const unsigned char *)text, text_len) == 1;
}

/* Times must be whole numbers: json_get_int's fallback for anything else is what fails each test.
 */
static int claims_check(
	struct auth *auth, const json_t *claims, struct err *err, int64_t *ret_expires_s)
{
	int64_t now = time_now_ms() / 1000, expires = json_get_int(claims, "exp", 0);

	if (!str_eq(json_get_str(claims, "iss", ""), auth->issuer))
		return invalid(err, "It was issued by somebody else.");
	if (!str_eq(json_get_str(claims, "aud", ""), auth->audience))
		return invalid(err, "It is meant for another audience or resource.");
	if (!str_eq(json_get_str(claims, "tid", ""), auth->tenant_id))
		return invalid(err, "It belongs to another tenant.");
	if (json_get_int(claims, "nbf", INT64_MAX) > now + SKEW_S)
		return invalid(err, "It isn't valid yet.");
	if (expires <= now)
		return expired(err, expires > 0 ? expires : 0);
	*ret_expires_s = expires;
	return 0;
}

/* The whole check, without the cache. */
static int token_verify(struct auth *auth, const char *token, struct err *err,
	struct principal *ret, int64_t *ret_expires_s)
{
	const char *dot = strchr(token, '.'), *dot2 = dot ? strchr(dot + 1, '.') : NULL;
	_cleanup_json_ json_t *header = NULL, *claims = NULL;
	const char *app;
	int r;

	if (!dot2 || strchr(dot2 + 1, '.'))
		return invalid(err, "It isn't a JSON Web Token.");
	header = decode_part(token, (size_t)(dot - token));
	/* The algorithm is ours to choose, never the token's (RFC 8725 §3.1). */
	if (!header || !str_eq(json_get_str(header, "alg", ""), "RS256"))
		return invalid(err, "Its header isn't that of a token signed with RS256.");
	if (!signature_good(auth, token, (size_t)(dot2 - token), dot2 + 1, strlen(dot2 + 1)))
		return invalid(err, "Its signature doesn't match.");
	claims = decode_part(dot + 1, (size_t)(dot2 - dot - 1));
	if (!claims)
		return invalid(err, "Its claims aren't a JSON object.");
	r = claims_check(auth, claims, err, ret_expires_s);
	if (r < 0)
		return r;
	app = json_get_str(claims, "appid", "");
	r = auth_get_principal(auth, app, err, ret);
	if (r == -ENOENT || (r == 0 && !str_eq(ret->object_id, json_get_str(claims, "oid", ""))))
		return invalid(err, "Its principal doesn't exist.");
	return r;
}

void auth_cache_clear(struct auth *auth)
{
	pthread_mutex_lock(&auth->lock);
	memset(auth->cache, 0, sizeof(auth->cache));
	pthread_mutex_unlock(&auth->lock);
}

int auth_token_check(struct auth *auth, const char *token, struct err *err, struct principal *ret)
{
	size_t len = strnlen(token, TOKEN_MAX + 1);
	struct principal principal;
	unsigned char digest[32];
	struct token_slot *slot;
	int64_t expires_s = 0;
	bool hit;
	int r;

	if (len > TOKEN_MAX)
		return invalid(err, "It is too long.");
	if (EVP_Digest(token, len, digest, NULL, EVP_sha256(), NULL) != 1)
		abort();
	slot = &auth->cache[(digest[0] | digest[1] << 8) % TOKEN_CACHE_SLOTS];

	pthread_mutex_lock(&auth->lock);
	hit = slot->good_until_ms > time_mono_ms() &&
	      memcmp(slot->digest, digest, sizeof(digest)) == 0;
	if (hit) {
		principal = slot->principal;
		expires_s = slot->expires_s;
	}
	pthread_mutex_unlock(&auth->lock);
	if (hit) {
		if (expires_s <= time_now_ms() / 1000)
			return expired(err, expires_s);
		*ret = principal;
		return 0;
	}

	r = token_verify(auth, token, err, &principal, &expires_s);
	if (r < 0)
		return r;
	pthread_mutex_lock(&auth->lock);
	memcpy(slot->digest, digest, sizeof(digest));
	slot->good_until_ms = time_mono_ms() + TOKEN_CACHE_MS;
	slot->expires_s = expires_s;
	slot->principal = principal;
	pthread_mutex_unlock(&auth->lock);
	*ret = principal;
	return 0;
}
