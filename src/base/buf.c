#include "base/base.h"

static size_t buf_limit(const struct buf *buf)
{
	return buf->max ? buf->max : BUF_DEFAULT_MAX;
}

static size_t buf_room(const struct buf *buf)
{
	size_t limit = buf_limit(buf);

	return buf->len < limit ? limit - buf->len : 0;
}

/* Makes room for `more` bytes and the NUL. The caller has checked the maximum. */
static int buf_grow(struct buf *buf, size_t more)
{
	size_t need = buf->len + more + 1;
	size_t cap = buf->cap ? buf->cap : 64;
	char *data;

	if (need <= buf->cap)
		return 0;
	while (cap < need)
		cap = cap > SIZE_MAX / 2 ? need : cap * 2;
	if (cap - 1 > buf_limit(buf))
		cap = MAX(need, buf_limit(buf) + 1);

	data = realloc(buf->data, cap);
	if (!data)
		return -ENOMEM;
	buf->data = data;
	buf->cap = cap;
	return 0;
}

/* A refused add would leave a hole that nobody notices: everything after it is refused as well. */
static int buf_reserve(struct buf *buf, size_t more)
{
	int r;

	if (buf->full)
		return -EFBIG;
	r = more > buf_room(buf) ? -EFBIG : buf_grow(buf, more);
	if (r < 0)
		buf->full = true;
	return r;
}

int buf_add(struct buf *buf, const void *data, size_t len)
{
	int r = buf_reserve(buf, len);

	if (r < 0)
		return r;
	if (len)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
	return 0;
}

int buf_addc(struct buf *buf, char c)
{
	return buf_add(buf, &c, 1);
}

int buf_adds(struct buf *buf, const char *s)
{
	return buf_add(buf, s, strlen(s));
}

int buf_vprintf(struct buf *buf, const char *fmt, va_list ap)
{
	va_list again;
	int n, r;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0) {
		buf->full = true;
		return -EFBIG;
	}
	r = buf_reserve(buf, (size_t)n);
	if (r < 0)
		return r;
	vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, ap);
	buf->len += (size_t)n;
	return 0;
}

int buf_printf(struct buf *buf, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = buf_vprintf(buf, fmt, ap);
	va_end(ap);
	return r;
}

ssize_t buf_read(struct buf *buf, int fd, size_t at_most)
{
	size_t want = MIN(at_most, buf_room(buf));
	ssize_t n;
	int r;

	assert(at_most > 0);
	/* Nothing is lost when there is no room to read into, so this doesn't mark the buffer as
	 * full. */
	if (buf->full || want == 0)
		return -EFBIG;
	r = buf_grow(buf, want);
	if (r < 0)
		return r;
	do
		n = read(fd, buf->data + buf->len, want);
	while (n < 0 && errno == EINTR);
	r = n < 0 ? -errno : 0;
	if (n > 0)
		buf->len += (size_t)n;
	buf->data[buf->len] = '\0';
	return r < 0 ? r : n;
}

void buf_consume(struct buf *buf, size_t n)
{
	assert(n <= buf->len);
	if (n == 0)
		return;
	buf->len -= n;
	memmove(buf->data, buf->data + n, buf->len + 1);
}

void buf_clear(struct buf *buf)
{
	buf->len = 0;
	buf->full = false;
	if (buf->data)
		buf->data[0] = '\0';
}

char *buf_take(struct buf *buf)
{
	char *data = buf->data ? buf->data : xstrdup("");

	buf->data = NULL;
	buf->len = buf->cap = 0;
	buf->full = false;
	return data;
}

const char *buf_str(const struct buf *buf)
{
	return buf->data ? buf->data : "";
}

void buf_done(struct buf *buf)
{
	free(buf->data);
	buf->data = NULL;
	buf->len = buf->cap = 0;
	buf->full = false;
}
