/*
 * The inside of the server, shared by server.c (listening, answers of other threads, libwebsockets)
 * and connection.c (what happens on one connection).
 *
 * A connection is a raw TLS socket of libwebsockets. It reads one request into an exchange, lends
 * the exchange to the handler, writes the answer, and begins again. Bytes that come meanwhile wait
 * in `pending`. An exchange outlives its connection when the peer goes away before the answer, and
 * outlives the server when that is freed first.
 *
 * A handler may turn an exchange into a WebSocket (websocket.c): the connection leaves HTTP for
 * good then, and what it reads are frames.
 */
#pragma once

#include <libwebsockets.h>
#include <pthread.h>

#include "base/base.h"
#include "base/loop.h"
#include "http/request.h"
#include "http/response.h"
#include "http/server.h"

/* Answers on their way to the server's thread. It has a life of its own, because exchanges may be
 * answered after the server was freed. */
struct answers {
	pthread_mutex_t lock;
	int wake_fd; /* an eventfd that libwebsockets polls and owns; -EBADF before and after */
	bool closed; /* the server is gone */
	unsigned refs;
	bool thread_known;
	pthread_t thread; /* the server's, while it runs */
	struct http_exchange *first;
	struct http_exchange **tail;
};

enum connection_state {
	CONNECTION_READING,
	CONNECTION_BUSY, /* the handler has the exchange */
	CONNECTION_WRITING,
	CONNECTION_WEBSOCKET,
	CONNECTION_LINGERING, /* answered for the last time, see connection_linger() */
};

/* What the deadline is for while reading. */
enum connection_phase { PHASE_IDLE, PHASE_HEAD, PHASE_BODY };

struct connection {
	struct http_server *server;
	struct connection *prev;
	struct connection *next;
	struct lws *wsi;
	enum connection_state state;
	enum connection_phase phase;
	bool secured;			/* the TLS handshake is over */
	bool adopting;			/* libwebsockets is just being given the socket */
	bool surplus;			/* one too many: its first request is answered with 503 */
	bool processing;		/* connection_process() is on the stack */
	bool paused;			/* no reading: enough is pending */
	bool broken;			/* to be closed at the next chance */
	int64_t deadline_ms;		/* of the monotonic clock; 0: none */
	struct http_exchange *exchange; /* NULL between requests and once answered */
	struct websocket *websocket;	/* in the state of that name */
	size_t body_bytes;		/* its part of the server's */
	struct buf pending;
	struct response out;
	size_t out_sent;
	char peer[INET6_ADDRSTRLEN + 10];
};

struct http_exchange {
	struct connection
		*connection; /* NULL when the peer is gone; for the server's thread only */
	struct answers *answers;
	struct http_exchange *next; /* in answers */
	struct request request;
	struct http_request view;
	struct response response;
	char peer[INET6_ADDRSTRLEN + 10];
};

/* Something that libwebsockets polls on our behalf. */
struct carried {
	void (*ready)(struct http_server *server);
	struct http_server *server;
};

struct http_server {
	struct http_server_config config;
	struct loop *loop;
	struct lws_context *context;
	struct lws_vhost *vhost;
	struct answers *answers;
	struct carried carried_loop;
	struct carried carried_answers;
	struct carried carried_listener;
	struct lws *listener_wsi;
	int listener_fd; /* owned by listener_wsi */
	int port;
	bool stopped;
	int64_t sweep_ms;
	struct connection *connections;
	unsigned n_connections;
	size_t body_bytes; /* of the requests of all connections */
	struct loop_timer *sweep;
	struct loop_timer *accept_again;
};

/* Takes over an accepted socket. */
void connection_open(struct http_server *server, int fd, const char *peer, bool surplus);
/* Ends those whose deadline has passed. */
void connections_sweep(struct http_server *server);
/* What libwebsockets calls for a connection's socket. */
int connection_callback(
	struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);
/* exchange->response is ready: to be written if the peer is still there. Frees the exchange. */
void exchange_deliver(struct http_exchange *exchange);

/* For websocket.c. */

/* Takes the connection out of HTTP; the exchange is gone. */
struct connection *connection_upgrade(struct http_exchange *exchange, struct websocket *websocket);
/* Writes off the front of out what the socket takes; true when nothing is left anywhere. */
bool connection_write_from(struct connection *connection, struct buf *out);
/* Reads on what was left because the websocket was paused. */
void connection_resume(struct connection *connection);
/* Ends it without ado, but not right here. */
void connection_break(struct connection *connection);
/* Ends it once the peer has read everything. */
void connection_linger(struct connection *connection);

/* Of websocket.c. */

/* Returns how much was used: all, unless it is paused. */
size_t websocket_feed(struct websocket *websocket, const char *data, size_t len);
/* May end with connection->websocket gone. */
void websocket_writable(struct websocket *websocket);
void websocket_tick(struct websocket *websocket, int64_t now_ms);
/* The connection is going away. Frees it. */
void websocket_lost(struct websocket *websocket);

struct answers *answers_ref(struct answers *answers);
void answers_unref(struct answers *answers);
