#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "control/vault/vault.h"

#define ENDPOINT "https://127.0.0.1:8443"

static char *put(struct store *store, const char *vault, const char *name, const char *value)
{
	_cleanup_json_ json_t *version = NULL;
	struct err err = {0};

	if (vault_put(store, vault, name, value, NULL, &err, &version) < 0)
		fail_msg("%s", err.message);
	return xstrdup(json_get_str(version, "version", ""));
}

static void a_reference_means_the_newest_value_or_the_version_it_names(void **state)
{
	struct store *store = store_open_memory();
	_cleanup_free_ char *first = put(store, "demo", "db-password", "one");
	_cleanup_free_ char *second = put(store, "Demo", "DB-password", "two");
	_cleanup_free_ char *exact =
		xasprintf("https://demo.vault.azure.net/secrets/db-password/%s", first);
	const struct {
		const char *uri, *value, *code;
	} cases[] = {
		{"https://demo.vault.azure.net/secrets/db-password", "two", NULL},
		{"https://DEMO.vault.azure.net/secrets/Db-Password/", "two", NULL},
		{exact, "one", NULL},
		{ENDPOINT "/vaults/demo/secrets/db-password", "two", NULL},
		{"https://demo.vault.azure.net/secrets/db-password/0123", NULL, "SecretNotFound"},
		{"https://other.vault.azure.net/secrets/db-password", NULL, "SecretNotFound"},
		{"https://demo.vault.azure.net/keys/db-password", NULL, "InvalidSecretReference"},
		{"https://demo.vault.azure.net/secrets/a/b/c", NULL, "InvalidSecretReference"},
		{"http://demo.vault.azure.net/secrets/db-password", NULL, "InvalidSecretReference"},
		{"https://demo.vault.azure.net/secrets/..", NULL, "InvalidSecretReference"},
		{"", NULL, "InvalidSecretReference"},
	};

	assert_string_not_equal(first, second);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *value = NULL;
		struct err err = {0};
		int r = vault_resolve(store, ENDPOINT, cases[i].uri, &err, &value);

		if (cases[i].value ? r != 0 || !str_eq(value, cases[i].value)
				   : r == 0 || !str_eq(err.code, cases[i].code))
			fail_msg("%s: %s %s %s", cases[i].uri, value ? value : "-", err.code,
				err.message);
	}
	store_free(store);
}

static void only_the_newest_versions_are_kept(void **state)
{
	struct store *store = store_open_memory();
	_cleanup_free_ char *first = put(store, "demo", "a", "0");
	_cleanup_json_ json_t *secret = NULL;
	struct err err = {0};

	for (int i = 0; i < VAULT_VERSIONS_MAX; i++)
		free(put(store, "demo", "a", "again"));
	assert_int_equal(vault_get(store, "demo", "a", &err, &secret), 0);
	assert_int_equal(json_array_size(json_get_arr(secret, "versions")), VAULT_VERSIONS_MAX);
	assert_null(vault_version(secret, first));
	store_free(store);
}

static void a_disabled_secret_is_refused(void **state)
{
	struct store *store = store_open_memory();
	_cleanup_json_ json_t *properties = json_pack("{s:b}", "enabled", 0), *version = NULL;
	_cleanup_free_ char *value = NULL;
	struct err err = {0};

	assert_int_equal(vault_put(store, "demo", "a", "x", properties, &err, &version), 0);
	assert_int_equal(
		vault_resolve(store, ENDPOINT, "https://demo.x/secrets/a", &err, &value), -EACCES);
	assert_string_equal(err.code, "SecretDisabled");
	store_free(store);
}

static void names_and_sizes_have_bounds(void **state)
{
	static const char *const vaults[] = {
		"", "ab", "1vault", "a_b_c", "a/b/c", "vault.x", "abcdefghijklmnopqrstuvwxy"};
	static const char *const names[] = {"", "a_b", "a/b", "..", "a b"};
	struct store *store = store_open_memory();
	_cleanup_free_ char *huge = xcalloc(VAULT_VALUE_MAX + 2, 1);
	_cleanup_json_ json_t *version = NULL;
	struct err err = {0};

	for (size_t i = 0; i < ARRAY_SIZE(vaults); i++)
		assert_int_equal(vault_check_names(vaults[i], "a", &err), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(vault_check_names("demo", names[i], &err), -EINVAL);
	memset(huge, 'x', VAULT_VALUE_MAX + 1);
	assert_int_equal(vault_put(store, "demo", "a", huge, NULL, &err, &version), -EINVAL);
	store_free(store);
}

static void a_deleted_secret_is_gone_and_others_stay(void **state)
{
	struct store *store = store_open_memory();
	_cleanup_json_ json_t *secrets = NULL, *secret = NULL;
	struct err err = {0};

	free(put(store, "demo", "a", "x"));
	free(put(store, "demo", "b", "x"));
	free(put(store, "demo2", "c", "x"));
	assert_int_equal(vault_delete(store, "demo", "A", &err), 0);
	assert_int_equal(vault_get(store, "demo", "a", &err, &secret), -ENOENT);
	assert_int_equal(vault_list(store, "demo", &err, &secrets), 0);
	assert_int_equal(json_array_size(secrets), 1);
	assert_string_equal(json_get_str(json_array_get(secrets, 0), "name", ""), "b");
	store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reference_means_the_newest_value_or_the_version_it_names),
		cmocka_unit_test(only_the_newest_versions_are_kept),
		cmocka_unit_test(a_disabled_secret_is_refused),
		cmocka_unit_test(names_and_sizes_have_bounds),
		cmocka_unit_test(a_deleted_secret_is_gone_and_others_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
