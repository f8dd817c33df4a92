#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/base.h"
#include "base/file.h"
#include "http/tls.h"

static char dir[64];
static char paths[4][96]; /* CA, its key, certificate, its key */

static int setup(void **state)
{
	static const char *const names[] = {"ca.pem", "ca.key", "server.pem", "server.key"};

	snprintf(dir, sizeof(dir), "/tmp/berth-tls-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	for (int i = 0; i < 4; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/%s", dir, names[i]);
	return 0;
}

static int teardown(void **state)
{
	file_remove_tree(AT_FDCWD, dir);
	return 0;
}

static int ensure(const char *const *names, size_t n, struct err *err)
{
	return tls_ensure(paths[0], paths[1], paths[2], paths[3], names, n, err);
}

static char *content(int i)
{
	char *text = NULL;

	assert_int_equal(file_read(AT_FDCWD, paths[i], 1 << 16, &text, NULL), 0);
	return text;
}

static X509 *load(int i)
{
	_cleanup_free_ char *text = content(i);
	BIO *bio = BIO_new_mem_buf(text, -1);
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

	BIO_free(bio);
	assert_non_null(cert);
	return cert;
}

/* As strictly as a client could. */
static void assert_verifies(X509 *ca, X509 *cert, const char *host, const char *address)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;

	X509_STORE_add_cert(store, ca);
	X509_STORE_CTX_init(context, store, cert, NULL);
	param = X509_STORE_CTX_get0_param(context);
	X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
	X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
	if (host)
		X509_VERIFY_PARAM_set1_host(param, host, 0);
	if (address)
		X509_VERIFY_PARAM_set1_ip_asc(param, address);
	if (X509_verify_cert(context) != 1)
		fail_msg("%s", X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
	X509_STORE_CTX_free(context);
	X509_STORE_free(store);
}

static void test_makes_all_and_keeps_it(void **state)
{
	static const char *const names[] = {
		"127.0.0.1", "localhost", "::1", "api.example,DNS:evil.example"};
	static const mode_t modes[] = {0644, 0600, 0644, 0600};
	struct err err = {0};
	char *before[4];
	struct stat st;
	X509 *ca, *cert;

	umask(0);
	assert_int_equal(ensure(names, 4, &err), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(stat(paths[i], &st), 0);
		assert_int_equal(st.st_mode & 07777, modes[i]);
		before[i] = content(i);
	}

	ca = load(0);
	cert = load(2);
	assert_verifies(ca, cert, "localhost", "127.0.0.1");
	assert_verifies(ca, cert, NULL, "::1");
	assert_int_equal(X509_check_host(cert, "evil.example", 0, 0, NULL), 0);
	assert_int_equal(X509_check_host(cert, "example.org", 0, 0, NULL), 0);
	assert_int_equal(X509_check_ca(ca), 1);
	assert_int_equal(X509_check_ca(cert), 0);
	assert_int_equal(X509_get_key_usage(ca), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
	X509_free(ca);
	X509_free(cert);

	assert_int_equal(ensure(names, 2, &err), 0);
	for (int i = 0; i < 4; i++) {
		_cleanup_free_ char *after = content(i);

		assert_string_equal(before[i], after);
		free(before[i]);
	}
}

static void test_a_new_name_renews_the_certificate_only(void **state)
{
	static const char *const names[] = {"localhost", "10.1.2.3"};
	_cleanup_free_ char *ca_before = NULL, *ca_after = NULL, *key_before = NULL,
			    *key_after = NULL;
	struct err err = {0};
	X509 *ca, *cert;

	assert_int_equal(ensure(names, 1, &err), 0);
	ca_before = content(0);
	key_before = content(3);
	assert_int_equal(ensure(names, 2, &err), 0);
	ca_after = content(0);
	key_after = content(3);
	assert_string_equal(ca_before, ca_after);
	assert_string_equal(key_before, key_after);
	ca = load(0);
	cert = load(2);
	assert_verifies(ca, cert, "localhost", "10.1.2.3");
	X509_free(ca);
	X509_free(cert);
}

/* Puts a certificate in place that is as ours, but ends in so many days. */
static void shorten(int days)
{
	_cleanup_free_ char *key_text = content(1);
	BIO *bio = BIO_new_mem_buf(key_text, -1), *out = BIO_new(BIO_s_mem());
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	X509 *cert = load(2);
	char *data;
	long len;

	X509_gmtime_adj(X509_getm_notAfter(cert), days * 86400L);
	assert_int_not_equal(X509_sign(cert, key, EVP_sha256()), 0);
	PEM_write_bio_X509(out, cert);
	len = BIO_get_mem_data(out, &data);
	assert_int_equal(file_write_atomic(AT_FDCWD, paths[2], data, (size_t)len, 0644), 0);
	X509_free(cert);
	EVP_PKEY_free(key);
	BIO_free(bio);
	BIO_free(out);
}

static void test_renews_what_ends_soon(void **state)
{
	static const char *const names[] = {"localhost"};
	struct err err = {0};

	assert_int_equal(ensure(names, 1, &err), 0);
	for (int days = 29; days <= 31; days += 2) {
		_cleanup_free_ char *before = NULL, *after = NULL;

		shorten(days);
		before = content(2);
		assert_int_equal(ensure(names, 1, &err), 0);
		after = content(2);
		assert_int_equal(strcmp(before, after) != 0, days < 30);
	}
}

static void test_survives_a_crash_between_files(void **state)
{
	static const char *const names[] = {"localhost"};
	struct err err = {0};
	X509 *ca, *cert;

	assert_int_equal(ensure(names, 1, &err), 0);
	unlink(paths[0]); /* the key of the authority was written, its certificate not */
	assert_int_equal(ensure(names, 1, &err), 0);
	unlink(paths[3]); /* a certificate without its key */
	assert_int_equal(ensure(names, 1, &err), 0);
	ca = load(0);
	cert = load(2);
	assert_verifies(ca, cert, "localhost", NULL);
	X509_free(ca);
	X509_free(cert);
}

static void test_refuses_to_replace_an_authority(void **state)
{
	static const char *const names[] = {"localhost"};
	_cleanup_free_ char *key = NULL;
	struct err err = {0};

	assert_int_equal(ensure(names, 1, &err), 0);
	key = content(3);
	unlink(paths[1]);
	assert_int_equal(ensure(names, 1, &err), -ENOENT);
	assert_non_null(strstr(err.message, "ca.key is not"));
	assert_int_equal(
		file_write_atomic(AT_FDCWD, paths[1], key, strlen(key), 0600), 0); /* another's */
	assert_int_equal(ensure(names, 1, &err), -EINVAL);
	assert_int_equal(file_write_atomic(AT_FDCWD, paths[0], "junk", 4, 0644), 0);
	assert_int_equal(ensure(names, 1, &err), -EINVAL);
	assert_non_null(strstr(err.message, "is not a PEM certificate"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_makes_all_and_keeps_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_new_name_renews_the_certificate_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_renews_what_ends_soon, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_survives_a_crash_between_files, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_refuses_to_replace_an_authority, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
