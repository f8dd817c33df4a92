#include "control/store/internal.h"

static int check_text(const char *what, const char *text, struct err *err)
{
	size_t n = strnlen(text, STORE_KEY_MAX + 1);

	if (n > STORE_KEY_MAX)
		return err_set(err, -EINVAL, "InvalidStoreKey",
			"A %s of the store has at most %d bytes.", what, STORE_KEY_MAX);
	for (size_t i = 0; i < n; i++)
		if (text[i] < '!' || text[i] > '~')
			return err_set(err, -EINVAL, "InvalidStoreKey",
				"A %s of the store is made of printable ASCII without spaces.",
				what);
	return 0;
}

static int check_key(const char *key, struct err *err)
{
	if (*key == '\0')
		return err_set(err, -EINVAL, "InvalidStoreKey", "A key of the store isn't empty.");
	return check_text("key", key, err);
}

static int check_op(const struct store_op *op, struct err *err)
{
	int r = check_key(op->key, err);

	if (r < 0)
		return r;
	if (op->expect < STORE_ANY)
		return err_set(err, -EINVAL, "InternalError",
			"%lld is no revision that a key can have.", (long long)op->expect);
	switch (op->kind) {
	case STORE_PUT:
		if (op->value_len > STORE_VALUE_MAX) {
			err_set(err, -EINVAL, "StoreValueTooLarge",
				"The value of %s has %zu bytes; the store takes at most %zu.",
				op->key, op->value_len, STORE_VALUE_MAX);
			err_target(err, "%s", op->key);
			return -EINVAL;
		}
		assert(op->value || op->value_len == 0);
		return 0;
	case STORE_DELETE:
	case STORE_CHECK:
		return 0;
	}
	return err_set(
		err, -EINVAL, "InternalError", "%d is no operation of the store.", (int)op->kind);
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_ops(const struct store_op *ops, size_t n, struct err *err)
{
	_cleanup_free_ const char **keys = NULL;
	int r;

	if (n == 0 || n > STORE_OPS_MAX)
		return err_set(err, -EINVAL, "InternalError",
			"A commit has 1 to %d operations, not %zu.", STORE_OPS_MAX, n);
	for (size_t i = 0; i < n; i++) {
		r = check_op(&ops[i], err);
		if (r < 0)
			return r;
	}
	if (n == 1)
		return 0;
	keys = xcalloc(n, sizeof(*keys));
	for (size_t i = 0; i < n; i++)
		keys[i] = ops[i].key;
	qsort(keys, n, sizeof(*keys), compare_keys);
	for (size_t i = 1; i < n; i++)
		if (str_eq(keys[i - 1], keys[i]))
			return err_set(err, -EINVAL, "InvalidStoreKey", "A commit names %s twice.",
				keys[i]);
	return 0;
}

int store_get(struct store *store, const char *key, struct err *err, struct store_entry *ret)
{
	int r = check_key(key, err);

	return r < 0 ? r : store->ops->get(store, key, err, ret);
}

int store_list(struct store *store, const char *prefix, const char *after, size_t limit,
	struct err *err, struct store_list *ret)
{
	int r = check_text("prefix", prefix, err);

	return r < 0 ? r : store->ops->list(store, prefix, after, limit, err, ret);
}

int store_commit(struct store *store, const struct store_op *ops, size_t n, struct err *err,
	int64_t *ret_revision)
{
	int64_t revision;
	int r;

	r = check_ops(ops, n, err);
	if (r < 0)
		return r;
	r = store->ops->commit(store, ops, n, err, &revision);
	if (r < 0)
		return r;
	if (ret_revision)
		*ret_revision = revision;
	return 0;
}

int store_check_room(struct store *store, struct err *err)
{
	return store->ops->check_room(store, err);
}

int store_put(struct store *store, const char *key, const char *value, size_t value_len,
	int64_t expect, struct err *err, int64_t *ret_revision)
{
	const struct store_op op = {.kind = STORE_PUT,
		.key = key,
		.value = value,
		.value_len = value_len,
		.expect = expect};

	return store_commit(store, &op, 1, err, ret_revision);
}

int store_delete(struct store *store, const char *key, int64_t expect, struct err *err)
{
	const struct store_op op = {.kind = STORE_DELETE, .key = key, .expect = expect};

	return store_commit(store, &op, 1, err, NULL);
}

int store_watch(struct store *store, const char *prefix, int64_t after_revision, store_watch_fn fn,
	void *arg, struct err *err, struct store_watch **ret)
{
	int r = check_text("prefix", prefix, err);

	if (r < 0)
		return r;
	if (after_revision < 0)
		return err_set(err, -EINVAL, "InternalError", "%lld is no revision to watch from.",
			(long long)after_revision);
	return store->ops->watch(store, prefix, after_revision, fn, arg, err, ret);
}

void store_unwatch(struct store *store, struct store_watch *watch)
{
	if (watch)
		store->ops->unwatch(store, watch);
}

void store_free(struct store *store)
{
	if (store)
		store->ops->free(store);
}

void store_entry_done(struct store_entry *entry)
{
	free(entry->key);
	free(entry->value);
	*entry = (struct store_entry){0};
}

void store_list_done(struct store_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		store_entry_done(&list->entries[i]);
	free(list->entries);
	*list = (struct store_list){0};
}

int entry_init(struct store_entry *ret, const char *key, const char *value, size_t value_len,
	int64_t revision)
{
	_cleanup_free_ char *copy = NULL;

	if (value) {
		copy = malloc(value_len + 1);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, value, value_len);
		copy[value_len] = '\0';
	}
	*ret = (struct store_entry){
		.key = xstrdup(key), .value_len = value_len, .revision = revision};
	ret->value = take_ptr(copy);
	return 0;
}

/* The array has room for the next power of two, so it is full when n is one. */
void list_reserve(struct store_list *list)
{
	if ((list->n & (list->n - 1)) == 0)
		list->entries = xrealloc(
			list->entries, (list->n ? 2 * list->n : 1) * sizeof(list->entries[0]));
}

int list_add(struct store_list *list, const char *key, const char *value, size_t value_len,
	int64_t revision)
{
	int r;

	list_reserve(list);
	r = entry_init(&list->entries[list->n], key, value, value_len, revision);
	if (r == 0)
		list->n++;
	return r;
}

/* The first byte above every byte of a key, and one below. */
#define KEY_CEILING "\x7f"
#define KEY_FLOOR "\x01"

char *range_lower(const char *prefix, const char *after)
{
	if (after && strcmp(after, prefix) >= 0)
		return xasprintf("%s" KEY_FLOOR, after);
	return xstrdup(prefix);
}

char *range_upper(const char *prefix)
{
	return xasprintf("%s" KEY_CEILING, prefix);
}

bool expect_holds(const struct store_op *op, int64_t found)
{
	return op->expect == STORE_ANY || op->expect == found;
}

int conflict(struct err *err, const struct store_op *op, int64_t found)
{
	if (op->expect == STORE_ABSENT)
		err_set(err, -EAGAIN, "StoreConflict", "%s is already there.", op->key);
	else if (found == 0)
		err_set(err, -EAGAIN, "StoreConflict", "%s is no longer there.", op->key);
	else
		err_set(err, -EAGAIN, "StoreConflict", "%s was changed in the meantime.", op->key);
	err_target(err, "%s", op->key);
	return -EAGAIN;
}
