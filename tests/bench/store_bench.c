/* How many commits a second the store does, and how long each takes: store-bench DATABASE
 * [SECONDS]. The file is made and left behind. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "base/time.h"
#include "control/store/store.h"

#define THREADS_MAX 64
#define TIMES_MAX ((long)1 << 20) /* of which each measurement keeps the first */

struct bench {
	struct store *store;
	int64_t until_ms;
	atomic_long done;
	atomic_int next;
	uint32_t *times_us;
};

/* About as large as the record of a group. */
static char value[2048];

static int64_t mono_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void *run(void *arg)
{
	struct bench *bench = arg;
	char key[32];

	snprintf(key, sizeof(key), "bench/%d", atomic_fetch_add(&bench->next, 1));
	while (time_mono_ms() < bench->until_ms) {
		int64_t began_us = mono_us();
		struct err err = {0};
		long n;

		if (store_put(bench->store, key, value, sizeof(value), STORE_ANY, &err, NULL) < 0) {
			fprintf(stderr, "%s\n", err.message);
			break;
		}
		n = atomic_fetch_add(&bench->done, 1);
		if (n < TIMES_MAX)
			bench->times_us[n] = (uint32_t)(mono_us() - began_us);
	}
	return NULL;
}

static void measure(struct store *store, const char *name, unsigned threads, int64_t seconds)
{
	struct bench bench = {.store = store,
		.until_ms = time_mono_ms() + seconds * 1000,
		.times_us = xcalloc(TIMES_MAX, sizeof(uint32_t))};
	pthread_t ids[THREADS_MAX];
	long n;

	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, run, &bench) != 0)
			abort();
	for (unsigned i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	n = MIN(atomic_load(&bench.done), TIMES_MAX);
	qsort(bench.times_us, (size_t)n, sizeof(uint32_t), compare);
	printf("%-7s %3u threads: %8ld commits/s, p50 %u us, p99 %u us\n", name, threads,
		atomic_load(&bench.done) / (long)seconds, bench.times_us[n / 2],
		bench.times_us[n * 99 / 100]);
	free(bench.times_us);
}

int main(int argc, char **argv)
{
	uint64_t seconds = 2;
	struct store *memory, *sqlite;
	struct err err = {0};

	if (argc < 2 || argc > 3 || (argc == 3 && str_to_u64(argv[2], 3600, &seconds) < 0) ||
		seconds == 0) {
		fprintf(stderr, "Usage: store-bench DATABASE [SECONDS]\n");
		return 2;
	}
	memset(value, 'x', sizeof(value));
	if (store_open_sqlite(argv[1], &err, &sqlite) < 0) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	memory = store_open_memory();
	measure(memory, "memory", 1, (int64_t)seconds);
	measure(memory, "memory", THREADS_MAX, (int64_t)seconds);
	measure(sqlite, "sqlite", 1, (int64_t)seconds);
	measure(sqlite, "sqlite", THREADS_MAX, (int64_t)seconds);
	store_free(memory);
	store_free(sqlite);
	return 0;
}
