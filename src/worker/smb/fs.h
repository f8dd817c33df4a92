/* A share as a file system, on a descriptor of /dev/fuse that somebody else has mounted. */
#pragma once

#include "worker/smb/share.h"

struct fs_config {
	int fuse_fd;
	uint32_t uid, gid; /* whose all files are; modes are 0777 */
	bool read_only;
};

/* Serves until the mount is gone: 0 or -errno. */
int fs_run(struct share *share, const struct fs_config *config);
