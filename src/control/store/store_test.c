/* The conformance suite: what every backend promises. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/random.h"
#include "control/store/store_fixture.h"

static void expect_conflict(
	struct store *store, const struct store_op *ops, size_t n, const char *target)
{
	int64_t revision = -7;
	struct err err = {0};

	assert_int_equal(store_commit(store, ops, n, &err, &revision), -EAGAIN);
	assert_string_equal(err.code, "StoreConflict");
	assert_string_equal(err.target, target);
	assert_int_not_equal(err.message[0], '\0');
	assert_int_equal(revision, -7);
}

static void expect_invalid(struct store *store, const char *key, const char *value, size_t len)
{
	struct err err = {0};

	assert_int_equal(store_put(store, key, value, len, STORE_ANY, &err, NULL), -EINVAL);
	assert_int_not_equal(err.message[0], '\0');
}

/* ---- expectations and commits ---- */

static void starts_empty_and_counts_revisions_from_one(void **state)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	struct store *store = store_in(state);

	assert_int_equal(store_list(store, "", NULL, 0, NULL, &list), 0);
	assert_int_equal(list.n, 0);
	assert_int_equal(list.revision, 0);
	expect_absent(store, "rg/a");
	assert_int_equal(put(store, "rg/a", "1"), 1);
	assert_int_equal(put(store, "rg/a", "2"), 2);
	assert_int_equal(put(store, "rg/b", "3"), 3);
	expect_text(store, "rg/a", "2", 2);
	expect_text(store, "rg/b", "3", 3);
}

static void absent_expects_nothing_there(void **state)
{
	struct store *store = store_in(state);
	const struct store_op op = {STORE_PUT, "ip/1", "x", 1, STORE_ABSENT};

	assert_int_equal(store_commit(store, &op, 1, NULL, NULL), 0);
	expect_conflict(store, &op, 1, "ip/1");
	assert_int_equal(store_delete(store, "ip/1", STORE_ANY, NULL), 0);
	assert_int_equal(store_commit(store, &op, 1, NULL, NULL), 0);
}

static void has_room_while_the_disk_has(void **state)
{
	struct err err = {0};

	assert_int_equal(store_check_room(store_in(state), &err), 0);
	assert_false(err_is_set(&err));
}

static void exact_expects_that_revision(void **state)
{
	struct store *store = store_in(state);
	int64_t first = put(store, "k", "1"), second = put(store, "k", "2");
	const struct store_op old = {STORE_PUT, "k", "x", 1, first};
	const struct store_op future = {STORE_PUT, "k", "x", 1, second + 1};
	const struct store_op nothing = {STORE_PUT, "none", "x", 1, 1};
	int64_t third = 0;

	expect_conflict(store, &old, 1, "k");
	expect_conflict(store, &future, 1, "k");
	expect_conflict(store, &nothing, 1, "none");
	assert_int_equal(store_put(store, "k", "3", 1, second, NULL, &third), 0);
	assert_true(third > second);
	assert_int_equal(store_delete(store, "k", second, NULL), -EAGAIN);
	expect_text(store, "k", "3", third);
	assert_int_equal(store_delete(store, "k", third, NULL), 0);
	expect_absent(store, "k");
}

static void deleting_nothing_is_fine_and_changes_nothing(void **state)
{
	struct store *store = store_in(state);
	const struct store_op op = {STORE_DELETE, "none", NULL, 0, STORE_ANY};
	int64_t before = put(store, "k", "1"), revision = 0;

	assert_int_equal(store_commit(store, &op, 1, NULL, &revision), 0);
	assert_int_equal(revision, before);
	assert_int_equal(put(store, "k", "2"), before + 1);
}

static void a_commit_is_all_or_nothing(void **state)
{
	struct store *store = store_in(state);
	int64_t a = put(store, "a", "1"), b = put(store, "b", "1"), revision = 0;
	const struct store_op good[] = {
		{STORE_PUT, "a", "2", 1, a},
		{STORE_DELETE, "b", NULL, 0, b},
		{STORE_PUT, "c", "2", 1, STORE_ABSENT},
		{STORE_CHECK, "d", NULL, 0, STORE_ABSENT},
	};
	const struct store_op bad[] = {
		{STORE_PUT, "e", "3", 1, STORE_ANY},
		{STORE_DELETE, "a", NULL, 0, STORE_ANY},
		{STORE_CHECK, "c", NULL, 0, STORE_ABSENT},
	};

	assert_int_equal(store_commit(store, good, ARRAY_SIZE(good), NULL, &revision), 0);
	assert_int_equal(revision, b + 1);
	expect_text(store, "a", "2", revision);
	expect_absent(store, "b");
	expect_text(store, "c", "2", revision);
	expect_absent(store, "d");
	expect_conflict(store, bad, ARRAY_SIZE(bad), "c");
	expect_absent(store, "e");
	expect_text(store, "a", "2", revision);
	assert_int_equal(put(store, "z", ""), revision + 1);
}

static void a_check_alone_changes_nothing(void **state)
{
	struct store *store = store_in(state);
	int64_t a = put(store, "a", "1"), revision = 0;
	const struct store_op holds = {STORE_CHECK, "a", NULL, 0, a};
	const struct store_op fails = {STORE_CHECK, "a", NULL, 0, STORE_ABSENT};

	assert_int_equal(store_commit(store, &holds, 1, NULL, &revision), 0);
	assert_int_equal(revision, a);
	expect_conflict(store, &fails, 1, "a");
}

static void refuses_bad_commits(void **state)
{
	struct store *store = store_in(state);
	const struct store_op twice[] = {
		{STORE_PUT, "a", "1", 1, STORE_ANY},
		{STORE_PUT, "b", "1", 1, STORE_ANY},
		{STORE_DELETE, "a", NULL, 0, STORE_ANY},
	};
	const struct store_op expect = {STORE_PUT, "a", "1", 1, -2};
	struct err err = {0};

	assert_int_equal(store_commit(store, twice, 3, &err, NULL), -EINVAL);
	assert_int_equal(store_commit(store, &expect, 1, &err, NULL), -EINVAL);
	assert_int_equal(store_commit(store, twice, 0, &err, NULL), -EINVAL);
	expect_absent(store, "a");
	expect_absent(store, "b");
}

static void keys_have_bounds(void **state)
{
	struct store *store = store_in(state);
	char key[STORE_KEY_MAX + 2];
	struct store_entry entry;
	struct store_list list;

	memset(key, 'k', sizeof(key) - 1);
	key[STORE_KEY_MAX + 1] = '\0';
	expect_invalid(store, key, "", 0);
	assert_int_equal(store_get(store, key, NULL, &entry), -EINVAL);
	assert_int_equal(store_list(store, key, NULL, 0, NULL, &list), -EINVAL);
	key[STORE_KEY_MAX] = '\0';
	put(store, key, "longest");
	expect_text(store, key, "longest", 0);
	expect_invalid(store, "", "", 0);
	expect_invalid(store, "a b", "", 0);
	expect_invalid(store, "a\nb", "", 0);
	expect_invalid(store, "a\x7f", "", 0);
	expect_invalid(store, "\xc3\xa9", "", 0);
	put(store, "!/~", "");
	expect_text(store, "!/~", "", 0);
}

static void values_have_a_bound(void **state)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	struct store *store = store_in(state);
	_cleanup_free_ char *value = xmalloc(STORE_VALUE_MAX + 1);

	random_bytes(value, STORE_VALUE_MAX + 1);
	expect_invalid(store, "k", value, STORE_VALUE_MAX + 1);
	expect_absent(store, "k");
	assert_int_equal(store_put(store, "k", value, STORE_VALUE_MAX, STORE_ANY, NULL, NULL), 0);
	assert_int_equal(store_get(store, "k", NULL, &entry), 0);
	assert_int_equal(entry.value_len, STORE_VALUE_MAX);
	assert_memory_equal(entry.value, value, STORE_VALUE_MAX);
	assert_int_equal(entry.value[STORE_VALUE_MAX], '\0');
}

static void values_are_bytes(void **state)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_(store_list_done) struct store_list list = {0};
	struct store *store = store_in(state);
	char all[256];

	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (char)i;
	assert_int_equal(store_put(store, "all", all, sizeof(all), STORE_ANY, NULL, NULL), 0);
	assert_int_equal(store_put(store, "empty", NULL, 0, STORE_ANY, NULL, NULL), 0);
	assert_int_equal(store_get(store, "all", NULL, &entry), 0);
	assert_int_equal(entry.value_len, sizeof(all));
	assert_memory_equal(entry.value, all, sizeof(all));
	expect_text(store, "empty", "", 0);
	assert_int_equal(store_list(store, "", NULL, 0, NULL, &list), 0);
	assert_int_equal(list.n, 2);
	assert_int_equal(list.entries[0].value_len, sizeof(all));
	assert_memory_equal(list.entries[0].value, all, sizeof(all));
	assert_string_equal(list.entries[1].value, "");
}

/* ---- lists ---- */

/* keys: separated by blanks, in the order that is expected. */
static void expect_list(
	struct store *store, const char *prefix, const char *after, size_t limit, const char *keys)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	_cleanup_buf_ struct buf buf = BUF_INIT;

	assert_int_equal(store_list(store, prefix, after, limit, NULL, &list), 0);
	for (size_t i = 0; i < list.n; i++)
		buf_printf(&buf, "%s%s", i ? " " : "", list.entries[i].key);
	assert_string_equal(buf_str(&buf), keys);
}

static void lists_by_prefix_in_order(void **state)
{
	static const char *const keys[] = {
		"a0", "a/b", "b", "a/", "a", "a/a", "a//", "a/b/c", "A/", "a.", "a/~~", "a/~"};
	struct store *store = store_in(state);

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		put(store, keys[i], "v");
	expect_list(store, "a/", NULL, 0, "a/ a// a/a a/b a/b/c a/~ a/~~");
	expect_list(store, "", NULL, 0, "A/ a a. a/ a// a/a a/b a/b/c a/~ a/~~ a0 b");
	expect_list(store, "a", NULL, 0, "a a. a/ a// a/a a/b a/b/c a/~ a/~~ a0");
	expect_list(store, "a/b", NULL, 0, "a/b a/b/c");
	expect_list(store, "a/~", NULL, 0, "a/~ a/~~");
	expect_list(store, "c", NULL, 0, "");
	assert_int_equal(store_delete(store, "a/a", STORE_ANY, NULL), 0);
	expect_list(store, "a/", NULL, 3, "a/ a// a/b");
}

static void lists_page_by_page(void **state)
{
	static const char *const keys[] = {"p/1", "p/10", "p/2", "p/3", "o", "q"};
	struct store *store = store_in(state);

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		put(store, keys[i], "v");
	expect_list(store, "p/", NULL, 2, "p/1 p/10");
	expect_list(store, "p/", "p/10", 2, "p/2 p/3");
	expect_list(store, "p/", "p/3", 2, "");
	expect_list(store, "p/", "p/1", 0, "p/10 p/2 p/3");
	expect_list(store, "p/", "p/11", 1, "p/2");
	expect_list(store, "p/", "a", 0, "p/1 p/10 p/2 p/3");
	expect_list(store, "p/", "p/", 0, "p/1 p/10 p/2 p/3");
	expect_list(store, "p/", "z", 0, "");
	expect_list(store, "", "p/2", 0, "p/3 q");
	expect_list(store, "p/1", "p/1", 0, "p/10");
}

static void a_list_says_the_revision_of_the_store(void **state)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	struct store *store = store_in(state);
	int64_t a = put(store, "a", "1"), b = put(store, "b", "1");

	assert_int_equal(store_list(store, "a", NULL, 0, NULL, &list), 0);
	assert_int_equal(list.n, 1);
	assert_int_equal(list.entries[0].revision, a);
	assert_int_equal(list.revision, b);
}

/* ---- watches ---- */

static void a_watch_gets_history_and_then_what_comes(void **state)
{
	_cleanup_(notes_done) struct notes all = NOTES_INIT, some = NOTES_INIT, live = NOTES_INIT;
	struct store *store = store_in(state);
	struct store_watch *w[3];
	const struct store_op both[] = {
		{STORE_PUT, "b/1", "4", 1, STORE_ANY},
		{STORE_DELETE, "a/1", NULL, 0, STORE_ANY},
		{STORE_CHECK, "a/2", NULL, 0, STORE_ABSENT},
	};

	put(store, "a/1", "1");
	put(store, "b/1", "2");
	put(store, "a/1", "3");
	w[0] = watch(store, "", 0, &all);
	w[1] = watch(store, "a/", 1, &some);
	w[2] = watch(store, "", 3, &live);
	assert_int_equal(store_commit(store, both, 3, NULL, NULL), 0);
	put(store, "a/2", "");
	put(store, "a0", "6");
	put(store, "z", "7");
	put(store, "a/z", "8");
	wait_for(&all, 9);
	wait_for(&some, 4);
	wait_for(&live, 6);
	for (size_t i = 0; i < 3; i++)
		store_unwatch(store, w[i]);
	put(store, "a/2", "unseen");
	assert_string_equal(buf_str(&all.text),
		"+a/1=1@1\n+b/1=2@2\n+a/1=3@3\n+b/1=4@4\n-a/1@4\n+a/2=@5\n"
		"+a0=6@6\n+z=7@7\n+a/z=8@8\n");
	assert_string_equal(buf_str(&some.text), "+a/1=3@3\n-a/1@4\n+a/2=@5\n+a/z=8@8\n");
	assert_string_equal(
		buf_str(&live.text), "+b/1=4@4\n-a/1@4\n+a/2=@5\n+a0=6@6\n+z=7@7\n+a/z=8@8\n");
}

struct writer {
	struct store *store;
	pthread_t thread;
	unsigned id;
	unsigned n;
};

static void *write_many(void *arg)
{
	struct writer *writer = arg;
	char key[32], value[32];

	for (unsigned i = 0; i < writer->n; i++) {
		snprintf(key, sizeof(key), "w/%u/%u", writer->id, i % 7);
		snprintf(value, sizeof(value), "%u", i);
		if (store_put(writer->store, key, value, strlen(value), STORE_ANY, NULL, NULL) < 0)
			abort();
		/* So that the watches of the test join while this goes on. */
		if (i % 8 == 0)
			usleep(500);
	}
	return NULL;
}

#define WRITERS 4
#define WRITES 300

/* Watches that join while others write see each change once, in order, from where they asked. */
static void watches_join_live_without_a_gap(void **state)
{
	struct store *store = store_in(state);
	struct writer writers[WRITERS];
	struct notes notes[8];
	struct store_watch *w[8];
	int64_t from[8];

	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){.store = store, .id = i, .n = WRITES};
		assert_int_equal(
			pthread_create(&writers[i].thread, NULL, write_many, &writers[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(notes); i++) {
		_cleanup_(store_list_done) struct store_list list = {0};

		assert_int_equal(store_list(store, "w/", NULL, 1, NULL, &list), 0);
		from[i] = i % 2 ? list.revision / 2 : list.revision;
		notes[i] = NOTES_INIT;
		w[i] = watch(store, "w/", from[i], &notes[i]);
		usleep(3000);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(notes); i++) {
		wait_for(&notes[i], (size_t)(WRITERS * WRITES - from[i]));
		store_unwatch(store, w[i]);
		assert_int_equal(notes[i].n, WRITERS * WRITES - from[i]);
		assert_int_equal(notes[i].last, notes[i].n ? WRITERS * WRITES : 0);
		assert_false(notes[i].disorder);
		notes_done(&notes[i]);
	}
}

struct unwatcher {
	struct store *store;
	struct store_watch *watch;
	struct notes *notes;
	atomic_bool returned;
};

static void *unwatch_thread(void *arg)
{
	struct unwatcher *u = arg;

	store_unwatch(u->store, u->watch);
	atomic_store(&u->returned, true);
	return NULL;
}

static void unwatch_waits_for_a_running_delivery(void **state)
{
	_cleanup_(notes_done) struct notes notes = NOTES_INIT, other = NOTES_INIT;
	struct store *store = store_in(state);
	struct unwatcher u = {.store = store, .notes = &notes};
	struct store_watch *w = watch(store, "", 0, &other);
	pthread_t thread;

	notes.hold = true;
	u.watch = watch(store, "", 0, &notes);
	put(store, "a", "1");
	put(store, "a", "2");
	wait_for(&notes, 1);
	assert_int_equal(pthread_create(&thread, NULL, unwatch_thread, &u), 0);
	usleep(50000);
	assert_false(atomic_load(&u.returned));

	/* The store goes on meanwhile, and another watch may end. */
	put(store, "a", "3");
	store_unwatch(store, w);

	pthread_mutex_lock(&notes.lock);
	notes.hold = false;
	pthread_cond_broadcast(&notes.more);
	pthread_mutex_unlock(&notes.lock);
	pthread_join(thread, NULL);
	assert_false(notes.inside);
	assert_int_equal(notes.n, 1);
	store_unwatch(store, NULL);
}

static void history_is_bounded_but_not_under_a_watch(void **state)
{
	_cleanup_(notes_done) struct notes early = NOTES_INIT, late = NOTES_INIT;
	_cleanup_free_ char *value = xcalloc(1, STORE_VALUE_MAX);
	struct store *store = store_in(state);
	struct store_watch *w, *none = NULL;
	_cleanup_(store_list_done) struct store_list list = {0};
	struct err err = {0};

	early.hold = true;
	w = watch(store, "", 0, &early);
	for (int i = 0; i < 16; i++)
		assert_int_equal(store_put(store, "big", value, STORE_VALUE_MAX - (size_t)i,
					 STORE_ANY, NULL, NULL),
			0);
	pthread_mutex_lock(&early.lock);
	early.hold = false;
	pthread_cond_broadcast(&early.more);
	pthread_mutex_unlock(&early.lock);
	wait_for(&early, 16);
	assert_int_equal(early.last, 16);
	assert_false(early.disorder);
	store_unwatch(store, w);
	/* Now nothing holds the history, and the next commits cut it. */
	put(store, "small", "17");
	assert_int_equal(store_watch(store, "", 0, note, &late, &err, &none), -ESTALE);
	assert_string_equal(err.code, "RevisionCompacted");
	assert_null(none);
	assert_int_equal(store_list(store, "small", NULL, 0, NULL, &list), 0);
	w = watch(store, "", list.revision - 1, &late);
	put(store, "small", "18");
	wait_for(&late, 2);
	store_unwatch(store, w);
	assert_string_equal(buf_str(&late.text), "+small=17@17\n+small=18@18\n");
}

/* ---- threads ---- */

#define COUNTERS 8
#define COUNTS 100

static void *count_up(void *arg)
{
	struct store *store = arg;

	for (int done = 0; done < COUNTS;) {
		_cleanup_(store_entry_done) struct store_entry entry = {0};
		uint64_t value;
		char text[32];
		int r;

		if (store_get(store, "sum", NULL, &entry) < 0 ||
			str_to_u64(entry.value, UINT32_MAX, &value) < 0)
			abort();
		snprintf(text, sizeof(text), "%llu", (unsigned long long)value + 1);
		r = store_put(store, "sum", text, strlen(text), entry.revision, NULL, NULL);
		if (r == 0)
			done++;
		else if (r != -EAGAIN)
			abort();
	}
	return NULL;
}

static void increments_of_many_threads_add_up(void **state)
{
	struct store *store = store_in(state);
	pthread_t threads[COUNTERS];

	put(store, "sum", "0");
	for (size_t i = 0; i < COUNTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_up, store), 0);
	for (size_t i = 0; i < COUNTERS; i++)
		pthread_join(threads[i], NULL);
	expect_text(store, "sum", "800", 0);
}

static void *write_and_read_back(void *arg)
{
	struct writer *writer = arg;
	char key[32], value[32];

	snprintf(key, sizeof(key), "own/%u", writer->id);
	for (unsigned i = 0; i < writer->n; i++) {
		_cleanup_(store_entry_done) struct store_entry entry = {0};
		_cleanup_(store_list_done) struct store_list list = {0};
		int64_t revision;

		snprintf(value, sizeof(value), "%u", i);
		if (store_put(writer->store, key, value, strlen(value), STORE_ANY, NULL,
			    &revision) < 0 ||
			store_get(writer->store, key, NULL, &entry) < 0 ||
			store_list(writer->store, key, NULL, 0, NULL, &list) < 0)
			abort();
		if (!str_eq(entry.value, value) || entry.revision != revision ||
			list.revision < revision || list.n != 1 ||
			!str_eq(list.entries[0].value, value))
			abort();
	}
	return NULL;
}

static void a_commit_that_returned_is_visible(void **state)
{
	struct writer writers[COUNTERS];

	for (unsigned i = 0; i < COUNTERS; i++) {
		writers[i] = (struct writer){.store = store_in(state), .id = i, .n = 100};
		assert_int_equal(
			pthread_create(&writers[i].thread, NULL, write_and_read_back, &writers[i]),
			0);
	}
	for (size_t i = 0; i < COUNTERS; i++)
		pthread_join(writers[i].thread, NULL);
}

#define BOTH(f)                                                                                    \
	{"memory: " #f, f, setup_memory, teardown, NULL},                                          \
	{                                                                                          \
		"sqlite: " #f, f, setup_sqlite, teardown, NULL                                     \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(starts_empty_and_counts_revisions_from_one),
		BOTH(absent_expects_nothing_there),
		BOTH(has_room_while_the_disk_has),
		BOTH(exact_expects_that_revision),
		BOTH(deleting_nothing_is_fine_and_changes_nothing),
		BOTH(a_commit_is_all_or_nothing),
		BOTH(a_check_alone_changes_nothing),
		BOTH(refuses_bad_commits),
		BOTH(keys_have_bounds),
		BOTH(values_have_a_bound),
		BOTH(values_are_bytes),
		BOTH(lists_by_prefix_in_order),
		BOTH(lists_page_by_page),
		BOTH(a_list_says_the_revision_of_the_store),
		BOTH(a_watch_gets_history_and_then_what_comes),
		BOTH(watches_join_live_without_a_gap),
		BOTH(unwatch_waits_for_a_running_delivery),
		BOTH(history_is_bounded_but_not_under_a_watch),
		BOTH(increments_of_many_threads_add_up),
		BOTH(a_commit_that_returned_is_visible),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
