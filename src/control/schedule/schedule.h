/*
 * schedule: which node runs which group, and what the nodes report. It carries records from the
 * store to the node and status from the node to the store, and knows of a group only its uid,
 * generation and address; what a node must run is made of a record by a function of the provider
 * that owns it.
 *
 * To the node: `cg/<rg>/<name>` as group {uid, generation, spec}, `gone/<uid>` as remove {uid}.
 * From it: status {uid, status} becomes `cgstatus/<uid>`; removed {uid} ends `gone/<uid>`,
 * `ip/<address>` and `cgstatus/<uid>`; its hello becomes `node/<name>`.
 *
 * A node that connects is told everything, then `synced`; from there on, each change. Of a status
 * only the newest that waits is written, several in one commit, so that a storm of reports costs
 * few of them. A status for a group that is gone is dropped. At this stage one node runs
 * everything.
 */
#pragma once

#include "base/json.h"
#include "control/store/store.h"
#include "link/link.h"

struct schedule;

/* The spec of a record for the link: new reference. Called on a thread of schedule's own; must not
 * block. */
typedef json_t *(*schedule_spec_fn)(const json_t *record, void *arg);

/* Reads the store and starts. Everything is borrowed. */
int schedule_new(struct store *store, schedule_spec_fn spec, void *arg, struct err *err,
	struct schedule **ret);

/* For link_server_new(), with the schedule as arg; then schedule_attach(), before the loop runs. */
extern const struct link_server_ops schedule_link_ops;
void schedule_attach(struct schedule *schedule, struct link_server *link);

/* Ends its threads, once the loop no longer runs; what was reported and not yet written is written
 * if the store takes it. Before link_server_free(), which still calls schedule_link_ops. */
void schedule_stop(struct schedule *schedule);
/* After link_server_free(). NULL is fine. */
void schedule_free(struct schedule *schedule);
