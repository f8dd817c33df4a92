#include "main/confine.h"

#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* A list of what is refused and not of what is allowed: a new libc or library that reads the time
 * in another way must not stop the control plane. Names that an architecture doesn't have are
 * skipped. */
static const char *const refused[] = {
	/* programs and other processes */
	"execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev",
	"process_madvise", "pidfd_getfd", "pidfd_send_signal", "kcmp", "kill", "tkill",
	"personality",
	/* identities */
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups",
	"setfsuid", "setfsgid", "capset",
	/* namespaces, mounts, roots */
	"unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig",
	"fsmount", "fspick", "open_tree", "move_mount", "mount_setattr", "open_by_handle_at",
	"name_to_handle_at", "swapon", "swapoff", "quotactl", "quotactl_fd", "fanotify_init",
	"mknod", "mknodat", "setxattr", "lsetxattr", "fsetxattr",
	/* the rarer parts of the kernel */
	"bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
	"io_uring_register", "keyctl", "add_key", "request_key", "memfd_secret", "vmsplice",
	"modify_ldt", "seccomp", "lookup_dcookie", "shmget", "shmat", "semget", "msgget", "mq_open",
	"landlock_create_ruleset",
	/* the machine */
	"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
	"acct", "syslog", "sethostname", "setdomainname", "settimeofday", "clock_settime",
	"clock_adjtime", "adjtimex", "stime", "iopl", "ioperm", "vhangup", "nfsservctl"};

static int add_rules(scmp_filter_ctx filter)
{
	static const int domains[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(refused); i++) {
		int nr = seccomp_syscall_resolve_name(refused[i]);

		if (nr != __NR_SCMP_ERROR)
			r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), nr, 0);
	}
	/* AF_PACKET, AF_VSOCK, AF_ALG and all that follow the highest one that is needed, and those
	 * between. */
	for (int domain = 0; r == 0 && domain <= AF_NETLINK; domain++) {
		bool needed = false;

		for (size_t i = 0; i < ARRAY_SIZE(domains); i++)
			needed = needed || domain == domains[i];
		if (!needed)
			r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket),
				1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)domain));
	}
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
			SCMP_A0(SCMP_CMP_GT, AF_NETLINK));
	/* Threads yes, processes no. clone3 hides its flags in memory: ENOSYS makes glibc use
	 * clone. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return r;
}

static int refuse_calls(struct err *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int r = filter ? add_rules(filter) : -ENOMEM;

	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r < 0 ? err_errno(err, r, "limit the system calls") : 0;
}

static int drop_capabilities(struct err *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
		syscall(SYS_capset, &header, none) < 0)
		return err_errno(err, -errno, "give up capabilities");
	return 0;
}

int confine(struct err *err)
{
	int r = drop_capabilities(err);

	if (r < 0)
		return r;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, -errno, "give up privileges");
	return SANITIZED ? 0 : refuse_calls(err);
}
