/*
 * Manifests, indexes and configs: what a registry says that an image is (OCI image-spec 1.1
 * manifest.md, image-index.md, config.md; Docker image manifest v2 schema 2). Pure functions over
 * bytes whose digest the caller has checked.
 *
 * A document has exactly one type: the mediaType in its body, which must be that of the
 * Content-Type header when that names one of the four, and bodies that would fit two types are
 * refused (CVE-2021-41190).
 */
#pragma once

#include <jansson.h>

#include "base/base.h"
#include "worker/pull/digest.h"
#include "worker/pull/job.h"

#define TYPE_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define TYPE_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define TYPE_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define TYPE_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"

struct descriptor {
	char digest[DIGEST_MAX];
	char media_type[128];
	uint64_t size;
};

struct manifest_choice { /* one of an index */
	struct descriptor descriptor;
	char os[32], architecture[32], variant[32];
};

struct manifest {
	bool is_index;
	char media_type[128];
	struct descriptor config;  /* of an image */
	struct descriptor *layers; /* owned; lowest first */
	size_t n_layers;
	struct manifest_choice *choices; /* owned */
	size_t n_choices;
};

/* content_type: the header's value, or NULL. Codes: "RegistryErrorResponse" (not a manifest),
 * "InaccessibleImage" (a manifest, but not of a container image), "InvalidImageLayer",
 * "ImageTooLarge". */
int manifest_parse(const char *data, size_t len, const char *content_type, struct err *err,
	struct manifest *ret);
void manifest_done(struct manifest *manifest);

/* The image for a platform; borrowed from the index. Code "InaccessibleImage" with the list of what
 * there is. */
int manifest_choose(const struct manifest *index, const struct platform *platform, struct err *err,
	const struct descriptor **ret);

struct image_info {
	char (*diff_ids)[DIGEST_MAX]; /* owned; lowest first */
	size_t n_diff_ids;
	json_t *config; /* owned: entrypoint, cmd, env, user, workingDir, stopSignal; each absent or
			   of its type, and bounded */
};

/* Checks the platform as well. */
int image_info_parse(const char *data, size_t len, const struct platform *platform, struct err *err,
	struct image_info *ret);
void image_info_done(struct image_info *info);
