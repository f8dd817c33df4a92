/*
 * prober: the clock of each probe. A prober belongs to one run of one container; it lives on the
 * loop's thread, which asks berth-probe (HTTP) or a thread (exec), counts, and tells the group's
 * round what turned. How many of a group's are under way at once is bounded: those of others never
 * wait for them.
 */
#pragma once

#include "node/agent/group.h"

struct probes; /* of the node */
struct prober;

/* Everything is borrowed. */
struct probes *probes_new(struct agent *agent);
/* After the loop has ended. Waits for commands that it ends. NULL is fine. */
void probes_free(struct probes *probes);

/* From the round: sets a probe on the current run. start_ms: realtime, of the run. */
void prober_add(struct group *group, const struct container *c, enum probe_kind kind,
	const struct probe_spec *spec, int64_t start_ms);
/* From the round: takes the probes from this run. */
void prober_remove(struct group *group, const char *container, unsigned run);

/* The counting alone. */
struct probe_count {
	int success_threshold, failure_threshold;
	bool passing;
	int successes, failures; /* in a row */
};
/* True when passing turned. */
bool probe_count(struct probe_count *count, bool success);

/* The sentence of an event about an HTTP status or the lack of one; "" when the probe succeeded. */
void probe_http_words(const char *url, int status, const char *words, char *ret, size_t size);
