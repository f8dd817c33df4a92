/* The worker's and git's cage: a root of their own, and for git no capabilities and few system
 * calls. */
#pragma once

#include "worker/clone/job.h"

/* What the new root has. */
#define CAGE_VOLUME "/volume"
#define CAGE_TMP "/tmp"

/* Changes the root of the worker to an empty one with the machine's programs and libraries, to
 * read; a small /tmp; and the detached mount volume_fd at CAGE_VOLUME. */
int cage_enter(int volume_fd, struct err *err);

/* In git's process before exec: leaves it without capabilities, with limits and a filter of system
 * calls. 0 or -errno. */
int cage_git(const struct job_limits *limits);
