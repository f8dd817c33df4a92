/*
 * A PUT's body becomes the document that the store keeps: the request against its address, the
 * schema, and then the rules over several properties at once, one file for each idea.
 */
#include <ctype.h>

#include "control/providers/containerinstance/schema_rows.h"
#include "control/providers/containerinstance/validate.h"

#define CONTAINERS_MAX 60
#define PROFILE_NAME_RULE "[a-zA-Z0-9]|[a-zA-Z0-9][-_a-zA-Z0-9]{0,61}[a-zA-Z0-9]"
#define INIT_CONTAINERS_MAX 59

const json_t *find_by(const json_t *array, const char *key, const char *value)
{
	const json_t *element;
	size_t i;

	json_array_foreach (array, i, element)
		if (str_eq_nocase(json_get_str(element, key, ""), value))
			return element;
	return NULL;
}

json_t *find_member(const json_t *object, const char *name)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)object, key, value)
		if (str_eq_nocase(key, name))
			return json_is_null(value) ? NULL : value;
	return NULL;
}

/* --- the request against its address --- */

static const char *type_of(const struct validate_context *context)
{
	return context->type ? context->type : GROUPS_TYPE;
}

static int check_name(const char *name, struct err *err)
{
	if (strlen(name) <= 63 && schema_matches(RESOURCE_NAME_RULE, name))
		return 0;
	return FAIL(err, "%s", "name", "InvalidContainerGroupName",
		"The container group name '%.80s' is invalid. The container group name must contain no more than 63 "
		"characters and must match the regex '" RESOURCE_NAME_RULE "' (e.g. 'my-name').",
		name);
}

static const char *member_text(const json_t *object, const char *name, const char *fallback)
{
	const json_t *member = find_member(object, name);

	return json_is_string(member) ? json_string_value(member) : fallback;
}

/* id, name and type may be sent back, but only as they are: a client that sends others believes
 * that it talks to another resource. */
static int check_identity(
	const json_t *document, const struct validate_context *context, struct err *err)
{
	const char *own_type = type_of(context);
	const char *name = member_text(document, "name", context->group_name);
	const char *type = member_text(document, "type", own_type);
	const char *id = member_text(document, "id", NULL);
	_cleanup_free_ char *own = xasprintf("/subscriptions/%s/resourceGroups/%s/providers/%s/%s",
		context->subscription_id, context->resource_group, own_type, context->group_name);

	if (!str_eq_nocase(name, context->group_name))
		return FAIL(err, "%s", "name", "InvalidRequestContent",
			"The name '%.80s' in the content doesn't match the name '%s' in the URL.",
			name, context->group_name);
	if (!str_eq_nocase(type, own_type))
		return FAIL(err, "%s", "type", "InvalidRequestContent",
			"The type '%.80s' in the content doesn't match the type '%s' in the URL.",
			type, own_type);
	if (id && !str_eq_nocase(id, own))
		return FAIL(err, "%s", "id", "InvalidRequestContent",
			"The id '%.300s' in the content doesn't match the id '%s' in the URL.", id,
			own);
	return 0;
}

/* "West US" and "westus" are one location. */
static bool same_location(const char *a, const char *b)
{
	for (;; a++, b++) {
		while (*a == ' ')
			a++;
		while (*b == ' ')
			b++;
		if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
			return false;
		if (!*a)
			return true;
	}
}

static int check_location(json_t *document, const struct validate_context *context, struct err *err)
{
	const char *location = json_get_str(document, "location", NULL);

	if (!location || !*location)
		location = context->default_location ? context->default_location : context->region;
	if (!same_location(location, context->region))
		return FAIL(err, "%s", "location", "LocationNotAvailableForResourceType",
			"The provided location '%.80s' is not available for resource type '%s'. List of available "
			"regions for the resource type is '%s'.",
			location, type_of(context), context->region);
	json_put_str(document, "location", context->region);
	return 0;
}

/* --- containers --- */

static const char *const lists[] = {"containers", "initContainers"};

static int check_count(const json_t *document, const char *group, struct err *err)
{
	size_t n = json_array_size(json_get_arr(properties_of(document), "containers"));
	size_t n_init = json_array_size(json_get_arr(properties_of(document), "initContainers"));

	if (n == 0)
		return FAIL(err, "%s", "properties.containers", "ContainersNotSpecified",
			"The containers in container group '%s' are not specified. At least one container is required.",
			group);
	if (n > CONTAINERS_MAX)
		return FAIL(err, "%s", "properties.containers", "TooManyContainers",
			"The container group '%s' has %zu containers. At most %d are allowed.",
			group, n, CONTAINERS_MAX);
	if (n_init > INIT_CONTAINERS_MAX)
		return FAIL(err, "%s", "properties.initContainers", "TooManyContainers",
			"The container group '%s' has %zu init containers. At most %d are allowed.",
			group, n_init, INIT_CONTAINERS_MAX);
	if (n + n_init > CONTAINERS_MAX)
		return FAIL(err, "%s", "properties.initContainers", "TooManyContainers",
			"The container group '%s' has %zu containers and %zu init containers. At most %d together are "
			"allowed.",
			group, n, n_init, CONTAINERS_MAX);
	return 0;
}

/* Logs, exec and events know a container by its name alone, so that both kinds share one space of
 * names. */
static int check_names(const json_t *document, const char *group, struct err *err)
{
	const json_t *seen[2 * CONTAINERS_MAX], *container;
	size_t n = 0, i;

	for (size_t l = 0; l < ARRAY_SIZE(lists); l++)
		json_array_foreach (json_get_arr(properties_of(document), lists[l]), i, container) {
			const char *name = json_get_str(container, "name", "");

			for (size_t k = 0; k < n; k++) {
				if (!str_eq(json_get_str(seen[k], "name", ""), name))
					continue;
				err_set(err, -EINVAL, "DuplicateContainerName",
					"The container name '%s' is there more than once in container group '%s'. Each "
					"container needs a name of its own.",
					name, group);
				return FAIL_AT(err, "properties.%s[%zu].name", lists[l], i);
			}
			seen[n++] = container;
		}
	return 0;
}

static int check_basics(
	const json_t *container, const char *list, size_t i, const char *group, struct err *err)
{
	const char *name = json_get_str(container, "name", "");
	const json_t *variable;
	size_t v;

	if (!json_get_str(properties_of(container), "image", NULL)) {
		err_set(err, -EINVAL, "ImageNotSpecified",
			"The image is not specified in container '%s' of container group '%s'.",
			name, group);
		return FAIL_AT(err, "properties.%s[%zu].properties.image", list, i);
	}
	json_array_foreach (
		json_get_arr(properties_of(container), "environmentVariables"), v, variable) {
		if (!json_object_get(variable, "value") ||
			!json_object_get(variable, "secureValue"))
			continue;
		err_set(err, -EINVAL, "InvalidEnvironmentVariable",
			"The environment variable '%s' in container '%s' of container group '%s' has both "
			"'value' and 'secureValue'. Give one of them.",
			json_get_str(variable, "name", ""), name, group);
		return FAIL_AT(
			err, "properties.%s[%zu].properties.environmentVariables[%zu]", list, i, v);
	}
	return 0;
}

static int check_containers(const json_t *document, const char *group, struct err *err)
{
	const json_t *container;
	size_t i;
	int r;

	r = check_count(document, group, err);
	if (r == 0)
		r = check_names(document, group, err);
	for (size_t l = 0; l < ARRAY_SIZE(lists) && r == 0; l++)
		json_array_foreach (json_get_arr(properties_of(document), lists[l]), i, container) {
			r = check_basics(container, lists[l], i, group, err);
			if (r < 0)
				return r;
		}
	return r;
}

/* --- registries --- */

static int check_registries(const json_t *document, const char *group, struct err *err)
{
	const json_t *credentials =
		json_get_arr(properties_of(document), "imageRegistryCredentials");
	const json_t *credential;
	size_t i;

	json_array_foreach (credentials, i, credential) {
		const char *server = json_get_str(credential, "server", "");

		if (strstr(server, "://"))
			return FAIL(err, "properties.imageRegistryCredentials[%zu].server", i,
				"InvalidImageRegistryCredential",
				"The registry server '%.200s' in container group '%s' is invalid. Give the host alone, "
				"without 'http://' or 'https://'.",
				server, group);
		for (size_t j = 0; j < i; j++)
			if (str_eq_nocase(
				    json_get_str(json_array_get(credentials, j), "server", ""),
				    server))
				return FAIL(err, "properties.imageRegistryCredentials[%zu].server",
					i, "DuplicateImageRegistryServer",
					"The registry server '%.200s' is there more than once in container group '%s'.",
					server, group);
		if (!json_object_get(credential, "username") ||
			!json_object_get(credential, "password"))
			return FAIL(err, "properties.imageRegistryCredentials[%zu]", i,
				"InvalidImageRegistryCredential",
				"The credential for the registry '%.200s' in container group '%s' needs both 'username' and "
				"'password'.",
				server, group);
	}
	return 0;
}

/* --- all of it --- */

/* What is the same as leaving it out isn't kept, so that documents that mean the same are equal. */
static void drop_empty_list(json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	if ((json_is_array(value) && json_array_size(value) == 0) ||
		(json_is_object(value) && json_object_size(value) == 0))
		json_object_del(object, key);
}

static void drop_empty_in(json_t *container)
{
	json_t *own = json_get_obj(container, "properties");

	drop_empty_list(own, "ports");
	drop_empty_list(own, "command");
	drop_empty_list(own, "volumeMounts");
	drop_empty_list(own, "configMap");
	drop_empty_list(json_get_obj(own, "resources"), "limits");
}

static void drop_empty(json_t *document)
{
	json_t *properties = json_get_obj(document, "properties");
	json_t *address = json_get_obj(properties, "ipAddress");
	json_t *container;
	size_t i;

	json_object_del(document, "identity"); /* of type None */
	if (!json_object_get(address, "dnsNameLabel"))
		json_object_del(address, "autoGeneratedDomainNameLabelScope");
	drop_empty_list(properties, "imageRegistryCredentials");
	drop_empty_list(properties, "initContainers");
	drop_empty_list(properties, "volumes");
	for (size_t l = 0; l < ARRAY_SIZE(lists); l++)
		json_array_foreach (json_get_arr(properties, lists[l]), i, container)
			drop_empty_in(container);
}

int group_check(json_t *document, const json_t *old, const char *group, struct err *err)
{
	static int (*const checks[])(const json_t *, const char *, struct err *) = {
		check_containers, resources_check, network_check, volumes_check, mounts_check,
		probes_check, config_maps_check, check_registries};
	_cleanup_json_ json_t *filled = NULL;
	int r = 0;

	if (!json_get_str(properties_of(document), "osType", NULL))
		return FAIL(err, "%s", "properties.osType", "InvalidOsType",
			"The 'osType' for container group '%s' is invalid. The value must be one of 'Windows,Linux'.",
			"<null>");
	secrets_keep(document, old);
	filled = references_filled(document, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(checks) && r == 0; i++)
		r = checks[i](filled, group, err);
	if (r == 0)
		drop_empty(document);
	return r;
}

static int content_validate(const struct schema_object *object, json_t *document,
	const struct validate_context *context, struct err *err)
{
	struct schema_context schema = {context->api_version, context->group_name};
	int r;

	r = schema_validate(object, document, &schema, err);
	if (r == 0)
		r = arm_tags_check(json_object_get(document, "tags"), err);
	if (r == 0)
		r = check_location(document, context, err);
	if (r == 0)
		r = group_check(document, context->old, context->group_name, err);
	return r;
}

int group_validate(json_t *document, const struct validate_context *context, struct err *err)
{
	int r = check_name(context->group_name, err);

	if (r == 0)
		r = check_identity(document, context, err);
	if (r == 0)
		r = read_only_check(document, context, err);
	if (r == 0)
		r = config_maps_merge(document, context, err);
	if (r == 0)
		r = content_validate(&group_schema, document, context, err);
	/* Not of a profile: the groups that are made from it say what its references are. */
	return r < 0 ? r : references_check(document, context->group_name, err);
}

bool profile_name_valid(const char *name)
{
	return strlen(name) <= 63 && schema_matches(PROFILE_NAME_RULE, name);
}

int profile_validate(json_t *document, const struct validate_context *context, struct err *err)
{
	int r;

	if (!profile_name_valid(context->group_name))
		return FAIL(err, "%s", "name", "InvalidContainerGroupProfileName",
			"The container group profile name '%.80s' is invalid. It must have between 1 and 63 "
			"characters and match the regex '" PROFILE_NAME_RULE "'.",
			context->group_name);
	r = check_identity(document, context, err);
	return r < 0 ? r : content_validate(&profile_schema, document, context, err);
}
