/*
 * One thread's event loop: descriptors (epoll), timers, and functions handed over from other
 * threads. Callbacks never block. loop_fd() is pollable, so that a library with a loop of its own
 * can carry this one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct loop;
struct loop_source; /* a descriptor; valid until loop_remove */
struct loop_timer;

typedef void (*loop_fd_fn)(int fd, uint32_t epoll_events, void *arg);
typedef void (*loop_fn)(void *arg);

struct loop *loop_new(void);
void loop_free(struct loop *loop); /* NULL is fine; sources and timers that are left are freed, fds
				      not closed */

/* Watches fd (borrowed) for EPOLLIN/EPOLLOUT… Level-triggered. */
struct loop_source *loop_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *arg);
void loop_modify(struct loop_source *source, uint32_t events);
/* Safe inside any callback, also its own: no further call after this. NULL is fine. */
void loop_remove(struct loop_source *source);

/* One-shot timer; runs once after delay_ms on the loop's thread unless cancelled. The timer is
 * freed when it has run or was cancelled: forget the pointer in fn. */
struct loop_timer *loop_after(struct loop *loop, int64_t delay_ms, loop_fn fn, void *arg);
void loop_cancel(struct loop_timer *timer); /* NULL is fine */

/* From any thread: run fn(arg) on the loop's thread soon, in order of posting. */
void loop_post(struct loop *loop, loop_fn fn, void *arg);

/* Runs callbacks until loop_stop(); or one round, waiting at most timeout_ms (-1: no bound). */
void loop_run(struct loop *loop);
void loop_once(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop); /* from any thread */
/* For who carries the loop through loop_fd(): true once after loop_stop(). */
bool loop_stopped(struct loop *loop);
int loop_fd(struct loop *loop);
