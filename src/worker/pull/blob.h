/*
 * A compressed blob while it comes: one thread writes it to partial/<digest>, another one reads
 * behind it. What is on disk survives a killed worker, and the next one goes on from there.
 */
#pragma once

#include "base/base.h"
#include "worker/pull/store.h"

struct blob;

/* Takes the partial file of this digest, alone (waits for another worker's lock), with what it has
 * already. */
int blob_open(
	struct store *store, const char *digest, uint64_t size, struct err *err, struct blob **ret);
/* A blob that is there in whole: a file of an import. Takes fd. */
struct blob *blob_from_file(int fd, uint64_t size);
/* Closes it; the partial file stays unless blob_drop() was called. */
void blob_free(struct blob *blob);
DEFINE_CLEANUP(struct blob *, blob_free)
/* Forgets the partial file: it is complete and used, or it is wrong. */
void blob_drop(struct blob *blob);

uint64_t blob_available(struct blob *blob);
/* The writer: -EFBIG past the size, -ECANCELED when the reader has gone. */
int blob_append(struct blob *blob, const void *data, size_t len);
/* Nothing more comes: r is 0 at the end of the blob, else why. */
void blob_end(struct blob *blob, int r);
/* The reader: waits for bytes. 0 at the end, negative: blob_end()'s reason. */
ssize_t blob_read(struct blob *blob, void *data, size_t n);
/* The reader has what it wants: ends the writer. */
void blob_stop(struct blob *blob);
