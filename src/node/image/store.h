/* What the parts of node/image share: the opened store, its locks, and reading what the worker left
 * in it. */
#pragma once

#include <pthread.h>

#include "node/image/document.h"
#include "node/image/image.h"
#include "node/image/view.h"

struct flight; /* a running pull, pull.c */

struct image_store {
	char *dir;
	char *ca_file; /* NULL: the system's */
	int fd;	       /* the store's directory */
	int layers_fd;
	int worker_fd; /* the program, so that the worker's ids need no way to its folder */
	struct views *views;
	pthread_mutex_t lock; /* guards flights */
	pthread_cond_t landed;
	struct flight *flights;
};

/* The lock of the whole store, across processes: shared while anything is added or used, exclusive
 * while anything is removed. Returns a descriptor that holds it until closed, or -errno:
 * -EWOULDBLOCK after wait_ms. */
int store_lock(struct image_store *store, bool exclusive, int wait_ms);

/* Reads a file of the store as a stranger's: no links, plain files only. -EFBIG above max. */
int store_read(
	struct image_store *store, const char *path, size_t max, char **ret_data, size_t *ret_len);

/* refs/<sha256 of full>.json into buf. */
#define STORE_PATH_MAX 160
#define USE_FILE_MAX ((size_t)64 << 10)
void store_ref_path(const char *full, char path[STORE_PATH_MAX]);
void store_manifest_path(const char *digest, char path[STORE_PATH_MAX]);

/* -ENOENT when it isn't there or can't be read. */
int store_read_ref(struct image_store *store, const char *full, struct ref_document *ret);
/* An image by digest, named after reference, all its layers there. -ENOENT otherwise. */
int store_read_image(struct image_store *store, const struct reference *reference,
	const char *digest, struct image **ret);

/* Calls fn for every reference that can be read. */
int store_each_ref(struct image_store *store, void (*fn)(const struct ref_document *ref, void *arg),
	void *arg);

/* Opens a layer as a directory, never through a link. O_PATH. */
int store_open_layer(int layers, const char *hex);

/* uses/<sha256 of dir>: which layers a root file system stands on. */
int store_mark_use(struct image_store *store, const char *dir, const struct image *image);
void store_unmark_use(struct image_store *store, const char *dir);

/* pins.c: pins/<sha256 of full> is there: the image stays. used/<sha256 of full>: when a root file
 * system was last made of it or taken down; 0: never. */
bool store_is_pinned(const struct image_store *store, const char *full);
void store_touch(struct image_store *store, const char *full, bool create);
int64_t store_used_ms(const struct image_store *store, const char *full);
int64_t store_pulled_ms(const struct image_store *store, const char *full);
void store_forget_notes(struct image_store *store, const char *full);
