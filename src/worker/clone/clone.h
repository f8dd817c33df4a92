/* The steps of a clone: as little as serves the revision that was asked for. */
#pragma once

#include "worker/clone/git.h"

/* ret_commit: hex of what is checked out. */
int clone_run(struct git *git, struct err *err, char ret_commit[65]);
