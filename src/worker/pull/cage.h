/*
 * The last walls around the worker, which it builds itself before it reads anything of a stranger:
 * no new privileges, limits, and a seccomp filter with the calls that fetching and unpacking need.
 * Namespaces and ids are its starter's part.
 */
#pragma once

#include "base/base.h"
#include "worker/pull/job.h"

int cage_enter(const struct job_limits *limits, struct err *err);
