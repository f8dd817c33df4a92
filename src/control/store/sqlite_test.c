/* What the SQLite backend promises beyond the conformance suite. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/random.h"
#include "control/store/sqlite_conn.h"
#include "control/store/store_fixture.h"

static int reopen(struct fixture *f, struct err *err)
{
	store_free(take_ptr(f->store));
	return store_open_sqlite(f->path, err, &f->store);
}

static void sql(const char *path, const char *text)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void reopening_keeps_data_history_and_revisions(void **state)
{
	_cleanup_(notes_done) struct notes notes = NOTES_INIT;
	struct fixture *f = *state;
	struct store_watch *w;

	put(f->store, "a", "1");
	put(f->store, "b", "2");
	assert_int_equal(store_delete(f->store, "a", STORE_ANY, NULL), 0);
	assert_int_equal(reopen(f, NULL), 0);
	expect_absent(f->store, "a");
	expect_text(f->store, "b", "2", 2);
	assert_int_equal(put(f->store, "c", "4"), 4);
	w = watch(f->store, "", 0, &notes);
	wait_for(&notes, 4);
	store_unwatch(f->store, w);
	assert_string_equal(buf_str(&notes.text), "+a=1@1\n+b=2@2\n-a@3\n+c=4@4\n");
}

static void files_are_for_the_owner_only(void **state)
{
	static const char *const suffixes[] = {"", "-wal", "-shm", "-lock", "-reserve"};
	struct fixture *f = *state;
	char path[96];
	struct stat st;

	store_free(take_ptr(f->store));
	assert_int_equal(chmod(f->path, 0644), 0);
	assert_int_equal(store_open_sqlite(f->path, NULL, &f->store), 0);
	put(f->store, "a", "1");
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		snprintf(path, sizeof(path), "%s%s", f->path, suffixes[i]);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
	}
}

static void refuses_a_newer_schema(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};

	put(f->store, "a", "1");
	store_free(take_ptr(f->store));
	sql(f->path, "PRAGMA user_version = 7");
	assert_int_equal(store_open_sqlite(f->path, &err, &f->store), -ENOTSUP);
	assert_string_equal(err.code, "StoreTooNew");
	assert_non_null(strstr(err.message, "version 7"));
	assert_non_null(strstr(err.message, "up to 1"));
	sql(f->path, "PRAGMA user_version = 1");
	assert_int_equal(store_open_sqlite(f->path, &err, &f->store), 0);
	expect_text(f->store, "a", "1", 1);
}

static void refuses_what_is_no_database_of_ours(void **state)
{
	static const char junk[] =
		"This is a letter and not a database, however long one looks at it.";
	struct fixture *f = *state;
	_cleanup_free_ char *data = NULL;
	_cleanup_free_ char *many = xcalloc(1, 8192);
	struct err err = {0};
	size_t len;

	store_free(take_ptr(f->store));
	for (size_t i = 0; i + sizeof(junk) < 8192; i += sizeof(junk))
		memcpy(many + i, junk, sizeof(junk));
	assert_int_equal(file_write_replace(AT_FDCWD, f->path, many, 8192, 0600), 0);
	assert_int_equal(store_open_sqlite(f->path, &err, &f->store), -EIO);
	assert_string_equal(err.code, "StoreUnavailable");
	assert_non_null(strstr(err.message, "no database"));
	assert_non_null(strstr(err.message, f->path));
	assert_int_equal(file_read(AT_FDCWD, f->path, 1 << 20, &data, &len), 0);
	assert_int_equal(len, 8192);
	assert_memory_equal(data, many, len);

	assert_int_equal(unlink(f->path), 0);
	sql(f->path, "CREATE TABLE recipes(name)");
	assert_int_equal(store_open_sqlite(f->path, &err, &f->store), -EIO);
	assert_non_null(strstr(err.message, "another program"));
}

static void refuses_a_path_that_is_not_there(void **state)
{
	struct err err = {0};
	struct store *store = NULL;

	assert_int_equal(store_open_sqlite("/nonexistent/berth.db", &err, &store), -ENOENT);
	assert_non_null(strstr(err.message, "/nonexistent/berth.db"));
	assert_null(store);
}

static void one_process_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct store *second = NULL;
	struct err err = {0};

	assert_int_equal(store_open_sqlite(f->path, &err, &second), -EBUSY);
	assert_string_equal(err.code, "StoreUnavailable");
	assert_non_null(strstr(err.message, "Another process"));
	put(f->store, "a", "1");
}

static void set_file_limit(rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = MIN(bytes, limit.rlim_max);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A file limit stands in for a full disk: the same write(2) fails at the same places. */
static void limit_files(rlim_t bytes, struct sigaction *ret_old)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};

	assert_int_equal(sigaction(SIGXFSZ, &ignore, ret_old), 0);
	set_file_limit(bytes);
}

static void lift_limit(const struct sigaction *old)
{
	set_file_limit(RLIM_INFINITY);
	assert_int_equal(sigaction(SIGXFSZ, old, NULL), 0);
}

static void recovers_from_a_full_disk(void **state)
{
	_cleanup_free_ char *value = xcalloc(1, 1 << 20);
	struct fixture *f = *state;
	int64_t before = put(f->store, "a", "1");
	struct sigaction old;

	limit_files((rlim_t)256 << 10, &old);
	for (int i = 0; i < 3; i++) {
		struct err err = {0};

		assert_int_equal(
			store_put(f->store, "b", value, 1 << 20, STORE_ANY, &err, NULL), -ENOSPC);
		assert_string_equal(err.code, "StoreUnavailable");
		assert_non_null(strstr(err.message, f->path));
	}
	expect_text(f->store, "a", "1", before);
	expect_absent(f->store, "b");
	/* What is small still fits. */
	assert_int_equal(put(f->store, "c", "2"), before + 1);
	lift_limit(&old);
	assert_int_equal(store_put(f->store, "b", value, 1 << 20, STORE_ABSENT, NULL, NULL), 0);
	assert_int_equal(reopen(f, NULL), 0);
	expect_text(f->store, "a", "1", before);
	expect_text(f->store, "c", "2", before + 1);
}

/* ---- batches ---- */

struct caller {
	struct store *store;
	struct store_op op;
	pthread_t thread;
	struct err err;
	int r;
};

static void *call(void *arg)
{
	struct caller *caller = arg;

	caller->r = store_commit(caller->store, &caller->op, 1, &caller->err, NULL);
	return NULL;
}

/* Has the callers commit while the writer waits for a lock, so that all but the first end up in one
 * batch. Each is given the time to queue up, which keeps their order. */
static void commit_in_one_batch(struct fixture *f, struct caller *callers, size_t n)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	for (size_t i = 0; i < n; i++) {
		callers[i].store = f->store;
		assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
		usleep(20000);
	}
	/* Readers don't wait for the writer. */
	expect_text(f->store, "before", "0", 1);
	assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	for (size_t i = 0; i < n; i++)
		pthread_join(callers[i].thread, NULL);
}

static void a_failed_expectation_undoes_nothing_of_its_batch(void **state)
{
	struct fixture *f = *state;
	struct caller callers[] = {
		{.op = {STORE_PUT, "first", "1", 1, STORE_ABSENT}},
		{.op = {STORE_PUT, "a", "2", 1, STORE_ABSENT}},
		{.op = {STORE_PUT, "a", "3", 1, STORE_ABSENT}},
		{.op = {STORE_PUT, "b", "4", 1, STORE_ABSENT}},
		{.op = {STORE_DELETE, "before", NULL, 0, 77}},
		{.op = {STORE_DELETE, "first", NULL, 0, STORE_ANY}},
	};

	put(f->store, "before", "0");
	commit_in_one_batch(f, callers, ARRAY_SIZE(callers));
	assert_int_equal(callers[0].r, 0);
	assert_int_equal(callers[1].r, 0);
	assert_int_equal(callers[2].r, -EAGAIN);
	assert_string_equal(callers[2].err.target, "a");
	assert_int_equal(callers[3].r, 0);
	assert_int_equal(callers[4].r, -EAGAIN);
	assert_int_equal(callers[5].r, 0);
	expect_text(f->store, "a", "2", 3);
	expect_text(f->store, "b", "4", 4);
	expect_absent(f->store, "first");
	assert_int_equal(put(f->store, "c", ""), 6);
}

static void what_does_not_fit_fails_alone(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *value = xcalloc(1, 1 << 20);
	struct caller callers[] = {
		{.op = {STORE_PUT, "first", "1", 1, STORE_ANY}},
		{.op = {STORE_PUT, "a", "2", 1, STORE_ANY}},
		{.op = {STORE_PUT, "big", value, 1 << 20, STORE_ANY}},
		{.op = {STORE_PUT, "b", "3", 1, STORE_ANY}},
	};
	struct sigaction old;

	put(f->store, "before", "0");
	limit_files((rlim_t)256 << 10, &old);
	commit_in_one_batch(f, callers, ARRAY_SIZE(callers));
	lift_limit(&old);
	assert_int_equal(callers[1].r, 0);
	assert_int_equal(callers[2].r, -ENOSPC);
	assert_string_equal(callers[2].err.code, "StoreUnavailable");
	assert_int_equal(callers[3].r, 0);
	expect_text(f->store, "a", "2", 3);
	expect_text(f->store, "b", "3", 4);
	expect_absent(f->store, "big");
}

/* ---- kill -9 ---- */

struct victim {
	struct store *store;
	int fd;
	atomic_uint_fast64_t next;
};

/* Each commit writes a pair, which must be there as a pair; the number goes to the pipe once it is
 * acknowledged. */
static void *commit_numbers(void *arg)
{
	struct victim *victim = arg;

	for (;;) {
		uint64_t number = atomic_fetch_add(&victim->next, 1);
		char one[40], two[40];
		const struct store_op ops[] = {
			{STORE_PUT, one, one, strlen("one/"), STORE_ABSENT},
			{STORE_PUT, two, two, strlen("two/"), STORE_ABSENT},
		};

		snprintf(one, sizeof(one), "one/%llu", (unsigned long long)number);
		snprintf(two, sizeof(two), "two/%llu", (unsigned long long)number);
		if (store_commit(victim->store, ops, 2, NULL, NULL) < 0 ||
			fd_write_all(victim->fd, &number, sizeof(number)) < 0)
			_exit(1);
	}
}

static _Noreturn void be_killed(const char *path, int fd, uint64_t first)
{
	struct victim victim = {.fd = fd, .next = first};
	pthread_t thread;

	if (store_open_sqlite(path, NULL, &victim.store) < 0)
		_exit(1);
	for (int i = 0; i < 3; i++)
		if (pthread_create(&thread, NULL, commit_numbers, &victim) != 0)
			_exit(1);
	commit_numbers(&victim);
	_exit(0);
}

/* Numbers that were acknowledged before the end, in any order. */
static size_t read_acks(int fd, uint64_t **ret)
{
	_cleanup_buf_ struct buf buf = BUF_INIT;

	while (buf_read(&buf, fd, 65536) > 0)
		;
	*ret = xcalloc(buf.len / sizeof(uint64_t) + 1, sizeof(uint64_t));
	memcpy(*ret, buf.len ? buf.data : "", buf.len);
	return buf.len / sizeof(uint64_t);
}

static size_t round_of_kill(struct fixture *f, uint64_t first)
{
	_cleanup_(store_list_done) struct store_list one = {0}, two = {0};
	_cleanup_free_ uint64_t *acks = NULL;
	uint8_t random;
	int fds[2], status;
	size_t n;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		be_killed(f->path, fds[1], first);
	fd_close(fds[1]);
	random_bytes(&random, 1);
	usleep(20000 + random * 300U);
	assert_int_equal(kill(pid, SIGKILL), 0);
	n = read_acks(fds[0], &acks);
	fd_close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));

	assert_int_equal(store_open_sqlite(f->path, NULL, &f->store), 0);
	for (size_t i = 0; i < n; i++) {
		_cleanup_(store_entry_done) struct store_entry entry = {0};
		char key[40];

		snprintf(key, sizeof(key), "one/%llu", (unsigned long long)acks[i]);
		assert_int_equal(store_get(f->store, key, NULL, &entry), 0);
	}
	assert_int_equal(store_list(f->store, "one/", NULL, 0, NULL, &one), 0);
	assert_int_equal(store_list(f->store, "two/", NULL, 0, NULL, &two), 0);
	assert_int_equal(one.n, two.n);
	assert_int_equal(one.revision, one.n);
	for (size_t i = 0; i < one.n; i++) {
		assert_string_equal(one.entries[i].key + 3, two.entries[i].key + 3);
		assert_int_equal(one.entries[i].revision, two.entries[i].revision);
	}
	store_free(take_ptr(f->store));
	return n;
}

#define KILLS 20

static void kill_9_loses_nothing_that_was_acknowledged(void **state)
{
	struct fixture *f = *state;
	size_t acknowledged = 0;

	store_free(take_ptr(f->store));
	for (uint64_t i = 0; i < KILLS; i++)
		acknowledged += round_of_kill(f, i * 1000000);
	assert_true(acknowledged > 0);
	print_message("%zu commits acknowledged in %d rounds\n", acknowledged, KILLS);
}

#define SQLITE(f) cmocka_unit_test_setup_teardown(f, setup_sqlite, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SQLITE(reopening_keeps_data_history_and_revisions),
		SQLITE(files_are_for_the_owner_only),
		SQLITE(refuses_a_newer_schema),
		SQLITE(refuses_what_is_no_database_of_ours),
		SQLITE(refuses_a_path_that_is_not_there),
		SQLITE(one_process_at_a_time),
		SQLITE(recovers_from_a_full_disk),
		SQLITE(a_failed_expectation_undoes_nothing_of_its_batch),
		SQLITE(what_does_not_fit_fails_alone),
		SQLITE(kill_9_loses_nothing_that_was_acknowledged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
