/* A root file system step by step; image.h has what others call. */
#pragma once

#include "node/image/image.h"

/* image_rootfs_mount, with the older kernels' way of mounting for tests. */
int rootfs_mount(struct image_store *store, const struct image *image, const char *dir,
	uint32_t uid_base, bool classic, struct err *err);
