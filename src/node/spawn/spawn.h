/*
 * spawn: starts the programs that touch what strangers wrote. A worker is root of a user namespace
 * that maps its ids to a range without any rights, process 1 of a pid namespace, and has a mount
 * namespace in which everything is read-only; it keeps the network. Of its capabilities in that
 * namespace only those that its work needs are left, it can gain none, and its resources are
 * bounded. It dies with the thread that started it, and all its children with it.
 *
 * Used by image (berth-pull) and volume (berth-clone); blocking, safe on any thread.
 */
#pragma once

#include <sys/types.h>

#include "base/base.h"

#define WORKER_FDS_MAX 5

struct worker_spec {
	const char *name; /* argv[0], and in messages */
	int program_fd;	  /* O_PATH: the way to it may lead through folders of root's alone */
	const int *fds;	  /* what it gets as 0, 1, 2, 3 … Borrowed */
	size_t n_fds;
	int cwd;	   /* one of its own numbers; -1: "/" */
	uint32_t uid_base; /* its ids 0… are uid_base… outside */
	const int *caps;   /* the capabilities that are left */
	size_t n_caps;
};

struct worker_process {
	pid_t pid;
	int pidfd; /* owned */
};

/* Returns when the program was executed. */
int worker_spawn(const struct worker_spec *spec, struct err *err, struct worker_process *ret);
/* Waits for it; the descriptor is closed. Exit code or 128 + signal. */
int worker_reap(struct worker_process *process);
