#include <sys/stat.h>

#include "node/runtime/k8slog.h"

#define BLOCK ((size_t)64 << 10)
#define FIRST_WINDOW ((uint64_t)256 << 10)
#define OUT_BLOCK ((size_t)32 << 10)

static bool take_word(const char **p, const char *end, const char **ret, size_t *ret_len)
{
	const char *blank = memchr(*p, ' ', (size_t)(end - *p));

	if (!blank)
		return false;
	*ret = *p;
	*ret_len = (size_t)(blank - *p);
	*p = blank + 1;
	return *ret_len > 0;
}

static bool is_time(const char *s, size_t len)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:dd";

	if (len < sizeof(shape) || len >= K8SLOG_TIME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		bool digit = s[i] >= '0' && s[i] <= '9';

		if (i < sizeof(shape) - 1 && (shape[i] == 'd' ? !digit : s[i] != shape[i]))
			return false;
		if (i >= sizeof(shape) - 1 && !digit && !strchr(".+-:Z", s[i]))
			return false;
	}
	return true;
}

bool k8slog_parse(const char *line, size_t len, struct k8slog_record *ret)
{
	struct k8slog_record record;
	const char *p = line, *end = line + len, *stream, *tag;
	size_t stream_len, tag_len;

	if (len == 0 || !take_word(&p, end, &record.time, &record.time_len) ||
		!is_time(record.time, record.time_len) ||
		!take_word(&p, end, &stream, &stream_len) || stream_len != 6 ||
		!take_word(&p, end, &tag, &tag_len) || tag_len != 1)
		return false;
	record.is_stderr = memcmp(stream, "stderr", 6) == 0;
	if (!record.is_stderr && memcmp(stream, "stdout", 6) != 0)
		return false;
	record.partial = *tag == 'P';
	if (!record.partial && *tag != 'F')
		return false;
	record.text = p;
	record.text_len = (size_t)(end - p);
	*ret = record;
	return true;
}

/* A stream's line that is still being put together. */
struct pending {
	struct buf text;
	char time[K8SLOG_TIME_MAX];
	size_t time_len;
	bool open, sure, continued;
};

struct reader {
	struct pending streams[2];
	k8slog_fn fn;
	void *arg;
};

static int emit(struct reader *reader, struct pending *pending, bool complete)
{
	struct k8slog_line line = {
		.time = pending->time,
		.time_len = pending->time_len,
		.text = buf_str(&pending->text),
		.text_len = pending->text.len,
		.is_stderr = pending == &reader->streams[1],
		.complete = complete,
		.continued = pending->continued,
		.sure = pending->sure,
	};
	int r = reader->fn(&line, reader->arg);

	buf_clear(&pending->text);
	pending->open = false;
	pending->continued = !complete;
	pending->sure = true;
	return r;
}

/* Most lines are one record: those go on without a copy. */
static int emit_whole(
	struct reader *reader, struct pending *pending, const struct k8slog_record *record)
{
	struct k8slog_line line = {.time = record->time,
		.time_len = record->time_len,
		.text = record->text,
		.text_len = record->text_len,
		.is_stderr = record->is_stderr,
		.complete = true,
		.continued = pending->continued,
		.sure = pending->sure};

	pending->sure = true;
	pending->continued = false;
	return reader->fn(&line, reader->arg);
}

static int take_record(struct reader *reader, const char *text, size_t len)
{
	struct k8slog_record record;
	struct pending *pending;
	int r = 0;

	if (!k8slog_parse(text, len, &record))
		return 0;
	pending = &reader->streams[record.is_stderr];
	if (!pending->open && !record.partial)
		return emit_whole(reader, pending, &record);
	if (pending->text.len + record.text_len > K8SLOG_LINE_MAX) {
		r = emit(reader, pending, false);
		if (r < 0)
			return r;
	}
	if (!pending->open) {
		memcpy(pending->time, record.time, record.time_len);
		pending->time_len = record.time_len;
		pending->open = true;
	}
	r = buf_add(&pending->text, record.text, record.text_len);
	if (r < 0)
		return r;
	return record.partial ? 0 : emit(reader, pending, true);
}

/* Consumes the whole lines of buf. What is longer than any record is no record: dropped up to its
 * newline. */
static int take_lines(struct reader *reader, struct buf *buf, bool *skipping)
{
	size_t done = 0;
	int r = 0;

	while (r >= 0 && done < buf->len) {
		const char *start = buf->data + done;
		const char *end = memchr(start, '\n', buf->len - done);

		if (!end)
			break;
		if (!*skipping)
			r = take_record(reader, start, (size_t)(end - start));
		*skipping = false;
		done += (size_t)(end - start) + 1;
	}
	buf_consume(buf, done);
	if (buf->len > K8SLOG_RECORD_MAX) {
		*skipping = true;
		buf_clear(buf);
	}
	return r;
}

static uint64_t source_size(const struct k8slog_source *source)
{
	return source->sizes[0] + source->sizes[1];
}

static ssize_t source_read(
	const struct k8slog_source *source, uint64_t at, char *block, size_t size)
{
	size_t i = at < source->sizes[0] ? 0 : 1;
	uint64_t within = at - (i ? source->sizes[0] : 0);
	ssize_t n;

	do
		n = pread(source->fds[i], block,
			(size_t)MIN((uint64_t)size, source->sizes[i] - within), (off_t)within);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int read_all(struct reader *reader, const struct k8slog_source *source, uint64_t from)
{
	_cleanup_buf_ struct buf buf = BUF_MAX(K8SLOG_RECORD_MAX + BLOCK);
	_cleanup_free_ char *block = xmalloc(BLOCK);
	bool skipping = from > 0;
	int r;

	/* One byte earlier, so that a start exactly at a line is not taken for one within. */
	for (uint64_t at = from > 0 ? from - 1 : 0; at < source_size(source);) {
		ssize_t n = source_read(source, at, block, BLOCK);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		at += (uint64_t)n;
		r = buf_add(&buf, block, (size_t)n);
		if (r == 0)
			r = take_lines(reader, &buf, &skipping);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < 2; i++) {
		if (!reader->streams[i].open)
			continue;
		r = emit(reader, &reader->streams[i], false);
		if (r < 0)
			return r;
	}
	return 0;
}

int k8slog_read(const struct k8slog_source *source, uint64_t from, k8slog_fn fn, void *arg)
{
	struct reader reader = {.fn = fn, .arg = arg};
	int r;

	for (size_t i = 0; i < 2; i++) {
		reader.streams[i].text = BUF_MAX(K8SLOG_LINE_MAX + K8SLOG_RECORD_MAX);
		reader.streams[i].sure = from == 0;
	}
	r = read_all(&reader, source, from);
	buf_done(&reader.streams[0].text);
	buf_done(&reader.streams[1].text);
	return r;
}

/* Both passes of a copy: the first counts, the second skips so much and gives the rest out. */
struct copy {
	const struct k8slog_copy *options;
	uint64_t lines, bytes; /* seen */
	uint64_t last_unsure;  /* number of the last line whose beginning may be missing; 0: none */
	uint64_t unsure_bytes_end; /* bytes seen up to its end */
	uint64_t skip_lines, skip_bytes;
	bool skipping[2]; /* the stream's present line */
	bool open[2];
	k8slog_sink sink;
	void *arg;
};

/* conmon runs with TZ=UTC. */
size_t k8slog_time(const char *time, size_t len, char ret_text[K8SLOG_TIME_MAX])
{
	memcpy(ret_text, time, len);
	if (len > 6 && memcmp(ret_text + len - 6, "+00:00", 6) == 0) {
		len -= 5;
		ret_text[len - 1] = 'Z';
	}
	return len;
}

static bool has_time(const struct copy *copy, const struct k8slog_line *line)
{
	return copy->options->timestamps && !line->continued;
}

static uint64_t shown_size(const struct copy *copy, const struct k8slog_line *line)
{
	char text[K8SLOG_TIME_MAX];

	return (has_time(copy, line) ? k8slog_time(line->time, line->time_len, text) + 1 : 0) +
	       line->text_len + (line->complete ? 1 : 0);
}

static int count_line(const struct k8slog_line *line, void *arg)
{
	struct copy *copy = arg;

	copy->lines += !line->continued;
	copy->bytes += shown_size(copy, line);
	if (!line->sure) {
		copy->last_unsure = copy->lines;
		copy->unsure_bytes_end = copy->bytes;
	}
	return 0;
}

/* Whether the line belongs to those before the tail. */
static bool is_skipped(struct copy *copy, const struct k8slog_line *line)
{
	if (!line->continued) {
		copy->skipping[line->is_stderr] = copy->skip_lines > 0;
		copy->skip_lines -= copy->skip_lines > 0;
	}
	return copy->skipping[line->is_stderr];
}

static int put(struct copy *copy, bool is_stderr, const char *data, size_t len)
{
	size_t skipped = (size_t)MIN((uint64_t)len, copy->skip_bytes);

	copy->skip_bytes -= skipped;
	if (skipped == len)
		return 0;
	return copy->sink(is_stderr, data + skipped, len - skipped, copy->arg);
}

static int put_line(const struct k8slog_line *line, void *arg)
{
	struct copy *copy = arg;
	bool side = line->is_stderr;
	char time[K8SLOG_TIME_MAX + 1];
	int r = 0;

	if (is_skipped(copy, line))
		return 0;
	if (has_time(copy, line)) {
		size_t len = k8slog_time(line->time, line->time_len, time);

		time[len++] = ' ';
		r = put(copy, side, time, len);
	}
	if (r == 0)
		r = put(copy, side, line->text, line->text_len);
	if (r == 0 && line->complete)
		r = put(copy, side, "\n", 1);
	copy->open[side] = !line->complete;
	return r;
}

/* Whether what was counted from a later start than 0 is enough, and starts behind every line that
 * may be cut. */
static bool is_enough(const struct copy *copy)
{
	const struct k8slog_copy *options = copy->options;

	if (options->tail && copy->lines >= (uint64_t)options->tail + copy->last_unsure)
		return true;
	return options->max_bytes && copy->bytes >= options->max_bytes + copy->unsure_bytes_end;
}

/* Looks at the end of the log through a window that grows until it holds what was asked for. */
static int find_start(const struct k8slog_source *source, struct copy *copy, uint64_t *ret_from)
{
	uint64_t size = source_size(source);
	const struct k8slog_copy *options = copy->options;
	uint64_t window = options->tail || options->max_bytes ? FIRST_WINDOW : size;

	for (;; window *= 4) {
		uint64_t from = window < size ? size - window : 0;
		int r;

		copy->lines = copy->bytes = copy->last_unsure = copy->unsure_bytes_end = 0;
		r = k8slog_read(source, from, count_line, copy);
		if (r < 0)
			return r;
		*ret_from = from;
		if (from == 0 || is_enough(copy))
			return 0;
	}
}

/* The bytes of the lines that `tail` leaves; the lines before them are not shown and so don't
 * count. */
static int count_tail(const struct k8slog_line *line, void *arg)
{
	struct copy *copy = arg;

	if (!is_skipped(copy, line))
		copy->bytes += shown_size(copy, line);
	return 0;
}

int k8slog_emit(const struct k8slog_source *source, const struct k8slog_copy *options,
	k8slog_sink sink, void *arg, bool ret_open[2])
{
	struct copy copy = {.options = options, .sink = sink, .arg = arg};
	uint64_t from = 0;
	int r = 0;

	if (options->tail || options->max_bytes) {
		r = find_start(source, &copy, &from);
		if (r < 0)
			return r;
	}
	if (options->tail && copy.lines > options->tail)
		copy.skip_lines = copy.lines - options->tail;
	if (options->max_bytes) {
		struct copy count = {.options = options, .skip_lines = copy.skip_lines};

		r = k8slog_read(source, from, count_tail, &count);
		if (r < 0)
			return r;
		if (count.bytes > options->max_bytes)
			copy.skip_bytes = count.bytes - options->max_bytes;
	}
	r = k8slog_read(source, from, put_line, &copy);
	memcpy(ret_open, copy.open, sizeof(copy.open));
	return r;
}

struct out {
	struct buf buf;
	int fd;
};

static int out_flush(struct out *out)
{
	int r = out->buf.len ? fd_write_all(out->fd, out->buf.data, out->buf.len) : 0;

	buf_clear(&out->buf);
	return r;
}

static int out_add(bool is_stderr, const char *data, size_t len, void *arg)
{
	struct out *out = arg;
	int r;

	if (out->buf.len + len > OUT_BLOCK) {
		r = out_flush(out);
		if (r < 0)
			return r;
	}
	return len > OUT_BLOCK ? fd_write_all(out->fd, data, len) : buf_add(&out->buf, data, len);
}

int k8slog_copy(int older_fd, int fd, const struct k8slog_copy *options, int out_fd)
{
	struct out out = {.fd = out_fd, .buf = BUF_MAX(OUT_BLOCK)};
	struct k8slog_source source = {.fds = {older_fd, fd}};
	bool open[2];
	int r;

	for (size_t i = 0; i < 2; i++) {
		struct stat st = {0};

		if (source.fds[i] >= 0 && fstat(source.fds[i], &st) < 0)
			return -errno;
		source.sizes[i] = (uint64_t)st.st_size;
	}
	r = k8slog_emit(&source, options, out_add, &out, open);
	if (r == 0)
		r = out_flush(&out);
	buf_done(&out.buf);
	return r;
}
