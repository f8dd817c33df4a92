/* What runs callbacks: the loop and the pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "base/base.h"
#include "base/loop.h"
#include "base/pool.h"
#include "base/time.h"

/* loop */

struct trace {
	struct loop *loop;
	struct loop_source *source;
	struct loop_source *other;
	struct loop_timer *timer;
	char text[64];
	int calls;
};

struct mark {
	struct trace *trace;
	char letter;
};

static void leave_mark(void *arg)
{
	struct mark *mark = arg;
	size_t n = strlen(mark->trace->text);

	mark->trace->text[n] = mark->letter;
	mark->trace->text[n + 1] = '\0';
}

static void stop_loop(void *arg)
{
	loop_stop(arg);
}

static void count_call(int fd, uint32_t events, void *arg)
{
	struct trace *trace = arg;

	trace->calls++;
}

static void remove_both(int fd, uint32_t events, void *arg)
{
	struct trace *trace = arg;

	trace->calls++;
	loop_remove(trace->source);
	loop_remove(trace->other);
	trace->source = trace->other = NULL;
}

static void source_can_be_removed_by_a_callback(void **state)
{
	struct trace trace = {.loop = loop_new()};
	int one = eventfd(1, EFD_CLOEXEC), two = eventfd(1, EFD_CLOEXEC);

	/* Both are ready in the same round; the first to be called removes itself and the other. */
	trace.source = loop_add(trace.loop, one, EPOLLIN, remove_both, &trace);
	trace.other = loop_add(trace.loop, two, EPOLLIN, remove_both, &trace);
	loop_once(trace.loop, 1000);
	loop_once(trace.loop, 0);
	assert_int_equal(trace.calls, 1);
	loop_free(trace.loop);
	fd_close(one);
	fd_close(two);
}

static void remove_then_run_a_nested_round(int fd, uint32_t events, void *arg)
{
	struct trace *trace = arg;

	remove_both(fd, events, arg);
	loop_once(trace->loop, 0);
}

static void nested_round_does_not_free_what_the_outer_one_uses(void **state)
{
	struct trace trace = {.loop = loop_new()};
	int one = eventfd(1, EFD_CLOEXEC), two = eventfd(1, EFD_CLOEXEC);

	trace.source = loop_add(trace.loop, one, EPOLLIN, remove_then_run_a_nested_round, &trace);
	trace.other = loop_add(trace.loop, two, EPOLLIN, remove_then_run_a_nested_round, &trace);
	loop_once(trace.loop, 1000);
	assert_int_equal(trace.calls, 1);
	loop_free(trace.loop);
	fd_close(one);
	fd_close(two);
}

static void loop_modify_changes_what_is_watched(void **state)
{
	struct trace trace = {.loop = loop_new()};
	int fd = eventfd(1, EFD_CLOEXEC);

	trace.source = loop_add(trace.loop, fd, 0, count_call, &trace);
	loop_once(trace.loop, 0);
	assert_int_equal(trace.calls, 0);
	loop_modify(trace.source, EPOLLIN);
	loop_once(trace.loop, 0);
	loop_once(trace.loop, 0);
	assert_int_equal(trace.calls, 2);
	loop_remove(trace.source);
	loop_remove(NULL);
	loop_once(trace.loop, 0);
	assert_int_equal(trace.calls, 2);
	loop_free(trace.loop);
	loop_free(NULL);
	fd_close(fd);
}

static void timers_run_in_order_of_their_time(void **state)
{
	struct trace trace = {.loop = loop_new()};
	struct mark marks[] = {{&trace, 'c'}, {&trace, 'a'}, {&trace, 'b'}, {&trace, 'x'}};
	struct loop_timer *cancelled;
	int64_t start = time_mono_ms();

	loop_after(trace.loop, 30, leave_mark, &marks[0]);
	loop_after(trace.loop, -5, leave_mark, &marks[1]);
	cancelled = loop_after(trace.loop, 1, leave_mark, &marks[3]);
	loop_after(trace.loop, 15, leave_mark, &marks[2]);
	loop_after(trace.loop, INT64_MAX, leave_mark, &marks[3]);
	loop_after(trace.loop, 40, stop_loop, trace.loop);
	loop_cancel(cancelled);
	loop_cancel(NULL);
	loop_run(trace.loop);
	assert_string_equal(trace.text, "abc");
	assert_in_range(time_mono_ms() - start, 39, 5000);
	loop_free(trace.loop);
}

static void cancel_timer(void *arg)
{
	struct trace *trace = arg;

	trace->calls++;
	loop_cancel(trace->timer);
}

static void due_timer_can_be_cancelled_by_another(void **state)
{
	struct trace trace = {.loop = loop_new()};
	struct mark mark = {&trace, 'x'};

	loop_after(trace.loop, 0, cancel_timer, &trace);
	trace.timer = loop_after(trace.loop, 0, leave_mark, &mark);
	usleep(2000);
	loop_once(trace.loop, 1000);
	loop_once(trace.loop, 0);
	assert_int_equal(trace.calls, 1);
	assert_string_equal(trace.text, "");
	loop_free(trace.loop);
}

static void again(void *arg)
{
	struct trace *trace = arg;

	if (++trace->calls < 1000)
		loop_after(trace->loop, 0, again, trace);
}

static void timers_of_no_delay_leave_room_for_others(void **state)
{
	struct trace trace = {.loop = loop_new()};

	loop_after(trace.loop, 0, again, &trace);
	loop_once(trace.loop, 1000);
	assert_int_equal(trace.calls, 1);
	while (trace.calls < 1000)
		loop_once(trace.loop, 1000);
	loop_free(trace.loop);
}

/* A timer is due between the two: the clock was read on both sides of its making. */
struct ordered {
	int64_t *last;
	int64_t earliest_ns, latest_ns;
	int *count;
};

static void check_order(void *arg)
{
	struct ordered *ordered = arg;

	assert_true(ordered->latest_ns >= *ordered->last);
	*ordered->last = MAX(*ordered->last, ordered->earliest_ns);
	(*ordered->count)++;
}

static void many_timers_keep_their_order_when_some_are_cancelled(void **state)
{
	struct ordered timers[500];
	struct loop_timer *handles[500];
	struct loop *loop = loop_new();
	int64_t last = 0;
	int count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(timers); i++) {
		int64_t delay = (int64_t)(i * 7919 % 499) / 10 * 4;

		timers[i] = (struct ordered){.last = &last, .count = &count};
		timers[i].earliest_ns = time_mono_ns() + delay * 1000000;
		handles[i] = loop_after(loop, delay, check_order, &timers[i]);
		timers[i].latest_ns = time_mono_ns() + delay * 1000000;
	}
	for (size_t i = 0; i < ARRAY_SIZE(timers); i += 3)
		loop_cancel(handles[i]);
	while (count < 333)
		loop_once(loop, 1000);
	loop_once(loop, 0);
	assert_int_equal(count, 333);
	loop_free(loop);
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	return poll(&poll_fd, 1, timeout_ms) == 1;
}

static void loop_fd_is_readable_when_there_is_work(void **state)
{
	struct trace trace = {.loop = loop_new()};
	struct mark mark = {&trace, 'x'};

	assert_false(readable(loop_fd(trace.loop), 0));
	loop_after(trace.loop, 20, leave_mark, &mark);
	assert_false(readable(loop_fd(trace.loop), 0));
	assert_true(readable(loop_fd(trace.loop), 5000));
	loop_once(trace.loop, 0);
	assert_string_equal(trace.text, "x");
	assert_false(readable(loop_fd(trace.loop), 0));
	loop_post(trace.loop, leave_mark, &mark);
	assert_true(readable(loop_fd(trace.loop), 0));
	loop_once(trace.loop, 0);
	assert_false(readable(loop_fd(trace.loop), 0));
	loop_cancel(loop_after(trace.loop, 1, leave_mark, &mark));
	assert_false(readable(loop_fd(trace.loop), 20));
	loop_free(trace.loop);
}

struct poster {
	struct loop *loop;
	int *next; /* shared by the posts of one thread, touched on the loop's thread only */
	int *total;
};

struct posted {
	struct poster *poster;
	int number;
};

#define POSTERS 4
#define POSTS 2000

static void on_posted(void *arg)
{
	_cleanup_free_ struct posted *posted = arg;
	struct poster *poster = posted->poster;

	assert_int_equal(posted->number, (*poster->next)++);
	if (++*poster->total == POSTERS * POSTS)
		loop_stop(poster->loop);
}

static void *post_many(void *arg)
{
	struct poster *poster = arg;

	for (int i = 0; i < POSTS; i++) {
		struct posted *posted = xnew(struct posted);

		posted->poster = poster;
		posted->number = i;
		loop_post(poster->loop, on_posted, posted);
	}
	return NULL;
}

static void posts_of_other_threads_arrive_in_order(void **state)
{
	struct loop *loop = loop_new();
	struct poster posters[POSTERS];
	pthread_t threads[POSTERS];
	int next[POSTERS] = {0};
	int total = 0;

	for (size_t i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){loop, &next[i], &total};
		assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
	}
	loop_run(loop);
	for (size_t i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(total, POSTERS * POSTS);
	loop_free(loop);
}

static void *stop_from_thread(void *arg)
{
	usleep(10000);
	loop_stop(arg);
	return NULL;
}

static void loop_stops_from_another_thread_and_runs_again(void **state)
{
	struct loop *loop = loop_new();
	pthread_t thread;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&thread, NULL, stop_from_thread, loop), 0);
		loop_run(loop);
		pthread_join(thread, NULL);
	}
	/* A stop that comes before the run counts. */
	loop_stop(loop);
	loop_run(loop);
	loop_free(loop);
}

static void loop_free_drops_what_is_pending(void **state)
{
	struct trace trace = {.loop = loop_new()};
	struct mark mark = {&trace, 'x'};
	int fd = eventfd(1, EFD_CLOEXEC);

	loop_add(trace.loop, fd, EPOLLIN, count_call, &trace);
	loop_after(trace.loop, 0, leave_mark, &mark);
	loop_post(trace.loop, leave_mark, &mark);
	loop_post(trace.loop, leave_mark, &mark);
	loop_free(trace.loop);
	assert_string_equal(trace.text, "");
	assert_true(fcntl(fd, F_GETFD) >= 0);
	fd_close(fd);
}

/* pool */

struct sum {
	atomic_int jobs;
	atomic_int in_order;
	char name[16];
};

struct numbered {
	struct sum *sum;
	int number;
};

static void run_numbered(void *arg)
{
	struct numbered *job = arg;

	if (atomic_fetch_add(&job->sum->jobs, 1) == job->number)
		atomic_fetch_add(&job->sum->in_order, 1);
	if (job->number == 0)
		pthread_getname_np(pthread_self(), job->sum->name, sizeof(job->sum->name));
}

static void pool_runs_all_jobs_before_it_ends(void **state)
{
	static const unsigned threads[] = {1, 4};

	for (size_t t = 0; t < ARRAY_SIZE(threads); t++) {
		struct pool *pool = pool_new("test-pool", threads[t], 0);
		struct numbered jobs[500];
		struct sum sum = {0};

		for (int i = 0; i < 500; i++) {
			jobs[i] = (struct numbered){&sum, i};
			pool_submit(pool, run_numbered, &jobs[i]);
		}
		pool_free(pool);
		assert_int_equal(sum.jobs, 500);
		assert_string_equal(sum.name, "test-pool");
		if (threads[t] == 1)
			assert_int_equal(sum.in_order, 500);
	}
	pool_free(NULL);
}

static void wait_for_all(void *arg)
{
	pthread_barrier_wait(arg);
}

static void an_elastic_pool_has_a_thread_for_each_job_that_waits(void **state)
{
	struct pool *pool = pool_new_elastic("test-pool", 1, 20, 0);
	pthread_barrier_t barrier;

	assert_int_equal(pthread_barrier_init(&barrier, NULL, 20), 0);
	/* Ends only when all of them run at once. */
	for (int i = 0; i < 20; i++)
		pool_submit(pool, wait_for_all, &barrier);
	pool_free(pool);
	pthread_barrier_destroy(&barrier);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(source_can_be_removed_by_a_callback),
		cmocka_unit_test(nested_round_does_not_free_what_the_outer_one_uses),
		cmocka_unit_test(loop_modify_changes_what_is_watched),
		cmocka_unit_test(timers_run_in_order_of_their_time),
		cmocka_unit_test(due_timer_can_be_cancelled_by_another),
		cmocka_unit_test(timers_of_no_delay_leave_room_for_others),
		cmocka_unit_test(many_timers_keep_their_order_when_some_are_cancelled),
		cmocka_unit_test(loop_fd_is_readable_when_there_is_work),
		cmocka_unit_test(posts_of_other_threads_arrive_in_order),
		cmocka_unit_test(loop_stops_from_another_thread_and_runs_again),
		cmocka_unit_test(loop_free_drops_what_is_pending),
		cmocka_unit_test(pool_runs_all_jobs_before_it_ends),
		cmocka_unit_test(an_elastic_pool_has_a_thread_for_each_job_that_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
