/*
 * Secrets that a group names instead of holding them. `secretReferences` gives each a name within
 * the group and a URL; properties that end in "Reference" use that name. What the names stand for
 * is looked up when the group is deployed, started or restarted, and kept in the record beside the
 * document: a secret that changes later changes no running group.
 */
#include "control/providers/containerinstance/internal.h"
#include "control/vault/vault.h"

static const json_t *secret_references(const json_t *document)
{
	return json_path(document, "properties", "secretReferences", NULL);
}

static const json_t *find_reference(const json_t *document, const char *name)
{
	const json_t *reference;
	size_t i;

	json_array_foreach (secret_references(document), i, reference)
		if (str_eq_nocase(json_get_str(reference, "name", ""), name))
			return reference;
	return NULL;
}

struct walk {
	const json_t *document;
	const char *group;
	struct err *err;
};

/* name: of a use, or NULL when there is none. path: where it is; taken over. */
static int check_use(const struct walk *walk, const json_t *name, char *path)
{
	_cleanup_free_ char *owned = path;
	int r;

	if (!name || find_reference(walk->document, json_string_value(name)))
		return 0;
	r = err_set(walk->err, -EINVAL, "InvalidSecretReference",
		"The secret reference '%.128s' in container group '%s' is not among its 'secretReferences'.",
		json_string_value(name), walk->group);
	err_target(walk->err, "%s", owned);
	return r;
}

static int check_variables(const struct walk *walk, const char *list)
{
	const json_t *container, *variable;
	size_t i, v;
	int r = 0;

	json_array_foreach (json_path(walk->document, "properties", list, NULL), i, container)
		json_array_foreach (
			json_path(container, "properties", "environmentVariables", NULL), v,
			variable) {
			r = check_use(walk, json_object_get(variable, "secureValueReference"),
				xasprintf(
					"properties.%s[%zu].properties.environmentVariables[%zu].secureValueReference",
					list, i, v));
			if (r < 0)
				return r;
		}
	return 0;
}

static int check_volumes(const struct walk *walk)
{
	const json_t *volume;
	size_t i;
	int r = 0;

	json_array_foreach (json_path(walk->document, "properties", "volumes", NULL), i, volume) {
		json_t *files = json_get_obj(volume, "secretReference"), *name;
		const char *key;

		r = check_use(walk,
			json_object_get(
				json_get_obj(volume, "azureFile"), "storageAccountKeyReference"),
			xasprintf(
				"properties.volumes[%zu].azureFile.storageAccountKeyReference", i));
		json_object_foreach (files, key, name)
			if (r == 0)
				r = check_use(walk, name,
					xasprintf("properties.volumes[%zu].secretReference.%s", i,
						key));
		if (r < 0)
			return r;
	}
	return r;
}

static int check_registries(const struct walk *walk)
{
	const json_t *credential;
	size_t i;
	int r = 0;

	json_array_foreach (
		json_path(walk->document, "properties", "imageRegistryCredentials", NULL), i,
		credential) {
		r = check_use(walk, json_object_get(credential, "passwordReference"),
			xasprintf("properties.imageRegistryCredentials[%zu].passwordReference", i));
		if (r < 0)
			return r;
	}
	return r;
}

int references_check(const json_t *document, const char *group, struct err *err)
{
	struct walk walk = {document, group, err};
	const json_t *reference;
	size_t i;
	int r;

	json_array_foreach (secret_references(document), i, reference)
		if (find_reference(document, json_get_str(reference, "name", "")) != reference) {
			r = err_set(err, -EINVAL, "InvalidSecretReference",
				"The secret reference '%.128s' is there more than once in container group '%s'.",
				json_get_str(reference, "name", ""), group);
			err_target(err, "properties.secretReferences[%zu].name", i);
			return r;
		}
	r = check_variables(&walk, "containers");
	if (r == 0)
		r = check_variables(&walk, "initContainers");
	if (r == 0)
		r = check_volumes(&walk);
	return r < 0 ? r : check_registries(&walk);
}

int references_resolve(const struct arm_services *services, json_t *record, struct err *err)
{
	const json_t *document = json_object_get(record, "document"), *reference;
	_cleanup_json_ json_t *values = NULL;
	size_t i;

	json_object_del(record, "secrets");
	if (json_array_size(secret_references(document)) == 0)
		return 0;
	values = json_object();
	json_array_foreach (secret_references(document), i, reference) {
		_cleanup_free_ char *value = NULL;
		_cleanup_free_ char *key = str_lower_dup(json_get_str(reference, "name", ""));
		int r = vault_resolve(services->store, services->endpoint,
			json_get_str(reference, "secretReferenceUri", ""), err, &value);

		if (r < 0) {
			err_target(err, "properties.secretReferences[%zu].secretReferenceUri", i);
			return r;
		}
		json_put_str(values, key, value);
	}
	json_object_set(record, "secrets", values);
	return 0;
}

const char *references_value(const json_t *record, const char *name)
{
	_cleanup_free_ char *key = str_lower_dup(name);

	return json_get_str(json_object_get(record, "secrets"), key, "");
}
