/* The store on one side, a node over a real socket on the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <pthread.h>

#include "base/time.h"
#include "control/schedule/schedule.h"

struct world {
	char dir[64], path[96];
	struct store *store;
	struct loop *loop;
	pthread_t thread;
	struct link_server *server;
	struct link_client *client;
	struct schedule *schedule;

	pthread_mutex_t lock;
	json_t *frames; /* what the node received, oldest first */
};

static void client_message(const char *type, const json_t *frame, void *arg)
{
	struct world *w = arg;

	pthread_mutex_lock(&w->lock);
	json_array_append_new(w->frames, json_deep_copy(frame));
	pthread_mutex_unlock(&w->lock);
}

static void client_request(
	int64_t id, const char *method, const json_t *args, bool stream, void *arg)
{
}

static const struct link_client_ops client_ops = {NULL, NULL, client_message, client_request};

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static json_t *spec_of(const json_t *record, void *arg)
{
	return json_pack("{s:s}", "name", json_get_str(record, "name", ""));
}

static void put(struct world *w, const char *key, const char *value)
{
	struct err err = {0};

	assert_int_equal(store_put(w->store, key, value, strlen(value), STORE_ANY, &err, NULL), 0);
}

static void dial(struct world *w)
{
	w->client = link_client_new(w->loop, w->path, getuid(),
		json_pack("{s:s, s:i}", "node", "n1", "cpus", 2), &client_ops, w);
}

static int setup(void **state)
{
	struct world *w = xnew(struct world);
	struct err err = {0};

	snprintf(w->dir, sizeof(w->dir), "/tmp/schedule-test-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/node.sock", w->dir);
	pthread_mutex_init(&w->lock, NULL);
	w->frames = json_array();
	w->store = store_open_memory();
	put(w, "cg/rg/old", "{\"uid\":\"u-old\",\"generation\":3,\"name\":\"old\"}");
	put(w, "gone/u-gone", "{\"uid\":\"u-gone\",\"ip\":\"10.0.0.9\"}");
	put(w, "ip/10.0.0.9", "{}");
	put(w, "node/before", "{}");
	w->loop = loop_new();
	assert_int_equal(schedule_new(w->store, spec_of, NULL, &err, &w->schedule), 0);
	assert_int_equal(link_server_new(w->loop, w->path, getuid(), &schedule_link_ops,
				 w->schedule, &err, &w->server),
		0);
	schedule_attach(w->schedule, w->server);
	dial(w);
	pthread_create(&w->thread, NULL, run_loop, w->loop);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	loop_stop(w->loop);
	pthread_join(w->thread, NULL);
	schedule_stop(w->schedule);
	link_client_free(w->client);
	link_server_free(w->server);
	schedule_free(w->schedule);
	loop_free(w->loop);
	store_free(w->store);
	unlink(w->path);
	rmdir(w->dir);
	json_decref(w->frames);
	free(w);
	return 0;
}

/* The n-th frame as text, once it is there. */
static char *frame(struct world *w, size_t n)
{
	for (int i = 0; i < 500; i++) {
		char *text = NULL;

		pthread_mutex_lock(&w->lock);
		if (json_array_size(w->frames) > n)
			text = json_text(json_array_get(w->frames, n));
		pthread_mutex_unlock(&w->lock);
		if (text)
			return text;
		usleep(10000);
	}
	fail_msg("frame %zu didn't come", n);
	return NULL;
}

static void expect_frame(struct world *w, size_t n, const char *want)
{
	_cleanup_free_ char *text = frame(w, n);

	assert_string_equal(text, want);
}

/* value NULL: until the key is gone. */
static void expect_stored(struct world *w, const char *key, const char *value)
{
	for (int i = 0; i < 500; i++) {
		_cleanup_(store_entry_done) struct store_entry entry = {0};
		int r = store_get(w->store, key, NULL, &entry);

		if (value ? r == 0 && str_eq(entry.value, value) : r == -ENOENT)
			return;
		usleep(10000);
	}
	fail_msg("%s never was %s", key, value ? value : "gone");
}

static void report(struct world *w, const char *uid, int generation)
{
	link_client_send(
		w->client, json_pack("{s:s, s:s, s:i, s:{s:i}}", "type", "status", "uid", uid,
				   "generation", generation, "status", "generation", generation));
}

static void expect_start(struct world *w)
{
	expect_frame(w, 0,
		"{\"type\":\"group\",\"uid\":\"u-old\",\"generation\":3,\"spec\":{\"name\":\"old\"}}");
	expect_frame(w, 1, "{\"type\":\"remove\",\"uid\":\"u-gone\"}");
	expect_frame(w, 2, "{\"type\":\"synced\"}");
}

static void a_node_that_comes_hears_everything(void **state)
{
	struct world *w = *state;

	expect_start(w);
	expect_stored(w, "node/n1", "{\"node\":\"n1\",\"cpus\":2}");
	expect_stored(w, "node/before", NULL);
}

static void changes_go_to_the_node_in_order(void **state)
{
	struct world *w = *state;
	const struct store_op ops[] = {
		{.kind = STORE_DELETE, .key = "cg/rg/new", .expect = STORE_ANY},
		{.kind = STORE_PUT,
			.key = "gone/u-new",
			.value = "{\"ip\":\"\"}",
			.value_len = 9,
			.expect = STORE_ABSENT},
	};

	expect_start(w);
	put(w, "cg/rg/new", "{\"uid\":\"u-new\",\"generation\":1,\"name\":\"new\"}");
	put(w, "op/1", "{}");
	put(w, "cg/rg/new", "{\"uid\":\"u-new\",\"generation\":2,\"name\":\"new\"}");
	assert_int_equal(store_commit(w->store, ops, ARRAY_SIZE(ops), NULL, NULL), 0);
	expect_frame(w, 3,
		"{\"type\":\"group\",\"uid\":\"u-new\",\"generation\":1,\"spec\":{\"name\":\"new\"}}");
	expect_frame(w, 4,
		"{\"type\":\"group\",\"uid\":\"u-new\",\"generation\":2,\"spec\":{\"name\":\"new\"}}");
	expect_frame(w, 5, "{\"type\":\"remove\",\"uid\":\"u-new\"}");
}

static void reports_go_to_the_store(void **state)
{
	struct world *w = *state;

	expect_start(w);
	for (int i = 1; i <= 50; i++)
		report(w, "u-old", i);
	report(w, "u-gone", 1);	    /* has no record any more */
	report(w, "u-stranger", 1); /* never had one */
	report(w, "../../x", 1);
	expect_stored(w, "cgstatus/u-old", "{\"generation\":50}");
	expect_stored(w, "cgstatus/u-gone", NULL);
	expect_stored(w, "cgstatus/u-stranger", NULL);
}

static void an_address_is_free_when_nothing_is_left(void **state)
{
	struct world *w = *state;

	expect_start(w);
	put(w, "cgstatus/u-gone", "{}");
	link_client_send(w->client, json_pack("{s:s, s:s}", "type", "removed", "uid", "u-gone"));
	expect_stored(w, "ip/10.0.0.9", NULL);
	expect_stored(w, "gone/u-gone", NULL);
	expect_stored(w, "cgstatus/u-gone", NULL);
	/* A node that says so of a group that is wanted has no say in it. */
	put(w, "cgstatus/u-old", "{}");
	link_client_send(w->client, json_pack("{s:s, s:s}", "type", "removed", "uid", "u-old"));
	report(w, "u-stranger", 1);
	usleep(50000);
	expect_stored(w, "cgstatus/u-old", "{}");
}

static void a_status_of_a_group_made_later_is_taken(void **state)
{
	struct world *w = *state;

	expect_start(w);
	put(w, "cg/rg/new", "{\"uid\":\"u-new\",\"generation\":1,\"name\":\"new\"}");
	free(frame(w, 3));
	report(w, "u-new", 1);
	expect_stored(w, "cgstatus/u-new", "{\"generation\":1}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_node_that_comes_hears_everything, setup, teardown),
		cmocka_unit_test_setup_teardown(changes_go_to_the_node_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(reports_go_to_the_store, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_address_is_free_when_nothing_is_left, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_status_of_a_group_made_later_is_taken, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
