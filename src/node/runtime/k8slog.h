/*
 * conmon's k8s-file format: "2026-11-23T18:50:51.333062283+00:00 stdout F text\n", F = the line is
 * complete, P = it goes on in the next record of the same stream. The text is the container's, any
 * bytes; a line that isn't a record is skipped.
 */
#pragma once

#include "base/base.h"

#define K8SLOG_TIME_MAX 40
#define K8SLOG_LINE_MAX ((size_t)1 << 20) /* a longer line comes in pieces */
#define K8SLOG_RECORD_MAX ((size_t)64 << 10)

struct k8slog_record {
	const char *time; /* borrowed from the line, time_len bytes */
	size_t time_len;
	bool is_stderr, partial;
	const char *text;
	size_t text_len;
};

/* line without its newline. False when it isn't a record. */
bool k8slog_parse(const char *line, size_t len, struct k8slog_record *ret);

/* Called for each joined line: text without its newline; complete: false for what is left at the
 * end of the log, and for a piece of a line that is too long to be held, whose next piece is
 * `continued`. sure: the line's beginning was seen (reading may start in the middle of a file).
 * Negative stops the reading. */
struct k8slog_line {
	const char *time;
	size_t time_len;
	const char *text;
	size_t text_len;
	bool is_stderr, complete, continued, sure;
};
typedef int (*k8slog_fn)(const struct k8slog_line *line, void *arg);

/* A log in up to two files, the older one first: conmon replaces its file by an empty one when it
 * is full, always between two records. Sizes are fixed when reading begins. */
struct k8slog_source {
	int fds[2]; /* borrowed; -EBADF: none */
	uint64_t sizes[2];
};

/* Reads from an offset in both files together to the end, and joins the records. from > 0 skips to
 * the next line's start. */
int k8slog_read(const struct k8slog_source *source, uint64_t from, k8slog_fn fn, void *arg);

struct k8slog_copy {
	unsigned tail; /* 0: all */
	bool timestamps;
	uint64_t max_bytes; /* of output, the last ones; 0: all */
};
/* What goes out, in pieces of any length. Negative stops. */
typedef int (*k8slog_sink)(bool is_stderr, const char *data, size_t len, void *arg);
/* open: of each stream, whether its last line is not complete. */
int k8slog_emit(const struct k8slog_source *source, const struct k8slog_copy *options,
	k8slog_sink sink, void *arg, bool ret_open[2]);
/* Copies the log, as large as it is now, to out_fd. older_fd may be -EBADF. */
int k8slog_copy(int older_fd, int fd, const struct k8slog_copy *options, int out_fd);

/* The time as it is shown: "2026-11-23T18:50:51.333062283Z". */
size_t k8slog_time(const char *time, size_t len, char ret_text[K8SLOG_TIME_MAX]);
