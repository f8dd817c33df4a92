#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "control/arm/bench.h"
#include "control/providers/keyvault/keyvault.h"

#define SECRET "/vaults/demo/secrets/db-password"
#define VERSION "?api-version=7.4"

static const struct arm_provider *const providers[] = {&keyvault_provider, NULL};

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

static void expect(void **state, const char *method, const char *target, const char *body,
	int status, const char *contains)
{
	struct bench_answer a;

	bench_request(*state, method, target, NULL, body, &a);
	if (a.status != status || (contains && !strstr(a.body, contains)))
		fail_msg("%s %s: %d %s", method, target, a.status, a.body);
	bench_answer_done(&a);
}

static void a_secret_from_put_to_delete(void **state)
{
	expect(state, "GET", SECRET VERSION, NULL, 404, "SecretNotFound");
	expect(state, "PUT", SECRET VERSION, "{\"value\":\"one\",\"tags\":{\"a\":\"b\"}}", 200,
		"\"value\":\"one\"");
	expect(state, "PUT", SECRET VERSION, "{\"value\":\"two\"}", 200,
		"https://127.0.0.1:8443/vaults/demo/secrets/db-password/");
	expect(state, "GET", SECRET VERSION, NULL, 200, "\"value\":\"two\"");
	expect(state, "GET", SECRET "/versions" VERSION, NULL, 200, "\"tags\":{\"a\":\"b\"}");
	expect(state, "GET", SECRET "/0123" VERSION, NULL, 404, "SecretNotFound");
	expect(state, "GET", "/vaults/demo/secrets" VERSION, NULL, 200,
		"https://127.0.0.1:8443/vaults/demo/secrets/db-password\"");
	expect(state, "DELETE", SECRET VERSION, NULL, 200, "db-password");
	expect(state, "GET", SECRET VERSION, NULL, 404, "SecretNotFound");
}

static void a_list_shows_no_value(void **state)
{
	struct bench_answer a;

	expect(state, "PUT", SECRET VERSION, "{\"value\":\"canary-value\"}", 200, NULL);
	bench_request(*state, "GET", "/vaults/demo/secrets" VERSION, NULL, NULL, &a);
	assert_null(strstr(a.body, "canary-value"));
	bench_answer_done(&a);
}

static void bad_requests_say_what_is_allowed(void **state)
{
	static const char *const bodies[] = {"{}", "{\"value\":1}", "{\"value\":\"x\",\"color\":1}",
		"{\"value\":\"x\",\"attributes\":{\"exp\":1}}",
		"{\"value\":\"x\",\"attributes\":\"enabled\"}",
		"{\"value\":\"x\",\"contentType\":1}"};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
		expect(state, "PUT", SECRET VERSION, bodies[i], 400, "BadParameter");
	expect(state, "GET", "/vaults/d_m/secrets" VERSION, NULL, 400, "3 to 24 letters");
	expect(state, "PUT", "/vaults/d_m/secrets/a" VERSION, "{\"value\":\"x\"}", 400,
		"3 to 24 letters");
	expect(state, "PUT", SECRET VERSION, "{\"value\":\"x\",\"attributes\":{\"enabled\":false}}",
		200, NULL);
	expect(state, "GET", SECRET VERSION, NULL, 403, "SecretDisabled");
}

static void nobody_reads_without_a_token(void **state)
{
	static const char *const none[] = {"Authorization:", NULL};
	struct bench_answer a;

	bench_request(*state, "GET", SECRET VERSION, none, NULL, &a);
	assert_int_equal(a.status, 401);
	bench_answer_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_secret_from_put_to_delete, setup, teardown),
		cmocka_unit_test_setup_teardown(a_list_shows_no_value, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_requests_say_what_is_allowed, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_reads_without_a_token, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
