/* The two halves of schedule: what goes to the node (send.c) and what comes from it (report.c). */
#pragma once

#include <pthread.h>

#include "control/schedule/schedule.h"

/* A change of the store on its way to the node. */
struct change {
	struct change *next;
	char *key;
	char *value; /* NULL: deleted */
	size_t value_len;
	int64_t revision;
	bool sync; /* not a change: the node has come and must be told everything */
};

struct schedule {
	struct store *store;
	schedule_spec_fn spec;
	void *spec_arg;
	struct link_server *link;
	struct store_watch *watch;

	pthread_mutex_t lock; /* all below */
	pthread_cond_t wake;  /* for both threads */
	bool stop;
	bool stopped;	 /* the threads are gone; only the thread that stops */
	char node[128];	 /* connected; "" none */
	int connections; /* of that node */

	struct change *changes, **changes_end;
	json_t *keys; /* uid → key of the record, for each group there is */
	json_t *uids; /* key of the record → uid */

	json_t *statuses; /* uid → newest status that isn't written */
	json_t *removed;  /* uid → true */
	json_t *hello;	  /* of the node, to be written; NULL */

	int64_t synced; /* only the sender: revision up to which the node was told everything */
	pthread_t sender, reporter;
};

int sender_start(struct schedule *schedule, struct err *err);
void *sender_run(void *schedule);
void sender_queue_sync(struct schedule *schedule); /* lock held */
void sender_drop(struct schedule *schedule);

void *reporter_run(void *schedule);
