/* The files of a container's logs, and following them. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "node/runtime/follow.h"
#include "node/runtime/internal.h"

#define BLOCK ((size_t)64 << 10)
#define OPEN_TRIES 5

static char *log_path(const char *dir, unsigned run, const char *suffix)
{
	return xasprintf("%s/log/%u.log%s", dir, run, suffix);
}

/* A full log is replaced by an empty one, and would be gone but for a second name of ours: "held"
 * is the file that conmon writes now. When conmon's file is another one, what is held becomes
 * "old". */
int runtime_log_keep(struct runtime *runtime, const char *dir, unsigned run, struct err *err)
{
	_cleanup_free_ char *path = log_path(dir, run, "");
	_cleanup_free_ char *held = log_path(dir, run, ".held");
	_cleanup_free_ char *old = log_path(dir, run, ".old");
	struct stat now, before;

	if (stat(path, &now) < 0)
		return err_errno(err, -errno, "%s", path);
	if (stat(held, &before) == 0) {
		if (before.st_ino == now.st_ino)
			return 0;
		if (rename(held, old) < 0 && errno != ENOENT)
			return err_errno(err, -errno, "%s", old);
	}
	/* EEXIST: another thread was here. */
	if (link(path, held) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "%s", held);
	return 0;
}

void log_remove(const char *dir, unsigned run)
{
	static const char *const suffixes[] = {"", ".tmp", ".held", ".old"};

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		_cleanup_free_ char *path = log_path(dir, run, suffixes[i]);

		unlink(path);
	}
}

/* Calls fn for the number of each log, "<run>.log". */
static void each_log(
	const char *dir, void (*fn)(const char *dir, unsigned run, void *arg), void *arg)
{
	_cleanup_free_ char *path = xasprintf("%s/log", dir);
	DIR *logs = opendir(path);
	struct dirent *entry;

	if (!logs)
		return;
	while ((entry = readdir(logs))) {
		char name[16] = "";
		size_t len = strspn(entry->d_name, "0123456789");
		uint64_t run;

		if (!str_eq(entry->d_name + len, ".log") || len >= sizeof(name))
			continue;
		memcpy(name, entry->d_name, len);
		if (str_to_u64(name, UINT_MAX, &run) == 0)
			fn(dir, (unsigned)run, arg);
	}
	closedir(logs);
}

struct between {
	unsigned above, below;
	unsigned first, last; /* 0: none */
};

static void find_between(const char *dir, unsigned run, void *arg)
{
	struct between *between = arg;

	if (run <= between->above || run >= between->below)
		return;
	between->last = MAX(between->last, run);
	if (between->first == 0 || run < between->first)
		between->first = run;
}

unsigned runtime_log_previous(const char *dir, unsigned run)
{
	struct between between = {.below = run};

	each_log(dir, find_between, &between);
	return between.last;
}

static void remove_below(const char *dir, unsigned run, void *arg)
{
	if (run < *(const unsigned *)arg)
		log_remove(dir, run);
}

void log_remove_old(const char *dir, unsigned run)
{
	unsigned previous = runtime_log_previous(dir, run);

	each_log(dir, remove_below, &previous);
}

static bool is_file(int fd, const char *path)
{
	struct stat ours, there;

	if (stat(path, &there) < 0)
		return fd < 0;
	return fd >= 0 && fstat(fd, &ours) == 0 && ours.st_ino == there.st_ino;
}

/* The file before, if there is one, and the present one, as they stand at one moment. */
static int open_files(struct runtime *runtime, const char *dir, unsigned run, int ret_fds[2])
{
	_cleanup_free_ char *path = log_path(dir, run, "");
	_cleanup_free_ char *old = log_path(dir, run, ".old");

	for (int tries = 1;; tries++) {
		_cleanup_fd_ int old_fd = -EBADF;
		_cleanup_fd_ int fd = -EBADF;

		runtime_log_keep(runtime, dir, run, NULL);
		old_fd = open(old, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			return -errno;
		if (tries < OPEN_TRIES && (!is_file(old_fd, old) || !is_file(fd, path)))
			continue;
		ret_fds[0] = take_fd(old_fd);
		ret_fds[1] = take_fd(fd);
		return 0;
	}
}

int runtime_log_copy(struct runtime *runtime, const char *dir, unsigned run, unsigned tail,
	bool timestamps, uint64_t max_bytes, int out_fd, struct err *err)
{
	struct k8slog_copy options = {
		.tail = tail, .timestamps = timestamps, .max_bytes = max_bytes};
	int fds[2];
	int r = open_files(runtime, dir, run, fds);

	if (r == -ENOENT)
		return 0;
	if (r == 0) {
		r = k8slog_copy(fds[0], fds[1], &options, out_fd);
		fd_close(fds[0]);
		fd_close(fds[1]);
	}
	return r < 0 ? err_errno(err, r, "log of run %u", run) : 0;
}

/* --- following --- */

struct runtime_follow {
	struct runtime *runtime;
	char *dir;
	unsigned run;
	int64_t tail;
	bool timestamps;
	bool begun; /* the tail was given */
	int fd;	    /* -EBADF: no file yet */
	int old_fd; /* the file before, until the tail was given */
	uint64_t at;
	struct buf buf;	 /* a record whose end isn't there yet */
	bool skipping;	 /* what is longer than any record, up to its newline */
	bool open[2];	 /* a line of the stream goes on */
	struct buf line; /* what a record gives */
};

struct runtime_follow *runtime_follow_new(
	struct runtime *runtime, const char *dir, unsigned run, int64_t tail, bool timestamps)
{
	struct runtime_follow *follow = xnew(struct runtime_follow);

	*follow = (struct runtime_follow){.runtime = runtime,
		.dir = xstrdup(dir),
		.run = run,
		.tail = tail,
		.timestamps = timestamps,
		.begun = run == 0,
		.fd = -EBADF,
		.old_fd = -EBADF,
		.buf = BUF_MAX(K8SLOG_RECORD_MAX + BLOCK),
		.line = BUF_MAX(K8SLOG_RECORD_MAX + BLOCK)};
	return follow;
}

void runtime_follow_free(struct runtime_follow *follow)
{
	if (!follow)
		return;
	fd_close(follow->fd);
	fd_close(follow->old_fd);
	buf_done(&follow->buf);
	buf_done(&follow->line);
	free(follow->dir);
	free(follow);
}

unsigned runtime_follow_run(const struct runtime_follow *follow)
{
	return follow->run;
}

static void begin_file(struct runtime_follow *follow, int fd)
{
	fd_close(follow->fd);
	follow->fd = fd;
	follow->at = 0;
	follow->skipping = false;
	buf_clear(&follow->buf);
}

void runtime_follow_next(struct runtime_follow *follow, unsigned run)
{
	struct between between = {.above = follow->run, .below = run};

	each_log(follow->dir, find_between, &between);
	begin_file(follow, -EBADF);
	follow->run = between.first ? between.first : run;
	follow->open[0] = follow->open[1] = false;
	follow->begun = true;
}

/* conmon may be in the middle of a record. */
static int last_record_end(int fd, uint64_t size, uint64_t *ret)
{
	_cleanup_free_ char *block = xmalloc(BLOCK);
	uint64_t from = size > BLOCK ? size - BLOCK : 0;
	ssize_t n = pread(fd, block, (size_t)(size - from), (off_t)from);
	const char *newline;

	if (n < 0)
		return -errno;
	newline = memrchr(block, '\n', (size_t)n);
	*ret = newline ? from + (uint64_t)(newline - block) + 1 : from;
	return 0;
}

/* What is there at the beginning: the last lines of it. */
static int give_tail(struct runtime_follow *follow, k8slog_sink sink, void *arg)
{
	struct k8slog_source source = {.fds = {follow->old_fd, follow->fd}};
	struct k8slog_copy options = {.timestamps = follow->timestamps};
	struct stat st = {0};
	int r;

	if (fstat(follow->fd, &st) < 0)
		return -errno;
	r = last_record_end(follow->fd, (uint64_t)st.st_size, &follow->at);
	follow->begun = true;
	source.sizes[1] = follow->at;
	if (follow->old_fd >= 0 && fstat(follow->old_fd, &st) == 0)
		source.sizes[0] = (uint64_t)st.st_size;
	if (follow->tail > 0)
		options.tail = (unsigned)MIN(follow->tail, INT_MAX);
	if (r == 0 && follow->tail != 0)
		r = k8slog_emit(&source, &options, sink, arg, follow->open);
	follow->old_fd = fd_close(follow->old_fd);
	return r;
}

static int give_record(
	struct runtime_follow *follow, const char *text, size_t len, k8slog_sink sink, void *arg)
{
	struct buf *line = &follow->line;
	struct k8slog_record record;
	char time[K8SLOG_TIME_MAX];

	if (!k8slog_parse(text, len, &record))
		return 0;
	buf_clear(line);
	if (follow->timestamps && !follow->open[record.is_stderr]) {
		buf_add(line, time, k8slog_time(record.time, record.time_len, time));
		buf_addc(line, ' ');
	}
	follow->open[record.is_stderr] = record.partial;
	buf_add(line, record.text, record.text_len);
	if (!record.partial)
		buf_addc(line, '\n');
	return line->len ? sink(record.is_stderr, line->data, line->len, arg) : 0;
}

static int give_records(struct runtime_follow *follow, k8slog_sink sink, void *arg)
{
	struct buf *buf = &follow->buf;
	size_t done = 0;
	int r = 0;

	while (r >= 0 && done < buf->len) {
		const char *start = buf->data + done;
		const char *end = memchr(start, '\n', buf->len - done);

		if (!end)
			break;
		if (!follow->skipping)
			r = give_record(follow, start, (size_t)(end - start), sink, arg);
		follow->skipping = false;
		done += (size_t)(end - start) + 1;
	}
	buf_consume(buf, done);
	if (buf->len > K8SLOG_RECORD_MAX) {
		follow->skipping = true;
		buf_clear(buf);
	}
	return r;
}

/* Bytes read; what is there of the next block goes to sink. */
static int give_block(struct runtime_follow *follow, k8slog_sink sink, void *arg)
{
	struct buf *buf = &follow->buf;
	_cleanup_free_ char *block = xmalloc(BLOCK);
	ssize_t n;
	int r;

	do
		n = pread(follow->fd, block, BLOCK, (off_t)follow->at);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	follow->at += (uint64_t)n;
	r = buf_add(buf, block, (size_t)n);
	if (r == 0)
		r = give_records(follow, sink, arg);
	return r < 0 ? r : (int)n;
}

/* The file behind ours: conmon's present one, or, if that was replaced in between, the one before
 * it. A file that is "old" can also be older than ours. */
static int open_next(struct runtime_follow *follow, const struct stat *ours)
{
	_cleanup_free_ char *path = log_path(follow->dir, follow->run, "");
	_cleanup_free_ char *old = log_path(follow->dir, follow->run, ".old");
	_cleanup_fd_ int fd = -EBADF;
	struct stat st;

	runtime_log_keep(follow->runtime, follow->dir, follow->run, NULL);
	fd = open(old, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_ino != ours->st_ino &&
		(st.st_mtim.tv_sec > ours->st_mtim.tv_sec ||
			(st.st_mtim.tv_sec == ours->st_mtim.tv_sec &&
				st.st_mtim.tv_nsec > ours->st_mtim.tv_nsec)))
		return take_fd(fd);
	fd_close(take_fd(fd));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : take_fd(fd);
}

/* 1 when there is another file to read now. */
static int go_on(struct runtime_follow *follow, k8slog_sink sink, void *arg)
{
	_cleanup_free_ char *path = log_path(follow->dir, follow->run, "");
	struct stat now, ours;
	int r;

	if (fstat(follow->fd, &ours) < 0)
		return -errno;
	if (stat(path, &now) < 0 || now.st_ino == ours.st_ino)
		return 0;
	/* Replaced after its last record was written, which may have been after we looked. */
	while ((r = give_block(follow, sink, arg)) > 0)
		;
	if (r < 0 || fstat(follow->fd, &ours) < 0)
		return r < 0 ? r : -errno;
	r = open_next(follow, &ours);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	begin_file(follow, r);
	return 1;
}

static int open_first(struct runtime_follow *follow)
{
	int fds[2];
	int r = open_files(follow->runtime, follow->dir, follow->run, fds);

	if (r < 0)
		return r;
	/* A run that is followed from its beginning may have filled a file already. */
	if (follow->begun && fds[0] >= 0) {
		fd_close(fds[1]);
		begin_file(follow, fds[0]);
		return 0;
	}
	begin_file(follow, fds[1]);
	follow->old_fd = fds[0];
	return 0;
}

static bool is_removed(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 0;
}

bool runtime_follow_holds_removed(const struct runtime_follow *follow)
{
	return is_removed(follow->fd) || is_removed(follow->old_fd);
}

int runtime_follow_read(struct runtime_follow *follow, k8slog_sink sink, void *arg, struct err *err)
{
	int r = 0;

	if (follow->run == 0)
		return 0;
	if (follow->fd < 0) {
		r = open_first(follow);
		if (r == -ENOENT)
			return 0;
	}
	if (r == 0 && !follow->begun)
		r = give_tail(follow, sink, arg);
	if (r == 0) {
		r = give_block(follow, sink, arg);
		if (r == 0)
			r = go_on(follow, sink, arg);
	}
	if (r < 0)
		return err_errno(err, r, "log of run %u", follow->run);
	return r > 0;
}
