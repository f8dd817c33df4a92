/*
 * Control groups, version 1 (one hierarchy per controller) and version 2. Paths are relative to the
 * hierarchies' roots and begin with a slash: "/berth-a1b2c3/<group>/<container>".
 */
#pragma once

#include "base/base.h"

#define CGROUP_HIERARCHIES_MAX 16

struct cgroup_limits {
	double cpu;	       /* cores; 0: none */
	uint64_t memory_bytes; /* 0: none; swap is always off when there is a limit */
	uint64_t pids_max;     /* 0: none */
};

struct cgroups {
	bool v2;
	bool swap_accounting; /* v1: memory.memsw.* exist */
	size_t n;
	char *mounts[CGROUP_HIERARCHIES_MAX]; /* owned; v2: just one */
	/* Borrowed from mounts; NULL when the host lacks the controller. v2: all the same. */
	const char *cpu, *memory, *pids;
};

/* mounts_path: "/proc/self/mounts", or a fixture. A version 2 mount counts only when there is no
 * version 1 controller: hybrid hosts are version 1 hosts. */
int cgroups_load(const char *mounts_path, struct cgroups *ret, struct err *err);
void cgroups_done(struct cgroups *cgroups);

/* Makes the group in every hierarchy and, for version 2, hands the controllers down to it.
 * Containers can read theirs, so that it must not be left to crun, which would make it under a
 * strict umask. */
int cgroup_make(const struct cgroups *cgroups, const char *path, struct err *err);
/* Makes the group and sets its limits. Idempotent. */
int cgroup_limit(const struct cgroups *cgroups, const char *path,
	const struct cgroup_limits *limits, struct err *err);
/* Kills every process at and below path and waits until none is left. A path that isn't there is
 * success. */
int cgroup_kill(const struct cgroups *cgroups, const char *path, int timeout_ms);
/* Removes path and what is below it in every hierarchy. A path that isn't there is success. */
int cgroup_remove(const struct cgroups *cgroups, const char *path, struct err *err);
/* How many processes of exactly this group the kernel killed for want of memory; 0 when the group
 * is gone. */
uint64_t cgroup_oom_kills(const struct cgroups *cgroups, const char *path);
/* The CPU quota of the group that path lies in, as time in each 100 ms; 0: none, or version 2,
 * where it doesn't matter: version 1 refuses a child more than its parent has. */
uint64_t cgroup_parent_quota_us(const struct cgroups *cgroups, const char *path);
