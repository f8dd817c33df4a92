/* The store that forgets: for tests, and the plainest statement of what the others must do. */
#include <pthread.h>

#include "control/store/internal.h"
#include "control/store/watch.h"

#define READ_CHANGES 256

struct memory {
	struct store store;
	pthread_mutex_t lock;
	struct store_list now;	   /* what is there, by key; its revision is the store's */
	struct store_list history; /* by revision; value NULL is a deletion */
	int64_t history_bytes;
	struct watch_hub *hub;
};

static struct memory *memory_of(struct store *store)
{
	return (struct memory *)store;
}

/* The first entry that isn't below the key. */
static size_t find(const struct store_list *list, const char *key)
{
	size_t low = 0, high = list->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(list->entries[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct store_entry *lookup(struct memory *memory, const char *key)
{
	size_t at = find(&memory->now, key);

	return at < memory->now.n && str_eq(memory->now.entries[at].key, key)
		       ? &memory->now.entries[at]
		       : NULL;
}

static int no_memory(struct err *err, int r)
{
	return r < 0 ? err_set(err, r, "StoreUnavailable", "The store has no memory left.") : r;
}

static int memory_get(
	struct store *store, const char *key, struct err *err, struct store_entry *ret)
{
	struct memory *memory = memory_of(store);
	const struct store_entry *entry;
	int r = -ENOENT;

	pthread_mutex_lock(&memory->lock);
	entry = lookup(memory, key);
	if (entry)
		r = no_memory(err, entry_init(ret, entry->key, entry->value, entry->value_len,
					   entry->revision));
	pthread_mutex_unlock(&memory->lock);
	return r;
}

static int memory_list(struct store *store, const char *prefix, const char *after, size_t limit,
	struct err *err, struct store_list *ret)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	_cleanup_free_ char *lower = range_lower(prefix, after);
	_cleanup_free_ char *upper = range_upper(prefix);
	struct memory *memory = memory_of(store);
	int r = 0;

	pthread_mutex_lock(&memory->lock);
	list.revision = memory->now.revision;
	for (size_t i = find(&memory->now, lower); i < memory->now.n && r == 0; i++) {
		const struct store_entry *entry = &memory->now.entries[i];

		if (strcmp(entry->key, upper) >= 0 || (limit > 0 && list.n == limit))
			break;
		r = list_add(&list, entry->key, entry->value, entry->value_len, entry->revision);
	}
	pthread_mutex_unlock(&memory->lock);
	if (r < 0)
		return no_memory(err, r);
	*ret = list;
	list = (struct store_list){0};
	return 0;
}

/* Puts or deletes; true when something changed. */
static bool apply(struct memory *memory, const struct store_op *op, int64_t revision)
{
	struct store_list *now = &memory->now;
	struct store_entry entry;
	size_t at = find(now, op->key);
	bool there = at < now->n && str_eq(now->entries[at].key, op->key);
	const char *value = op->kind == STORE_PUT ? (op->value ? op->value : "") : NULL;
	size_t len = value ? op->value_len : 0;

	if (op->kind == STORE_CHECK || (!value && !there))
		return false;
	if (list_add(&memory->history, op->key, value, len, revision) < 0)
		abort();
	memory->history_bytes += (int64_t)len;
	if (there)
		store_entry_done(&now->entries[at]);
	if (!value) {
		memmove(&now->entries[at], &now->entries[at + 1],
			(now->n - at - 1) * sizeof(entry));
		now->n--;
		return true;
	}
	if (entry_init(&entry, op->key, value, len, revision) < 0)
		abort();
	if (!there) {
		list_reserve(now);
		memmove(&now->entries[at + 1], &now->entries[at], (now->n - at) * sizeof(entry));
		now->n++;
	}
	now->entries[at] = entry;
	return true;
}

static void compact(struct memory *memory)
{
	struct store_list *history = &memory->history;
	int64_t bytes = memory->history_bytes, oldest = memory->now.revision - HISTORY_REVISIONS,
		wanted = 0;
	size_t n = 0;

	if (history->entries[0].revision > oldest - HISTORY_SLACK_REVISIONS &&
		bytes <= HISTORY_BYTES + HISTORY_SLACK_BYTES)
		return;
	for (size_t i = 0; i < history->n; i++) {
		if (history->entries[i].revision > oldest && bytes <= HISTORY_BYTES)
			break;
		bytes -= (int64_t)history->entries[i].value_len;
		wanted = history->entries[i].revision;
	}
	wanted = watch_hub_compact(memory->hub, wanted);
	while (n < history->n && history->entries[n].revision <= wanted) {
		memory->history_bytes -= (int64_t)history->entries[n].value_len;
		store_entry_done(&history->entries[n++]);
	}
	history->n -= n;
	memmove(history->entries, history->entries + n, history->n * sizeof(history->entries[0]));
}

static int memory_commit(struct store *store, const struct store_op *ops, size_t n, struct err *err,
	int64_t *ret_revision)
{
	struct memory *memory = memory_of(store);
	bool changed = false;
	int r = 0;

	pthread_mutex_lock(&memory->lock);
	for (size_t i = 0; i < n && r == 0; i++) {
		const struct store_entry *entry = lookup(memory, ops[i].key);
		int64_t found = entry ? entry->revision : 0;

		if (!expect_holds(&ops[i], found))
			r = conflict(err, &ops[i], found);
	}
	for (size_t i = 0; i < n && r == 0; i++)
		changed |= apply(memory, &ops[i], memory->now.revision + 1);
	if (changed) {
		memory->now.revision++;
		compact(memory);
		watch_hub_advance(memory->hub, memory->now.revision);
	}
	if (r == 0)
		*ret_revision = memory->now.revision;
	pthread_mutex_unlock(&memory->lock);
	return r;
}

static int memory_read(void *arg, int64_t after, struct err *err, struct store_list *ret)
{
	struct memory *memory = arg;
	const struct store_list *history = &memory->history;
	int r = 0;

	pthread_mutex_lock(&memory->lock);
	for (size_t i = 0; i < history->n && r == 0; i++) {
		const struct store_entry *change = &history->entries[i];

		if (change->revision <= after)
			continue;
		if (ret->n >= READ_CHANGES && change->revision != ret->entries[ret->n - 1].revision)
			break;
		r = list_add(ret, change->key, change->value, change->value_len, change->revision);
	}
	pthread_mutex_unlock(&memory->lock);
	return no_memory(err, r);
}

static int memory_check_room(struct store *store, struct err *err)
{
	return 0;
}

static int memory_watch(struct store *store, const char *prefix, int64_t after, store_watch_fn fn,
	void *arg, struct err *err, struct store_watch **ret)
{
	return watch_hub_add(memory_of(store)->hub, prefix, after, fn, arg, err, ret);
}

static void memory_unwatch(struct store *store, struct store_watch *watch)
{
	watch_hub_remove(memory_of(store)->hub, watch);
}

static void memory_free(struct store *store)
{
	struct memory *memory = memory_of(store);

	watch_hub_free(memory->hub);
	store_list_done(&memory->now);
	store_list_done(&memory->history);
	pthread_mutex_destroy(&memory->lock);
	free(memory);
}

static const struct store_ops memory_ops = {.get = memory_get,
	.list = memory_list,
	.commit = memory_commit,
	.check_room = memory_check_room,
	.watch = memory_watch,
	.unwatch = memory_unwatch,
	.free = memory_free};

struct store *store_open_memory(void)
{
	struct memory *memory = xnew(struct memory);

	memory->store.ops = &memory_ops;
	pthread_mutex_init(&memory->lock, NULL);
	memory->hub = watch_hub_new(memory_read, memory, 0, 0);
	return &memory->store;
}
