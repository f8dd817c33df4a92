#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/proc.h"
#include "base/time.h"

static const char *const default_env[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"LC_ALL=C.UTF-8",
	NULL,
};

enum step { STEP_FDS, STEP_SESSION, STEP_DEATH_SIGNAL, STEP_SETUP, STEP_CWD, STEP_EXEC };

static const char *const step_names[] = {
	[STEP_FDS] = "descriptors",
	[STEP_SESSION] = "new session",
	[STEP_DEATH_SIGNAL] = "parent death signal",
	[STEP_SETUP] = "set-up",
	[STEP_CWD] = "working directory",
	[STEP_EXEC] = "exec",
};

/* What the child says on the error pipe when it can't become the program; the pipe just closes when
 * it does. */
struct failure {
	int step;
	int r;
};

/* All that the child needs, prepared before the fork: between fork and exec another thread of the
 * parent may have held any lock, so the child calls nothing but async-signal-safe functions. */
struct child {
	const struct proc_spec *spec;
	const char *const *envp;
	int *fds; /* owned; sources for 0, 1, 2, … */
	int n_fds;
	int error_fd;
	pid_t parent;
};

static _Noreturn void child_fail(const struct child *child, enum step step, int r)
{
	struct failure failure = {.step = (int)step, .r = r};
	ssize_t n;

	do
		n = write(child->error_fd, &failure, sizeof(failure));
	while (n < 0 && errno == EINTR);
	_exit(127);
}

/* Dispositions first: no handler of the parent may run here once signals are unblocked. */
void proc_reset_signals(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_die_with_parent(const struct child *child)
{
	if (!child->spec->die_with_parent)
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		child_fail(child, STEP_DEATH_SIGNAL, -errno);
	/* The parent may have gone before the request. */
	if (getppid() != child->parent)
		_exit(127);
}

/* Sources may be any numbers, also those of the targets. So all go up first, then each down to its
 * place; slot n_fds is kept for the error pipe, and whatever is above it is closed. */
static void child_fds(struct child *child)
{
	int first_free = child->n_fds + 1;
	int error_fd = fcntl(child->error_fd, F_DUPFD_CLOEXEC, first_free);

	if (error_fd < 0)
		child_fail(child, STEP_FDS, -errno);
	child->error_fd = error_fd;
	for (int i = 0; i < child->n_fds; i++) {
		child->fds[i] = fcntl(child->fds[i], F_DUPFD_CLOEXEC, first_free);
		if (child->fds[i] < 0)
			child_fail(child, STEP_FDS, -errno);
	}
	for (int i = 0; i < child->n_fds; i++)
		if (dup2(child->fds[i], i) < 0)
			child_fail(child, STEP_FDS, -errno);
	if (dup3(error_fd, child->n_fds, O_CLOEXEC) < 0)
		child_fail(child, STEP_FDS, -errno);
	child->error_fd = child->n_fds;
	if (close_range((unsigned)first_free, ~0U, 0) < 0)
		child_fail(child, STEP_FDS, -errno);
}

/* setup sees the parent's descriptor numbers. It may change the root, which cwd and the program
 * then belong to, and the ids, which clears the death signal: that one is asked for again. */
static _Noreturn void child_main(struct child *child)
{
	const struct proc_spec *spec = child->spec;

	proc_reset_signals();
	umask(0077);
	child_die_with_parent(child);
	if (spec->new_session && setsid() < 0)
		child_fail(child, STEP_SESSION, -errno);
	if (spec->setup) {
		int r = spec->setup(spec->setup_arg);

		if (r < 0)
			child_fail(child, STEP_SETUP, r);
		child_die_with_parent(child);
	}
	child_fds(child);
	if (chdir(spec->cwd ? spec->cwd : "/") < 0)
		child_fail(child, STEP_CWD, -errno);
	/* execve doesn't write to its arguments; its prototype is older than const. */
	execve(spec->argv[0], (char *const *)(uintptr_t)spec->argv,
		(char *const *)(uintptr_t)child->envp);
	child_fail(child, STEP_EXEC, -errno);
}

/* Signals stay blocked across the fork, so that none is handled in the child by code of the parent.
 */
static pid_t fork_child(struct child *child)
{
	sigset_t all, old;
	pid_t pid;
	int saved;

	child->parent = getpid();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid == 0)
		child_main(child);
	saved = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pid < 0 ? -saved : pid;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Returns 0 when the pipe closed without a word: the program runs. */
static int read_failure(int fd, struct failure *ret)
{
	struct failure failure;
	ssize_t n;

	do
		n = read(fd, &failure, sizeof(failure));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(failure) || failure.r >= 0)
		return 0;
	*ret = failure;
	return failure.r;
}

static int start_child(struct child *child, struct err *err, struct proc *ret)
{
	_cleanup_fd_ int error_read = -EBADF;
	_cleanup_fd_ int error_write = -EBADF;
	const char *program = child->spec->argv[0];
	struct failure failure;
	int ends[2];
	int pidfd, r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe for %s", program);
	error_read = ends[0];
	error_write = child->error_fd = ends[1];

	pid = fork_child(child);
	if (pid < 0)
		return err_errno(err, pid, "fork for %s", program);
	error_write = fd_close(error_write);
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0) {
		r = -errno;
		kill(pid, SIGKILL);
		reap(pid);
		return err_errno(err, r, "pidfd of %s", program);
	}
	r = read_failure(error_read, &failure);
	if (r < 0) {
		fd_close(pidfd);
		reap(pid);
		return err_errno(err, r, "%s: %s", program, step_names[failure.step]);
	}
	*ret = (struct proc){.pid = pid, .pidfd = pidfd};
	return 0;
}

int proc_spawn(const struct proc_spec *spec, struct err *err, struct proc *ret)
{
	_cleanup_free_ int *fds = xcalloc(3 + spec->n_fds, sizeof(int));
	_cleanup_fd_ int null_fd = -EBADF;
	const int stdio[3] = {spec->stdin_fd, spec->stdout_fd, spec->stderr_fd};
	struct child child = {
		.spec = spec,
		.envp = spec->envp ? spec->envp : default_env,
		.fds = fds,
		.n_fds = (int)(3 + spec->n_fds),
	};

	assert(spec->argv[0] && spec->argv[0][0] == '/');
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return err_errno(err, -errno, "/dev/null");
	for (size_t i = 0; i < 3; i++)
		fds[i] = stdio[i] >= 0 ? stdio[i] : null_fd;
	for (size_t i = 0; i < spec->n_fds; i++)
		fds[3 + i] = spec->fds[i];
	return start_child(&child, err, ret);
}

/* Milliseconds until the deadline for poll(2); -1 when there is none. */
static int time_left(int64_t deadline_ms)
{
	return deadline_ms < 0 ? -1 : (int)MAX(deadline_ms - time_mono_ms(), 0);
}

static int64_t deadline_after(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : time_mono_ms() + timeout_ms;
}

static void proc_forget(struct proc *proc)
{
	proc->pidfd = fd_close(proc->pidfd);
	proc->pid = 0;
}

static int proc_reap(struct proc *proc)
{
	siginfo_t info = {0};
	int r;

	do
		r = waitid(P_PIDFD, (id_t)proc->pidfd, &info, WEXITED) < 0 ? -errno : 0;
	while (r == -EINTR);
	proc_forget(proc);
	if (r < 0)
		return r;
	return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

int proc_wait(struct proc *proc, int timeout_ms)
{
	int64_t deadline_ms = deadline_after(timeout_ms);

	if (proc->pid <= 0)
		return -ECHILD;
	for (;;) {
		struct pollfd poll_fd = {.fd = proc->pidfd, .events = POLLIN};
		int n = poll(&poll_fd, 1, time_left(deadline_ms));

		if (n == 0)
			return -ETIMEDOUT;
		if (n > 0 || errno != EINTR)
			return proc_reap(proc);
	}
}

void proc_kill(struct proc *proc)
{
	if (proc->pid <= 0)
		return;
	pidfd_send_signal(proc->pidfd, SIGKILL, NULL, 0);
	proc_reap(proc);
}

/* Reads what is there; what is above the maximum is dropped. False at end of file. */
static bool drain(int fd, struct buf *output, size_t max)
{
	char chunk[4096];

	for (;;) {
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		if (max > output->len)
			buf_add(output, chunk, MIN((size_t)n, max - output->len));
	}
}

/* Until the process has ended. The pipe alone doesn't tell: a grandchild may keep it open for ever.
 */
static int collect(struct proc *proc, int fd, int64_t deadline_ms, struct buf *output, size_t max)
{
	struct pollfd fds[2] = {
		{.fd = proc->pidfd, .events = POLLIN},
		{.fd = fd, .events = POLLIN},
	};

	for (;;) {
		int n = poll(fds, 2, time_left(deadline_ms));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ETIMEDOUT;
		if (fds[1].revents && !drain(fd, output, max))
			fds[1].fd = -1;
		if (fds[0].revents) {
			if (fds[1].fd >= 0)
				drain(fd, output, max);
			return 0;
		}
	}
}

int proc_run(
	const char *const *argv, int timeout_ms, size_t max, char **ret_output, struct err *err)
{
	_cleanup_buf_ struct buf output = BUF_MAX(max);
	_cleanup_fd_ int read_end = -EBADF;
	_cleanup_fd_ int write_end = -EBADF;
	struct proc_spec spec = PROC_SPEC_INIT;
	int64_t deadline_ms = deadline_after(timeout_ms);
	struct proc proc;
	int ends[2];
	int r;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe for %s", argv[0]);
	read_end = ends[0];
	write_end = ends[1];
	r = fd_set_nonblock(read_end, true);
	if (r < 0)
		return err_errno(err, r, "pipe for %s", argv[0]);

	spec.argv = argv;
	spec.stdout_fd = spec.stderr_fd = write_end;
	spec.new_session = true;
	spec.die_with_parent = true;
	r = proc_spawn(&spec, err, &proc);
	if (r < 0)
		return r;
	write_end = fd_close(write_end);

	r = collect(&proc, read_end, deadline_ms, &output, max);
	if (r < 0) {
		/* It leads its own process group, so this reaches what it started. */
		kill(-proc.pid, SIGKILL);
		proc_kill(&proc);
		return err_set(err, r, "InternalError", "%s: %s", argv[0],
			r == -ETIMEDOUT ? "did not end in time" : err_str(r));
	}
	r = proc_reap(&proc);
	if (r < 0)
		return err_errno(err, r, "wait for %s", argv[0]);
	if (ret_output)
		*ret_output = buf_take(&output);
	return r;
}

/* ret_ended: a zombie, which waits only for its parent to ask. */
static int read_start_time(pid_t pid, uint64_t *ret_ticks, bool *ret_ended)
{
	_cleanup_free_ char *stat = NULL;
	char path[64];
	char *p;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	r = file_read(AT_FDCWD, path, 4096, &stat, NULL);
	if (r < 0)
		return r == -ESRCH ? -ENOENT : r;
	/* The name (field 2) is the program's own choice and may hold blanks and brackets; the last
	 * one is ours. */
	p = strrchr(stat, ')');
	*ret_ended = p && (p[2] == 'Z' || p[2] == 'X');
	for (int field = 2; p && field < 22; field++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	if (!p)
		return -EINVAL;
	p[strcspn(p, " \n")] = '\0';
	return str_to_u64(p, UINT64_MAX, ret_ticks);
}

int proc_start_time(pid_t pid, uint64_t *ret_ticks)
{
	uint64_t ticks;
	bool ended;
	int r = read_start_time(pid, &ticks, &ended);

	if (r == 0 && ended)
		r = -ENOENT;
	if (r == 0)
		*ret_ticks = ticks;
	return r;
}

void proc_reap_ended(pid_t pid, uint64_t start_ticks)
{
	uint64_t ticks;
	bool ended;

	/* A zombie's number stays its own until it is reaped. */
	if (read_start_time(pid, &ticks, &ended) == 0 && ended && ticks == start_ticks)
		waitpid(pid, NULL, WNOHANG);
}

char *proc_sibling(const char *name)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return xstrdup(name);
	self[n] = 0;
	*strrchr(self, '/') = 0;
	return xasprintf("%s/%s", self, name);
}
