#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sys/stat.h>
#include <fcntl.h>

#include "base/file.h"
#include "base/time.h"
#include "control/auth/internal.h"

#define KEY_BITS 2048
#define KEY_FILE_MAX ((size_t)64 << 10)

/* --- the signing key --- */

static int key_make(const char *path, struct err *err, EVP_PKEY **ret)
{
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *key = EVP_RSA_gen(KEY_BITS);
	BIO *bio = BIO_new(BIO_s_mem());
	char *data = NULL;
	long len;
	int r = -EIO;

	if (key && bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
		len = BIO_get_mem_data(bio, &data);
		r = file_write_atomic(AT_FDCWD, path, data, (size_t)len, 0600);
	}
	if (bio)
		BIO_free(bio);
	if (r < 0)
		return err_errno(err, r, "write the signing key %s", path);
	*ret = take_ptr(key);
	return 0;
}

static int key_read(const char *path, struct err *err, EVP_PKEY **ret)
{
	_cleanup_free_ char *data = NULL;
	size_t len = 0;
	struct stat st;
	EVP_PKEY *key;
	BIO *bio;
	int r;

	r = file_read(AT_FDCWD, path, KEY_FILE_MAX, &data, &len);
	if (r == -ENOENT)
		return r;
	if (r < 0)
		return err_errno(err, r, "read the signing key %s", path);
	if (stat(path, &st) < 0)
		return err_errno(err, -errno, "stat %s", path);
	if (st.st_mode & 077)
		return err_set(err, -EPERM, "InsecureKeyFile",
			"Others than its owner may use the signing key %s: its mode must be 0600.",
			path);
	bio = BIO_new_mem_buf(data, (int)len);
	key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
	BIO_free(bio);
	OPENSSL_cleanse(data, len);
	if (!key || EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA ||
		EVP_PKEY_get_bits(key) < KEY_BITS) {
		EVP_PKEY_free(key);
		return err_set(err, -EINVAL, "InvalidKeyFile",
			"%s doesn't hold an RSA key of %d bits or more.", path, KEY_BITS);
	}
	*ret = key;
	return 0;
}

static char *key_number(const EVP_PKEY *key, const char *name)
{
	_cleanup_free_ unsigned char *bytes = NULL;
	BIGNUM *number = NULL;
	char *text;
	int n;

	if (EVP_PKEY_get_bn_param(key, name, &number) != 1)
		abort();
	n = BN_num_bytes(number);
	bytes = xmalloc((size_t)n);
	BN_bn2bin(number, bytes);
	BN_free(number);
	text = str_base64url(bytes, (size_t)n);
	return text;
}

/* The key's id is its thumbprint: members in this order, without blanks (RFC 7638 §3). */
static void key_describe(struct auth *auth)
{
	_cleanup_free_ char *members = NULL, *id = NULL;
	unsigned char digest[32];

	auth->modulus = key_number(auth->key, OSSL_PKEY_PARAM_RSA_N);
	auth->exponent = key_number(auth->key, OSSL_PKEY_PARAM_RSA_E);
	members = xasprintf(
		"{\"e\":\"%s\",\"kty\":\"RSA\",\"n\":\"%s\"}", auth->exponent, auth->modulus);
	if (EVP_Digest(members, strlen(members), digest, NULL, EVP_sha256(), NULL) != 1)
		abort();
	id = str_base64url(digest, sizeof(digest));
	str_copy(auth->key_id, sizeof(auth->key_id), id);
}

char *auth_jwks(const struct auth *auth)
{
	return xasprintf(
		"{\"keys\":[{\"kty\":\"RSA\",\"use\":\"sig\",\"alg\":\"RS256\",\"kid\":\"%s\","
		"\"n\":\"%s\",\"e\":\"%s\"}]}",
		auth->key_id, auth->modulus, auth->exponent);
}

/* --- life --- */

int auth_new(const struct auth_config *config, struct err *err, struct auth **ret)
{
	EVP_PKEY *key = NULL;
	struct auth *auth;
	int r;

	r = key_read(config->key_file, err, &key);
	if (r == -ENOENT)
		r = key_make(config->key_file, err, &key);
	if (r < 0)
		return r;
	auth = xnew(struct auth);
	auth->key = key;
	auth->store = config->store;
	auth->tenant_id = xstrdup(config->tenant_id);
	auth->issuer = xstrdup(config->issuer);
	auth->audience = xstrdup(config->audience);
	pthread_mutex_init(&auth->lock, NULL);
	key_describe(auth);
	*ret = auth;
	return 0;
}

void auth_free(struct auth *auth)
{
	if (!auth)
		return;
	EVP_PKEY_free(auth->key);
	free(auth->modulus);
	free(auth->exponent);
	free(auth->tenant_id);
	free(auth->issuer);
	free(auth->audience);
	pthread_mutex_destroy(&auth->lock);
	free(auth);
}

/* --- principals --- */

/* A client id comes from the network and becomes part of a key, so only what a UUID or a plain name
 * is made of. */
static bool client_id_valid(const char *id)
{
	size_t n = strlen(id);

	return n > 0 && n < sizeof(((struct principal *)NULL)->client_id) &&
	       strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") == n;
}

static char *principal_key(const char *client_id)
{
	_cleanup_free_ char *lower = str_lower_dup(client_id);

	return xasprintf("principal/%s", lower);
}

static char *principal_document(const struct principal *principal, const char *secret_hash)
{
	_cleanup_json_ json_t *document =
		json_pack("{s:s, s:s, s:s, s:s}", "clientId", principal->client_id, "objectId",
			principal->object_id, "name", principal->name, "secretHash", secret_hash);

	return document ? json_text(document) : NULL;
}

static int principal_write(struct auth *auth, const struct principal *principal,
	const char *secret_hash, int64_t expect, struct err *err)
{
	_cleanup_free_ char *key = NULL, *text = NULL;
	int r;

	if (!client_id_valid(principal->client_id))
		return err_set(err, -EINVAL, "InvalidPrincipal", "The client id isn't valid.");
	text = principal_document(principal, secret_hash);
	if (!text)
		return err_set(
			err, -EINVAL, "InvalidPrincipal", "The principal isn't valid UTF-8.");
	key = principal_key(principal->client_id);
	r = store_put(auth->store, key, text, strlen(text), expect, err, NULL);
	if (r == 0)
		auth_cache_clear(auth);
	return r;
}

int auth_put_principal(struct auth *auth, const struct principal *principal,
	const char *secret_hash, struct err *err)
{
	return principal_write(auth, principal, secret_hash, STORE_ANY, err);
}

static int principal_from_json(const json_t *document, struct principal *ret)
{
	struct principal p;

	if (str_copy(p.client_id, sizeof(p.client_id), json_get_str(document, "clientId", "")) <
			0 ||
		str_copy(p.object_id, sizeof(p.object_id), json_get_str(document, "objectId", "")) <
			0 ||
		str_copy(p.name, sizeof(p.name), json_get_str(document, "name", "")) < 0 ||
		!client_id_valid(p.client_id) || !p.object_id[0])
		return -EINVAL;
	*ret = p;
	return 0;
}

/* ret_hash may be NULL. */
static int principal_read(struct auth *auth, const char *client_id, struct err *err,
	struct principal *ret, char **ret_hash)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_json_ json_t *document = NULL;
	_cleanup_free_ char *key = NULL;
	int r;

	if (!client_id_valid(client_id))
		return -ENOENT;
	key = principal_key(client_id);
	r = store_get(auth->store, key, err, &entry);
	if (r < 0)
		return r;
	r = json_parse(entry.value, entry.value_len, JSON_DEPTH_MAX, err, &document);
	if (r < 0)
		return err_wrap(err, "%s", key);
	if (principal_from_json(document, ret) < 0)
		return err_set(err, -EINVAL, "InternalError", "%s isn't a principal", key);
	if (ret_hash)
		*ret_hash = xstrdup(json_get_str(document, "secretHash", ""));
	return 0;
}

int auth_get_principal(
	struct auth *auth, const char *client_id, struct err *err, struct principal *ret)
{
	return principal_read(auth, client_id, err, ret, NULL);
}

int auth_import_bootstrap(struct auth *auth, const char *path, struct err *err)
{
	_cleanup_json_ json_t *document = NULL;
	_cleanup_free_ char *data = NULL;
	struct principal principal;
	const char *hash;
	size_t len = 0;
	int r;

	r = file_read(AT_FDCWD, path, KEY_FILE_MAX, &data, &len);
	if (r == -ENOENT)
		return r;
	if (r < 0)
		return err_errno(err, r, "read %s", path);
	r = json_parse(data, len, JSON_DEPTH_MAX, err, &document);
	if (r < 0)
		return err_wrap(err, "%s", path);
	hash = json_get_str(document, "secretHash", "");
	if (principal_from_json(document, &principal) < 0 || !str_starts(hash, "scrypt$"))
		return err_set(err, -EINVAL, "InvalidBootstrap",
			"%s must hold clientId, objectId, name and secretHash.", path);
	r = principal_write(auth, &principal, hash, STORE_ABSENT, err);
	if (r == -EAGAIN) {
		if (err)
			*err = (struct err){0};
		return 0;
	}
	return r;
}

int auth_check_secret(struct auth *auth, const char *client_id, const char *secret, struct err *err,
	struct principal *ret)
{
	/* Of a secret that nobody knows: an unknown id pays for one derivation as a known one does.
	 */
	static const char nobody[] =
		"scrypt$16384$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
	_cleanup_free_ char *hash = NULL;
	struct principal principal;
	bool known, same;
	int r;

	r = principal_read(auth, client_id, err, &principal, &hash);
	if (r < 0 && r != -ENOENT)
		return r;
	known = r == 0;
	same = auth_secret_matches(known ? hash : nobody, secret);
	if (!known || !same)
		return err_set(err, -EACCES, "invalid_client",
			"AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the "
			"request is the client secret value, not the client secret ID, for a secret added to "
			"app '%s'.",
			client_id_valid(client_id) ? client_id : "");
	*ret = principal;
	return 0;
}
