#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/time.h"
#include "http/connection.h"
#include "http/websocket.h"

#define QUEUE_MAX ((size_t)1 << 20)
#define QUEUE_HIGH ((size_t)256 << 10)
#define QUEUE_LOW ((size_t)64 << 10)
#define CONTROL_ROOM ((size_t)4 << 10) /* for control frames when the queue is full */
#define CLOSE_MS 5000
#define STALL_MS ((int64_t)3600 * 1000)

struct websocket {
	struct connection *connection;
	const struct websocket_ops *ops;
	void *arg;
	struct websocket_reader reader;
	struct buf out;
	bool has_protocol;
	bool paused;
	bool full;	  /* drained() is owed */
	bool close_sent;  /* it is in the queue at least */
	bool peer_closed; /* its close frame came, or what it sent was no frame */
	int code;	  /* for closed() */
	int64_t close_deadline_ms;
	int64_t ping_ms;
	int64_t lost_ms;
	int64_t heard_ms;    /* when bytes came last */
	int64_t pinged_ms;   /* when the last ping was sent */
	int64_t progress_ms; /* when the queue was empty, or shrank, last */
};

/* The handshake. */

/* Where "host:port" has its colon, or its end. */
static size_t host_len(const char *authority)
{
	const char *bracket = strchr(authority, ']');
	const char *colon = strchr(bracket ? bracket : authority, ':');

	return colon ? (size_t)(colon - authority) : strlen(authority);
}

static bool is_address(const char *host, size_t len)
{
	char text[INET6_ADDRSTRLEN + 2];
	struct in6_addr address;

	if (len >= sizeof(text))
		return false;
	memcpy(text, host, len);
	text[len] = '\0';
	if (inet_pton(AF_INET, text, &address) == 1)
		return true;
	if (text[0] != '[' || text[len - 1] != ']')
		return false;
	text[len - 1] = '\0';
	return inet_pton(AF_INET6, text + 1, &address) == 1;
}

static bool host_is_ours(const char *host, const char *authority)
{
	size_t len = host_len(host);
	const char *port = authority + host_len(authority);

	if (str_eq_nocase(host, authority))
		return true;
	if (!str_eq(host[len] ? host + len : ":443", port[0] ? port : ":443"))
		return false;
	return (len == 9 && strncasecmp(host, "localhost", 9) == 0) || is_address(host, len);
}

static bool origin_is_ours(const char *origin, const char *host, const char *authority)
{
	if (strncasecmp(origin, "https://", 8) == 0)
		origin += 8;
	else if (strncasecmp(origin, "http://", 7) == 0) /* what az's library writes */
		origin += 7;
	else
		return false;
	return str_eq_nocase(origin, host) || str_eq_nocase(origin, authority);
}

/* 0, or the status of the refusal. */
static int check_upgrade(
	const struct http_exchange *exchange, const char *authority, const char **ret_reason)
{
	const struct request *request = &exchange->request;
	const char *version = request_field(request, "Sec-WebSocket-Version");
	const char *key = request_field(request, "Sec-WebSocket-Key");
	const char *upgrade = request_field(request, "Upgrade");
	const char *connection = request_field(request, "Connection");
	const char *origin = request_field(request, "Origin");
	const char *host = request_field(request, "Host");

	*ret_reason = "Only GET opens a WebSocket.";
	if (!str_eq(request->method, "GET"))
		return 405;
	*ret_reason = "A WebSocket is opened by HTTP/1.1, without a body.";
	if (request->is_1_0 || request->body.len > 0)
		return 400;
	*ret_reason = "The Host isn't this server.";
	if (!host || !host_is_ours(host, authority))
		return 403;
	*ret_reason = "Pages of another origin can't open a WebSocket here.";
	if (origin && !origin_is_ours(origin, host, authority))
		return 403;
	*ret_reason = "This address is for a WebSocket (RFC 6455, version 13).";
	if (!upgrade || !request_list_has(upgrade, "websocket") || !version ||
		!str_eq(version, "13"))
		return 426;
	*ret_reason = "Sec-WebSocket-Key or Connection: Upgrade is missing or wrong.";
	if (!connection || !request_list_has(connection, "upgrade") || !key ||
		!websocket_key_is_valid(key))
		return 400;
	return 0;
}

static void refuse(struct http_exchange *exchange, int status, const char *reason)
{
	static const struct http_header headers[] = {
		{"Content-Type", "application/json; charset=utf-8"},
		{"Upgrade", "websocket"},
		{"Sec-WebSocket-Version", "13"},
		{"Allow", "GET"},
	};
	char body[256];
	int len = snprintf(body, sizeof(body),
		"{\"error\":{\"code\":\"InvalidWebSocketRequest\",\"message\":\"%s\"}}", reason);

	http_exchange_respond(exchange, &(struct http_response){.status = status,
						.headers = headers,
						.n_headers = status == 405   ? 4
							     : status == 426 ? 3
									     : 1,
						.body = body,
						.body_len = (size_t)len});
}

/* Nobody writes for hours, and then the peer should still be there, or be known not to be. */
static void keep_alive(int fd)
{
	int idle_s = 60, interval_s = 15, count = 4;

	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static void want_write(struct websocket *websocket)
{
	lws_callback_on_writable(websocket->connection->wsi);
}

struct websocket *websocket_accept(
	struct http_exchange *exchange, const struct websocket_config *config)
{
	const char *reason, *protocols;
	int status = check_upgrade(exchange, config->authority, &reason);
	_cleanup_free_ char *accept = NULL;
	struct websocket *websocket;

	if (status) {
		refuse(exchange, status, reason);
		return NULL;
	}
	protocols = request_field(&exchange->request, "Sec-WebSocket-Protocol");
	accept = websocket_accept_key(request_field(&exchange->request, "Sec-WebSocket-Key"));
	websocket = xnew(struct websocket);
	websocket->ops = config->ops;
	websocket->arg = config->arg;
	websocket->out = BUF_MAX(QUEUE_MAX + CONTROL_ROOM);
	websocket->heard_ms = websocket->pinged_ms = websocket->progress_ms = time_mono_ms();
	websocket->code = WEBSOCKET_CLOSE_LOST;
	websocket->has_protocol =
		config->protocol && protocols && request_list_has(protocols, config->protocol);
	websocket_reader_init(&websocket->reader, true, config->max_message);
	buf_printf(&websocket->out,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
		accept, websocket->has_protocol ? "Sec-WebSocket-Protocol: " : "",
		websocket->has_protocol ? config->protocol : "",
		websocket->has_protocol ? "\r\n" : "");
	websocket->connection = connection_upgrade(exchange, websocket);
	keep_alive(lws_get_socket_fd(websocket->connection->wsi));
	want_write(websocket);
	return websocket;
}

bool websocket_has_protocol(const struct websocket *websocket)
{
	return websocket->has_protocol;
}

/* Writing. */

/* Control frames: a peer that asks for more answers than it reads has no use for them. */
static void send_control(
	struct websocket *websocket, enum websocket_opcode opcode, const void *data, size_t len)
{
	if (websocket->close_sent)
		return;
	websocket_pack(&websocket->out, opcode, false, data, len);
	want_write(websocket);
}

int websocket_send(struct websocket *websocket, bool text, const void *data, size_t len)
{
	if (websocket->close_sent)
		return -EPIPE;
	if (websocket->out.len + len + WEBSOCKET_HEAD_MAX > QUEUE_MAX ||
		websocket_pack(&websocket->out, text ? WEBSOCKET_TEXT : WEBSOCKET_BINARY, false,
			data, len) < 0)
		return -ENOBUFS;
	want_write(websocket);
	if (websocket->out.len >= QUEUE_HIGH)
		websocket->full = true;
	return websocket->full;
}

void websocket_close(struct websocket *websocket, int code, const char *reason)
{
	if (websocket->close_sent)
		return;
	if (websocket_pack_close(&websocket->out, false, code, reason) < 0)
		connection_break(websocket->connection);
	websocket->close_sent = true;
	if (!websocket->peer_closed)
		websocket->code = code;
	websocket->close_deadline_ms = time_mono_ms() + CLOSE_MS;
	want_write(websocket);
}

void websocket_pause(struct websocket *websocket, bool paused)
{
	if (websocket->paused == paused)
		return;
	websocket->paused = paused;
	if (!paused)
		connection_resume(websocket->connection);
}

void websocket_set_ping(struct websocket *websocket, int64_t ping_ms, int64_t lost_ms)
{
	websocket->ping_ms = ping_ms;
	websocket->lost_ms = lost_ms;
}

void websocket_lost(struct websocket *websocket)
{
	websocket->ops->closed(websocket, websocket->code, websocket->arg);
	websocket_reader_done(&websocket->reader);
	buf_done(&websocket->out);
	free(websocket);
}

void websocket_writable(struct websocket *websocket)
{
	struct connection *connection = websocket->connection;
	size_t before = websocket->out.len;
	bool idle = connection_write_from(connection, &websocket->out);

	if (websocket->out.len < before || idle)
		websocket->progress_ms = time_mono_ms();
	if (connection->broken)
		return;
	if (idle && websocket->close_sent && websocket->peer_closed) {
		connection->websocket = NULL;
		websocket_lost(websocket);
		connection_linger(connection);
		return;
	}
	if (!idle)
		want_write(websocket);
	if (websocket->full && websocket->out.len <= QUEUE_LOW && !websocket->close_sent) {
		websocket->full = false;
		websocket->ops->drained(websocket, websocket->arg);
	}
}

/* Reading. */

static void peer_close(struct websocket *websocket, int code, int answer, const char *reason)
{
	websocket->peer_closed = true;
	if (!websocket->close_sent)
		websocket->code = code;
	websocket_close(websocket, answer, reason);
	want_write(websocket);
}

static void handle_event(struct websocket *websocket, const struct websocket_event *event)
{
	switch (event->type) {
	case WEBSOCKET_EVENT_TEXT:
	case WEBSOCKET_EVENT_BINARY:
		if (!websocket->close_sent)
			websocket->ops->message(websocket, event->type == WEBSOCKET_EVENT_TEXT,
				event->data, event->len, websocket->arg);
		break;
	case WEBSOCKET_EVENT_PING:
		send_control(websocket, WEBSOCKET_PONG, event->data, event->len);
		break;
	case WEBSOCKET_EVENT_CLOSE:
		peer_close(websocket, event->code, event->code, "");
		break;
	case WEBSOCKET_EVENT_FAILED:
		peer_close(websocket, event->code, event->code, event->data);
		break;
	case WEBSOCKET_EVENT_NONE:
	case WEBSOCKET_EVENT_PONG:
		break;
	}
}

size_t websocket_feed(struct websocket *websocket, const char *data, size_t len)
{
	size_t used = 0;

	websocket->heard_ms = time_mono_ms();
	while (used < len && !websocket->paused) {
		struct websocket_event event;

		if (websocket->peer_closed)
			return len;
		used += websocket_read(&websocket->reader, data + used, len - used, &event);
		handle_event(websocket, &event);
	}
	return used;
}

/* Now and then. */

static void ping(struct websocket *websocket, int64_t now_ms)
{
	/* While we don't read, no answer can be seen; a ping still finds out that nobody is there.
	 */
	if (websocket->lost_ms > 0 && !websocket->paused &&
		now_ms - websocket->heard_ms >= websocket->lost_ms) {
		connection_break(websocket->connection);
		return;
	}
	/* Behind a queue that stands still a ping says nothing. */
	if (websocket->out.len > 0 ||
		now_ms - MAX(websocket->heard_ms, websocket->pinged_ms) < websocket->ping_ms)
		return;
	websocket->pinged_ms = now_ms;
	send_control(websocket, WEBSOCKET_PING, NULL, 0);
}

void websocket_tick(struct websocket *websocket, int64_t now_ms)
{
	if ((websocket->close_sent && now_ms >= websocket->close_deadline_ms) ||
		(websocket->out.len > 0 && now_ms - websocket->progress_ms >= STALL_MS))
		connection_break(websocket->connection);
	else if (websocket->ping_ms > 0)
		ping(websocket, now_ms);
}
