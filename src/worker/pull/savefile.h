/*
 * Named files of an import: a folder's, or a tar's (plain, gzip or zstd), which is first copied
 * into staging under names of our own. Names are cleaned as those of layers are; links in a tar are
 * followed by name, a few times, and lead nowhere else.
 */
#pragma once

#include "base/base.h"
#include "worker/pull/job.h"
#include "worker/pull/store.h"

struct savefile;

/* fd is borrowed; staging has room for the copies and outlives the result. */
int savefile_open(const struct job *job, struct staging *staging, int fd, struct err *err,
	struct savefile **ret);
void savefile_free(struct savefile *files);
DEFINE_CLEANUP(struct savefile *, savefile_free)

/* A regular file, or a negative errno (-ENOENT). Thread-safe. */
int savefile_get(const struct savefile *files, const char *name);
/* The whole of a small file. */
int savefile_read(const struct savefile *files, const char *name, size_t max, struct buf *ret);
