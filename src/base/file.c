#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/base.h"
#include "base/file.h"
#include "base/random.h"

/* Trees nested deeper than this are taken apart from the top: see remove_subdir(). */
#define REMOVE_DEPTH 48
#define REMOVE_TRIES 8

int file_read(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len)
{
	/* One byte more than asked for tells "exactly max" from "too large". */
	_cleanup_buf_ struct buf buf = BUF_MAX(max < SIZE_MAX / 2 ? max + 1 : SIZE_MAX / 2);
	_cleanup_fd_ int fd = -EBADF;
	struct stat st;
	size_t chunk;
	ssize_t n;

	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	chunk = MIN(MAX((size_t)st.st_size + 1, (size_t)4096), (size_t)1 << 20);
	do {
		n = buf_read(&buf, fd, chunk);
		if (n < 0)
			return (int)n;
		if (buf.len > max)
			return -EFBIG;
	} while (n > 0);

	if (ret_len)
		*ret_len = buf.len;
	*ret_data = buf_take(&buf);
	return 0;
}

/* Opens the directory that holds path and gives the last component, which is never ".", ".." or
 * empty. */
static int open_parent(int dirfd, const char *path, char name[NAME_MAX + 1], int *ret_fd)
{
	_cleanup_free_ char *parent = NULL;
	size_t end = strlen(path);
	size_t start;
	int fd;

	if (end == 0)
		return -ENOENT;
	while (end > 0 && path[end - 1] == '/')
		end--;
	for (start = end; start > 0 && path[start - 1] != '/'; start--)
		;
	if (end - start > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, path + start, end - start);
	name[end - start] = '\0';
	if (name[0] == '\0' || str_eq(name, ".") || str_eq(name, ".."))
		return -EINVAL;

	parent = start ? xstrndup(path, start) : xstrdup(".");
	fd = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static void random_name(char *dst, size_t size)
{
	uint64_t id;

	random_bytes(&id, sizeof(id));
	snprintf(dst, size, ".berth-%016llx.tmp", (unsigned long long)id);
}

static int fill_temp(int fd, const void *data, size_t len, mode_t mode, bool sync)
{
	int r = fd_write_all(fd, data, len);

	if (r < 0)
		return r;
	if (fchmod(fd, mode) < 0 || (sync && fsync(fd) < 0))
		return -errno;
	return 0;
}

static int write_replace(
	int dirfd, const char *path, const void *data, size_t len, mode_t mode, bool sync)
{
	_cleanup_fd_ int parent = -EBADF;
	_cleanup_fd_ int fd = -EBADF;
	char name[NAME_MAX + 1];
	char temp[64];
	int r;

	r = open_parent(dirfd, path, name, &parent);
	if (r < 0)
		return r;
	random_name(temp, sizeof(temp));
	fd = openat(parent, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = fill_temp(fd, data, len, mode, sync);
	if (r == 0 && renameat(parent, temp, parent, name) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(parent, temp, 0);
		return r;
	}
	return sync && fsync(parent) < 0 ? -errno : 0;
}

int file_write_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
{
	return write_replace(dirfd, path, data, len, mode, true);
}

int file_write_replace(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
{
	return write_replace(dirfd, path, data, len, mode, false);
}

int file_write_control(int dirfd, const char *path, const char *value)
{
	_cleanup_fd_ int fd = openat(dirfd, path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY);
	size_t len = strlen(value);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do
		n = write(fd, value, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

/* A directory that is there counts, whatever mkdir said about it (EROFS, EACCES on a parent of
 * ours). */
static int mkdir_one(const char *path, mode_t mode)
{
	struct stat st;
	int r;

	if (mkdir(path, mode) == 0)
		return 0;
	r = -errno;
	if (stat(path, &st) < 0)
		return r;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int file_mkdirs(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = xstrdup(path);

	if (path[0] == '\0')
		return -ENOENT;
	for (char *p = copy + strspn(copy, "/"); *p;) {
		char *end = p + strcspn(p, "/");
		char saved = *end;
		int r;

		*end = '\0';
		r = mkdir_one(copy, mode);
		if (r < 0)
			return r;
		*end = saved;
		p = end + strspn(end, "/");
	}
	return 0;
}

struct removal {
	int top;      /* borrowed; the directory that is being removed */
	size_t moved; /* directories moved up to it in this pass */
};

static int remove_subdir(struct removal *removal, int parent, const char *name, unsigned depth);

/* NO_XDEV also notices a bind mount of the same file system, which st_dev does not. */
static int open_for_removal(int parent, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	long fd = syscall(SYS_openat2, parent, name, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static int remove_entry(struct removal *removal, int parent, const char *name, unsigned depth)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	return remove_subdir(removal, parent, name, depth);
}

/* One pass over a directory. Goes on after a failure and returns the first. */
static int remove_content(struct removal *removal, int dirfd, unsigned depth)
{
	struct dirent *entry;
	DIR *dir;
	int first = fd_opendir_beneath(dirfd, ".", &dir);

	if (first < 0)
		return first;
	for (errno = 0; (entry = readdir(dir)); errno = 0) {
		int r;

		if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
			continue;
		r = remove_entry(removal, dirfd, entry->d_name, depth);
		if (r < 0 && first == 0)
			first = r;
	}
	if (errno != 0 && first == 0)
		first = -errno;
	closedir(dir);
	return first;
}

/* A tenant can nest directories without end, and each level here holds descriptors and stack. Below
 * REMOVE_DEPTH a directory is moved to the top instead, where the next pass finds it. */
static int remove_subdir(struct removal *removal, int parent, const char *name, unsigned depth)
{
	_cleanup_fd_ int fd = -EBADF;

	if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	fd = open_for_removal(parent, name);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (depth >= REMOVE_DEPTH) {
		char temp[64];

		random_name(temp, sizeof(temp));
		if (renameat(parent, name, removal->top, temp) < 0)
			return -errno;
		removal->moved++;
		return 0;
	}
	for (int tries = 0;; tries++) {
		int r = remove_content(removal, fd, depth + 1);

		if (r < 0)
			return r;
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY || tries == REMOVE_TRIES)
			return -errno;
	}
}

static int remove_top(int parent, const char *name)
{
	_cleanup_fd_ int top = open_for_removal(parent, name);
	struct removal removal = {.top = top};

	if (top < 0)
		return top == -ENOENT ? 0 : top;
	for (int tries = 0;;) {
		int r;

		removal.moved = 0;
		r = remove_content(&removal, top, 0);
		if (r < 0)
			return r;
		if (removal.moved > 0)
			continue;
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY || tries++ == REMOVE_TRIES)
			return -errno;
	}
}

int file_remove_tree(int dirfd, const char *path)
{
	_cleanup_fd_ int parent = -EBADF;
	char name[NAME_MAX + 1];
	int r;

	r = open_parent(dirfd, path, name, &parent);
	if (r < 0)
		return r == -ENOENT && path[0] ? 0 : r;
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	return remove_top(parent, name);
}
