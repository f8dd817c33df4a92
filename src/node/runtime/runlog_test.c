/* The files of a container's logs as conmon leaves them, without conmon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "node/runtime/follow.h"
#include "node/runtime/internal.h"

#define T "2026-01-02T03:04:05.000000006+00:00 "
#define SHOWN "2026-01-02T03:04:05.000000006Z "

static char dir[64];

static int make_dir(void **state)
{
	char path[128];

	snprintf(dir, sizeof(dir), "/tmp/runlog-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	return mkdir(path, 0700);
}

static int remove_dir(void **state)
{
	return file_remove_tree(AT_FDCWD, dir);
}

static const char *path_of(unsigned run, const char *suffix)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/log/%u.log%s", dir, run, suffix);
	return path;
}

static void add(unsigned run, const char *text)
{
	int fd = open(path_of(run, ""), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	fd_close(fd);
}

/* As conmon does when the file is full. */
static void replace(unsigned run)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s", path_of(run, ""));
	/* Files' times are as coarse as the timer. */
	usleep(10000);
	fd = open(path_of(run, ".tmp"), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	fd_close(fd);
	assert_int_equal(rename(path_of(run, ".tmp"), path), 0);
}

static int to_buf(bool is_stderr, const char *data, size_t len, void *arg)
{
	struct buf *buf = arg;

	if (is_stderr && data[0] != '\n')
		buf_adds(buf, "!");
	return buf_add(buf, data, len);
}

static void expect(struct runtime_follow *follow, const char *expected)
{
	_cleanup_buf_ struct buf buf = BUF_INIT;
	struct err err = {0};
	int r;

	while ((r = runtime_follow_read(follow, to_buf, &buf, &err)) == 1)
		;
	assert_int_equal(r, 0);
	assert_string_equal(buf_str(&buf), expected);
}

static void it_begins_with_the_tail(void **state)
{
	static const struct {
		int64_t tail;
		const char *expected;
	} rows[] = {{-1, "one\ntwo\n!three\nfo"}, {0, ""}, {1, "fo"}, {2, "!three\nfo"},
		{3, "two\n!three\nfo"}, {100, "one\ntwo\n!three\nfo"}};

	add(1, T "stdout F one\n" T "stdout P t\n" T "stdout F wo\n");
	assert_int_equal(runtime_log_keep(NULL, dir, 1, NULL), 0);
	replace(1);
	/* A record that conmon has written half of. */
	add(1, T "stderr F three\n" T "stdout P fo\n" T "stdo");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct runtime_follow *follow =
			runtime_follow_new(NULL, dir, 1, rows[i].tail, false);

		expect(follow, rows[i].expected);
		expect(follow, "");
		if (i + 1 == ARRAY_SIZE(rows)) {
			add(1, "ut F ur\n" T "stdout F five\n");
			expect(follow, "ur\nfive\n");
		}
		runtime_follow_free(follow);
	}
}

static void it_goes_along_with_replaced_files(void **state)
{
	struct runtime_follow *follow = runtime_follow_new(NULL, dir, 1, 0, true);

	add(1, T "stdout F before\n");
	expect(follow, "");
	add(1, T "stdout P a\n");
	expect(follow, SHOWN "a");
	add(1, T "stdout F b\n");
	replace(1);
	add(1, T "stdout F c\n");
	expect(follow, "b\n" SHOWN "c\n");
	/* Twice between two looks, if somebody keeps the one between. */
	add(1, T "stderr F d\n");
	replace(1);
	add(1, T "stdout F e\n");
	assert_int_equal(runtime_log_keep(NULL, dir, 1, NULL), 0);
	replace(1);
	add(1, T "stdout F f\n");
	assert_int_equal(runtime_log_keep(NULL, dir, 1, NULL), 0);
	expect(follow, "!" SHOWN "d\n" SHOWN "e\n" SHOWN "f\n");
	/* What was removed is read to its end. */
	add(1, T "stdout F g\n");
	assert_false(runtime_follow_holds_removed(follow));
	log_remove(dir, 1);
	assert_true(runtime_follow_holds_removed(follow));
	expect(follow, SHOWN "g\n");
	expect(follow, "");
	runtime_follow_free(follow);
}

static void it_goes_on_with_the_next_runs(void **state)
{
	struct runtime_follow *follow = runtime_follow_new(NULL, dir, 0, 0, false);

	expect(follow, "");
	/* Before there was a run: all of what comes. */
	runtime_follow_next(follow, 1);
	expect(follow, "");
	add(1, T "stdout F one\n" T "stdout P end");
	expect(follow, "one\n");
	add(1, "\n");
	expect(follow, "end");
	add(2, T "stdout F two\n");
	add(3, T "stdout F three\n");
	runtime_follow_next(follow, 3);
	assert_int_equal(runtime_follow_run(follow), 2);
	expect(follow, "two\n");
	runtime_follow_next(follow, 3);
	expect(follow, "three\n");
	runtime_follow_next(follow, 9);
	assert_int_equal(runtime_follow_run(follow), 9);
	expect(follow, "");
	runtime_follow_free(follow);
}

static void two_runs_stay(void **state)
{
	for (unsigned run = 1; run <= 12; run++) {
		/* The fifth and sixth could not be created. */
		if (run == 5 || run == 6)
			continue;
		add(run, T "stdout F x\n");
		assert_int_equal(runtime_log_keep(NULL, dir, run, NULL), 0);
	}
	assert_int_equal(runtime_log_previous(dir, 13), 12);
	assert_int_equal(runtime_log_previous(dir, 7), 4);
	assert_int_equal(runtime_log_previous(dir, 1), 0);
	log_remove_old(dir, 7);
	assert_int_equal(runtime_log_previous(dir, 4), 0);
	assert_int_not_equal(access(path_of(3, ".held"), F_OK), 0);
	assert_int_equal(access(path_of(4, ""), F_OK), 0);
	assert_int_equal(access(path_of(7, ""), F_OK), 0);
	log_remove_old(dir, 13);
	assert_int_equal(runtime_log_previous(dir, 12), 0);
	assert_int_equal(runtime_log_previous(dir, 13), 12);
}

static void a_run_without_a_log_has_an_empty_one(void **state)
{
	struct err err = {0};

	assert_int_equal(runtime_log_copy(NULL, dir, 4, 0, false, 0, STDOUT_FILENO, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_begins_with_the_tail, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(
			it_goes_along_with_replaced_files, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(
			it_goes_on_with_the_next_runs, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(two_runs_stay, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(
			a_run_without_a_log_has_an_empty_one, make_dir, remove_dir),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
