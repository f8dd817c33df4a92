/*
 * WebSocket frames (RFC 6455 §5), read out of bytes as they come and written into a buffer. It
 * knows no socket and no clock; the server, the client of `berth exec` and the fuzzer feed it.
 *
 * A framing of our own and not libwebsockets': its WebSocket role begins inside its HTTP role,
 * which this server doesn't use (server.h says why). Getting there would take a second vhost and a
 * pair of sockets for each session, with bytes copied and held back on both; this is one switch.
 *
 * Strict: no extension (reserved bits are zero), frames of a client are masked and those of a
 * server aren't, lengths in their shortest form, control frames whole and at most 125 bytes, text
 * and reasons valid UTF-8, close codes that may be sent. A message has a bound over all its
 * fragments, so what a peer announces costs no memory before it has come.
 */
#pragma once

#include "base/base.h"

#define WEBSOCKET_HEAD_MAX 14
#define WEBSOCKET_CONTROL_MAX 125

/* Codes of §7.4.1 that are used here. */
#define WEBSOCKET_CLOSE_NORMAL 1000
#define WEBSOCKET_CLOSE_AWAY 1001
#define WEBSOCKET_CLOSE_PROTOCOL 1002
#define WEBSOCKET_CLOSE_NONE 1005 /* the peer's close frame had none; never sent */
#define WEBSOCKET_CLOSE_LOST 1006 /* there was no close frame; never sent */
#define WEBSOCKET_CLOSE_TEXT 1007 /* what should be UTF-8 isn't */
#define WEBSOCKET_CLOSE_POLICY 1008
#define WEBSOCKET_CLOSE_TOO_LARGE 1009
#define WEBSOCKET_CLOSE_FAILED 1011

enum websocket_opcode {
	WEBSOCKET_CONTINUATION = 0,
	WEBSOCKET_TEXT = 1,
	WEBSOCKET_BINARY = 2,
	WEBSOCKET_CLOSE = 8,
	WEBSOCKET_PING = 9,
	WEBSOCKET_PONG = 10,
};

enum websocket_event_type {
	WEBSOCKET_EVENT_NONE, /* more bytes are needed */
	WEBSOCKET_EVENT_TEXT, /* a whole message, its fragments put together */
	WEBSOCKET_EVENT_BINARY,
	WEBSOCKET_EVENT_PING,
	WEBSOCKET_EVENT_PONG,
	WEBSOCKET_EVENT_CLOSE,	/* code, and data is the reason */
	WEBSOCKET_EVENT_FAILED, /* code to close with, and data says why; nothing can follow */
};

struct websocket_event {
	enum websocket_event_type type;
	const char *data; /* borrowed until the next call; never NULL */
	size_t len;
	int code;
};

struct websocket_reader {
	bool masked; /* whether the peer's frames are: true at the server */
	bool failed;
	bool in_payload;
	unsigned char head[WEBSOCKET_HEAD_MAX];
	size_t head_len;
	uint64_t remain; /* of the frame's payload */
	size_t mask_at;
	unsigned char message_opcode; /* of the fragments so far; 0 when there are none */
	bool message_given;	      /* to be cleared at the next call */
	struct buf message;
	char control[WEBSOCKET_CONTROL_MAX + 1];
	size_t control_len;
};

void websocket_reader_init(struct websocket_reader *reader, bool masked, size_t max_message);
void websocket_reader_done(struct websocket_reader *reader);
/* Reads up to the end of the first event and returns how many bytes that took: all of them when the
 * event is NONE. After FAILED nothing is read any more. */
size_t websocket_read(
	struct websocket_reader *reader, const void *data, size_t len, struct websocket_event *ret);

/* Appends one whole frame. masked: as a client must, with a random key. -EFBIG, and out as it was,
 * when there is no room. */
int websocket_pack(
	struct buf *out, enum websocket_opcode opcode, bool masked, const void *data, size_t len);
/* Likewise a close frame; a reason that is too long is cut at a character. */
int websocket_pack_close(struct buf *out, bool masked, int code, const char *reason);

/* The value of Sec-WebSocket-Accept for a key (§4.2.2); owned by the caller. */
char *websocket_accept_key(const char *key);
/* Whether it is 16 bytes in base64. */
bool websocket_key_is_valid(const char *key);
