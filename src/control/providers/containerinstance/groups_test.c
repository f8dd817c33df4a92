/* The life of groups: create, read, stop, start, delete, and their addresses and labels. */
#include "control/providers/containerinstance/groups_fixture.h"

static void create_answers_with_the_final_state(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;
	int64_t start = time_mono_ms();

	request(w, "PUT", GROUPS "/g" V, PUBLIC("a", LABEL("label")), 201, &answer);
	assert_true(time_mono_ms() - start < 900);
	assert_null(bench_answer_header(&answer, "Azure-AsyncOperation"));
	expect_member(answer.json, "properties.provisioningState", "Succeeded");
	expect_member(answer.json, "properties.instanceView.state", "Running");
	expect_member(answer.json, "properties.ipAddress.ip", "100.64.0.2");
	expect_member(answer.json, "properties.ipAddress.fqdn", "label.local.berth.internal");
	expect_member(answer.json, "id", GROUPS "/g");
	expect_member(answer.json, "location", "local");
	bench_answer_done(&answer);
	assert_true(stored(w, "ip/100.64.0.2"));
	assert_true(stored(w, "label/local/label"));
	expect_shown(w, GROUPS "/G" V, "name", "g");
}

static void a_slow_create_is_polled(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;
	_cleanup_free_ char *poll = NULL;
	_cleanup_json_ json_t *record = NULL;

	w->does = NODE_NOTHING;
	w->bench->services.put_wait_ms = 30;
	request(w, "PUT", GROUPS "/g" V, PUBLIC("a", ""), 201, &answer);
	expect_member(answer.json, "properties.provisioningState", "Pending");
	expect_member(answer.json, "properties.ipAddress.ip", "<none>");
	assert_non_null(bench_answer_header(&answer, "Azure-AsyncOperation"));
	assert_string_equal(bench_answer_header(&answer, "Retry-After"), "1");
	poll = xstrdup(
		bench_answer_header(&answer, "Azure-AsyncOperation") + strlen(BENCH_ENDPOINT));
	assert_true(str_starts(poll, LOCATION "/operations/"));
	assert_true(str_ends(poll, "?api-version=2018-06-01"));
	bench_answer_done(&answer);

	request(w, "GET", poll, NULL, 200, &answer);
	expect_member(answer.json, "status", "Pending");
	assert_string_equal(bench_answer_header(&answer, "Retry-After"), "1");
	bench_answer_done(&answer);

	record = record_of(w, "g");
	write_status(w, record, "Succeeded", "Running");
	request(w, "GET", poll, NULL, 200, &answer);
	expect_member(answer.json, "status", "Succeeded");
	expect_member(answer.json, "id", GROUPS "/g");
	assert_int_equal(json_array_size(json_path(answer.json, "properties", "events", NULL)), 1);
	bench_answer_done(&answer);
	expect_shown(w, GROUPS "/g" V, "properties.ipAddress.ip", "100.64.0.2");

	/* What became of it stays known after the next change. */
	w->does = NODE_RUNS;
	expect(w, "POST", GROUPS "/g/stop" V, NULL, 204);
	expect_shown(w, poll, "status", "Succeeded");
	expect_error(w, "GET", LOCATION "/operations/00000000-0000-4000-8000-000000000000" V, NULL,
		404, "OperationNotFound", NULL);
}

static void a_failed_create_says_why_and_can_be_repeated(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;
	_cleanup_free_ char *poll = NULL;

	w->does = NODE_FAILS;
	request(w, "PUT", GROUPS "/g" V, BODY("a"), 201, &answer);
	expect_member(answer.json, "properties.provisioningState", "Failed");
	poll = xstrdup(
		bench_answer_header(&answer, "Azure-AsyncOperation") + strlen(BENCH_ENDPOINT));
	bench_answer_done(&answer);
	request(w, "GET", poll, NULL, 200, &answer);
	expect_member(answer.json, "status", "Failed");
	expect_member(answer.json, "error.code", "InaccessibleImage");
	expect_member(answer.json, "error.message", "The image isn't accessible.");
	bench_answer_done(&answer);

	w->does = NODE_RUNS;
	request(w, "PUT", GROUPS "/g" V, BODY("a"), 200, &answer);
	expect_member(answer.json, "properties.provisioningState", "Succeeded");
	bench_answer_done(&answer);
	/* What has come up already goes on: it is no new run of the group. */
	assert_int_equal(counter(w, "g", "runs"), 1);
	assert_int_equal(counter(w, "g", "generation"), 2);
	expect_shown(w, poll, "status", "Failed");
}

static void an_unchanged_put_changes_nothing(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;

	expect(w, "PUT", GROUPS "/g" V, PUBLIC("a", LABEL("label")), 201);
	request(w, "PUT", GROUPS "/g" V, PUBLIC("a", LABEL("label")), 200, &answer);
	assert_null(bench_answer_header(&answer, "Azure-AsyncOperation"));
	assert_int_equal(counter(w, "g", "generation"), 1);
	/* An answer sent back is the same wish. */
	expect(w, "PUT", GROUPS "/g" V, answer.body, 200);
	assert_int_equal(counter(w, "g", "generation"), 1);
	bench_answer_done(&answer);
}

static void an_update_keeps_the_address(void **state)
{
	struct world *w = *state;

	expect(w, "PUT", GROUPS "/g" V, PUBLIC("a", LABEL("label-a")), 201);
	expect(w, "PUT", GROUPS "/g" V, PUBLIC("b", LABEL("label-b")), 200);
	assert_int_equal(counter(w, "g", "generation"), 2);
	assert_int_equal(counter(w, "g", "runs"), 1);
	assert_false(stored(w, "label/local/label-a"));
	assert_true(stored(w, "label/local/label-b"));
	expect_shown(w, GROUPS "/g" V, "properties.ipAddress.ip", "100.64.0.2");
	expect_shown(w, GROUPS "/g" V, "properties.ipAddress.fqdn", "label-b.local.berth.internal");
	expect(w, "PUT", GROUPS "/g" V, PUBLIC("b", ""), 200);
	assert_false(stored(w, "label/local/label-b"));
	expect_shown(w, GROUPS "/g" V, "properties.ipAddress.fqdn", "<none>");
	expect_error(w, "PUT", GROUPS "/g" V, BODY("b"), 400, "InvalidContainerGroupUpdate",
		"properties.ipAddress");
}

static void a_group_in_transition_can_only_be_ended(void **state)
{
	struct world *w = *state;

	w->does = NODE_NOTHING;
	w->bench->services.put_wait_ms = 10;
	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 201);
	expect_error(w, "PUT", GROUPS "/g" V, BODY("b"), 409, "ContainerGroupTransitioning", NULL);
	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 200);
	expect_error(
		w, "POST", GROUPS "/g/start" V, NULL, 409, "ContainerGroupTransitioning", NULL);
	expect_error(
		w, "POST", GROUPS "/g/restart" V, NULL, 409, "ContainerGroupTransitioning", NULL);
	expect(w, "POST", GROUPS "/g/stop" V, NULL, 204);
	expect(w, "DELETE", GROUPS "/g" V, NULL, 200);
}

static void a_deleted_group_holds_its_address_until_the_node_is_done(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *record = NULL;
	_cleanup_free_ char *gone = NULL;
	struct bench_answer answer;

	expect(w, "PUT", GROUPS "/g" V, PUBLIC("a", LABEL("label")), 201);
	record = record_of(w, "g");
	gone = xasprintf("gone/%s", json_get_str(record, "uid", ""));
	request(w, "DELETE", GROUPS "/g" V, NULL, 200, &answer);
	expect_member(answer.json, "name", "g");
	bench_answer_done(&answer);
	assert_true(stored(w, gone));
	assert_true(stored(w, "ip/100.64.0.2"));
	assert_false(stored(w, "label/local/label"));
	expect_error(w, "GET", GROUPS "/g" V, NULL, 404, "ResourceNotFound", NULL);
	expect(w, "DELETE", GROUPS "/g" V, NULL, 204);
	expect(w, "PUT", GROUPS "/g" V, PUBLIC("a", LABEL("label")), 201);
	expect_shown(w, GROUPS "/g" V, "properties.ipAddress.ip", "100.64.0.3");
}

static void a_label_belongs_to_one_group(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;

	expect(w, "PUT", GROUPS "/g" V, PUBLIC("a", LABEL("label")), 201);
	request(w, "PUT", GROUPS "/h" V, PUBLIC("a", LABEL("label")), 409, &answer);
	expect_member(answer.json, "error.code", "DnsNameLabelNotAvailable");
	expect_member(answer.json, "error.message",
		"The DNS name label 'label' in container group 'h' not available. Try using a different label.");
	expect_member(answer.json, "error.target", "properties.ipAddress.dnsNameLabel");
	bench_answer_done(&answer);
	assert_false(stored(w, "cg/rg/h"));
	expect(w, "DELETE", GROUPS "/g" V, NULL, 200);
	expect(w, "PUT", GROUPS "/h" V, PUBLIC("a", LABEL("label")), 201);
}

static void addresses_come_from_their_pool_and_run_out(void **state)
{
	struct world *w = *state;

	w->bench->services.public_pool = "10.0.0.0/29";
	expect(w, "PUT", GROUPS "/private" V, BODY("a"), 201);
	assert_true(stored(w, "ip/100.64.128.2"));
	put(w, "ip/10.0.0.3", "{}"); /* somebody else's, known from the start */
	for (int i = 0; i < 4; i++) {
		_cleanup_free_ char *target = xasprintf(GROUPS "/g%d" V, i);

		expect(w, "PUT", target, PUBLIC("a", ""), 201);
	}
	assert_true(stored(w, "ip/10.0.0.2") && stored(w, "ip/10.0.0.6"));
	expect_error(w, "PUT", GROUPS "/g9" V, PUBLIC("a", ""), 409, "AddressesExhausted", NULL);
	assert_int_equal(store_delete(w->bench->services.store, "ip/10.0.0.3", STORE_ANY, NULL), 0);
	expect(w, "PUT", GROUPS "/g9" V, PUBLIC("a", ""), 201);
	expect_shown(w, GROUPS "/g9" V, "properties.ipAddress.ip", "10.0.0.3");
	/* Another berthd took one since: the claim in the store decides, and the next one is tried.
	 */
	assert_int_equal(store_delete(w->bench->services.store, "ip/10.0.0.6", STORE_ANY, NULL), 0);
	expect(w, "PUT", GROUPS "/ga" V, PUBLIC("a", ""), 201);
	assert_int_equal(store_delete(w->bench->services.store, "ip/10.0.0.5", STORE_ANY, NULL), 0);
}

static void a_taken_address_is_passed_over(void **state)
{
	struct world *w = *state;

	expect(w, "PUT", GROUPS "/g" V, PUBLIC("a", ""), 201);
	put(w, "ip/100.64.0.3", "{}"); /* after the bitmap was made */
	expect(w, "PUT", GROUPS "/h" V, PUBLIC("a", ""), 201);
	expect_shown(w, GROUPS "/h" V, "properties.ipAddress.ip", "100.64.0.4");
}

static void stop_start_and_restart_count(void **state)
{
	struct world *w = *state;

	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 201);
	expect(w, "POST", GROUPS "/g/start" V, NULL, 204); /* runs already */
	assert_int_equal(counter(w, "g", "runs"), 1);
	expect(w, "POST", GROUPS "/g/restart" V, NULL, 204);
	assert_int_equal(counter(w, "g", "restarts"), 1);
	expect(w, "POST", GROUPS "/g/stop" V, NULL, 204);
	expect_shown(w, GROUPS "/g" V, "properties.instanceView.state", "Stopped");
	expect(w, "POST", GROUPS "/g/stop" V, NULL, 204);
	expect(w, "POST", GROUPS "/g/start" V, NULL, 204);
	assert_int_equal(counter(w, "g", "runs"), 2);
	expect_shown(w, GROUPS "/g" V, "properties.instanceView.state", "Running");
	expect(w, "POST", GROUPS "/g/stop" V, NULL, 204);
	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 200); /* deploys it anew */
	assert_int_equal(counter(w, "g", "runs"), 3);
	expect_shown(w, GROUPS "/g" V, "properties.instanceView.state", "Running");
	expect_error(w, "POST", GROUPS "/none/stop" V, NULL, 404, "ResourceNotFound", NULL);
}

static void a_slow_start_is_polled(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;
	_cleanup_free_ char *location = NULL;
	_cleanup_json_ json_t *record = NULL;

	w->bench->services.put_wait_ms = 200;
	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 201);
	expect(w, "POST", GROUPS "/g/stop" V, NULL, 204);
	w->does = NODE_NOTHING;
	request(w, "POST", GROUPS "/g/start" V, NULL, 202, &answer);
	assert_non_null(bench_answer_header(&answer, "Azure-AsyncOperation"));
	location = xstrdup(bench_answer_header(&answer, "Location") + strlen(BENCH_ENDPOINT));
	bench_answer_done(&answer);
	expect(w, "GET", location, NULL, 202);
	record = record_of(w, "g");
	write_status(w, record, "Succeeded", "Running");
	expect(w, "GET", location, NULL, 204);
}

static void patch_changes_tags_only(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;

	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 201);
	request(w, "PATCH", GROUPS "/g" V, "{'location':'local','tags':{'a':'b'},'zones':[]}", 200,
		&answer);
	expect_member(answer.json, "tags.a", "b");
	bench_answer_done(&answer);
	expect(w, "PATCH", GROUPS "/g" V, "{}", 200);
	expect_shown(w, GROUPS "/g" V, "tags.a", "b");
	assert_int_equal(counter(w, "g", "generation"), 1);
	expect_error(w, "PATCH", GROUPS "/g" V, "{'properties':{'osType':'Linux'}}", 400,
		"InvalidRequestContent", "properties");
	expect_error(w, "PATCH", GROUPS "/none" V, "{}", 404, "ResourceNotFound", NULL);
}

static void lists_have_pages_and_no_views(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;
	json_t *first;

	for (int i = 0; i < 3; i++) {
		_cleanup_free_ char *target = xasprintf(GROUPS "/g%d" V, i);

		expect(w, "PUT", target, BODY("a"), 201);
	}
	request(w, "GET", GROUPS V, NULL, 200, &answer);
	assert_int_equal(json_array_size(json_get_arr(answer.json, "value")), 3);
	assert_null(json_object_get(answer.json, "nextLink"));
	first = json_array_get(json_get_arr(answer.json, "value"), 0);
	expect_member(first, "properties.provisioningState", "Succeeded");
	assert_null(json_path(first, "properties", "instanceView", NULL));
	bench_answer_done(&answer);
	request(w, "GET",
		BENCH_SUB "/providers/Microsoft.ContainerInstance/containerGroups" V "&$top=2",
		NULL, 200, &answer);
	assert_int_equal(json_array_size(json_get_arr(answer.json, "value")), 2);
	{
		_cleanup_free_ char *next =
			xstrdup(json_get_str(answer.json, "nextLink", "") + strlen(BENCH_ENDPOINT));

		bench_answer_done(&answer);
		request(w, "GET", next, NULL, 200, &answer);
		assert_int_equal(json_array_size(json_get_arr(answer.json, "value")), 1);
		expect_member(json_array_get(json_get_arr(answer.json, "value"), 0), "name", "g2");
	}
	bench_answer_done(&answer);
	expect_error(w, "GET",
		BENCH_SUB
		"/resourceGroups/none/providers/Microsoft.ContainerInstance/containerGroups" V,
		NULL, 404, "ResourceGroupNotFound", NULL);
}

static void refusals_name_their_reason(void **state)
{
	struct world *w = *state;

	expect_error(w, "PUT", GROUPS "/g" V, "{'properties':{'osType':'Linux','containers':[]}}",
		400, "ContainersNotSpecified", "properties.containers");
	expect_error(
		w, "PUT", GROUPS "/Bad" V, BODY("a"), 400, "InvalidContainerGroupName", "name");
	expect_error(w, "PUT",
		BENCH_SUB
		"/resourceGroups/none/providers/Microsoft.ContainerInstance/containerGroups/g" V,
		BODY("a"), 404, "ResourceGroupNotFound", NULL);
	expect_error(w, "PUT",
		BENCH_SUB
		"/resourceGroups/dying/providers/Microsoft.ContainerInstance/containerGroups/g" V,
		BODY("a"), 409, "ResourceGroupBeingDeleted", NULL);
	expect_error(w, "GET",
		BENCH_SUB
		"/resourceGroups/none/providers/Microsoft.ContainerInstance/containerGroups/g" V,
		NULL, 404, "ResourceGroupNotFound", NULL);
	expect_error(w, "GET", GROUPS "/a.b" V, NULL, 404, "ResourceNotFound", NULL);
}

static void containers_have_logs(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;

	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 201);
	expect_error(w, "GET", GROUPS "/g/containers/c/logs" V, NULL, 503, "NodeUnavailable", NULL);
	put(w, "node/n1", "{}");
	expect_error(
		w, "GET", GROUPS "/g/containers/x/logs" V, NULL, 404, "ContainerNotFound", NULL);
	expect_error(w, "GET", GROUPS "/g/containers/c/logs" V "&tail=-1", NULL, 400,
		"InvalidQueryParameterValue", NULL);
	request(w, "GET", GROUPS "/g/containers/c/logs" V "&tail=5&timestamps=true", NULL, 200,
		&answer);
	expect_member(answer.json, "content",
		"{\"container\":\"c\",\"maxBytes\":67108864,\"tail\":5,\"timestamps\":true,\"previous\":false}\xef\xbf\xbd\n");
	bench_answer_done(&answer);
}

static void a_container_that_never_ran_has_no_log(void **state)
{
	struct world *w = *state;

	w->does = NODE_NOTHING;
	w->bench->services.put_wait_ms = 0;
	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 201);
	expect_error(w, "GET", GROUPS "/g/containers/c/logs" V, NULL, 409,
		"ContainerLogNotAvailable", NULL);
}

static void a_region_has_usages_capabilities_and_images(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;

	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 201);
	put(w, "node/n1", "{}");
	request(w, "GET", LOCATION "/usages" V, NULL, 200, &answer);
	assert_string_equal(answer.body,
		"{\"value\":[{\"unit\":\"Count\",\"currentValue\":1,\"limit\":500,\"name\":{\"value\":\"ContainerGroups\","
		"\"localizedValue\":\"Container Groups\"}},{\"unit\":\"Count\",\"currentValue\":1,\"limit\":1000,\"name\":{"
		"\"value\":\"StandardCores\",\"localizedValue\":\"Standard Cores\"}}]}");
	bench_answer_done(&answer);
	request(w, "GET", LOCATION "/capabilities" V, NULL, 200, &answer);
	assert_string_equal(answer.body,
		"{\"value\":[{\"resourceType\":\"containerGroups\",\"osType\":\"Linux\",\"location\":\"local\","
		"\"ipAddressType\":\"Public\",\"gpu\":\"None\",\"capabilities\":{\"maxMemoryInGB\":8.0,\"maxCpu\":4.0,"
		"\"maxGpuCount\":0.0}}]}");
	bench_answer_done(&answer);
	request(w, "GET", LOCATION "/cachedImages" V, NULL, 200, &answer);
	assert_string_equal(
		answer.body, "{\"value\":[{\"osType\":\"Linux\",\"image\":\"alpine:latest\"}]}");
	bench_answer_done(&answer);
	request(w, "GET", GROUPS "/g/outboundNetworkDependenciesEndpoints" V, NULL, 200, &answer);
	assert_string_equal(answer.body, "[]");
	bench_answer_done(&answer);
	request(w, "GET", "/providers/Microsoft.ContainerInstance/operations" V, NULL, 200,
		&answer);
	assert_true(json_array_size(json_get_arr(answer.json, "value")) > 10);
	bench_answer_done(&answer);
	expect_error(w, "GET",
		BENCH_SUB "/providers/Microsoft.ContainerInstance/locations/mars/usages" V, NULL,
		400, "LocationNotAvailableForResourceType", NULL);
}

static void a_resource_group_lists_and_deletes_its_groups(void **state)
{
	struct world *w = *state;
	const struct arm_provider *provider = &containerinstance_provider;
	_cleanup_json_ json_t *list = json_array();
	_cleanup_json_ json_t *types = provider->resource_types(&w->bench->services);

	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 201);
	expect(w, "PUT", GROUPS "/h" V, PUBLIC("a", LABEL("label")), 201);
	assert_int_equal(provider->list_resources(&w->bench->services, "RG", NULL, list), 0);
	assert_int_equal(json_array_size(list), 2);
	expect_member(json_array_get(list, 1), "id", GROUPS "/h");
	assert_int_equal(provider->delete_group(&w->bench->services, "RG", NULL), 0);
	assert_false(
		stored(w, "cg/rg/g") || stored(w, "cg/rg/h") || stored(w, "label/local/label"));
	expect_member(json_array_get(types, 0), "resourceType", "containerGroups");
	assert_int_equal(
		json_array_size(json_get_arr(json_array_get(types, 0), "apiVersions")), 26);
}

static void every_version_is_spoken(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; containerinstance_versions[i]; i++) {
		_cleanup_free_ char *target =
			xasprintf(GROUPS "/g%zu?api-version=%s", i, containerinstance_versions[i]);
		struct bench_answer answer;

		expect(w, "PUT", target, BODY("a"), 201);
		request(w, "GET", target, NULL, 200, &answer);
		expect_member(answer.json, "properties.provisioningState", "Succeeded");
		expect(w, "PUT", target, answer.body, 200);
		bench_answer_done(&answer);
	}
}

static void what_is_to_be_executed_has_a_bound(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *more =
		xasprintf("{'arguments':['echo','%0*d','%0*d']}", 40000, 0, 40000, 0);

	expect(w, "PUT", GROUPS "/g" V, BODY("a"), 201);
	expect_error(w, "POST", GROUPS "/g/containers/c/exec" V, more, 400, "InvalidCommand", NULL);
	expect_error(w, "POST", GROUPS "/g/containers/c/exec" V, "{'arguments':['']}", 400,
		"InvalidCommand", NULL);
	expect_error(w, "POST", GROUPS "/g/containers/c/exec" V,
		"{'arguments':['a'],'command':'a'}", 400, "InvalidCommand", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_to_be_executed_has_a_bound),
		TEST(create_answers_with_the_final_state),
		TEST(a_slow_create_is_polled),
		TEST(a_failed_create_says_why_and_can_be_repeated),
		TEST(an_unchanged_put_changes_nothing),
		TEST(an_update_keeps_the_address),
		TEST(a_group_in_transition_can_only_be_ended),
		TEST(a_deleted_group_holds_its_address_until_the_node_is_done),
		TEST(a_label_belongs_to_one_group),
		TEST(addresses_come_from_their_pool_and_run_out),
		TEST(a_taken_address_is_passed_over),
		TEST(stop_start_and_restart_count),
		TEST(a_slow_start_is_polled),
		TEST(patch_changes_tags_only),
		TEST(lists_have_pages_and_no_views),
		TEST(refusals_name_their_reason),
		TEST(containers_have_logs),
		TEST(a_container_that_never_ran_has_no_log),
		TEST(a_region_has_usages_capabilities_and_images),
		TEST(a_resource_group_lists_and_deletes_its_groups),
		TEST(every_version_is_spoken),
	};

	return cmocka_run_group_tests(tests, NULL, last_teardown);
}
