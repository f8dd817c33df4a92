#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "base/base.h"
#include "base/file.h"
#include "http/tls.h"

#define DAY ((long)24 * 3600)
#define CA_DAYS 3653
#define SERVER_DAYS 397 /* what browsers accept at most */
#define RENEW_DAYS 30
#define CLOCK_SKEW 300
#define PEM_MAX ((size_t)256 << 10)

DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free)
DEFINE_CLEANUP(X509 *, X509_free)
DEFINE_CLEANUP(BIO *, BIO_free_all)
DEFINE_CLEANUP(ASN1_INTEGER *, ASN1_INTEGER_free)
DEFINE_CLEANUP(BIGNUM *, BN_free)
DEFINE_CLEANUP(ASN1_OCTET_STRING *, ASN1_OCTET_STRING_free)

static void general_names_free(GENERAL_NAMES *names)
{
	GENERAL_NAMES_free(names);
}
DEFINE_CLEANUP(GENERAL_NAMES *, general_names_free)

static int fail(struct err *err, const char *what)
{
	return err_set(err, -EIO, "InternalError", "%s failed in OpenSSL.", what);
}

/* Files. */

/* 1: read, 0: there is none, < 0: there is one that can't be used. */
static int read_pem(const char *path, struct err *err, BIO **ret)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	BIO *bio;
	int r = file_read(AT_FDCWD, path, PEM_MAX, &text, &len);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_errno(err, r, "reading %s", path);
	bio = BIO_new(BIO_s_mem());
	if (!bio || BIO_write(bio, text, (int)len) != (int)len)
		abort();
	*ret = bio;
	OPENSSL_cleanse(text, len);
	return 1;
}

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	return -1; /* or OpenSSL would ask on the terminal */
}

static int read_cert(const char *path, struct err *err, X509 **ret)
{
	_cleanup_(BIO_free_allp) BIO *bio = NULL;
	int r = read_pem(path, err, &bio);

	if (r <= 0)
		return r;
	*ret = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
	return *ret ? 1
		    : err_set(err, -EINVAL, "InvalidCertificate", "%s is not a PEM certificate.",
			      path);
}

static int read_key(const char *path, struct err *err, EVP_PKEY **ret)
{
	_cleanup_(BIO_free_allp) BIO *bio = NULL;
	int r = read_pem(path, err, &bio);

	if (r <= 0)
		return r;
	*ret = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	return *ret ? 1 : err_set(err, -EINVAL, "InvalidCertificate", "%s is not a PEM key.", path);
}

static int write_bio(const char *path, BIO *bio, mode_t mode, struct err *err)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);
	int r = file_write_atomic(AT_FDCWD, path, data, (size_t)len, mode);

	return r < 0 ? err_errno(err, r, "writing %s", path) : 0;
}

static int write_key(const char *path, EVP_PKEY *key, struct err *err)
{
	_cleanup_(BIO_free_allp) BIO *bio = BIO_new(BIO_s_secmem());

	if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		return fail(err, "Writing a key");
	return write_bio(path, bio, 0600, err);
}

static int write_cert(const char *path, X509 *cert, struct err *err)
{
	_cleanup_(BIO_free_allp) BIO *bio = BIO_new(BIO_s_mem());

	if (!bio || PEM_write_bio_X509(bio, cert) != 1)
		return fail(err, "Writing a certificate");
	return write_bio(path, bio, 0644, err);
}

/* Certificates. */

static int set_random_serial(X509 *cert)
{
	_cleanup_(BN_freep) BIGNUM *number = BN_new();
	_cleanup_(ASN1_INTEGER_freep) ASN1_INTEGER *serial = NULL;

	/* RFC 5280 §4.1.2.2: positive, at most 20 bytes. */
	if (!number || BN_rand(number, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1)
		return -EIO;
	serial = BN_to_ASN1_INTEGER(number, NULL);
	return serial && X509_set_serialNumber(cert, serial) == 1 ? 0 : -EIO;
}

static int add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;
	int ok;

	X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	if (!extension)
		return -EIO;
	ok = X509_add_ext(cert, extension, -1);
	X509_EXTENSION_free(extension);
	return ok == 1 ? 0 : -EIO;
}

static bool set_common_name(X509_NAME *name, const char *text)
{
	/* ub-common-name of X.520 is 64: a longer host name is in the SAN only. */
	if (strlen(text) > 64)
		text = "berth";
	return X509_NAME_add_entry_by_txt(
		       name, "O", MBSTRING_UTF8, (const unsigned char *)"Berth", -1, -1, 0) == 1 &&
	       X509_NAME_add_entry_by_txt(
		       name, "CN", MBSTRING_UTF8, (const unsigned char *)text, -1, -1, 0) == 1;
}

/* What every certificate has; extensions and signature are the caller's. */
static int cert_new(EVP_PKEY *key, const char *common_name, long days, X509 **ret)
{
	_cleanup_(X509_freep) X509 *cert = X509_new();

	if (!cert || X509_set_version(cert, X509_VERSION_3) != 1 || set_random_serial(cert) < 0 ||
		!X509_gmtime_adj(X509_getm_notBefore(cert), -CLOCK_SKEW) ||
		!X509_gmtime_adj(X509_getm_notAfter(cert), days * DAY) ||
		X509_set_pubkey(cert, key) != 1 ||
		!set_common_name(X509_get_subject_name(cert), common_name))
		return -EIO;
	*ret = take_ptr(cert);
	return 0;
}

static int make_ca(EVP_PKEY *key, struct err *err, X509 **ret)
{
	_cleanup_(X509_freep) X509 *cert = NULL;

	if (cert_new(key, "Berth certificate authority", CA_DAYS, &cert) < 0 ||
		X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1 ||
		add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") <
			0 ||
		add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") < 0 ||
		add_extension(cert, cert, NID_subject_key_identifier, "hash") < 0 ||
		add_extension(cert, cert, NID_authority_key_identifier, "keyid:always") < 0 ||
		X509_sign(cert, key, EVP_sha256()) == 0)
		return fail(err, "Making the certificate authority");
	*ret = take_ptr(cert);
	return 0;
}

/* Not through the configuration syntax: a name with a comma in it would add names of its own. */
static int add_names(X509 *cert, const char *const *names, size_t n_names)
{
	_cleanup_(general_names_freep) GENERAL_NAMES *list = GENERAL_NAMES_new();

	for (size_t i = 0; list && i < n_names; i++) {
		ASN1_OCTET_STRING *address = a2i_IPADDRESS(names[i]);
		GENERAL_NAME *entry = GENERAL_NAME_new();
		ASN1_IA5STRING *name;

		if (!entry)
			abort();
		if (address) {
			GENERAL_NAME_set0_value(entry, GEN_IPADD, address);
		} else {
			name = ASN1_IA5STRING_new();
			if (!name || ASN1_STRING_set(name, names[i], -1) != 1)
				abort();
			GENERAL_NAME_set0_value(entry, GEN_DNS, name);
		}
		if (sk_GENERAL_NAME_push(list, entry) <= 0)
			abort();
	}
	return list && X509_add1_ext_i2d(cert, NID_subject_alt_name, list, 0, X509V3_ADD_DEFAULT) ==
				       1
		       ? 0
		       : -EIO;
}

static int make_server(EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key, const char *const *names,
	size_t n_names, struct err *err, X509 **ret)
{
	_cleanup_(X509_freep) X509 *cert = NULL;

	if (cert_new(key, n_names ? names[0] : "berth", SERVER_DAYS, &cert) < 0 ||
		X509_set_issuer_name(cert, X509_get_subject_name(ca)) != 1 ||
		add_extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE") < 0 ||
		add_extension(cert, ca, NID_key_usage, "critical,digitalSignature") < 0 ||
		add_extension(cert, ca, NID_ext_key_usage, "serverAuth") < 0 ||
		add_extension(cert, ca, NID_subject_key_identifier, "hash") < 0 ||
		add_extension(cert, ca, NID_authority_key_identifier, "keyid:always") < 0 ||
		(n_names && add_names(cert, names, n_names) < 0) ||
		X509_sign(cert, ca_key, EVP_sha256()) == 0)
		return fail(err, "Making the server certificate");
	*ret = take_ptr(cert);
	return 0;
}

/* What is there already. */

static bool has_names(X509 *cert, const char *const *names, size_t n_names)
{
	for (size_t i = 0; i < n_names; i++) {
		_cleanup_(ASN1_OCTET_STRING_freep) ASN1_OCTET_STRING *address =
			a2i_IPADDRESS(names[i]);

		if (address ? X509_check_ip_asc(cert, names[i], 0) != 1
			    : X509_check_host(
				      cert, names[i], 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) != 1)
			return false;
	}
	return true;
}

static bool is_good(X509 *cert, EVP_PKEY *key, X509 *ca, const char *const *names, size_t n_names)
{
	time_t soon = time(NULL) + RENEW_DAYS * DAY;

	return X509_check_private_key(cert, key) == 1 &&
	       X509_verify(cert, X509_get0_pubkey(ca)) == 1 &&
	       X509_cmp_time(X509_get0_notAfter(cert), &soon) > 0 &&
	       has_names(cert, names, n_names);
}

static int ensure_key(const char *path, struct err *err, EVP_PKEY **ret)
{
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
	int r = read_key(path, err, &key);

	if (r < 0)
		return r;
	if (r == 0) {
		key = EVP_EC_gen("P-256");
		if (!key)
			return fail(err, "Making a key");
		r = write_key(path, key, err);
		if (r < 0)
			return r;
	}
	*ret = take_ptr(key);
	return 0;
}

/* A certificate without its key, or of another key, is an error here and not replaced: clients were
 * told to trust it, so somebody should know. The key is written first: after a crash between the
 * two, the next call makes the certificate for that key. */
static int ensure_ca(const char *cert_path, const char *key_path, struct err *err, X509 **ret,
	EVP_PKEY **ret_key)
{
	_cleanup_(X509_freep) X509 *cert = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
	int has_cert, r;

	has_cert = read_cert(cert_path, err, &cert);
	if (has_cert < 0)
		return has_cert;
	if (has_cert && access(key_path, F_OK) < 0 && errno == ENOENT)
		return err_set(err, -ENOENT, "InvalidCertificate",
			"The certificate authority %s is there, but its key %s is not.", cert_path,
			key_path);
	r = ensure_key(key_path, err, &key);
	if (r < 0)
		return r;
	if (!has_cert) {
		r = make_ca(key, err, &cert);
		if (r == 0)
			r = write_cert(cert_path, cert, err);
		if (r < 0)
			return r;
	} else if (X509_check_private_key(cert, key) != 1) {
		return err_set(err, -EINVAL, "InvalidCertificate", "%s is not the key of %s.",
			key_path, cert_path);
	}
	*ret = take_ptr(cert);
	*ret_key = take_ptr(key);
	return 0;
}

int tls_ensure(const char *ca_cert, const char *ca_key, const char *cert, const char *key,
	const char *const *names, size_t n_names, struct err *err)
{
	_cleanup_(X509_freep) X509 *authority = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *authority_key = NULL;
	_cleanup_(X509_freep) X509 *server = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *server_key = NULL;
	int r;

	r = ensure_ca(ca_cert, ca_key, err, &authority, &authority_key);
	if (r < 0)
		return r;
	r = ensure_key(key, err, &server_key);
	if (r < 0)
		return r;
	r = read_cert(cert, err, &server);
	if (r < 0)
		return r;
	if (r > 0 && is_good(server, server_key, authority, names, n_names))
		return 0;
	X509_free(take_ptr(server));
	r = make_server(server_key, authority, authority_key, names, n_names, err, &server);
	if (r < 0)
		return r;
	return write_cert(cert, server, err);
}
