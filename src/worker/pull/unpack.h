/*
 * A layer's tar, applied to an empty directory of its own.
 *
 * What is trusted: the directory, private to this process until the caller renames it. What is not:
 * every byte of the tar. Each name is cleaned (tarname.h), its parent opened with openat2 beneath
 * the directory without symbolic links, and the last component made with O_EXCL on that descriptor;
 * so no name, no symbolic or hard link leaves the directory. Whiteouts become what overlayfs reads
 * with `userxattr`: a 0:0 character device, user.overlay.opaque. Other devices are left out (a
 * container's /dev isn't the image's). Kept: owner and group (below 65536), mode with set-uid,
 * modification time, security.capability, user.* attributes but overlay's and ours.
 */
#pragma once

#include "base/base.h"

struct unpack_limits {
	uint64_t bytes; /* of file content, unpacked */
	uint64_t entries;
	int64_t deadline_ms; /* on time_mono_ms()'s clock; 0: none */
};

/* Fills up to n bytes of tar; 0 at the end, a negative errno ends the unpacking with it. */
typedef ssize_t (*unpack_source_fn)(void *arg, void *data, size_t n);

/* Reads the source to its end, also past the end of the archive. *ret_bytes: content written.
 * Codes: "InvalidImageLayer", "ImageTooLarge", "NodeStorageFull", "InternalError"; err is not set
 * when the source failed. */
int unpack_layer(int dirfd, unpack_source_fn source, void *arg, const struct unpack_limits *limits,
	struct err *err, uint64_t *ret_bytes);
