/* What sessions.c (the table, from the POST to the password) and relay.c (what runs afterwards)
 * share. */
#pragma once

#include "control/providers/containerinstance/sessions.h"
#include "http/websocket.h"
#include "link/stream.h"

struct pool;

/*
 * The relay of one session: a WebSocket on one side, a stream of the node on the other. All on the
 * loop's thread. It ends in one way: the WebSocket is closed.
 */
struct relay {
	struct loop *loop;
	struct websocket *websocket; /* borrowed; NULL once it has closed */
	enum session_protocol protocol;
	bool output_only; /* what the client says is dropped */
	int fd;		  /* of the stream; owned; -EBADF before and after */
	struct loop_source *source;
	uint32_t events;
	struct buf in;	 /* of the node, not yet passed on */
	struct buf out;	 /* for the node */
	bool full;	 /* the WebSocket's queue is: nothing is read from the node */
	bool node_deaf;	 /* writing to it failed: what is still to come is its status */
	char partial[4]; /* the beginning of a character whose end has not come yet */
	size_t partial_len;
};

void relay_init(struct relay *relay, struct loop *loop, struct websocket *websocket,
	enum session_protocol protocol);
/* The stream is there; fd is taken over. */
void relay_start(struct relay *relay, int fd);
/* There is none, and this is why. */
void relay_refuse(struct relay *relay, const struct err *err);
/* For the WebSocket's callbacks, once started. */
void relay_message(struct relay *relay, bool text, const char *data, size_t len);
void relay_drained(struct relay *relay);
void relay_done(struct relay *relay);

enum session_state {
	SESSION_GREETING, /* waits for its client, and then for the password */
	SESSION_OPENING,  /* the stream is asked for on another thread */
	SESSION_RELAYING,
	SESSION_ENDED,
};

struct session {
	struct sessions *sessions;
	struct session *next;
	/* Under the lock of sessions. Once nobody waits any more, everything below is the loop's
	 * thread's. */
	bool waiting; /* for its client */
	enum session_state state;
	enum session_protocol protocol;
	char id[UUID_STR_MAX];
	char password[SESSION_PASSWORD_MAX];
	char *node, *container, *method;
	json_t *args;
	int64_t expires_ms;
	struct loop_timer *timer; /* the end of the wait for the password */
	struct relay relay;
	/* What opening came to: the other thread's until it posts. */
	int opened_fd;
	struct err opened_err;
};
