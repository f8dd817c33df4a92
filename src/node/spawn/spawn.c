#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/proc.h"
#include "node/spawn/spawn.h"
#include "node/spawn/userns.h"

/* base/proc can't do this one: the id maps are written by the parent between clone and exec, and
 * the child is process 1 of a pid namespace. Between the two the child calls only what is
 * async-signal-safe. */

#define ENV_MAX 16

static const char *const passed_env[] = {"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY",
	"HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"};

/* Address space is not bounded under a sanitizer, which reserves terabytes. */
static const struct {
	int resource;
	rlim_t max;
} limits[] = {
	{RLIMIT_CORE, 0},
	{RLIMIT_NOFILE, 1024},
	{RLIMIT_NPROC, 128},
	{RLIMIT_FSIZE, (rlim_t)64 << 30},
#if !SANITIZED
	{RLIMIT_AS, (rlim_t)4 << 30},
#endif
};

struct child {
	const struct worker_spec *spec;
	int program_fd;
	int go_fd;    /* one byte: the maps are written */
	int error_fd; /* a negative errno on failure; closed by exec */
	char *env[ENV_MAX];
};

static _Noreturn void fail(const struct child *child)
{
	int r = -errno;

	if (write(child->error_fd, &r, sizeof(r)) < 0)
		_exit(126);
	_exit(127);
}

/* All that was mounted is read-only here; what the worker may write to is reached through a
 * descriptor, whose mount is the parent's. A /proc of the new pid namespace where the kernel allows
 * it: not where /proc has covered places, as in a container. */
static void own_mounts(const struct child *child)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		fail(child);
	mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		fail(child);
}

static void lower_limits(const struct child *child)
{
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit now;

		if (getrlimit(limits[i].resource, &now) < 0)
			fail(child);
		now.rlim_max = MIN(now.rlim_max, limits[i].max);
		now.rlim_cur = MIN(now.rlim_cur, limits[i].max);
		if (setrlimit(limits[i].resource, &now) < 0)
			fail(child);
	}
}

static void drop_capabilities(const struct child *child)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	for (size_t i = 0; i < child->spec->n_caps; i++) {
		int cap = child->spec->caps[i];

		data[cap / 32].permitted |= 1u << (cap % 32);
	}
	for (int cap = 0; cap < 64; cap++) {
		if (data[cap / 32].permitted & (1u << (cap % 32)))
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
			fail(child);
	}
	data[0].effective = data[0].permitted;
	data[1].effective = data[1].permitted;
	if (syscall(SYS_capset, &header, data) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(child);
}

/* Up first, then down to their places, since a source may have the number of another one's target.
 * The program and the error pipe follow them and go at exec. */
static void place_fds(struct child *child)
{
	int first_free = WORKER_FDS_MAX + 2;
	int all[WORKER_FDS_MAX + 2];
	size_t n = child->spec->n_fds;

	memcpy(all, child->spec->fds, n * sizeof(all[0]));
	all[n] = child->program_fd;
	all[n + 1] = child->error_fd;
	for (size_t i = 0; i < n + 2; i++) {
		all[i] = fcntl(all[i], F_DUPFD_CLOEXEC, first_free);
		if (all[i] < 0)
			fail(child);
	}
	child->error_fd = all[n + 1];
	for (size_t i = 0; i < n + 2; i++)
		if (dup3(all[i], (int)i, i < n ? 0 : O_CLOEXEC) < 0)
			fail(child);
	child->program_fd = (int)n;
	child->error_fd = (int)n + 1;
	if (close_range((unsigned)n + 2, ~0U, 0) < 0)
		fail(child);
}

/* setresuid has cleared no death signal before this: it is asked for last. The parent may be gone
 * by then, which shows as the end of its pipe. */
static void die_with_parent(const struct child *child)
{
	struct pollfd end = {.fd = child->go_fd};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		fail(child);
	if (poll(&end, 1, 0) != 0)
		_exit(127);
}

static _Noreturn void child_main(struct child *child)
{
	const char *const argv[] = {child->spec->name, NULL};
	char go;

	proc_reset_signals();
	umask(0077);
	if (read(child->go_fd, &go, 1) != 1)
		_exit(127);
	/* Not glibc's: those wait for the parent's other threads, which the clone doesn't have. */
	if (syscall(SYS_setresgid, 0, 0, 0) < 0 || syscall(SYS_setgroups, 0, NULL) < 0 ||
		syscall(SYS_setresuid, 0, 0, 0) < 0 || setsid() < 0)
		fail(child);
	own_mounts(child);
	lower_limits(child);
	drop_capabilities(child);
	die_with_parent(child);
	place_fds(child);
	if ((child->spec->cwd >= 0 ? fchdir(child->spec->cwd) : chdir("/")) < 0)
		fail(child);
	syscall(SYS_execveat, child->program_fd, "", argv, child->env, AT_EMPTY_PATH);
	fail(child);
}

static void fill_env(struct child *child)
{
	size_t n = 0;

	child->env[n++] = xstrdup("PATH=/usr/local/bin:/usr/bin:/bin");
	child->env[n++] = xstrdup("LC_ALL=C.UTF-8");
	child->env[n++] = xstrdup("HOME=/");
	for (size_t i = 0; i < ARRAY_SIZE(passed_env); i++) {
		const char *value = getenv(passed_env[i]);

		if (value)
			child->env[n++] = xasprintf("%s=%s", passed_env[i], value);
	}
	assert(n < ENV_MAX);
}

static void child_done(struct child *child)
{
	for (size_t i = 0; i < ENV_MAX; i++)
		free(child->env[i]);
}

static pid_t clone_child(struct child *child, int *ret_pidfd)
{
	int pidfd = -EBADF;
	struct clone_args args = {
		.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	sigset_t all, old;
	long pid;
	int r;

	/* No handler of the parent may run in the child. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		child_main(child);
	r = pid < 0 ? -errno : (int)pid;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r > 0)
		*ret_pidfd = pidfd;
	return r;
}

static int start(struct child *child, int go_write, int error_read, struct err *err,
	struct worker_process *process)
{
	int failure = 0;
	ssize_t n;
	int r;

	r = userns_write_maps(process->pid, 0, child->spec->uid_base);
	if (r < 0)
		return err_errno(err, r, "id map of %s", child->spec->name);
	if (write(go_write, "", 1) != 1)
		return err_errno(err, -errno, "start %s", child->spec->name);
	do
		n = read(error_read, &failure, sizeof(failure));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(failure) && failure < 0)
		return err_errno(err, failure, "set up %s", child->spec->name);
	return 0;
}

int worker_spawn(const struct worker_spec *spec, struct err *err, struct worker_process *ret)
{
	_cleanup_(child_done) struct child child = {.spec = spec, .program_fd = spec->program_fd};
	_cleanup_fd_ int go_read = -EBADF, go_write = -EBADF;
	_cleanup_fd_ int error_read = -EBADF, error_write = -EBADF;
	struct worker_process process;
	int go[2], error[2];
	int r;

	assert(spec->n_fds >= 3 && spec->n_fds <= WORKER_FDS_MAX);
	if (pipe2(go, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe for %s", spec->name);
	child.go_fd = go_read = go[0];
	go_write = go[1];
	if (pipe2(error, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe for %s", spec->name);
	error_read = error[0];
	child.error_fd = error_write = error[1];
	fill_env(&child);

	process.pid = clone_child(&child, &process.pidfd);
	if (process.pid < 0)
		return err_errno(err, process.pid, "clone for %s", spec->name);
	error_write = fd_close(error_write);
	r = start(&child, go_write, error_read, err, &process);
	if (r < 0) {
		kill(process.pid, SIGKILL);
		worker_reap(&process);
		return r;
	}
	*ret = process;
	return 0;
}

int worker_reap(struct worker_process *process)
{
	int status = 0;

	while (waitpid(process->pid, &status, 0) < 0 && errno == EINTR)
		;
	process->pidfd = fd_close(process->pidfd);
	process->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
