#include <ctype.h>

#include "base/json.h"
#include "base/random.h"
#include "base/time.h"
#include "control/vault/vault.h"

#define CHANGES_MAX 16 /* attempts, when others change the same secret */

static bool is_name(const char *text, size_t min, size_t max)
{
	size_t n = strlen(text);

	for (const char *c = text; *c; c++)
		if (!isascii(*c) || !(isalnum(*c) || *c == '-'))
			return false;
	return n >= min && n <= max;
}

int vault_check_names(const char *vault, const char *name, struct err *err)
{
	if (!is_name(vault, 3, 24) || !isalpha(vault[0]))
		return err_set(err, -EINVAL, "BadParameter",
			"The vault name '%.64s' is invalid. It has 3 to 24 letters, digits and hyphens and begins "
			"with a letter.",
			vault);
	if (name && !is_name(name, 1, 127))
		return err_set(err, -EINVAL, "BadParameter",
			"The secret name '%.128s' is invalid. It has 1 to 127 letters, digits and hyphens.",
			name);
	return 0;
}

static char *key_of(const char *vault, const char *name)
{
	char *key = xasprintf("vault/%s/%s", vault, name);

	str_lower(key);
	return key;
}

static int not_found(struct err *err, const char *vault, const char *name)
{
	return err_set(err, -ENOENT, "SecretNotFound",
		"A secret with (name/id) %s was not found in this key vault: '%s'. Make it with `berth secret set %s %s`.",
		name, vault, vault, name);
}

/* Absent is not an error: *ret is NULL then, and the revision STORE_ABSENT. */
static int load(
	struct store *store, const char *key, struct err *err, json_t **ret, int64_t *ret_revision)
{
	struct store_entry entry = {0};
	int r = store_get(store, key, err, &entry);

	*ret = NULL;
	*ret_revision = STORE_ABSENT;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	r = json_parse(entry.value, entry.value_len, JSON_DEPTH_MAX, err, ret);
	*ret_revision = entry.revision;
	store_entry_done(&entry);
	return r;
}

static json_t *new_version(const char *value, const json_t *properties)
{
	json_t *version = json_pack("{s:s, s:b, s:I}", "value", value, "enabled",
		json_get_bool(properties, "enabled", true), "created",
		(json_int_t)(time_now_ms() / 1000));
	const json_t *tags = json_get_obj(properties, "tags");
	char id[VAULT_VERSION_STR_MAX];
	unsigned char random[16];

	random_bytes(random, sizeof(random));
	str_hex(random, sizeof(random), id);
	json_put_str(version, "version", id);
	json_put_str(version, "contentType", json_get_str(properties, "contentType", NULL));
	if (tags)
		json_object_set_new(version, "tags", json_deep_copy(tags));
	return version;
}

static int put_once(
	struct store *store, const char *key, const char *name, json_t *version, struct err *err)
{
	_cleanup_json_ json_t *secret = NULL;
	_cleanup_free_ char *text = NULL;
	json_t *versions;
	int64_t revision;
	int r = load(store, key, err, &secret, &revision);

	if (r < 0)
		return r;
	if (!secret)
		secret = json_pack("{s:s, s:[]}", "name", name, "versions");
	versions = json_get_arr(secret, "versions");
	json_array_insert(versions, 0, version);
	while (json_array_size(versions) > VAULT_VERSIONS_MAX)
		json_array_remove(versions, VAULT_VERSIONS_MAX);
	text = json_text(secret);
	return store_put(store, key, text, strlen(text), revision, err, NULL);
}

int vault_put(struct store *store, const char *vault, const char *name, const char *value,
	const json_t *properties, struct err *err, json_t **ret_version)
{
	_cleanup_free_ char *key = key_of(vault, name);
	_cleanup_json_ json_t *version = NULL;
	int r = vault_check_names(vault, name, err);

	if (r < 0)
		return r;
	if (strlen(value) > VAULT_VALUE_MAX)
		return err_set(err, -EINVAL, "BadParameter",
			"The value of secret '%s' is too long. At most %d bytes are allowed.", name,
			VAULT_VALUE_MAX);
	version = new_version(value, properties);
	for (int i = 0; i < CHANGES_MAX; i++) {
		r = put_once(store, key, name, version, err);
		if (r != -EAGAIN)
			break;
	}
	if (r < 0)
		return r;
	*ret_version = take_ptr(version);
	return 0;
}

int vault_get(
	struct store *store, const char *vault, const char *name, struct err *err, json_t **ret)
{
	_cleanup_free_ char *key = key_of(vault, name);
	int64_t revision;
	int r = vault_check_names(vault, name, err);

	if (r == 0)
		r = load(store, key, err, ret, &revision);
	if (r < 0)
		return r;
	return *ret ? 0 : not_found(err, vault, name);
}

const json_t *vault_version(const json_t *secret, const char *version)
{
	const json_t *versions = json_get_arr(secret, "versions"), *each;
	size_t i;

	if (!version || !*version)
		return json_array_get(versions, 0);
	json_array_foreach (versions, i, each)
		if (str_eq_nocase(json_get_str(each, "version", ""), version))
			return each;
	return NULL;
}

int vault_delete(struct store *store, const char *vault, const char *name, struct err *err)
{
	_cleanup_free_ char *key = key_of(vault, name);

	return store_delete(store, key, STORE_ANY, err);
}

int vault_list(struct store *store, const char *vault, struct err *err, json_t **ret)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	_cleanup_free_ char *prefix = key_of(vault, "");
	json_t *secrets;
	int r = vault_check_names(vault, NULL, err);

	if (r == 0)
		r = store_list(store, prefix, NULL, 0, err, &list);
	if (r < 0)
		return r;
	secrets = json_array();
	for (size_t i = 0; i < list.n; i++) {
		json_t *secret = NULL;

		if (json_parse(list.entries[i].value, list.entries[i].value_len, JSON_DEPTH_MAX,
			    NULL, &secret) == 0)
			json_array_append_new(secrets, secret);
	}
	*ret = secrets;
	return 0;
}

/* --- references --- */

struct reference {
	char *vault, *name, *version; /* owned; version may be NULL */
};

static void reference_done(struct reference *reference)
{
	free(reference->vault);
	free(reference->name);
	free(reference->version);
}

/* "NAME[/VERSION]" */
static bool split_name(const char *text, struct reference *ret)
{
	size_t n = strcspn(text, "/");

	ret->name = xstrndup(text, n);
	if (text[n] == '/' && text[n + 1]) {
		ret->version = xstrdup(text + n + 1);
		return !strchr(ret->version, '/');
	}
	return true;
}

static bool reference_parse(const char *endpoint, const char *uri, struct reference *ret)
{
	static const char vaults[] = "/vaults/", secrets[] = "/secrets/";
	const char *rest, *path;
	size_t n;

	if (strlen(uri) > 1024)
		return false;
	if (str_starts(uri, endpoint) && str_starts(uri + strlen(endpoint), vaults)) {
		rest = uri + strlen(endpoint) + strlen(vaults);
		n = strcspn(rest, "/");
	} else if (str_starts(uri, "https://")) {
		rest = uri + strlen("https://");
		n = strcspn(rest, "./");
	} else {
		return false;
	}
	ret->vault = xstrndup(rest, n);
	path = strchr(rest, '/');
	return path && str_starts(path, secrets) && split_name(path + strlen(secrets), ret);
}

int vault_resolve(struct store *store, const char *endpoint, const char *uri, struct err *err,
	char **ret_value)
{
	_cleanup_(reference_done) struct reference reference = {0};
	_cleanup_json_ json_t *secret = NULL;
	const json_t *version;
	int r;

	if (!reference_parse(endpoint, uri, &reference) ||
		vault_check_names(reference.vault, reference.name, NULL) < 0)
		return err_set(err, -EINVAL, "InvalidSecretReference",
			"The secret reference '%.256s' is invalid. It must be of the form "
			"'https://VAULT.vault.azure.net/secrets/NAME', with '/VERSION' at the end or without.",
			uri);
	r = vault_get(store, reference.vault, reference.name, err, &secret);
	if (r < 0)
		return r;
	version = vault_version(secret, reference.version);
	if (!version)
		return not_found(err, reference.vault, reference.name);
	if (!json_get_bool(version, "enabled", true))
		return err_set(err, -EACCES, "SecretDisabled",
			"The secret '%s' of the vault '%s' is disabled.", reference.name,
			reference.vault);
	*ret_value = xstrdup(json_get_str(version, "value", ""));
	return 0;
}
