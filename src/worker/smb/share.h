/*
 * A share of an SMB server, over libsmbclient: one connection, SMB 3 with encryption or nothing.
 * Paths are FUSE's ("/a/b"). Every call ends in bounded time: a lost connection is made anew and
 * the call tried again for a few seconds; when the server is silent the call gets -ETIMEDOUT, and
 * so do at once those of the next moments, so that a queue of callers isn't served one time-out
 * after the other. Single-threaded, as the library is.
 */
#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/base.h"

/* No call of the library may last longer, whatever it or the server does: SIGALRM ends the process
 * then, and the mount with it, which berth-node makes anew. Who calls takes the alarm back. */
#define SHARE_WATCHDOG_S 120

struct share;
struct share_file;

struct share_config {
	const char *host, *share, *account, *key; /* borrowed until share_new() returns */
	uint16_t port;
	int timeout_ms; /* of one request */
};

/* Sets up the library and talks to nobody yet. */
int share_new(const struct share_config *config, struct share **ret);
/* Logs in and looks at the share's root: -EACCES, -ENOENT, -ECONNREFUSED, -ETIMEDOUT … */
int share_connect(struct share *share);

/* Type, size and times; the rest of what a server says means nothing here. Symlinks are seen. */
int share_stat(struct share *share, const char *path, struct stat *ret);
typedef int (*share_list_fn)(void *arg, const char *name, const struct stat *st);
int share_list(struct share *share, const char *path, share_list_fn fn, void *arg);
int share_statvfs(struct share *share, struct statvfs *ret);

/* Flags of open(2); the descriptor is opened anew when the connection was lost. */
int share_open(struct share *share, const char *path, int flags, struct share_file **ret);
void share_close(struct share *share, struct share_file *file);
ssize_t share_read(
	struct share *share, struct share_file *file, void *data, size_t n, off_t offset);
/* With O_APPEND the offset is the server's end of the file. */
ssize_t share_write(
	struct share *share, struct share_file *file, const void *data, size_t n, off_t offset);
int share_truncate(struct share *share, struct share_file *file, off_t size);

int share_unlink(struct share *share, const char *path);
int share_mkdir(struct share *share, const char *path);
int share_rmdir(struct share *share, const char *path);
/* Over an existing file or empty folder unless no_replace. What is open beneath either name goes
 * on. Replacing is two steps at the server. */
int share_rename(struct share *share, const char *from, const char *to, bool no_replace);
int share_utimens(struct share *share, const char *path, const struct timespec times[2]);
int share_symlink(struct share *share, const char *target, const char *path);
int share_readlink(struct share *share, const char *path, char *ret, size_t size);
