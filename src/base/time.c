#include <stdio.h>
#include <time.h>

#include "base/base.h"
#include "base/time.h"

#define NS_PER_S INT64_C(1000000000)

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts) < 0)
		abort();
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t time_now_ms(void)
{
	return now_ns(CLOCK_REALTIME) / 1000000;
}

int64_t time_mono_ms(void)
{
	return time_mono_ns() / 1000000;
}

int64_t time_mono_ns(void)
{
	return now_ns(CLOCK_MONOTONIC);
}

/* The first and last millisecond that four digits of a year can name. */
#define TIME_MIN_MS (INT64_C(-62167219200) * 1000)
#define TIME_MAX_MS (INT64_C(253402300799) * 1000 + 999)

char *time_format(int64_t realtime_ms, int digits, char buf[TIME_STR_MAX])
{
	int64_t ms = MIN(MAX(realtime_ms, TIME_MIN_MS), TIME_MAX_MS);
	int64_t rest = (ms % 1000 + 1000) % 1000;
	time_t seconds = (ms - rest) / 1000;
	size_t len;
	struct tm tm;

	assert(digits >= 0 && digits <= 9);
	if (!gmtime_r(&seconds, &tm))
		abort();
	len = (size_t)snprintf(buf, TIME_STR_MAX, "%04u-%02u-%02uT%02u:%02u:%02u",
		(unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
		(unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
		(unsigned)tm.tm_sec % 100);
	if (digits > 0) {
		snprintf(buf + len, TIME_STR_MAX - len, ".%03u000000", (unsigned)rest % 1000);
		len += 1 + (size_t)digits;
	}
	buf[len++] = 'Z';
	buf[len] = '\0';
	return buf;
}
