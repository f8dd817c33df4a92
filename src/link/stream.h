/*
 * What runs over a stream of the link when it is more than raw bytes: both ways, several channels.
 * A packet is one byte of channel, three bytes of length (big-endian, at most 64 KiB) and the
 * payload. Channel numbers and payloads are those of Kubernetes' v5.channel.k8s.io, so that a
 * WebSocket that speaks it can be passed on packet by packet.
 *
 * Methods that use it: `exec` {uid, container, command: […], terminal, stdin, rows, cols} and
 * `follow` {uid, container, tail, timestamps}: tail -1 is everything, 0 only what comes from now
 * on.
 */
#pragma once

#include "base/base.h"

#define STREAM_PAYLOAD_MAX ((size_t)64 << 10)

enum stream_channel {
	STREAM_STDIN = 0,   /* control → node */
	STREAM_STDOUT = 1,  /* node → control */
	STREAM_STDERR = 2,  /* node → control */
	STREAM_STATUS = 3,  /* node → control, the last packet: {"exitCode": 0}, or
			       {"error": {"code", "message"}} */
	STREAM_RESIZE = 4,  /* control → node: {"Width": 80, "Height": 24} */
	STREAM_CLOSE = 255, /* control → node: payload is one byte, the channel that has ended */
};

struct stream_packet {
	uint8_t channel;
	const char *data; /* borrowed from the buffer */
	size_t len;
};

/* Appends one packet. len at most STREAM_PAYLOAD_MAX. */
int stream_pack(struct buf *out, enum stream_channel channel, const void *data, size_t len);
/* Takes the first packet of what was received: 1, and buf_consume(in, *ret_size) when done with it;
 * 0: more bytes are needed; -EPROTO. */
int stream_unpack(const struct buf *in, struct stream_packet *ret, size_t *ret_size);
