#include "control/providers/containerinstance/groups_fixture.h"
#include "link/link.h"

/* --- the node --- */

struct job {
	struct world *world;
	char *value;
};

void write_status(
	struct world *w, const json_t *record, const char *provisioning, const char *state)
{
	_cleanup_free_ char *key = xasprintf("cgstatus/%s", json_get_str(record, "uid", ""));
	_cleanup_json_ json_t *status = json_pack(
		"{s:O, s:O, s:O, s:s, s:s, s:[], s:[{s:s, s:{s:i, s:{s:s}, s:[{s:i, s:s}]}}]}",
		"generation", json_object_get(record, "generation"), "runs",
		json_object_get(record, "runs"), "restarts", json_object_get(record, "restarts"),
		"provisioningState", provisioning, "state", state, "events", "containers", "name",
		"c", "instanceView", "restartCount", 0, "currentState", "state", "Running",
		"events", "count", 1, "name", "Pulled");
	_cleanup_free_ char *text = NULL;

	if (str_eq(provisioning, "Failed"))
		json_object_set_new(status, "error",
			json_pack("{s:s, s:s}", "code", "InaccessibleImage", "message",
				"The image isn't accessible."));
	text = json_text(status);
	store_put(w->bench->services.store, key, text, strlen(text), STORE_ANY, NULL, NULL);
}

static void node_work(void *arg)
{
	struct job *job = arg;
	_cleanup_json_ json_t *record = NULL;
	bool stopped;

	usleep(5000);
	json_parse(job->value, strlen(job->value), JSON_DEPTH_MAX, NULL, &record);
	stopped = str_eq(json_get_str(record, "desired", ""), "stopped");
	if (job->world->does == NODE_RUNS)
		write_status(job->world, record, "Succeeded", stopped ? "Stopped" : "Running");
	else if (job->world->does == NODE_FAILS)
		write_status(job->world, record, "Failed", stopped ? "Stopped" : "Pending");
	free(job->value);
	free(job);
}

static void on_group(const struct store_event *event, void *arg)
{
	struct job *job;

	if (!event->value)
		return;
	job = xnew(struct job);
	job->world = arg;
	job->value = xstrndup(event->value, event->value_len);
	pool_submit(((struct world *)arg)->node, node_work, job);
}

int link_server_call(struct link_server *server, const char *node, const char *method, json_t *args,
	int timeout_ms, struct err *err, json_t **ret_data)
{
	assert_string_equal(node, "n1");
	json_decref(args);
	*ret_data = str_eq(method, "capacity")
			    ? json_pack("{s:i, s:I}", "cpus", 4, "memoryBytes", (json_int_t)8 << 30)
			    : json_pack("{s:[{s:s}]}", "images", "reference", "alpine:latest");
	return 0;
}

int link_server_stream(struct link_server *server, const char *node, const char *method,
	json_t *args, int timeout_ms, struct err *err, int *ret_fd)
{
	_cleanup_free_ char *text = json_text(args);
	int pipes[2];

	assert_string_equal(method, "logs");
	json_object_del(args, "uid");
	free(text);
	text = json_text(args);
	json_decref(args);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(fd_write_all(pipes[1], text, strlen(text)), 0);
	assert_int_equal(fd_write_all(pipes[1], "\0\xff\n", 3), 0);
	close(pipes[1]);
	*ret_fd = pipes[0];
	return 0;
}

/* --- the world --- */

static const struct arm_provider *const providers[] = {&containerinstance_provider, NULL};

void put(struct world *w, const char *key, const char *value)
{
	assert_int_equal(store_put(w->bench->services.store, key, value, strlen(value), STORE_ANY,
				 NULL, NULL),
		0);
}

static int64_t revision(struct world *w)
{
	_cleanup_(store_list_done) struct store_list list = {0};

	assert_int_equal(store_list(w->bench->services.store, "rg/", NULL, 1, NULL, &list), 0);
	return list.revision;
}

/* A bench makes keys and hashes, which take their time: one serves all tests, each with an arm and
 * a content of its own. */
static struct bench *the_bench;
static struct arm_services fresh_services;

int setup(void **state)
{
	struct world *w = xnew(struct world);

	address_forget();
	if (!the_bench) {
		the_bench = bench_new(providers);
		fresh_services = the_bench->services;
	}
	w->bench = the_bench;
	w->bench->services = fresh_services;
	w->bench->services.put_wait_ms = 1000;
	w->bench->services.link =
		(struct link_server *)w; /* opaque, and the calls are this test's */
	w->does = NODE_RUNS;
	w->node = pool_new("node", 1, 0);
	put(w, "rg/rg",
		"{\"group\":{\"name\":\"rg\",\"location\":\"local\",\"properties\":{\"provisioningState\":"
		"\"Succeeded\"}}}");
	put(w, "rg/dying",
		"{\"group\":{\"name\":\"dying\",\"location\":\"local\",\"properties\":{\"provisioningState\":"
		"\"Deleting\"}}}");
	assert_int_equal(store_watch(w->bench->services.store, "cg/", revision(w), on_group, w,
				 NULL, &w->watch),
		0);
	*state = w;
	return 0;
}

static void empty_store(struct store *store)
{
	_cleanup_(store_list_done) struct store_list list = {0};

	assert_int_equal(store_list(store, "", NULL, 0, NULL, &list), 0);
	for (size_t i = 0; i < list.n; i++)
		if (!str_starts(list.entries[i].key, "principal/"))
			assert_int_equal(
				store_delete(store, list.entries[i].key, STORE_ANY, NULL), 0);
}

int teardown(void **state)
{
	struct world *w = *state;

	store_unwatch(w->bench->services.store, w->watch);
	pool_free(w->node);
	arm_free(w->bench->arm);
	w->bench->arm = NULL;
	empty_store(w->bench->services.store);
	free(w);
	return 0;
}

int last_teardown(void **state)
{
	the_bench->services = fresh_services;
	bench_free(the_bench);
	return 0;
}

/* --- requests --- */

void request(struct world *w, const char *method, const char *target, const char *body, int status,
	struct bench_answer *ret)
{
	_cleanup_free_ char *text = body ? xstrdup(body) : NULL;

	for (char *c = text; c && *c; c++)
		*c = *c == '\'' ? '"' : *c;
	bench_request(w->bench, method, target, NULL, text, ret);
	if (ret->status != status)
		fail_msg("%s %s: %d %s", method, target, ret->status, ret->body);
}

void expect(struct world *w, const char *method, const char *target, const char *body, int status)
{
	struct bench_answer answer;

	request(w, method, target, body, status, &answer);
	bench_answer_done(&answer);
}

void expect_error(struct world *w, const char *method, const char *target, const char *body,
	int status, const char *code, const char *at)
{
	struct bench_answer answer;

	request(w, method, target, body, status, &answer);
	assert_string_equal(json_get_str(json_get_obj(answer.json, "error"), "code", ""), code);
	if (at)
		assert_string_equal(
			json_get_str(json_get_obj(answer.json, "error"), "target", ""), at);
	bench_answer_done(&answer);
}

/* A string member of the answer to a GET, by path "a.b.c". Owned. */
static char *member(const json_t *json, const char *path)
{
	_cleanup_free_ char *copy = xstrdup(path);
	char *rest = copy, *key;

	while (json && (key = strsep(&rest, ".")))
		json = json_object_get(json, key);
	return json_is_string(json) ? xstrdup(json_string_value(json)) : xstrdup("<none>");
}

void expect_member(const json_t *json, const char *path, const char *value)
{
	_cleanup_free_ char *got = member(json, path);

	assert_string_equal(got, value);
}

void expect_shown(struct world *w, const char *target, const char *path, const char *value)
{
	struct bench_answer answer;

	request(w, "GET", target, NULL, 200, &answer);
	expect_member(answer.json, path, value);
	bench_answer_done(&answer);
}

json_t *record_of(struct world *w, const char *name)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_free_ char *key = xasprintf("cg/rg/%s", name);
	json_t *record = NULL;

	assert_int_equal(store_get(w->bench->services.store, key, NULL, &entry), 0);
	assert_int_equal(
		json_parse(entry.value, entry.value_len, JSON_DEPTH_MAX, NULL, &record), 0);
	return record;
}

int64_t counter(struct world *w, const char *name, const char *which)
{
	_cleanup_json_ json_t *record = record_of(w, name);

	return json_get_int(record, which, -1);
}

bool stored(struct world *w, const char *key)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};

	return store_get(w->bench->services.store, key, NULL, &entry) == 0;
}
