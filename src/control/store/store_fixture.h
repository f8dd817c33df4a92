/* What the tests of the store share: a store to test, and a watch that takes notes. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "control/store/store.h"

struct fixture {
	char dir[64];
	char path[80];
	bool sqlite;
	struct store *store;
};

int setup_memory(void **state);
int setup_sqlite(void **state);
int teardown(void **state);
struct store *store_in(void **state);
/* Puts whatever is there, and gives the revision. */
int64_t put(struct store *store, const char *key, const char *value);
void expect_text(struct store *store, const char *key, const char *value, int64_t revision);
void expect_absent(struct store *store, const char *key);

/* Writes down what a watch is given: "+key=value@revision" or "-key@revision", a line each. */
struct notes {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct buf text;
	size_t n;
	int64_t last;
	bool disorder;
	/* For blocking inside of a delivery. */
	bool hold;
	bool inside;
};

#define NOTES_INIT                                                                                 \
	((struct notes){.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER})

void notes_done(struct notes *notes);
void note(const struct store_event *event, void *arg);
/* Until n changes were noted; fails after 20 seconds. */
void wait_for(struct notes *notes, size_t n);
struct store_watch *watch(
	struct store *store, const char *prefix, int64_t after, struct notes *notes);
