/*
 * Starting conmon, which runs `crun create` and then stays as the container's monitor: it holds the
 * ends of the output pipes, writes the log, and leaves the exit code in the run folder's file
 * "exit".
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "node/runtime/internal.h"

#define CODE "ContainerCreateFailed"
#define CREATE_TIMEOUT_MS 30000
#define SYNC_MAX ((size_t)64 << 10)
#define OUTPUT_MAX 4096
#define CMDLINE_MAX ((size_t)256 << 10)
#define STRAY_WAIT_MS 10000
#define STRAY_ROUNDS 10

void monitor_done(struct monitor *monitor)
{
	free(monitor->cgroup);
	*monitor = (struct monitor){0};
}

/* "pid start-ticks cgroup\n" */
int monitor_read(int run_fd, struct monitor *ret)
{
	_cleanup_free_ char *text = NULL;
	char *rest, *pid, *ticks, *cgroup;
	uint64_t pid_value, ticks_value;
	int r = file_read(run_fd, "monitor", 8192, &text, NULL);

	if (r < 0)
		return r;
	rest = text;
	pid = strsep(&rest, " ");
	ticks = strsep(&rest, " ");
	cgroup = strsep(&rest, "\n");
	if (!cgroup || str_to_u64(pid, INT_MAX, &pid_value) < 0 ||
		str_to_u64(ticks, UINT64_MAX, &ticks_value) < 0)
		return -EBADMSG;
	*ret = (struct monitor){
		.pid = (pid_t)pid_value, .start_ticks = ticks_value, .cgroup = xstrdup(cgroup)};
	return 0;
}

int monitor_open(const struct monitor *monitor)
{
	struct pollfd poll_fd = {.events = POLLIN};
	_cleanup_fd_ int fd = -EBADF;
	uint64_t ticks;

	if (monitor->pid <= 0 || monitor->start_ticks == 0)
		return -ESRCH;
	fd = pidfd_open(monitor->pid, 0);
	if (fd < 0)
		return errno == ESRCH || errno == EINVAL ? -ESRCH : -errno;
	/* After the pidfd: what has this start time now is what the pidfd names. */
	if (proc_start_time(monitor->pid, &ticks) < 0 || ticks != monitor->start_ticks)
		return -ESRCH;
	poll_fd.fd = fd;
	if (poll(&poll_fd, 1, 0) > 0)
		return -ESRCH;
	return take_fd(fd);
}

static int read_conmon_pid(int run_fd, pid_t *ret)
{
	_cleanup_free_ char *text = NULL;
	uint64_t pid;
	int r = file_read(run_fd, "conmon.pid", 64, &text, NULL);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	r = str_to_u64(text, INT_MAX, &pid);
	if (r < 0)
		return r;
	*ret = (pid_t)pid;
	return 0;
}

static int monitor_write(const struct runtime_spec *spec, int run_fd, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	uint64_t ticks = 0;
	pid_t pid = 0;
	int r;

	r = read_conmon_pid(run_fd, &pid);
	if (r < 0)
		return err_errno(err, r, "conmon's pid file");
	/* A container may end the moment it is made only if someone killed it; then 0 says "gone".
	 */
	if (proc_start_time(pid, &ticks) < 0)
		ticks = 0;
	text = xasprintf("%d %llu %s\n", (int)pid, (unsigned long long)ticks, spec->cgroup);
	r = file_write_replace(run_fd, "monitor", text, strlen(text), 0600);
	return r < 0 ? err_errno(err, r, "monitor file") : 0;
}

/* crun's sentence, without the blank end and the control bytes that conmon passed on. */
static int create_failed(const char *message, struct err *err)
{
	_cleanup_free_ char *clean = str_utf8_clean(message, strlen(message));
	size_t len = strlen(clean);

	while (len > 0 && (clean[len - 1] == '\n' || clean[len - 1] == ' '))
		clean[--len] = '\0';
	for (char *p = clean; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	return err_set(err, -EIO, CODE, "%s",
		len ? clean : "The container could not be created; the runtime gave no reason.");
}

int conmon_sync_parse(const char *line, size_t len, struct err *err)
{
	_cleanup_free_ char *clean = str_utf8_clean(line, len);
	_cleanup_json_ json_t *object = NULL;
	int64_t data;

	if (json_parse(clean, strlen(clean), 4, NULL, &object) < 0 || !json_is_object(object))
		return err_set(
			err, -EPROTO, CODE, "The container's monitor sent something unreadable.");
	data = json_get_int(object, "data", -1);
	if (data > 0 && data <= INT_MAX)
		return (int)data;
	return create_failed(json_get_str(object, "message", ""), err);
}

/* One line with a deadline; end of file without one is a failure whose reason conmon kept to
 * itself. */
static int read_sync(int fd, int64_t deadline_ms, struct err *err)
{
	_cleanup_buf_ struct buf buf = BUF_MAX(SYNC_MAX);

	for (;;) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		int64_t left_ms = deadline_ms - time_mono_ms();
		const char *end = buf.len ? memchr(buf.data, '\n', buf.len) : NULL;
		ssize_t n;

		if (end)
			return conmon_sync_parse(buf.data, (size_t)(end - buf.data), err);
		if (left_ms <= 0)
			return err_set(err, -ETIMEDOUT, CODE,
				"The container was not created within %d seconds.",
				CREATE_TIMEOUT_MS / 1000);
		n = poll(&poll_fd, 1, (int)left_ms);
		if (n < 0 && errno != EINTR)
			return err_errno(err, -errno, "poll");
		if (n <= 0)
			continue;
		n = buf_read(&buf, fd, 4096);
		if (n == -EAGAIN)
			continue;
		if (n == 0)
			return create_failed("", err);
		if (n < 0)
			return err_set(err, (int)n, CODE, "The container's monitor sent too much.");
	}
}

/* conmon takes itself apart in two: the first process writes the second's pid and ends at once. */
static int wait_for_fork(struct proc *proc, int output_fd, int64_t deadline_ms, struct err *err)
{
	char text[OUTPUT_MAX];
	ssize_t n;
	int r = proc_wait(proc, (int)MAX(deadline_ms - time_mono_ms(), 0));

	if (r == 0)
		return 0;
	if (r == -ETIMEDOUT) {
		proc_kill(proc);
		return err_set(err, r, CODE, "The container's monitor did not start in time.");
	}
	n = pread(output_fd, text, sizeof(text) - 1, 0);
	text[MAX(n, 0)] = '\0';
	return create_failed(text, err);
}

static int spawn(const struct runtime *runtime, const struct runtime_spec *spec,
	const char *run_dir, const int fds[2], struct err *err, struct proc *ret)
{
	_cleanup_free_ char *pid_file = xasprintf("%s/pidfile", run_dir);
	_cleanup_free_ char *conmon_pid_file = xasprintf("%s/conmon.pid", run_dir);
	/* Relative to the run folder: conmon cuts at a colon, which the state folder's path may
	 * contain. */
	_cleanup_free_ char *log = xasprintf("k8s-file:../../log/%u.log", spec->run);
	/* A quarter of it: the file before is kept, too, and so is the previous run's log. */
	_cleanup_free_ char *log_max =
		xasprintf("%llu", (unsigned long long)MAX(runtime->log_max_bytes / 4, 1));
	const char *const envp[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8", "TZ=UTC", "_OCI_SYNCPIPE=3", NULL};
	const char *const argv[] = {runtime->conmon, "--api-version", "-c", spec->id, "-u",
		spec->id, "-n", spec->id, "-r", runtime->crun, "-b", run_dir, "-p", pid_file, "-P",
		conmon_pid_file, "-l", log, "--log-level", "error", "--persist-dir", run_dir,
		"--full-attach", "--runtime-arg", "--root", "--runtime-arg", runtime->state_dir,
		runtime->log_max_bytes ? "--log-size-max" : NULL, log_max, NULL};
	struct proc_spec proc_spec = PROC_SPEC_INIT;

	proc_spec.argv = argv;
	proc_spec.envp = envp;
	proc_spec.cwd = run_dir;
	proc_spec.stdout_fd = proc_spec.stderr_fd = fds[1];
	proc_spec.fds = fds;
	proc_spec.n_fds = 1;
	proc_spec.new_session = true;
	/* It ends at once when it has forked the monitor, so this holds only until then: if we die
	 * before, there is no process on the way to become a conmon that a restarted agent couldn't
	 * know by its name. */
	proc_spec.die_with_parent = true;
	return proc_spawn(&proc_spec, err, ret);
}

int conmon_create(const struct runtime *runtime, const struct runtime_spec *spec,
	const char *run_dir, int run_fd, struct err *err)
{
	int64_t deadline_ms = time_mono_ms() + CREATE_TIMEOUT_MS;
	_cleanup_fd_ int sync_read = -EBADF;
	_cleanup_fd_ int sync_write = -EBADF;
	_cleanup_fd_ int output = memfd_create("conmon", MFD_CLOEXEC);
	struct proc proc;
	int ends[2];
	int r;

	if (output < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe for conmon");
	sync_read = ends[0];
	sync_write = ends[1];
	r = fd_set_nonblock(sync_read, true);
	if (r < 0)
		return err_errno(err, r, "pipe for conmon");
	r = spawn(runtime, spec, run_dir, (const int[]){sync_write, output}, err, &proc);
	if (r < 0)
		return r;
	sync_write = fd_close(sync_write);
	r = wait_for_fork(&proc, output, deadline_ms, err);
	if (r < 0)
		return r;
	r = read_sync(sync_read, deadline_ms, err);
	if (r < 0)
		return r;
	return monitor_write(spec, run_fd, err);
}

/* Whether the process is a conmon or crun that has this id among its arguments, as we gave them. */
static bool is_for(int proc_fd, const char *pid, const struct runtime *runtime, const char *id)
{
	_cleanup_free_ char *text = NULL;
	char path[64];
	size_t len;

	snprintf(path, sizeof(path), "%.16s/cmdline", pid);
	if (file_read(proc_fd, path, CMDLINE_MAX, &text, &len) < 0 || len == 0 ||
		(!str_eq(text, runtime->conmon) && !str_eq(text, runtime->crun)))
		return false;
	for (const char *p = text; p < text + len; p += strlen(p) + 1)
		if (str_eq(p, id))
			return true;
	return false;
}

static bool kill_and_wait(
	int proc_fd, const char *pid, const struct runtime *runtime, const char *id)
{
	struct pollfd poll_fd = {.events = POLLIN};
	_cleanup_fd_ int fd = -EBADF;
	uint64_t value;

	if (str_to_u64(pid, INT_MAX, &value) < 0)
		return false;
	fd = pidfd_open((pid_t)value, 0);
	/* Asked again behind the pidfd, so that it is this process and not a later one with its
	 * number. */
	if (fd < 0 || !is_for(proc_fd, pid, runtime, id))
		return false;
	pidfd_send_signal(fd, SIGKILL, NULL, 0);
	poll_fd.fd = fd;
	poll(&poll_fd, 1, STRAY_WAIT_MS);
	return true;
}

/* Returns how many it found. */
static size_t kill_round(const struct runtime *runtime, const char *id)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	size_t found = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
			is_for(dirfd(dir), entry->d_name, runtime, id))
			found += kill_and_wait(dirfd(dir), entry->d_name, runtime, id);
	closedir(dir);
	return found;
}

/* conmon first, then by its death crun and what crun made; a round can miss what was just being
 * forked. */
void conmon_kill_strays(const struct runtime *runtime, const char *id)
{
	for (int round = 0; round < STRAY_ROUNDS && kill_round(runtime, id) > 0; round++)
		;
}
