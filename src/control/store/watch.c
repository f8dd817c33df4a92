#include <pthread.h>

#include "base/time.h"
#include "control/store/watch.h"

#define RETRY_S 1

struct store_watch {
	struct store_watch *next;
	char *prefix;
	int64_t cursor; /* every change up to here was delivered, or isn't wanted */
	store_watch_fn fn;
	void *arg;
	bool in_round;
	bool removed;
};

struct watch_hub {
	pthread_mutex_t lock; /* all below; not held while a callback or read runs */
	pthread_cond_t wake;  /* the thread has something to do */
	pthread_cond_t idle;  /* a callback has returned */
	struct store_watch *watches;
	struct store_watch *running;
	int64_t head;
	int64_t compacted;
	bool stop;
	watch_read_fn read;
	void *arg;
	pthread_t thread;
	struct pool *pool;
};

/* Picks the watches of a round, those that are behind, and the cursor to read from. */
static bool begin_round(struct watch_hub *hub, int64_t *ret_after)
{
	bool any = false;

	for (struct store_watch *w = hub->watches; w; w = w->next) {
		w->in_round = w->cursor < hub->head;
		if (!w->in_round)
			continue;
		*ret_after = any ? MIN(*ret_after, w->cursor) : w->cursor;
		any = true;
	}
	return any;
}

/* A watch that is being called is never unlinked, so its next is good after the call. */
static void deliver(struct watch_hub *hub, const struct store_entry *change)
{
	const struct store_event event = {.key = change->key,
		.value = change->value,
		.value_len = change->value_len,
		.revision = change->revision};

	for (struct store_watch *w = hub->watches; w; w = w->next) {
		if (!w->in_round || w->removed || w->cursor >= event.revision ||
			!str_starts(event.key, w->prefix))
			continue;
		hub->running = w;
		pthread_mutex_unlock(&hub->lock);
		w->fn(&event, w->arg);
		pthread_mutex_lock(&hub->lock);
		hub->running = NULL;
		pthread_cond_broadcast(&hub->idle);
	}
}

static void end_round(struct watch_hub *hub, int64_t reached)
{
	for (struct store_watch *w = hub->watches; w; w = w->next)
		if (w->in_round)
			w->cursor = MAX(w->cursor, reached);
}

static void wait_to_retry(struct watch_hub *hub)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += RETRY_S;
	while (!hub->stop && pthread_cond_timedwait(&hub->wake, &hub->lock, &until) != ETIMEDOUT)
		;
}

static void hub_thread(void *arg)
{
	struct watch_hub *hub = arg;
	bool failing = false;
	int64_t after = 0;

	pthread_mutex_lock(&hub->lock);
	hub->thread = pthread_self();
	while (!hub->stop) {
		_cleanup_(store_list_done) struct store_list changes = {0};
		int64_t head = hub->head;
		struct err err = {0};
		int r;

		if (!begin_round(hub, &after)) {
			pthread_cond_wait(&hub->wake, &hub->lock);
			continue;
		}
		pthread_mutex_unlock(&hub->lock);
		r = hub->read(hub->arg, after, &err, &changes);
		if (r < 0 && !failing)
			log_error("watches of the store are waiting: %s", err.message);
		failing = r < 0;
		pthread_mutex_lock(&hub->lock);
		if (r < 0) {
			wait_to_retry(hub);
			continue;
		}
		for (size_t i = 0; i < changes.n && !hub->stop; i++)
			deliver(hub, &changes.entries[i]);
		end_round(hub, changes.n ? changes.entries[changes.n - 1].revision : head);
	}
	pthread_mutex_unlock(&hub->lock);
}

struct watch_hub *watch_hub_new(watch_read_fn read, void *arg, int64_t head, int64_t compacted)
{
	struct watch_hub *hub = xnew(struct watch_hub);
	pthread_condattr_t attr;

	pthread_mutex_init(&hub->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&hub->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&hub->idle, NULL);
	hub->read = read;
	hub->arg = arg;
	hub->head = head;
	hub->compacted = compacted;
	hub->pool = pool_new("store-watch", 1, 0);
	pool_submit(hub->pool, hub_thread, hub);
	return hub;
}

void watch_hub_free(struct watch_hub *hub)
{
	if (!hub)
		return;
	pthread_mutex_lock(&hub->lock);
	assert(!hub->watches);
	hub->stop = true;
	pthread_cond_broadcast(&hub->wake);
	pthread_mutex_unlock(&hub->lock);
	pool_free(hub->pool);
	pthread_cond_destroy(&hub->idle);
	pthread_cond_destroy(&hub->wake);
	pthread_mutex_destroy(&hub->lock);
	free(hub);
}

int watch_hub_add(struct watch_hub *hub, const char *prefix, int64_t after, store_watch_fn fn,
	void *arg, struct err *err, struct store_watch **ret)
{
	struct store_watch *watch;
	int64_t compacted;

	pthread_mutex_lock(&hub->lock);
	compacted = hub->compacted;
	if (after >= compacted) {
		watch = xnew(struct store_watch);
		*watch = (struct store_watch){.next = hub->watches,
			.prefix = xstrdup(prefix),
			.cursor = after,
			.fn = fn,
			.arg = arg};
		hub->watches = watch;
		/* Set before a callback can run, for the callback may look at it. */
		*ret = watch;
		pthread_cond_signal(&hub->wake);
	}
	pthread_mutex_unlock(&hub->lock);
	if (after >= compacted)
		return 0;
	return err_set(err, -ESTALE, "RevisionCompacted",
		"The store no longer has the changes after revision %lld, only those after %lld.",
		(long long)after, (long long)compacted);
}

void watch_hub_remove(struct watch_hub *hub, struct store_watch *watch)
{
	struct store_watch **at;

	pthread_mutex_lock(&hub->lock);
	/* A callback that ends its own watch would wait for itself. */
	assert(hub->running != watch || !pthread_equal(hub->thread, pthread_self()));
	watch->removed = true;
	while (hub->running == watch)
		pthread_cond_wait(&hub->idle, &hub->lock);
	for (at = &hub->watches; *at != watch; at = &(*at)->next)
		assert(*at);
	*at = watch->next;
	pthread_mutex_unlock(&hub->lock);
	free(watch->prefix);
	free(watch);
}

void watch_hub_advance(struct watch_hub *hub, int64_t head)
{
	pthread_mutex_lock(&hub->lock);
	hub->head = MAX(hub->head, head);
	if (hub->watches)
		pthread_cond_signal(&hub->wake);
	pthread_mutex_unlock(&hub->lock);
}

int64_t watch_hub_compact(struct watch_hub *hub, int64_t wanted)
{
	pthread_mutex_lock(&hub->lock);
	for (struct store_watch *w = hub->watches; w; w = w->next)
		wanted = MIN(wanted, w->cursor);
	hub->compacted = MAX(hub->compacted, wanted);
	wanted = hub->compacted;
	pthread_mutex_unlock(&hub->lock);
	return wanted;
}
