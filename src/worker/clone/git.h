/* One run of the git program, in its cage. */
#pragma once

#include "worker/clone/job.h"
#include "worker/clone/relay.h"

#define GIT_ARGS_MAX 48

struct git {
	const struct job *job;
	struct relay *relay;
	int64_t deadline_ms;
	struct buf out; /* what the last run said on its standard output… */
	struct buf log; /* …and error: the end of it */
	int status;	/* of the last run */
};

/* Writes git's configuration into CAGE_TMP. */
int git_open(const struct job *job, struct relay *relay, struct err *err, struct git *ret);
void git_done(struct git *git);

/* Runs git with these arguments (NULL-terminated) behind the options that every run has. 0 when it
 * succeeded; else git->log has what it said, and err says it in the user's words. */
int git_run(struct git *git, struct err *err, const char *const *args);

/* What git's messages mean to a user. status as proc_wait() gives it. Sets err, returns its errno:
 *  -ENODATA: the revision isn't there (as asked for); -EOPNOTSUPP: the server can't do shallow
 *  clones. */
int git_explain(const struct job *job, const char *log, int status, struct err *err);
