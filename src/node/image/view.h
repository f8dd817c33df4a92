/*
 * The store's layers with a group's owners: one idmapped mount of the whole folder of layers for
 * each range of ids, attached nowhere. Taking a mount down waits for an RCU grace period,
 * milliseconds on a busy machine, so it is kept and not made for each start.
 */
#pragma once

#include "base/base.h"

/* The tree of a directory as a detached read-only mount that shows the store's ids as [uid_base,
 * +65536). A descriptor, or -errno. */
int view_new(int dir, uint32_t uid_base, struct err *err);

/* The views in use. Thread-safe. */
struct views;
struct views *views_new(void);
void views_free(struct views *views);
/* A descriptor for the caller to close, or -errno. fresh: one that nobody else has, to be attached.
 */
int views_get(
	struct views *views, const char *store_dir, uint32_t uid_base, bool fresh, struct err *err);
