#include <stdarg.h>

#include "base/base.h"
#include "base/time.h"

#define LOG_MESSAGE_MAX 8192

static const char *log_program;
static enum log_level log_threshold = LOG_LEVEL_INFO;

static const char *const level_names[] = {
	[LOG_LEVEL_DEBUG] = "debug",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_ERROR] = "error",
};

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_threshold = level;
}

/* text is valid UTF-8. C1 controls (U+0080 to U+009F) are escaped too: terminals obey them. */
static void add_escaped(struct buf *line, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p == '"' || *p == '\\')
			buf_printf(line, "\\%c", *p);
		else if (*p == '\n')
			buf_adds(line, "\\n");
		else if (*p < 0x20 || *p == 0x7f)
			buf_printf(line, "\\u%04x", *p);
		else if (*p == 0xc2 && p[1] < 0xa0)
			buf_printf(line, "\\u%04x", *++p);
		else
			buf_addc(line, (char)*p);
	}
}

void log_write(enum log_level level, const char *fmt, ...)
{
	_cleanup_buf_ struct buf line = BUF_INIT;
	_cleanup_free_ char *clean = NULL;
	char message[LOG_MESSAGE_MAX];
	char when[TIME_STR_MAX];
	int saved = errno;
	ssize_t written;
	va_list ap;

	if (level < log_threshold)
		return;
	va_start(ap, fmt);
	if (vsnprintf(message, sizeof(message), fmt, ap) < 0)
		message[0] = '\0';
	va_end(ap);
	clean = str_utf8_clean(message, strlen(message));

	buf_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"program\":\"",
		time_format(time_now_ms(), 3, when), level_names[level]);
	add_escaped(&line, log_program ? log_program : program_invocation_short_name);
	buf_adds(&line, "\",\"message\":\"");
	add_escaped(&line, clean);
	buf_adds(&line, "\"}\n");
	/* One write, so that lines of several threads and processes don't mix. If it fails there is
	 * nobody to tell. */
	do
		written = write(STDERR_FILENO, line.data, line.len);
	while (written < 0 && errno == EINTR);
	errno = saved;
}
