/*
 * The content store as the worker writes it (node/image/image.h has the layout). Several workers
 * share it: a lock file a layer, a lock on each staging directory and on each partial blob. All
 * locks are flock(2): they end with the process.
 */
#pragma once

#include <jansson.h>

#include "base/base.h"
#include "worker/pull/digest.h"

struct store {
	int dir, refs, manifests, layers, staging, partial;
};

#define STORE_INIT ((struct store){-EBADF, -EBADF, -EBADF, -EBADF, -EBADF, -EBADF})

/* dirfd is borrowed. Makes what is missing, and removes staging directories that nobody holds. */
int store_open(int dirfd, struct err *err, struct store *ret);
void store_done(struct store *store);

/* A directory staging/<uuid> of this process, with the lock on it. */
struct staging {
	char name[40];
	int fd;
};

#define STAGING_INIT ((struct staging){.fd = -EBADF})
int staging_new(struct store *store, struct err *err, struct staging *ret);
/* Removes what is left in it. */
void staging_done(struct store *store, struct staging *staging);

/* A layer's lock: held by who fetches it. Waits until it is free or the job is cancelled. diff_id
 * is a valid digest. */
int store_lock_layer(struct store *store, const char *diff_id, struct err *err, int *ret_lock);
void store_unlock_layer(struct store *store, const char *diff_id, int *lock);

bool store_has_layer(const struct store *store, const char *diff_id);
/* Unpacked bytes, 0 when not known. */
uint64_t store_layer_size(const struct store *store, const char *diff_id);
/* Makes staging's directory `name` the layer: on disk first, then by rename. */
int store_commit_layer(struct store *store, const struct staging *staging, const char *name,
	const char *diff_id, uint64_t size, struct err *err);

/* manifests/<algorithm>-<hex>.json. */
int store_write_manifest(
	struct store *store, const char *digest, const json_t *manifest, struct err *err);
/* refs/<sha256 of the reference>.json. top: the digest that the tag names (of an index), or NULL
 * when it is digest. is_private: credentials were needed for it; imported: it came
 * out of an archive. */
int store_write_ref(struct store *store, const char *reference, const char *digest, const char *top,
	bool is_private, bool imported, struct err *err);
/* Borrows nothing: a new reference, or NULL when there is none. */
json_t *store_read_ref(const struct store *store, const char *reference);
json_t *store_read_manifest(const struct store *store, const char *digest);
