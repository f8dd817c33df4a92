/* The operation "import": an OCI layout folder, an OCI archive, or what `docker save` wrote, into
 * the store. */
#pragma once

#include "base/base.h"
#include "worker/pull/job.h"
#include "worker/pull/store.h"

/* fd: the opened file or folder. */
int import_run(const struct job *job, struct store *store, int fd, struct err *err);
