#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>

#include "base/json.h"
#include "base/time.h"
#include "node/image/worker.h"
#include "node/spawn/spawn.h"

/* A worker bounds its own transfers; this is for one that hangs or lies. */
#define RUN_MAX_MS (2 * 3600 * 1000LL)
#define CANCEL_GRACE_MS 2000
#define END_GRACE_MS 5000
#define TAIL_MAX 2048

/* To write layers as their tar files say. */
static const int kept_caps[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETFCAP};

struct session {
	const struct worker_run *run;
	struct worker_process process;
	int out, log; /* our ends of the pipes */
	struct buf lines;
	struct buf tail;	 /* the end of what it logged */
	struct worker_line last; /* the final line */
	bool has_last, broken, cancelled;
	int64_t deadline_ms;
};

/* The whole job lies in memory that the worker reads: no pipe to fill while it talks to us. */
static int job_file(const json_t *job, struct err *err)
{
	_cleanup_free_ char *text = json_text(job);
	_cleanup_fd_ int fd = memfd_create("job", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return err_errno(err, -errno, "memory file for the image worker");
	r = fd_write_all(fd, text, strlen(text));
	explicit_bzero(text, strlen(text));
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	return r < 0 ? err_errno(err, r, "job of the image worker") : take_fd(fd);
}

static void take_line(struct session *session, const char *data, size_t len)
{
	struct worker_line line;

	if (session->has_last)
		return;
	if (worker_line_parse(data, len, &line) < 0) {
		session->broken = true;
		return;
	}
	if (line.event != WORKER_PROGRESS) {
		session->last = line;
		session->has_last = true;
		session->deadline_ms = time_mono_ms() + END_GRACE_MS;
		return;
	}
	if (session->run->progress) {
		struct image_progress progress = {
			.layer = line.layer,
			.what = line.what,
			.done_bytes = line.done_bytes,
			.total_bytes = line.total_bytes,
		};

		session->run->progress(&progress, session->run->arg);
	}
}

/* Returns false at the end of the pipe. */
static bool read_lines(struct session *session)
{
	struct buf *lines = &session->lines;
	ssize_t n = buf_read(lines, session->out, WORKER_LINE_MAX);
	char *newline;

	if (n == -EAGAIN)
		return true;
	if (n == -EFBIG)
		session->broken = true;
	if (n <= 0)
		return false;
	while (lines->len > 0 && !session->broken &&
		(newline = memchr(lines->data, '\n', lines->len))) {
		size_t len = (size_t)(newline - lines->data);

		take_line(session, lines->data, len);
		buf_consume(lines, len + 1);
	}
	return true;
}

static bool read_log(struct session *session)
{
	char chunk[1024];
	ssize_t n = read(session->log, chunk, sizeof(chunk));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	if (session->tail.len + (size_t)n > TAIL_MAX)
		buf_consume(&session->tail, MIN(session->tail.len, (size_t)n));
	buf_add(&session->tail, chunk, (size_t)n);
	return true;
}

static void cancel(struct session *session)
{
	session->cancelled = true;
	pidfd_send_signal(session->process.pidfd, SIGTERM, NULL, 0);
	session->deadline_ms = MIN(session->deadline_ms, time_mono_ms() + CANCEL_GRACE_MS);
}

/* Until the process has ended and its pipe is drained, it broke the protocol, or its time is over.
 */
static void converse(struct session *session)
{
	enum { OUT, LOG, CANCEL, PROCESS, N };
	struct pollfd fds[N] = {
		[OUT] = {.fd = session->out, .events = POLLIN},
		[LOG] = {.fd = session->log, .events = POLLIN},
		[CANCEL] = {.fd = session->run->cancel_fd, .events = POLLIN},
		[PROCESS] = {.fd = session->process.pidfd, .events = POLLIN},
	};

	while (!session->broken && (fds[OUT].fd >= 0 || fds[PROCESS].fd >= 0)) {
		int64_t left = session->deadline_ms - time_mono_ms();

		if (left <= 0)
			return;
		if (poll(fds, N, (int)MIN(left, (int64_t)60000)) < 0 && errno != EINTR)
			return;
		if (fds[CANCEL].revents) {
			fds[CANCEL].fd = -1;
			cancel(session);
		}
		if (fds[OUT].revents && !read_lines(session))
			fds[OUT].fd = -1;
		if (fds[LOG].revents && !read_log(session))
			fds[LOG].fd = -1;
		if (fds[PROCESS].revents) {
			/* Process 1 of its pid namespace: all others of it are gone too. */
			fds[PROCESS].fd = -1;
			session->deadline_ms =
				MIN(session->deadline_ms, time_mono_ms() + END_GRACE_MS);
		}
		for (size_t i = 0; i < N; i++)
			fds[i].revents = 0;
	}
}

static int verdict(struct session *session, int status, struct err *err)
{
	const char *what = session->run->what;
	_cleanup_free_ char *tail = NULL;

	if (!session->broken && session->has_last && session->last.event == WORKER_DONE &&
		status == 0)
		return 0;
	if (session->cancelled)
		return err_set(
			err, -ECANCELED, "Canceled", "The pull of '%s' was cancelled.", what);
	if (!session->broken && session->has_last && session->last.event == WORKER_ERROR)
		return err_set(
			err, session->last.r, session->last.code, "%s", session->last.message);
	tail = str_utf8_clean(buf_str(&session->tail), session->tail.len);
	log_warn("image worker for %s ended with status %d%s: %s", what, status,
		session->broken ? " after breaking the protocol" : "", tail);
	if (status == 128 + SIGKILL)
		return err_set(err, -EIO, "RegistryErrorResponse",
			"The image '%s' could not be fetched: the image worker was killed.", what);
	return err_set(err, -EIO, "RegistryErrorResponse",
		"The image '%s' could not be fetched: the image worker failed (status %d).", what,
		status);
}

static int open_pipe(int *ret_read, int *ret_write)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	*ret_read = ends[0];
	*ret_write = ends[1];
	return fd_set_nonblock(ends[0], true);
}

int worker_run(struct image_store *store, const struct worker_run *run, struct err *err,
	struct worker_line *ret)
{
	_cleanup_fd_ int job = job_file(run->job, err);
	_cleanup_fd_ int out_read = -EBADF, out_write = -EBADF;
	_cleanup_fd_ int log_read = -EBADF, log_write = -EBADF;
	struct session session = {
		.run = run, .lines = BUF_MAX(WORKER_LINE_MAX), .tail = BUF_MAX(TAIL_MAX)};
	int fds[WORKER_FDS_MAX];
	const struct worker_spec spec = {.name = "berth-pull",
		.program_fd = store->worker_fd,
		.fds = fds,
		.n_fds = run->archive_fd >= 0 ? 5 : 4,
		.cwd = 3,
		.uid_base = IMAGE_STORE_UID,
		.caps = kept_caps,
		.n_caps = ARRAY_SIZE(kept_caps)};
	int r, status;

	if (job < 0)
		return job;
	r = open_pipe(&out_read, &out_write);
	if (r == 0)
		r = open_pipe(&log_read, &log_write);
	if (r < 0)
		return err_errno(err, r, "pipe for the image worker");
	fds[0] = job;
	fds[1] = out_write;
	fds[2] = log_write;
	fds[3] = store->fd;
	fds[4] = run->archive_fd;
	r = worker_spawn(&spec, err, &session.process);
	if (r < 0)
		return r;
	out_write = fd_close(out_write);
	log_write = fd_close(log_write);

	session.out = out_read;
	session.log = log_read;
	session.deadline_ms = time_mono_ms() + RUN_MAX_MS;
	converse(&session);
	kill(session.process.pid, SIGKILL);
	status = worker_reap(&session.process);
	r = verdict(&session, status, err);
	if (r == 0)
		*ret = session.last;
	buf_done(&session.lines);
	buf_done(&session.tail);
	return r;
}
