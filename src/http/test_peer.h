/* For the tests of this folder: a server on loopback with certificates of its own, and a client
 * that speaks TLS and otherwise says whatever it is told to. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <openssl/ssl.h>
#include <pthread.h>

#include "base/base.h"
#include "base/loop.h"
#include "base/pool.h"
#include "http/server.h"
#include "http/websocket.h"

/* Certificates in a temporary directory; for cmocka's group set-up and tear-down. */
int certs_setup(void **state);
int certs_teardown(void **state);
const char *certs_ca(void); /* path */

struct test_server {
	struct loop *loop;
	struct http_server *server;
	struct pool *pool;
	pthread_t thread;
	int port;
	/* Exchanges for /hold, to be answered with test_release(). */
	pthread_mutex_t lock;
	struct http_exchange *held[8];
	unsigned n_held;
	unsigned n_handled;
	struct websocket_config websocket; /* for /socket */
};

/* The handler answers 200 with "METHOD PATH ?QUERY =BODY" as text, but
 *   /pool…      does so from a thread of a pool
 *   /hold…      not before test_release()
 *   /big        with as many 'x' as the query says
 *   /header     with the value of the header that the query names, or 404
 *   /socket     becomes a WebSocket, with server->websocket
 *   /status     with the status that the query says
 * config may be NULL; host, files and handler are filled in. */
void test_server_start(struct test_server *server, const struct http_server_config *config);
void test_server_stop(struct test_server *server);
/* Stops serving, but doesn't free the server. */
void test_server_halt(struct test_server *server);
void test_await_held(struct test_server *server, unsigned n);
struct http_exchange *test_held(struct test_server *server, unsigned i);
void test_release(struct test_server *server, unsigned i);

struct peer {
	int fd;
	SSL *tls;
	struct buf in;
};

void peer_open(struct peer *peer, int port);
void peer_send(struct peer *peer, const char *text);
void peer_send_bytes(struct peer *peer, const void *data, size_t len);
/* Reads some bytes into peer->in; false at the end. */
bool peer_fill(struct peer *peer);
/* Reads one response, without a body if head_only. Returns its status, 0 when the connection ended
 * first. The head goes to ret_head, the body to ret_body: owned by the caller, either may be NULL.
 */
int peer_read(struct peer *peer, bool head_only, char **ret_head, char **ret_body);
/* Reads one response and wants this. */
void peer_expect(struct peer *peer, int status, const char *body);
/* Waits up to two seconds for the end of the connection. */
bool peer_at_end(struct peer *peer);
void peer_close(struct peer *peer);
