#include "control/providers/keyvault/keyvault.h"
#include "control/vault/vault.h"

#define SECRETS "/vaults/{vaultName}/secrets"
#define SECRET SECRETS "/{secretName}"
#define ACTION "Microsoft.KeyVault/vaults/secrets/"

/* A version as Key Vault shows it; with the value, or without. */
static json_t *present(const struct arm_request *request, const json_t *secret,
	const json_t *version, bool with_version, bool with_value)
{
	json_int_t created = json_get_int(version, "created", 0);
	_cleanup_free_ char *id = xasprintf("%s/vaults/%s/secrets/%s%s%s",
		arm_services(request)->endpoint, arm_param(request, "vaultName"),
		json_get_str(secret, "name", ""), with_version ? "/" : "",
		with_version ? json_get_str(version, "version", "") : "");
	json_t *body = json_object(), *tags = json_get_obj(version, "tags");

	if (with_value)
		json_put_str(body, "value", json_get_str(version, "value", ""));
	json_put_str(body, "id", id);
	json_put_str(body, "contentType", json_get_str(version, "contentType", NULL));
	json_object_set_new(body, "attributes",
		json_pack("{s:b, s:I, s:I}", "enabled", json_get_bool(version, "enabled", true),
			"created", created, "updated", created));
	if (tags)
		json_object_set_new(body, "tags", json_deep_copy(tags));
	return body;
}

static int check_body(const json_t *body, struct err *err)
{
	static const char *const known[] = {"value", "contentType", "tags", "attributes"};
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)body, key, value) {
		bool is_known = false;

		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			is_known = is_known || str_eq(key, known[i]);
		if (!is_known)
			return err_set(err, -EINVAL, "BadParameter",
				"The property '%.64s' is not one of a secret: 'value', 'contentType', 'tags' and "
				"'attributes' are.",
				key);
	}
	value = json_object_get(body, "contentType");
	if (value && !json_is_null(value) && !json_is_string(value))
		return err_set(err, -EINVAL, "BadParameter", "'contentType' must be a string.");
	value = json_object_get(body, "attributes");
	if (value && !json_is_null(value) && !json_is_object(value))
		return err_set(err, -EINVAL, "BadParameter", "'attributes' must be an object.");
	json_object_foreach (json_get_obj(body, "attributes"), key, value)
		if (!str_eq(key, "enabled") || !json_is_boolean(value))
			return err_set(err, -EINVAL, "BadParameter",
				"The attribute '%.64s' is not supported. Only 'enabled' can be set, to true or "
				"false.",
				key);
	if (!json_get_str(body, "value", NULL))
		return err_set(err, -EINVAL, "BadParameter",
			"The body lacks the secret's 'value', a string.");
	return arm_tags_check(json_object_get(body, "tags"), err);
}

static int secret_put(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_json_ json_t *version = NULL, *secret = NULL, *properties = json_object();
	const char *name = arm_param(request, "secretName");
	json_t *body, *tags;
	int r = arm_body(request, err, &body);

	if (r == 0)
		r = check_body(body, err);
	if (r < 0)
		return r;
	tags = json_get_obj(body, "tags");
	json_put_str(properties, "contentType", json_get_str(body, "contentType", NULL));
	json_object_set_new(properties, "enabled",
		json_boolean(json_get_bool(json_get_obj(body, "attributes"), "enabled", true)));
	if (tags)
		json_object_set(properties, "tags", tags);
	r = vault_put(arm_services(request)->store, arm_param(request, "vaultName"), name,
		json_get_str(body, "value", ""), properties, err, &version);
	if (r < 0)
		return r;
	secret = json_pack("{s:s}", "name", name);
	response->body = present(request, secret, version, true, true);
	return 0;
}

static int secret_load(struct arm_request *request, struct err *err, json_t **ret)
{
	return vault_get(arm_services(request)->store, arm_param(request, "vaultName"),
		arm_param(request, "secretName"), err, ret);
}

static int show(struct arm_request *request, struct arm_response *response, const char *wanted,
	struct err *err)
{
	_cleanup_json_ json_t *secret = NULL;
	const json_t *version;
	int r = secret_load(request, err, &secret);

	if (r < 0)
		return r;
	version = vault_version(secret, wanted);
	if (!version)
		return err_set(err, -ENOENT, "SecretNotFound",
			"The secret '%s' has no version '%.64s'.", json_get_str(secret, "name", ""),
			wanted);
	if (!json_get_bool(version, "enabled", true))
		return err_set(err, -EACCES, "SecretDisabled",
			"Operation get is not allowed on a disabled secret.");
	response->body = present(request, secret, version, true, true);
	return 0;
}

static int secret_get(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return show(request, response, NULL, err);
}

static int secret_get_version(
	struct arm_request *request, struct arm_response *response, struct err *err)
{
	return show(request, response, arm_param(request, "secretVersion"), err);
}

static int secret_delete(
	struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_json_ json_t *secret = NULL;
	int r = secret_load(request, err, &secret);

	if (r == 0)
		r = vault_delete(arm_services(request)->store, arm_param(request, "vaultName"),
			arm_param(request, "secretName"), err);
	if (r == 0)
		response->body = present(request, secret, vault_version(secret, NULL), true, false);
	return r;
}

static json_t *page(json_t *value)
{
	return json_pack("{s:o, s:n}", "value", value, "nextLink");
}

static int secrets_list(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_json_ json_t *secrets = NULL;
	json_t *value, *secret;
	size_t i;
	int r = vault_list(
		arm_services(request)->store, arm_param(request, "vaultName"), err, &secrets);

	if (r < 0)
		return r;
	value = json_array();
	json_array_foreach (secrets, i, secret)
		json_array_append_new(
			value, present(request, secret, vault_version(secret, NULL), false, false));
	response->body = page(value);
	return 0;
}

static int versions_list(
	struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_json_ json_t *secret = NULL;
	json_t *value, *version;
	size_t i;
	int r = secret_load(request, err, &secret);

	if (r < 0)
		return r;
	value = json_array();
	json_array_foreach (json_get_arr(secret, "versions"), i, version)
		json_array_append_new(value, present(request, secret, version, true, false));
	response->body = page(value);
	return 0;
}

static const struct arm_route routes[] = {
	{"PUT", SECRET, NULL, ACTION "setSecret/action", secret_put, ARM_ROUTE_NO_VERSION},
	{"GET", SECRET, NULL, ACTION "getSecret/action", secret_get, ARM_ROUTE_NO_VERSION},
	{"DELETE", SECRET, NULL, ACTION "delete", secret_delete, ARM_ROUTE_NO_VERSION},
	{"GET", SECRETS, NULL, ACTION "readMetadata/action", secrets_list, ARM_ROUTE_NO_VERSION},
	{"GET", SECRET "/versions", NULL, ACTION "readMetadata/action", versions_list,
		ARM_ROUTE_NO_VERSION},
	{"GET", SECRET "/{secretVersion}", NULL, ACTION "getSecret/action", secret_get_version,
		ARM_ROUTE_NO_VERSION},
};

const struct arm_provider keyvault_provider = {
	.name = "Microsoft.KeyVault",
	.routes = routes,
	.n_routes = ARRAY_SIZE(routes),
};
