#include "worker/clone/cage.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* --- the root --- */

/* Where the new root is put together: a mount over the machine's own /tmp, in the worker's mount
 * namespace alone. */
#define ROOT "/tmp"

/* git's program and helpers, its libraries, the authorities. No /etc but for those: no accounts, no
 * resolver, no configuration of git. */
static const char *const shown[] = {"/usr", "/bin", "/lib", "/lib32", "/lib64", "/libx32",
	"/etc/ssl", "/dev/null", "/dev/urandom"};

static int make_target(const char *target, mode_t mode)
{
	int fd;

	if (S_ISDIR(mode))
		return mkdir(target, 0755) < 0 ? -errno : 0;
	fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	fd_close(fd);
	return 0;
}

/* A link stays one (/bin → usr/bin), anything else is bound; what the machine hasn't is left out.
 */
static int show(const char *path)
{
	char target[64], link[64];
	struct stat st;
	ssize_t n;
	int r;

	snprintf(target, sizeof(target), "%s%s", ROOT, path);
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, link, sizeof(link) - 1);
		if (n < 0)
			return -errno;
		link[n] = '\0';
		return symlink(link, target) < 0 ? -errno : 0;
	}
	r = make_target(target, st.st_mode);
	if (r == 0 && mount(path, target, NULL, MS_BIND | MS_REC, NULL) < 0)
		r = -errno;
	return r;
}

static int mount_tmpfs(const char *path, const char *options)
{
	return mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0 ? -errno
											    : 0;
}

static int build(int volume_fd)
{
	int r = mount_tmpfs(ROOT, "size=1m,mode=0755");

	if (r < 0)
		return r;
	if (mkdir(ROOT "/etc", 0755) < 0 || mkdir(ROOT "/dev", 0755) < 0 ||
		mkdir(ROOT CAGE_TMP, 0700) < 0 || mkdir(ROOT CAGE_VOLUME, 0755) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(shown) && r == 0; i++)
		r = show(shown[i]);
	/* Sanitizers look there. */
	if (r == 0 && SANITIZED)
		r = show("/proc");
	if (r == 0)
		r = mount_tmpfs(ROOT CAGE_TMP, "size=64m,mode=0700");
	if (r == 0 &&
		move_mount(volume_fd, "", AT_FDCWD, ROOT CAGE_VOLUME, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		r = -errno;
	return r;
}

/* The old root is stacked on the new one by pivot_root(".", ".") and taken off. */
static int change_root(void)
{
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};

	if (chdir(ROOT) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
		mount_setattr(AT_FDCWD, "/", 0, &read_only, sizeof(read_only)) < 0)
		return -errno;
	return 0;
}

int cage_enter(int volume_fd, struct err *err)
{
	int r = build(volume_fd);

	if (r == 0)
		r = change_root();
	return r < 0 ? err_errno(err, r, "The worker could not make a root of its own") : 0;
}

/* --- git --- */

/* git with curl, GnuTLS and zlib, and dash, which git starts for some of its helpers. Names that an
 * architecture doesn't have are skipped. Everything else is EPERM. */
static const char *const allowed[] = {
	/* files */
	"read", "write", "pread64", "pwrite64", "readv", "writev", "open", "openat", "creat",
	"close", "close_range", "lseek", "fstat", "stat", "lstat", "newfstatat", "statx", "statfs",
	"fstatfs", "access", "faccessat", "faccessat2", "mkdir", "mkdirat", "unlink", "unlinkat",
	"rmdir", "link", "linkat", "symlink", "symlinkat", "readlink", "readlinkat", "rename",
	"renameat", "renameat2", "chmod", "fchmod", "fchmodat", "fchmodat2", "utime", "utimes",
	"utimensat", "truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "sync_file_range",
	"flock", "fcntl", "dup", "dup2", "dup3", "getdents", "getdents64", "getcwd", "chdir",
	"fchdir", "umask", "copy_file_range", "sendfile", "fadvise64", "ioctl", "pipe", "pipe2",
	"eventfd2",
	/* network; socket() has a rule of its own */
	"connect", "bind", "getsockname", "getpeername", "getsockopt", "setsockopt", "sendto",
	"sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "shutdown", "socketpair", "poll",
	"ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait",
	"epoll_pwait",
	/* processes; clone() has a rule of its own */
	"execve", "fork", "vfork", "wait4", "waitid", "kill", "tgkill", "getpid", "gettid",
	"getppid", "getpgid", "getpgrp", "setpgid", "getsid", "exit", "exit_group",
	/* memory, threads, time, signals */
	"brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "mlock", "mlock2", "munlock",
	"msync", "mincore", "futex", "set_robust_list", "get_robust_list", "rseq", "membarrier",
	"sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "clock_gettime",
	"clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times",
	"getrusage", "alarm", "getitimer", "setitimer", "getrandom", "rt_sigaction",
	"rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigpending",
	"sigaltstack", "restart_syscall", "pause",
	/* itself */
	"getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "uname",
	"sysinfo", "getrlimit", "prlimit64", "setrlimit", "getpriority", "arch_prctl",
	"set_tid_address", "getcpu"};

#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | \
		CLONE_NEWCGROUP)

static int add_rules(scmp_filter_ctx filter)
{
	static const int domains[] = {AF_UNIX, AF_INET, AF_INET6};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(allowed) && r == 0; i++) {
		int nr = seccomp_syscall_resolve_name(allowed[i]);

		if (nr != __NR_SCMP_ERROR)
			r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, nr, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(domains) && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
			SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)domains[i]));
	/* Processes and threads yes, namespaces no. clone3 hides its flags in memory: ENOSYS makes
	 * glibc use clone. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, NEW_NAMESPACES, 0));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
			SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	return r;
}

static int filter_calls(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = filter ? add_rules(filter) : -ENOMEM;

	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

static int lower(int resource, rlim_t value)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return -errno;
	limit.rlim_max = MIN(limit.rlim_max, value);
	limit.rlim_cur = limit.rlim_max;
	return setrlimit(resource, &limit) < 0 ? -errno : 0;
}

int cage_git(const struct job_limits *limits)
{
	const struct {
		int resource;
		rlim_t max;
	} table[] = {
		{RLIMIT_CORE, 0},
		{RLIMIT_NOFILE, 256},
		{RLIMIT_NPROC, 64},
		{RLIMIT_FSIZE, limits->bytes},
		{RLIMIT_CPU, limits->seconds},
		/* Before exec this is still the worker, whose sanitizer reserves terabytes. */
		{RLIMIT_AS, SANITIZED ? RLIM_INFINITY : (rlim_t)1 << 30},
	};
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(table) && r == 0; i++)
		r = lower(table[i].resource, table[i].max);
	if (r < 0)
		return r;
	/* The worker has set no_new_privs, so that the program of a root without capabilities gets
	 * none back. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
		syscall(SYS_capset, &header, none) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return filter_calls();
}
