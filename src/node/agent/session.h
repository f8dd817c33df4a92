/*
 * What somebody does with a running container over a stream of its own: exec, and following a log.
 * Each session has a thread; how many a group and the node may have is bounded. The table belongs
 * to the loop's thread, which tells each session a few times a second how its container is; a
 * session touches nothing of the group itself, and may outlive it.
 */
#pragma once

#include <stdatomic.h>

#include "node/agent/group.h"

#define SESSIONS_NODE_MAX 256
#define SESSIONS_GROUP_MAX 32

struct sessions;

/* Everything is borrowed. */
struct sessions *sessions_new(struct agent *agent, struct link_client *link);
/* Ends all of them and waits; when the loop has ended. NULL is fine. */
void sessions_free(struct sessions *sessions);
/* Answers the request `exec` or `follow`. False when it's another one. Loop's thread. */
bool sessions_request(
	struct sessions *sessions, int64_t id, const char *method, const json_t *args);

/* --- for exec.c and follow.c of this folder --- */

enum session_view {
	SESSION_GOING, /* the container runs, or will */
	SESSION_ENDED, /* it has ended for good, or was stopped */
	SESSION_GONE,  /* there is no such container any more */
};

struct session {
	struct sessions *sessions;
	struct agent *agent;
	struct link_client *link;
	int64_t request;
	char uid[UUID_STR_MAX], container[64];
	char run_id[160]; /* of the run at the beginning */
	char *dir;	  /* container_dir() */
	json_t *args;
	void (*job)(struct session *session);
	int wake_fd; /* eventfd: the view changed, or the session must end */

	/* Set by the loop's thread, in this order. */
	atomic_int exit_code;
	atomic_uint run;
	_Atomic enum session_view view;

	atomic_bool done;
	struct session *next;
};

void session_exec(struct session *session);
void session_follow(struct session *session);
/* Refuses the request. */
void session_refuse(const struct session *session, const struct err *err);
/* {"exitCode"}, or {"error"} with err. */
int session_status(struct buf *out, int exit_code, const struct err *err);
/* One read or write of a non-blocking stream: 0, or -EPIPE when the peer has gone. */
int session_receive(int fd, struct buf *in);
int session_send(int fd, struct buf *out);
