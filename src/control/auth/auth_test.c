#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "control/auth/auth.h"

#define ISSUER "https://127.0.0.1:8443/11111111-1111-1111-1111-111111111111"
#define AUDIENCE "https://127.0.0.1:8443"

struct fixture {
	char dir[64];
	char key_file[96];
	struct store *store;
	struct auth *auth;
	struct principal principal;
};

static struct auth *open_auth(const struct fixture *f, const char *audience)
{
	struct auth_config config = {
		.store = f->store,
		.key_file = f->key_file,
		.tenant_id = "11111111-1111-1111-1111-111111111111",
		.issuer = ISSUER,
		.audience = audience,
	};
	struct err err = {0};
	struct auth *auth = NULL;

	if (auth_new(&config, &err, &auth) < 0)
		fail_msg("%s", err.message);
	return auth;
}

/* A key and a hash take long: they are made once for all tests. */
static char *shared_key, *shared_hash;

static int setup(void **state)
{
	struct fixture *f = xnew(struct fixture);

	if (!shared_hash)
		shared_hash = auth_secret_hash("s3cret");
	str_copy(f->dir, sizeof(f->dir), "/tmp/auth-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->key_file, sizeof(f->key_file), "%s/token.key", f->dir);
	f->store = store_open_memory();
	if (shared_key)
		assert_int_equal(file_write_replace(AT_FDCWD, f->key_file, shared_key,
					 strlen(shared_key), 0600),
			0);
	f->auth = open_auth(f, AUDIENCE);
	if (!shared_key)
		assert_int_equal(file_read(AT_FDCWD, f->key_file, 65536, &shared_key, NULL), 0);
	f->principal = (struct principal){.client_id = "aaaaaaaa-0000-4000-8000-000000000001",
		.object_id = "bbbbbbbb-0000-4000-8000-000000000002",
		.name = "admin"};
	assert_int_equal(auth_put_principal(f->auth, &f->principal, shared_hash, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	auth_free(f->auth);
	store_free(f->store);
	file_remove_tree(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

static void secret_hash_matches_only_its_secret(void **state)
{
	_cleanup_free_ char *hash = auth_secret_hash("pass word");
	_cleanup_free_ char *again = auth_secret_hash("pass word");

	assert_true(auth_secret_matches(hash, "pass word"));
	assert_false(auth_secret_matches(hash, "pass word "));
	assert_false(auth_secret_matches(hash, ""));
	assert_string_not_equal(hash, again);
}

static void secret_hash_refuses_what_is_not_one(void **state)
{
	static const char *const bad[] = {
		"",
		"scrypt",
		"scrypt$16384$8$1$AAAA",
		"scrypt$16383$8$1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"scrypt$99999999999$8$1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"scrypt$1048576$32$16$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"scrypt$16384$0$1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"scrypt$16384$8$1$AAAA$AAAA",
		"scrypt$16384$8$1$!!!!$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"scrypt$16384$8$1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=$",
		"md5$16384$8$1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(auth_secret_matches(bad[i], ""));
}

static void key_file_is_private_and_reused(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *before = auth_jwks(f->auth), *after = NULL;
	struct auth *again = open_auth(f, AUDIENCE);
	struct auth_config config = {.store = f->store,
		.key_file = f->key_file,
		.tenant_id = "t",
		.issuer = "i",
		.audience = "a"};
	struct err err = {0};
	struct stat st;

	assert_int_equal(stat(f->key_file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	after = auth_jwks(again);
	assert_string_equal(before, after);
	auth_free(again);

	assert_int_equal(chmod(f->key_file, 0640), 0);
	assert_int_equal(auth_new(&config, &err, &again), -EPERM);
	assert_string_equal(err.code, "InsecureKeyFile");
}

static void right_secret_gives_the_principal(void **state)
{
	struct fixture *f = *state;
	struct principal p = {0};

	assert_int_equal(auth_check_secret(f->auth, "AAAAAAAA-0000-4000-8000-000000000001",
				 "s3cret", NULL, &p),
		0);
	assert_string_equal(p.client_id, f->principal.client_id);
	assert_string_equal(p.object_id, f->principal.object_id);
	assert_string_equal(p.name, "admin");
}

static void wrong_secret_and_unknown_client_look_alike(void **state)
{
	struct fixture *f = *state;
	static const char *const ids[] = {"aaaaaaaa-0000-4000-8000-000000000001",
		"cccccccc-0000-4000-8000-000000000003", "../rg/x", ""};
	int64_t took[ARRAY_SIZE(ids)];

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct err err = {0};
		struct principal p;
		int64_t start = time_mono_ms();

		assert_int_equal(auth_check_secret(f->auth, ids[i], "wrong", &err, &p), -EACCES);
		took[i] = time_mono_ms() - start;
		assert_string_equal(err.code, "invalid_client");
		assert_true(str_starts(err.message, "AADSTS7000215: "));
	}
	/* One derivation each: of the same order, whatever the machine is doing. */
	assert_true(took[1] * 10 >= took[0]);
}

static void token_names_its_principal(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *token = auth_token_new(f->auth, &f->principal, 3600);
	struct principal p = {0};
	struct err err = {0};

	/* The second time from the cache. */
	for (int i = 0; i < 2; i++) {
		if (auth_token_check(f->auth, token, &err, &p) < 0)
			fail_msg("%s", err.message);
		assert_string_equal(p.client_id, f->principal.client_id);
		assert_string_equal(p.name, "admin");
	}
}

static void check_refused(struct auth *auth, const char *token, const char *code)
{
	struct principal p;
	struct err err = {0};

	assert_int_equal(auth_token_check(auth, token, &err, &p), -EACCES);
	assert_string_equal(err.code, code);
}

static void tampered_and_foreign_tokens_are_refused(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *token = auth_token_new(f->auth, &f->principal, 3600);
	_cleanup_free_ char *foreign = NULL, *none = NULL, *none_head = NULL, *cut = NULL,
			    *grown = NULL;
	struct auth *other = open_auth(f, "https://elsewhere");
	char *dot = strchr(token, '.');
	size_t len = strlen(token);

	foreign = auth_token_new(other, &f->principal, 3600);
	auth_free(other);
	check_refused(f->auth, foreign, "InvalidAuthenticationToken");
	none_head = str_base64url("{\"alg\":\"none\"}", 14);
	none = xasprintf("%s%.*s", none_head, (int)(strrchr(token, '.') - dot + 1), dot);
	check_refused(f->auth, none, "InvalidAuthenticationToken");
	cut = xstrndup(token, len - 4);
	check_refused(f->auth, cut, "InvalidAuthenticationToken");
	grown = xasprintf("%s.x", token);
	check_refused(f->auth, grown, "InvalidAuthenticationToken");
	dot[10] = dot[10] == 'A' ? 'B' : 'A';
	check_refused(f->auth, token, "InvalidAuthenticationToken");
	check_refused(f->auth, "", "InvalidAuthenticationToken");
	check_refused(f->auth, "..", "InvalidAuthenticationToken");
}

static void overlong_token_is_refused(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *token = xmalloc(100001);

	memset(token, 'a', 100000);
	token[100000] = '\0';
	check_refused(f->auth, token, "InvalidAuthenticationToken");
}

static void expired_token_says_so(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *token = auth_token_new(f->auth, &f->principal, -5);

	check_refused(f->auth, token, "ExpiredAuthenticationToken");
}

static void token_of_a_removed_principal_is_refused(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *token = auth_token_new(f->auth, &f->principal, 3600);

	assert_int_equal(store_delete(f->store, "principal/aaaaaaaa-0000-4000-8000-000000000001",
				 STORE_ANY, NULL),
		0);
	check_refused(f->auth, token, "InvalidAuthenticationToken");
}

static void bootstrap_fills_in_only_what_is_absent(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *path = xasprintf("%s/bootstrap.json", f->dir);
	_cleanup_free_ char *hash = auth_secret_hash("first");
	_cleanup_free_ char *text = xasprintf(
		"{\"clientId\":\"dddddddd-0000-4000-8000-000000000004\",\"objectId\":\"o\","
		"\"name\":\"n\",\"secretHash\":\"%s\"}",
		hash);
	_cleanup_free_ char *changed = auth_secret_hash("second");
	struct principal p;
	struct err err = {0};

	assert_int_equal(auth_import_bootstrap(f->auth, path, &err), -ENOENT);
	assert_int_equal(file_write_replace(AT_FDCWD, path, text, strlen(text), 0600), 0);
	assert_int_equal(auth_import_bootstrap(f->auth, path, &err), 0);
	assert_int_equal(auth_check_secret(f->auth, "dddddddd-0000-4000-8000-000000000004", "first",
				 &err, &p),
		0);

	assert_int_equal(auth_put_principal(f->auth, &p, changed, &err), 0);
	assert_int_equal(auth_import_bootstrap(f->auth, path, &err), 0);
	assert_false(err_is_set(&err));
	assert_int_equal(auth_check_secret(f->auth, "dddddddd-0000-4000-8000-000000000004", "first",
				 &err, &p),
		-EACCES);

	assert_int_equal(file_write_replace(AT_FDCWD, path, "{}", 2, 0600), 0);
	assert_int_equal(auth_import_bootstrap(f->auth, path, &err), -EINVAL);
	assert_string_equal(err.code, "InvalidBootstrap");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(secret_hash_matches_only_its_secret),
		cmocka_unit_test(secret_hash_refuses_what_is_not_one),
		cmocka_unit_test_setup_teardown(key_file_is_private_and_reused, setup, teardown),
		cmocka_unit_test_setup_teardown(right_secret_gives_the_principal, setup, teardown),
		cmocka_unit_test_setup_teardown(
			wrong_secret_and_unknown_client_look_alike, setup, teardown),
		cmocka_unit_test_setup_teardown(token_names_its_principal, setup, teardown),
		cmocka_unit_test_setup_teardown(
			tampered_and_foreign_tokens_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(overlong_token_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(expired_token_says_so, setup, teardown),
		cmocka_unit_test_setup_teardown(
			token_of_a_removed_principal_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			bootstrap_fills_in_only_what_is_absent, setup, teardown),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(shared_key);
	free(shared_hash);
	return failed;
}
