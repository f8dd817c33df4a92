/*
 * What berthd gives up before it reads its first byte: it serves sockets and files with threads,
 * and needs nothing else of the kernel.
 */
#pragma once

#include "base/base.h"

/* No capability, no memory dump or debugger of its own user's, no privilege by way of a program,
 * and none of the system calls that start programs, change namespaces or mounts, or open rare parts
 * of the kernel: they fail with EPERM. Before the first thread. */
int confine(struct err *err);
