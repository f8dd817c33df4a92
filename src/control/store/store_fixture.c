#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "control/store/store_fixture.h"

#define WAIT_MS 20000

static struct fixture *fixture_new(bool sqlite)
{
	struct fixture *f = xnew(struct fixture);
	struct err err = {0};

	f->sqlite = sqlite;
	assert_int_equal(str_copy(f->dir, sizeof(f->dir), "/tmp/store_test.XXXXXX"), 0);
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/berth.db", f->dir);
	if (!sqlite)
		f->store = store_open_memory();
	else if (store_open_sqlite(f->path, &err, &f->store) < 0)
		fail_msg("%s", err.message);
	return f;
}

int setup_memory(void **state)
{
	*state = fixture_new(false);
	return 0;
}

int setup_sqlite(void **state)
{
	*state = fixture_new(true);
	return 0;
}

int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	store_free(f->store);
	r = file_remove_tree(AT_FDCWD, f->dir);
	free(f);
	return r;
}

struct store *store_in(void **state)
{
	return ((struct fixture *)*state)->store;
}

int64_t put(struct store *store, const char *key, const char *value)
{
	struct err err = {0};
	int64_t revision = 0;

	if (store_put(store, key, value, strlen(value), STORE_ANY, &err, &revision) < 0)
		fail_msg("%s", err.message);
	return revision;
}

void expect_text(struct store *store, const char *key, const char *value, int64_t revision)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	struct err err = {0};

	assert_int_equal(store_get(store, key, &err, &entry), 0);
	assert_string_equal(entry.key, key);
	assert_string_equal(entry.value, value);
	assert_int_equal(entry.value_len, strlen(value));
	if (revision > 0)
		assert_int_equal(entry.revision, revision);
}

void expect_absent(struct store *store, const char *key)
{
	struct store_entry entry;
	struct err err = {0};

	assert_int_equal(store_get(store, key, &err, &entry), -ENOENT);
	assert_false(err_is_set(&err));
}

void notes_done(struct notes *notes)
{
	buf_done(&notes->text);
}

void note(const struct store_event *event, void *arg)
{
	struct notes *notes = arg;

	pthread_mutex_lock(&notes->lock);
	if (event->value)
		buf_printf(&notes->text, "+%s=%.*s@%lld\n", event->key,
			(int)MIN(event->value_len, (size_t)100), event->value,
			(long long)event->revision);
	else
		buf_printf(&notes->text, "-%s@%lld\n", event->key, (long long)event->revision);
	notes->n++;
	notes->disorder |= event->revision < notes->last;
	notes->last = event->revision;
	notes->inside = true;
	pthread_cond_broadcast(&notes->more);
	while (notes->hold)
		pthread_cond_wait(&notes->more, &notes->lock);
	notes->inside = false;
	pthread_mutex_unlock(&notes->lock);
}

void wait_for(struct notes *notes, size_t n)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&notes->lock);
	while (notes->n < n && r == 0)
		r = pthread_cond_timedwait(&notes->more, &notes->lock, &until);
	pthread_mutex_unlock(&notes->lock);
	assert_true(notes->n >= n);
}

struct store_watch *watch(
	struct store *store, const char *prefix, int64_t after, struct notes *notes)
{
	struct store_watch *w = NULL;
	struct err err = {0};

	if (store_watch(store, prefix, after, note, notes, &err, &w) < 0)
		fail_msg("%s", err.message);
	return w;
}
