#include <limits.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/base.h"
#include "base/pool.h"

#define POOL_STACK_BYTES ((size_t)256 << 10)
#define IDLE_SECONDS 10

struct job {
	struct job *next;
	void (*fn)(void *arg);
	void *arg;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t wake; /* of threads */
	pthread_cond_t none; /* the last thread has ended */
	struct job *head;
	struct job **tail;
	size_t queued;
	unsigned idle, n_threads, min, max;
	size_t stack;
	bool ending;
	char *name;
};

/* With the lock held. False when the thread has waited long enough for work and isn't needed. */
static bool wait_for_job(struct pool *pool)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_SECONDS;
	pool->idle++;
	while (!pool->head && !pool->ending && r == 0) {
		if (pool->n_threads > pool->min)
			r = pthread_cond_clockwait(
				&pool->wake, &pool->lock, CLOCK_MONOTONIC, &until);
		else
			pthread_cond_wait(&pool->wake, &pool->lock);
	}
	pool->idle--;
	return pool->head;
}

static void *pool_thread(void *arg)
{
	struct pool *pool = arg;

	prctl(PR_SET_NAME, pool->name);
	pthread_mutex_lock(&pool->lock);
	while (wait_for_job(pool)) {
		struct job *job = pool->head;

		pool->head = job->next;
		if (!pool->head)
			pool->tail = &pool->head;
		pool->queued--;
		pthread_mutex_unlock(&pool->lock);
		job->fn(job->arg);
		free(job);
		pthread_mutex_lock(&pool->lock);
	}
	if (--pool->n_threads == 0)
		pthread_cond_signal(&pool->none);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* With the lock held. */
static void start_thread(struct pool *pool)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;

	if (pthread_attr_init(&attr) != 0 || pthread_attr_setstacksize(&attr, pool->stack) != 0 ||
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) != 0)
		abort();
	/* Signals belong to the main thread, which reads them through a signalfd. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, &attr, pool_thread, pool) == 0)
		pool->n_threads++;
	else if (pool->n_threads < pool->min)
		abort();
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

struct pool *pool_new_elastic(const char *name, unsigned min, unsigned max, size_t stack_bytes)
{
	struct pool *pool = xnew(struct pool);

	assert(min > 0 && min <= max);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wake, NULL);
	pthread_cond_init(&pool->none, NULL);
	pool->tail = &pool->head;
	pool->name = xstrdup(name);
	pool->min = min;
	pool->max = max;
	pool->stack = MAX(stack_bytes ? stack_bytes : POOL_STACK_BYTES, (size_t)PTHREAD_STACK_MIN);
	pthread_mutex_lock(&pool->lock);
	for (unsigned i = 0; i < min; i++)
		start_thread(pool);
	pthread_mutex_unlock(&pool->lock);
	return pool;
}

struct pool *pool_new(const char *name, unsigned threads, size_t stack_bytes)
{
	return pool_new_elastic(name, threads, threads, stack_bytes);
}

void pool_free(struct pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->ending = true;
	pthread_cond_broadcast(&pool->wake);
	while (pool->n_threads > 0)
		pthread_cond_wait(&pool->none, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
	pthread_cond_destroy(&pool->wake);
	pthread_cond_destroy(&pool->none);
	pthread_mutex_destroy(&pool->lock);
	free(pool->name);
	free(pool);
}

void pool_submit(struct pool *pool, void (*fn)(void *arg), void *arg)
{
	struct job *job = xnew(struct job);

	job->fn = fn;
	job->arg = arg;
	pthread_mutex_lock(&pool->lock);
	*pool->tail = job;
	pool->tail = &job->next;
	pool->queued++;
	if (pool->queued > pool->idle && pool->n_threads < pool->max)
		start_thread(pool);
	pthread_cond_signal(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
}
