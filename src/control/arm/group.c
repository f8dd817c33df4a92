/* What other providers ask of the resources provider's records, so that they needn't know its code.
 */
#include "control/arm/internal.h"

char *arm_resource_group_key(const char *rg)
{
	_cleanup_free_ char *lower = str_lower_dup(rg);

	return xasprintf("rg/%s", lower);
}

/* A name that can't be a group's isn't looked up: keys of the store are ASCII and bounded. */
static bool name_plausible(const char *rg)
{
	size_t n = strlen(rg);

	if (n < 1 || n > 90)
		return false;
	for (size_t i = 0; i < n; i++)
		if (rg[i] <= 0x20 || rg[i] >= 0x7f)
			return false;
	return true;
}

static int group_read(const struct arm_services *services, const char *rg, struct err *err,
	json_t **ret, int64_t *ret_revision)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_json_ json_t *record = NULL;
	_cleanup_free_ char *key = NULL;
	json_t *group;
	int r;

	if (!name_plausible(rg))
		return arm_err_group_not_found(err, rg);
	key = arm_resource_group_key(rg);
	r = store_get(services->store, key, err, &entry);
	if (r == -ENOENT)
		return arm_err_group_not_found(err, rg);
	if (r < 0)
		return r;
	r = json_parse(entry.value, entry.value_len, JSON_DEPTH_MAX, NULL, &record);
	group = r < 0 ? NULL : json_get_obj(record, "group");
	if (!group)
		return err_set(err, -EIO, "InternalError", "%s isn't a resource group", key);
	*ret = json_incref(group);
	*ret_revision = entry.revision;
	return 0;
}

int arm_resource_group_get(
	const struct arm_services *services, const char *rg, struct err *err, json_t **ret)
{
	json_t *group = NULL;
	int64_t revision;
	int r;

	r = group_read(services, rg, err, &group, &revision);
	if (r < 0)
		return r;
	if (ret)
		*ret = group;
	else
		json_decref(group);
	return 0;
}

int arm_resource_group_for_write(const struct arm_services *services, const char *rg,
	struct err *err, json_t **ret, int64_t *ret_revision)
{
	_cleanup_json_ json_t *group = NULL;
	int64_t revision = 0;
	int r;

	r = group_read(services, rg, err, &group, &revision);
	if (r < 0)
		return r;
	if (str_eq(json_get_str(json_get_obj(group, "properties"), "provisioningState", ""),
		    "Deleting"))
		return err_set(err, -EBUSY, "ResourceGroupBeingDeleted",
			"The resource group '%s' is in deprovisioning state and cannot perform this "
			"operation.",
			json_get_str(group, "name", rg));
	if (ret)
		*ret = json_incref(group);
	if (ret_revision)
		*ret_revision = revision;
	return 0;
}

bool arm_namespace_registered(const struct arm_services *services, const char *name)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_free_ char *lower = str_lower_dup(name);
	_cleanup_free_ char *key = xasprintf("meta/unregistered/%s", lower);

	return store_get(services->store, key, NULL, &entry) != 0;
}

/* --- tags --- */

#define TAGS_MAX 50
#define TAG_NAME_MAX 512
#define TAG_VALUE_MAX 256

static int tag_check(const char *name, const json_t *value, struct err *err)
{
	size_t n = strlen(name);

	if (n < 1 || n > TAG_NAME_MAX)
		return err_set(err, -EINVAL, "InvalidTags",
			"A tag's name must have between 1 and %d characters; '%.32s' has %zu.",
			TAG_NAME_MAX, name, n);
	for (size_t i = 0; i < n; i++)
		if (strchr("<>%&\\?/", name[i]) || (unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			return err_set(err, -EINVAL, "InvalidTagNameCharacters",
				"The tag names '%s' have reserved characters '<,>,%%,&,\\,?,/' or control "
				"characters.",
				name);
	if (!json_is_string(value))
		return err_set(err, -EINVAL, "InvalidTags",
			"The value of the tag '%s' must be a string.", name);
	if (json_string_length(value) > TAG_VALUE_MAX)
		return err_set(err, -EINVAL, "InvalidTags",
			"The value of the tag '%s' has %zu characters; at most %d are allowed.",
			name, json_string_length(value), TAG_VALUE_MAX);
	return 0;
}

int arm_tags_check(json_t *tags, struct err *err)
{
	const char *name;
	json_t *value;
	int r;

	if (!tags || json_is_null(tags))
		return 0;
	if (!json_is_object(tags))
		return err_set(
			err, -EINVAL, "InvalidTags", "The tags must be an object of strings.");
	if (json_object_size(tags) > TAGS_MAX)
		return err_set(err, -EINVAL, "InvalidTags",
			"There are %zu tags; a resource or resource group can have at most %d.",
			json_object_size(tags), TAGS_MAX);
	json_object_foreach (tags, name, value) {
		r = tag_check(name, value, err);
		if (r < 0) {
			err_target(err, "tags.%.64s", name);
			return r;
		}
	}
	return 0;
}
