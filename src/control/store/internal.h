/* What the backends of the store share: entries and lists, ranges of keys, limits. */
#pragma once

#include "control/store/store.h"

/* History that is kept for watches: this many revisions, or this many bytes of values if that is
 * less. It is cut when it has grown a slack beyond, so that not every commit pays for it. */
#define HISTORY_REVISIONS 10000
#define HISTORY_BYTES ((int64_t)32 << 20)
#define HISTORY_SLACK_REVISIONS 500
#define HISTORY_SLACK_BYTES ((int64_t)4 << 20)

/* Fills *ret with copies. value NULL (a deletion) stays NULL. 0 or -ENOMEM. */
int entry_init(struct store_entry *ret, const char *key, const char *value, size_t value_len,
	int64_t revision);

/* Makes room for one more entry; lists only grow through this, and may shrink at will. */
void list_reserve(struct store_list *list);
/* Appends copies. 0 or -ENOMEM. */
int list_add(struct store_list *list, const char *key, const char *value, size_t value_len,
	int64_t revision);

/* The keys of a store_list() are those from lower on and below upper, by byte order. Owned by the
 * caller. */
char *range_lower(const char *prefix, const char *after);
char *range_upper(const char *prefix);

/* -EAGAIN, "StoreConflict", the key as target, and words that tell what was found (revision 0:
 * nothing). */
int conflict(struct err *err, const struct store_op *op, int64_t found);
bool expect_holds(const struct store_op *op, int64_t found);
