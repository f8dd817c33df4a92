/*
 * Child processes, started the one safe way: no shell, an environment that is given and not
 * inherited, descriptors 0-2 plus those listed, umask 0077, default signals, its own session if
 * asked.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/base.h"

struct proc_spec {
	const char *const *argv; /* argv[0] is an absolute path */
	const char *const *envp; /* NULL: PATH and LC_ALL=C.UTF-8 only */
	const char *cwd;	 /* NULL: "/" */
	int stdin_fd;		 /* -1: /dev/null. Borrowed, as are all others */
	int stdout_fd;		 /* -1: /dev/null */
	int stderr_fd;		 /* -1: /dev/null */
	const int *fds; /* n_fds descriptors that the child gets as 3, 4, … in this order */
	size_t n_fds;
	bool new_session;
	bool die_with_parent; /* PDEATHSIG=SIGKILL, bound to the *thread* that spawns */
	/* Runs in the child before exec, for namespaces and ids. Only async-signal-safe calls. A
	 * negative errno makes proc_spawn fail with it. May be NULL. */
	int (*setup)(void *arg);
	void *setup_arg;
};

#define PROC_SPEC_INIT ((struct proc_spec){.stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1})

struct proc {
	pid_t pid;
	int pidfd; /* owned; readable when the process has ended */
};

/* Returns 0 when the program was executed; a missing program or a failed setup is reported here. */
int proc_spawn(const struct proc_spec *spec, struct err *err, struct proc *ret);

/* Waits up to timeout_ms (-1: for ever). Returns the exit code, 128+signal, or -ETIMEDOUT. After
 * any other result than -ETIMEDOUT proc is done: pidfd closed, pid 0. */
int proc_wait(struct proc *proc, int timeout_ms);

/* SIGKILL and reap, if it is still there. */
void proc_kill(struct proc *proc);

/* Runs a program to its end and gives its standard output and error together (at most max bytes,
 * NUL-terminated, the rest is read and dropped). Kills it at the deadline: -ETIMEDOUT. Returns the
 * exit code. output may be NULL. */
int proc_run(
	const char *const *argv, int timeout_ms, size_t max, char **ret_output, struct err *err);

/* Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat): with the pid it
 * names a process for good. 0 or -errno (-ENOENT: gone, or a zombie). */
int proc_start_time(pid_t pid, uint64_t *ret_ticks);

/* Reaps a child that nobody waits for, if this is it and it has ended. */
void proc_reap_ended(pid_t pid, uint64_t start_ticks);

/* In a child before exec: default actions for all signals, none blocked. Async-signal-safe. */
void proc_reset_signals(void);

/* The path of a program that lies beside this one; owned by the caller. */
char *proc_sibling(const char *name);
