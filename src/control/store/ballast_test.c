#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/file.h"
#include "control/store/ballast.h"

struct place {
	char dir[64], path[80];
	struct ballast *ballast;
};

static int set_up(void **state)
{
	struct place *place = xnew(struct place);

	assert_int_equal(str_copy(place->dir, sizeof(place->dir), "/tmp/ballast_test.XXXXXX"), 0);
	assert_non_null(mkdtemp(place->dir));
	snprintf(place->path, sizeof(place->path), "%s/reserve", place->dir);
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;
	int r;

	ballast_free(place->ballast);
	r = file_remove_tree(AT_FDCWD, place->dir);
	free(place);
	return r;
}

static void expect_file(const struct place *place, uint64_t bytes)
{
	struct stat st;

	assert_int_equal(lstat(place->path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(st.st_size, bytes);
	assert_true((uint64_t)st.st_blocks * 512 >= bytes);
}

static void gives_steps_until_nothing_is_left_and_is_made_anew(void **state)
{
	struct place *place = *state;

	place->ballast = ballast_new(place->path);
	assert_true(ballast_whole(place->ballast));
	expect_file(place, BALLAST_BYTES);
	for (uint64_t left = BALLAST_BYTES; left > 0; left -= BALLAST_STEP) {
		assert_true(ballast_give(place->ballast));
		assert_false(ballast_whole(place->ballast));
		expect_file(place, left - BALLAST_STEP);
	}
	assert_false(ballast_give(place->ballast));
	assert_true(ballast_fill(place->ballast));
	assert_true(ballast_whole(place->ballast));
	expect_file(place, BALLAST_BYTES);
}

static void takes_over_what_is_there(void **state)
{
	struct place *place = *state;

	place->ballast = ballast_new(place->path);
	assert_true(ballast_give(place->ballast));
	ballast_free(place->ballast);
	assert_int_equal(chmod(place->path, 0644), 0);
	place->ballast = ballast_new(place->path);
	assert_true(ballast_whole(place->ballast));
	expect_file(place, BALLAST_BYTES);
}

static void holes_are_filled_and_what_is_too_much_is_cut(void **state)
{
	struct place *place = *state;
	_cleanup_fd_ int fd = open(place->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, (off_t)(2 * BALLAST_BYTES)), 0);
	place->ballast = ballast_new(place->path);
	assert_true(ballast_whole(place->ballast));
	expect_file(place, BALLAST_BYTES);
}

static void where_it_cannot_be_there_is_none(void **state)
{
	struct place *place = *state;

	assert_int_equal(symlink("/nonexistent", place->path), 0);
	place->ballast = ballast_new(place->path);
	assert_true(ballast_whole(place->ballast));
	assert_false(ballast_give(place->ballast));
	assert_true(ballast_fill(place->ballast));
}

#define PLACE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLACE(gives_steps_until_nothing_is_left_and_is_made_anew),
		PLACE(takes_over_what_is_there),
		PLACE(holes_are_filled_and_what_is_too_much_is_cut),
		PLACE(where_it_cannot_be_there_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
