#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "worker/pull/digest.h"
#include "worker/pull/reference.h"

#define HEX64 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void names_are_completed(void **state)
{
	static const struct {
		const char *text, *full, *registry;
	} table[] = {
		{"nginx", "docker.io/library/nginx:latest", "registry-1.docker.io"},
		{"nginx:1.25", "docker.io/library/nginx:1.25", "registry-1.docker.io"},
		{"docker.io/nginx", "docker.io/library/nginx:latest", "registry-1.docker.io"},
		{"index.docker.io/library/nginx", "docker.io/library/nginx:latest",
			"registry-1.docker.io"},
		{"me/app", "docker.io/me/app:latest", "registry-1.docker.io"},
		{"localhost/app", "localhost/app:latest", "localhost"},
		{"localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000"},
		{"127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest", "127.0.0.1:5000"},
		{"[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000"},
		{"MyRegistry.azurecr.io/app:V1", "myregistry.azurecr.io/app:V1",
			"myregistry.azurecr.io"},
		{"host.example/app@sha256:" HEX64, "host.example/app@sha256:" HEX64,
			"host.example"},
		{"host.example/app:v1@sha256:" HEX64, "host.example/app@sha256:" HEX64,
			"host.example"},
		{"a.b/c__d/e---f.g_h", "a.b/c__d/e---f.g_h:latest", "a.b"},
		{"mcr.microsoft.com/azuredocs/aci-helloworld",
			"mcr.microsoft.com/azuredocs/aci-helloworld:latest", "mcr.microsoft.com"},
		{"Reg.Example.COM/a__b.c-d---e:V1.0_x", "reg.example.com/a__b.c-d---e:V1.0_x",
			"reg.example.com"},
		{"app:_x", "docker.io/library/app:_x", "registry-1.docker.io"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_(reference_done) struct reference ref = {0};
		struct err err = {0};

		assert_int_equal(reference_parse(table[i].text, &err, &ref), 0);
		assert_string_equal(ref.full, table[i].full);
		assert_string_equal(reference_registry(&ref), table[i].registry);
	}
}

static void a_full_name_is_its_own_full_name(void **state)
{
	_cleanup_(reference_done) struct reference ref = {0}, again = {0};

	assert_int_equal(reference_parse("nginx@sha256:" HEX64, NULL, &ref), 0);
	assert_int_equal(reference_parse(ref.full, NULL, &again), 0);
	assert_string_equal(ref.full, again.full);
	assert_string_equal(ref.name, "docker.io/library/nginx");
}

static void bad_names_are_refused(void **state)
{
	static const char *const table[] = {"", " ", "Nginx", "nginx:", "nginx@", ":tag", "/nginx",
		"nginx/", "a//b", "a..b", "a___b", "-a", "a-", "a.", "nginx:-x", "nginx:a b",
		"nginx@sha256:abc", ("nginx@md5:" HEX64), "nginx@sha256:../../etc/passwd",
		"nginx@sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
		"host:0/x", "host:65536/x", "host:/x", "host:5a/x", "-host.example/x",
		"host..example/x", "host.example/X", "n\xc3\xa9", "a\nb", "a/../b", "../a",
		"http://host.example/x", "[::1/x", "[]/x", "user@host.example/x", (HEX64),
		"nginx:a:b", "host.example/a:b/c", "host_name.example/x", "Name/x", "[zz]:1/x",
		"nginx:.x", "nginx:a/b", "host.example/", ".", "nginx@sha256:" HEX64 "00"};
	char many[300];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_(reference_done) struct reference ref = {0};
		struct err err = {0};

		if (reference_parse(table[i], &err, &ref) != -EINVAL)
			fail_msg("'%s' was accepted", table[i]);
		assert_string_equal(err.code, "InvalidImageReference");
	}
	memset(many, 'a', sizeof(many) - 1);
	many[sizeof(many) - 1] = '\0';
	{
		_cleanup_(reference_done) struct reference ref = {0};

		assert_int_equal(reference_parse(many, NULL, &ref), -EINVAL);
	}
}

static void credentials_match_their_registry(void **state)
{
	static const struct {
		const char *server, *domain;
		bool matches;
	} cases[] = {
		{"docker.io", "docker.io", true},
		{"https://index.docker.io/v1/", "docker.io", true},
		{"My.AzureCR.io", "my.azurecr.io", true},
		{"my.azurecr.io:443", "my.azurecr.io", true},
		{"my.azurecr.io", "my.azurecr.io:443", true},
		{"my.azurecr.io", "my.azurecr.io:5000", false},
		{"azurecr.io", "my.azurecr.io", false},
		{"my.azurecr.io.evil.com", "my.azurecr.io", false},
		{"", "my.azurecr.io", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(reference_server_matches(cases[i].server, cases[i].domain),
			cases[i].matches);
}

static void digests_are_checked_and_computed(void **state)
{
	char text[DIGEST_MAX];

	assert_true(digest_is_valid("sha256:" HEX64));
	assert_true(digest_is_valid("sha512:" HEX64 HEX64));
	assert_false(digest_is_valid("sha256:" HEX64 HEX64));
	assert_false(digest_is_valid("sha256:"));
	assert_true(digest_matches("sha256:" HEX64, "", 0));
	assert_false(digest_matches("sha256:" HEX64, "x", 1));
	assert_string_equal(digest_file_name("sha256:" HEX64, text), "sha256-" HEX64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_completed),
		cmocka_unit_test(a_full_name_is_its_own_full_name),
		cmocka_unit_test(bad_names_are_refused),
		cmocka_unit_test(credentials_match_their_registry),
		cmocka_unit_test(digests_are_checked_and_computed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
