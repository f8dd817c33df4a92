/*
 * The node's own mount namespace. Root file systems and volumes are mounted in it and the machine's
 * own list of mounts stays short; on machines with control groups of version 1 beside an (empty)
 * version 2, the latter is unmounted there, because crun refuses to work in its sight. It is pinned
 * by a bind mount, so that it outlives the process.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/file.h"
#include "node/runtime/runtime.h"

#define UNIFIED "/sys/fs/cgroup/unified"

static bool fs_is(const char *path, long magic)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && (unsigned long)fs.f_type == (unsigned long)magic;
}

/* A namespace file can't be bound where the mount would travel on to other namespaces (EINVAL, and
 * in the end a namespace would hold itself), so the folder becomes a mount of its own first, which
 * tells nobody. */
static int make_private(const char *dir, struct err *err)
{
	struct stat st;
	struct statx sx;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "%s", dir);
	if (lstat(dir, &st) < 0)
		return err_errno(err, -errno, "%s", dir);
	if (!S_ISDIR(st.st_mode))
		return err_errno(err, -ENOTDIR, "%s", dir);
	if (statx(AT_FDCWD, dir, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &sx) < 0)
		return err_errno(err, -errno, "%s", dir);
	if (!(sx.stx_attributes & STATX_ATTR_MOUNT_ROOT) &&
		mount(dir, dir, NULL, MS_BIND, NULL) < 0)
		return err_errno(err, -errno, "bind %s", dir);
	if (mount(NULL, dir, NULL, MS_PRIVATE, NULL) < 0)
		return err_errno(err, -errno, "make %s private", dir);
	return 0;
}

/* Runs in the machine's namespace while the parent is already in the new one. */
static _Noreturn void pin_child(int go_fd, int result_fd, pid_t parent, const char *pin)
{
	char path[64], byte;
	int r = 0;

	if (read(go_fd, &byte, 1) != 1)
		_exit(1);
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)parent);
	if (mount(path, pin, NULL, MS_BIND, NULL) < 0)
		r = -errno;
	if (write(result_fd, &r, sizeof(r)) != (ssize_t)sizeof(r))
		_exit(1);
	_exit(0);
}

static int leave(struct err *err)
{
	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(err, -errno, "new mount namespace");
	/* What the machine mounts or unmounts still comes in; nothing goes out. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_errno(err, -errno, "make mounts slaves");
	if (fs_is("/sys/fs/cgroup", TMPFS_MAGIC) && fs_is(UNIFIED, CGROUP2_SUPER_MAGIC) &&
		umount2(UNIFIED, MNT_DETACH) < 0)
		return err_errno(err, -errno, "unmount %s", UNIFIED);
	return 0;
}

static int make_and_pin(const char *pin, struct err *err)
{
	_cleanup_fd_ int go_read = -EBADF, go_write = -EBADF, result_read = -EBADF,
			 result_write = -EBADF;
	pid_t parent = getpid(), child;
	int go[2], result[2];
	int r, outcome = -EPIPE;

	if (pipe2(go, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe");
	go_read = go[0];
	go_write = go[1];
	if (pipe2(result, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe");
	result_read = result[0];
	result_write = result[1];
	child = fork();
	if (child < 0)
		return err_errno(err, -errno, "fork");
	if (child == 0) {
		close(go_write);
		pin_child(go_read, result_write, parent, pin);
	}
	go_read = fd_close(go_read);
	result_write = fd_close(result_write);
	r = leave(err);
	if (r == 0)
		r = fd_write_all(go_write, "g", 1);
	go_write = fd_close(go_write);
	if (r == 0 && read(result_read, &outcome, sizeof(outcome)) != (ssize_t)sizeof(outcome))
		outcome = -EPIPE;
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return r;
	return outcome < 0 ? err_errno(err, outcome, "pin the mount namespace at %s", pin) : 0;
}

static int pin_path(const char *dir, char pin[PATH_MAX], struct err *err)
{
	if (snprintf(pin, PATH_MAX, "%s/ns", dir) >= PATH_MAX)
		return err_errno(err, -ENAMETOOLONG, "%s", dir);
	return 0;
}

int runtime_namespace_enter(const char *dir, struct err *err)
{
	_cleanup_fd_ int fd = -EBADF;
	char pin[PATH_MAX];
	int r = pin_path(dir, pin, err);

	if (r < 0)
		return r;
	if (fs_is(pin, NSFS_MAGIC)) {
		fd = open(pin, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return err_errno(err, -errno, "%s", pin);
		return setns(fd, CLONE_NEWNS) < 0 ? err_errno(err, -errno, "enter %s", pin) : 0;
	}
	r = make_private(dir, err);
	if (r < 0)
		return r;
	fd = open(pin, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, -errno, "%s", pin);
	return make_and_pin(pin, err);
}

int runtime_namespace_purge(const char *dir, struct err *err)
{
	char pin[PATH_MAX];
	int r = pin_path(dir, pin, err);

	if (r < 0)
		return r;
	if (fs_is(pin, NSFS_MAGIC) && umount2(pin, MNT_DETACH) < 0)
		return err_errno(err, -errno, "unmount %s", pin);
	if (unlink(pin) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "%s", pin);
	/* EINVAL: not a mount. */
	if (umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		return err_errno(err, -errno, "unmount %s", dir);
	unlink(pin);
	if (rmdir(dir) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "%s", dir);
	return 0;
}
