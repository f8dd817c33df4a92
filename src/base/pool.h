/*
 * A set of threads for work that may block. Jobs are taken in order; no job may wait for another
 * one of the same pool unless it knows that a thread is left for it.
 */
#pragma once

#include <stddef.h>

struct pool;

/* stack_bytes 0: 256 KiB. name (at most 15 bytes) is what `ps -L` shows. */
struct pool *pool_new(const char *name, unsigned threads, size_t stack_bytes);
/* min threads always; more, up to max, while all of them are at work: for jobs that mostly wait, of
 * which none may hold up the others. */
struct pool *pool_new_elastic(const char *name, unsigned min, unsigned max, size_t stack_bytes);
/* Runs what is queued to its end, joins the threads. NULL is fine. */
void pool_free(struct pool *pool);
void pool_submit(struct pool *pool, void (*fn)(void *arg), void *arg);
