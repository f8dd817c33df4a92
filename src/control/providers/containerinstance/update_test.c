/* What a PUT on a group that exists keeps, merges, ignores, may change and may not. */
#include "control/providers/containerinstance/validate.h"
#include "control/providers/containerinstance/validate_fixture.h"

#define REQ(requests)                                                                              \
	"{'name':'c','properties':{'image':'alpine','resources':{'requests':" requests "}}}"
#define NEWEST "2026-07-01"

/* A document of the store. */
static json_t *stored(const char *text)
{
	struct validate_context context = fixture_context(NEWEST);
	json_t *document = fixture_parse(text);
	struct err err = {0};

	if (group_validate(document, &context, &err) < 0)
		fail_msg("%s: %s at %s: %s", text, err.code, err.target, err.message);
	return document;
}

/* What a PUT over it makes of it. NULL: refused, and err says why. */
static json_t *put_over(const json_t *old, const char *text, const char *version, struct err *err)
{
	struct validate_context context = fixture_context(version);
	_cleanup_json_ json_t *document = fixture_parse(text);

	context.old = old;
	context.ip = "100.64.0.5";
	context.fqdn = "label-a.local.berth.internal";
	context.zone = "berth.internal";
	return group_validate(document, &context, err) < 0 ? NULL : json_incref(document);
}

/* --- secrets --- */

#define SECRETS(env, init, registry, volumes)                                                      \
	G(C(",'environmentVariables':[" env "]"),                                                  \
		",'imageRegistryCredentials':[" registry "],'volumes':[" volumes                   \
		"],'initContainers':[{'name':'i','properties':{"                                   \
		"'image':'a','environmentVariables':[" init "]}}]")
#define SHARE(account, key)                                                                        \
	"{'name':'share','azureFile':{'shareName':'abc','storageAccountName':'" account "'" key "}}"
#define REPO(url) "{'name':'code','gitRepo':{'repository':'" url "','revision':'main'}}"
#define WHOLE                                                                                                \
	SECRETS("{'name':'S','secureValue':'x'},{'name':'T'}", "{'name':'I','secureValue':'y'}",             \
		"{'server':'r','username':'u','password':'p'}",                                              \
		SHARE("account", ",'storageAccountKey':'a2V5'") ",{'name':'s','secret':{'k':'dg=='}}," REPO( \
			"https://u:token@git.example/a@b.git"))

static void keeps_secrets_that_answers_hide(void **state)
{
	_cleanup_json_ json_t *old = stored(WHOLE);
	struct err err = {0};
	_cleanup_json_ json_t *new = put_over(old,
		SECRETS("{'name':'S'},{'name':'T'}", "{'name':'I'}",
			"{'server':'r','username':'u'}",
			SHARE("account", "") ",{'name':'s','secret':{}}," REPO(
				"https://git.example/a@b.git")),
		NULL, &err);

	assert_non_null(new);
	assert_true(json_equal(old, new));
}

/* The whole of what an answer shows, sent back, is the same wish. */
static void keeps_an_answer_that_comes_back(void **state)
{
	_cleanup_json_ json_t *old = stored(WHOLE);
	_cleanup_json_ json_t *record =
		json_pack("{s:s, s:s, s:O}", "name", "g", "id", ID, "document", old);

	for (size_t i = 0; containerinstance_versions[i]; i++) {
		_cleanup_json_ json_t *shown =
			group_present(record, NULL, containerinstance_versions[i], true);
		_cleanup_free_ char *text = json_text(shown);
		struct err err = {0};
		_cleanup_json_ json_t *new =
			put_over(old, text, containerinstance_versions[i], &err);

		if (strcmp(containerinstance_versions[i], "2019-12-01") < 0)
			continue; /* a PUT replaces: what that version doesn't show is gone */
		if (!new)
			fail_msg("%s: %s", containerinstance_versions[i], err.message);
		assert_true(json_equal(old, new));
	}
}

static void a_key_belongs_to_its_account(void **state)
{
	_cleanup_json_ json_t *old = stored(WHOLE);
	static const struct {
		const char *text, *code, *target;
	} cases[] = {
		{SECRETS("{'name':'S','value':'y'}", "", "{'server':'r','username':'v'}", ""),
			"InvalidImageRegistryCredential", "properties.imageRegistryCredentials[0]"},
		{SECRETS("", "", "", SHARE("other", "")), "InvalidVolume",
			"properties.volumes[0].azureFile.storageAccountKey"},
		{SECRETS("", "", "", "{'name':'t','secret':{}}"), "InvalidVolume",
			"properties.volumes[0].secret"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = {0};

		assert_null(put_over(old, cases[i].text, NULL, &err));
		assert_string_equal(err.code, cases[i].code);
		assert_string_equal(err.target, cases[i].target);
	}
}

static void a_token_belongs_to_its_repository(void **state)
{
	static const struct {
		const char *was, *sent, *is;
	} rows[] = {
		{"https://t@git.example/a", "https://git.example/a", "https://t@git.example/a"},
		{"https://t@git.example/a", "https://git.example/b", "https://git.example/b"},
		{"https://t@git.example/a", "https://other.example/a", "https://other.example/a"},
		{"https://t@git.example/a", "https://n:w@git.example/a",
			"https://n:w@git.example/a"},
		{"https://git.example/a", "https://git.example/a", "https://git.example/a"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *was =
			xasprintf(G(C(""), ",'volumes':[" REPO("%s") "]"), rows[i].was);
		_cleanup_free_ char *sent =
			xasprintf(G(C(""), ",'volumes':[" REPO("%s") "]"), rows[i].sent);
		_cleanup_json_ json_t *old = stored(was);
		struct err err = {0};
		_cleanup_json_ json_t *new = put_over(old, sent, NULL, &err);
		const json_t *volumes = json_path(new, "properties", "volumes", NULL);

		assert_non_null(new);
		assert_string_equal(
			json_get_str(json_get_obj(json_array_get(volumes, 0), "gitRepo"),
				"repository", ""),
			rows[i].is);
	}
}

static void names_of_variables_have_case(void **state)
{
	_cleanup_json_ json_t *old =
		stored(G(C(",'environmentVariables':[{'name':'S','secureValue':'x'}]"), ""));
	struct err err = {0};
	_cleanup_json_ json_t *new =
		put_over(old, G(C(",'environmentVariables':[{'name':'s'}]"), ""), NULL, &err);
	_cleanup_free_ char *text = json_text(new);

	assert_non_null(strstr(text, "\"environmentVariables\":[{\"name\":\"s\"}]"));
}

/* --- read-only properties --- */

#define ADDRESS(more)                                                                              \
	G(C(",'ports':[{'port':80}]"),                                                             \
		",'ipAddress':{'type':'Public','ports':[{'port':80}]" more "}")
#define OWN ",'dnsNameLabel':'label-a'"

static void refuses_a_changed_address(void **state)
{
	static const struct refusal cases[] = {
		{ADDRESS(OWN ",'ip':'1.2.3.4'"), "ReadOnlyPropertyChanged",
			"properties.ipAddress.ip",
			"The property 'properties.ipAddress.ip' is read-only: it is '100.64.0.5' and can't become "
			"'1.2.3.4'. Leave it out, or send back what was read."},
		{ADDRESS(OWN ",'Fqdn':'www.example'"), "ReadOnlyPropertyChanged",
			"properties.ipAddress.fqdn",
			"The property 'properties.ipAddress.fqdn' is read-only: it is "
			"'label-a.local.berth.internal' and can't become 'www.example'. Leave it out, or send back "
			"what was read."},
		{"{'Name':'other','properties':{}}", "InvalidRequestContent", "name",
			"The name 'other' in the content doesn't match the name 'g' in the URL."},
		{"{'ID':'" ID "x','properties':{}}", "InvalidRequestContent", "id",
			"The id '" ID "x' in the content doesn't match the id '" ID
			"' in the URL."},
		{"{'type':'Microsoft.Web/sites','properties':{}}", "InvalidRequestContent", "type",
			"The type 'Microsoft.Web/sites' in the content doesn't match the type '" GROUPS_TYPE
			"' in the URL."},
		{ADDRESS(OWN "},'provisioningTimeoutInSeconds':60,'volumes':null,'initContainers':["
			     "],'extensions':{"),
			"CustomProvisioningTimeoutInSecondsNotSuppported",
			"properties.provisioningTimeoutInSeconds",
			"A custom provisioning timeout is not supported for container group 'g'. Leave out "
			"'provisioningTimeoutInSeconds'."},
		{G(C1, ",'isCustomProvisioningTimeout':true"),
			"CustomProvisioningTimeoutInSecondsNotSuppported",
			"properties.isCustomProvisioningTimeout",
			"A custom provisioning timeout is not supported for container group 'g'. Leave out "
			"'isCustomProvisioningTimeout'."},
	};
	_cleanup_json_ json_t *old = stored(ADDRESS(OWN));

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = {0};

		if (put_over(old, cases[i].in, NULL, &err))
			fail_msg("accepted: %s", cases[i].in);
		assert_string_equal(err.code, cases[i].code);
		assert_string_equal(err.target, cases[i].target);
		assert_string_equal(err.message, cases[i].message);
		assert_int_equal(arm_error_status(err.code), 400);
	}
}

static void takes_read_only_properties_that_came_back(void **state)
{
	static const char *const cases[] = {
		ADDRESS(OWN ",'ip':'100.64.0.5','fqdn':'Label-A.local.berth.internal'"),
		ADDRESS(OWN ",'ip':null,'fqdn':null"),
		/* the old name, or the one that the new label gives */
		ADDRESS(",'dnsNameLabel':'label-b','fqdn':'label-a.local.berth.internal'"),
		ADDRESS(",'dnsNameLabel':'label-b','fqdn':'label-b.local.berth.internal'"),
		/* states and views move on by themselves */
		ADDRESS(OWN
			"},'provisioningState':'Creating','provisioningTimeoutInSeconds':1800,"
			"'isCustomProvisioningTimeout':false,'instanceView':{'events':[],'state':'Pending'"),
	};
	_cleanup_json_ json_t *old = stored(ADDRESS(OWN));

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = {0};
		_cleanup_json_ json_t *new = put_over(old, cases[i], NULL, &err);

		if (!new)
			fail_msg("%s: %s", cases[i], err.message);
		assert_null(json_path(new, "properties", "ipAddress", "ip", NULL));
		assert_null(json_path(new, "properties", "instanceView", NULL));
	}
}

/* --- config maps alone --- */

#define TWO                                                                                           \
	G(C(",'environmentVariables':[{'name':'S','secureValue':'x'}],'configMap':{'keyValuePairs':{" \
	    "'a':'1','b':'2'}}") ",{'name':'d','properties':{'image':'i'," RES "}}",                  \
		",'restartPolicy':'Never','volumes':[{'name':'s','secret':{'k':'dg=='}}]")
#define ONLY(name, pairs)                                                                          \
	"{'name':'" name "','properties':{'configMap':{'keyValuePairs':{" pairs "}}}}"
#define BARE(containers, more) "{'properties':{'containers':[" containers "]" more "}}"

static void merges_config_maps_alone(void **state)
{
	_cleanup_json_ json_t *old = stored(TWO);
	struct err err = {0};
	_cleanup_json_ json_t *new = put_over(
		old, "{'Properties':{'Containers':[" ONLY("c", "'a':'3'") "]}}", NEWEST, &err);
	json_t *container, *pairs;

	if (!new)
		fail_msg("%s: %s", err.code, err.message);
	assert_true(only_config_maps_differ(old, new));
	assert_int_equal(group_validate_update(old, new, "g", &err), 0);
	container = json_array_get(json_path(new, "properties", "containers", NULL), 0);
	pairs = json_path(container, "properties", "configMap", "keyValuePairs", NULL);
	assert_int_equal(json_object_size(pairs), 1);
	assert_string_equal(json_get_str(pairs, "a", ""), "3");
	/* the same once more, an empty one, and the first of a container */
	{
		_cleanup_json_ json_t *again =
			put_over(new, BARE(ONLY("c", "'a':'3'"), ""), NEWEST, &err);
		_cleanup_json_ json_t *none = put_over(new, BARE(ONLY("c", ""), ""), NEWEST, &err);
		_cleanup_json_ json_t *first = put_over(new, BARE(ONLY("d", ""), ""), NEWEST, &err);

		assert_true(json_equal(new, again));
		container = json_array_get(json_path(none, "properties", "containers", NULL), 0);
		pairs = json_path(container, "properties", "configMap", "keyValuePairs", NULL);
		assert_non_null(pairs);
		assert_int_equal(json_object_size(pairs), 0);
		assert_true(only_config_maps_differ(new, none));
		assert_false(only_config_maps_differ(new, first));
	}
}

static void merges_what_else_is_said(void **state)
{
	_cleanup_json_ json_t *old = stored(TWO);
	struct err err = {0};
	_cleanup_json_ json_t *tagged = put_over(old,
		"{'tags':{'a':'b'},'properties':{'osType':'linux','containers':[" ONLY(
			"d", "'a':'3'") "]}}",
		NEWEST, &err);
	_cleanup_json_ json_t *changed = put_over(
		old, BARE(ONLY("d", "'a':'3'"), ",'RestartPolicy':'Always'"), NEWEST, &err);

	assert_string_equal(json_string_value(json_path(tagged, "tags", "a", NULL)), "b");
	assert_int_equal(group_validate_update(old, tagged, "g", &err), 0);
	assert_int_equal(group_validate_update(old, changed, "g", &err), -EINVAL);
	assert_string_equal(err.target, "properties.restartPolicy");
}

static void refuses_config_maps_for_nobody(void **state)
{
	_cleanup_json_ json_t *old = stored(TWO);
	struct validate_context fresh = fixture_context(NEWEST);
	_cleanup_json_ json_t *document = fixture_parse(G(ONLY("c", "'a':'1'"), ""));
	struct err err = {0};

	assert_null(put_over(
		old, BARE(ONLY("c", "'a':'1'") "," ONLY("e", "'a':'1'"), ""), NEWEST, &err));
	assert_string_equal(err.code, "InvalidConfigMap");
	assert_string_equal(err.target, "properties.containers[1].name");
	assert_string_equal(err.message,
		"The container group 'g' has no container 'e' whose config map could be updated.");
	assert_null(put_over(old, BARE(ONLY("c", "'..':'1'"), ""), NEWEST, &err));
	assert_string_equal(err.code, "InvalidConfigMap");
	/* a container with more than a config map is a container; so is one of a new group */
	assert_null(put_over(old,
		G("{'name':'c','properties':{'configMap':{},'command':['x']}}", ""), NEWEST, &err));
	assert_string_equal(err.code, "ImageNotSpecified");
	assert_int_equal(group_validate(document, &fresh, &err), -EINVAL);
	assert_string_equal(err.code, "ImageNotSpecified");
	assert_null(put_over(old, BARE(ONLY("c", "'a':'1'"), ""), "2023-05-01", &err));
	assert_string_equal(err.target, "properties.containers[0].properties.configMap");
}

/* --- what may change --- */

#define D1 "{'name':'d','properties':{'image':'i'," RES "}}"
#define PORTS(container, address)                                                                  \
	G(C(",'ports':[" container "]"), ",'ipAddress':{'type':'Public','ports':[" address "]}")

static void refuses_updates_that_need_a_new_group(void **state)
{
	static const struct {
		const char *old, *new, *target;
	} cases[] = {
		{G(C1, ""), G(C1, ",'restartPolicy':'Never'"), "properties.restartPolicy"},
		{G(C1, ""), G(C1, ",'dnsConfig':{'nameServers':['1.1.1.1']}"),
			"properties.dnsConfig"},
		{G(C1, ""), G(REQ("{'cpu':2,'memoryInGB':1.5}"), ""),
			"properties.containers[0].properties.resources"},
		{G(C1, ""), G(REQ("{'cpu':1,'memoryInGB':2}"), ""),
			"properties.containers[0].properties.resources"},
		{G(C1, ""), G(C1 "," D1, ""), "properties.containers[1]"},
		{G(C1 "," D1, ""), G(C1, ""), "properties.containers"},
		{G(C1, ""), PORTS("{'port':80}", "{'port':80}"), "properties.ipAddress"},
		{PORTS("{'port':80}", "{'port':80}"),
			PORTS("{'port':80},{'port':81}", "{'port':80},{'port':81}"),
			"properties.ipAddress.ports"},
		{PORTS("{'port':80},{'port':80,'protocol':'UDP'}", "{'port':80}"),
			PORTS("{'port':80},{'port':80,'protocol':'UDP'}",
				"{'port':80,'protocol':'UDP'}"),
			"properties.ipAddress.ports"},
		{PORTS("{'port':80}", "{'port':80}"),
			PORTS("{'port':80},{'port':81}", "{'port':80}"),
			"properties.containers[0].properties.ports"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_json_ json_t *old = stored(cases[i].old), *new = stored(cases[i].new);
		struct err err = {0};

		assert_int_equal(group_validate_update(old, old, "g", &err), 0);
		assert_int_equal(group_validate_update(old, new, "g", &err), -EINVAL);
		assert_string_equal(err.code, "InvalidContainerGroupUpdate");
		assert_string_equal(err.target, cases[i].target);
		assert_string_equal(err.message,
			"The updates on container group 'g' are invalid. If you are going to update the os type, restart policy, "
			"network profile, CPU, memory or GPU resources for a container group, you must delete it first and then "
			"create a new one.");
	}
}

#define EXEC "{'exec':{'command':['true']}}"
#define VOLUME ",'volumes':[{'name':'v','emptyDir':{}}]"

static void allows_updates_in_place(void **state)
{
	static const struct {
		const char *old, *new;
	} cases[] = {
		{G(C1, ""), G("{'name':'c','properties':{'image':'other'," RES "}}", "")},
		{G(C1, ""), G(C(",'command':['x']"), "")},
		{G(C1, ""), G(C(",'environmentVariables':[{'name':'A','value':'x'}]"), "")},
		{G(C1, ""), G(C(",'livenessProbe':" EXEC ",'readinessProbe':" EXEC), "")},
		{G(C1, ""), G(C(",'configMap':{'keyValuePairs':{'a':'b'}}"), "")},
		{G(C1, ""), G(C(",'volumeMounts':[{'name':'v','mountPath':'/m'}]"), VOLUME)},
		{G(C1, VOLUME), G(C1, ",'volumes':[{'name':'v','secret':{'a':'YQ=='}}]")},
		{G(C1, ""), G(C1, ",'initContainers':[{'name':'i','properties':{'image':'a'}}]")},
		{G(C1 "," D1, ""), G(D1 "," C1, "")},
		{ADDRESS(OWN), ADDRESS(",'dnsNameLabel':'label-b'")},
		{ADDRESS(OWN), ADDRESS("")},
		{PORTS("{'port':80}", "{'port':80}"),
			PORTS("{'port':80,'protocol':'tcp'}", "{'port':80,'protocol':'TCP'}")},
		{PORTS("{'port':80},{'port':81}", "{'port':80},{'port':81}"),
			PORTS("{'port':81},{'port':80}", "{'port':81},{'port':80}")},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_json_ json_t *old = stored(cases[i].old), *new = stored(cases[i].new);
		struct err err = {0};

		if (group_validate_update(old, new, "g", &err) < 0)
			fail_msg("%s: %s", cases[i].new, err.target);
		assert_int_equal(group_validate_update(new, old, "g", &err), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_secrets_that_answers_hide),
		cmocka_unit_test(keeps_an_answer_that_comes_back),
		cmocka_unit_test(a_key_belongs_to_its_account),
		cmocka_unit_test(a_token_belongs_to_its_repository),
		cmocka_unit_test(names_of_variables_have_case),
		cmocka_unit_test(refuses_a_changed_address),
		cmocka_unit_test(takes_read_only_properties_that_came_back),
		cmocka_unit_test(merges_config_maps_alone),
		cmocka_unit_test(merges_what_else_is_said),
		cmocka_unit_test(refuses_config_maps_for_nobody),
		cmocka_unit_test(refuses_updates_that_need_a_new_group),
		cmocka_unit_test(allows_updates_in_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
