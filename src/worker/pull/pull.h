/* The operation "pull": from a registry into the store. */
#pragma once

#include "base/base.h"
#include "worker/pull/job.h"
#include "worker/pull/store.h"

int pull_run(const struct job *job, struct store *store, struct err *err);
