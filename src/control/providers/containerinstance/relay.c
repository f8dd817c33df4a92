#include <sys/socket.h>

#include "base/json.h"
#include "control/providers/containerinstance/session.h"

#define READ_MAX (STREAM_PAYLOAD_MAX + 4)
#define TO_NODE_MAX ((size_t)512 << 10)
#define TO_NODE_HIGH ((size_t)128 << 10)
#define TO_NODE_LOW ((size_t)32 << 10)
#define PING_MS 30000
#define LOST_MS ((int64_t)3600 * 1000)
#define STATUS_MAX ((size_t)16 << 10)

static void relay_event(int fd, uint32_t events, void *arg);

void relay_init(struct relay *relay, struct loop *loop, struct websocket *websocket,
	enum session_protocol protocol)
{
	*relay = (struct relay){.loop = loop,
		.websocket = websocket,
		.protocol = protocol,
		.fd = -EBADF,
		.in = BUF_MAX(2 * READ_MAX),
		.out = BUF_MAX(TO_NODE_MAX)};
	/* Older clients that sit at a terminal (az before 2.30) read a ping and then no key until
	 * there is output: they are left alone. Those that know binary messages know pings. */
	if (protocol != SESSION_TERMINAL)
		websocket_set_ping(websocket, PING_MS, LOST_MS);
}

static void stream_close(struct relay *relay)
{
	loop_remove(take_ptr(relay->source));
	relay->fd = fd_close(relay->fd);
	buf_done(&relay->in);
	buf_done(&relay->out);
}

void relay_done(struct relay *relay)
{
	stream_close(relay);
	relay->websocket = NULL;
}

/* With no events wanted the source is taken out: a hang-up is reported in any case, for ever. */
static void want(struct relay *relay, uint32_t events)
{
	if (relay->fd < 0 || events == relay->events)
		return;
	relay->events = events;
	if (events == 0)
		loop_remove(take_ptr(relay->source));
	else if (relay->source)
		loop_modify(relay->source, events);
	else
		relay->source = loop_add(relay->loop, relay->fd, events, relay_event, relay);
}

static void update_wants(struct relay *relay)
{
	bool writes = relay->out.len > 0 && !relay->node_deaf;

	want(relay, (relay->full ? 0u : EPOLLIN) | (writes ? EPOLLOUT : 0u));
}

/* The end of the session, whoever wants it. The node sees its stream end. */
static void finish(struct relay *relay, int code, const char *reason)
{
	stream_close(relay);
	websocket_close(relay->websocket, code, reason);
}

/* To the client. */

static void send_message(struct relay *relay, bool text, const char *data, size_t len)
{
	int r = websocket_send(relay->websocket, text, data, len);

	if (r == 1)
		relay->full = true;
	else if (r == -ENOBUFS)
		finish(relay, WEBSOCKET_CLOSE_POLICY, "The client reads too slowly.");
}

/* An empty message is an end for some clients. */
static void send_text(struct relay *relay, const char *data, size_t len, bool at_end)
{
	_cleanup_buf_ struct buf whole = BUF_MAX(STREAM_PAYLOAD_MAX + sizeof(relay->partial));
	_cleanup_buf_ struct buf text = BUF_MAX(4 * STREAM_PAYLOAD_MAX);
	size_t keep;

	if (buf_add(&whole, relay->partial, relay->partial_len) < 0 ||
		buf_add(&whole, data, len) < 0)
		return;
	keep = at_end ? 0 : str_utf8_partial(whole.data, whole.len);
	memcpy(relay->partial, whole.data + whole.len - keep, keep);
	relay->partial_len = keep;
	if (str_utf8_add(&text, whole.data, whole.len - keep) == 0 && text.len > 0)
		send_message(relay, true, text.data, text.len);
}

static void send_channel(struct relay *relay, uint8_t channel, const char *data, size_t len)
{
	_cleanup_buf_ struct buf message = BUF_MAX(STREAM_PAYLOAD_MAX + 1);

	if (buf_addc(&message, (char)channel) == 0 && buf_add(&message, data, len) == 0)
		send_message(relay, false, message.data, message.len);
}

/* The words of a refusal go to where the output would have gone: ACI's clients show nothing else.
 */
static void send_refusal(struct relay *relay, const char *code, const char *message)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ json_t *status = NULL;
	_cleanup_free_ char *words = str_utf8_clean(message, strlen(message));

	if (relay->protocol == SESSION_CHANNELS) {
		status = json_pack("{s:{s:s, s:s}}", "error", "code", code, "message", words);
		text = json_text(status);
		send_channel(relay, STREAM_STATUS, text, strlen(text));
	} else {
		send_text(relay, "", 0, true);
		text = xasprintf("%s\r\n", words);
		send_message(relay, true, text, strlen(text));
	}
	finish(relay, WEBSOCKET_CLOSE_FAILED, words);
}

void relay_refuse(struct relay *relay, const struct err *err)
{
	send_refusal(relay, err->code, err->message);
}

static void handle_status(struct relay *relay, const struct stream_packet *packet)
{
	_cleanup_json_ json_t *status = NULL;
	const json_t *error;

	if (packet->len > STATUS_MAX ||
		json_parse(packet->data, packet->len, 4, NULL, &status) < 0) {
		send_refusal(
			relay, "NodeUnavailable", "The node sent a result that can't be read.");
		return;
	}
	error = json_get_obj(status, "error");
	if (error) {
		send_refusal(relay, json_get_str(error, "code", "InternalError"),
			json_get_str(error, "message", "The command could not be run."));
		return;
	}
	if (relay->protocol == SESSION_CHANNELS)
		send_channel(relay, STREAM_STATUS, packet->data, packet->len);
	else
		send_text(relay, "", 0, true);
	finish(relay, WEBSOCKET_CLOSE_NORMAL, "");
}

static void handle_packet(struct relay *relay, const struct stream_packet *packet)
{
	if (packet->channel == STREAM_STATUS)
		handle_status(relay, packet);
	else if (packet->channel != STREAM_STDOUT && packet->channel != STREAM_STDERR)
		return;
	else if (relay->protocol == SESSION_CHANNELS)
		send_channel(relay, packet->channel, packet->data, packet->len);
	else
		send_text(relay, packet->data, packet->len, false);
}

/* Passes on what was received, as far as the client's queue allows. */
static int pass_packets(struct relay *relay)
{
	while (!relay->full && relay->fd >= 0) {
		struct stream_packet packet;
		size_t size;
		int r = stream_unpack(&relay->in, &packet, &size);

		if (r <= 0)
			return r;
		handle_packet(relay, &packet);
		if (relay->fd >= 0)
			buf_consume(&relay->in, size);
	}
	return 0;
}

static void read_node(struct relay *relay)
{
	ssize_t n = buf_read(&relay->in, relay->fd, READ_MAX);
	int r = pass_packets(relay);

	if (relay->fd < 0 || n == -EAGAIN)
		return;
	if (r < 0)
		send_refusal(relay, "NodeUnavailable", "The node sent what can't be read.");
	else if (n <= 0 && !relay->full)
		send_refusal(relay, "NodeUnavailable",
			"The connection to the node ended before the result came.");
}

void relay_drained(struct relay *relay)
{
	relay->full = false;
	if (relay->fd < 0)
		return;
	if (pass_packets(relay) < 0)
		send_refusal(relay, "NodeUnavailable", "The node sent what can't be read.");
	update_wants(relay);
}

/* To the node. */

static void write_node(struct relay *relay)
{
	struct buf *out = &relay->out;

	while (out->len > 0 && !relay->node_deaf) {
		ssize_t n = send(relay->fd, out->data, out->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			relay->node_deaf = true;
		else
			buf_consume(out, (size_t)n);
	}
	if (relay->node_deaf)
		buf_done(out);
	if (out->len >= TO_NODE_HIGH)
		websocket_pause(relay->websocket, true);
	else if (out->len <= TO_NODE_LOW)
		websocket_pause(relay->websocket, false);
}

static void relay_event(int fd, uint32_t events, void *arg)
{
	struct relay *relay = arg;

	if (events & EPOLLOUT)
		write_node(relay);
	if (relay->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !relay->full)
		read_node(relay);
	update_wants(relay);
}

static void send_node(
	struct relay *relay, enum stream_channel channel, const char *data, size_t len)
{
	if (relay->node_deaf || stream_pack(&relay->out, channel, data, len) < 0)
		return;
	write_node(relay);
	update_wants(relay);
}

static void forward_resize(struct relay *relay, const char *data, size_t len)
{
	_cleanup_json_ json_t *size = NULL;
	_cleanup_free_ char *text = NULL;
	int64_t width, height;

	if (len > 256 || json_parse(data, len, 2, NULL, &size) < 0)
		return;
	width = json_get_int(size, "Width", 0);
	height = json_get_int(size, "Height", 0);
	if (width < 1 || width > UINT16_MAX || height < 1 || height > UINT16_MAX)
		return;
	json_decref(size);
	size = json_pack("{s:I, s:I}", "Width", width, "Height", height);
	text = json_text(size);
	send_node(relay, STREAM_RESIZE, text, strlen(text));
}

/* Nothing of a client reaches the node but what is known to mean something there. */
static void forward_channel(struct relay *relay, const char *data, size_t len)
{
	uint8_t channel = len > 0 ? (uint8_t)data[0] : STREAM_STDIN;

	if (channel == STREAM_STDIN && len > 1)
		send_node(relay, STREAM_STDIN, data + 1, len - 1);
	else if (channel == STREAM_RESIZE)
		forward_resize(relay, data + 1, len - 1);
	else if (channel == STREAM_CLOSE && len == 2 && data[1] == STREAM_STDIN)
		send_node(relay, STREAM_CLOSE, data + 1, 1);
	else if (channel != STREAM_STDIN && channel != STREAM_CLOSE)
		finish(relay, WEBSOCKET_CLOSE_POLICY, "A client has no such channel.");
}

void relay_message(struct relay *relay, bool text, const char *data, size_t len)
{
	if (relay->fd < 0 || relay->output_only)
		return;
	switch (relay->protocol) {
	case SESSION_TERMINAL:
		if (!text)
			websocket_set_ping(relay->websocket, PING_MS, LOST_MS);
		if (len > 0)
			send_node(relay, STREAM_STDIN, data, len);
		return;
	case SESSION_CHANNELS:
		if (text)
			finish(relay, WEBSOCKET_CLOSE_POLICY, "Channels are in binary messages.");
		else
			forward_channel(relay, data, len);
		return;
	case SESSION_OUTPUT:
		return;
	}
}

void relay_start(struct relay *relay, int fd)
{
	relay->fd = fd;
	fd_set_nonblock(fd, true);
	update_wants(relay);
	websocket_pause(relay->websocket, false);
}
