/*
 * Follows a container's log as it is written, from the files alone: whoever reads slowly holds up
 * nobody, and may in the end miss what the bound of the log removed meanwhile. Goes along when
 * conmon replaces a full file, and from one run to the next.
 */
#pragma once

#include "node/runtime/k8slog.h"
#include "node/runtime/runtime.h"

struct runtime_follow;

/* run 0: none yet. tail: how many lines to begin with; -1: all, 0: only what comes from now on. */
struct runtime_follow *runtime_follow_new(
	struct runtime *runtime, const char *dir, unsigned run, int64_t tail, bool timestamps);
void runtime_follow_free(struct runtime_follow *follow);

/* Gives what is there now to sink, bytes as the program wrote them; with timestamps each line after
 * its own. 1: there may be more at once; 0: nothing now. When the run had ended before the call, 0
 * means that all of its log was given. A negative value of sink is returned. */
int runtime_follow_read(
	struct runtime_follow *follow, k8slog_sink sink, void *arg, struct err *err);
unsigned runtime_follow_run(const struct runtime_follow *follow);
/* Whether it reads a file that the log's bound has removed, and that takes space until it is read.
 */
bool runtime_follow_holds_removed(const struct runtime_follow *follow);
/* Goes on with this run, or with an earlier one behind the present that has a log still. */
void runtime_follow_next(struct runtime_follow *follow, unsigned run);
