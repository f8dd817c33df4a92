/*
 * base: what every other folder stands on, and nothing that knows what a container is.
 *
 * Conventions of the whole project:
 *  - A function that can fail returns 0 (or a count) or a negative errno; with a `struct err *` it
 * also says what the client will read. Out-parameters come last, are called ret_…, and stay
 * untouched on failure.
 *  - Descriptors are CLOEXEC from birth and start at -EBADF.
 *  - Out of memory for something small and internal aborts (x…alloc). What an outsider can size
 * goes through struct buf, which has a maximum.
 *  - assert() stays on in release builds.
 */
#pragma once

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

/* 1 under AddressSanitizer or ThreadSanitizer, which reserve terabytes, and start a process to look
 * for leaks. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_fd_ _cleanup_(fd_closep)
#define _cleanup_buf_ _cleanup_(buf_done)

/* Hands ownership out of a scope: returns the pointer and sets the variable to NULL. */
#define take_ptr(p)                                                                                \
	({                                                                                         \
		__typeof__(p) *_pp = &(p);                                                         \
		__typeof__(p) _v = *_pp;                                                           \
		*_pp = NULL;                                                                       \
		_v;                                                                                \
	})

/* Defines NAMEp() for _cleanup_, calling FREE on a non-NULL pointer. */
#define DEFINE_CLEANUP(type, free_fn)                                                              \
	static inline __attribute__((unused)) void free_fn##p(type *p)                             \
	{                                                                                          \
		if (*p)                                                                            \
			free_fn(*p);                                                               \
	}

static inline void freep(void *p)
{
	free(*(void **)p);
}

/* Small internal allocations: abort when there is no memory. */
void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...)
	__attribute__((format(printf, 1, 2), malloc, returns_nonnull));
#define xnew(type) ((type *)xcalloc(1, sizeof(type)))
