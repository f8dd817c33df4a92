/*
 * The store: named JSON documents with revisions. Everything that berthd knows and that must
 * outlive it is here; berthd keeps no other state, so that several can run side by side over a
 * shared one.
 *
 * Keys are ASCII paths of at most 512 bytes ("cg/GROUP/NAME"), values are bytes of at most 4 MiB.
 * One counter gives each commit its revision, from 1 up. A commit is atomic: every operation's
 * expectation holds, or nothing is done. When store_commit() returns 0 the change survives a kill
 * -9 and a power cut, and every thread sees it. A failure of the disk is an error of the call and
 * no more: the next call tries again.
 *
 * On a full disk what frees space and what tells the truth must still get through: SQLite keeps a
 * reserve for it. Commits don't say which they are; whoever takes something new asks
 * store_check_room() first.
 *
 * All calls may block and are made from any thread, but never from a watch callback. Backends:
 * SQLite and memory; one conformance suite (store_test.c) runs over each.
 */
#pragma once

#include <stdint.h>

#include "base/base.h"

#define STORE_KEY_MAX 512
#define STORE_VALUE_MAX ((size_t)4 << 20)
#define STORE_OPS_MAX 1000 /* of one commit */
/* A commit of more bytes of values gets nothing of the reserve. */
#define STORE_RESERVED_MAX ((size_t)512 << 10)

struct store;

struct store_entry {
	char *key;   /* owned by the entry */
	char *value; /* NUL-terminated, owned */
	size_t value_len;
	int64_t revision; /* of the last change of this key */
};

void store_entry_done(struct store_entry *entry);

struct store_list {
	struct store_entry *entries; /* by key, ascending */
	size_t n;
	int64_t revision; /* of the whole store when this was read */
};

void store_list_done(struct store_list *list);

/* What a commit expects of a key before it changes. */
#define STORE_ANY (-1) /* whatever is there, or nothing */
#define STORE_ABSENT 0 /* nothing must be there */
		       /* > 0: the key's revision must be exactly this */

struct store_op {
	enum {
		STORE_PUT,
		STORE_DELETE,
		STORE_CHECK
	} kind; /* CHECK changes nothing, only expects */
	const char *key;
	const char *value; /* PUT only; borrowed until the commit returns */
	size_t value_len;
	int64_t expect;
};

/* A change, as a watch sees it. value is NULL for a deletion. Borrowed for the call. */
struct store_event {
	const char *key;
	const char *value;
	size_t value_len;
	int64_t revision;
};

struct store_watch;
/* Runs on a thread of the store, in order of revisions; must not block and must not call the store.
 */
typedef void (*store_watch_fn)(const struct store_event *event, void *arg);

struct store_ops {
	int (*get)(struct store *, const char *key, struct err *, struct store_entry *ret);
	int (*list)(struct store *, const char *prefix, const char *after, size_t limit,
		struct err *, struct store_list *ret);
	int (*commit)(struct store *, const struct store_op *ops, size_t n, struct err *,
		int64_t *ret_revision);
	int (*check_room)(struct store *, struct err *);
	int (*watch)(struct store *, const char *prefix, int64_t after_revision, store_watch_fn fn,
		void *arg, struct err *, struct store_watch **ret);
	void (*unwatch)(struct store *, struct store_watch *);
	void (*free)(struct store *);
};

/* The first member of each backend's struct. */
struct store {
	const struct store_ops *ops;
};

/* 0, or -ENOENT (err untouched: absence is an answer). */
int store_get(struct store *store, const char *key, struct err *err, struct store_entry *ret);

/* Entries whose key starts with prefix and is greater than `after` (NULL: from the start), at most
 * limit (0: all). */
int store_list(struct store *store, const char *prefix, const char *after, size_t limit,
	struct err *err, struct store_list *ret);

/* 0; -EAGAIN with code "StoreConflict" and the key as target when an expectation failed; -EINVAL
 * for a bad key or size; -ENOSPC/-EIO with code "StoreUnavailable". A commit of several ops names
 * each key at most once. What changes nothing (checks, a deletion of what isn't there) takes no
 * revision: it gives the last one. ret_revision may be NULL. */
int store_commit(struct store *store, const struct store_op *ops, size_t n, struct err *err,
	int64_t *ret_revision);

int store_put(struct store *store, const char *key, const char *value, size_t value_len,
	int64_t expect, struct err *err, int64_t *ret_revision);
int store_delete(struct store *store, const char *key, int64_t expect, struct err *err);

/* 0, or -ENOSPC with code "StoreUnavailable" while the disk is full or the reserve isn't whole. It
 * becomes 0 by itself when there is room: no restart, no waiting for a timer. */
int store_check_room(struct store *store, struct err *err);

/* Calls fn for every change of a key under prefix with a revision above after_revision, first those
 * that already happened, then live. -ESTALE with code "RevisionCompacted" when history that far
 * back is no longer kept: list and watch from the list's revision. Kept are 10,000 revisions or 32
 * MiB of values, and whatever a watch has yet to be given. *ret is set before the first call of fn.
 */
int store_watch(struct store *store, const char *prefix, int64_t after_revision, store_watch_fn fn,
	void *arg, struct err *err, struct store_watch **ret);
/* No call of fn is running or comes after this returns. Every watch ends before its store. NULL is
 * fine. */
void store_unwatch(struct store *store, struct store_watch *watch);

void store_free(struct store *store);

/* Opens or makes the database file (mode 0600). A file of a newer schema version is refused:
 * -ENOTSUP, code "StoreTooNew", and words that name both versions. -EBUSY when another process has
 * it open; all other failures have the code "StoreUnavailable" too. */
int store_open_sqlite(const char *path, struct err *err, struct store **ret);
struct store *store_open_memory(void);
