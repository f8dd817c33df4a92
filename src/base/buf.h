/*
 * struct buf: bytes that grow up to a maximum set at birth. Whatever an outsider can size goes
 * through here. data is always NUL-terminated once something was added (the NUL is not counted in
 * len). Adding past max leaves the buffer as it was, marks it `full`, and returns -EFBIG; later
 * adds fail likewise.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct buf {
	char *data; /* owned; NULL while empty */
	size_t len;
	size_t cap;
	size_t max; /* bytes; 0 in BUF_INIT means BUF_DEFAULT_MAX */
	bool full;
};

#define BUF_DEFAULT_MAX ((size_t)16 << 20)
#define BUF_INIT ((struct buf){0})
#define BUF_MAX(bytes) ((struct buf){.max = (bytes)})

int buf_add(struct buf *buf, const void *data, size_t len);
int buf_addc(struct buf *buf, char c);
int buf_adds(struct buf *buf, const char *s);
int buf_printf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vprintf(struct buf *buf, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/* Reads once from fd. Returns bytes added, 0 at end of file, -EAGAIN, -EFBIG when there is no room,
 * -errno. */
ssize_t buf_read(struct buf *buf, int fd, size_t at_most);

/* Drops n bytes at the front. */
void buf_consume(struct buf *buf, size_t n);
void buf_clear(struct buf *buf);

/* Hands out the bytes, NUL-terminated, never NULL; the caller frees. buf is empty afterwards. */
char *buf_take(struct buf *buf);

/* The content as a C string, "" when empty. Borrowed. */
const char *buf_str(const struct buf *buf);

void buf_done(struct buf *buf);
