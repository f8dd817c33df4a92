/*
 * A WebSocket's other end, for the command line: one thread, one connection, TLS with the server's
 * certificate checked. Opening blocks; afterwards nothing does, and the caller polls. Pings are
 * answered and the closing handshake is done by itself.
 */
#pragma once

#include "base/base.h"
#include "http/websocket_frame.h"

struct websocket_client;

struct websocket_client_config {
	const char *url;      /* "wss://host:port/path?query" */
	const char *ca_file;  /* PEM; NULL: the system's */
	const char *protocol; /* a subprotocol that the server must agree to; NULL: none */
	size_t max_message;
};

/* Codes as of http/client.h; a refusal has the server's own words. */
int websocket_client_open(const struct websocket_client_config *config, struct err *err,
	struct websocket_client **ret);
void websocket_client_free(struct websocket_client *client);
DEFINE_CLEANUP(struct websocket_client *, websocket_client_free)
int websocket_client_fd(const struct websocket_client *client);

/* 1 and a message (TEXT, BINARY) or the end (CLOSE, also when the server was at fault); 0: poll for
 * POLLIN. Call it until it says 0 before polling. After CLOSE there is nothing more. */
int websocket_client_receive(
	struct websocket_client *client, struct err *err, struct websocket_event *ret);
/* Queues a message. Nobody is told when there is no room for it (64 MiB): look at
 * websocket_client_queued() before reading more to send. */
void websocket_client_send(
	struct websocket_client *client, bool text, const void *data, size_t len);
size_t websocket_client_queued(const struct websocket_client *client);
/* Writes what goes; 1: poll for POLLOUT and call it again. */
int websocket_client_flush(struct websocket_client *client, struct err *err);
