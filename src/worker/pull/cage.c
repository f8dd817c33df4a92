#include "worker/pull/cage.h"

#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* glibc, OpenSSL, curl with its resolver's threads, libarchive, and our own calls on files. Names
 * that an architecture doesn't have are skipped. */
static const char *const allowed[] = {
	/* files */
	"read",
	"write",
	"pread64",
	"pwrite64",
	"readv",
	"writev",
	"open",
	"openat",
	"openat2",
	"close",
	"close_range",
	"lseek",
	"fstat",
	"stat",
	"lstat",
	"newfstatat",
	"statx",
	"statfs",
	"fstatfs",
	"access",
	"faccessat",
	"faccessat2",
	"mkdir",
	"mkdirat",
	"mknod",
	"mknodat",
	"unlink",
	"unlinkat",
	"rmdir",
	"link",
	"linkat",
	"symlink",
	"symlinkat",
	"readlink",
	"readlinkat",
	"rename",
	"renameat",
	"renameat2",
	"fchown",
	"fchownat",
	"lchown",
	"fchmod",
	"fchmodat",
	"fchmodat2",
	"fsetxattr",
	"fgetxattr",
	"fremovexattr",
	"utimensat",
	"ftruncate",
	"fallocate",
	"fsync",
	"fdatasync",
	"syncfs",
	"sync_file_range",
	"flock",
	"fcntl",
	"dup",
	"dup2",
	"dup3",
	"getdents64",
	"getcwd",
	"umask",
	"copy_file_range",
	"fadvise64",
	"ioctl",
	"pipe2",
	"eventfd2",
	"name_to_handle_at",
	/* network; socket() has a rule of its own */
	"connect",
	"bind",
	"getsockname",
	"getpeername",
	"getsockopt",
	"setsockopt",
	"sendto",
	"sendmsg",
	"sendmmsg",
	"recvfrom",
	"recvmsg",
	"recvmmsg",
	"shutdown",
	"socketpair",
	"poll",
	"ppoll",
	"select",
	"pselect6",
	"epoll_create1",
	"epoll_ctl",
	"epoll_wait",
	"epoll_pwait",
	/* memory, threads, time, signals */
	"brk",
	"mmap",
	"munmap",
	"mremap",
	"mprotect",
	"madvise",
	"futex",
	"futex_waitv",
	"set_robust_list",
	"get_robust_list",
	"rseq",
	"membarrier",
	"sched_yield",
	"sched_getaffinity",
	"clock_gettime",
	"clock_getres",
	"clock_nanosleep",
	"nanosleep",
	"gettimeofday",
	"time",
	"getrandom",
	"rt_sigaction",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigtimedwait",
	"sigaltstack",
	"tgkill",
	"restart_syscall",
	"exit",
	"exit_group",
	"getpid",
	"gettid",
	"getppid",
	"getuid",
	"geteuid",
	"getgid",
	"getegid",
	"uname",
	"sysinfo",
	"getrlimit",
	"prlimit64",
	"arch_prctl",
	"set_tid_address",
	"getcpu",
};

#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | \
		CLONE_NEWCGROUP)

static int add_rules(scmp_filter_ctx filter)
{
	static const int domains[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(allowed) && r == 0; i++) {
		int nr = seccomp_syscall_resolve_name(allowed[i]);

		if (nr != __NR_SCMP_ERROR)
			r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, nr, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(domains) && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
			SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)domains[i]));
	/* Threads yes, namespaces no. clone3 hides its flags in memory: ENOSYS makes glibc use
	 * clone. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, NEW_NAMESPACES | CLONE_THREAD, CLONE_THREAD));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* A thread's name, which curl's resolver and sanitizers set. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
			SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	return r;
}

static int filter_calls(struct err *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = filter ? add_rules(filter) : -ENOMEM;

	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r < 0 ? err_errno(err, r, "The worker could not limit its system calls") : 0;
}

static void lower(int resource, rlim_t value)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return;
	limit.rlim_max = MIN(limit.rlim_max, value);
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(resource, &limit);
}

int cage_enter(const struct job_limits *limits, struct err *err)
{
	lower(RLIMIT_CORE, 0);
	lower(RLIMIT_NOFILE, 512);
	lower(RLIMIT_FSIZE, MAX(limits->bytes, (uint64_t)1 << 30));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, -errno, "The worker could not give up privileges");
	/* A sanitizer looks for leaks with ptrace, and reserves terabytes. */
	if (SANITIZED)
		return 0;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(err, -errno, "The worker could not hide its memory");
	/* Windows of zstd (128 MiB) for a few layers, buffers, stacks. */
	lower(RLIMIT_DATA, (rlim_t)2 << 30);
	return filter_calls(err);
}
