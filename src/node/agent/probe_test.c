/* Init containers, probes and name servers: the checks of the spec, the counting, and what a
 * group's state and openness follow from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>

#include "base/file.h"
#include "base/time.h"
#include "node/agent/prober.h"

/* "{'a':1}" with single quotes, into a spec of two init containers and two containers. */
static json_t *spec_with(const char *probe, const char *dns)
{
	_cleanup_free_ char *text = xasprintf(
		"{'name':'g','hostname':'g','address':'100.64.0.5','restartPolicy':'Always',"
		"'initContainers':[{'name':'i1','image':'a:1'},{'name':'i2','image':'a:1'}],"
		"'containers':[{'name':'c1','image':'a:1','cpu':1,'readinessProbe':%s},"
		"{'name':'c2','image':'a:1','cpu':1}],'dns':%s}",
		probe, dns);
	json_t *json = NULL;

	for (char *c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	assert_int_equal(json_parse(text, strlen(text), JSON_DEPTH_MAX, NULL, &json), 0);
	return json;
}

static struct group_spec *parsed(const char *probe, const char *dns)
{
	_cleanup_json_ json_t *json = spec_with(probe, dns);
	struct group_spec *spec = NULL;
	struct err err = {0};

	if (group_spec_parse(json, 1, &err, &spec) < 0)
		assert_string_equal(err.code, "InvalidGroupSpec");
	return spec;
}

static void probes_are_bounded(void **state)
{
	static const char *const bad[] = {
		"{}",
		"{'exec':['a'],'http':{'port':80}}",
		"{'exec':[]}",
		"{'exec':[1]}",
		"{'http':{'port':0}}",
		"{'http':{'port':65536}}",
		"{'http':{'port':80,'path':'x'}}",
		"{'http':{'port':80,'path':'/a b'}}",
		"{'http':{'port':80,'path':'/\\r\\nX: y'}}",
		"{'http':{'port':80,'scheme':'file'}}",
		"{'http':{'port':80,'headers':[{'name':'A:','value':'b'}]}}",
		"{'http':{'port':80,'headers':[{'name':'','value':'b'}]}}",
		"{'http':{'port':80,'headers':[{'name':'A','value':'b\\nC: d'}]}}",
		"{'http':{'port':80},'periodSeconds':0}",
		"{'http':{'port':80},'timeoutSeconds':-1}",
		"{'http':{'port':80},'failureThreshold':0}",
		"{'http':{'port':80},'initialDelaySeconds':99999999}",
	};
	_cleanup_(group_spec_freep) struct group_spec *spec = NULL;
	const struct probe_spec *probe;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_null(parsed(bad[i], "null"));
	spec = parsed(
		"{'http':{'port':8080,'scheme':'HTTPS','path':'/x?y'},'periodSeconds':3}", "null");
	assert_non_null(spec);
	probe = spec->containers[2].probes[PROBE_READINESS];
	assert_true(probe->https && probe->port == 8080 && probe->period_s == 3);
	assert_true(probe->timeout_s == 1 && probe->success_threshold == 1 &&
		    probe->failure_threshold == 3 && probe->initial_delay_s == 0);
	assert_null(spec->containers[2].probes[PROBE_LIVENESS]);
}

static void name_servers_are_checked_and_written(void **state)
{
	static const char *const bad[] = {
		"{'nameServers':['example.org']}",
		"{'nameServers':['1.2.3.4\\nx']}",
		"{'nameServers':[1]}",
		"{'searchDomains':['a b']}",
		"{'options':['a\\nnameserver 1.2.3.4']}",
		"{'searchDomains':['']}",
	};
	_cleanup_(group_spec_freep) struct group_spec *spec = NULL;
	_cleanup_free_ char *text = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_null(parsed("null", bad[i]));
	spec = parsed("null", "{'nameServers':['192.0.2.1','2001:db8::1'],"
			      "'searchDomains':['a.example'],'options':['ndots:2']}");
	assert_non_null(spec);
	text = spec_dns_text(spec->dns);
	assert_string_equal(text, "search a.example\nnameserver 192.0.2.1\n"
				  "nameserver 2001:db8::1\noptions ndots:2\n");
}

static void names_are_unique_over_both_lists(void **state)
{
	_cleanup_json_ json_t *json = spec_with("null", "null");
	struct group_spec *spec = NULL;

	json_object_set_new(
		json_array_get(json_get_arr(json, "initContainers"), 1), "name", json_string("c1"));
	assert_int_equal(group_spec_parse(json, 1, NULL, &spec), -EINVAL);
}

static struct group_spec *parsed_copy(const json_t *json)
{
	_cleanup_json_ json_t *copy = json_deep_copy(json);
	struct group_spec *spec = NULL;

	assert_int_equal(group_spec_parse(copy, 1, NULL, &spec), 0);
	return spec;
}

static void init_containers_have_a_hash_of_their_own(void **state)
{
	_cleanup_json_ json_t *json = spec_with("null", "null");
	_cleanup_(group_spec_freep) struct group_spec *before = parsed_copy(json);
	_cleanup_(group_spec_freep) struct group_spec *after = NULL, *none = NULL;

	assert_int_equal(before->n_init, 2);
	assert_int_equal(before->n_containers, 4);
	json_object_set_new(
		json_array_get(json_get_arr(json, "initContainers"), 0), "image", json_string("b"));
	after = parsed_copy(json);
	assert_string_not_equal(before->init_hash, after->init_hash);
	assert_string_equal(before->containers[2].hash, after->containers[2].hash);
	json_object_del(json, "initContainers");
	none = parsed_copy(json);
	assert_string_equal(none->init_hash, "");
}

static void thresholds_are_counted_in_a_row(void **state)
{
	static const struct {
		int success, failure;
		bool passing;
		const char *results; /* '+' and '-' */
		const char *turns;   /* '.' or what passing turned to */
	} rows[] = {
		{1, 3, true, "--+---", ".....-"},
		{1, 1, true, "-+", "-+"},
		{2, 1, false, "+-++-", "...+-"},
		{1, 3, false, "--+--+", "..+..."},
		{3, 2, true, "--+++", ".-..+"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct probe_count count = {.success_threshold = rows[i].success,
			.failure_threshold = rows[i].failure,
			.passing = rows[i].passing};

		for (size_t k = 0; rows[i].results[k]; k++) {
			bool turned = probe_count(&count, rows[i].results[k] == '+');
			char expected = rows[i].turns[k];

			assert_int_equal(turned, expected != '.');
			if (turned)
				assert_int_equal(count.passing, expected == '+');
		}
	}
}

static void an_http_status_is_a_success_or_says_why_not(void **state)
{
	char words[64];

	for (int status = 200; status < 400; status += 100) {
		probe_http_words("http://a:1/", status, "", words, sizeof(words));
		assert_string_equal(words, "");
	}
	probe_http_words("http://a:1/", 404, "", words, sizeof(words));
	assert_string_equal(words, "HTTP probe failed with statuscode: 404");
	probe_http_words("http://a:1/", 0, "Connection refused", words, sizeof(words));
	assert_string_equal(words, "Get \"http://a:1/\": Connection refused");
}

static struct group *new_group(const char *probe)
{
	struct group *group = xnew(struct group);

	group->dir = xstrdup("/nowhere");
	group->cancel_fd = -EBADF;
	str_copy(group->provisioning, sizeof(group->provisioning), "Creating");
	pthread_mutex_init(&group->lock, NULL);
	group_set_spec(group, parsed(probe, "null"));
	return group;
}

static void set(struct container *c, enum container_phase phase, int exit_code, bool ready)
{
	c->phase = phase;
	c->current.exit_code = exit_code;
	c->started_once = c->started_once || phase == CONTAINER_RUNNING;
	c->ready = ready;
}

static void a_group_is_what_its_containers_are(void **state)
{
	/* W waiting, R running, Y running and ready, 0 ended well, 1 ended badly. */
	static const struct {
		const char *containers; /* i1 i2 c1 c2; c1 has a readiness probe */
		const char *state;
		bool open;
	} rows[] = {
		{"WWWW", "Pending", false},
		{"RWWW", "Pending", false},
		{"0RWW", "Pending", false},
		{"1WWW", "Failed", false},
		{"01WW", "Failed", false},
		{"00WW", "Pending", false},
		{"00RW", "Pending", false},
		{"00RR", "Running", false},
		{"00YR", "Running", true},
		{"00Y1", "Running", true},
		{"00R1", "Running", false},
		{"000R", "Running", true},
		{"0000", "Succeeded", true},
		{"0001", "Failed", true},
		{"00YR", "Running", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct group *group = new_group("{'exec':['true']}");
		_cleanup_json_ json_t *status = NULL;

		for (size_t k = 0; k < 4; k++) {
			char c = rows[i].containers[k];

			set(&group->containers[k],
				c == 'W'	       ? CONTAINER_WAITING
				: c == 'R' || c == 'Y' ? CONTAINER_RUNNING
						       : CONTAINER_TERMINATED,
				c == '1', c == 'Y');
		}
		status = group_status(group);
		assert_string_equal(json_get_str(status, "state", ""), rows[i].state);
		assert_int_equal(group_is_ready(group), rows[i].open);
		assert_int_equal(json_array_size(json_get_arr(status, "initContainers")), 2);
		assert_int_equal(json_array_size(json_get_arr(status, "containers")), 2);
		group_free(group);
	}
}

static void a_failed_init_container_is_named(void **state)
{
	struct group *group = new_group("null");
	struct err err = {0};

	set(&group->containers[0], CONTAINER_TERMINATED, 0, false);
	init_describe_failure(group, &err);
	assert_string_equal(err.code, "");
	set(&group->containers[1], CONTAINER_TERMINATED, 7, false);
	init_describe_failure(group, &err);
	assert_string_equal(err.code, "InitContainerFailed");
	assert_non_null(strstr(err.message, "'i2'"));
	assert_non_null(strstr(err.message, "exit code 7"));
	group_free(group);
}

static void ends(struct group *group, size_t i, int exit_code)
{
	struct container *c = &group->containers[i];

	c->phase = CONTAINER_RUNNING;
	c->restarted = false;
	c->current.exit_code = exit_code;
	container_apply_policy(group, c);
}

static void the_policy_of_init_containers_and_of_unhealthy_ones(void **state)
{
	static const struct {
		enum restart_policy policy;
		size_t container; /* 0: an init container, 2: a container */
		bool unhealthy;
		int exit_code;
		enum container_phase phase;
	} rows[] = {
		{RESTART_ALWAYS, 0, false, 0, CONTAINER_TERMINATED},
		{RESTART_ALWAYS, 0, false, 1, CONTAINER_WAITING},
		{RESTART_ON_FAILURE, 0, false, 0, CONTAINER_TERMINATED},
		{RESTART_ON_FAILURE, 0, false, 1, CONTAINER_WAITING},
		{RESTART_NEVER, 0, false, 1, CONTAINER_TERMINATED},
		{RESTART_ALWAYS, 2, false, 0, CONTAINER_WAITING},
		{RESTART_ON_FAILURE, 2, false, 0, CONTAINER_TERMINATED},
		{RESTART_ON_FAILURE, 2, true, 0, CONTAINER_WAITING},
		{RESTART_NEVER, 2, true, 137, CONTAINER_TERMINATED},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct group *group = new_group("null");

		group->spec->policy = rows[i].policy;
		group->containers[rows[i].container].unhealthy = rows[i].unhealthy;
		ends(group, rows[i].container, rows[i].exit_code);
		assert_int_equal(group->containers[rows[i].container].phase, rows[i].phase);
		group_free(group);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(probes_are_bounded),
		cmocka_unit_test(name_servers_are_checked_and_written),
		cmocka_unit_test(names_are_unique_over_both_lists),
		cmocka_unit_test(init_containers_have_a_hash_of_their_own),
		cmocka_unit_test(thresholds_are_counted_in_a_row),
		cmocka_unit_test(an_http_status_is_a_success_or_says_why_not),
		cmocka_unit_test(a_group_is_what_its_containers_are),
		cmocka_unit_test(a_failed_init_container_is_named),
		cmocka_unit_test(the_policy_of_init_containers_and_of_unhealthy_ones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
