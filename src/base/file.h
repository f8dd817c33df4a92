/* Whole files: read with a bound, replaced atomically, trees removed without following links. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Reads at most max bytes; -EFBIG when the file is larger. *ret_data is NUL-terminated, owned by
 * the caller. dirfd may be AT_FDCWD. ret_len may be NULL. */
int file_read(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len);

/* Temp file, fsync, rename, fsync of the directory: after 0 the new content survives a crash. */
int file_write_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode);

/* Like the above without fsync: for run-time state that a reboot may lose. */
int file_write_replace(int dirfd, const char *path, const void *data, size_t len, mode_t mode);

/* Writes to an existing file such as one of procfs, sysfs or a cgroup, with one write(2). */
int file_write_control(int dirfd, const char *path, const char *value);

/* mkdir -p; existing directories are fine. */
int file_mkdirs(const char *path, mode_t mode);

/* Removes a file or a whole tree, never follows a symlink, never crosses into another file system.
 * A path that isn't there is success. */
int file_remove_tree(int dirfd, const char *path);
