/*
 * Secrets that a group names instead of holding them. `secretReferences` gives each a name within
 * the group and a URL; properties that end in "Reference" use that name. What the names stand for
 * is looked up when the group is deployed, started or restarted, and kept in the record beside the
 * document: a secret that changes later changes no running group.
 */
#include "control/providers/containerinstance/validate.h"
#include "control/vault/vault.h"

#define CODE "InvalidSecretReference"
#define SUFFIX "Reference"
#define PLACEHOLDER "eA==" /* for checks that want a value; base64, as some must be */

static const json_t *secret_references(const json_t *document)
{
	return json_get_arr(properties_of(document), "secretReferences");
}

static const json_t *find_reference(const json_t *document, const char *name)
{
	return find_by(secret_references(document), "name", name);
}

/* --- every place where a name is used --- */

struct walk {
	json_t *document;
	const json_t *values; /* {"name": "value"}, names in lower case; NULL: placeholders */
	const char *group;
	struct err *err;
	size_t *total; /* bytes of the values, each where it is used */
	/* object[key] holds the name; path says where that is. Negative ends the walk. */
	int (*use)(const struct walk *walk, json_t *object, const char *key, const char *path);
};

static int use(const struct walk *walk, json_t *object, const char *key, char *path)
{
	int r = json_object_get(object, key) ? walk->use(walk, object, key, path) : 0;

	free(path);
	return r;
}

static int walk_variables(const struct walk *walk, const char *list)
{
	json_t *container, *variable;
	size_t i, v;
	int r = 0;

	json_array_foreach (json_get_arr(properties_of(walk->document), list), i, container)
		json_array_foreach (
			json_get_arr(properties_of(container), "environmentVariables"), v, variable)
			if (r == 0)
				r = use(walk, variable, "secureValue" SUFFIX,
					xasprintf(
						"properties.%s[%zu].properties.environmentVariables[%zu].secureValue" SUFFIX,
						list, i, v));
	return r;
}

static int walk_volumes(const struct walk *walk)
{
	json_t *volume, *name;
	const char *key;
	size_t i;
	void *next;
	int r = 0;

	json_array_foreach (json_get_arr(properties_of(walk->document), "volumes"), i, volume) {
		json_t *files = json_get_obj(volume, "secret" SUFFIX);

		if (r == 0)
			r = use(walk, json_get_obj(volume, "azureFile"), "storageAccountKey" SUFFIX,
				xasprintf(
					"properties.volumes[%zu].azureFile.storageAccountKey" SUFFIX,
					i));
		json_object_foreach_safe(files, next, key, name) if (r == 0) r = use(walk, files,
			key, xasprintf("properties.volumes[%zu].secret" SUFFIX ".%s", i, key));
	}
	return r;
}

static int walk_registries(const struct walk *walk)
{
	json_t *credential;
	size_t i;
	int r = 0;

	json_array_foreach (json_get_arr(properties_of(walk->document), "imageRegistryCredentials"),
		i, credential)
		if (r == 0)
			r = use(walk, credential, "password" SUFFIX,
				xasprintf(
					"properties.imageRegistryCredentials[%zu].password" SUFFIX,
					i));
	return r;
}

static int walk_all(const struct walk *walk)
{
	int r = walk_variables(walk, "containers");

	if (r == 0)
		r = walk_variables(walk, "initContainers");
	if (r == 0)
		r = walk_volumes(walk);
	return r < 0 ? r : walk_registries(walk);
}

static int found(const struct walk *walk, json_t *object, const char *key, const char *path)
{
	return -EEXIST;
}

static bool uses_references(const json_t *document)
{
	const struct walk walk = {.document = (json_t *)(uintptr_t)document, .use = found};
	const json_t *volume;
	size_t i;

	json_array_foreach (json_get_arr(properties_of(document), "volumes"), i, volume)
		if (json_object_get(volume, "secret" SUFFIX))
			return true;
	return walk_all(&walk) < 0;
}

/* The property that a reference stands for ("password" of "passwordReference"), owned; NULL for a
 * file of a secret volume, whose key is a name of the user's. */
static char *target_of(const json_t *object, const char *key)
{
	static const char *const keys[] = {
		"secureValue" SUFFIX, "storageAccountKey" SUFFIX, "password" SUFFIX};

	/* Only there is the object more than a map of strings. */
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (str_eq(key, keys[i]))
			return xstrndup(key, strlen(key) - strlen(SUFFIX));
	return NULL;
}

/* --- checks --- */

static int check_use(const struct walk *walk, json_t *object, const char *key, const char *path)
{
	const char *name = json_get_str(object, key, "");
	_cleanup_free_ char *target = target_of(object, key);
	int r;

	if (!find_reference(walk->document, name))
		r = err_set(walk->err, -EINVAL, CODE,
			"The secret reference '%.128s' in container group '%s' is not among its 'secretReferences'.",
			name, walk->group);
	else if (target && json_object_get(object, target))
		r = err_set(walk->err, -EINVAL, CODE,
			"Both '%s' and '%s' are given in container group '%s'. Give one of them.",
			target, key, walk->group);
	else
		return 0;
	err_target(walk->err, "%s", path);
	return r;
}

int references_check(const json_t *document, const char *group, struct err *err)
{
	/* The walk is the same one that fills in; this use of it changes nothing. */
	struct walk walk = {.document = (json_t *)(uintptr_t)document,
		.group = group,
		.err = err,
		.use = check_use};
	const json_t *reference;
	size_t i;

	json_array_foreach (secret_references(document), i, reference)
		if (find_reference(document, json_get_str(reference, "name", "")) != reference)
			return FAIL(err, "properties.secretReferences[%zu].name", i, CODE,
				"The secret reference '%.128s' is there more than once in container group '%s'.",
				json_get_str(reference, "name", ""), group);
	return walk_all(&walk);
}

/* --- values --- */

static int fill_use(const struct walk *walk, json_t *object, const char *key, const char *path)
{
	_cleanup_free_ char *name = str_lower_dup(json_get_str(object, key, ""));
	const char *value = json_get_str(walk->values, name, PLACEHOLDER);
	_cleanup_free_ char *target = target_of(object, key);
	_cleanup_free_ char *encoded = NULL;

	if (target) {
		json_put_str(object, target, value);
		json_object_del(object, key);
	} else {
		encoded = str_base64(value, strlen(value));
		json_put_str(object, key, encoded);
	}
	return 0;
}

json_t *references_filled(const json_t *document, const json_t *values)
{
	struct walk walk = {.values = values, .use = fill_use};
	json_t *volume;
	size_t i;

	if (!uses_references(document))
		return json_incref((json_t *)(uintptr_t)document);
	walk.document = json_deep_copy(document);
	walk_all(&walk);
	json_array_foreach (json_get_arr(properties_of(walk.document), "volumes"), i, volume) {
		json_t *files = json_object_get(volume, "secret" SUFFIX);

		if (files && !json_object_get(volume, "secret")) {
			json_object_set(volume, "secret", files);
			json_object_del(volume, "secret" SUFFIX);
		}
	}
	return walk.document;
}

/* A few bytes of a document mean up to VAULT_VALUE_MAX each. */
static int count_use(const struct walk *walk, json_t *object, const char *key, const char *path)
{
	_cleanup_free_ char *name = str_lower_dup(json_get_str(object, key, ""));

	*walk->total += strlen(json_get_str(walk->values, name, ""));
	if (*walk->total <= FILES_MAX)
		return 0;
	return FAIL(walk->err, "%s", path, CODE,
		"The secrets that container group '%s' refers to have more than %zu bytes, each counted as often as it is "
		"used. Use fewer or smaller ones.",
		walk->group, FILES_MAX);
}

int references_resolve(const struct arm_services *services, json_t *record, struct err *err)
{
	const json_t *document = json_object_get(record, "document"), *reference;
	const char *group = json_get_str(record, "name", "");
	_cleanup_json_ json_t *values = json_object(), *filled = NULL;
	size_t total = 0, i;
	struct walk walk = {.document = json_object_get(record, "document"),
		.values = values,
		.group = group,
		.err = err,
		.total = &total,
		.use = count_use};

	json_array_foreach (secret_references(document), i, reference) {
		_cleanup_free_ char *name = str_lower_dup(json_get_str(reference, "name", ""));
		_cleanup_free_ char *value = NULL, *why = NULL;
		int r = vault_resolve(services->store, services->endpoint,
			json_get_str(reference, "secretReferenceUri", ""), err, &value);

		if (r == -ENOENT || r == -EACCES || r == -EINVAL) {
			why = xstrdup(err->message);
			return FAIL(err, "properties.secretReferences[%zu].secretReferenceUri", i,
				CODE,
				"The secret reference '%.128s' in container group '%s' can't be used: %s",
				name, group, why);
		}
		if (r < 0)
			return r;
		json_put_str(values, name, value);
	}
	if (json_object_size(values) > 0)
		json_object_set(record, "secrets", values);
	else
		json_object_del(record, "secrets");
	if (walk_all(&walk) < 0)
		return -EINVAL;
	/* Keys, which nobody knew when the group was validated. */
	filled = references_filled(document, values);
	return volumes_check(filled, group, err);
}
