/* Clocks and their text form. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* CLOCK_REALTIME and CLOCK_MONOTONIC in milliseconds / nanoseconds. */
int64_t time_now_ms(void);
int64_t time_mono_ms(void);
int64_t time_mono_ns(void);

/* RFC 3339 in UTC. digits of the fraction: 0 "…:05Z", 3 "…:05.123Z", 7 as ARM's operations have it.
 * buf has room for 32 bytes; returns buf. */
#define TIME_STR_MAX 32
char *time_format(int64_t realtime_ms, int digits, char buf[TIME_STR_MAX]);
