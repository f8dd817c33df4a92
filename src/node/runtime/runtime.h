/*
 * runtime: one container, from an OCI bundle that we write ourselves to its exit code, through
 * conmon and crun (docs/runtime.md has what bites). conmon and the container outlive this process:
 * everything is found again from the bundle's folder. Blocking calls; thread-safe for different
 * containers.
 *
 * A container's folder is laid out in runtime.c. It belongs to root with mode 0711, and so do all
 * folders above it: crun mounts rootfs/ as the group's own root, who must be able to get there and
 * to the sources of binds, but can list nothing. One *run* is one start of the container's process;
 * run numbers count up from 1, and each has a log file and a bundle state of its own, so that
 * nothing of the previous one is lost at a restart. The runs of a container share its cgroup: a run
 * is deleted before the next one is created.
 *
 * Where the host mixes control groups of version 1 and 2, all of this works only in the namespace
 * that runtime_namespace_enter() makes.
 */
#pragma once

#include <stdint.h>

#include "base/base.h"

struct runtime;

struct runtime_config {
	const char *crun;	 /* "/usr/bin/crun", any OCI runtime */
	const char *conmon;	 /* "/usr/bin/conmon" */
	const char *state_dir;	 /* crun --root */
	const char *cgroup_root; /* "/berth-<instance>": parent of all groups in every hierarchy */
	uint64_t log_max_bytes;	 /* of a container: its last two runs; 0: no bound */
};

int runtime_new(const struct runtime_config *config, struct err *err, struct runtime **ret);
void runtime_free(struct runtime *runtime);

struct runtime_spec {
	const char
		*id; /* crun's id: "<group uid>-<container>-<run>" made by the caller, [a-z0-9-] */
	const char *dir; /* absolute: the container's folder; dir/rootfs is mounted */
	unsigned run;
	const char *const *args; /* NULL-terminated, at least one */
	const char *const *env;	 /* "NAME=value" */
	const char *cwd;
	const char *user; /* as the image has it: "", "1000", "1000:100", "www-data"; resolved
			     within rootfs */
	const char *hostname;
	const char *net_ns, *user_ns; /* paths of the pinned namespaces */
	uint32_t uid_base;
	const char *cgroup;    /* "<group uid>/<container>" below cgroup_root */
	double cpu_limit;      /* cores; 0: none */
	double cpu_request;    /* weight */
	uint64_t memory_bytes; /* limit; 0: none */
	uint64_t pids_max;
	/* Files and directories of the host that the container sees: /etc/hosts and the like,
	 * volumes. Targets are without links in rootfs; one beneath another's comes after it, and
	 * is there in that one's source. */
	struct runtime_bind {
		const char *source, *target;
		bool read_only;
		bool no_exec;
	} const *binds;
	size_t n_binds;
};

/* Writes the bundle, starts conmon with crun create. On return the container is created, not
 * started. Error code "ContainerCreateFailed", message is crun's own sentence (missing program,
 * permission). Leaves nothing on failure. What an earlier create of this id left when its process
 * was killed is removed first. */
int runtime_create(struct runtime *runtime, const struct runtime_spec *spec, struct err *err);
/* Lets the program run. *ret_started_ms: realtime of the start. Idempotent: a second call gives the
 * first one's time. */
int runtime_start(struct runtime *runtime, const char *dir, const char *id, struct err *err,
	int64_t *ret_started_ms);

enum runtime_phase {
	RUNTIME_ABSENT,
	RUNTIME_CREATED,
	RUNTIME_RUNNING,
	RUNTIME_EXITED,
	RUNTIME_LOST
};

struct runtime_state {
	enum runtime_phase phase; /* LOST: conmon is gone and left no exit code */
	int exit_code;		  /* EXITED: 0-255, 128+signal */
	bool oom_killed;
	int64_t started_ms, finished_ms; /* realtime; 0 when not known */
	int monitor_pid;		 /* conmon, while it lives */
};

/* What became of the run that dir/id names; asks the files and /proc, not crun, so it is cheap. A
 * run whose create never came to its end is ABSENT. oom_killed is known until the run is deleted.
 */
int runtime_inspect(struct runtime *runtime, const char *dir, const char *id, struct err *err,
	struct runtime_state *ret);
/* A pidfd of the run's conmon, readable when it has ended (then inspect again). -ESRCH when it is
 * gone already. */
int runtime_monitor_fd(struct runtime *runtime, const char *dir, const char *id);

/* Sends a signal to the container's first process. Already gone is success. */
int runtime_signal(struct runtime *runtime, const char *id, int signal, struct err *err);
/* Kills all processes of the run's control group and waits until they have ended; the monitor then
 * writes the exit code. Already gone is success. */
int runtime_kill(struct runtime *runtime, const char *cgroup, struct err *err);
/* Whether the container's first process has a handler for the signal (SigCgt of /proc): the kernel
 * never delivers one without to the first process of a pid namespace. False when the run is gone.
 */
bool runtime_handles_signal(struct runtime *runtime, const char *dir, const char *id, int signal);
/* Kills what is left, waits for conmon, removes crun's state, the cgroup and the bundle's run
 * state, keeps the logs. Idempotent. */
int runtime_delete(struct runtime *runtime, const char *dir, const char *id, const char *cgroup,
	struct err *err);

/* Limits of the whole group on its parent cgroup; v1 and v2. cgroup: "<group uid>". Idempotent. */
int runtime_group_cgroup(struct runtime *runtime, const char *cgroup, double cpu_limit,
	uint64_t memory_bytes, uint64_t pids_max, struct err *err);
/* Kills what is left in it. cgroup "": the root of all groups, for the end of an instance. */
int runtime_group_cgroup_remove(struct runtime *runtime, const char *cgroup, struct err *err);

/* conmon replaces a log that has reached a quarter of log_max_bytes by an empty one. Calling this
 * now and then (half a second) while a run lives keeps the full one as well; without it, it is
 * lost. Cheap when there is nothing to do. */
int runtime_log_keep(struct runtime *runtime, const char *dir, unsigned run, struct err *err);

/* The last run before this one that has a log; 0: none. Creating a run removes all logs but this
 * one. */
unsigned runtime_log_previous(const char *dir, unsigned run);

/* Copies the log of a run (k8s-file format) to fd as text: payloads only, or each line after its
 * timestamp. tail 0: all. Partial records are joined. max_bytes 0: no bound, else the last
 * max_bytes. A run without a log (it could not be created) has an empty one. */
int runtime_log_copy(struct runtime *runtime, const char *dir, unsigned run, unsigned tail,
	bool timestamps, uint64_t max_bytes, int out_fd, struct err *err);

/* At the start of the node's program, while it has one thread: enters the mount namespace pinned at
 * <dir>/ns, or makes and pins it. dir (absolute, made if missing) is for nothing else; it becomes a
 * private mount in the namespace of the caller, whose other mounts stay as they are. The caller
 * makes sure that no other process does the same at the same time. */
int runtime_namespace_enter(const char *dir, struct err *err);
/* Unpins it and removes dir; from the machine's namespace. Processes that are in it keep it.
 * Idempotent. */
int runtime_namespace_purge(const char *dir, struct err *err);
