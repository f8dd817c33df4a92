#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/time.h"
#include "http/connection.h"

#define HEAD_MAX ((size_t)32 << 10)
#define WRITE_PIECE ((size_t)16 << 10) /* one TLS record: it is taken whole or not at all */
#define WRITE_TURN ((size_t)256 << 10) /* then it is others' turn */
#define PENDING_PAUSE ((size_t)64 << 10)
#define PENDING_MAX ((size_t)256 << 10)
#define LINGER_MS 2000

static void connection_process(struct connection *connection, const char *data, size_t len);
static void connection_write(struct connection *connection);

static void exchange_free(struct http_exchange *exchange)
{
	if (!exchange)
		return;
	request_done(&exchange->request);
	response_done(&exchange->response);
	answers_unref(exchange->answers);
	free(exchange);
}

static struct http_exchange *exchange_new(struct connection *connection)
{
	/* Not zeroed: the table of fields is most of it, and this runs for each request. */
	struct http_exchange *exchange = xmalloc(sizeof(*exchange));

	exchange->connection = connection;
	exchange->answers = answers_ref(connection->server->answers);
	exchange->next = NULL;
	exchange->response = (struct response){0};
	memcpy(exchange->peer, connection->peer, sizeof(exchange->peer));
	request_init(&exchange->request, HEAD_MAX, connection->server->config.max_body);
	return exchange;
}

/* Bodies are read before anybody knows who sends them, so all of them together are bounded as well.
 */
static void count_body(struct connection *connection, size_t bytes)
{
	connection->body_bytes += bytes;
	connection->server->body_bytes += bytes;
}

static void uncount_body(struct connection *connection)
{
	connection->server->body_bytes -= connection->body_bytes;
	connection->body_bytes = 0;
}

static void connection_free(struct connection *connection)
{
	struct http_server *server = connection->server;

	if (connection->prev)
		connection->prev->next = connection->next;
	else
		server->connections = connection->next;
	if (connection->next)
		connection->next->prev = connection->prev;
	server->n_connections--;
	uncount_body(connection);

	if (connection->websocket)
		websocket_lost(connection->websocket);
	if (connection->exchange && connection->state == CONNECTION_BUSY)
		connection->exchange->connection =
			NULL; /* it is the handler's until that answers */
	else
		exchange_free(connection->exchange);
	buf_done(&connection->pending);
	response_done(&connection->out);
	free(connection);
}

/* Closing right here could free the connection under the feet of whoever is on the stack. */
void connection_break(struct connection *connection)
{
	connection->broken = true;
	lws_set_timeout(connection->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

static void set_deadline(struct connection *connection, int64_t timeout_ms)
{
	connection->deadline_ms = time_mono_ms() + timeout_ms;
}

/* Writing. */

/* A socket that is closed with unread bytes sends a reset, and the reset may overtake the answer in
 * the peer's kernel. So the end is announced, and what still comes is read and dropped until the
 * peer closes, for a short while. */
void connection_linger(struct connection *connection)
{
	SSL *tls = lws_get_ssl(connection->wsi);

	connection->state = CONNECTION_LINGERING;
	set_deadline(connection, LINGER_MS);
	buf_done(&connection->pending);
	if (tls)
		SSL_shutdown(tls);
	shutdown(lws_get_socket_fd(connection->wsi), SHUT_WR);
	if (connection->paused) {
		connection->paused = false;
		lws_rx_flow_control(connection->wsi, 1);
	}
}

static void connection_written(struct connection *connection)
{
	bool close = connection->out.close;

	response_done(&connection->out);
	connection->out_sent = 0;
	if (close) {
		connection_linger(connection);
		return;
	}
	connection->state = CONNECTION_READING;
	connection->phase = PHASE_IDLE;
	set_deadline(connection, connection->server->config.idle_timeout_ms);
	if (!connection->processing)
		connection_process(connection, "", 0);
}

/* Writes pieces of data until the socket or this turn has enough; returns how much of it is out of
 * our hands. What libwebsockets couldn't write is in a buffer of its own: nothing more until that
 * is empty. */
static size_t write_pieces(
	struct connection *connection, char *data, size_t len, bool *ret_buffered)
{
	size_t stop = MIN(len, WRITE_TURN), sent = 0;
	bool buffered = lws_partial_buffered(connection->wsi);

	while (sent < stop && !buffered) {
		size_t n = MIN(WRITE_PIECE, stop - sent);

		if (lws_write(connection->wsi, (unsigned char *)data + sent, n, LWS_WRITE_RAW) <
			0) {
			connection_break(connection);
			break;
		}
		sent += n;
		buffered = lws_partial_buffered(connection->wsi);
	}
	*ret_buffered = buffered;
	return sent;
}

static void connection_write(struct connection *connection)
{
	struct response *out = &connection->out;
	bool buffered;
	size_t sent = write_pieces(connection, out->data + connection->out_sent,
		out->len - connection->out_sent, &buffered);

	if (connection->broken)
		return;
	connection->out_sent += sent;
	if (sent > 0)
		set_deadline(connection, connection->server->config.write_timeout_ms);
	if (connection->out_sent < out->len || buffered)
		lws_callback_on_writable(connection->wsi);
	else
		connection_written(connection);
}

bool connection_write_from(struct connection *connection, struct buf *out)
{
	bool buffered;
	size_t sent = write_pieces(connection, out->data, out->len, &buffered);

	buf_consume(out, sent);
	return out->len == 0 && !buffered;
}

/* Takes the response over. */
static void connection_answer(struct connection *connection, struct response *response)
{
	connection->out = *response;
	*response = (struct response){0};
	connection->out_sent = 0;
	connection->state = CONNECTION_WRITING;
	set_deadline(connection, connection->server->config.write_timeout_ms);
	connection_write(connection);
}

static void connection_refuse(struct connection *connection, int status, const char *reason)
{
	struct response response;

	exchange_free(take_ptr(connection->exchange));
	uncount_body(connection);
	response_build_refusal(status, reason, &response);
	connection_answer(connection, &response);
}

static void connection_refuse_request(struct connection *connection, const struct request *request)
{
	const char *reason = request->reason;
	char words[96];

	if (request->status == 413) {
		snprintf(words, sizeof(words),
			"The request content size exceeds the maximum size of %zu bytes.",
			request->max_body);
		reason = words;
	}
	connection_refuse(connection, request->status, reason);
}

void exchange_deliver(struct http_exchange *exchange)
{
	struct connection *connection = exchange->connection;

	if (connection) {
		assert(connection->exchange == exchange && connection->state == CONNECTION_BUSY);
		connection->exchange = NULL;
		uncount_body(connection);
		if (!connection->broken)
			connection_answer(connection, &exchange->response);
	}
	exchange_free(exchange);
}

/* Reading. */

/* A request is complete. The answer may be there when handle() returns. */
static void connection_request(struct connection *connection)
{
	struct http_exchange *exchange = connection->exchange;
	const struct request *request = &exchange->request;
	const struct http_server_config *config = &connection->server->config;

	exchange->view = (struct http_request){
		.method = request->method,
		.path = request->path,
		.query = request->query,
		.body = buf_str(&request->body),
		.body_len = request->body.len,
		.peer = exchange->peer,
	};
	connection->state = CONNECTION_BUSY;
	connection->deadline_ms = 0;
	config->handle(exchange, config->arg);
}

static void connection_continue(struct connection *connection)
{
	static unsigned char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

	if (lws_write(connection->wsi, text, sizeof(text) - 1, LWS_WRITE_RAW) < 0)
		connection_break(connection);
}

/* More of the request has been read, but not all. */
static void connection_progress(struct connection *connection)
{
	struct request *request = &connection->exchange->request;

	if (connection->phase == PHASE_IDLE && request_begun(request)) {
		connection->phase = PHASE_HEAD;
		set_deadline(connection, connection->server->config.header_timeout_ms);
	}
	if (connection->phase == PHASE_HEAD && request->state != REQUEST_HEAD) {
		connection->phase = PHASE_BODY;
		set_deadline(connection, connection->server->config.body_timeout_ms);
		if (request->wants_continue)
			connection_continue(connection);
	}
}

struct connection *connection_upgrade(struct http_exchange *exchange, struct websocket *websocket)
{
	struct connection *connection = exchange->connection;

	assert(connection && connection->exchange == exchange);
	connection->exchange = NULL;
	exchange_free(exchange);
	uncount_body(connection);
	connection->state = CONNECTION_WEBSOCKET;
	connection->websocket = websocket;
	connection->deadline_ms = 0;
	return connection;
}

void connection_resume(struct connection *connection)
{
	/* Whoever is on the stack goes on by itself. */
	if (!connection->processing && !connection->broken)
		connection_process(connection, "", 0);
}

static bool connection_reads(const struct connection *connection)
{
	return connection->state == CONNECTION_READING || connection->state == CONNECTION_WEBSOCKET;
}

/* Returns how much was used: all of it, unless it doesn't read any longer or a WebSocket is paused.
 */
static size_t connection_feed(struct connection *connection, const char *data, size_t len)
{
	const struct http_server *server = connection->server;
	size_t used = 0;

	while (used < len && connection_reads(connection) && !connection->broken) {
		struct request *request;
		size_t before;

		if (connection->state == CONNECTION_WEBSOCKET)
			return used +
			       websocket_feed(connection->websocket, data + used, len - used);
		if (connection->surplus) {
			connection_refuse(connection, 503, "The server has too many connections.");
			break;
		}
		if (!connection->exchange)
			connection->exchange = exchange_new(connection);
		request = &connection->exchange->request;
		before = request->body.len;
		used += request_feed(request, data + used, len - used);
		count_body(connection, request->body.len - before);
		if (request->state == REQUEST_DONE)
			connection_request(connection);
		else if (request->state == REQUEST_FAILED)
			connection_refuse_request(connection, request);
		else if (server->body_bytes > server->config.max_bodies)
			connection_refuse(connection, 503,
				"The server has too many large requests at the moment.");
		else
			connection_progress(connection);
	}
	return used;
}

static void connection_keep(struct connection *connection, const char *data, size_t len)
{
	if (len == 0)
		return;
	if (buf_add(&connection->pending, data, len) < 0) {
		connection_break(connection);
		return;
	}
	if (connection->pending.len >= PENDING_PAUSE && !connection->paused) {
		connection->paused = true;
		lws_rx_flow_control(connection->wsi, 0);
	}
}

/* Reads requests out of what was pending and then out of data, as far as their answers allow. */
static void connection_process(struct connection *connection, const char *data, size_t len)
{
	struct buf *pending = &connection->pending;

	assert(!connection->processing);
	connection->processing = true;
	if (pending->len > 0) {
		size_t used = connection_feed(connection, pending->data, pending->len);

		if (connection->state != CONNECTION_LINGERING)
			buf_consume(pending, used);
	}
	if (pending->len == 0)
		buf_done(pending); /* most connections never have any: not one of them keeps the
				      memory */
	if (pending->len == 0 && connection_reads(connection)) {
		size_t used = connection_feed(connection, data, len);

		data += used;
		len -= used;
	}
	connection->processing = false;

	if (connection->state != CONNECTION_LINGERING && !connection->broken)
		connection_keep(connection, data, len);
	if (connection->paused && pending->len < PENDING_PAUSE) {
		connection->paused = false;
		lws_rx_flow_control(connection->wsi, 1);
	}
}

/* libwebsockets. */

static void connection_closed(struct connection *connection)
{
	connection->wsi = NULL;
	if (!connection->adopting)
		connection_free(connection);
}

/* The first bytes through TLS: from here on the deadlines are ours. libwebsockets would still close
 * the connection a while after the handshake. */
static void connection_secured(struct connection *connection)
{
	if (!connection->secured)
		lws_set_timeout(connection->wsi, NO_PENDING_TIMEOUT, 0);
	connection->secured = true;
}

int connection_callback(
	struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct connection *connection = lws_get_opaque_user_data(wsi);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wswitch-enum"
	switch (reason) {
	case LWS_CALLBACK_RAW_RX:
		connection_secured(connection);
		if (connection->state != CONNECTION_LINGERING)
			connection_process(connection, in, len);
		return connection->broken ? -1 : 0;
	case LWS_CALLBACK_RAW_WRITEABLE:
		if (connection->state == CONNECTION_WRITING)
			connection_write(connection);
		else if (connection->state == CONNECTION_WEBSOCKET)
			websocket_writable(connection->websocket);
		return connection->broken ? -1 : 0;
	case LWS_CALLBACK_RAW_CLOSE:
		connection_closed(connection);
		return 0;
	default:
		return 0;
	}
#pragma GCC diagnostic pop
}

void connection_open(struct http_server *server, int fd, const char *peer, bool surplus)
{
	struct connection *connection = xnew(struct connection);
	struct lws_adopt_desc desc = {
		.vh = server->vhost,
		.type = LWS_ADOPT_SOCKET | LWS_ADOPT_ALLOW_SSL,
		.fd.sockfd = fd,
		.vh_prot_name = "connection",
		.opaque = connection,
	};
	struct lws *wsi;

	connection->server = server;
	connection->next = server->connections;
	if (connection->next)
		connection->next->prev = connection;
	server->connections = connection;
	server->n_connections++;

	connection->surplus = surplus;
	connection->phase = PHASE_HEAD;
	connection->pending = BUF_MAX(PENDING_MAX);
	set_deadline(connection, server->config.header_timeout_ms);
	snprintf(connection->peer, sizeof(connection->peer), "%s", peer);

	/* On failure libwebsockets closes the socket, and tells us so or not, depending on how far
	 * it got. */
	connection->adopting = true;
	wsi = lws_adopt_descriptor_vhost_via_info(&desc);
	connection->adopting = false;
	if (wsi)
		connection->wsi = wsi;
	else
		connection_free(connection);
}

static void connection_expired(struct connection *connection)
{
	struct http_exchange *exchange = connection->exchange;

	if (connection->state == CONNECTION_READING && exchange &&
		request_begun(&exchange->request))
		connection_refuse(connection, 408,
			connection->phase == PHASE_BODY ? "The request body took too long."
							: "The request header took too long.");
	else
		connection_break(connection);
}

void connections_sweep(struct http_server *server)
{
	int64_t now_ms = time_mono_ms();

	/* Nothing here frees a connection: those that are to be closed are closed by libwebsockets
	 * later. */
	for (struct connection *c = server->connections; c; c = c->next)
		if (c->websocket && !c->broken)
			websocket_tick(c->websocket, now_ms);
		else if (c->deadline_ms && c->deadline_ms <= now_ms && !c->broken)
			connection_expired(c);
}
