/* A group on this node: its spec, what is known of its containers, and who may touch what. */
#pragma once

#include <pthread.h>

#include "base/json.h"
#include "base/loop.h"
#include "base/random.h"
#include "node/agent/agent.h"
#include "node/agent/spec.h"

#define EVENTS_MAX 32

struct event {
	int64_t count, first_ms, last_ms; /* realtime */
	char name[32], type[16];
	char *message;
};

/* The newest EVENTS_MAX different events, oldest first. */
struct events {
	struct event list[EVENTS_MAX];
	size_t n;
};

void events_add(struct events *events, const char *type, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void events_clear(struct events *events);

enum container_phase {
	CONTAINER_WAITING,  /* no process: never started, or backing off until next_start_ms */
	CONTAINER_STARTING, /* run was chosen and written down; its process may or may not exist */
	CONTAINER_RUNNING,
	CONTAINER_TERMINATED, /* and stays so */
};

/* What instanceView shows of one run. */
struct container_view {
	bool known;
	char state[16]; /* "Running", "Terminated", "Waiting" */
	int64_t start_ms, finish_ms;
	int exit_code;
	char detail[512];
};

#define PROBE_WORDS_MAX 512

/* What a probe of the current run has said since the round last listened; under group.lock. */
struct probe_news {
	bool turned;  /* passing was reached or lost */
	bool passing; /* by its thresholds */
	unsigned failures;
	char words[PROBE_WORDS_MAX]; /* of the last failure */
};

struct container {
	char name[64];
	bool init; /* an init container: runs to its end before the others start */
	enum container_phase phase;
	unsigned run; /* of the current or last process; 0: none yet */
	int64_t restart_count;
	bool started_once;
	int64_t next_start_ms, backoff_ms; /* realtime; length of the last wait */
	int64_t pull_backoff_ms;	   /* length of the last wait for the image */
	int64_t mount_backoff_ms;	   /* length of the last wait for a volume */
	bool restarted;			   /* by the policy, so the next restart waits */
	char hash[SHA256_HEX_MAX];	   /* of the spec that the run was started with */
	struct container_view current, previous;
	struct events events;
	bool asked;	     /* SIGTERM was sent and is handled by the program */
	bool monitored;	     /* a monitor watches the run's end; under group.lock */
	bool ready;	     /* as its readiness probe has it; kept on disk */
	bool unhealthy;	     /* its liveness probe failed: it is being ended; kept on disk */
	int64_t kill_at_ms;  /* monotonic: when it is ended without being asked; 0: not chosen */
	unsigned probed_run; /* the run that probes were set on; 0: none */
	struct probe_news news[PROBE_KINDS];
};

/* Watches one conmon on the loop's thread. */
struct monitor {
	struct group *group;
	char container[64];
	int fd;
	struct loop_source *source;
	struct monitor *next;
};

struct group {
	struct agent *agent;
	char uid[UUID_STR_MAX];
	char *dir;
	uint32_t slot; /* of the range of ids */

	pthread_mutex_t lock;	      /* everything up to the next blank line */
	struct group_spec *next_spec; /* arrived, not yet taken up */
	bool removing, busy, again;
	int cancel_fd; /* eventfd: readable when a pull should give up; written with what it should
			  give up for */
	int mount_cancel_fd; /* likewise, for the mounting */

	/* Only the running round, and start-up before the first one; readers of `run` take the
	 * lock. */
	struct group_spec *spec;
	struct container *containers; /* as spec->containers, by index */
	size_t n_containers;
	int64_t runs, restarts;		/* what was carried out of spec's */
	char init_hash[SHA256_HEX_MAX]; /* of the init containers that were run */
	char provisioning[16];
	struct err failure; /* why provisioning failed; unset otherwise */
	struct events events;
	bool sandbox_up;
	bool open;		   /* to traffic from outside, while the sandbox is up */
	bool wished_anew;	   /* a spec of another generation was taken up in this round */
	bool spec_unsaved;	   /* spec.json could not be written: nothing may be made */
	bool fresh;		   /* taken up from disk and not looked over yet */
	struct mounting *mounting; /* or NULL */

	/* Only the loop's thread. */
	bool seen; /* control named it since the link came up */
	struct loop_timer *timer;
	int64_t timer_at_ms; /* realtime */
	struct monitor *monitors;
	struct prober *probers;
	unsigned probes_under_way[2]; /* HTTP, exec */
	struct group *next;
};

uint32_t group_uid_base(const struct group *group);

/* Loads or makes what is known of a group; containers follow spec. */
void group_set_spec(struct group *group, struct group_spec *spec);
void group_free(struct group *group);
/* Whether a spec of this generation comes too late. What control says first on a connection never
 * does: its store may have been put back to an earlier state. Lock held; loop's thread. */
bool group_knows_newer(const struct group *group, int64_t generation);
/* Removes what there is of a group whose spec can't be read. */
int group_remove_unread(struct group *group, struct err *err);
struct container *group_find_container(struct group *group, const char *name);
/* The containers but for the init containers: [group_first_container(), n_containers). */
size_t group_first_container(const struct group *group);

/* Writes state.json / spec.json. */
int group_save_state(struct group *group, struct err *err);
int group_save_spec(struct group *group, struct err *err);
/* Reads both back. -ENOENT when the group's folder was only half made. */
int group_load(struct group *group, struct err *err);

/* status.c: the whole status as the API shows it, new reference. */
json_t *group_status(const struct group *group);

/* reconcile.c: one round. 1 when the group is gone for good. */
int group_reconcile(struct group *group);
/* A spec or a removal arrived that makes going on pointless. */
bool group_is_interrupted(struct group *group);

/* container.c */
char *container_dir(const struct group *group, const struct container *c);
void container_id(const struct group *group, const struct container *c, char *ret, size_t size);
/* A start is several steps, so that those of several containers can be done together (together.c).
 *
 * The volumes and the image; on failure the container waits for its next try. May take long;
 * -ECANCELED when something came in between, -EINPROGRESS: not before a volume has come up, which
 * wakes the group. The caller frees *ret. */
int container_prepare(struct group *group, struct container *c, const struct container_spec *spec,
	bool pull_always, struct err *err, struct image **ret);
/* Chooses the number of a new run, unless one was chosen that came to nothing. To be written down
 * before anything of it is made. */
int container_new_run(struct group *group, struct container *c, const struct container_spec *spec,
	struct err *err);
/* Makes the run and starts its program. Touches nothing of the group but this container, so that
 * others can be made at the same time. */
int container_make(struct group *group, struct container *c, const struct container_spec *spec,
	const struct image *image, struct err *err);
/* After -ENOENT with "InaccessibleImage": an image can be pruned, or removed by hand, between the
 * pull and the mount. Then it is pulled again. */
int container_make_again(struct group *group, struct container *c,
	const struct container_spec *spec, struct err *err);
/* Takes note of why the last two failed. */
void container_make_failed(struct group *group, struct container *c, int r, struct err *err);
/* Looks at the current run and takes note of its end. True when something changed. */
bool container_observe(struct group *group, struct container *c);
/* After an end: what the restart policy says. */
void container_apply_policy(struct group *group, struct container *c);
/* The steps of a stop: SIGTERM; waiting until a deadline; SIGKILL, and taking note of how it ended,
 * which is known only until container_clean(): so it is written down before that. The last two
 * touch nothing of the group but this container. */
void container_ask_stop(struct group *group, struct container *c, const char *why);
void container_await_end(struct group *group, struct container *c, int64_t deadline_mono_ms);
void container_end(struct group *group, struct container *c);
/* Everything but the logs. */
int container_clean(struct group *group, struct container *c);
/* Before the first run, and again after an update or a restart. */
void container_renew(struct container *c);
/* Shows what a container that has no process waits for. */
void container_show_waiting(struct container *c, const char *words);
/* Its liveness probe failed: asks the run to end, and ends it when it hasn't in time. Doesn't wait;
 * the end is noticed as any other, and counts as a failure. Call container_press() in each round
 * until then. */
void container_end_unhealthy(struct group *group, struct container *c);
void container_press(struct group *group, struct container *c);

/* together.c: several containers at once. */
/* Starts those of [first, end) that are due. False when a spec or a removal came in between. */
bool containers_start(struct group *group, size_t first, size_t end);
/* Stops those that it is true for. arg: as it is given. */
typedef bool (*container_test)(const struct group *group, size_t i, const void *arg);
void containers_stop(struct group *group, container_test test, const void *arg, const char *why);

/* init.c: the init containers, one after the other before the others. */
enum init_phase { INIT_RUNNING, INIT_DONE, INIT_FAILED };
/* *ret_current: the one that runs, comes next, or failed for good; may be NULL. */
enum init_phase group_init_phase(const struct group *group, size_t *ret_current);
/* Why the deployment failed, when an init container did for good. */
void init_describe_failure(const struct group *group, struct err *ret);

/* probe.c: the round's side of probes. */
/* Takes note of what they said: events, readiness, and the end of what isn't well. */
void probes_hear(struct group *group);
/* Sets probes on the runs that lack them, and takes them from those that ended. */
void probes_follow(struct group *group);
void probes_end(struct group *group, struct container *c);
/* Whether traffic from outside may come in. */
bool group_is_ready(const struct group *group);
/* The loop's side: frees what the group has of them. */
void probes_forget(struct group *group);

/* agent.c: for the round. */
const struct agent_config *agent_config(const struct agent *agent);
struct group *agent_find_group(struct agent *agent, const char *uid); /* loop's thread */
void agent_report(struct group *group);				      /* sends the status */
void agent_watch(struct group *group, struct container *c); /* wakes the group when the run ends */
void agent_wake_at(struct group *group,
	int64_t realtime_ms); /* of several the earliest; each round asks anew */
bool agent_is_ending(const struct agent *agent);
/* Runs it on a thread of the pool, which has one for each group besides its round. */
void agent_submit(struct agent *agent, void (*fn)(void *arg), void *arg);
struct probes *agent_probes(const struct agent *agent);
/* Calls fn with each of n things, size bytes apart, on other threads, of which there is a bounded
 * number for all groups; returns when all is done. slow: a thing may wait for the server of a
 * share; these keep nobody else waiting. */
void agent_do_all(struct agent *agent, bool slow, void (*fn)(void *thing), void *things,
	size_t size, size_t n);
void agent_group_gone(
	struct group *group);	      /* the round that removed it says so; the loop frees it */
void group_kick(struct group *group); /* from any thread */
