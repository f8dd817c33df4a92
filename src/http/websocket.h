/*
 * WebSockets of the server (RFC 6455): an exchange that becomes a channel of messages both ways.
 *
 * Everything here happens on the server's thread: all calls, and all callbacks. A websocket is its
 * connection's; it lives until closed() was called, exactly once and last, also when the server is
 * freed. No callback runs inside a call, so whoever holds one may send and close wherever it is;
 * but for message(), which websocket_pause(…, false) gives what had come meanwhile.
 *
 * Backpressure goes both ways. What was sent waits in a bounded queue: from some point on
 * websocket_send() says so, and drained() says when to go on. websocket_pause() stops reading, and
 * with it the peer, after at most some 100 KiB.
 *
 * Bounds: max_message over all fragments (1009), 1 MiB of queue, 5 s for the closing handshake, an
 * hour for a peer that takes nothing of the queue. A machine that vanished is noticed by the
 * kernel's keep-alive after two minutes, whatever else; an idle peer that is there may stay for
 * ever.
 */
#pragma once

#include "http/server.h"
#include "http/websocket_frame.h"

struct websocket;

struct websocket_ops {
	/* data is NUL-terminated and borrowed; valid UTF-8 when it is text. Not after
	 * websocket_close(). */
	void (*message)(
		struct websocket *websocket, bool text, const char *data, size_t len, void *arg);
	/* The queue is short again, after websocket_send() had said 1. */
	void (*drained)(struct websocket *websocket, void *arg);
	/* The peer's code, our own, or WEBSOCKET_CLOSE_LOST. The websocket is gone afterwards. */
	void (*closed)(struct websocket *websocket, int code, void *arg);
};

struct websocket_config {
	const struct websocket_ops *ops;
	void *arg;
	size_t max_message;
	/* "127.0.0.1:8443": the name of this server. A Host that is another name is refused (DNS
	 * rebinding; "localhost" and addresses with our port are fine), as is an Origin that is
	 * neither this nor the Host. */
	const char *authority;
	/* A subprotocol that is agreed on when the client asks for it; may be NULL. */
	const char *protocol;
};

/* From within http_server_config.handle only. Takes the exchange over in any case: NULL when the
 * request wasn't one for a WebSocket of ours, and was answered with 400, 403, 405 or 426. */
struct websocket *websocket_accept(
	struct http_exchange *exchange, const struct websocket_config *config);

bool websocket_has_protocol(const struct websocket *websocket);

/* Queues a message; text must be valid UTF-8. 0; 1 when it was taken but the next one should wait
 * for drained(); -ENOBUFS when it wasn't taken, because nobody waited; -EPIPE once it is closing.
 */
int websocket_send(struct websocket *websocket, bool text, const void *data, size_t len);
/* message() isn't called until it is resumed, but for one that is just being given. */
void websocket_pause(struct websocket *websocket, bool paused);
/* Sends what is queued, then the code; closed() follows. Only the first call counts. */
void websocket_close(struct websocket *websocket, int code, const char *reason);
/* Pings a peer that has been silent for ping_ms, and again; one that stays silent for lost_ms is
 * lost. Somebody who looks at a page of output answers no ping, so lost_ms is no short time.
 * 0, as at first: never. */
void websocket_set_ping(struct websocket *websocket, int64_t ping_ms, int64_t lost_ms);
