#include "base/base.h"

/* Where to cut s, of which len bytes are left after a truncation, so that no UTF-8 sequence is
 * halved. */
static size_t utf8_floor(const char *s, size_t len)
{
	size_t i = len;
	size_t need;

	while (i > 0 && len - i < 3 && ((unsigned char)s[i - 1] & 0xc0) == 0x80)
		i--;
	if (i == 0)
		return len;
	switch ((unsigned char)s[i - 1] >> 4) {
	case 0xc:
	case 0xd:
		need = 2;
		break;
	case 0xe:
		need = 3;
		break;
	case 0xf:
		need = 4;
		break;
	default:
		return len;
	}
	return len - (i - 1) < need ? i - 1 : len;
}

static void __attribute__((format(printf, 3, 0)))
format_cut(char *dst, size_t size, const char *fmt, va_list ap)
{
	int n = vsnprintf(dst, size, fmt, ap);

	if (n < 0)
		dst[0] = '\0';
	else if ((size_t)n >= size)
		dst[utf8_floor(dst, size - 1)] = '\0';
}

/* Arguments may point into err itself (a message made of the old one), so all is formatted before
 * it is stored. */
int err_setv(struct err *err, int r, const char *code, const char *fmt, va_list ap)
{
	struct err new = {.r = r};

	assert(r < 0);
	if (!err)
		return r;
	snprintf(new.code, sizeof(new.code), "%s", code ? code : "");
	format_cut(new.message, sizeof(new.message), fmt, ap);
	*err = new;
	return r;
}

int err_set(struct err *err, int r, const char *code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_setv(err, r, code, fmt, ap);
	va_end(ap);
	return r;
}

void err_target(struct err *err, const char *fmt, ...)
{
	char target[sizeof(err->target)];
	va_list ap;

	if (!err_is_set(err))
		return;
	va_start(ap, fmt);
	format_cut(target, sizeof(target), fmt, ap);
	va_end(ap);
	memcpy(err->target, target, strlen(target) + 1);
}

int err_wrap(struct err *err, const char *fmt, ...)
{
	char target[sizeof(err->target)];
	char context[sizeof(err->message)];
	va_list ap;
	int r;

	if (!err)
		return -EIO;
	va_start(ap, fmt);
	format_cut(context, sizeof(context), fmt, ap);
	va_end(ap);
	if (!err_is_set(err))
		return err_set(err, -EIO, "InternalError", "%s", context);
	memcpy(target, err->target, sizeof(target));
	r = err_set(err, err->r, err->code, "%s: %s", context, err->message);
	memcpy(err->target, target, strlen(target) + 1);
	return r;
}

int err_errno(struct err *err, int r, const char *fmt, ...)
{
	char context[sizeof(err->message)];
	va_list ap;

	va_start(ap, fmt);
	format_cut(context, sizeof(context), fmt, ap);
	va_end(ap);
	return err_set(err, r, "InternalError", "%s: %s", context, err_str(r));
}

const char *err_str(int r)
{
	const char *text = r == INT32_MIN ? NULL : strerrordesc_np(r < 0 ? -r : r);

	return text ? text : "Unknown error";
}
