/*
 * struct err: what went wrong, in the words that the client will read. It gathers context on its
 * way out.
 *
 * The code is set where the fact is known: an Azure error code such as "InvalidDnsNameLabel", or
 * one of ours in the same style. control/arm maps codes to HTTP statuses in one table; a code that
 * isn't there is a 500. Everything lives in the struct: nothing to free, no failure of its own.
 * Passing NULL is allowed everywhere.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

struct err {
	int r;		    /* negative errno, 0 when unset */
	char code[64];	    /* "InaccessibleImage"; "" when unset */
	char target[256];   /* the JSON path or name at fault: "properties.containers[0].name"; ""
			       when none */
	char message[2048]; /* a whole sentence; cut at a UTF-8 boundary if longer */
};

/* Sets code and message, clears target, returns r (which must be < 0). */
int err_set(struct err *err, int r, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
int err_setv(struct err *err, int r, const char *code, const char *fmt, va_list ap)
	__attribute__((format(printf, 4, 0)));

/* Names what is at fault, on an error that is already set. */
void err_target(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "CONTEXT: old message". Returns the errno of err, or -EIO when err is NULL or unset. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* For a failed system call: message "CONTEXT: strerror", code "InternalError". Returns r. */
int err_errno(struct err *err, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* strerror without its static buffer. */
const char *err_str(int r);

static inline bool err_is_set(const struct err *err)
{
	return err && err->r < 0;
}
