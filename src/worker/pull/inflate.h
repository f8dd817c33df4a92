/*
 * Decompression of a layer as it comes. What it is shows in its first bytes: gzip (with any number
 * of members, igzip of ISA-L), zstd (any number of frames), or neither: plain.
 */
#pragma once

#include "base/base.h"

struct inflate;

/* Fills up to n bytes; 0 at the end, or a negative errno that inflate_read() hands on. */
typedef ssize_t (*inflate_source_fn)(void *arg, void *data, size_t n);

struct inflate *inflate_new(inflate_source_fn source, void *arg);
void inflate_free(struct inflate *inflate);
DEFINE_CLEANUP(struct inflate *, inflate_free)

/* Bytes into data, 0 at the end, negative: what the source said, or -EBADMSG for a stream that is
 * broken or cut off (inflate_broken() is true then). */
ssize_t inflate_read(struct inflate *inflate, void *data, size_t n);
bool inflate_broken(const struct inflate *inflate);
