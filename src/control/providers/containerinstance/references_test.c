/* Secrets by reference: the rules, and what a node is told. */
#include "control/providers/containerinstance/groups_fixture.h"
#include "control/vault/vault.h"

#define NEW "?api-version=2025-09-01"
#define URI(name) "https://demo.vault.azure.net/secrets/" name
#define REFERENCE(name, uri) "{'name':'" name "','identity':'/x','secretReferenceUri':'" uri "'}"
#define WITH(references, variables, more)                                                          \
	"{'properties':{'osType':'Linux','containers':[" CONTAINER("a",                            \
		",'environmentVariables':[" variables "]") "],'secretReferences':[" references     \
							   "]" more "}}"

static void keep(struct world *w, const char *name, const char *value)
{
	_cleanup_json_ json_t *version = NULL;
	struct err err = {0};

	assert_int_equal(
		vault_put(w->bench->services.store, "demo", name, value, NULL, &err, &version), 0);
}

static json_t *told(struct world *w, const char *name)
{
	_cleanup_json_ json_t *record = record_of(w, name);

	return containerinstance_spec(record, NULL);
}

static const char *variable(const json_t *spec)
{
	const json_t *env =
		json_path(json_array_get(json_get_arr(spec, "containers"), 0), "env", NULL);

	return json_get_str(json_array_get(env, 0), "value", "");
}

static void every_kind_of_reference_reaches_the_node_as_its_value(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *spec = NULL;
	const json_t *volumes, *registry;
	struct bench_answer a;

	keep(w, "env", "canary-env");
	keep(w, "password", "canary-password");
	keep(w, "file", "canary-file");
	keep(w, "key", "a2V5");
	request(w, "PUT", GROUPS "/g" NEW,
		WITH(REFERENCE("e", URI("env")) "," REFERENCE("p", URI("password")) "," REFERENCE(
			     "f", URI("file")) "," REFERENCE("k", URI("key")),
			"{'name':'A','secureValueReference':'E'}",
			",'imageRegistryCredentials':[{'server':'r','username':'u','passwordReference':'p'}],"
			"'volumes':[{'name':'files','secretReference':{'one.txt':'f'}},{'name':'share','azureFile':"
			"{'shareName':'share','storageAccountName':'account','storageAccountKeyReference':'k'}}]"),
		201, &a);
	assert_null(strstr(a.body, "canary"));
	assert_non_null(strstr(a.body, "\"secretReference\":{\"one.txt\":\"f\"}"));
	assert_non_null(strstr(a.body, "\"secureValueReference\":\"E\""));
	bench_answer_done(&a);

	spec = told(w, "g");
	assert_string_equal(variable(spec), "canary-env");
	registry = json_array_get(json_get_arr(spec, "registries"), 0);
	assert_string_equal(json_get_str(registry, "password", ""), "canary-password");
	volumes = json_get_arr(spec, "volumes");
	assert_string_equal(
		json_get_str(json_get_obj(json_array_get(volumes, 0), "secret"), "one.txt", ""),
		"Y2FuYXJ5LWZpbGU=");
	assert_string_equal(
		json_get_str(json_get_obj(json_array_get(volumes, 1), "azureFile"), "key", ""),
		"a2V5");
}

static void a_secret_that_changes_reaches_a_group_when_it_is_restarted(void **state)
{
	struct world *w = *state;
	const char *body =
		WITH(REFERENCE("e", URI("env")), "{'name':'A','secureValueReference':'e'}", "");
	static const char *const steps[] = {"before", "before", "after"};

	keep(w, "env", "before");
	expect(w, "PUT", GROUPS "/g" NEW, body, 201);
	keep(w, "env", "after");
	for (int i = 0; i < 3; i++) {
		_cleanup_json_ json_t *spec = NULL;

		if (i == 1)
			expect(w, "PUT", GROUPS "/g" NEW, body, 200);
		if (i == 2)
			expect(w, "POST", GROUPS "/g/restart" NEW, NULL, 204);
		spec = told(w, "g");
		assert_string_equal(variable(spec), steps[i]);
	}
}

/* A config map alone restarts nothing, and another value would. */
static void a_secret_that_changes_does_not_come_with_a_config_map(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *spec = NULL;

	keep(w, "env", "before");
	expect(w, "PUT", GROUPS "/g" NEW,
		"{'properties':{'osType':'Linux','secretReferences':[" REFERENCE(
			"e", URI("env")) "],'containers':[" CONTAINER("a",
			",'environmentVariables':[{'name':'A','secureValueReference':'e'}],"
			"'configMap':{'keyValuePairs':{'k':'u'}}") "]}}",
		201);
	keep(w, "env", "after");
	expect(w, "PUT", GROUPS "/g" NEW,
		"{'properties':{'containers':[{'name':'c','properties':{'configMap':{'keyValuePairs':{'k':'v'}}}}]}}",
		200);
	spec = told(w, "g");
	assert_string_equal(variable(spec), "before");
	assert_int_equal(counter(w, "g", "generation"), 2);
}

#define FILES(more) ",'volumes':[{'name':'v','secretReference':{'f':'e'}" more "}]"
#define SHARED(reference)                                                                          \
	",'volumes':[{'name':'v','azureFile':{'shareName':'share','storageAccountName':"           \
	"'account','storageAccountKeyReference':'" reference "'}}]"

static void volumes_are_checked_with_their_values(void **state)
{
	struct world *w = *state;
	char large[VAULT_VALUE_MAX + 1], many[8000] = "", one[64];

	keep(w, "env", "no base64");
	expect_error(w, "PUT", GROUPS "/g" NEW, WITH(REFERENCE("e", URI("env")), "", SHARED("e")),
		400, "InvalidVolume", "properties.volumes[0].azureFile.storageAccountKey");
	expect_error(w, "PUT", GROUPS "/g" NEW,
		WITH(REFERENCE("e", URI("env")), "", FILES(",'secret':{'a':'eA=='}")), 400,
		"InvalidVolume", "properties.volumes[0]");
	expect_error(w, "PUT", GROUPS "/g" NEW,
		WITH("", "", ",'volumes':[{'name':'v','secretReference':{}}]"), 400,
		"InvalidVolume", NULL);

	memset(large, 'x', VAULT_VALUE_MAX);
	large[VAULT_VALUE_MAX] = '\0';
	keep(w, "large", large);
	for (int i = 0; i < 42; i++) {
		snprintf(one, sizeof(one), "%s'f%d':'e'", i ? "," : "", i);
		strncat(many, one, sizeof(many) - strlen(many) - 1);
	}
	{
		_cleanup_free_ char *body =
			xasprintf(WITH(REFERENCE("e", URI("large")), "",
					  ",'volumes':[{'name':'v','secretReference':{%s}}]"),
				many);

		expect_error(w, "PUT", GROUPS "/g" NEW, body, 400, "InvalidSecretReference",
			"properties.volumes[0].secretReference.f40");
	}
	assert_false(stored(w, "cg/rg/g"));
}

#define PROFILES RG "/providers/Microsoft.ContainerInstance/containerGroupProfiles"
#define PROFILE(more)                                                                              \
	"{'location':'local','properties':{'osType':'Linux','containers':[" CONTAINER("a",         \
		",'environmentVariables':[{'name':'A','secureValueReference':'e'}]") "]" more "}}"
#define FROM(references)                                                                           \
	"{'properties':{'containerGroupProfile':{'id':'" PROFILES "/p'}" references "}}"

static void the_group_says_what_the_references_of_its_profile_are(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *spec = NULL;

	keep(w, "env", "value");
	expect(w, "PUT", PROFILES "/p" NEW, PROFILE(SHARED("e")), 201);
	expect_error(w, "PUT", GROUPS "/g" NEW, FROM(""), 400, "InvalidSecretReference",
		"properties.containers[0].properties.environmentVariables[0].secureValueReference");
	keep(w, "env", "a2V5");
	expect(w, "PUT", GROUPS "/g" NEW,
		FROM(",'secretReferences':[" REFERENCE("e", URI("env")) "]"), 201);
	spec = told(w, "g");
	assert_string_equal(variable(spec), "a2V5");
}

static void what_cannot_be_looked_up_is_refused_and_nothing_is_made(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *body, *at;
	} rows[] = {
		{WITH(REFERENCE("e", URI("none")), "{'name':'A','secureValueReference':'e'}", ""),
			"properties.secretReferences[0].secretReferenceUri"},
		{WITH(REFERENCE("e", "ftp://x"), "{'name':'A','secureValueReference':'e'}", ""),
			"properties.secretReferences[0].secretReferenceUri"},
		{WITH(REFERENCE("e", URI("env")) "," REFERENCE("E", URI("env")), "", ""),
			"properties.secretReferences[1].name"},
		{WITH(REFERENCE("e", URI("env")), "{'name':'A','secureValueReference':'other'}",
			 ""),
			"properties.containers[0].properties.environmentVariables[0].secureValueReference"},
		{WITH(REFERENCE("e", URI("env")),
			 "{'name':'A','secureValue':'x','secureValueReference':'e'}", ""),
			"properties.containers[0].properties.environmentVariables[0].secureValueReference"},
		{WITH(REFERENCE("e", URI("env")), "",
			 ",'imageRegistryCredentials':[{'server':'r','username':'u','passwordReference':'x'}]"),
			"properties.imageRegistryCredentials[0].passwordReference"},
	};

	keep(w, "env", "x");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		expect_error(w, "PUT", GROUPS "/g" NEW, rows[i].body, 400, "InvalidSecretReference",
			rows[i].at);
		assert_false(stored(w, "cg/rg/g"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_kind_of_reference_reaches_the_node_as_its_value),
		TEST(a_secret_that_changes_reaches_a_group_when_it_is_restarted),
		TEST(a_secret_that_changes_does_not_come_with_a_config_map),
		TEST(volumes_are_checked_with_their_values),
		TEST(the_group_says_what_the_references_of_its_profile_are),
		TEST(what_cannot_be_looked_up_is_refused_and_nothing_is_made),
	};

	return cmocka_run_group_tests(tests, NULL, last_teardown);
}
