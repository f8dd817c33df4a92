/*
 * agent: makes the groups of this node be what control wants them to be, and tells control what
 * they are.
 *
 * A group's life is a reconcile loop: *desired* (the spec that came over the link) against *actual*
 * (what runtime, network and image find). A round is straight-line code on a thread of a pool, one
 * round at a time for each group; each step can be done twice and can be cut off by a kill -9
 * anywhere. Before anything is made, the group's folder holds its spec; it is removed last: so
 * nothing can be left over that the next start would not find.
 *
 * What wakes a group: a new spec, the end of a container (its monitor's pidfd), a back-off that is
 * over, the start of the agent. The loop's thread only receives and wakes; it never blocks.
 *
 * Folder of a group, below groups_dir: <uid>/spec.json  state.json  hosts  hostname  resolv.conf
 * c/<container>/…  v/<volume>/…
 */
#pragma once

#include "base/loop.h"
#include "link/link.h"
#include "node/image/image.h"
#include "node/network/network.h"
#include "node/runtime/runtime.h"
#include "node/volume/volume.h"

struct agent;

struct agent_config {
	struct loop *loop;
	struct image_store *images;
	struct network *network;
	struct runtime *runtime;
	struct volumes *volumes;
	const char *probe_program; /* absolute path of berth-probe */
	const char *node;	   /* name of this node */
	const char *groups_dir;
	const char *ns_dir;	 /* of struct network_config */
	const char *socket_path; /* of control */
	uid_t control_uid;
	const char *domain;	/* "local.berth.internal": search domain of resolv.conf */
	uint32_t uid_first;	/* first id of the groups' ranges, a multiple of 65536 */
	uint32_t uid_groups;	/* how many ranges of 65536 */
	int64_t backoff_ms;	/* first wait before a restart; 10 000 */
	int64_t backoff_max_ms; /* 300 000 */
	int64_t stop_grace_ms;	/* between SIGTERM and SIGKILL */
	bool allow_loopback_http;
	void (*on_ready)(void); /* once, when control has said what this node runs; may be NULL */
};

/* Takes up the groups that it finds in groups_dir and dials control. Everything in config is
 * borrowed. */
int agent_new(const struct agent_config *config, struct err *err, struct agent **ret);
/* For the end of a Berth: removes every group of groups_dir, without control, with the agent not
 * running. */
int agent_remove_all(const struct agent_config *config, struct err *err);
/* Waits for running rounds, leaves all containers as they are. Call it after the loop ended. */
void agent_free(struct agent *agent);
