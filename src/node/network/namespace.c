/*
 * The user and network namespace of a group. Both are born with one clone(2), so that the second
 * belongs to the first, and are kept by bind mounts; the process is gone before anything runs in
 * them.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/file.h"
#include "node/network/private.h"

#define IDS 65536
#define STACK_BYTES 16384

struct holder {
	pid_t parent;
	pid_t pid;
	int pidfd;
	void *stack;
};

/* Shares the memory of the parent, so that no page table is copied: it may call nothing that
 * writes. */
static int hold(void *arg)
{
	const struct holder *holder = arg;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != holder->parent)
		return 1;
	for (;;)
		syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
}

static int holder_start(struct holder *holder)
{
	sigset_t all, old;
	int r = 0;

	holder->stack = xmalloc(STACK_BYTES);
	holder->parent = getpid();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	/* No exit signal: nobody else's SIGCHLD handling may see this one. */
	holder->pid = clone(hold, (char *)holder->stack + STACK_BYTES,
		CLONE_NEWUSER | CLONE_NEWNET | CLONE_VM | CLONE_PIDFD, holder, &holder->pidfd);
	if (holder->pid < 0)
		r = -errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0) {
		free(holder->stack);
		holder->pidfd = -EBADF;
	}
	return r;
}

static void holder_stop(struct holder *holder)
{
	siginfo_t info;

	pidfd_send_signal(holder->pidfd, SIGKILL, NULL, 0);
	while (waitid(P_PIDFD, (id_t)holder->pidfd, &info, WEXITED | __WALL) < 0 && errno == EINTR)
		;
	fd_close(holder->pidfd);
	free(holder->stack);
}

static char *pin_path(const char *ns_dir, const char *uid, const char *kind)
{
	return xasprintf("%s/%s.%s", ns_dir, uid, kind);
}

/* A descriptor of the namespace, -ENOENT when there is no pin or only its empty file. */
static int pin_open(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct statfs fs;

	if (fd < 0)
		return -errno;
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != NSFS_MAGIC)
		return -ENOENT;
	return take_fd(fd);
}

static int pin(pid_t pid, const char *kind, const char *path)
{
	char source[64];
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	snprintf(source, sizeof(source), "/proc/%d/ns/%s", pid, kind);
	return mount(source, path, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static int unpin(const char *path)
{
	/* One mount on the other is what a kill between two attempts can leave. */
	while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
	if (errno != EINVAL && errno != ENOENT)
		return -errno;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int write_map(pid_t pid, const char *which, uint32_t uid_base)
{
	char path[64], map[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, which);
	snprintf(map, sizeof(map), "0 %u %d\n", uid_base, IDS);
	return file_write_control(AT_FDCWD, path, map);
}

static int make(const char *user, const char *net, uint32_t uid_base)
{
	struct holder holder = {.pidfd = -EBADF};
	int r = holder_start(&holder);

	if (r < 0)
		return r;
	r = write_map(holder.pid, "uid_map", uid_base);
	if (r == 0)
		r = write_map(holder.pid, "gid_map", uid_base);
	if (r == 0)
		r = pin(holder.pid, "user", user);
	/* Last, so that its presence means that all before it is done. */
	if (r == 0)
		r = pin(holder.pid, "net", net);
	holder_stop(&holder);
	return r;
}

static bool same_namespace(int a, int b)
{
	struct stat sa, sb;

	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

/* Both pins, and the one belongs to the other. */
static int find(const char *user, const char *net)
{
	_cleanup_fd_ int user_fd = pin_open(user);
	_cleanup_fd_ int net_fd = pin_open(net);
	_cleanup_fd_ int owner = -EBADF;

	if (user_fd < 0 || net_fd < 0)
		return user_fd < 0 ? user_fd : net_fd;
	owner = ioctl(net_fd, NS_GET_USERNS);
	if (owner < 0)
		return -errno;
	if (!same_namespace(owner, user_fd))
		return -ENOENT;
	return take_fd(net_fd);
}

int namespace_remove(const char *ns_dir, const char *uid, struct err *err)
{
	_cleanup_free_ char *user = pin_path(ns_dir, uid, "user");
	_cleanup_free_ char *net = pin_path(ns_dir, uid, "net");
	int r = unpin(net);

	if (r < 0)
		return err_errno(err, r, "unmount %s", net);
	r = unpin(user);
	if (r < 0)
		return err_errno(err, r, "unmount %s", user);
	return 0;
}

int namespace_ensure(
	const char *ns_dir, const char *uid, uint32_t uid_base, struct err *err, int *ret_net)
{
	_cleanup_free_ char *user = pin_path(ns_dir, uid, "user");
	_cleanup_free_ char *net = pin_path(ns_dir, uid, "net");
	int fd = find(user, net);
	int r;

	if (fd < 0) {
		r = namespace_remove(ns_dir, uid, err);
		if (r < 0)
			return r;
		r = make(user, net, uid_base);
		if (r < 0)
			return err_errno(err, r, "namespaces of sandbox %s", uid);
		fd = find(user, net);
		if (fd < 0)
			return err_errno(err, fd, "pinned namespaces of sandbox %s", uid);
	}
	*ret_net = fd;
	return 0;
}

int namespace_open(const char *ns_dir, const char *uid)
{
	_cleanup_free_ char *net = pin_path(ns_dir, uid, "net");

	return pin_open(net);
}

int namespace_run(int net_fd, int (*fn)(void *arg), void *arg)
{
	_cleanup_fd_ int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (own < 0)
		return -errno;
	if (setns(net_fd, CLONE_NEWNET) < 0)
		return -errno;
	r = fn(arg);
	/* A thread that can't find its way home would configure the wrong machine. */
	if (setns(own, CLONE_NEWNET) < 0)
		abort();
	return r;
}
