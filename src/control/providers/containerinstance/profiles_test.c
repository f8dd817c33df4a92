/* Profiles, groups made from them, and quotas: whole requests over a memory store, without a node.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <pthread.h>

#include "control/arm/bench.h"
#include "control/providers/containerinstance/containerinstance.h"
#include "control/providers/containerinstance/internal.h"
#include "control/providers/containerinstance/profiles.h"
#include "link/link.h"

#define NS "/providers/Microsoft.ContainerInstance"
#define RG BENCH_SUB "/resourceGroups/rg"
#define PROFILES RG NS "/containerGroupProfiles"
#define GROUPS RG NS "/containerGroups"
#define LOCATION BENCH_SUB NS "/locations/local"
#define V "?api-version=2025-09-01"

static const char *node_error; /* what the node answers; NULL: it answers well */

int link_server_call(struct link_server *server, const char *node, const char *method, json_t *args,
	int timeout_ms, struct err *err, json_t **ret_data)
{
	json_decref(args);
	if (node_error)
		return err_set(err, -EHOSTUNREACH, node_error, "The node is away.");
	*ret_data =
		str_eq(method, "capacity")
			? json_pack("{s:i, s:I}", "cpus", 64, "memoryBytes", (json_int_t)8 << 30)
			: json_pack("{s:[{s:s}]}", "images", "reference", "alpine:latest");
	return 0;
}

int link_server_stream(struct link_server *server, const char *node, const char *method,
	json_t *args, int timeout_ms, struct err *err, int *ret_fd)
{
	json_decref(args);
	return err_set(err, -EHOSTUNREACH, "NodeUnavailable", "The node is away.");
}

static const struct arm_provider *const providers[] = {&containerinstance_provider, NULL};

static void put(struct bench *b, const char *key, const char *value)
{
	assert_int_equal(
		store_put(b->services.store, key, value, strlen(value), STORE_ANY, NULL, NULL), 0);
}

static struct bench *the_bench;
static struct arm_services fresh_services;

static int setup(void **state)
{
	address_forget();
	node_error = NULL;
	if (!the_bench) {
		the_bench = bench_new(providers);
		fresh_services = the_bench->services;
	}
	the_bench->services = fresh_services;
	the_bench->services.put_wait_ms = 0;
	the_bench->services.link =
		(struct link_server *)the_bench; /* opaque, and never looked at */
	put(the_bench, "rg/rg",
		"{\"group\":{\"name\":\"rg\",\"location\":\"local\",\"properties\":{\"provisioningState\":"
		"\"Succeeded\"}}}");
	*state = the_bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	_cleanup_(store_list_done) struct store_list list = {0};

	arm_free(b->arm);
	b->arm = NULL;
	assert_int_equal(store_list(b->services.store, "", NULL, 0, NULL, &list), 0);
	for (size_t i = 0; i < list.n; i++)
		if (!str_starts(list.entries[i].key, "principal/"))
			store_delete(b->services.store, list.entries[i].key, STORE_ANY, NULL);
	return 0;
}

static int last_teardown(void **state)
{
	the_bench->services = fresh_services;
	bench_free(the_bench);
	return 0;
}

/* body with ' for ". The answer's JSON, owned, or NULL. */
static json_t *request(
	struct bench *b, const char *method, const char *target, const char *body, int status)
{
	_cleanup_free_ char *text = body ? xstrdup(body) : NULL;
	struct bench_answer answer;
	json_t *json;

	for (char *c = text; c && *c; c++)
		*c = *c == '\'' ? '"' : *c;
	bench_request(b, method, target, NULL, text, &answer);
	if (answer.status != status)
		fail_msg("%s %s: %d %s", method, target, answer.status, answer.body);
	json = json_incref(answer.json);
	bench_answer_done(&answer);
	return json;
}

static void expect(
	struct bench *b, const char *method, const char *target, const char *body, int status)
{
	json_decref(request(b, method, target, body, status));
}

static void expect_error(struct bench *b, const char *method, const char *target, const char *body,
	int status, const char *code, const char *at, const char *words)
{
	_cleanup_json_ json_t *json = request(b, method, target, body, status);
	const json_t *error = json_get_obj(json, "error");

	assert_string_equal(json_get_str(error, "code", ""), code);
	if (at)
		assert_string_equal(json_get_str(error, "target", ""), at);
	if (words && !strstr(json_get_str(error, "message", ""), words))
		fail_msg("%s", json_get_str(error, "message", ""));
}

static json_t *props(const json_t *json)
{
	return json_get_obj(json, "properties");
}

static json_t *container(const json_t *json, size_t i)
{
	return json_array_get(json_get_arr(props(json), "containers"), i);
}

static const char *image(const json_t *json, size_t i)
{
	return json_get_str(props(container(json, i)), "image", "");
}

static size_t stored(struct bench *b, const char *prefix)
{
	_cleanup_(store_list_done) struct store_list list = {0};

	assert_int_equal(store_list(b->services.store, prefix, NULL, 0, NULL, &list), 0);
	return list.n;
}

#define C(name, image, more)                                                                       \
	"{'name':'" name "','properties':{'image':'" image                                         \
	"','resources':{'requests':{'cpu':1,'memoryInGB':1}}" more "}}"
#define BODY(image) "{'properties':{'osType':'Linux','containers':[" C("c", image, "") "]}}"
#define SECRET ",'environmentVariables':[{'name':'S','secureValue':'hush'}]"

/* --- profiles --- */

static void a_profile_has_revisions(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *made = request(b, "PUT", PROFILES "/My_P" V, BODY("a"), 201);
	_cleanup_json_ json_t *again = request(b, "PUT", PROFILES "/my_p" V, BODY("a"), 200);
	_cleanup_json_ json_t *changed = request(b, "PUT", PROFILES "/my_p" V, BODY("b"), 200);
	_cleanup_json_ json_t *shown = request(b, "GET", PROFILES "/MY_P" V, NULL, 200);
	_cleanup_json_ json_t *old = request(b, "GET", PROFILES "/My_P/revisions/1" V, NULL, 200);
	_cleanup_json_ json_t *all = request(b, "GET", PROFILES "/My_P/revisions" V, NULL, 200);
	_cleanup_json_ json_t *list = request(b, "GET", PROFILES V, NULL, 200);

	assert_int_equal(json_get_int(props(made), "revision", 0), 1);
	assert_string_equal(json_get_str(made, "id", ""), PROFILES "/My_P");
	assert_string_equal(json_get_str(made, "type", ""), PROFILES_TYPE);
	assert_string_equal(json_get_str(made, "location", ""), "local");
	assert_true(json_equal(made, again));
	assert_int_equal(json_get_int(props(changed), "revision", 0), 2);
	assert_int_equal(json_array_size(json_get_arr(props(changed), "registeredRevisions")), 2);
	assert_true(json_equal(changed, shown));
	assert_int_equal(json_get_int(props(old), "revision", 0), 1);
	assert_string_equal(image(old, 0), "a");
	assert_string_equal(json_get_str(old, "id", ""), PROFILES "/My_P");
	assert_int_equal(json_array_size(json_get_arr(all, "value")), 2);
	assert_int_equal(json_array_size(json_get_arr(list, "value")), 1);
	expect(b, "GET", BENCH_SUB NS "/containerGroupProfiles" V, NULL, 200);
	expect_error(b, "GET", PROFILES "/My_P/revisions/3" V, NULL, 404, "ResourceNotFound", NULL,
		"'Microsoft.ContainerInstance/containerGroupProfiles/My_P/revisions/3'");
	expect_error(b, "GET", PROFILES "/My_P/revisions/x" V, NULL, 404, "ResourceNotFound", NULL,
		NULL);
	expect(b, "DELETE", PROFILES "/My_P" V, NULL, 200);
	expect(b, "DELETE", PROFILES "/My_P" V, NULL, 204);
	assert_int_equal(stored(b, "cgprofile"), 0);
	expect_error(b, "GET", PROFILES "/My_P" V, NULL, 404, "ResourceNotFound", NULL, NULL);
	expect_error(b, "GET", PROFILES "/My_P/revisions/1" V, NULL, 404, "ResourceNotFound", NULL,
		NULL);
}

static void tags_make_no_revision(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *patched = NULL, *put_again = NULL;

	expect(b, "PUT", PROFILES "/p" V, BODY("a"), 201);
	patched = request(b, "PATCH", PROFILES "/p" V, "{'tags':{'k':'v'}}", 200);
	assert_string_equal(json_get_str(json_get_obj(patched, "tags"), "k", ""), "v");
	assert_int_equal(json_get_int(props(patched), "revision", 0), 1);
	put_again = request(b, "PUT", PROFILES "/p" V, BODY("a"), 200);
	assert_int_equal(json_get_int(props(put_again), "revision", 0), 1);
	assert_int_equal(json_object_size(json_get_obj(put_again, "tags")), 0);
	expect_error(b, "PATCH", PROFILES "/p" V, "{'properties':{'osType':'Linux'}}", 400,
		"InvalidRequestContent", "properties", "container group profile");
	expect_error(
		b, "PATCH", PROFILES "/q" V, "{'tags':{}}", 404, "ResourceNotFound", NULL, NULL);
}

static void only_the_newest_revisions_stay(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *all = NULL;

	for (int i = 1; i <= PROFILE_REVISIONS_MAX + 3; i++) {
		_cleanup_free_ char *body = xasprintf(BODY("a:%d"), i);

		expect(b, "PUT", PROFILES "/p" V, body, i == 1 ? 201 : 200);
	}
	all = request(b, "GET", PROFILES "/p/revisions" V, NULL, 200);
	assert_int_equal(json_array_size(json_get_arr(all, "value")), PROFILE_REVISIONS_MAX);
	assert_int_equal(stored(b, "cgprofile-rev/"), PROFILE_REVISIONS_MAX - 1);
	expect(b, "GET", PROFILES "/p/revisions/3" V, NULL, 404);
	expect(b, "GET", PROFILES "/p/revisions/4" V, NULL, 200);
	expect(b, "DELETE", PROFILES "/p" V, NULL, 200);
	assert_int_equal(stored(b, "cgprofile"), 0);
}

static void secrets_are_kept_and_never_shown(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *made = request(b, "PUT", PROFILES "/p" V,
		"{'properties':{'osType':'Linux','containers':[" C("c", "a", SECRET) "]}}", 201);
	_cleanup_free_ char *text = json_text(made);
	_cleanup_json_ json_t *again = request(b, "PUT", PROFILES "/p" V, text, 200);

	assert_null(strstr(text, "hush"));
	assert_int_equal(json_get_int(props(again), "revision", 0), 1);
}

static void a_profile_is_checked_as_a_group(void **state)
{
	struct bench *b = *state;

	expect_error(b, "PUT", PROFILES "/-p" V, BODY("a"), 400, "InvalidContainerGroupProfileName",
		"name", "63");
	expect_error(b, "PUT", PROFILES "/p_" V, BODY("a"), 400, "InvalidContainerGroupProfileName",
		"name", NULL);
	expect(b, "PUT", PROFILES "/A_b-9" V, BODY("a"), 201);
	expect_error(b, "PUT", PROFILES "/p" V, "{'properties':{'containers':[]}}", 400,
		"InvalidOsType", "properties.osType", NULL);
	expect_error(b, "PUT", PROFILES "/p" V, "{'properties':{'osType':'Linux'}}", 400,
		"ContainersNotSpecified", "properties.containers", NULL);
	expect_error(b, "PUT", PROFILES "/p" V, "{'properties':{'osType':'Linux','dnsConfig':{}}}",
		400, "InvalidRequestContent", "properties.dnsConfig", NULL);
	expect_error(b, "PUT", PROFILES "/p" V,
		"{'properties':{'osType':'Linux','timeToLive':'PT1H'}}", 400,
		"PropertyNotSupported", "properties.timeToLive", NULL);
	expect_error(b, "PUT", PROFILES "/p" V, "{'name':'q','properties':{'osType':'Linux'}}", 400,
		"InvalidRequestContent", "name", NULL);
	expect_error(b, "PUT", PROFILES "/p" V,
		"{'location':'mars','properties':{'osType':'Linux'}}", 400,
		"LocationNotAvailableForResourceType", "location", "containerGroupProfiles");
	expect_error(b, "PUT", BENCH_SUB "/resourceGroups/no" NS "/containerGroupProfiles/p" V,
		BODY("a"), 404, "ResourceGroupNotFound", NULL, NULL);
	expect_error(b, "PUT", PROFILES "/p?api-version=2023-05-01", BODY("a"), 400,
		"NoRegisteredProviderFound", NULL, "2024-05-01-preview");
}

static void an_older_version_sees_less(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *shown = NULL;

	expect(b, "PUT", PROFILES "/p" V, BODY("a"), 201);
	shown = request(b, "GET", PROFILES "/p?api-version=2024-05-01-preview", NULL, 200);
	assert_int_equal(json_get_int(props(shown), "revision", 0), 1);
	assert_null(json_get_arr(props(shown), "registeredRevisions"));
}

static void profiles_go_with_their_group(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *list = json_array();

	expect(b, "PUT", PROFILES "/p" V, BODY("a"), 201);
	expect(b, "PUT", PROFILES "/p" V, BODY("b"), 200);
	expect(b, "PUT", GROUPS "/g" V, BODY("a"), 201);
	assert_int_equal(
		containerinstance_provider.list_resources(&b->services, "RG", NULL, list), 0);
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(json_get_str(json_array_get(list, 1), "type", ""), PROFILES_TYPE);
	assert_int_equal(containerinstance_provider.delete_group(&b->services, "rg", NULL), 0);
	assert_int_equal(stored(b, "cgprofile"), 0);
	assert_int_equal(stored(b, "cg/"), 0);
}

/* --- groups from a profile --- */

#define FROM(name, revision, more)                                                                 \
	"{'properties':{'containerGroupProfile':{'id':'" PROFILES "/" name "'" revision "}" more   \
	"}}"
#define TWO(image)                                                                                 \
	"{'properties':{'osType':'Linux','restartPolicy':'Never','containers':[" C(                \
		"one", image, SECRET) "," C("two", image, "") "]}}"

static void a_group_takes_what_it_doesnt_say(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *all = NULL, *some = NULL;
	_cleanup_(group_done) struct group group = {0};
	const json_t *secret;

	expect(b, "PUT", PROFILES "/p" V, TWO("a"), 201);
	all = request(b, "PUT", GROUPS "/all" V, FROM("P", "", ""), 201);
	assert_string_equal(image(all, 0), "a");
	assert_string_equal(json_get_str(props(all), "restartPolicy", ""), "Never");
	assert_string_equal(
		json_get_str(json_get_obj(props(all), "containerGroupProfile"), "id", ""),
		PROFILES "/p");
	assert_int_equal(
		json_get_int(json_get_obj(props(all), "containerGroupProfile"), "revision", 0), 1);
	assert_int_equal(group_load(&b->services, "rg", "all", NULL, &group), 0);
	secret = json_array_get(
		json_get_arr(props(container(json_get_obj(group.record, "document"), 0)),
			"environmentVariables"),
		0);
	assert_string_equal(json_get_str(secret, "secureValue", ""), "hush");

	some = request(b, "PUT", GROUPS "/some" V,
		FROM("p", ",'Revision':'1'",
			",'RestartPolicy':'OnFailure','ipAddress':null,'Containers':[{'Name':'two','properties':"
			"{'configMap':{'keyValuePairs':{'k':'v'}},'Image':'b'}},{'name':'one'}," C(
				"more", "m", "") "]"),
		201);
	assert_int_equal(json_array_size(json_get_arr(props(some), "containers")), 3);
	assert_string_equal(json_get_str(container(some, 0), "name", ""), "one");
	assert_string_equal(image(some, 0), "a");
	assert_string_equal(image(some, 1), "b");
	assert_string_equal(image(some, 2), "m");
	assert_non_null(json_get_obj(props(container(some, 1)), "configMap"));
	assert_non_null(json_get_obj(props(container(some, 1)), "resources"));
	assert_string_equal(json_get_str(props(some), "restartPolicy", ""), "OnFailure");
}

static void the_whole_is_validated(void **state)
{
	struct bench *b = *state;

	expect(b, "PUT", PROFILES "/p" V, TWO("a"), 201);
	expect_error(b, "PUT", GROUPS "/g" V, FROM("p", "", ",'containers':[{'name':'three'}]"),
		400, "InvalidRequestContent", NULL, "properties");
	expect_error(b, "PUT", GROUPS "/g" V,
		FROM("p", "", ",'containers':[{'name':'three','properties':{}}]"), 400,
		"ImageNotSpecified", "properties.containers[2].properties.image", NULL);
	expect_error(b, "PUT", GROUPS "/g" V, FROM("p", "", ",'containers':{}"), 400,
		"InvalidRequestContent", "properties.containers", NULL);
	expect_error(b, "PUT", GROUPS "/g" V, FROM("p", "", ",'osType':'Linux','OsType':'Linux'"),
		400, "InvalidRequestContent", NULL, "twice");
	expect_error(b, "PUT", GROUPS "/g" V, FROM("p", ",'revision':0", ""), 400,
		"InvalidRequestContent", "properties.containerGroupProfile.revision", NULL);
	expect_error(b, "PUT", GROUPS "/g" V, "{'properties':{'containerGroupProfile':{}}}", 400,
		"InvalidRequestContent", "properties.containerGroupProfile.id", "required");
	expect_error(b, "PUT", GROUPS "/g" V,
		"{'properties':{'containerGroupProfile':{'id':'/p'}}}", 400,
		"InvalidRequestContent", "properties.containerGroupProfile.id", "must be the id");
	expect_error(b, "PUT", GROUPS "/g?api-version=2023-05-01", FROM("p", "", ""), 400,
		"InvalidRequestContent", "properties.containerGroupProfile", "2024-05-01-preview");
	expect_error(b, "PUT", GROUPS "/g" V, FROM("p", "", ",'standbyPoolProfile':{'id':'/x'}"),
		400, "PropertyNotSupported", "properties.standbyPoolProfile", NULL);
}

static void what_was_read_can_be_sent_back(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *made = NULL, *again = NULL;
	_cleanup_free_ char *text = NULL;
	_cleanup_(group_done) struct group group = {0};

	expect(b, "PUT", PROFILES "/p" V,
		"{'properties':{'osType':'Linux','initContainers':[{'name':'first','properties':{'image':'i'}}],"
		"'volumes':[{'name':'keys','secret':{'k':'aHVzaA=='}}],'containers':[" C(
			"c", "a", ",'volumeMounts':[{'name':'keys','mountPath':'/keys'}]") "]}}",
		201);
	made = request(
		b, "PUT", GROUPS "/g" V, FROM("p", "", ",'volumes':[],'initContainers':null"), 201);
	assert_int_equal(json_array_size(json_get_arr(props(made), "initContainers")), 1);
	assert_int_equal(json_array_size(json_get_arr(props(made), "volumes")), 1);
	text = json_text(made);
	assert_null(strstr(text, "aHVzaA"));
	again = request(b, "PUT", GROUPS "/g" V, text, 200);
	assert_true(json_equal(made, again));
	assert_int_equal(group_load(&b->services, "rg", "g", NULL, &group), 0);
	assert_int_equal(json_get_int(group.record, "generation", 0), 1);
	free(text);
	text = json_text(group.record);
	assert_non_null(strstr(text, "aHVzaA"));
}

static void an_absent_profile_is_named(void **state)
{
	struct bench *b = *state;

	expect_error(b, "PUT", GROUPS "/g" V, FROM("no", "", ""), 404,
		"ContainerGroupProfileNotFound", "properties.containerGroupProfile.id", "'no'");
	expect(b, "PUT", PROFILES "/p" V, TWO("a"), 201);
	expect_error(b, "PUT", GROUPS "/g" V, FROM("p", ",'revision':2", ""), 404,
		"ContainerGroupProfileNotFound", "properties.containerGroupProfile",
		"revision '2'");
}

static void a_group_outlives_its_profile(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *made = NULL, *changed = NULL, *again = NULL;
	_cleanup_free_ char *text = NULL;

	expect(b, "PUT", PROFILES "/p" V, TWO("a"), 201);
	expect(b, "PUT", GROUPS "/g" V, FROM("p", "", ""), 201);
	expect(b, "PUT", PROFILES "/p" V, TWO("b"), 200);
	made = request(b, "GET", GROUPS "/g" V, NULL, 200);
	assert_string_equal(image(made, 0), "a");
	text = json_text(made);
	changed = request(b, "PUT", GROUPS "/g" V, text, 200);
	assert_string_equal(image(changed, 0), "a");
	expect(b, "DELETE", PROFILES "/p" V, NULL, 200);
	again = request(b, "PUT", GROUPS "/g" V, text, 200);
	assert_true(json_equal(changed, again));
	expect(b, "PUT", GROUPS "/h" V, text, 404);
}

/* --- quotas --- */

static int64_t used(struct bench *b, size_t i, const char *which)
{
	_cleanup_json_ json_t *usages = request(b, "GET", LOCATION "/usages" V, NULL, 200);

	return json_get_int(json_array_get(json_get_arr(usages, "value"), i), which, -1);
}

static void expect_used(struct bench *b, int64_t groups, int64_t cores)
{
	assert_int_equal(used(b, 0, "currentValue"), groups);
	assert_int_equal(used(b, 1, "currentValue"), cores);
}

static void quotas_are_enforced(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *usages = NULL, *expected = NULL;

	b->services.quota_groups = 3;
	b->services.quota_cores = 2;
	expect(b, "PUT", GROUPS "/one" V, BODY("a"), 201);
	expect(b, "PUT", GROUPS "/one" V, BODY("b"), 409); /* still transitioning */
	expect(b, "PUT", GROUPS "/two" V, BODY("a"), 201);
	expect_error(b, "PUT", GROUPS "/three" V, BODY("a"), 400, "ContainerGroupQuotaReached",
		NULL,
		"Resource type 'Microsoft.ContainerInstance/containerGroups' container group quota "
		"'StandardCores' exceeded in region 'local'. Limit: '2', Usage: '2' Requested: '1'.");
	expect_used(b, 2, 2);
	expect(b, "POST", GROUPS "/one/stop" V, NULL, 204);
	expect_used(b, 2, 1);
	expect(b, "PUT", GROUPS "/three" V, BODY("a"), 201);
	expect_error(b, "POST", GROUPS "/one/start" V, NULL, 400, "ContainerGroupQuotaReached",
		NULL, "Usage: '2'");
	expect_error(b, "PUT", GROUPS "/one" V, BODY("a"), 400, "ContainerGroupQuotaReached", NULL,
		"StandardCores");
	expect_error(b, "PUT", GROUPS "/four" V, BODY("a"), 400, "ContainerGroupQuotaReached", NULL,
		"quota 'ContainerGroups' exceeded in region 'local'. Limit: '3', Usage: '3' Requested: "
		"'1'.");
	assert_int_equal(stored(b, "ip/"), 3);
	expect(b, "DELETE", GROUPS "/two" V, NULL, 200);
	expect(b, "POST", GROUPS "/one/start" V, NULL, 202);
	expect_used(b, 2, 2);
	usages = request(b, "GET", LOCATION "/usages" V, NULL, 200);
	expected = json_pack("{s:[{s:s, s:i, s:i, s:{s:s, s:s}}, {s:s, s:i, s:i, s:{s:s, s:s}}]}",
		"value", "unit", "Count", "currentValue", 2, "limit", 3, "name", "value",
		"ContainerGroups", "localizedValue", "Container Groups", "unit", "Count",
		"currentValue", 2, "limit", 2, "name", "value", "StandardCores", "localizedValue",
		"Standard Cores");
	assert_true(json_equal(usages, expected));
}

static void fractions_of_cores_add_up(void **state)
{
	struct bench *b = *state;

	b->services.quota_cores = 1;
	for (int i = 0; i < 10; i++) {
		_cleanup_free_ char *target = xasprintf(GROUPS "/g%d" V, i);

		expect(b, "PUT", target,
			"{'properties':{'osType':'Linux','containers':[{'name':'c','properties':{'image':'a',"
			"'resources':{'requests':{'cpu':0.1,'memoryInGB':0.1}}}}]}}",
			201);
	}
	expect_used(b, 10, 1);
	expect_error(b, "PUT", GROUPS "/x" V,
		"{'properties':{'osType':'Linux','containers':[{'name':'c','properties':{'image':'a',"
		"'resources':{'requests':{'cpu':0.01,'memoryInGB':0.1}}}}]}}",
		400, "ContainerGroupQuotaReached", NULL, "Usage: '1' Requested: '0.01'");
}

/* As after an update from a Berth that didn't count, or counted wrong. */
static void the_count_is_made_anew(void **state)
{
	struct bench *b = *state;

	expect(b, "PUT", GROUPS "/one" V, BODY("a"), 201);
	assert_int_equal(store_delete(b->services.store, "quota/local", STORE_ANY, NULL), 0);
	expect_used(b, 1, 1);
	expect(b, "PUT", GROUPS "/two" V, BODY("a"), 201);
	expect_used(b, 2, 2);
	put(b, "quota/local", "{\"groups\":7,\"centicores\":100}");
	expect_used(b, 7, 1);
	assert_int_equal(quota_resume(&b->services, NULL), 0);
	expect_used(b, 2, 2);
}

struct racer {
	struct bench *bench;
	int first, made;
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	struct arm_services *services = &racer->bench->services;
	_cleanup_json_ json_t *record = json_pack("{s:{s:{s:[{s:{s:{s:{s:f}}}}]}}}", "document",
		"properties", "containers", "properties", "resources", "requests", "cpu", 1.0);

	for (int i = 0; i < 20; i++) {
		_cleanup_(change_done) struct change change = {0};
		struct err err = {0};

		change_put(&change, STORE_ABSENT, record, "cg/rg/g%d", racer->first + i);
		if (quota_commit(services, &change, NULL, record, &err, NULL) == 0)
			racer->made++;
		else
			assert_string_equal(err.code, "ContainerGroupQuotaReached");
	}
	return NULL;
}

/* As another berthd does it: over the same store, but not under this one's lock. */
static void *disturb(void *arg)
{
	struct store *store = ((struct bench *)arg)->services.store;

	for (int i = 0; i < 50; i++) {
		_cleanup_(store_entry_done) struct store_entry entry = {0};

		if (store_get(store, "quota/local", NULL, &entry) == 0)
			store_put(store, entry.key, entry.value, entry.value_len, entry.revision,
				NULL, NULL);
	}
	return NULL;
}

static void no_race_gets_past_a_quota(void **state)
{
	struct bench *b = *state;
	struct racer racers[4];
	pthread_t threads[4], other;
	int made = 0;

	b->services.quota_groups = 50;
	pthread_create(&other, NULL, disturb, b);
	for (int i = 0; i < 4; i++) {
		racers[i] = (struct racer){.bench = b, .first = i * 100};
		pthread_create(&threads[i], NULL, race, &racers[i]);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		made += racers[i].made;
	}
	pthread_join(other, NULL);
	assert_int_equal(made, 50);
	assert_int_equal(stored(b, "cg/"), 50);
	expect_used(b, 50, 50);
}

static void more_memory_than_a_node_has_is_refused(void **state)
{
	struct bench *b = *state;

	put(b, "node/n1", "{\"node\":\"n1\",\"cpus\":1,\"memoryBytes\":1000000000}");
	expect_error(b, "PUT", GROUPS "/g" V, BODY("a"), 409, "ServiceUnavailable", NULL,
		"Resource requested: '1' CPU '1' GB memory 'Linux' OS");
	put(b, "node/n2", "{\"node\":\"n1\",\"cpus\":1,\"memoryBytes\":2000000000}");
	expect(b, "PUT", GROUPS "/g" V, BODY("a"), 201);
}

/* --- the location, subnets, operations --- */

static void capabilities_are_the_nodes(void **state)
{
	struct bench *b = *state;
	_cleanup_json_ json_t *shown = NULL;
	const json_t *bounds;

	put(b, "node/n1", "{}");
	shown = request(b, "GET", LOCATION "/capabilities" V, NULL, 200);
	bounds = json_get_obj(json_array_get(json_get_arr(shown, "value"), 0), "capabilities");
	assert_true(json_get_num(bounds, "maxCpu", 0) == 31); /* of 64 */
	assert_true(json_get_num(bounds, "maxMemoryInGB", 0) == 8);
	node_error = "NodeUnavailable";
	expect_error(
		b, "GET", LOCATION "/capabilities" V, NULL, 503, "NodeUnavailable", NULL, NULL);
	expect_error(
		b, "GET", LOCATION "/cachedImages" V, NULL, 503, "NodeUnavailable", NULL, NULL);
	assert_int_equal(store_delete(b->services.store, "node/n1", STORE_ANY, NULL), 0);
	expect_error(
		b, "GET", LOCATION "/cachedImages" V, NULL, 503, "NodeUnavailable", NULL, NULL);
	expect_error(b, "GET", BENCH_SUB NS "/locations/mars/usages" V, NULL, 400,
		"LocationNotAvailableForResourceType", NULL, NULL);
}

static void a_subnet_has_no_link(void **state)
{
	struct bench *b = *state;
	static const char *const path =
		"/providers/Microsoft.Network/virtualNetworks/v/subnets/s" NS
		"/serviceAssociationLinks/default?api-version=2023-05-01";
	_cleanup_free_ char *here = xasprintf(BENCH_SUB "/resourcegroups/RG%s", path);
	_cleanup_free_ char *nowhere = xasprintf(BENCH_SUB "/resourceGroups/no%s", path);
	_cleanup_free_ char *other = xasprintf(
		"/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/rg%s", path);

	expect(b, "DELETE", here, NULL, 204);
	expect_error(b, "DELETE", nowhere, NULL, 404, "ResourceGroupNotFound", NULL, NULL);
	expect_error(b, "DELETE", other, NULL, 404, "SubscriptionNotFound", NULL, NULL);
}

/* The first api-version of each operation: one that is older than it, and it. */
static void operations_begin_with_their_version(void **state)
{
	static const struct {
		const char *method, *target, *before, *since;
	} rows[] = {
		{"PATCH", GROUPS "/g", "2017-12-01-preview", "2018-02-01-preview"},
		{"POST", GROUPS "/g/stop", "2018-04-01", "2018-06-01"},
		{"POST", GROUPS "/g/restart", "2018-04-01", "2018-06-01"},
		{"POST", GROUPS "/g/start", "2018-09-01", "2018-10-01"},
		{"POST", GROUPS "/g/containers/c/exec", "2017-12-01-preview", "2018-02-01-preview"},
		{"POST", GROUPS "/g/containers/c/attach", "2019-12-01", "2020-11-01"},
		{"GET", GROUPS "/g/outboundNetworkDependenciesEndpoints", "2021-03-01",
			"2021-07-01"},
		{"GET", LOCATION "/usages", "2017-10-01-preview", "2017-12-01-preview"},
		{"GET", LOCATION "/capabilities", "2018-09-01", "2018-10-01"},
		{"GET", LOCATION "/cachedImages", "2018-09-01", "2018-10-01"},
		{"GET", "/providers/Microsoft.ContainerInstance/operations", "2017-08-01-preview",
			"2017-10-01-preview"},
		{"GET", PROFILES, "2023-05-01", "2024-05-01-preview"},
		{"GET", PROFILES "/p", "2023-05-01", "2024-05-01-preview"},
		{"DELETE", PROFILES "/p", "2023-05-01", "2024-05-01-preview"},
		{"GET", PROFILES "/p/revisions", "2023-05-01", "2024-05-01-preview"},
	};
	struct bench *b = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *old =
			xasprintf("%s?api-version=%s", rows[i].target, rows[i].before);
		_cleanup_free_ char *new =
			xasprintf("%s?api-version=%s", rows[i].target, rows[i].since);
		struct bench_answer answer;

		expect_error(b, rows[i].method, old, "{}", 400, "NoRegisteredProviderFound", NULL,
			rows[i].since);
		bench_request(b, rows[i].method, new, NULL, "{}", &answer);
		assert_string_not_equal(
			json_get_str(json_get_obj(answer.json, "error"), "code", ""),
			"NoRegisteredProviderFound");
		bench_answer_done(&answer);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_profile_has_revisions),
		TEST(tags_make_no_revision),
		TEST(only_the_newest_revisions_stay),
		TEST(secrets_are_kept_and_never_shown),
		TEST(a_profile_is_checked_as_a_group),
		TEST(an_older_version_sees_less),
		TEST(profiles_go_with_their_group),
		TEST(a_group_takes_what_it_doesnt_say),
		TEST(the_whole_is_validated),
		TEST(what_was_read_can_be_sent_back),
		TEST(an_absent_profile_is_named),
		TEST(a_group_outlives_its_profile),
		TEST(quotas_are_enforced),
		TEST(fractions_of_cores_add_up),
		TEST(the_count_is_made_anew),
		TEST(no_race_gets_past_a_quota),
		TEST(more_memory_than_a_node_has_is_refused),
		TEST(capabilities_are_the_nodes),
		TEST(a_subnet_has_no_link),
		TEST(operations_begin_with_their_version),
	};

	return cmocka_run_group_tests(tests, NULL, last_teardown);
}
