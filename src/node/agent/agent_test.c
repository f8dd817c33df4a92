/* What needs neither root nor a container: the spec's checks, events, what is kept on disk, the
 * shape of a status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/time.h"
#include "node/agent/group.h"

static json_t *valid_spec(void)
{
	return json_pack(
		"{s:s, s:s, s:s, s:s, s:b, s:[{s:i, s:s}], s:s, s:I, s:[{s:s, s:s, s:[s, s], s:[{s:s, s:s}], s:f, s:I}]}",
		"name", "web", "hostname", "web", "desired", "running", "address", "100.64.0.5",
		"public", 1, "ports", "port", 80, "protocol", "TCP", "restartPolicy", "OnFailure",
		"runs", (json_int_t)1, "containers", "name", "web", "image", "hello:1", "command",
		"/bin/hello", "-v", "env", "name", "A", "value", "b=c", "cpu", 0.5, "memoryBytes",
		(json_int_t)1 << 30);
}

static void a_valid_spec_is_taken_apart(void **state)
{
	_cleanup_json_ json_t *json = valid_spec();
	_cleanup_(group_spec_freep) struct group_spec *spec = NULL;
	struct err err = {0};

	assert_int_equal(group_spec_parse(json, 7, &err, &spec), 0);
	assert_int_equal(spec->generation, 7);
	assert_int_equal(spec->policy, RESTART_ON_FAILURE);
	assert_true(spec->public_address && !spec->stopped);
	assert_int_equal(spec->ports[0].port, 80);
	assert_string_equal(spec->containers[0].command[1], "-v");
	assert_null(spec->containers[0].command[2]);
	assert_string_equal(spec->containers[0].env[0], "A=b=c");
	assert_int_equal(spec->containers[0].memory_limit_bytes, 1 << 30);
}

static void a_bad_spec_is_refused_with_the_name_of_what_is_wrong(void **state)
{
	static const struct {
		const char *key, *value, *named;
	} rows[] = {
		{"hostname", "../x", "hostname"},
		{"address", "1.2.3.4/8", "address"},
		{"address", "", "address"},
	};
	struct group_spec *spec;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *json = valid_spec();
		struct err err = {0};

		json_object_set_new(json, rows[i].key, json_string(rows[i].value));
		assert_int_equal(group_spec_parse(json, 1, &err, &spec), -EINVAL);
		assert_non_null(strstr(err.message, rows[i].named));
	}
	for (const char *const *name = (const char *const[]){"..", "a/b", "A", "-a", "", NULL};
		*name; name++) {
		_cleanup_json_ json_t *json = valid_spec();
		struct err err = {0};

		json_object_set_new(json_array_get(json_get_arr(json, "containers"), 0), "name",
			json_string(*name));
		assert_int_equal(group_spec_parse(json, 1, &err, &spec), -EINVAL);
	}
}

static json_t *spec_with_volumes(void)
{
	json_t *json = valid_spec();
	json_t *container = json_array_get(json_get_arr(json, "containers"), 0);

	json_object_set_new(json, "volumes",
		json_pack(
			"[{s:s, s:{s:I}}, {s:s, s:{s:s}}, {s:s, s:{s:s, s:s, s:s, s:b}}, {s:s, s:{s:s}}]",
			"name", "scratch", "emptyDir", "sizeBytes", (json_int_t)1 << 20, "name",
			"creds", "secret", "k", "eA==", "name", "share", "azureFile", "share", "s",
			"account", "a", "key", "c2VjcmV0", "readOnly", 1, "name", "code", "gitRepo",
			"repository", "https://example.com/r"));
	json_object_set_new(container, "mounts",
		json_pack("[{s:s, s:s}, {s:s, s:s, s:b}, {s:s, s:s}]", "volume", "scratch", "path",
			"/data", "volume", "creds", "path", "/etc//creds/", "readOnly", 1, "volume",
			"share", "path", "/share"));
	return json;
}

static void set_mount(json_t *json, const char *key, const char *value)
{
	json_t *container = json_array_get(json_get_arr(json, "containers"), 0);

	json_object_set_new(
		json_array_get(json_get_arr(container, "mounts"), 0), key, json_string(value));
}

static void volumes_and_mounts_are_taken_apart(void **state)
{
	_cleanup_json_ json_t *json = spec_with_volumes();
	_cleanup_(group_spec_freep) struct group_spec *spec = NULL;
	const struct container_mount *mounts;
	struct err err = {0};

	set_mount(json, "path", "/data//x");
	if (group_spec_parse(json, 1, &err, &spec) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(spec->n_volumes, 4);
	assert_int_equal(spec->volumes[0].size_bytes, 1 << 20);
	assert_int_equal(spec->volumes[1].kind, VOLUME_SECRET);
	assert_string_equal(spec->volumes[3].repository, "https://example.com/r");
	assert_null(spec->volumes[3].revision);
	mounts = spec->containers[0].mounts;
	assert_int_equal(spec->containers[0].n_mounts, 3);
	assert_string_equal(mounts[0].path, "/data/x");
	assert_false(mounts[0].read_only);
	assert_string_equal(mounts[1].path, "/etc/creds");
	assert_true(mounts[1].read_only);
	assert_ptr_equal(mounts[1].volume, &spec->volumes[1]);
	/* A share that can only be read. */
	assert_true(mounts[2].read_only);
}

static void set_volume(json_t *json, const char *name)
{
	json_object_set_new(
		json_array_get(json_get_arr(json, "volumes"), 0), "name", json_string(name));
}

static void bad_volumes_and_mounts_are_refused(void **state)
{
	static const char *const paths[] = {
		"", "/", "//", "x", "/a/../b", "/..", "/a/.", "/a:b", "/a\nb", "/share", NULL};
	static const char *const names[] = {"", "..", "a/b", "creds", "configmap.web", "A", NULL};
	struct group_spec *spec;
	struct err err;

	for (size_t i = 0; paths[i]; i++) {
		_cleanup_json_ json_t *json = spec_with_volumes();

		set_mount(json, "path", paths[i]);
		assert_int_equal(group_spec_parse(json, 1, &err, &spec), -EINVAL);
		assert_non_null(strstr(err.message, "mounts[].path"));
	}
	for (size_t i = 0; names[i]; i++) {
		_cleanup_json_ json_t *json = spec_with_volumes();

		set_mount(json, "volume", names[i]);
		set_volume(json, names[i]);
		assert_int_equal(group_spec_parse(json, 1, &err, &spec), -EINVAL);
		assert_non_null(strstr(err.message, "volumes[].name"));
	}
	for (int i = 0; i < 3; i++) {
		_cleanup_json_ json_t *json = spec_with_volumes();
		json_t *volumes = json_get_arr(json, "volumes");

		if (i == 0)
			set_mount(json, "volume", "absent");
		else if (i == 1)
			json_object_set_new(json_array_get(volumes, 0), "emptyDir",
				json_pack("{s:i}", "sizeBytes", -1));
		else
			while (json_array_size(volumes) <= SPEC_VOLUMES_MAX) {
				char name[32];

				snprintf(name, sizeof(name), "v%zu", json_array_size(volumes));
				json_array_append_new(volumes,
					json_pack("{s:s, s:{}}", "name", name, "emptyDir"));
			}
		assert_int_equal(group_spec_parse(json, 1, &err, &spec), -EINVAL);
	}
}

static void hash_of(json_t *json, char ret[SHA256_HEX_MAX])
{
	_cleanup_(group_spec_freep) struct group_spec *spec = NULL;
	struct err err = {0};

	if (group_spec_parse(json, 1, &err, &spec) < 0)
		fail_msg("%s", err.message);
	memcpy(ret, spec->containers[0].hash, SHA256_HEX_MAX);
}

/* What restarts a container: its volumes' definitions do, and its first configMap; what is in a
 * configMap and others' volumes don't. */
static void the_hash_follows_mounted_volumes_and_not_what_is_in_the_config_map(void **state)
{
	_cleanup_json_ json_t *json = spec_with_volumes();
	json_t *container = json_array_get(json_get_arr(json, "containers"), 0);
	json_t *volumes = json_get_arr(json, "volumes");
	char before[SHA256_HEX_MAX], after[SHA256_HEX_MAX];

	set_mount(json, "path", "/data");
	hash_of(json, before);
	json_object_set_new(container, "configMap", json_object());
	hash_of(json, after);
	assert_string_not_equal(before, after);
	memcpy(before, after, sizeof(before));
	json_object_set_new(container, "configMap", json_pack("{s:s}", "k", "v"));
	json_object_set_new(json_get_obj(json_array_get(volumes, 3), "gitRepo"), "revision",
		json_string("main"));
	json_array_insert(volumes, 0, json_array_get(volumes, 3));
	json_array_remove(volumes, 4);
	hash_of(json, after);
	assert_string_equal(before, after);
	json_object_set_new(
		json_get_obj(json_array_get(volumes, 2), "secret"), "k", json_string("eQ=="));
	hash_of(json, after);
	assert_string_not_equal(before, after);
}

static void numbers_that_no_machine_has_are_refused(void **state)
{
	static const struct {
		const char *key;
		double value;
	} rows[] = {{"cpu", -1}, {"cpu", 1e30}, {"cpuLimit", 1e9}};
	struct group_spec *spec;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *json = valid_spec();
		struct err err = {0};

		json_object_set_new(json_array_get(json_get_arr(json, "containers"), 0),
			rows[i].key, json_real(rows[i].value));
		assert_int_equal(group_spec_parse(json, 1, &err, &spec), -EINVAL);
	}
	for (const char *const *key =
			(const char *const[]){"memoryBytes", "memoryLimitBytes", NULL};
		*key; key++) {
		_cleanup_json_ json_t *json = valid_spec();
		json_t *container = json_array_get(json_get_arr(json, "containers"), 0);
		struct err err = {0};

		json_object_set_new(container, *key, json_integer(-1));
		assert_int_equal(group_spec_parse(json, 1, &err, &spec), -EINVAL);
		json_object_set_new(container, *key, json_integer(INT64_MAX));
		assert_int_equal(group_spec_parse(json, 1, &err, &spec), -EINVAL);
	}
}

static void repeated_events_are_counted_and_the_oldest_go(void **state)
{
	struct events events = {0};

	events_add(&events, "Normal", "Started", "Started container");
	events_add(&events, "Normal", "Started", "Started container");
	assert_int_equal(events.n, 1);
	assert_int_equal(events.list[0].count, 2);
	for (int i = 0; i < 2 * EVENTS_MAX; i++)
		events_add(&events, "Normal", "Killing", "Killing %d", i);
	assert_int_equal(events.n, EVENTS_MAX);
	assert_string_equal(events.list[EVENTS_MAX - 1].message, "Killing 63");
	events_clear(&events);
}

static struct group *new_group(const char *dir)
{
	struct group *group = xnew(struct group);

	group->dir = xstrdup(dir);
	group->cancel_fd = -EBADF;
	str_copy(group->uid, sizeof(group->uid), "00000000-0000-4000-8000-000000000001");
	str_copy(group->provisioning, sizeof(group->provisioning), "Pending");
	pthread_mutex_init(&group->lock, NULL);
	return group;
}

/* A message of a registry may be cut within a character: that must not lose what it is a part of.
 */
static void a_cut_character_loses_nothing(void **state)
{
	_cleanup_json_ json_t *json = valid_spec();
	_cleanup_json_ json_t *status = NULL;
	struct group *group = new_group("/nowhere");
	struct group_spec *spec;
	struct err err = {0};
	json_t *container;

	assert_int_equal(group_spec_parse(json, 1, &err, &spec), 0);
	group_set_spec(group, spec);
	group->containers[0].current =
		(struct container_view){.known = true, .state = "Waiting", .detail = "cut \xc3"};
	events_add(&group->containers[0].events, "Warning", "Failed", "cut \xc3");
	err_set(&group->failure, -EIO, "RegistryErrorResponse", "cut \xc3");
	status = group_status(group);
	container = json_array_get(json_get_arr(status, "containers"), 0);
	assert_string_equal(json_string_value(json_path(container, "instanceView", "currentState",
				    "detailStatus", NULL)),
		"cut \xef\xbf\xbd");
	assert_string_equal(
		json_string_value(json_object_get(
			json_array_get(json_path(container, "instanceView", "events", NULL), 0),
			"message")),
		"cut \xef\xbf\xbd");
	assert_string_equal(
		json_string_value(json_path(status, "error", "message", NULL)), "cut \xef\xbf\xbd");
	group_free(group);
}

static void what_is_known_comes_back_from_disk(void **state)
{
	char dir[] = "/tmp/agent-test-XXXXXX";
	_cleanup_json_ json_t *json = valid_spec();
	_cleanup_json_ json_t *before = NULL, *after = NULL;
	struct group_spec *spec;
	struct err err = {0};
	struct group *group, *loaded;

	assert_non_null(mkdtemp(dir));
	group = new_group(dir);
	assert_int_equal(group_spec_parse(json, 3, &err, &spec), 0);
	group_set_spec(group, spec);
	group->slot = 9;
	group->runs = 2;
	group->containers[0].phase = CONTAINER_RUNNING;
	group->containers[0].run = 4;
	group->containers[0].restart_count = 3;
	group->containers[0].started_once = true;
	group->containers[0].ready = group->containers[0].unhealthy = true;
	group->containers[0].current = (struct container_view){
		.known = true, .state = "Running", .start_ms = 1700000000123, .detail = ""};
	group->containers[0].previous = (struct container_view){.known = true,
		.state = "Terminated",
		.start_ms = 1700000000000,
		.finish_ms = 1700000000100,
		.exit_code = 2,
		.detail = "Error"};
	events_add(&group->containers[0].events, "Normal", "Started", "Started container");
	err_set(&group->failure, -EIO, "InaccessibleImage", "not \"there\"");
	assert_int_equal(group_save_spec(group, &err), 0);
	assert_int_equal(group_save_state(group, &err), 0);
	before = group_status(group);

	loaded = new_group(dir);
	assert_int_equal(group_load(loaded, &err), 0);
	after = group_status(loaded);
	assert_true(json_equal(before, after));
	assert_int_equal(loaded->slot, 9);
	assert_int_equal(loaded->containers[0].run, 4);
	assert_true(loaded->containers[0].ready && loaded->containers[0].unhealthy);
	group_free(group);
	group_free(loaded);
	file_remove_tree(AT_FDCWD, dir);
}

static void a_folder_without_a_spec_is_said_to_be_absent(void **state)
{
	char dir[] = "/tmp/agent-test-XXXXXX";
	struct err err = {0};
	struct group *group;

	assert_non_null(mkdtemp(dir));
	group = new_group(dir);
	assert_int_equal(group_load(group, &err), -ENOENT);
	group_free(group);
	file_remove_tree(AT_FDCWD, dir);
}

static void the_group_state_follows_from_its_containers(void **state)
{
	static const struct {
		enum container_phase phase;
		bool started;
		int exit_code;
		const char *expected;
	} rows[] = {
		{CONTAINER_WAITING, false, 0, "Pending"},
		{CONTAINER_RUNNING, true, 0, "Running"},
		{CONTAINER_WAITING, true, 1, "Running"},
		{CONTAINER_TERMINATED, true, 0, "Succeeded"},
		{CONTAINER_TERMINATED, true, 2, "Failed"},
		{CONTAINER_TERMINATED, false, 128, "Failed"},
	};
	_cleanup_json_ json_t *json = valid_spec();
	struct group *group = new_group("/nowhere");
	struct group_spec *spec;
	struct err err = {0};

	assert_int_equal(group_spec_parse(json, 1, &err, &spec), 0);
	group_set_spec(group, spec);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *status = NULL;

		group->containers[0].phase = rows[i].phase;
		group->containers[0].started_once = rows[i].started;
		group->containers[0].current.exit_code = rows[i].exit_code;
		status = group_status(group);
		assert_string_equal(json_get_str(status, "state", ""), rows[i].expected);
	}
	group_free(group);
}

/* An agent without groups or control, for what needs its settings. */
static struct agent *new_agent(struct agent_config *config, char *dir)
{
	struct agent *agent = NULL;
	struct err err = {0};

	assert_non_null(mkdtemp(dir));
	*config = (struct agent_config){.loop = loop_new(),
		.node = "n",
		.groups_dir = dir,
		.socket_path = "/nowhere",
		.uid_groups = 4,
		.backoff_ms = 10000,
		.backoff_max_ms = 300000};
	assert_int_equal(agent_new(config, &err, &agent), 0);
	return agent;
}

static void ends(struct group *group, int exit_code, int64_t after_ms)
{
	struct container *c = &group->containers[0];
	int64_t now = time_now_ms();

	c->phase = CONTAINER_RUNNING;
	c->current = (struct container_view){.known = true,
		.state = "Terminated",
		.start_ms = now - after_ms,
		.finish_ms = now,
		.exit_code = exit_code,
		.detail = "Error"};
	container_apply_policy(group, c);
}

static void the_first_restart_is_at_once_and_later_ones_wait_longer_and_longer(void **state)
{
	static const int waits_s[] = {0, 10, 20, 40, 80, 160, 300, 300};
	char dir[] = "/tmp/agent-test-XXXXXX";
	struct agent_config config;
	struct agent *agent = new_agent(&config, dir);
	_cleanup_json_ json_t *json = valid_spec();
	struct group *group = new_group("/nowhere");
	struct container *c;
	struct group_spec *spec;
	struct err err = {0};
	char words[80];

	group->agent = agent;
	assert_int_equal(group_spec_parse(json, 1, &err, &spec), 0);
	group_set_spec(group, spec);
	c = &group->containers[0];
	/* A deployment, a restart by the user, and a run of ten minutes each start from the
	 * beginning. */
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(waits_s); i++) {
			ends(group, 3, round == 2 && i == 0 ? 600000 : 5);
			assert_int_equal(c->phase, CONTAINER_WAITING);
			assert_int_equal(c->backoff_ms, waits_s[i] * 1000);
			snprintf(words, sizeof(words),
				"CrashLoopBackOff: Back-off %ds restarting failed", waits_s[i]);
			assert_string_equal(c->current.detail, waits_s[i] ? words : "Error");
			if (waits_s[i]) {
				assert_string_equal(c->current.state, "Waiting");
				assert_int_equal(c->previous.exit_code, 3);
			}
		}
		assert_int_equal(c->restart_count, (round + 1) * (int)ARRAY_SIZE(waits_s));
		if (round == 0)
			container_renew(c);
	}
	/* A start that isn't known is no run of fifty years. */
	c->current.finish_ms = time_now_ms();
	c->current.start_ms = 0;
	container_apply_policy(group, c);
	assert_int_equal(c->backoff_ms, 300000);
	ends(group, 0, 5);
	assert_int_equal(c->phase, CONTAINER_TERMINATED);
	spec->policy = RESTART_NEVER;
	ends(group, 1, 5);
	assert_int_equal(c->phase, CONTAINER_TERMINATED);
	group_free(group);
	agent_free(agent);
	loop_free(config.loop);
	file_remove_tree(AT_FDCWD, dir);
}

static void an_older_spec_comes_too_late(void **state)
{
	_cleanup_json_ json_t *json = valid_spec();
	struct group *group = new_group("/nowhere");
	struct group_spec *spec;
	struct err err = {0};

	group->seen = true;
	assert_false(group_knows_newer(group, 1));
	assert_int_equal(group_spec_parse(json, 5, &err, &spec), 0);
	group_set_spec(group, spec);
	assert_true(group_knows_newer(group, 4));
	assert_false(group_knows_newer(group, 5));
	assert_int_equal(group_spec_parse(json, 7, &err, &group->next_spec), 0);
	assert_true(group_knows_newer(group, 6));
	group->seen = false;
	assert_false(group_knows_newer(group, 6));
	group_free(group);
}

static void words_that_are_cut_stay_utf8(void **state)
{
	struct events events = {0};
	char text[6000];

	for (size_t shift = 0; shift < 3; shift++) {
		memset(text, 'x', sizeof(text));
		for (size_t i = shift; i + 3 < sizeof(text); i += 3)
			memcpy(text + i, "\xe2\x82\xac", 3);
		text[sizeof(text) - 1] = 0;
		events_add(&events, "Warning", "Failed", "%.5990s", text);
		assert_true(str_is_utf8(events.list[events.n - 1].message,
			strlen(events.list[events.n - 1].message)));
	}
	events_clear(&events);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_valid_spec_is_taken_apart),
		cmocka_unit_test(a_bad_spec_is_refused_with_the_name_of_what_is_wrong),
		cmocka_unit_test(volumes_and_mounts_are_taken_apart),
		cmocka_unit_test(bad_volumes_and_mounts_are_refused),
		cmocka_unit_test(
			the_hash_follows_mounted_volumes_and_not_what_is_in_the_config_map),
		cmocka_unit_test(numbers_that_no_machine_has_are_refused),
		cmocka_unit_test(a_cut_character_loses_nothing),
		cmocka_unit_test(repeated_events_are_counted_and_the_oldest_go),
		cmocka_unit_test(what_is_known_comes_back_from_disk),
		cmocka_unit_test(a_folder_without_a_spec_is_said_to_be_absent),
		cmocka_unit_test(the_group_state_follows_from_its_containers),
		cmocka_unit_test(
			the_first_restart_is_at_once_and_later_ones_wait_longer_and_longer),
		cmocka_unit_test(an_older_spec_comes_too_late),
		cmocka_unit_test(words_that_are_cut_stay_utf8),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
