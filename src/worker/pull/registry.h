/*
 * One repository of one registry, by the distribution API (OCI distribution-spec 1.1), with
 * Docker's token protocol.
 *
 * Credentials leave only in an answer to a 401: as Basic to the registry itself (https, or
 * loopback), or to a token server that trust.h lets know them. Authorization goes to the registry's
 * own scheme, host and port; redirects (at most five) are followed without it, to https alone, and
 * to no address that is more inward than the registry's own.
 *
 * A registry on loopback, when the job allows that at all, is asked by https first and then by
 * plain http.
 *
 * Errors are reasons without the image's name, for the caller to put into a sentence:
 * "InaccessibleImage" (401, 403, 404), "RegistryErrorResponse" (all else that the registry or the
 * way to it does), "ImageTooLarge", "Canceled". -ECONNRESET: trying again may help; -ETIMEDOUT: it
 * may, at a price.
 */
#pragma once

#include "base/base.h"
#include "worker/pull/digest.h"
#include "worker/pull/job.h"
#include "worker/pull/reference.h"

struct registry; /* one thread's */

/* job and ref are borrowed for the registry's life. */
int registry_new(
	const struct job *job, const struct reference *ref, struct err *err, struct registry **ret);
/* Another one for another thread, with the scheme and token that this one has found. */
int registry_dup(const struct registry *registry, struct err *err, struct registry **ret);
void registry_free(struct registry *registry);
DEFINE_CLEANUP(struct registry *, registry_free)

/* Was it asked with credentials, be it for a token? */
bool registry_used_credentials(const struct registry *registry);

struct registry_manifest {
	char *content_type;	 /* NULL when absent; owned */
	char digest[DIGEST_MAX]; /* what Docker-Content-Digest says, "" without or with an invalid
				    one; not verified */
	struct buf body;	 /* empty for HEAD */
};

/* what: a tag or a digest. */
int registry_get_manifest(struct registry *registry, const char *what, bool head, struct err *err,
	struct registry_manifest *ret);
void registry_manifest_done(struct registry_manifest *manifest);

/* Gives the blob's bytes from `from` on; a negative errno of sink ends it with that. */
int registry_get_blob(struct registry *registry, const char *digest, uint64_t from,
	int (*sink)(const void *data, size_t len, void *arg), void *arg, struct err *err);
