/*
 * Sessions: what exec and attach hand out, and what becomes of it. A POST makes a session: a path
 * (/streams/<id>) and a password, for one use within a minute. Whoever opens a WebSocket there and
 * says the password first is connected with a stream of the node that runs the container; what
 * comes on one is passed on to the other, with backpressure both ways, on the server's thread
 * alone.
 *
 * docs/exec.md has the protocols. A session that was used up, expired or never existed looks the
 * same from outside. Passwords are compared in constant time, wiped, and never logged; a wrong one
 * ends its session.
 *
 * A reader that stops reading fills the WebSocket's queue and then the stream's socket, and what
 * happens then is the node's business: it lets a command wait, and never a container or its log.
 */
#pragma once

#include <jansson.h>

#include "base/base.h"
#include "base/loop.h"
#include "base/random.h"
#include "http/server.h"

#define SESSION_PASSWORD_MAX 64
/* A path and the subprotocol that a client may ask for. */
#define SESSION_PATH "/streams/"
#define SESSION_SUBPROTOCOL "v5.channel.k8s.io"

struct sessions;

struct sessions_config {
	struct loop *loop;     /* the one that the HTTP server carries */
	const char *authority; /* of the API: "127.0.0.1:8443"; borrowed */
	/* Opens a node's stream, as link_server_stream(). Blocking, on a thread of sessions' own.
	 * Takes over args. */
	int (*open)(void *arg, const char *node, const char *method, json_t *args, struct err *err,
		int *ret_fd);
	void *arg;
	/* 0: 60 s, 256, 32 */
	int64_t expire_ms;
	unsigned max;
	unsigned max_per_container;
};

struct sessions *sessions_new(const struct sessions_config *config, struct err *err);
/* After the HTTP server was freed, before the loop is. NULL is fine. */
void sessions_free(struct sessions *sessions);

enum session_protocol {
	SESSION_TERMINAL, /* ACI's: raw bytes to the terminal, text of it */
	SESSION_CHANNELS, /* Kubernetes' */
	SESSION_OUTPUT,	  /* text to the client and nothing back */
};

struct session_spec {
	enum session_protocol protocol;
	const char *node;
	const char *container; /* "<uid>/<name>": what the bound is for */
	const char *method;    /* "exec" or "follow" */
	json_t *args;	       /* a reference is taken */
};

/* From any thread. Code "TooManyRequests" at the bounds. */
int sessions_create(struct sessions *sessions, const struct session_spec *spec, struct err *err,
	char ret_id[UUID_STR_MAX], char ret_password[SESSION_PASSWORD_MAX]);

/* From within http_server_config.handle: whether the exchange is for a session; it is taken over
 * then. */
bool sessions_handle(struct sessions *sessions, struct http_exchange *exchange);
