/*
 * Descriptors, and paths that an outsider influences: those are opened only through
 * fd_open_beneath().
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Closes if >= 0, keeps errno, returns -EBADF so that `fd = fd_close(fd)` reads well. */
int fd_close(int fd);
static inline void fd_closep(int *fd)
{
	fd_close(*fd);
}

#define take_fd(fdvar)                                                                             \
	({                                                                                         \
		int _v = (fdvar);                                                                  \
		(fdvar) = -EBADF;                                                                  \
		_v;                                                                                \
	})

int fd_set_nonblock(int fd, bool on);

/* Writes everything (blocking fd). 0 or -errno. */
int fd_write_all(int fd, const void *data, size_t len);

/* openat2 with RESOLVE_BENEATH | NO_MAGICLINKS | NO_SYMLINKS (Linux 5.6): the only way to open a
 * path that came from outside. Returns a descriptor or -errno (-EXDEV: left the tree, -ELOOP: a
 * symlink). */
int fd_open_beneath(int dirfd, const char *path, int flags, mode_t mode);

/* Opens a directory like that, "." for dirfd itself, to list it. 0 or -errno; closedir() is the
 * caller's. */
int fd_opendir_beneath(int dirfd, const char *path, DIR **ret);

/* As fd_open_beneath(), but resolves symlinks as if dirfd were the root (RESOLVE_IN_ROOT): for
 * files of an image. */
int fd_open_in_root(int dirfd, const char *path, int flags, mode_t mode);

/* Where a descriptor's file lies now, as the kernel names it. 0 or -errno (-ENAMETOOLONG). */
int fd_path(int fd, char *ret, size_t size);

/* mkdir -p beneath dirfd (no symlinks on the way); returns an O_PATH descriptor of the last
 * directory. */
int fd_mkdir_beneath(int dirfd, const char *path, mode_t mode);
