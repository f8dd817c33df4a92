/*
 * `crun exec` as our own child. What crun needs lies in a folder of the run's folder, exec-<n>, of
 * which only the file "session" stays when the command runs, for who comes after us should we be
 * killed; its paths are relative, because crun is started in it: so no
 * descriptor of a folder of the machine is open where a hostile working directory could name it.
 *
 * crun writes its pid file when all is set up, right before the program's execve: a crun that ends
 * without one never came to the program, and its log says why. The file is a fifo, so crun waits
 * there, and with it the command's process, though it may have ended, until its session is known.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "node/runtime/exec.h"
#include "node/runtime/internal.h"

#define CODE "ContainerExecFailed"
#define START_TIMEOUT_MS 30000
#define MESSAGE_MAX ((size_t)64 << 10)
#define KILL_ROUNDS 20
#define KILL_WAIT_MS 1000
#define CONSOLE_WAIT_S 5
#define ROWS 24
#define COLS 80
#define SIZE_MAX_CELLS 10000

/* What a start holds until the command runs. */
struct start {
	const struct runtime *runtime;
	const struct runtime_exec_spec *spec;
	char *dir; /* owned: the session's folder */
	int dir_fd, listen_fd;
	int pid_fd;	  /* read end of the fifo; -EBADF: the session isn't known yet */
	int child_fds[3]; /* the child's 0, 1, 2 */
	char oom_score_adj[16];
};

static void start_done(struct start *start)
{
	fd_close(start->dir_fd);
	fd_close(start->listen_fd);
	fd_close(start->pid_fd);
	for (size_t i = 0; i < ARRAY_SIZE(start->child_fds); i++)
		fd_close(start->child_fds[i]);
	if (start->dir)
		file_remove_tree(AT_FDCWD, start->dir);
	free(start->dir);
}

/* The folder goes on to the command. */
static int keep_session(struct start *start, struct runtime_exec *exec, struct err *err)
{
	static const char *const needless[] = {"process.json", "console", "pid", "log"};
	char text[16];
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(needless); i++)
		unlinkat(start->dir_fd, needless[i], 0);
	snprintf(text, sizeof(text), "%d\n", exec->session);
	r = file_write_replace(start->dir_fd, "session", text, strlen(text), 0600);
	if (r < 0)
		return err_errno(err, r, "%s/session", start->dir);
	exec->dir = take_ptr(start->dir);
	return 0;
}

static bool is_crun(const struct runtime *runtime)
{
	const char *slash = strrchr(runtime->crun, '/');

	return str_eq(slash ? slash + 1 : runtime->crun, "crun");
}

static int pid_namespace(pid_t pid, uint64_t *ret)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)pid);
	if (stat(path, &st) < 0)
		return -errno;
	*ret = st.st_ino;
	return 0;
}

static int read_pid(int dir_fd, const char *name, pid_t *ret)
{
	_cleanup_free_ char *text = NULL;
	uint64_t pid;
	int r = file_read(dir_fd, name, 64, &text, NULL);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	r = str_to_u64(text, INT_MAX, &pid);
	if (r == 0)
		*ret = (pid_t)pid;
	return r;
}

static int check_running(const struct runtime *runtime, const char *id, int run_fd, struct err *err,
	uint64_t *ret_ns)
{
	pid_t pid = 0;

	if (read_pid(run_fd, "pidfile", &pid) < 0 || crun_waits(runtime, id) ||
		pid_namespace(pid, ret_ns) < 0)
		return err_set(err, -ESRCH, "ContainerNotRunning", "The container is not running.");
	return 0;
}

/* --- the process object --- */

static bool names_variable(const json_t *env, const char *name_and_equals)
{
	size_t i;
	json_t *entry;

	json_array_foreach (env, i, entry)
		if (str_starts(json_string_value(entry), name_and_equals))
			return true;
	return false;
}

static unsigned cells(unsigned wanted, unsigned fallback)
{
	return wanted ? MIN(wanted, SIZE_MAX_CELLS) : fallback;
}

/* The container's own process object, as we wrote it, with another command. */
static int process_text(
	const struct runtime_exec_spec *spec, int run_fd, struct err *err, char **ret_text)
{
	_cleanup_json_ json_t *config = NULL;
	_cleanup_free_ char *text = NULL;
	json_t *process, *args = json_array();
	size_t len;
	int r = file_read(run_fd, "config.json", RUNTIME_CONFIG_MAX, &text, &len);

	if (r == 0)
		r = json_parse(text, len, JSON_DEPTH_MAX, err, &config);
	process = json_get_obj(config, "process");
	if (r < 0 || !process) {
		json_decref(args);
		return err_set(err, r < 0 ? r : -EBADMSG, CODE, "The container is being removed.");
	}
	json_object_set_new(process, "args", args);
	for (size_t i = 0; spec->args[i]; i++)
		if (json_array_append_new(args, json_string(spec->args[i])) < 0)
			return err_set(err, -EINVAL, CODE, "The command is not valid UTF-8.");
	json_object_set_new(process, "terminal", json_boolean(spec->terminal));
	if (spec->terminal) {
		json_t *env = json_get_arr(process, "env");

		if (!names_variable(env, "TERM="))
			json_array_append_new(env, json_string("TERM=xterm"));
	}
	*ret_text = json_text(process);
	return 0;
}

/* --- the session's folder --- */

static int make_dir(struct start *start, struct err *err)
{
	static atomic_uint next;

	/* One of that name may be left of a process before us that was killed. */
	do {
		free(start->dir);
		start->dir = xasprintf("%s/run/%s/exec-%u", start->spec->dir, start->spec->id,
			atomic_fetch_add(&next, 1));
	} while (mkdir(start->dir, 0700) < 0 && errno == EEXIST);
	start->dir_fd = open(start->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (start->dir_fd < 0 ||
		(is_crun(start->runtime) && mkfifoat(start->dir_fd, "pid", 0600) < 0))
		return err_errno(err, -errno, "%s", start->dir);
	return 0;
}

/* Bound through /proc, since the folder's path may be longer than a socket's may be. */
static int listen_console(struct start *start, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/console", start->dir_fd);
	start->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (start->listen_fd < 0 ||
		bind(start->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		listen(start->listen_fd, 1) < 0)
		return err_errno(err, -errno, "socket for the terminal");
	return 0;
}

/* *ret_ours is non-blocking. */
static int make_pipe(int *ret_ours, int *ret_child, bool child_reads, struct err *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe");
	*ret_ours = ends[child_reads ? 1 : 0];
	*ret_child = ends[child_reads ? 0 : 1];
	return fd_set_nonblock(*ret_ours, true);
}

static int make_pipes(struct start *start, struct runtime_exec *exec, struct err *err)
{
	int r = 0;

	if (start->spec->terminal)
		return listen_console(start, err);
	if (start->spec->with_stdin)
		r = make_pipe(&exec->stdin_fd, &start->child_fds[0], true, err);
	if (r == 0)
		r = make_pipe(&exec->stdout_fd, &start->child_fds[1], false, err);
	if (r == 0)
		r = make_pipe(&exec->stderr_fd, &start->child_fds[2], false, err);
	return r;
}

/* In the child. crun gives the container's score to its first process alone: a command would have
 * ours, which may be that of a daemon that the kernel must not take. */
static int set_oom_score(void *arg)
{
	const struct start *start = arg;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, start->oom_score_adj, strlen(start->oom_score_adj));
	close(fd);
	return n < 0 ? -errno : 0;
}

static int spawn(struct start *start, struct err *err, struct proc *ret)
{
	const struct runtime *runtime = start->runtime;
	struct proc_spec spec = PROC_SPEC_INIT;
	const char *argv[16] = {runtime->crun, "--root", runtime->state_dir};
	size_t n = 3;
	int r;

	if (is_crun(runtime)) {
		argv[n++] = "--log";
		argv[n++] = "file:log";
	}
	argv[n++] = "exec";
	if (start->spec->terminal) {
		argv[n++] = "--console-socket";
		argv[n++] = "console";
	}
	argv[n++] = "--pid-file";
	argv[n++] = "pid";
	argv[n++] = "--process";
	argv[n++] = "process.json";
	argv[n] = start->spec->id;
	snprintf(start->oom_score_adj, sizeof(start->oom_score_adj), "%d", runtime->oom_score_adj);
	spec.argv = argv;
	spec.cwd = start->dir;
	spec.stdin_fd = start->child_fds[0];
	spec.stdout_fd = start->child_fds[1];
	spec.stderr_fd = start->child_fds[2];
	spec.new_session = true;
	spec.die_with_parent = true;
	spec.setup = set_oom_score;
	spec.setup_arg = start;
	r = proc_spawn(&spec, err, ret);
	for (size_t i = 0; i < ARRAY_SIZE(start->child_fds); i++)
		start->child_fds[i] = fd_close(start->child_fds[i]);
	return r;
}

/* --- until the command runs --- */

static int receive_fd(int sock)
{
	struct timeval wait = {.tv_sec = CONSOLE_WAIT_S};
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *head;
	int fd;

	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
		recvmsg(sock, &message, MSG_CMSG_CLOEXEC) < 0)
		return -errno;
	head = CMSG_FIRSTHDR(&message);
	if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS ||
		head->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EPROTO;
	memcpy(&fd, CMSG_DATA(head), sizeof(fd));
	return fd;
}

/* crun opened it as /dev/ptmx of the container, whose root can put anything there. */
static int take_console(struct start *start, struct runtime_exec *exec, struct err *err)
{
	_cleanup_fd_ int sock = accept4(start->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	_cleanup_fd_ int fd = sock < 0 ? -errno : receive_fd(sock);
	unsigned number;
	int r;

	if (fd == -EAGAIN && sock < 0)
		return 0;
	if (fd < 0)
		return err_errno(err, fd, "terminal of the command");
	if (ioctl(fd, TIOCGPTN, &number) < 0)
		return err_set(err, -ENOTTY, CODE,
			"The container's /dev/ptmx is not a terminal any more. Use no terminal.");
	r = fd_set_nonblock(fd, true);
	exec->stdin_fd = r < 0 ? r : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (exec->stdin_fd < 0)
		return err_errno(err, r < 0 ? r : -errno, "terminal of the command");
	exec->stdout_fd = take_fd(fd);
	/* Left to crun, it would be set while the program already runs, over a resize that came
	 * since. */
	runtime_exec_resize(exec, start->spec->rows, start->spec->cols);
	start->listen_fd = fd_close(start->listen_fd);
	return 0;
}

/* "executable file `x` not found in $PATH: No such file or directory": the first line is the
 * command's own side of it, what follows is what crun makes of its end. */
static int start_failed(const struct start *start, struct err *err)
{
	_cleanup_free_ char *text = NULL, *clean = NULL;

	if (file_read(start->dir_fd, "log", MESSAGE_MAX, &text, NULL) < 0)
		text = xstrdup("");
	clean = str_utf8_clean(text, strlen(text));
	clean[strcspn(clean, "\n")] = '\0';
	for (char *p = clean; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	return err_set(err, -EIO, CODE, "%s",
		*clean ? clean : "The command could not be started; the runtime gave no reason.");
}

/* The session of crun's child, once it has one of its own. */
static int child_session(pid_t crun)
{
	_cleanup_free_ char *text = NULL;
	char path[64];
	pid_t session;
	uint64_t child;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)crun, (int)crun);
	if (file_read(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return 0;
	text[strcspn(text, " ")] = '\0';
	if (str_to_u64(text, INT_MAX, &child) < 0)
		return 0;
	session = getsid((pid_t)child);
	return session > 0 && session != crun ? session : 0;
}

/* Other runtimes write a file. */
static void know_process(struct start *start, struct runtime_exec *exec)
{
	char text[32];
	uint64_t pid;
	ssize_t n;

	if (is_crun(start->runtime) && exec->session == 0)
		exec->session = child_session(exec->proc.pid);
	if (start->pid_fd < 0 && (exec->session > 0 || !is_crun(start->runtime)))
		start->pid_fd = openat(
			start->dir_fd, "pid", O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (start->pid_fd < 0)
		return;
	n = read(start->pid_fd, text, sizeof(text) - 1);
	if (n <= 0)
		return;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (str_to_u64(text, INT_MAX, &pid) < 0)
		return;
	exec->inner_pid = (pid_t)pid;
	if (start->spec->terminal)
		exec->session = exec->inner_pid;
	else if (exec->session == 0)
		exec->session = MAX(getsid(exec->inner_pid), 0);
}

/* 1 when the command runs, or has run. */
static int look(struct start *start, struct runtime_exec *exec, struct err *err)
{
	struct pollfd end = {.fd = exec->proc.pidfd, .events = POLLIN};
	bool ended = poll(&end, 1, 0) > 0;
	int r;

	if (start->listen_fd >= 0) {
		r = take_console(start, exec, err);
		if (r < 0)
			return r;
	}
	know_process(start, exec);
	if (exec->inner_pid > 0 && start->listen_fd < 0)
		return 1;
	return ended ? start_failed(start, err) : 0;
}

static int wait_started(
	struct start *start, struct runtime_exec *exec, int64_t deadline_ms, struct err *err)
{
	for (int wait_ms = 1;; wait_ms = MIN(wait_ms + 1, 10)) {
		struct pollfd fds[] = {{.fd = exec->proc.pidfd, .events = POLLIN},
			{.fd = start->listen_fd, .events = POLLIN},
			{.fd = start->pid_fd, .events = POLLIN}};
		int r = look(start, exec, err);

		if (r != 0)
			return MIN(r, 0);
		if (time_mono_ms() >= deadline_ms)
			return err_set(err, -ETIMEDOUT, CODE, "The command did not start in time.");
		poll(fds, ARRAY_SIZE(fds), wait_ms);
	}
}

static int start(
	struct start *start, int64_t deadline_ms, struct err *err, struct runtime_exec *exec)
{
	_cleanup_free_ char *run_dir = xasprintf("%s/run/%s", start->spec->dir, start->spec->id);
	_cleanup_fd_ int run_fd = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *process = NULL;
	int r;

	r = check_running(start->runtime, start->spec->id, run_fd, err, &exec->pid_ns);
	if (r == 0)
		r = process_text(start->spec, run_fd, err, &process);
	if (r == 0)
		r = make_dir(start, err);
	if (r < 0)
		return r;
	r = file_write_replace(start->dir_fd, "process.json", process, strlen(process), 0600);
	if (r < 0)
		return err_errno(err, r, "%s/process.json", start->dir);
	r = make_pipes(start, exec, err);
	if (r == 0)
		r = spawn(start, err, &exec->proc);
	return r < 0 ? r : wait_started(start, exec, deadline_ms, err);
}

static int start_until(struct runtime *runtime, const struct runtime_exec_spec *spec,
	int64_t deadline_ms, struct err *err, struct runtime_exec *ret)
{
	struct start state = {.runtime = runtime,
		.spec = spec,
		.dir_fd = -EBADF,
		.listen_fd = -EBADF,
		.pid_fd = -EBADF,
		.child_fds = {-EBADF, -EBADF, -EBADF}};
	struct runtime_exec exec = RUNTIME_EXEC_INIT;
	int r;

	assert(spec->args[0]);
	r = start(&state, deadline_ms, err, &exec);
	if (r == 0)
		r = keep_session(&state, &exec, err);
	if (r < 0)
		runtime_exec_done(&exec);
	else
		*ret = exec;
	start_done(&state);
	return r;
}

int runtime_exec_start(struct runtime *runtime, const struct runtime_exec_spec *spec,
	struct err *err, struct runtime_exec *ret)
{
	return start_until(runtime, spec, time_mono_ms() + START_TIMEOUT_MS, err, ret);
}

void runtime_exec_resize(struct runtime_exec *exec, unsigned rows, unsigned cols)
{
	struct winsize size = {.ws_row = (unsigned short)cells(rows, ROWS),
		.ws_col = (unsigned short)cells(cols, COLS)};

	/* A pipe refuses. */
	ioctl(exec->stdout_fd, TIOCSWINSZ, &size);
}

int runtime_exec_wait(struct runtime_exec *exec, int timeout_ms)
{
	return proc_wait(&exec->proc, timeout_ms);
}

/* --- the end --- */

/* Parent and session of a process. False when it has ended. */
static bool read_stat(int proc_fd, const char *pid, pid_t *ret_parent, pid_t *ret_session)
{
	_cleanup_free_ char *text = NULL;
	char path[32], state;
	int parent, group, session;
	const char *p;

	snprintf(path, sizeof(path), "%.16s/stat", pid);
	if (file_read(proc_fd, path, 4096, &text, NULL) < 0)
		return false;
	/* The name before it is the program's own choice, and may hold brackets. */
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1, " %c %d %d %d", &state, &parent, &group, &session) != 4 ||
		state == 'Z' || state == 'X')
		return false;
	*ret_parent = parent;
	*ret_session = session;
	return true;
}

/* A session's number could belong to somebody else once all of its processes have ended; nobody
 * else has processes in the container's pid namespace. crun is ours and not yet waited for, so its
 * number is its own. */
static bool is_ours(const struct runtime_exec *exec, int proc_fd, const char *name, pid_t pid)
{
	pid_t parent, session, crun = exec->proc.pid;
	uint64_t ns;

	if (pid == crun || !read_stat(proc_fd, name, &parent, &session))
		return false;
	if (crun > 0 && (parent == crun || session == crun))
		return true;
	return exec->session > 0 && session == exec->session && pid_namespace(pid, &ns) == 0 &&
	       ns == exec->pid_ns;
}

static bool kill_if_ours(const struct runtime_exec *exec, int proc_fd, const char *name)
{
	struct pollfd end = {.events = POLLIN};
	_cleanup_fd_ int fd = -EBADF;
	uint64_t pid;

	if (str_to_u64(name, INT_MAX, &pid) < 0 || !is_ours(exec, proc_fd, name, (pid_t)pid))
		return false;
	fd = pidfd_open((pid_t)pid, 0);
	/* Again behind the pidfd, so that it is this process and no later one of its number. */
	if (fd < 0 || !is_ours(exec, proc_fd, name, (pid_t)pid))
		return false;
	pidfd_send_signal(fd, SIGKILL, NULL, 0);
	end.fd = fd;
	poll(&end, 1, KILL_WAIT_MS);
	return true;
}

static size_t kill_round(const struct runtime_exec *exec)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	size_t found = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			found += kill_if_ours(exec, dirfd(dir), entry->d_name);
	closedir(dir);
	return found;
}

/* Whether there may be processes left. Those of a terminal are in groups of their own. */
static bool may_be_left(const struct runtime_exec *exec)
{
	if (exec->proc.pid > 0)
		return true;
	return exec->session > 0 &&
	       (exec->session == exec->inner_pid || kill(-exec->session, 0) == 0);
}

/* So that it starts nothing any more while its children are looked for: one that it makes after
 * that could not be told from others once it is gone. */
static void stop_crun(const struct runtime_exec *exec)
{
	siginfo_t info = {0};

	pidfd_send_signal(exec->proc.pidfd, SIGSTOP, NULL, 0);
	for (int waited_ms = 0; waited_ms < KILL_WAIT_MS; waited_ms++) {
		if (waitid(P_PIDFD, (id_t)exec->proc.pidfd, &info,
			    WSTOPPED | WEXITED | WNOWAIT | WNOHANG) < 0 ||
			info.si_pid != 0)
			return;
		poll(NULL, 0, 1);
	}
}

/* Each round can miss what was just being forked. */
static void kill_all(const struct runtime_exec *exec)
{
	for (int i = 0; i < KILL_ROUNDS && kill_round(exec) > 0; i++)
		;
}

void runtime_exec_done(struct runtime_exec *exec)
{
	exec->stdin_fd = fd_close(exec->stdin_fd);
	if (exec->proc.pid > 0)
		stop_crun(exec);
	if (may_be_left(exec))
		kill_all(exec);
	exec->session = 0;
	proc_kill(&exec->proc);
	if (exec->dir)
		file_remove_tree(AT_FDCWD, exec->dir);
	free(take_ptr(exec->dir));
	exec->stdout_fd = fd_close(exec->stdout_fd);
	exec->stderr_fd = fd_close(exec->stderr_fd);
}

static void sweep_one(const char *run_dir, int run_fd, const char *name)
{
	_cleanup_free_ char *file = xasprintf("%s/session", name);
	_cleanup_free_ char *dir = xasprintf("%s/%s", run_dir, name);
	struct runtime_exec exec = RUNTIME_EXEC_INIT;
	pid_t pid = 0;

	if (read_pid(run_fd, file, &exec.session) == 0 && read_pid(run_fd, "pidfile", &pid) == 0 &&
		pid_namespace(pid, &exec.pid_ns) == 0)
		kill_all(&exec);
	file_remove_tree(AT_FDCWD, dir);
}

void runtime_exec_sweep(struct runtime *runtime, const char *dir, const char *id)
{
	_cleanup_free_ char *run_dir = xasprintf("%s/run/%s", dir, id);
	DIR *entries = opendir(run_dir);
	struct dirent *entry;

	if (!entries)
		return;
	while ((entry = readdir(entries)))
		if (str_starts(entry->d_name, "exec-"))
			sweep_one(run_dir, dirfd(entries), entry->d_name);
	closedir(entries);
}

/* --- to the end, for probes --- */

/* Reads what is there; what is above the maximum is dropped. False at the end. */
static bool take_output(int *fd, struct buf *output, size_t max)
{
	char chunk[4096];
	size_t total = 0;
	ssize_t n;

	/* Bounded, since a program can write faster than this reads. */
	while (total < ((size_t)1 << 20) && (n = read(*fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0)
			break;
		total += (size_t)n;
		if (output->len < max)
			buf_add(output, chunk, MIN((size_t)n, max - output->len));
	}
	if (total < ((size_t)1 << 20))
		*fd = fd_close(*fd);
	return *fd >= 0;
}

static int collect(struct runtime_exec *exec, int64_t deadline_ms, struct buf *output, size_t max)
{
	for (;;) {
		struct pollfd fds[] = {{.fd = exec->proc.pidfd, .events = POLLIN},
			{.fd = exec->stdout_fd, .events = POLLIN},
			{.fd = exec->stderr_fd, .events = POLLIN}};
		int64_t left_ms = deadline_ms - time_mono_ms();

		/* Before poll(): output without end must not hide the deadline. */
		if (left_ms <= 0)
			return -ETIMEDOUT;
		if (poll(fds, ARRAY_SIZE(fds), (int)MIN(left_ms, INT_MAX)) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents)
			take_output(&exec->stdout_fd, output, max);
		if (fds[2].revents)
			take_output(&exec->stderr_fd, output, max);
		if (fds[0].revents) {
			if (exec->stdout_fd >= 0)
				take_output(&exec->stdout_fd, output, max);
			if (exec->stderr_fd >= 0)
				take_output(&exec->stderr_fd, output, max);
			return runtime_exec_wait(exec, 0);
		}
	}
}

int runtime_exec_run(struct runtime *runtime, const struct runtime_exec_spec *spec, int timeout_ms,
	size_t max, struct err *err, char **ret_output)
{
	int64_t deadline_ms = time_mono_ms() + timeout_ms;
	_cleanup_buf_ struct buf output = BUF_MAX(max);
	struct runtime_exec exec = RUNTIME_EXEC_INIT;
	struct runtime_exec_spec plain = *spec;
	int r;

	plain.terminal = plain.with_stdin = false;
	r = start_until(runtime, &plain, deadline_ms, err, &exec);
	if (r < 0)
		return r;
	r = collect(&exec, deadline_ms, &output, max);
	runtime_exec_done(&exec);
	if (r == -ETIMEDOUT)
		err_set(err, r, CODE, "The command did not end within %d ms.", timeout_ms);
	else if (r < 0)
		err_errno(err, r, "wait for the command");
	/* Also at the deadline: what it said until then may tell why. */
	if (ret_output && (r >= 0 || r == -ETIMEDOUT))
		*ret_output = buf_take(&output);
	return r;
}
