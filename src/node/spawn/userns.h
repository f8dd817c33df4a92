/*
 * User namespaces that exist only as a descriptor: a mapping from the store's ids to a group's, for
 * idmapped mounts.
 */
#pragma once

#include <sys/types.h>

#include "base/base.h"

#define USERNS_IDS 65536u

/* Maps `inside`… to `outside`… in the namespace of a process that was just cloned. 0 or -errno. */
int userns_write_maps(pid_t pid, uint32_t inside, uint32_t outside);

/* A descriptor of a namespace that maps inside… to outside… and holds no process. */
int userns_new(uint32_t inside, uint32_t outside, struct err *err);
