/* What pull and import share: from a verified manifest and config to layers, manifests/ and refs/.
 */
#pragma once

#include "base/base.h"
#include "worker/pull/job.h"
#include "worker/pull/layer.h"
#include "worker/pull/manifest.h"
#include "worker/pull/reference.h"
#include "worker/pull/store.h"

/* Fetches the layers, writes the image's records, and tells that it is done. top: the digest that
 * the reference led to (of an index or of the manifest itself). config: the config's bytes, digest
 * already verified. */
int image_complete(const struct job *job, struct store *store, const struct reference *ref,
	const char *top, const char *digest, const struct manifest *manifest,
	const struct buf *config, const struct layer_source *ops, void *source, struct err *err);

/* Makes a sentence with the image's name of a reason; returns the errno. */
int image_sentence(struct err *err, const char *reference, const char *registry);
