#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/time.h"
#include "control/arm/bench.h"

/* --- a provider to dispatch to --- */

static int answer_name(struct arm_request *request, struct arm_response *response, struct err *err)
{
	response->body = json_pack("{s:s, s:s, s:s}", "handler", "get", "rg",
		arm_param(request, "rg"), "name", arm_param(request, "name"));
	if (arm_principal(request))
		json_put_str(response->body, "caller", arm_principal(request)->client_id);
	arm_response_header(response, "x-test", "%s", arm_param(request, "name"));
	return 0;
}

static int answer_special(
	struct arm_request *request, struct arm_response *response, struct err *err)
{
	response->body = json_pack("{s:s}", "handler", "special");
	return 0;
}

static int put_body(struct arm_request *request, struct arm_response *response, struct err *err)
{
	json_t *body = NULL;
	int r = arm_body(request, err, &body);

	if (r < 0)
		return r;
	response->status = 201;
	response->body = json_incref(body);
	return 0;
}

static int fail_with(struct arm_request *request, struct arm_response *response, struct err *err)
{
	int r = err_set(err, -EINVAL, arm_param(request, "code"), "Something of /etc/secret.");

	err_target(err, "properties.x");
	return r;
}

static int page(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_free_ char *after = NULL, *next = NULL;
	size_t limit = 0;
	int r = arm_page(request, err, &limit, &after);

	if (r < 0)
		return r;
	next = arm_page_next(request, "cg/g/last");
	response->body = json_pack("{s:I, s:s, s:s}", "limit", (json_int_t)limit, "after",
		after ? after : "", "nextLink", next);
	return 0;
}

static int slow_again(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	int64_t deadline = *(int64_t *)arm_request_state(request);
	int r = store_get(arm_services(request)->store, "slow/key", err, &entry);

	if (r < 0 && time_mono_ms() < deadline)
		return arm_request_park(request, "slow/key", 0, deadline, slow_again);
	response->body = json_pack("{s:s}", "value", r < 0 ? "none" : entry.value);
	return 0;
}

static int slow(struct arm_request *request, struct arm_response *response, struct err *err)
{
	int64_t *deadline = xmalloc(sizeof(*deadline));
	uint64_t ms = 0;

	str_to_u64(arm_query(request, "ms"), 100000, &ms);
	*deadline = time_mono_ms() + (int64_t)ms;
	arm_request_set_state(request, deadline, free);
	return slow_again(request, response, err);
}

#define GROUP "/subscriptions/{sub}/resourceGroups/{rg}/providers/Microsoft.Test/things"

static const struct arm_route routes[] = {
	{"GET", GROUP "/{name}", NULL, NULL, answer_name, 0},
	{"GET", GROUP "/special", NULL, NULL, answer_special, 0},
	{"PUT", GROUP "/{name}", NULL, NULL, put_body, 0},
	{"GET", GROUP "/{name}/new", "2023-05-01", NULL, answer_name, 0},
	{"GET", "/subscriptions/{sub}/providers/Microsoft.Test/fail/{code}", NULL, NULL, fail_with,
		0},
	{"GET", "/subscriptions/{sub}/providers/Microsoft.Test/pages", NULL, NULL, page, 0},
	{"GET", "/subscriptions/{sub}/providers/Microsoft.Test/slow", NULL, NULL, slow, 0},
	{"GET", "/open/{rg}/{name}", NULL, NULL, answer_name,
		ARM_ROUTE_ANONYMOUS | ARM_ROUTE_NO_VERSION},
};
static const char *const versions[] = {"2021-10-01", "2022-10-01-preview", "2023-05-01", NULL};
static const struct arm_provider test_provider = {.name = "Microsoft.Test",
	.routes = routes,
	.n_routes = ARRAY_SIZE(routes),
	.versions = versions};
static const struct arm_provider *const providers[] = {&test_provider, NULL};

static int setup(void **state)
{
	*state = bench_new(providers);
	return 0;
}

static int teardown(void **state)
{
	bench_free(*state);
	return 0;
}

/* --- golden exchanges --- */

#define RG BENCH_SUB "/resourceGroups/G/providers/Microsoft.Test/things"
#define V "?api-version=2023-05-01"
#define DEEP "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["

static const struct {
	const char *method, *target, *header, *body;
	int status;
	const char *code;     /* error.code, NULL: none */
	const char *contains; /* in the body; NULL: whatever */
} golden[] = {
	{"GET", RG "/n" V, NULL, NULL, 200, NULL, "\"rg\":\"G\",\"name\":\"n\""},
	{"GET", RG "/n" V, NULL, NULL, 200, NULL, "\"caller\":\"" BENCH_CLIENT "\""},
	{"GET", BENCH_SUB "/RESOURCEgroups/G/Providers/microsoft.test//THINGS/n/" V, NULL, NULL,
		200, NULL, "\"name\":\"n\""},
	{"GET", RG "/a%20b" V, NULL, NULL, 200, NULL, "\"name\":\"a b\""},
	{"GET", RG "/SPECIAL" V, NULL, NULL, 200, NULL, "special"},
	/* The literal has no PUT, the parameter beside it has. */
	{"PUT", RG "/special" V, NULL, "{}", 201, NULL, NULL},
	{"PUT", RG "/n" V, NULL, "{\"a\":1}", 201, NULL, "{\"a\":1}"},
	{"PUT", RG "/n" V, "content-type: application/json; charset=utf-8", "{\"a\":1}", 201, NULL,
		NULL},
	{"PUT", RG "/n" V, "content-type: text/plain", "{\"a\":1}", 415, "UnsupportedMediaType",
		NULL},
	{"PUT", RG "/n" V, NULL, "{\"a\":1", 400, "InvalidRequestContent",
		"The request content was invalid and could not be deserialized: '"},
	{"PUT", RG "/n" V, NULL, "{\"a\":1,\"a\":2}", 400, "InvalidRequestContent", NULL},
	{"PUT", RG "/n" V, NULL, "[]", 400, "InvalidRequestContent", NULL},
	{"PUT", RG "/n" V, NULL, NULL, 400, "InvalidRequestContent", NULL},
	{"PUT", RG "/n" V, NULL, DEEP DEEP, 400, "InvalidRequestContent", "nested"},
	{"GET", "/open/a/b", "Authorization:", NULL, 200, NULL,
		"{\"handler\":\"get\",\"rg\":\"a\",\"name\":\"b\"}"},
	/* who */
	{"GET", RG "/n" V, "Authorization:", NULL, 401, "AuthenticationFailed", NULL},
	{"GET", "/nowhere", "Authorization:", NULL, 401, "AuthenticationFailed", NULL},
	{"GET", RG "/n" V, "Authorization: Basic YTpi", NULL, 401,
		"AuthenticationFailedInvalidHeader", NULL},
	{"GET", RG "/n" V, "Authorization: Bearer abc", NULL, 401, "InvalidAuthenticationToken",
		NULL},
	/* where */
	{"GET", "/nowhere", NULL, NULL, 404, "ResourceNotFound", NULL},
	{"GET", "/", NULL, NULL, 404, "ResourceNotFound", NULL},
	{"GET", RG "/n/nowhere" V, NULL, NULL, 404, "InvalidResourceType",
		"'things/nowhere' could not be found in the namespace 'Microsoft.Test' for api version '2023-05-01'"},
	{"GET", BENCH_SUB "/resourceGroups/G/providers/Microsoft.Nope/things/n" V, NULL, NULL, 404,
		"InvalidResourceNamespace", "'Microsoft.Nope'"},
	{"GET", "/subscriptions/33333333-3333-3333-3333-333333333333/providers/Microsoft.Test/pages" V,
		NULL, NULL, 404, "SubscriptionNotFound", NULL},
	{"GET", "/subscriptions/mine/providers/Microsoft.Test/pages" V, NULL, NULL, 400,
		"InvalidSubscriptionId", "'mine'"},
	{"DELETE", RG "/n" V, NULL, NULL, 405, "MethodNotAllowed", NULL},
	{"GET", RG "/a%2fb" V, NULL, NULL, 400, "InvalidRequestUri", NULL},
	{"GET", RG "/%00" V, NULL, NULL, 400, "InvalidRequestUri", NULL},
	{"GET", RG "/n?api-version=%zz", NULL, NULL, 400, "InvalidRequestUri", NULL},
	/* api-version */
	{"GET", RG "/n", NULL, NULL, 400, "MissingApiVersionParameter", NULL},
	{"GET", RG "/n?api-version=", NULL, NULL, 400, "MissingApiVersionParameter", NULL},
	{"GET", RG "/n?API-VERSION=2022-10-01-PREVIEW", NULL, NULL, 200, NULL, NULL},
	{"GET", RG "/n?api-version=2099-01-01", NULL, NULL, 400, "NoRegisteredProviderFound",
		"API version '2099-01-01' for type 'things'. The supported api-versions are '2021-10-01, 2022-10-01-preview, 2023-05-01'. The supported locations are 'local'."},
	{"GET", RG "/n?api-version=1.0", NULL, NULL, 400, "InvalidApiVersionParameter",
		"'2021-10-01,2022-10-01-preview,2023-05-01'"},
	{"GET", RG "/n/new?api-version=2021-10-01", NULL, NULL, 400, "NoRegisteredProviderFound",
		"are '2023-05-01'"},
	{"GET", RG "/n/new" V, NULL, NULL, 200, NULL, NULL},
	/* errors */
	{"GET", BENCH_SUB "/providers/Microsoft.Test/fail/InvalidDnsNameLabel" V, NULL, NULL, 400,
		"InvalidDnsNameLabel", "\"target\":\"properties.x\""},
	{"GET", BENCH_SUB "/providers/Microsoft.Test/fail/ContainerGroupTransitioning" V, NULL,
		NULL, 409, "ContainerGroupTransitioning", NULL},
	{"GET", BENCH_SUB "/providers/Microsoft.Test/fail/Whatever" V, NULL, NULL, 500,
		"InternalServerError", "Encountered"},
	/* pages */
	{"GET", BENCH_SUB "/providers/Microsoft.Test/pages" V "&$top=3", NULL, NULL, 200, NULL,
		"{\"limit\":3,\"after\":\"\",\"nextLink\":\"" BENCH_ENDPOINT BENCH_SUB
		"/providers/Microsoft.Test/pages" V "&$top=3&$skiptoken=Y2cvZy9sYXN0\"}"},
	{"GET", BENCH_SUB "/providers/Microsoft.Test/pages" V "&%24skipToken=Y2cvZy9sYXN0", NULL,
		NULL, 200, NULL,
		"{\"limit\":1000,\"after\":\"cg/g/last\",\"nextLink\":\"" BENCH_ENDPOINT BENCH_SUB
		"/providers/Microsoft.Test/pages" V "&$skiptoken=Y2cvZy9sYXN0\"}"},
	{"GET", BENCH_SUB "/providers/Microsoft.Test/pages" V "&$top=99999", NULL, NULL, 200, NULL,
		"{\"limit\":1000,"},
	{"GET", BENCH_SUB "/providers/Microsoft.Test/pages" V "&$top=0", NULL, NULL, 400,
		"InvalidQueryParameterValue", NULL},
	{"GET", BENCH_SUB "/providers/Microsoft.Test/pages" V "&$top=x", NULL, NULL, 400,
		"InvalidQueryParameterValue", NULL},
	{"GET", BENCH_SUB "/providers/Microsoft.Test/pages" V "&$skiptoken=!", NULL, NULL, 400,
		"InvalidSkipToken", NULL},
	{"GET", BENCH_SUB "/providers/Microsoft.Test/pages" V "&$skiptoken=AAAA", NULL, NULL, 400,
		"InvalidSkipToken", NULL},
};

static void dispatch_answers_as_the_table_says(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
		const char *headers[] = {golden[i].header, NULL};
		struct bench_answer a;
		const char *code;

		bench_request(
			*state, golden[i].method, golden[i].target, headers, golden[i].body, &a);
		code = json_string_value(json_path(a.json, "error", "code", NULL));
		if (a.status != golden[i].status ||
			(golden[i].code ? !code || !str_eq(code, golden[i].code) : code != NULL) ||
			(golden[i].contains && !strstr(a.body, golden[i].contains)))
			fail_msg("%s %s: %d %s", golden[i].method, golden[i].target, a.status,
				a.body);
		bench_answer_done(&a);
	}
}

static void every_answer_has_arms_headers(void **state)
{
	static const char *const headers[] = {
		"x-ms-client-request-id: abc-1", "X-MS-Correlation-Request-Id: corr-2", NULL};
	static const struct {
		const char *name, *value;
	} expected[] = {
		{"cache-control", "no-cache"},
		{"pragma", "no-cache"},
		{"expires", "-1"},
		{"strict-transport-security", "max-age=31536000; includeSubDomains"},
		{"x-content-type-options", "nosniff"},
		{"content-type", "application/json; charset=utf-8"},
		{"x-ms-client-request-id", "abc-1"},
		{"x-ms-correlation-request-id", "corr-2"},
		{"x-test", "n"},
	};
	struct bench_answer a;

	bench_request(*state, "GET", RG "/n" V, headers, NULL, &a);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_string_equal(bench_answer_header(&a, expected[i].name), expected[i].value);
	assert_int_equal(strlen(bench_answer_header(&a, "x-ms-request-id")), 36);
	bench_answer_done(&a);

	bench_request(*state, "GET", "/nowhere", NULL, NULL, &a);
	assert_int_equal(a.status, 404);
	assert_null(bench_answer_header(&a, "x-ms-client-request-id"));
	assert_string_equal(bench_answer_header(&a, "x-ms-request-id"),
		bench_answer_header(&a, "x-ms-correlation-request-id"));
	bench_answer_done(&a);
}

static void refusal_says_where_to_sign_in(void **state)
{
	static const char *const none[] = {"Authorization:", NULL};
	struct bench_answer a;

	bench_request(*state, "GET", RG "/n" V, none, NULL, &a);
	assert_string_equal(bench_answer_header(&a, "www-authenticate"),
		"Bearer authorization_uri=\"https://127.0.0.1:8443/adfs\", error=\"invalid_token\", "
		"error_description=\"Authentication failed. The 'Authorization' header is missing.\"");
	bench_answer_done(&a);
	bench_request(*state, "DELETE", RG "/n" V, NULL, NULL, &a);
	assert_string_equal(bench_answer_header(&a, "allow"), "GET, PUT");
	bench_answer_done(&a);
}

static void internal_words_stay_inside(void **state)
{
	struct bench_answer a;

	bench_request(*state, "GET", BENCH_SUB "/providers/Microsoft.Test/fail/Whatever" V, NULL,
		NULL, &a);
	assert_null(strstr(a.body, "secret"));
	bench_answer_done(&a);
}

static void unregistered_namespace_takes_no_put(void **state)
{
	struct bench *bench = *state;
	struct bench_answer a;

	assert_int_equal(store_put(bench->services.store, "meta/unregistered/microsoft.test", "{}",
				 2, STORE_ANY, NULL, NULL),
		0);
	bench_request(bench, "PUT", RG "/n" V, NULL, "{}", &a);
	assert_int_equal(a.status, 409);
	assert_non_null(strstr(a.body, "MissingSubscriptionRegistration"));
	bench_answer_done(&a);
	bench_request(bench, "GET", RG "/n" V, NULL, NULL, &a);
	assert_int_equal(a.status, 200);
	bench_answer_done(&a);
	assert_int_equal(store_delete(bench->services.store, "meta/unregistered/microsoft.test",
				 STORE_ANY, NULL),
		0);
}

/* --- parking --- */

static void parked_request_ends_at_its_deadline(void **state)
{
	struct bench_answer a;
	int64_t start = time_mono_ms();

	bench_request(*state, "GET", BENCH_SUB "/providers/Microsoft.Test/slow" V "&ms=150", NULL,
		NULL, &a);
	assert_true(time_mono_ms() - start >= 149);
	assert_string_equal(a.body, "{\"value\":\"none\"}");
	bench_answer_done(&a);
}

static void write_key(void *arg)
{
	struct store *store = arg;

	/* A neighbour of the key isn't the key. */
	assert_int_equal(store_put(store, "slow/keys", "no", 2, STORE_ANY, NULL, NULL), 0);
	assert_int_equal(store_put(store, "slow/key", "yes", 3, STORE_ANY, NULL, NULL), 0);
}

static void parked_request_wakes_with_its_key(void **state)
{
	struct bench *bench = *state;
	struct bench_answer a;
	int64_t start = time_mono_ms();

	loop_after(bench->loop, 50, write_key, bench->services.store);
	bench_request(bench, "GET", BENCH_SUB "/providers/Microsoft.Test/slow" V "&ms=30000", NULL,
		NULL, &a);
	assert_true(time_mono_ms() - start < 20000);
	assert_string_equal(a.body, "{\"value\":\"yes\"}");
	bench_answer_done(&a);
	assert_int_equal(store_delete(bench->services.store, "slow/key", STORE_ANY, NULL), 0);
}

static struct {
	struct http_request request;
	atomic_int answers, status;
	char token[2048];
} parked;

static const struct http_request *parked_request(void *exchange)
{
	return &parked.request;
}

static const char *parked_header(void *exchange, const char *name)
{
	return str_eq_nocase(name, "authorization") ? parked.token : NULL;
}

static void parked_respond(void *exchange, const struct http_response *response)
{
	atomic_store(&parked.status, response->status);
	atomic_fetch_add(&parked.answers, 1);
}

static void stopping_answers_what_is_parked(void **state)
{
	static const struct arm_transport transport = {
		parked_request, parked_header, parked_respond};
	struct bench *bench = bench_new(providers);
	struct bench_answer a;

	snprintf(parked.token, sizeof(parked.token), "Bearer %s", bench->token);
	parked.request = (struct http_request){.method = "GET",
		.path = BENCH_SUB "/providers/Microsoft.Test/slow",
		.query = "api-version=2023-05-01&ms=60000",
		.body = "",
		.peer = ""};
	bench_request(bench, "GET", "/open/a/b", NULL, NULL, &a);
	bench_answer_done(&a);
	for (int i = 0; i < 20; i++)
		arm_accept(bench->arm, &transport, NULL);
	for (int i = 0; i < 10; i++)
		loop_once(bench->loop, 10);
	assert_int_equal(atomic_load(&parked.answers), 0);
	bench_free(bench);
	assert_int_equal(atomic_load(&parked.answers), 20);
	assert_int_equal(atomic_load(&parked.status), 503);
}

/* --- what other providers use --- */

static void group_is_found_in_any_case(void **state)
{
	struct bench *bench = *state;
	static const char record[] =
		"{\"uid\":\"u\",\"group\":{\"name\":\"Gr\",\"properties\":{\"provisioningState\":\"Deleting\"}}}";
	_cleanup_free_ char *key = arm_resource_group_key("GR");
	json_t *group = NULL;
	struct err err = {0};

	assert_string_equal(key, "rg/gr");
	assert_int_equal(arm_resource_group_get(&bench->services, "gR", &err, NULL), -ENOENT);
	assert_string_equal(err.code, "ResourceGroupNotFound");
	assert_string_equal(err.message, "Resource group 'gR' could not be found.");
	assert_int_equal(store_put(bench->services.store, key, record, strlen(record), STORE_ANY,
				 NULL, NULL),
		0);
	assert_int_equal(arm_resource_group_get(&bench->services, "gR", &err, &group), 0);
	assert_string_equal(json_get_str(group, "name", ""), "Gr");
	json_decref(group);
	assert_int_equal(
		arm_resource_group_for_write(&bench->services, "gr", &err, NULL, NULL), -EBUSY);
	assert_string_equal(err.code, "ResourceGroupBeingDeleted");
	assert_int_equal(
		arm_resource_group_get(&bench->services, "a\xc3\xa9", &err, NULL), -ENOENT);
}

static void tags_have_bounds(void **state)
{
	char long_name[600], name[16];
	json_t *tags = json_object();
	struct err err = {0};

	memset(long_name, 'n', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = '\0';
	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		json_object_set_new(tags, name, json_string("v"));
	}
	assert_int_equal(arm_tags_check(NULL, &err), 0);
	assert_int_equal(arm_tags_check(tags, &err), 0);
	json_object_set_new(tags, "one more", json_string("v"));
	assert_int_equal(arm_tags_check(tags, &err), -EINVAL);
	assert_string_equal(err.code, "InvalidTags");
	json_object_clear(tags);
	json_object_set_new(tags, long_name, json_string("v"));
	assert_int_equal(arm_tags_check(tags, &err), -EINVAL);
	json_object_clear(tags);
	json_object_set_new(tags, "a", json_stringn(long_name, 257));
	assert_int_equal(arm_tags_check(tags, &err), -EINVAL);
	json_object_set_new(tags, "a", json_integer(1));
	assert_int_equal(arm_tags_check(tags, &err), -EINVAL);
	assert_string_equal(err.target, "tags.a");
	json_object_clear(tags);
	json_object_set_new(tags, "a<b", json_string("v"));
	assert_int_equal(arm_tags_check(tags, &err), -EINVAL);
	assert_string_equal(err.code, "InvalidTagNameCharacters");
	json_decref(tags);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dispatch_answers_as_the_table_says),
		cmocka_unit_test(every_answer_has_arms_headers),
		cmocka_unit_test(refusal_says_where_to_sign_in),
		cmocka_unit_test(internal_words_stay_inside),
		cmocka_unit_test(unregistered_namespace_takes_no_put),
		cmocka_unit_test(parked_request_ends_at_its_deadline),
		cmocka_unit_test(parked_request_wakes_with_its_key),
		cmocka_unit_test(stopping_answers_what_is_parked),
		cmocka_unit_test(group_is_found_in_any_case),
		cmocka_unit_test(tags_have_bounds),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
