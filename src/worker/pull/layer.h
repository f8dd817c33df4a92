/*
 * Layers into the store: each is fetched, hashed, decompressed, hashed again and unpacked as one
 * stream, then renamed into place. Several at a time; what is there already is left alone.
 */
#pragma once

#include "base/base.h"
#include "worker/pull/job.h"
#include "worker/pull/manifest.h"
#include "worker/pull/store.h"

struct layer {
	const struct descriptor *descriptor;
	const char *diff_id;
};

/* Where blobs come from. One source is for one thread. */
struct layer_source {
	/* Another one for another thread. */
	int (*dup)(void *source, struct err *err, void **ret);
	void (*free)(void *source);
	/* The blob as a whole file (owned by the caller), or -ENOSYS when get is to be used. */
	int (*open)(void *source, const struct descriptor *descriptor, struct err *err);
	/* Were credentials needed? */
	bool (*is_private)(const void *source);
	/* Out of an archive: no registry is asked for it later. */
	bool imported;
	/* Bytes from `from` on. -ECONNRESET: try again. */
	int (*get)(void *source, const struct descriptor *descriptor, uint64_t from,
		int (*sink)(const void *data, size_t len, void *arg), void *arg, struct err *err);
};

/* All layers of an image; *ret_bytes: their unpacked size. The first error ends all. Reasons in
 * err, not sentences. */
int layers_fetch(const struct job *job, struct store *store, const struct layer_source *ops,
	void *source, const struct layer *layers, size_t n, struct err *err, uint64_t *ret_bytes);
