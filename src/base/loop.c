#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "base/base.h"
#include "base/loop.h"
#include "base/time.h"

#define LOOP_EVENTS 64

struct loop_source {
	struct loop *loop;
	struct loop_source *prev;
	struct loop_source *next;
	int fd;
	bool removed;
	loop_fd_fn fn;
	void *arg;
};

struct loop_timer {
	struct loop *loop;
	int64_t due_ns;
	uint64_t sequence; /* timers that are due at the same time run in order of creation */
	size_t index;	   /* in the heap */
	loop_fn fn;
	void *arg;
};

struct post {
	struct post *next;
	loop_fn fn;
	void *arg;
};

struct loop {
	int epoll_fd;
	int timer_fd;
	int event_fd;
	atomic_bool stopped;
	unsigned rounds; /* that are running: more than one when a callback calls loop_once() */

	struct loop_source *sources;
	struct loop_source *removed; /* freed when no round is running */

	struct loop_timer **heap; /* the next one due is first */
	size_t n_timers;
	size_t heap_cap;
	uint64_t sequence;

	pthread_mutex_t lock; /* guards posts */
	struct post *posts;
	struct post **posts_tail;
};

static void must(bool ok)
{
	/* Descriptors and kernel memory for a loop: without them the program can't work. */
	if (!ok)
		abort();
}

/* Sources. */

static void source_link(struct loop_source **list, struct loop_source *source)
{
	source->prev = NULL;
	source->next = *list;
	if (source->next)
		source->next->prev = source;
	*list = source;
}

static void source_unlink(struct loop_source **list, struct loop_source *source)
{
	if (source->prev)
		source->prev->next = source->next;
	else
		*list = source->next;
	if (source->next)
		source->next->prev = source->prev;
}

static void sources_free(struct loop_source **list)
{
	struct loop_source *source;

	while ((source = *list)) {
		*list = source->next;
		free(source);
	}
}

struct loop_source *loop_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *arg)
{
	struct loop_source *source = xnew(struct loop_source);
	struct epoll_event event = {.events = events, .data.ptr = source};

	source->loop = loop;
	source->fd = fd;
	source->fn = fn;
	source->arg = arg;
	must(epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
	source_link(&loop->sources, source);
	return source;
}

void loop_modify(struct loop_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	assert(!source->removed);
	must(epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) == 0);
}

/* Events of this round may still point to the source, so it is only marked while one is running. */
void loop_remove(struct loop_source *source)
{
	struct loop *loop;

	if (!source)
		return;
	assert(!source->removed);
	loop = source->loop;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	source_unlink(&loop->sources, source);
	source->removed = true;
	source_link(&loop->removed, source);
	if (loop->rounds == 0)
		sources_free(&loop->removed);
}

/* Timers: a binary heap, and one timerfd that is set to its first. */

static bool timer_before(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->sequence < b->sequence;
}

static void heap_put(struct loop *loop, size_t i, struct loop_timer *timer)
{
	loop->heap[i] = timer;
	timer->index = i;
}

static void heap_up(struct loop *loop, size_t i)
{
	struct loop_timer *timer = loop->heap[i];

	for (; i > 0 && timer_before(timer, loop->heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap_put(loop, i, loop->heap[(i - 1) / 2]);
	heap_put(loop, i, timer);
}

static void heap_down(struct loop *loop, size_t i)
{
	struct loop_timer *timer = loop->heap[i];

	for (size_t child; (child = 2 * i + 1) < loop->n_timers; i = child) {
		if (child + 1 < loop->n_timers &&
			timer_before(loop->heap[child + 1], loop->heap[child]))
			child++;
		if (!timer_before(loop->heap[child], timer))
			break;
		heap_put(loop, i, loop->heap[child]);
	}
	heap_put(loop, i, timer);
}

static void heap_remove(struct loop *loop, size_t i)
{
	struct loop_timer *last = loop->heap[--loop->n_timers];

	if (i == loop->n_timers)
		return;
	heap_put(loop, i, last);
	heap_up(loop, i);
	heap_down(loop, last->index);
}

static void timers_arm(struct loop *loop)
{
	struct itimerspec spec = {0};

	if (loop->n_timers > 0) {
		int64_t due_ns = loop->heap[0]->due_ns;

		spec.it_value.tv_sec = due_ns / 1000000000;
		spec.it_value.tv_nsec = due_ns % 1000000000;
	}
	must(timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
}

struct loop_timer *loop_after(struct loop *loop, int64_t delay_ms, loop_fn fn, void *arg)
{
	struct loop_timer *timer = xnew(struct loop_timer);
	int64_t delay_ns;

	if (__builtin_mul_overflow(MAX(delay_ms, 0), 1000000, &delay_ns) ||
		__builtin_add_overflow(time_mono_ns(), delay_ns, &timer->due_ns))
		timer->due_ns = INT64_MAX;
	timer->loop = loop;
	timer->sequence = loop->sequence++;
	timer->fn = fn;
	timer->arg = arg;
	if (loop->n_timers == loop->heap_cap) {
		loop->heap_cap = loop->heap_cap ? loop->heap_cap * 2 : 16;
		loop->heap = xrealloc(loop->heap, loop->heap_cap * sizeof(struct loop_timer *));
	}
	loop->heap[loop->n_timers] = timer;
	heap_up(loop, loop->n_timers++);
	if (timer->index == 0)
		timers_arm(loop);
	return timer;
}

void loop_cancel(struct loop_timer *timer)
{
	struct loop *loop;
	bool first;

	if (!timer)
		return;
	loop = timer->loop;
	first = timer->index == 0;
	heap_remove(loop, timer->index);
	free(timer);
	if (first)
		timers_arm(loop);
}

/* Timers that callbacks add wait for the next round, or a chain of them with no delay would never
 * end. */
static void on_timer(int fd, uint32_t events, void *arg)
{
	struct loop *loop = arg;
	uint64_t newer = loop->sequence;
	int64_t now_ns = time_mono_ns();
	uint64_t expirations;

	must(read(fd, &expirations, sizeof(expirations)) >= 0 || errno == EAGAIN || errno == EINTR);
	while (loop->n_timers > 0) {
		struct loop_timer *timer = loop->heap[0];
		loop_fn fn = timer->fn;
		void *fn_arg = timer->arg;

		if (timer->due_ns > now_ns || timer->sequence >= newer)
			break;
		heap_remove(loop, 0);
		free(timer);
		fn(fn_arg);
	}
	timers_arm(loop);
}

/* Posts. */

static void wake(struct loop *loop)
{
	uint64_t one = 1;

	/* EAGAIN: the counter is at its maximum, so the loop will wake anyway. */
	must(write(loop->event_fd, &one, sizeof(one)) >= 0 || errno == EAGAIN);
}

void loop_post(struct loop *loop, loop_fn fn, void *arg)
{
	struct post *post = xnew(struct post);

	post->fn = fn;
	post->arg = arg;
	/* The wake-up is under the lock: once it is released, what was posted may free the loop. */
	pthread_mutex_lock(&loop->lock);
	if (!loop->posts)
		wake(loop);
	*loop->posts_tail = post;
	loop->posts_tail = &post->next;
	pthread_mutex_unlock(&loop->lock);
}

static struct post *posts_take(struct loop *loop)
{
	struct post *posts;

	pthread_mutex_lock(&loop->lock);
	posts = loop->posts;
	loop->posts = NULL;
	loop->posts_tail = &loop->posts;
	pthread_mutex_unlock(&loop->lock);
	return posts;
}

static void on_event(int fd, uint32_t events, void *arg)
{
	struct loop *loop = arg;
	struct post *post, *next;
	uint64_t count;

	must(read(fd, &count, sizeof(count)) >= 0 || errno == EAGAIN || errno == EINTR);
	for (post = posts_take(loop); post; post = next) {
		next = post->next;
		post->fn(post->arg);
		free(post);
	}
}

/* The loop. */

struct loop *loop_new(void)
{
	struct loop *loop = xnew(struct loop);

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	loop->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(loop->epoll_fd >= 0 && loop->timer_fd >= 0 && loop->event_fd >= 0);
	pthread_mutex_init(&loop->lock, NULL);
	loop->posts_tail = &loop->posts;
	loop_add(loop, loop->timer_fd, EPOLLIN, on_timer, loop);
	loop_add(loop, loop->event_fd, EPOLLIN, on_event, loop);
	return loop;
}

void loop_free(struct loop *loop)
{
	struct post *post, *next;

	if (!loop)
		return;
	assert(loop->rounds == 0);
	for (post = posts_take(loop); post; post = next) {
		next = post->next;
		free(post);
	}
	for (size_t i = 0; i < loop->n_timers; i++)
		free(loop->heap[i]);
	free(loop->heap);
	sources_free(&loop->sources);
	sources_free(&loop->removed);
	pthread_mutex_destroy(&loop->lock);
	fd_close(loop->event_fd);
	fd_close(loop->timer_fd);
	fd_close(loop->epoll_fd);
	free(loop);
}

void loop_once(struct loop *loop, int timeout_ms)
{
	struct epoll_event events[LOOP_EVENTS];
	int n = epoll_wait(loop->epoll_fd, events, LOOP_EVENTS, timeout_ms);

	must(n >= 0 || errno == EINTR);
	loop->rounds++;
	for (int i = 0; i < n; i++) {
		struct loop_source *source = events[i].data.ptr;

		if (!source->removed)
			source->fn(source->fd, events[i].events, source->arg);
	}
	if (--loop->rounds == 0)
		sources_free(&loop->removed);
}

void loop_run(struct loop *loop)
{
	while (!atomic_load(&loop->stopped))
		loop_once(loop, -1);
	atomic_store(&loop->stopped, false);
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stopped, true);
	wake(loop);
}

bool loop_stopped(struct loop *loop)
{
	return atomic_exchange(&loop->stopped, false);
}

int loop_fd(struct loop *loop)
{
	return loop->epoll_fd;
}
