/*
 * A PUT on a group that exists: what it keeps of the document that is there, and what it may
 * change.
 */
#include "control/providers/containerinstance/validate.h"

/* --- secrets that an answer didn't show --- */

/* Names of variables have case. */
static json_t *old_secret(const json_t *container, const char *name)
{
	const json_t *variable;
	size_t i;

	json_array_foreach (
		json_get_arr(properties_of(container), "environmentVariables"), i, variable)
		if (str_eq(json_get_str(variable, "name", ""), name))
			return json_object_get(variable, "secureValue");
	return NULL;
}

/* {"name":"X"} alone is how an answer shows a secure variable: sent back, it means the value that
 * is there. */
static void keep_variables(json_t *container, const json_t *old_container)
{
	json_t *variable;
	size_t i;

	json_array_foreach (
		json_get_arr(properties_of(container), "environmentVariables"), i, variable) {
		json_t *secret = old_secret(old_container, json_get_str(variable, "name", ""));

		if (secret && json_object_size(variable) == 1)
			json_object_set(variable, "secureValue", secret);
	}
}

/* User and password are the URL's without them: for another one they have to be given. */
static void keep_repository(json_t *repo, const json_t *old_repo)
{
	const char *sent = json_get_str(repo, "repository", "");
	_cleanup_free_ char *shown = schema_url_shown(json_get_str(old_repo, "repository", ""));

	if (repo && old_repo && str_eq(sent, shown))
		json_object_set(repo, "repository", json_object_get(old_repo, "repository"));
}

/* A key belongs to its account: for another one it has to be given. */
static void keep_volume(json_t *volume, const json_t *old)
{
	json_t *share = json_get_obj(volume, "azureFile");
	const json_t *old_share = json_get_obj(old, "azureFile");
	json_t *secret = json_get_obj(volume, "secret");
	json_t *key = json_object_get(old_share, "storageAccountKey");

	if (key && share && !json_object_get(share, "storageAccountKey") &&
		!json_object_get(share, "storageAccountKeyReference") &&
		str_eq(json_get_str(share, "storageAccountName", ""),
			json_get_str(old_share, "storageAccountName", "")))
		json_object_set(share, "storageAccountKey", key);
	if (secret && json_object_size(secret) == 0 && json_get_obj(old, "secret"))
		json_object_update(secret, json_get_obj(old, "secret"));
	keep_repository(json_get_obj(volume, "gitRepo"), json_get_obj(old, "gitRepo"));
}

static void keep_password(json_t *credential, const json_t *old)
{
	if (old && !json_object_get(credential, "password") &&
		!json_object_get(credential, "passwordReference") &&
		str_eq(json_get_str(old, "username", ""), json_get_str(credential, "username", "")))
		json_object_set(credential, "password", json_object_get(old, "password"));
}

void secrets_keep(json_t *document, const json_t *old)
{
	static const struct {
		const char *list, *key;
		void (*keep)(json_t *element, const json_t *old);
	} kinds[] = {
		{"containers", "name", keep_variables},
		{"initContainers", "name", keep_variables},
		{"volumes", "name", keep_volume},
		{"imageRegistryCredentials", "server", keep_password},
	};
	json_t *element;
	size_t i;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		const json_t *was = json_get_arr(properties_of(old), kinds[k].list);

		json_array_foreach (
			json_get_arr(properties_of(document), kinds[k].list), i, element)
			kinds[k].keep(element, find_by(was, kinds[k].key,
						       json_get_str(element, kinds[k].key, "")));
	}
}

/* --- read-only properties --- */

static int fail_read_only(struct err *err, const char *path, const char *is, const char *sent)
{
	return FAIL(err, "%s", path, "ReadOnlyPropertyChanged",
		"The property '%s' is read-only: it is %s%s%s and can't become '%.200s'. Leave it out, or send back "
		"what was read.",
		path, is ? "'" : "", is ? is : "not set", is ? "'" : "", sent);
}

/* Answers carry a provisioningTimeoutInSeconds, so a document that was read may be sent back with
 * it. */
static int check_timeout(const json_t *properties, const char *group, struct err *err)
{
	const json_t *timeout = find_member(properties, "provisioningTimeoutInSeconds");
	const json_t *custom = find_member(properties, "isCustomProvisioningTimeout");
	const char *at = json_is_true(custom) ? "isCustomProvisioningTimeout"
					      : "provisioningTimeoutInSeconds";

	if ((!timeout || json_integer_value(timeout) == 1800) && !json_is_true(custom))
		return 0;
	return FAIL(err, "properties.%s", at, "CustomProvisioningTimeoutInSecondsNotSuppported",
		"A custom provisioning timeout is not supported for container group '%s'. Leave out '%s'.",
		group, at);
}

/* The name that the label of the request gives, when there is one. Owned. */
static char *new_fqdn(const json_t *address, const struct validate_context *context)
{
	const json_t *label = find_member(address, "dnsNameLabel");

	return json_is_string(label) && context->zone
		       ? xasprintf("%s.%s.%s", json_string_value(label), context->region,
				 context->zone)
		       : NULL;
}

/*
 * A client sends back what it read: a state or a view that has moved on meanwhile is no wish to
 * change it, and so is dropped. An address or a name that differs from the group's own can only be
 * a wish that nobody would fulfil, and is refused. A new group has none of its own yet, so that a
 * document read from one group can make another.
 */
int read_only_check(const json_t *document, const struct validate_context *context, struct err *err)
{
	const json_t *properties = find_member(document, "properties");
	const json_t *address = find_member(properties, "ipAddress");
	const json_t *ip = find_member(address, "ip"), *fqdn = find_member(address, "fqdn");
	_cleanup_free_ char *next = NULL;

	if (!context->old)
		return check_timeout(properties, context->group_name, err);
	next = new_fqdn(address, context);
	if (context->ip && json_is_string(ip) && !str_eq(json_string_value(ip), context->ip))
		return fail_read_only(
			err, "properties.ipAddress.ip", context->ip, json_string_value(ip));
	if (context->zone && json_is_string(fqdn) &&
		!(context->fqdn && str_eq_nocase(json_string_value(fqdn), context->fqdn)) &&
		!(next && str_eq_nocase(json_string_value(fqdn), next)))
		return fail_read_only(
			err, "properties.ipAddress.fqdn", context->fqdn, json_string_value(fqdn));
	return check_timeout(properties, context->group_name, err);
}

/* --- config maps alone --- */

/* The config map of a container that carries nothing else, or NULL. */
static json_t *lone_config_map(const json_t *container)
{
	json_t *properties = find_member(container, "properties"), *member;
	const char *key;

	json_object_foreach (properties, key, member)
		if (!json_is_null(member) && !str_eq_nocase(key, "configMap"))
			return NULL;
	return find_member(properties, "configMap");
}

static bool only_config_maps(const json_t *containers)
{
	const json_t *container;
	size_t i;

	json_array_foreach (containers, i, container)
		if (!json_is_string(find_member(container, "name")) || !lone_config_map(container))
			return false;
	return json_array_size(containers) > 0;
}

/* Members of `from` take the place of those of `to`, whatever the case of their names. */
static void overlay(json_t *to, const json_t *from, const char *except)
{
	const char *key, *old_key;
	json_t *value, *old_value;
	void *next;

	json_object_foreach ((json_t *)(uintptr_t)from, key, value) {
		if (str_eq_nocase(key, except))
			continue;
		json_object_foreach_safe(to, next, old_key,
			old_value) if (str_eq_nocase(old_key, key)) json_object_del(to, old_key);
		json_object_set(to, key, value);
	}
}

static int merge_containers(
	json_t *merged, const json_t *containers, const char *group, struct err *err)
{
	const json_t *all = json_get_arr(properties_of(merged), "containers"), *container;
	size_t i;

	json_array_foreach (containers, i, container) {
		const char *name = json_string_value(find_member(container, "name"));
		const json_t *target = find_by(all, "name", name);

		if (!target)
			return FAIL(err, "properties.containers[%zu].name", i, "InvalidConfigMap",
				"The container group '%s' has no container '%.80s' whose config map could be updated.",
				group, name);
		json_object_set(json_get_obj(target, "properties"), "configMap",
			lone_config_map(container));
	}
	return 0;
}

int config_maps_merge(json_t *document, const struct validate_context *context, struct err *err)
{
	const json_t *properties = find_member(document, "properties");
	const json_t *containers = find_member(properties, "containers");
	_cleanup_json_ json_t *merged = NULL;
	int r;

	if (!context->old || !only_config_maps(containers) ||
		!schema_version_has(CONFIG_MAP_SINCE, NULL, context->api_version))
		return 0;
	merged = json_deep_copy(context->old);
	r = merge_containers(merged, containers, context->group_name, err);
	if (r < 0)
		return r;
	overlay(json_get_obj(merged, "properties"), properties, "containers");
	overlay(merged, document, "properties");
	json_object_clear(document);
	json_object_update(document, merged);
	return 0;
}

/* Nothing but what is in config maps differs: files that change below running containers. That a
 * container has one at all is a mount. */
bool only_config_maps_differ(const json_t *old, const json_t *new)
{
	_cleanup_json_ json_t *a = json_deep_copy(properties_of(old));
	_cleanup_json_ json_t *b = json_deep_copy(properties_of(new));
	json_t *both[] = {a, b}, *container;
	size_t i;

	for (size_t k = 0; k < ARRAY_SIZE(both); k++)
		json_array_foreach (json_get_arr(both[k], "containers"), i, container)
			if (json_path(container, "properties", "configMap", NULL))
				json_object_set_new(json_get_obj(container, "properties"),
					"configMap", json_true());
	return json_equal(a, b);
}

/* --- what may change --- */

bool property_differs(const json_t *old, const json_t *new, const char *key)
{
	const json_t *a = json_object_get(properties_of(old), key),
		     *b = json_object_get(properties_of(new), key);

	return !(a == b || (a && b && json_equal(a, b)));
}

/* The path of what changed in the containers and may not, or NULL. Owned. */
static char *containers_changed(const json_t *old, const json_t *new)
{
	const json_t *was = json_get_arr(properties_of(old), "containers");
	const json_t *is = json_get_arr(properties_of(new), "containers");
	const json_t *container;
	size_t i;

	json_array_foreach (is, i, container) {
		const json_t *before = find_by(was, "name", json_get_str(container, "name", ""));

		if (!before)
			return xasprintf("properties.containers[%zu]", i);
		if (property_differs(before, container, "resources"))
			return xasprintf("properties.containers[%zu].properties.resources", i);
		if (!ports_equal(json_get_arr(properties_of(before), "ports"),
			    json_get_arr(properties_of(container), "ports")))
			return xasprintf("properties.containers[%zu].properties.ports", i);
	}
	return json_array_size(is) == json_array_size(was) ? NULL
							   : xstrdup("properties.containers");
}

/* Likewise in the address. A literal. */
static const char *address_changed(const json_t *old, const json_t *new)
{
	const json_t *was = json_get_obj(properties_of(old), "ipAddress");
	const json_t *is = json_get_obj(properties_of(new), "ipAddress");

	if (!was != !is)
		return "properties.ipAddress";
	if (!str_eq(json_get_str(was, "type", ""), json_get_str(is, "type", "")))
		return "properties.ipAddress.type";
	if (!ports_equal(json_get_arr(was, "ports"), json_get_arr(is, "ports")))
		return "properties.ipAddress.ports";
	return NULL;
}

int group_validate_update(
	const json_t *old, const json_t *new, const char *group_name, struct err *err)
{
	static const char *const fixed[] = {"osType", "restartPolicy", "dnsConfig"};
	const char *address = address_changed(old, new);
	_cleanup_free_ char *path = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(fixed) && !path; i++)
		if (property_differs(old, new, fixed[i]))
			path = xasprintf("properties.%s", fixed[i]);
	if (!path)
		path = address ? xstrdup(address) : containers_changed(old, new);
	if (!path)
		return 0;
	return FAIL(err, "%s", path, "InvalidContainerGroupUpdate",
		"The updates on container group '%s' are invalid. If you are going to update the os type, restart policy, "
		"network profile, CPU, memory or GPU resources for a container group, you must delete it first and then "
		"create a new one.",
		group_name);
}
