/*
 * The HTTPS server: HTTP/1.1 over TLS, carried by libwebsockets together with a struct loop on one
 * thread. It reads a request whole, within bounds, hands it over, and writes the answer. It knows
 * nothing of Azure.
 *
 * libwebsockets does TLS, polling and buffered writes; what HTTP is, request.c and response.c know.
 * Its own HTTP role is not used: it rewrites request targets (it folds "//" and "..", decodes %2f,
 * turns '+' into a blank), doesn't decode chunked bodies, waits for 100 MB behind a POST without a
 * length, and drops what is too large without a word.
 *
 * Bounds (all answered with a status and a closed connection): header 32 KiB (431), body max_body
 * (413), 10 s for the header and 60 s for the body (408), 120 s idle, max_connections in all (503),
 * one request at a time a connection. Requests with both Content-Length and Transfer-Encoding, two
 * Content-Lengths, or a bad chunk are refused with 400 (RFC 9112 §6). An answer of which nothing
 * can be written for 60 s ends its connection.
 */
#pragma once

#include "base/base.h"
#include "base/loop.h"

struct http_server;
struct http_exchange; /* one request and its answer */

struct http_header {
	const char *name;
	const char *value;
};

struct http_request {
	const char *method; /* "GET" */
	const char *path;   /* byte for byte as it was sent, without the query: "/a%2Fb//c/../d" */
	const char *query;  /* likewise, without '?'; "" when none */
	const char *body;   /* NUL-terminated; "" when none */
	size_t body_len;
	const char *peer; /* "127.0.0.1:43210" */
};

struct http_response {
	int status;
	const struct http_header *headers; /* borrowed for the call; Content-Length and Date are
					      added by the server */
	size_t n_headers;
	const char *body; /* borrowed for the call */
	size_t body_len;
};

struct http_server_config {
	const char *host;      /* numeric address */
	int port;	       /* 0: any; see http_server_port */
	const char *cert_file; /* PEM chain */
	const char *key_file;
	size_t max_body;
	size_t max_bodies; /* of all requests that are being read or handled, together; 0: 16 times
			      max_body */
	unsigned max_connections;
	/* Called on the server's thread with a complete request; must not block. Somebody must call
	 * http_exchange_respond() later, from any thread, exactly once. */
	void (*handle)(struct http_exchange *exchange, void *arg);
	void *arg;
	/* 0: as said above */
	int64_t header_timeout_ms;
	int64_t body_timeout_ms;
	int64_t idle_timeout_ms;
	int64_t write_timeout_ms;
};

/* Starts serving on the loop's thread: the server joins `loop` (the loop must be running through
 * http_server_run, which carries both). */
int http_server_new(struct loop *loop, const struct http_server_config *config, struct err *err,
	struct http_server **ret);
/* Runs libwebsockets and the loop until loop_stop(loop). Call it once, on the main thread. */
void http_server_run(struct http_server *server);
/* Not while it runs, and before the loop is freed. Exchanges that are still open stay valid:
 * respond to them as always. NULL is fine. */
void http_server_free(struct http_server *server);
int http_server_port(const struct http_server *server);

/* Valid from handle() until http_exchange_respond(), even when the peer has gone away. */
const struct http_request *http_exchange_request(const struct http_exchange *exchange);
/* The first field of that name, case-insensitive; NULL when absent. All that were sent can be asked
 * for. */
const char *http_exchange_header(const struct http_exchange *exchange, const char *name);
/* From any thread, exactly once; the exchange is gone afterwards. On the server's thread, also from
 * within handle(), the answer is written at once. */
void http_exchange_respond(struct http_exchange *exchange, const struct http_response *response);
