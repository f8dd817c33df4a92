/*
 * A command in a running container: `crun exec` as our own child, with the container's user,
 * environment, working directory and confinement. It ends with the session: unlike a container's
 * process it doesn't outlive this program.
 *
 * One thread starts, uses and ends it: crun gets the parent's death signal from that thread.
 */
#pragma once

#include "base/proc.h"
#include "node/runtime/runtime.h"

struct runtime_exec_spec {
	const char *dir, *id;	 /* of the running run, as for runtime_create() */
	const char *const *args; /* NULL-terminated, at least one */
	bool terminal;
	unsigned rows, cols; /* of the terminal; 0: 24 and 80 */
	bool with_stdin;     /* without a terminal: false is /dev/null */
};

struct runtime_exec {
	struct proc proc; /* crun; its end is the command's end */
	/* All non-blocking. -EBADF: there is none, or the caller closed it. */
	int stdin_fd;  /* write; with a terminal the pty's master */
	int stdout_fd; /* read; with a terminal the same pty, which ends with EIO */
	int stderr_fd; /* read; -EBADF with a terminal */
	int inner_pid; /* the command's process as this namespace sees it */
	int session;   /* its session, likewise; 0: not known */
	uint64_t pid_ns;
	char *dir; /* owned */
};

#define RUNTIME_EXEC_INIT                                                                          \
	((struct runtime_exec){.proc.pidfd = -EBADF,                                               \
		.stdin_fd = -EBADF,                                                                \
		.stdout_fd = -EBADF,                                                               \
		.stderr_fd = -EBADF})

/* Returns when the command runs, or has run. Codes: "ContainerNotRunning"; "ContainerExecFailed",
 * whose message is crun's own sentence (missing program, …). */
int runtime_exec_start(struct runtime *runtime, const struct runtime_exec_spec *spec,
	struct err *err, struct runtime_exec *ret);
void runtime_exec_resize(struct runtime_exec *exec, unsigned rows, unsigned cols);
/* As proc_wait(): exit code, 128 + signal, or -ETIMEDOUT. */
int runtime_exec_wait(struct runtime_exec *exec, int timeout_ms);
/* Kills the command with what it started in its session, closes, reaps. Idempotent. */
void runtime_exec_done(struct runtime_exec *exec);

/* When this program starts: ends what one before it, that was killed, left of its commands in a run
 * that goes on. */
void runtime_exec_sweep(struct runtime *runtime, const char *dir, const char *id);

/* Runs a command without a terminal and without input to its end, for probes. At most max bytes of
 * its output (both streams) are kept; ret_output may be NULL, and is set after -ETIMEDOUT of a
 * command that ran, too: start it with NULL. Exit code, -ETIMEDOUT (it was killed), or another
 * negative errno with err, as from runtime_exec_start(). */
int runtime_exec_run(struct runtime *runtime, const struct runtime_exec_spec *spec, int timeout_ms,
	size_t max, struct err *err, char **ret_output);
