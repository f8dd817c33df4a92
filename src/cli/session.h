/*
 * A session with a container: the WebSocket that exec and attach hand out, between this process's
 * standard streams. Channels are those of docs/exec.md.
 */
#pragma once

#include "cli/group.h"

struct session_options {
	const char *container; /* name; NULL: the group's only one */
	bool input;	       /* pass standard input on */
	bool terminal;	       /* standard input is one, and becomes raw */
	bool stderr_as_stdout;
};

/* The container's name: the one that is asked for, or the group's only one. Owned by the caller.
 * With `first`, the first of several does as well. */
int session_container(struct api *api, const struct group_options *o, const char *name, bool first,
	struct err *err, char **ret);
/* POSTs what ("exec", "attach") with body, and is the session until it ends. The command's exit
 * code, or a negative errno with err; -ENOEXEC when it could not be started. */
int session_run(struct api *api, const struct group_options *o, const char *what,
	const json_t *body, const struct session_options *options, struct err *err);
