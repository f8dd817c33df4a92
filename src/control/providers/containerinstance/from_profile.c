/*
 * Groups made from a profile: the profile's content goes below what a PUT says. A property that the
 * PUT has is the group's own, whole; containers are told apart by their names, so that one that
 * comes with its name alone is the profile's, and one that the profile doesn't have is added.
 *
 * This is done on what a client wrote, before it is validated: names of properties have no case
 * yet, and what is of the wrong type is left for the schema to refuse.
 */
#include "control/providers/containerinstance/profiles.h"
#include "control/providers/containerinstance/validate.h"

#define SINCE "2024-05-01-preview"

/* The member's own spelling, or name when there is none. */
static const char *spelling(json_t *object, const char *name)
{
	const char *key;
	json_t *value;

	json_object_foreach (object, key, value)
		if (str_eq_nocase(key, name))
			return key;
	return name;
}

/* As everywhere else, null, [] and {} are the same as nothing. So a document that was made this way
 * and comes back as it was read stays what it is. */
static bool is_given(json_t *object, const char *name, const json_t *base)
{
	const json_t *value = find_member(object, name);

	if (!value || json_typeof(value) != json_typeof(base))
		return value != NULL;
	return !(json_is_array(value) && json_array_size(value) == 0) &&
	       !(json_is_object(value) && json_object_size(value) == 0);
}

/* What base has and object hasn't. */
static void fill_in(json_t *object, json_t *base)
{
	const char *key;
	json_t *value;

	json_object_foreach (base, key, value)
		if (!is_given(object, key, value))
			json_object_set_new(object, spelling(object, key), json_deep_copy(value));
}

static json_t *find_name(const json_t *containers, const char *name)
{
	json_t *container;
	size_t i;

	json_array_foreach (containers, i, container) {
		const char *own = json_string_value(find_member(container, "name"));

		if (own && str_eq(own, name))
			return container;
	}
	return NULL;
}

/* In the profile's order, then those that only the group has. */
static void fill_in_containers(json_t *properties, const json_t *base)
{
	json_t *own = find_member(properties, "containers"), *merged;
	json_t *container;
	size_t i;

	if (!json_is_array(own) || json_array_size(own) == 0)
		return; /* none: fill_in() takes the profile's */
	merged = json_array();
	json_array_foreach (base, i, container) {
		const char *name = json_get_str(container, "name", "");
		json_t *mine = find_name(own, name);

		if (!mine) {
			json_array_append_new(merged, json_deep_copy(container));
			continue;
		}
		if (!find_member(mine, "properties"))
			json_object_set_new(mine, spelling(mine, "properties"), json_object());
		if (json_is_object(find_member(mine, "properties")))
			fill_in(find_member(mine, "properties"),
				json_get_obj(container, "properties"));
		json_array_append(merged, mine);
	}
	json_array_foreach (own, i, container) {
		const char *name = json_string_value(find_member(container, "name"));

		if (!name || !find_name(base, name) || find_name(own, name) != container)
			json_array_append(merged, container);
	}
	json_object_set_new(properties, spelling(properties, "containers"), merged);
}

/* --- which profile --- */

struct wanted {
	char *rg, *name;
	int64_t revision; /* 0: the newest */
};

static void wanted_done(struct wanted *wanted)
{
	free(wanted->rg);
	free(wanted->name);
}

static int fail_id(const char *id, struct err *err)
{
	err_set(err, -EINVAL, "InvalidRequestContent",
		"The value '%.300s' of 'properties.containerGroupProfile.id' is invalid. It must be the id of a "
		"profile of this subscription: '/subscriptions/{subscription}/resourceGroups/{resource "
		"group}/providers/" PROFILES_TYPE "/{name}'.",
		id);
	err_target(err, "properties.containerGroupProfile.id");
	return -EINVAL;
}

/* The next segment of an id, or NULL at its end. Moves on. */
static char *next_segment(const char **at)
{
	const char *start = *at + 1;
	size_t n;

	if (**at != '/')
		return NULL;
	n = strcspn(start, "/");
	*at = start + n;
	return xstrndup(start, n);
}

static int parse_id(
	const struct arm_services *services, const char *id, struct err *err, struct wanted *ret)
{
	const char *expected[] = {"subscriptions", services->subscription_id, "resourceGroups",
		NULL, "providers", "Microsoft.ContainerInstance", "containerGroupProfiles", NULL};
	const char *at = id;

	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		_cleanup_free_ char *segment = next_segment(&at);

		if (!segment || !*segment || (expected[i] && !str_eq_nocase(segment, expected[i])))
			return fail_id(id, err);
		if (!expected[i])
			*(i == 3 ? &ret->rg : &ret->name) = take_ptr(segment);
	}
	return *at ? fail_id(id, err) : 0;
}

/* The revision that a reference names. 0: none; -1: nothing that a revision can be. */
static int64_t revision_of(json_t *reference)
{
	const json_t *value = find_member(reference, "revision");
	uint64_t number = 0;

	if (!value)
		return 0;
	if (json_is_string(value))
		return str_to_u64(json_string_value(value), INT32_MAX, &number) == 0 && number > 0
			       ? (int64_t)number
			       : -1;
	return json_integer_value(value) > 0 ? json_integer_value(value) : -1;
}

/* A group outlives its profile: what was read of it may be sent back. */
static bool refers_to_the_same(const json_t *old, const char *id, json_t *reference)
{
	const json_t *before = json_path(old, "properties", "containerGroupProfile", NULL);
	int64_t had = json_get_int(before, "revision", 0), wants = revision_of(reference);

	if (!str_eq_nocase(json_get_str(before, "id", ""), id) || (wants && wants != had))
		return false;
	json_object_set_new(reference, spelling(reference, "revision"), json_integer(had));
	return true;
}

static int fail_not_found(const struct wanted *wanted, struct err *err)
{
	if (wanted->revision)
		err_set(err, -ENOENT, "ContainerGroupProfileNotFound",
			"The revision '%lld' of the container group profile '%s' under resource group '%s' was "
			"not found.",
			(long long)wanted->revision, wanted->name, wanted->rg);
	else
		err_set(err, -ENOENT, "ContainerGroupProfileNotFound",
			"The container group profile '%s' under resource group '%s' was not found.",
			wanted->name, wanted->rg);
	err_target(err, "properties.containerGroupProfile%s", wanted->revision ? "" : ".id");
	return -ENOENT;
}

static void merge(json_t *properties, json_t *reference, const struct profile *profile,
	const json_t *document, int64_t revision)
{
	json_t *base = json_get_obj(document, "properties");

	fill_in_containers(properties, json_get_arr(base, "containers"));
	fill_in(properties, base);
	json_object_set_new(reference, spelling(reference, "id"),
		json_string(json_get_str(profile->record, "id", "")));
	json_object_set_new(reference, spelling(reference, "revision"),
		json_integer(revision ? revision : json_get_int(profile->record, "revision", 1)));
}

int profile_apply(const struct arm_services *services, const char *api_version, const json_t *old,
	json_t *document, struct err *err)
{
	json_t *properties = find_member(document, "properties");
	json_t *reference = find_member(properties, "containerGroupProfile");
	const char *id = json_string_value(find_member(reference, "id"));
	_cleanup_(profile_done) struct profile profile = {0};
	_cleanup_(wanted_done) struct wanted wanted = {0};
	_cleanup_json_ json_t *base = NULL;
	int r;

	if (!id || !schema_version_has(SINCE, NULL, api_version))
		return 0;
	wanted.revision = revision_of(reference);
	if (wanted.revision < 0)
		return 0;
	r = parse_id(services, id, err, &wanted);
	if (r == 0)
		r = profile_find(services, wanted.rg, wanted.name, err, &profile);
	if (r < 0)
		return r;
	r = -ENOENT;
	if (profile.record)
		r = profile_document(services, profile.record, wanted.revision, err, &base);
	if (r == 0)
		merge(properties, reference, &profile, base, wanted.revision);
	if (r != -ENOENT)
		return r;
	if (refers_to_the_same(old, id, reference))
		return 0;
	if (!profile.record)
		wanted.revision = 0;
	return fail_not_found(&wanted, err);
}
