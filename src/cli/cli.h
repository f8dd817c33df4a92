/*
 * berth: the command line. A command is a row of the table in main.c: its words, its help, its
 * function. Each returns 0, or 1 after it printed what went wrong and what to do; wrong usage is 2.
 */
#pragma once

#include <stdio.h>

#include "base/base.h"
#include "base/json.h"
#include "main/config.h"

struct command {
	const char *name;
	const char *usage;   /* after "berth NAME" */
	const char *summary; /* one line */
	const char *help;    /* the rest of --help */
	int (*run)(int argc, char **argv);
};

int command_up(int argc, char **argv);
int command_down(int argc, char **argv);
int command_az(int argc, char **argv);
int command_image(int argc, char **argv);
int command_ps(int argc, char **argv);
int command_run(int argc, char **argv);
int command_show(int argc, char **argv);
int command_logs(int argc, char **argv);
int command_exec(int argc, char **argv);
int command_attach(int argc, char **argv);
int command_stop(int argc, char **argv);
int command_start(int argc, char **argv);
int command_restart(int argc, char **argv);
int command_rm(int argc, char **argv);
int command_events(int argc, char **argv);
int command_secret(int argc, char **argv);

#define DEFAULT_STATE "/var/lib/berth"

/* Text that strangers may have written: control characters, the two-byte ones of UTF-8 (U+0080 to
 * U+009F) as well, are shown and not sent to the terminal. */
void cli_print(FILE *out, const char *text);
/* Prints "berth: MESSAGE", returns 1. What a terminal would obey is escaped: parts of a message may
 * come out of a container. */
int cli_fail(const struct err *err);
/* For a wrong argument: says so and how to get help; returns 2. */
int cli_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* After getopt_long() has named the option that is wrong: how to get help; returns 2. */
int cli_wrong_option(const char *command);
/* 0 when argv ends at `at`; otherwise names the argument that is one too many and returns 2. */
int cli_no_more(const char *command, int argc, char **argv, int at);
/* How this program is to be called from a shell: "berth" when it is installed, else its path. Owned
 * by the caller. */
char *cli_self(void);
/* 0 when root; otherwise says that the command needs it and how. */
int cli_need_root(const char *command);

/* setup.c: what `berth up` makes before it starts anything. The config of the state directory, new
 * or as it was, with the options applied; *ret_changed tells whether a running Berth would have to
 * restart to see it. */
struct setup_options {
	const char *state;	     /* absolute */
	const char *listen;	     /* or NULL */
	const char *config_file;     /* or NULL */
	const char *const *settings; /* KEY=VALUE */
	size_t n_settings;
};

/* One `berth up` or `berth down` at a time: the lock of a state directory, held until the
 * descriptor is closed. */
int setup_lock(const char *state, struct err *err);
int setup_run(const struct setup_options *options, struct err *err, struct config **ret,
	bool *ret_changed);
/* Gives up the address pools of 100.64.0.0/10 that this state directory has. */
void setup_release_pool(const char *state);
/* uid and gid of the system user "berth", made if missing. */
int setup_user(struct err *err, uid_t *ret_uid, gid_t *ret_gid);

/* api.c: one signed-in request to this Berth's API. path begins with '/'; *ret is a new reference
 * or NULL for an empty body. Errors carry Azure's code and message. */
struct api;
int api_new(const char *state, struct err *err, struct api **ret);
void api_free(struct api *api);
DEFINE_CLEANUP(struct api *, api_free)
const char *api_subscription(const struct api *api);
/* The file with the authority that its certificate is of. */
const char *api_ca_file(const struct api *api);
int api_call(struct api *api, const char *method, const char *path, const json_t *body,
	struct err *err, json_t **ret);
