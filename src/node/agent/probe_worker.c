#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/proc.h"
#include "base/time.h"
#include "node/agent/probe_worker.h"

#define PROGRAM_IN_CHILD "/proc/self/fd/4" /* 3 is the socket */
#define MESSAGE_MAX 4096
#define WORDS_MAX 256
#define START_EVERY_MS 1000
#define WATCH_MS 5000
#define OVERDUE_MS 5000
#define FILES_MAX (PROBE_REQUESTS_MAX + 64)
#define MEMORY_MAX ((rlim_t)2 << 30)
#define SLOT_BITS 13

_Static_assert(PROBE_REQUESTS_MAX == 1 << SLOT_BITS, "an id names its slot");

struct pending {
	int64_t id; /* 0: free */
	int64_t deadline_mono_ms;
	probe_answer_fn fn;
	void *arg;
};

struct probe_worker {
	struct loop *loop;
	const char *program;
	struct proc proc;
	int fd; /* of the seqpacket socket; -EBADF: it doesn't run */
	struct loop_source *source;
	struct loop_timer *watch;
	int64_t started_mono_ms;
	int64_t last_id;
	struct pending pending[PROBE_REQUESTS_MAX];
	int free_slots[PROBE_REQUESTS_MAX];
	size_t n_free;
};

struct probe_worker *probe_worker_new(struct loop *loop, const char *program)
{
	struct probe_worker *worker = xnew(struct probe_worker);

	worker->loop = loop;
	worker->program = program;
	worker->proc.pidfd = worker->fd = -EBADF;
	worker->started_mono_ms = INT64_MIN / 2;
	for (int i = 0; i < PROBE_REQUESTS_MAX; i++)
		worker->free_slots[worker->n_free++] = i;
	return worker;
}

static void stop(struct probe_worker *worker)
{
	loop_remove(take_ptr(worker->source));
	worker->fd = fd_close(worker->fd);
	loop_cancel(take_ptr(worker->watch));
	proc_kill(&worker->proc);
}

void probe_worker_free(struct probe_worker *worker)
{
	if (!worker)
		return;
	stop(worker);
	free(worker);
}

int probe_worker_pid(const struct probe_worker *worker)
{
	return worker->fd < 0 ? 0 : worker->proc.pid;
}

/* --- answers --- */

static void answer(
	struct probe_worker *worker, struct pending *pending, int status, const char *words)
{
	struct pending told = *pending;

	*pending = (struct pending){0};
	worker->free_slots[worker->n_free++] = (int)(pending - worker->pending);
	if (told.fn)
		told.fn(status, words, told.arg);
}

/* Everybody who waits is told that nothing is known. */
static void ended(struct probe_worker *worker)
{
	stop(worker);
	for (size_t i = 0; i < PROBE_REQUESTS_MAX; i++)
		if (worker->pending[i].id)
			answer(worker, &worker->pending[i], -ECANCELED, "");
}

static void take_answer(struct probe_worker *worker, const char *text, size_t len)
{
	_cleanup_json_ json_t *json = NULL;
	_cleanup_free_ char *words = NULL;
	struct pending *pending;
	int64_t id, status;
	const char *error;

	if (json_parse(text, len, 2, NULL, &json) < 0)
		return;
	id = json_get_int(json, "id", 0);
	status = json_get_int(json, "status", 0);
	error = json_get_str(json, "error", "");
	pending = &worker->pending[id & (PROBE_REQUESTS_MAX - 1)];
	if (id <= 0 || pending->id != id)
		return;
	if (status == 0 && !error[0]) {
		answer(worker, pending, -ECANCELED, "");
		return;
	}
	words = str_utf8_clean(error, MIN(strlen(error), (size_t)WORDS_MAX));
	for (char *c = words; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
	answer(worker, pending, status >= 100 && status <= 999 ? (int)status : 0, words);
}

static void ready(int fd, uint32_t events, void *arg)
{
	struct probe_worker *worker = arg;
	char text[MESSAGE_MAX];
	ssize_t n = 0;

	/* An answer may lead to what ends the worker. */
	while (worker->fd >= 0 && (n = recv(worker->fd, text, sizeof(text), MSG_DONTWAIT)) > 0)
		take_answer(worker, text, (size_t)n);
	if (worker->fd < 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	log_warn("berth-probe has ended; it is started again for the next request");
	ended(worker);
}

/* A worker that answers nothing any more is of no use to anyone. */
static void look(void *arg)
{
	struct probe_worker *worker = arg;
	int64_t now = time_mono_ms();

	worker->watch = NULL;
	for (size_t i = 0; i < PROBE_REQUESTS_MAX; i++)
		if (worker->pending[i].id &&
			now > worker->pending[i].deadline_mono_ms + OVERDUE_MS) {
			log_warn("berth-probe answers no more and is ended");
			ended(worker);
			return;
		}
	worker->watch = loop_after(worker->loop, WATCH_MS, look, worker);
}

/* --- start --- */

static int limit(int what, rlim_t max)
{
	struct rlimit now;

	if (getrlimit((__rlimit_resource_t)what, &now) < 0)
		return -errno;
	now.rlim_cur = now.rlim_max = MIN(now.rlim_max, max);
	return setrlimit((__rlimit_resource_t)what, &now) < 0 ? -errno : 0;
}

/* In the child, before exec. Plain system calls: glibc's wrappers of these coordinate threads that
 * aren't there. */
static int become_nobody(void *arg)
{
	int r = limit(RLIMIT_CORE, 0);

	if (r == 0)
		r = limit(RLIMIT_NOFILE, FILES_MAX);
	if (r == 0)
		r = limit(RLIMIT_FSIZE, 0);
	if (r == 0 && !SANITIZED)
		r = limit(RLIMIT_AS, MEMORY_MAX);
	if (r < 0)
		return r;
	/* A namespace without a device: only the sockets that it is given lead anywhere. */
	if (syscall(SYS_unshare, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0 ||
		syscall(SYS_setgroups, 0, NULL) < 0 ||
		syscall(SYS_setresgid, PROBE_UID, PROBE_UID, PROBE_UID) < 0 ||
		syscall(SYS_setresuid, PROBE_UID, PROBE_UID, PROBE_UID) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* Or its own /proc/self/fd would be closed to it, where the program is. */
	return prctl(PR_SET_DUMPABLE, 1) < 0 ? -errno : 0;
}

/* fds: the child's end of the socket, and the program by descriptor: the way to it may lead through
 * folders that are open to root alone. */
static int spawn(struct probe_worker *worker, const int fds[2], struct err *err)
{
	const char *const argv[] = {PROGRAM_IN_CHILD, NULL};
	struct proc_spec spec = PROC_SPEC_INIT;
	int r;

	spec.argv = argv;
	spec.stderr_fd = STDERR_FILENO;
	spec.fds = fds;
	spec.n_fds = 2;
	spec.new_session = true;
	spec.die_with_parent = true;
	spec.setup = become_nobody;
	r = proc_spawn(&spec, err, &worker->proc);
	return r < 0 ? err_wrap(err, "%s", worker->program) : 0;
}

static int start(struct probe_worker *worker, struct err *err)
{
	_cleanup_fd_ int program = -EBADF;
	int pair[2], r;

	if (time_mono_ms() < worker->started_mono_ms + START_EVERY_MS)
		return -EAGAIN;
	worker->started_mono_ms = time_mono_ms();
	program = open(worker->program ? worker->program : "", O_PATH | O_CLOEXEC);
	if (program < 0)
		return err_errno(err, -errno, "berth-probe");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, -errno, "socket of berth-probe");
	r = spawn(worker, (const int[]){pair[1], program}, err);
	fd_close(pair[1]);
	if (r < 0) {
		fd_close(pair[0]);
		return r;
	}
	worker->fd = pair[0];
	worker->source = loop_add(worker->loop, worker->fd, EPOLLIN, ready, worker);
	worker->watch = loop_after(worker->loop, WATCH_MS, look, worker);
	return 0;
}

/* --- asking --- */

static int send_with_socket(int fd, const char *text, int passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec data = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr header = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *part = CMSG_FIRSTHDR(&header);

	part->cmsg_level = SOL_SOCKET;
	part->cmsg_type = SCM_RIGHTS;
	part->cmsg_len = CMSG_LEN(sizeof(passed));
	memcpy(CMSG_DATA(part), &passed, sizeof(passed));
	return sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int probe_worker_ask(struct probe_worker *worker, json_t *request, int socket, int timeout_ms,
	probe_answer_fn fn, void *arg, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	int64_t id;
	int slot, r;

	if (worker->n_free == 0)
		return -EAGAIN;
	r = worker->fd < 0 ? start(worker, err) : 0;
	if (r < 0)
		return r;
	slot = worker->free_slots[worker->n_free - 1];
	id = (++worker->last_id << SLOT_BITS) | slot;
	json_object_set_new(request, "id", json_integer(id));
	text = json_text(request);
	r = send_with_socket(worker->fd, text, socket);
	if (r == -EMSGSIZE)
		return err_set(err, r, "InvalidGroupSpec", "The probe's headers are too long.");
	if (r < 0) /* its queue is full, or its end is about to be noticed */
		return -EAGAIN;
	worker->n_free--;
	worker->pending[slot] = (struct pending){
		.id = id, .deadline_mono_ms = time_mono_ms() + timeout_ms, .fn = fn, .arg = arg};
	return 0;
}
