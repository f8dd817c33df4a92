/*
 * image: what is in a node's content store, and root file systems made of it.
 *
 * The store is a folder whose content belongs to a range of ids of its own (IMAGE_STORE_UID on,
 * 65536 ids), never to root: a worker in a user namespace of that range fetches and unpacks.
 * Layout, below DIR: refs/<sha256 of the full reference>.json
 * {"reference","digest","pulled","private"} manifests/<algorithm>-<hex>.json           {"digest",
 * "mediaType", "config": {...}, "layers": ["<diff id hex>"...], "size"} layers/<diff id hex>/ an
 * unpacked layer: overlayfs whiteouts (0:0 device, user.overlay.opaque) staging/ one entry for each
 * running pull; emptied at start when no worker runs partial/ blobs that were cut off, to go on
 * from locks/, uses/                              the node's own: flocks, and which root file
 * system stands on which layers The documents are the worker's, so they are read as a stranger's
 * (src/worker/pull/PROTOCOL.md has their shape). A layer is complete by being there: it is renamed
 * into place when its digest and diff id have been verified. The store is what is on disk: several
 * processes (node, `berth image`) use it at once, under file locks.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/base.h"

#define IMAGE_STORE_UID 268435456u /* 2^28 */
#define IMAGE_STORE_IDS 65536u

struct image_store;

struct image_config { /* an image's defaults, from its config (OCI image-spec 1.1 config.md) */
	char **entrypoint, **cmd, **env;	/* NULL-terminated, owned; NULL when absent */
	char *user, *working_dir, *stop_signal; /* NULL when absent */
};

struct image {
	char *reference;   /* full name: "docker.io/library/nginx:latest" */
	char *digest;	   /* of the manifest: "sha256:…" */
	char *name_digest; /* "docker.io/library/nginx@sha256:…" */
	char **layers;	   /* diff ids (hex), lowest first, NULL-terminated */
	struct image_config config;
	uint64_t size_bytes; /* unpacked */
};

void image_free(struct image *image);

struct image_credential {
	const char *server, *username, *password;
};

/* Progress of a pull; on the caller's thread. total 0: not known. */
struct image_progress {
	const char *layer; /* short digest, "" for messages about the image */
	const char *what;  /* "Resolving", "Downloading", "Unpacking", "Complete", "Exists" */
	uint64_t done_bytes, total_bytes;
};

struct image_pull {
	const char *reference; /* as the user wrote it */
	const struct image_credential
		*credentials; /* those of the group; the matching server is used */
	size_t n_credentials;
	bool always; /* ask the registry for the tag even if it is cached (credentials are always
		      * checked); an imported image has no registry to ask */
	bool allow_loopback_http;
	int cancel_fd; /* readable: stop with -ECANCELED; -1: none */
	void (*progress)(const struct image_progress *progress, void *arg); /* may be NULL */
	void *arg;
};

struct image_store_config {
	const char *dir;     /* absolute; made if missing */
	const char *worker;  /* absolute path of the berth-pull program */
	const char *ca_file; /* PEM of authorities to trust for registries besides the system's;
				NULL: none */
};

int image_store_open(
	const struct image_store_config *config, struct err *err, struct image_store **ret);
void image_store_close(struct image_store *store);

/* Finds the image in the cache or pulls it. Blocking, thread-safe; two calls for the same image
 * share one transfer. Errors name registry, image and reason, with codes: "InvalidImageReference",
 * "InaccessibleImage" (absent, or no access), "RegistryErrorResponse" (down, refuses, broken),
 * "ImageDigestMismatch", "InvalidImageLayer", "ImageTooLarge", "NodeStorageFull", "Canceled". */
int image_pull(struct image_store *store, const struct image_pull *pull, struct err *err,
	struct image **ret);

/* Reads a cached image. -ENOENT when it isn't there. */
int image_get(
	struct image_store *store, const char *reference, struct err *err, struct image **ret);

/* Imports an OCI layout directory, an OCI archive, or a docker-save archive; reference may be NULL
 * when the archive names one. archive_fd: the opened file or directory. */
int image_import(struct image_store *store, int archive_fd, const char *reference, struct err *err,
	struct image **ret);

/* [{"reference","digest","sizeBytes","pulled"}], new reference. */
int image_list(struct image_store *store, struct err *err, json_t **ret);
int image_remove(struct image_store *store, const char *reference, struct err *err);
/* Removes layers that no reference and no rootfs in use needs; returns bytes freed. */
int image_prune(struct image_store *store, struct err *err, uint64_t *ret_freed_bytes);

/* A root file system: <dir>/rootfs, an overlay over the image's layers idmapped from the store's
 * range to [uid_base, uid_base + 65536), with upper and work directories in dir/layer, which others
 * can't enter. dir exists, belongs to root. Idempotent. The caller is in the mount namespace where
 * it shall appear. The layers are marked as in use (a hard-linked or lock file in dir) until
 * rootfs_unmount. */
int image_rootfs_mount(struct image_store *store, const struct image *image, const char *dir,
	uint32_t uid_base, struct err *err);
/* Detaches it and removes upper and work with all the group wrote there. Idempotent. */
int image_rootfs_unmount(struct image_store *store, const char *dir, struct err *err);

/* Makes the places in <dir>/rootfs where a runtime will mount things, as the group's root: absolute
 * paths, NULL-terminated, either may be NULL. Each must be a plain directory or file, no part of
 * its path a link, else -ELOOP or another errno with the code "InvalidImageLayer". Before the
 * group's first process runs in that root. Idempotent. */
int image_rootfs_prepare(const char *dir, uint32_t uid_base, const char *const *dirs,
	const char *const *files, struct err *err);

/* Where `path` (absolute) leads in <dir>/rootfs with the image's links followed as if rootfs were
 * the root, as a path without links; what is missing on the way is made, as directories of the
 * group's root. covered: such paths on which something else is mounted (NULL-terminated, may be
 * NULL): what the image has beneath one of them isn't looked at. A link that leads nowhere or in
 * circles, something that isn't a directory, and results that are the root itself or the kernel's
 * (/proc, /sys, /dev) are refused with the code "ContainerCreateFailed". Before the group's first
 * process runs in that root. Idempotent. */
int image_rootfs_place(const char *dir, uint32_t uid_base, const char *path,
	const char *const *covered, struct err *err, char **ret_path);
