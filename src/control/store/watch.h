/*
 * The hub delivers a store's changes to its watches, on one thread. It has no queue: history is the
 * queue. Each watch has a cursor, the last revision that it was given, and the hub reads history
 * from the cursor that is furthest behind. So what happened before the watch and what happens live
 * come the same way, in order, without a gap, and changes that nobody watches cost nothing.
 */
#pragma once

#include "base/pool.h"
#include "control/store/store.h"

struct watch_hub;

/* Reads the changes above `after`, oldest first, in whole revisions, as many as are sensible at
 * once but at least one revision if there is any. Runs on the hub's thread. 0, or a negative errno:
 * the hub tries again later. */
typedef int (*watch_read_fn)(void *arg, int64_t after, struct err *err, struct store_list *ret);

/* head: the last revision; compacted: the last revision that history no longer has. */
struct watch_hub *watch_hub_new(watch_read_fn read, void *arg, int64_t head, int64_t compacted);
/* All watches must have ended. NULL is fine. */
void watch_hub_free(struct watch_hub *hub);

int watch_hub_add(struct watch_hub *hub, const char *prefix, int64_t after, store_watch_fn fn,
	void *arg, struct err *err, struct store_watch **ret);
void watch_hub_remove(struct watch_hub *hub, struct store_watch *watch);

/* The store's last revision is now head, and readers can see it. */
void watch_hub_advance(struct watch_hub *hub, int64_t head);

/* The store would like to forget all up to `wanted`. Returns what it may forget: no watch needs it,
 * and none will be let in that does. */
int64_t watch_hub_compact(struct watch_hub *hub, int64_t wanted);
