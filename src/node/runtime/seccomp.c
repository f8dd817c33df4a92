/*
 * The system calls a container may use: Docker's default profile with its default capabilities, as
 * an allow-list. What is missing here fails with EPERM: keyctl, add_key, request_key, bpf,
 * userfaultfd, io_uring_*, perf_event_open, mount, unshare, setns, open_by_handle_at, kexec,
 * modules … Names that the host's libseccomp doesn't know are skipped.
 *
 * The profile comes in two forms. As OCI's JSON, any runtime can take it; but crun 1.8.1 then
 * compiles it again for each container, which is more than half of the time of a start. So it is
 * also compiled here, once, and handed to crun in its own annotation, which takes precedence.
 */
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/json.h"
#include "node/runtime/internal.h"

#define PROGRAM_MAX ((size_t)32 << 10) /* the kernel takes 4096 instructions */
#define SECCOMP_INSTRUCTION_BYTES 8
#define TIOCSTI_CMD 0x5412u
#define AF_VSOCK_NR 40
/* CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} */
#define CLONE_NAMESPACES 0x7e020000ull

/* clang-format off */
static const char *const allowed[] = {
	"accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget", "capset", "chdir",
	"chmod", "chown", "chown32", "chroot", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
	"clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close", "close_range",
	"connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl",
	"epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2",
	"execve", "execveat", "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate",
	"fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl",
	"fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat",
	"fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue",
	"futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futimesat", "getcpu", "getcwd", "getdents",
	"getdents64", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
	"getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid",
	"getresgid32", "getresuid", "getresuid32", "getrlimit", "get_robust_list", "getrusage", "getsid",
	"getsockname", "getsockopt", "get_thread_area", "gettid", "gettimeofday", "getuid", "getuid32", "getxattr",
	"getxattrat", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel",
	"io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "ioprio_get", "ioprio_set", "io_setup",
	"io_submit", "ipc", "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown",
	"lchown32", "lgetxattr", "link", "linkat", "listen", "listmount", "listxattr", "listxattrat", "llistxattr",
	"_llseek", "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack",
	"membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock",
	"mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
	"mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "mseal", "msgctl",
	"msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap", "name_to_handle_at", "nanosleep",
	"newfstatat", "_newselect", "open", "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe",
	"pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64",
	"preadv", "preadv2", "prlimit64", "process_mrelease", "process_vm_readv", "process_vm_writev", "pselect6",
	"pselect6_time64", "ptrace", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat",
	"readv", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr",
	"removexattrat", "rename", "renameat", "renameat2", "restart_syscall", "riscv_hwprobe", "rmdir", "rseq",
	"rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
	"rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_getaffinity", "sched_getattr",
	"sched_getparam", "sched_get_priority_max", "sched_get_priority_min", "sched_getscheduler",
	"sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr",
	"sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget", "semop",
	"semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto",
	"setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32",
	"setitimer", "setpgid", "setpriority", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid",
	"setresuid32", "setreuid", "setreuid32", "setrlimit", "set_robust_list", "setsid", "setsockopt",
	"set_thread_area", "set_tid_address", "setuid", "setuid32", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt",
	"shmget", "shutdown", "sigaltstack", "signalfd", "signalfd4", "sigprocmask", "sigreturn", "socketcall",
	"socketpair", "splice", "stat", "stat64", "statfs", "statfs64", "statmount", "statx", "symlink", "symlinkat",
	"sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create", "timer_delete",
	"timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create",
	"timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "times", "tkill", "truncate",
	"truncate64", "ugetrlimit", "umask", "uname", "unlink", "unlinkat", "uretprobe", "utime", "utimensat",
	"utimensat_time64", "utimes", "vfork", "vmsplice", "wait4", "waitid", "waitpid", "write", "writev",
#if defined(__x86_64__) || defined(__i386__)
	"arch_prctl", "modify_ldt",
#elif defined(__aarch64__)
	"arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls",
#endif
};
/* clang-format on */

#if defined(__x86_64__)
static const char *const architectures[] = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"};
static const uint32_t architecture_tokens[] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86};
#elif defined(__aarch64__)
static const char *const architectures[] = {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"};
static const uint32_t architecture_tokens[] = {SCMP_ARCH_AARCH64, SCMP_ARCH_ARM};
#else
#error "add this architecture's seccomp names"
#endif

/* One system call that is allowed under a condition on one argument, or (errno_nr > 0) that fails
 * with this error. */
struct rule {
	const char *name;
	int errno_nr;
	unsigned index;
	enum scmp_compare op; /* SCMP_CMP_EQ or SCMP_CMP_MASKED_EQ */
	uint64_t value;	      /* masked: the mask */
	uint64_t value_two;   /* masked: what must be left */
};
typedef void (*rule_fn)(const struct rule *rule, void *arg);

static void allow_masked(
	rule_fn fn, void *arg, const char *name, unsigned index, uint64_t mask, uint64_t equals)
{
	fn(&(struct rule){.name = name,
		   .index = index,
		   .op = SCMP_CMP_MASKED_EQ,
		   .value = mask,
		   .value_two = equals},
		arg);
}

/* The kernel reads these arguments as 32 bits while a filter compares 64, so "not equal" could be
 * passed by setting a bit above (CVE-2019-10063 in flatpak). Filters know no "masked and not
 * equal"; but a number differs from another exactly if one of its 32 bits does, and that can be
 * asked bit by bit. */
static void allow_all_but(rule_fn fn, void *arg, const char *name, unsigned index, uint32_t denied)
{
	for (unsigned bit = 0; bit < 32; bit++) {
		uint64_t mask = 1ull << bit;

		allow_masked(fn, arg, name, index, mask, ~(uint64_t)denied & mask);
	}
}

static void each_rule(rule_fn fn, void *arg)
{
	static const uint64_t personalities[] = {0x0, 0x8, 0x20000, 0x20008, 0xffffffff};

	/* New namespaces need no capability inside a user namespace; their code is where kernels
	 * break. */
	allow_masked(fn, arg, "clone", 0, CLONE_NAMESPACES, 0);
	/* Its flags are behind a pointer, so no filter sees them; C libraries fall back to clone.
	 */
	fn(&(struct rule){.name = "clone3", .errno_nr = ENOSYS}, arg);
	for (size_t i = 0; i < ARRAY_SIZE(personalities); i++)
		fn(&(struct rule){.name = "personality",
			   .op = SCMP_CMP_EQ,
			   .value = personalities[i]},
			arg);
	/* The machine's own vsock is not in any namespace. */
	allow_all_but(fn, arg, "socket", 0, AF_VSOCK_NR);
	/* Typing into the terminal that one was started from. */
	allow_all_but(fn, arg, "ioctl", 1, TIOCSTI_CMD);
}

static json_t *strings(const char *const *names, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, json_string(names[i]));
	return array;
}

static void add_json(const struct rule *rule, void *arg)
{
	json_t *rules = arg, *object;

	if (rule->errno_nr)
		object = json_pack("{s:[s], s:s, s:i}", "names", rule->name, "action",
			"SCMP_ACT_ERRNO", "errnoRet", rule->errno_nr);
	else
		object = json_pack("{s:[s], s:s, s:[{s:i, s:I, s:I, s:s}]}", "names", rule->name,
			"action", "SCMP_ACT_ALLOW", "args", "index", (int)rule->index, "value",
			(json_int_t)rule->value, "valueTwo", (json_int_t)rule->value_two, "op",
			rule->op == SCMP_CMP_EQ ? "SCMP_CMP_EQ" : "SCMP_CMP_MASKED_EQ");
	assert(object);
	json_array_append_new(rules, object);
}

char *seccomp_profile(void)
{
	_cleanup_json_ json_t *profile = NULL;
	json_t *rules = json_array();

	json_array_append_new(
		rules, json_pack("{s:o, s:s}", "names", strings(allowed, ARRAY_SIZE(allowed)),
			       "action", "SCMP_ACT_ALLOW"));
	each_rule(add_json, rules);
	profile = json_pack("{s:s, s:i, s:o, s:o}", "defaultAction", "SCMP_ACT_ERRNO",
		"defaultErrnoRet", EPERM, "architectures",
		strings(architectures, ARRAY_SIZE(architectures)), "syscalls", rules);
	assert(profile);
	return json_text(profile);
}

struct filter {
	scmp_filter_ctx context;
	int r; /* the first failure */
};

static void add_bpf(const struct rule *rule, void *arg)
{
	struct filter *filter = arg;
	struct scmp_arg_cmp condition = {.arg = rule->index,
		.op = rule->op,
		.datum_a = rule->value,
		.datum_b = rule->value_two};
	int number = seccomp_syscall_resolve_name(rule->name);
	int r;

	if (filter->r < 0 || number == __NR_SCMP_ERROR)
		return;
	if (rule->errno_nr)
		r = seccomp_rule_add_array(
			filter->context, SCMP_ACT_ERRNO((unsigned)rule->errno_nr), number, 0, NULL);
	else
		r = seccomp_rule_add_array(filter->context, SCMP_ACT_ALLOW, number, 1, &condition);
	if (r < 0)
		filter->r = r;
}

/* -EEXIST: libseccomp had the native architecture from the start. */
static int fill(scmp_filter_ctx context)
{
	struct filter filter = {.context = context};

	for (size_t i = 0; i < ARRAY_SIZE(architecture_tokens); i++) {
		int r = seccomp_arch_add(context, architecture_tokens[i]);

		if (r < 0 && r != -EEXIST)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
		int number = seccomp_syscall_resolve_name(allowed[i]);
		int r = number == __NR_SCMP_ERROR
				? 0
				: seccomp_rule_add_array(context, SCMP_ACT_ALLOW, number, 0, NULL);

		if (r < 0)
			return r;
	}
	each_rule(add_bpf, &filter);
	return filter.r;
}

int seccomp_program(struct err *err, char **ret_base64)
{
	_cleanup_fd_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
	_cleanup_buf_ struct buf buf = BUF_MAX(PROGRAM_MAX);
	scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	ssize_t n;
	int r;

	if (!context || fd < 0) {
		seccomp_release(context);
		return err_errno(err, -ENOMEM, "seccomp");
	}
	r = fill(context);
	/* A tree instead of a list: what the kernel can't answer from its bitmap is found in a few
	 * steps. */
	if (r == 0)
		r = seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = seccomp_export_bpf(context, fd);
	seccomp_release(context);
	if (r < 0)
		return err_errno(err, r, "compile the seccomp profile");
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, -errno, "seccomp");
	do
		n = buf_read(&buf, fd, 65536);
	while (n > 0);
	if (n < 0 || buf.len == 0 || buf.len % SECCOMP_INSTRUCTION_BYTES)
		return err_errno(err, n < 0 ? (int)n : -EIO, "read the seccomp program");
	*ret_base64 = str_base64(buf.data, buf.len);
	return 0;
}
