/*
 * The schema tables against the published type tables of all api-versions, of which
 * tests/fixtures/containerinstance_model.json has the facts: each property is known, honoured or
 * refused, with the versions and flags that it has there. What differs on purpose is in a list
 * here, with the reason.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <fcntl.h>

#include "base/file.h"
#include "control/providers/containerinstance/internal.h"

static const struct {
	const char *model;
	const struct schema_object *schema;
} roots[] = {
	{"ContainerGroup", &group_schema},
};

/* --- what differs on purpose --- */

enum difference { MISSING, EXTRA, VERSIONS, REQUIRED, READ_ONLY, SECRET };

static struct {
	enum difference kind;
	const char *path; /* as in a document, from its end */
	const char *reason;
	bool met;
} deliberate[] = {
	{REQUIRED, "ContainerGroup.name", "the URL has it"},
	{REQUIRED, "containers", "the rule has the service's own code"},
	{REQUIRED, "resources.requests", "the rule has the service's own code"},
	{REQUIRED, "requests.cpu", "the rule has the service's own code"},
	{REQUIRED, "requests.memoryInGB", "the rule has the service's own code"},
	{REQUIRED, "ipAddress.ports", "the rule has the service's own code"},
	{READ_ONLY, "ContainerGroup.name", "only the URL can give it"},
	{READ_ONLY, "ipAddress.ip",
		"the region chooses it; the service ignores a wish for it, too"},
	{READ_ONLY, "properties.provisioningTimeoutInSeconds",
		"the service refuses it with a code of its own"},
	{VERSIONS, "properties.provisioningTimeoutInSeconds",
		"every answer has had it since, though one version alone describes it"},
	{VERSIONS, "properties.isCustomProvisioningTimeout",
		"every answer has had it since, though one version alone describes it"},
	{SECRET, "volumes.secret", "the service never shows the values"},
	{EXTRA, "initContainers.properties.ports", "refused with words of its own"},
	{EXTRA, "initContainers.properties.resources", "refused with words of its own"},
	{EXTRA, "initContainers.properties.livenessProbe", "refused with words of its own"},
	{EXTRA, "initContainers.properties.readinessProbe", "refused with words of its own"},
	{EXTRA, "initContainers.properties.configMap", "refused with words of its own"},
};

static bool is_deliberate(enum difference kind, const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(deliberate); i++)
		if (deliberate[i].kind == kind && str_ends(path, deliberate[i].path))
			return deliberate[i].met = true;
	return false;
}

static int differences;

static void differ(enum difference kind, const char *path, const char *detail)
{
	static const char *const words[] = {"isn't in the schema", "isn't in the model",
		"has other api-versions", "is required in one only", "is read-only in one only",
		"is a secret in one only"};

	if (is_deliberate(kind, path))
		return;
	print_error("%s %s: %s\n", path, words[kind], detail);
	differences++;
}

/* --- the walk --- */

static size_t version_index(const char *version, size_t fallback)
{
	for (size_t i = 0; version && containerinstance_versions[i]; i++)
		if (str_eq(containerinstance_versions[i], version))
			return i;
	return fallback;
}

/* The versions that have something, as a range of the list. */
struct span {
	size_t first, last;
};

static struct span span_within(struct span outer, const char *since, const char *last)
{
	return (struct span){MAX(outer.first, version_index(since, 0)),
		MIN(outer.last, version_index(last, SIZE_MAX))};
}

static const struct schema_property *property_of(
	const struct schema_object *object, const char *name)
{
	for (size_t i = 0; i < object->n; i++)
		if (str_eq(object->properties[i].name, name))
			return &object->properties[i];
	return NULL;
}

static bool has_flag(const json_t *property, const char *flag)
{
	const json_t *element;
	size_t i;

	json_array_foreach (json_get_arr(property, "flags"), i, element)
		if (str_eq(json_string_value(element), flag))
			return true;
	return false;
}

static void compare_flags(
	const char *path, const json_t *model, const struct schema_property *property)
{
	static const struct {
		const char *name;
		unsigned flags;
		enum difference kind;
	} flags[] = {{"required", SCHEMA_REQUIRED, REQUIRED},
		{"readOnly", SCHEMA_READ_ONLY, READ_ONLY},
		{"secret", SCHEMA_SECRET | SCHEMA_SECRET_MAP, SECRET}};

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (has_flag(model, flags[i].name) != !!(property->flags & flags[i].flags))
			differ(flags[i].kind, path, flags[i].name);
}

static void compare_object(const json_t *models, const char *name,
	const struct schema_object *schema, const char *path, struct span span);

static void compare_property(const json_t *models, const json_t *model,
	const struct schema_property *property, const char *path, struct span span)
{
	struct span is = span_within(
		span, json_get_str(model, "since", NULL), json_get_str(model, "last", NULL));
	struct span has = span_within(span, property->since, property->last);
	const char *object = json_get_str(model, "object", NULL);
	const char *type = json_get_str(model, "type", "");

	if (is.first != has.first || is.last != has.last)
		differ(VERSIONS, path, containerinstance_versions[is.first]);
	/* What is refused whole needs no more words, nor does what is dropped whole. */
	if (property->flags & SCHEMA_UNSUPPORTED)
		return;
	compare_flags(path, model, property);
	if (property->flags & SCHEMA_READ_ONLY && !property->object)
		return;
	if (object) {
		assert_ptr_not_equal(property->object, NULL);
		assert_int_equal(
			property->type, str_eq(type, "array") ? SCHEMA_ARRAY : SCHEMA_OBJECT);
		compare_object(models, object, property->object, path, is);
	} else if (str_eq(type, "map")) {
		assert_int_equal(property->type, SCHEMA_MAP);
	}
}

static void compare_object(const json_t *models, const char *name,
	const struct schema_object *schema, const char *path, struct span span)
{
	const json_t *model = json_get_obj(models, name);
	const char *key;
	json_t *member;

	assert_non_null(model);
	json_object_foreach ((json_t *)(uintptr_t)model, key, member) {
		_cleanup_free_ char *at = xasprintf("%s.%s", path, key);
		const struct schema_property *property = property_of(schema, key);

		if (property)
			compare_property(models, member, property, at, span);
		else
			differ(MISSING, at, name);
	}
	for (size_t i = 0; i < schema->n; i++) {
		_cleanup_free_ char *at = xasprintf("%s.%s", path, schema->properties[i].name);

		if (!json_object_get(model, schema->properties[i].name))
			differ(EXTRA, at, schema->name);
	}
}

static json_t *models_load(void)
{
	_cleanup_free_ char *text = NULL;
	json_t *models = NULL;
	size_t len = 0;

	assert_int_equal(file_read(AT_FDCWD, MODEL_FIXTURE, 1 << 20, &text, &len), 0);
	assert_int_equal(json_parse(text, len, JSON_DEPTH_MAX, NULL, &models), 0);
	return models;
}

static void the_schema_has_every_property_of_the_model(void **state)
{
	_cleanup_json_ json_t *models = models_load();

	for (size_t i = 0; i < ARRAY_SIZE(roots); i++)
		compare_object(models, roots[i].model, roots[i].schema, roots[i].model,
			(struct span){0, SIZE_MAX});
	assert_int_equal(differences, 0);
	for (size_t i = 0; i < ARRAY_SIZE(deliberate); i++)
		if (!deliberate[i].met)
			fail_msg("%s: no longer differs (%s)", deliberate[i].path,
				deliberate[i].reason);
}

/* Whoever reads a refusal is told why, or what to do instead. */
static void check_reasons(const struct schema_object *object)
{
	for (size_t i = 0; i < object->n; i++) {
		const struct schema_property *property = &object->properties[i];

		if ((property->flags & (SCHEMA_UNSUPPORTED | SCHEMA_MISPLACED) ||
			    property->supported) &&
			!property->instead)
			fail_msg("%s.%s gives no reason", object->name, property->name);
		if (property->object)
			check_reasons(property->object);
	}
}

static void every_refusal_gives_a_reason(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++)
		check_reasons(roots[i].schema);
}

/* Versions are in the order of their dates, previews among the stable ones. */
static void versions_are_in_order(void **state)
{
	for (size_t i = 1; containerinstance_versions[i]; i++)
		assert_true(strcmp(containerinstance_versions[i - 1],
				    containerinstance_versions[i]) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_schema_has_every_property_of_the_model),
		cmocka_unit_test(every_refusal_gives_a_reason),
		cmocka_unit_test(versions_are_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
