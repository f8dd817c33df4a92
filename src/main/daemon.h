/* What both daemons do alike: options, signals, the file with their pid. */
#pragma once

#include "base/loop.h"
#include "main/config.h"

/* Reads --state (and --help, --version: prints and returns 1), loads the configuration, starts the
 * log. 0, 1, or negative after the error was printed. */
int daemon_start(
	int argc, char **argv, const char *program, const char *summary, struct config **ret);
/* Takes a word such as --remove-groups out of argv; true when it was there. */
bool daemon_take_flag(int *argc, char **argv, const char *flag);

/* Stops the loop on SIGTERM and SIGINT; SIGPIPE is ignored. Call it before any thread is made. */
int daemon_signals(struct loop *loop, struct err *err);

/* STATE/run/NAME.pid: "PID STARTTIME", both needed to name a process for good. Written by whoever
 * started it. Nothing is written when it has ended already. */
int daemon_write_pid(const char *state, const char *name, int pid, struct err *err);
/* The pid, or -ESRCH when no such process runs. */
int daemon_pid(const char *state, const char *name);
