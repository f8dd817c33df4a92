#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "node/image/image.h"

/* The places where a runtime will mount things, made before it looks: an image that has a link, a
 * device or a fifo there could otherwise choose what the runtime opens (CVE-2026-41579,
 * CVE-2026-47766). No process of the group lives in the root yet. */

#define CODE "InvalidImageLayer"

static int refuse(struct err *err, int r, const char *path, const char *what)
{
	return err_set(err, r, CODE,
		"The image has something other than a plain %s at '%s' (or above it), where the "
		"container needs one.",
		what, path);
}

/* Opens the directory `name`, making it as the group's when it isn't there. */
static int step_into(int at, const char *name, uint32_t uid)
{
	bool made = mkdirat(at, name, 0755) == 0;
	int fd;

	if (!made && errno != EEXIST)
		return -errno;
	if (made && fchownat(at, name, uid, uid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (made && fchmodat(at, name, 0755, 0) < 0)
		return -errno;
	fd = fd_open_beneath(at, name, O_PATH | O_DIRECTORY, 0);
	return fd;
}

/* Walks to the directory that holds the last component, which is copied to name ("" for "/"). */
static int walk(int root, const char *path, uint32_t uid, char name[NAME_MAX + 1])
{
	_cleanup_fd_ int at = fd_open_beneath(root, ".", O_PATH | O_DIRECTORY, 0);

	if (at < 0)
		return at;
	name[0] = '\0';
	for (;;) {
		size_t n;
		int next;

		path += strspn(path, "/");
		n = strcspn(path, "/");
		if (n == 0)
			return take_fd(at);
		if (name[0]) {
			next = step_into(at, name, uid);
			if (next < 0)
				return next;
			fd_close(at);
			at = next;
		}
		if (n > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path, n);
		name[n] = '\0';
		path += n;
		if (str_eq(name, ".") || str_eq(name, ".."))
			return -EINVAL;
	}
}

static int prepare_dir(int root, const char *path, uint32_t uid, struct err *err)
{
	char name[NAME_MAX + 1];
	_cleanup_fd_ int parent = walk(root, path, uid, name);
	_cleanup_fd_ int fd = -EBADF;

	if (parent < 0)
		return refuse(err, parent, path, "directory");
	if (!name[0])
		return 0;
	fd = step_into(parent, name, uid);
	return fd < 0 ? refuse(err, fd, path, "directory") : 0;
}

static int prepare_file(int root, const char *path, uint32_t uid, struct err *err)
{
	char name[NAME_MAX + 1];
	_cleanup_fd_ int parent = walk(root, path, uid, name);
	_cleanup_fd_ int fd = -EBADF;
	struct stat st;

	if (parent < 0)
		return refuse(err, parent, path, "file");
	fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd >= 0) {
		if (fchown(fd, uid, uid) < 0 || fchmod(fd, 0644) < 0)
			return err_errno(err, -errno, "own '%s' of the root file system", path);
		return 0;
	}
	if (errno != EEXIST)
		return refuse(err, -errno, path, "file");
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, -errno, "look at '%s' of the root file system", path);
	if (!S_ISREG(st.st_mode))
		return refuse(err, S_ISLNK(st.st_mode) ? -ELOOP : -EINVAL, path, "file");
	return 0;
}

int image_rootfs_prepare(const char *dir, uint32_t uid_base, const char *const *dirs,
	const char *const *files, struct err *err)
{
	_cleanup_fd_ int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int root = -EBADF;
	int r = 0;

	if (dir_fd < 0)
		return err_errno(err, -errno, "open %s", dir);
	root = fd_open_beneath(dir_fd, "rootfs", O_PATH | O_DIRECTORY, 0);
	if (root < 0)
		return err_errno(err, root, "open %s/rootfs", dir);
	for (; r == 0 && dirs && *dirs; dirs++)
		r = prepare_dir(root, *dirs, uid_base, err);
	for (; r == 0 && files && *files; files++)
		r = prepare_file(root, *files, uid_base, err);
	return r;
}
