/* The store on a disk that is really full: as root, on a tmpfs in a mount namespace of the test's
 * own. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/file.h"
#include "control/store/ballast.h"
#include "control/store/store_fixture.h"

#define DISK "size=24m,mode=0700"

static int set_up(void **state)
{
	struct fixture *f = xnew(struct fixture);
	struct err err = {0};

	assert_int_equal(str_copy(f->dir, sizeof(f->dir), "/tmp/store_root_test.XXXXXX"), 0);
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(mount("tmpfs", f->dir, "tmpfs", 0, DISK), 0);
	snprintf(f->path, sizeof(f->path), "%s/berth.db", f->dir);
	if (store_open_sqlite(f->path, &err, &f->store) < 0)
		fail_msg("%s", err.message);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	int r;

	store_free(f->store);
	r = umount2(f->dir, MNT_DETACH);
	if (rmdir(f->dir) < 0)
		r = -1;
	free(f);
	return r;
}

static char *beside(const struct fixture *f, const char *suffix)
{
	return xasprintf("%s%s", f->path, suffix);
}

static uint64_t size_of(const struct fixture *f, const char *suffix)
{
	_cleanup_free_ char *path = beside(f, suffix);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

/* To the last byte. */
static void fill_disk(const struct fixture *f)
{
	_cleanup_free_ char *path = beside(f, "-filler");
	_cleanup_free_ char *zeros = xcalloc(1, 4096);
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	while (write(fd, zeros, 4096) > 0)
		;
	assert_int_equal(errno, ENOSPC);
}

static void free_disk(const struct fixture *f)
{
	_cleanup_free_ char *path = beside(f, "-filler");

	assert_int_equal(unlink(path), 0);
}

static void expect_short(struct store *store)
{
	struct err err = {0};

	assert_int_equal(store_check_room(store, &err), -ENOSPC);
	assert_string_equal(err.code, "StoreUnavailable");
	assert_non_null(strstr(err.message, "disk"));
}

static void commits_go_on_when_the_disk_is_full(void **state)
{
	struct fixture *f = *state;
	char key[32], value[4096];

	memset(value, 'x', sizeof(value));
	put(f->store, "group", "1");
	assert_int_equal(size_of(f, "-reserve"), BALLAST_BYTES);
	fill_disk(f);
	expect_short(f->store);
	assert_int_equal(size_of(f, "-reserve"), BALLAST_BYTES);
	for (int i = 0; i < 300; i++) {
		struct err err = {0};

		snprintf(key, sizeof(key), "status/%d", i % 10);
		if (store_put(f->store, key, value, sizeof(value), STORE_ANY, &err, NULL) < 0)
			fail_msg("%d: %s", i, err.message);
	}
	assert_int_equal(store_delete(f->store, "group", STORE_ANY, NULL), 0);
	expect_absent(f->store, "group");
	assert_true(size_of(f, "-reserve") < BALLAST_BYTES);
	/* 300 commits of several pages each, and the log began anew with most of them. */
	assert_true(size_of(f, "-wal") < (uint64_t)1 << 20);
	expect_short(f->store);

	free_disk(f);
	assert_int_equal(store_check_room(f->store, NULL), 0);
	assert_int_equal(size_of(f, "-reserve"), BALLAST_BYTES);
	put(f->store, "group", "2");
}

static void somebody_else_takes_what_is_given_back(void **state)
{
	struct fixture *f = *state;
	int64_t before = put(f->store, "a", "1");
	_cleanup_free_ char *value = xcalloc(1, (size_t)300 << 10);
	struct err err = {0};
	int r = 0;

	for (int i = 0; i < 200 && r == 0; i++) {
		fill_disk(f);
		r = store_put(f->store, "b", value, (size_t)300 << 10, STORE_ANY, &err, NULL);
	}
	assert_int_equal(r, -ENOSPC);
	assert_string_equal(err.code, "StoreUnavailable");
	assert_int_equal(size_of(f, "-reserve"), 0);
	expect_text(f->store, "a", "1", before);
	free_disk(f);
	assert_int_equal(
		store_put(f->store, "b", value, (size_t)300 << 10, STORE_ANY, NULL, NULL), 0);
	assert_int_equal(store_check_room(f->store, NULL), 0);
	assert_int_equal(size_of(f, "-reserve"), BALLAST_BYTES);
}

static void what_is_large_gets_nothing_of_the_reserve(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *value = xcalloc(1, STORE_RESERVED_MAX + 1);

	put(f->store, "a", "1");
	fill_disk(f);
	assert_int_equal(
		store_put(f->store, "b", value, STORE_RESERVED_MAX + 1, STORE_ANY, NULL, NULL),
		-ENOSPC);
	assert_int_equal(size_of(f, "-reserve"), BALLAST_BYTES);
	assert_int_equal(
		store_put(f->store, "b", value, STORE_RESERVED_MAX, STORE_ANY, NULL, NULL), 0);
	assert_true(size_of(f, "-reserve") < BALLAST_BYTES);
}

static void starts_on_a_full_disk(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};

	put(f->store, "a", "1");
	store_free(take_ptr(f->store));
	fill_disk(f);
	if (store_open_sqlite(f->path, &err, &f->store) < 0)
		fail_msg("%s", err.message);
	put(f->store, "a", "2");
	assert_true(size_of(f, "-reserve") < BALLAST_BYTES);
	expect_short(f->store);
}

#define ON_SMALL_DISK(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_SMALL_DISK(commits_go_on_when_the_disk_is_full),
		ON_SMALL_DISK(somebody_else_takes_what_is_given_back),
		ON_SMALL_DISK(what_is_large_gets_nothing_of_the_reserve),
		ON_SMALL_DISK(starts_on_a_full_disk),
	};

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
