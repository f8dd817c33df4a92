#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "control/arm/bench.h"
#include "control/providers/signin/signin.h"

#define WELL_KNOWN "/.well-known/openid-configuration"
#define FORM "Content-Type: application/x-www-form-urlencoded"

static const struct arm_provider *const providers[] = {&signin_provider, NULL};

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

static void documents_name_our_endpoints(void **state)
{
	static const struct {
		const char *target;
		int status;
		const char *contains[3];
	} cases[] = {
		{"/metadata/endpoints?api-version=2015-01-01", 200,
			{"\"graphEndpoint\":\"https://127.0.0.1:8443/graph\"",
				"\"loginEndpoint\":\"https://127.0.0.1:8443/adfs\"",
				"\"audiences\":[\"https://127.0.0.1:8443\"]"}},
		{"/metadata/endpoints", 200, {"galleryEndpoint"}},
		{"/metadata/endpoints?api-version=2019-05-01", 200,
			{"[{\"name\":\"berth\"", "\"resourceManager\":\"https://127.0.0.1:8443\"",
				"\"storage\":\"core.berth.internal\""}},
		{"/metadata/endpoints?api-version=2022-09-01", 200,
			{"{\"name\":\"berth\"", "\"tenant\":\"" BENCH_TENANT "\""}},
		{"/adfs" WELL_KNOWN, 200,
			{"\"issuer\":\"https://127.0.0.1:8443/" BENCH_TENANT "\"",
				"\"token_endpoint\":\"https://127.0.0.1:8443/adfs/oauth2/token\"",
				"\"authorization_endpoint\":\"https://127.0.0.1:8443/adfs/oauth2/authorize\""}},
		{"/ADFS/v2.0" WELL_KNOWN, 200, {"/adfs/oauth2/token"}},
		{"/adfs/adfs" WELL_KNOWN, 200, {"/adfs/oauth2/token"}},
		{"/adfs/berth.internal" WELL_KNOWN, 200, {"/adfs/oauth2/token"}},
		{"/adfs/" BENCH_TENANT WELL_KNOWN, 200, {"/adfs/oauth2/token"}},
		{"/" BENCH_TENANT WELL_KNOWN, 200, {"/" BENCH_TENANT "/oauth2/v2.0/token"}},
		{"/" BENCH_TENANT "/v2.0" WELL_KNOWN, 200, {"/" BENCH_TENANT "/oauth2/v2.0/token"}},
		{"/adfs/elsewhere" WELL_KNOWN, 404, {"AADSTS90002"}},
		{"/33333333-3333-3333-3333-333333333333/v2.0" WELL_KNOWN, 404, {"TenantNotFound"}},
		{"/adfs/discovery/keys", 200,
			{"\"kty\":\"RSA\"", "\"e\":\"AQAB\"", "\"alg\":\"RS256\""}},
		{"/" BENCH_TENANT "/discovery/v2.0/keys", 200, {"\"kid\":"}},
	};
	static const char *const none[] = {"Authorization:", NULL};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bench_answer a;

		bench_request(*state, "GET", cases[i].target, none, NULL, &a);
		if (a.status != cases[i].status)
			fail_msg("%s: %d %s", cases[i].target, a.status, a.body);
		for (size_t j = 0; j < 3 && cases[i].contains[j]; j++)
			if (!strstr(a.body, cases[i].contains[j]))
				fail_msg("%s lacks %s: %s", cases[i].target, cases[i].contains[j],
					a.body);
		bench_answer_done(&a);
	}
}

static void token_endpoint_gives_a_token_that_works(void **state)
{
	static const char *const paths[] = {"/adfs/oauth2/token", "/adfs/oauth2/v2.0/token",
		"/adfs/adfs/oauth2/token", "/" BENCH_TENANT "/oauth2/token",
		"/" BENCH_TENANT "/oauth2/v2.0/token"};
	static const char *const headers[] = {"Authorization:", FORM "; charset=utf-8", NULL};
	struct bench *bench = *state;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct bench_answer a;
		struct principal p;

		bench_request(bench, "POST", paths[i], headers,
			"grant_type=client_credentials&client_id=" BENCH_CLIENT
			"&client_secret=" BENCH_SECRET
			"&scope=https%3A%2F%2F127.0.0.1%3A8443%2F.default&client_info=1&claims=%7B%22access_token%22%3A%7B%7D%7D",
			&a);
		if (a.status != 200)
			fail_msg("%s: %d %s", paths[i], a.status, a.body);
		assert_string_equal(json_get_str(a.json, "token_type", ""), "Bearer");
		assert_int_equal(json_get_int(a.json, "expires_in", 0), 3600);
		assert_string_equal(bench_answer_header(&a, "cache-control"), "no-store, no-cache");
		assert_int_equal(auth_token_check(bench->services.auth,
					 json_get_str(a.json, "access_token", ""), NULL, &p),
			0);
		assert_string_equal(p.client_id, BENCH_CLIENT);
		bench_answer_done(&a);
	}
}

static void token_endpoint_refuses_in_oauths_words(void **state)
{
#define ID "client_id=" BENCH_CLIENT
	static const struct {
		const char *type, *body;
		int status;
		const char *error, *description;
	} cases[] = {
		{FORM, "grant_type=client_credentials&" ID "&client_secret=wrong", 401,
			"invalid_client", "AADSTS7000215: "},
		{FORM, "grant_type=client_credentials&client_id=nobody&client_secret=wrong", 401,
			"invalid_client", "AADSTS7000215: "},
		{FORM, "grant_type=client_credentials&" ID, 401, "invalid_client",
			"AADSTS7000216: "},
		{FORM, "grant_type=client_credentials&client_secret=x", 400, "invalid_request",
			"AADSTS900144: "},
		{FORM, ID "&client_secret=x", 400, "invalid_request", "AADSTS900144: "},
		{FORM, "", 400, "invalid_request", "AADSTS900144: "},
		{FORM, "grant_type=password&username=u&password=p", 400, "unsupported_grant_type",
			"AADSTS70003: "},
		{FORM, "grant_type=refresh_token", 400, "unsupported_grant_type", "AADSTS70003: "},
		{FORM, "grant_type=client_credentials&" ID "&" ID "&client_secret=" BENCH_SECRET,
			400, "invalid_request", "AADSTS9000411: "},
		{FORM, "grant_type=%zz", 400, "invalid_request", "AADSTS9000410: "},
		{FORM, "grant_type=%00", 400, "invalid_request", "AADSTS9000410: "},
		{FORM, "grant_type=\xc3", 400, "invalid_request", "AADSTS9000410: "},
		{"Content-Type: application/json", "{}", 400, "invalid_request", "AADSTS900561: "},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *headers[] = {"Authorization:", cases[i].type, NULL};
		struct bench_answer a;

		bench_request(*state, "POST", "/adfs/oauth2/token", headers, cases[i].body, &a);
		if (a.status != cases[i].status ||
			!str_eq(json_get_str(a.json, "error", ""), cases[i].error) ||
			!str_starts(json_get_str(a.json, "error_description", ""),
				cases[i].description))
			fail_msg("%s: %d %s", cases[i].body, a.status, a.body);
		assert_true(json_integer_value(json_array_get(
				    json_get_arr(a.json, "error_codes"), 0)) > 70000);
		assert_null(strstr(a.body, BENCH_SECRET));
		bench_answer_done(&a);
	}
}

static void token_endpoint_takes_only_post(void **state)
{
	struct bench_answer a;

	bench_request(*state, "GET", "/adfs/oauth2/token", NULL, NULL, &a);
	assert_int_equal(a.status, 405);
	bench_answer_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_name_our_endpoints),
		cmocka_unit_test(token_endpoint_gives_a_token_that_works),
		cmocka_unit_test(token_endpoint_refuses_in_oauths_words),
		cmocka_unit_test(token_endpoint_takes_only_post),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
