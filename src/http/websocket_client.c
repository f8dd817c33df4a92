#include <curl/curl.h>
#include <poll.h>

#include "base/json.h"
#include "base/random.h"
#include "base/time.h"
#include "http/websocket_client.h"

#define OPEN_MS 30000
#define HEAD_MAX ((size_t)16 << 10)
#define BODY_MAX ((size_t)4 << 10)
#define READ_MAX ((size_t)64 << 10)
#define PIECE_MAX ((size_t)16 << 10)
#define QUEUE_MAX ((size_t)64 << 20)

/* libcurl does names, proxies and TLS (CURLOPT_CONNECT_ONLY); the bytes are ours. */
struct websocket_client {
	CURL *curl;
	curl_socket_t fd;
	struct websocket_reader reader;
	struct buf in;
	size_t in_used; /* of in, already read */
	struct buf out;
	/* What is just being written. TLS wants the same bytes at the same place when it is asked
	 * again. */
	char piece[PIECE_MAX];
	size_t piece_at, piece_len;
	bool close_sent;
	bool ended;
	char text[CURL_ERROR_SIZE];
};

void websocket_client_free(struct websocket_client *client)
{
	if (!client)
		return;
	curl_easy_cleanup(client->curl);
	websocket_reader_done(&client->reader);
	buf_done(&client->in);
	buf_done(&client->out);
	free(client);
}

int websocket_client_fd(const struct websocket_client *client)
{
	return client->fd;
}

/* Bytes. */

static int broken(struct websocket_client *client, CURLcode code, struct err *err)
{
	return err_set(err, -ECONNRESET, "HttpBroken", "The connection broke: %s.",
		client->text[0] ? client->text : curl_easy_strerror(code));
}

/* 1 when something came, 0 when nothing is there, -EPIPE at the end. */
static int receive_bytes(struct websocket_client *client, struct err *err)
{
	char data[READ_MAX];
	size_t n = 0;
	CURLcode code = curl_easy_recv(client->curl, data, sizeof(data), &n);

	if (code == CURLE_AGAIN)
		return 0;
	if (code != CURLE_OK)
		return broken(client, code, err);
	if (n == 0)
		return err_set(err, -EPIPE, "HttpBroken", "The server ended the connection.");
	buf_consume(&client->in, client->in_used);
	client->in_used = 0;
	if (buf_add(&client->in, data, n) < 0)
		return err_set(err, -EFBIG, "HttpTooLarge", "The server sent too much at once.");
	return 1;
}

int websocket_client_flush(struct websocket_client *client, struct err *err)
{
	CURLcode code = CURLE_OK;

	while (code == CURLE_OK) {
		size_t n = 0;

		if (client->piece_at == client->piece_len) {
			client->piece_at = 0;
			client->piece_len = MIN(client->out.len, PIECE_MAX);
			if (client->piece_len == 0)
				return 0;
			memcpy(client->piece, client->out.data, client->piece_len);
			buf_consume(&client->out, client->piece_len);
		}
		code = curl_easy_send(client->curl, client->piece + client->piece_at,
			client->piece_len - client->piece_at, &n);
		client->piece_at += n;
	}
	return code == CURLE_AGAIN ? 1 : broken(client, code, err);
}

size_t websocket_client_queued(const struct websocket_client *client)
{
	return client->out.len + client->piece_len - client->piece_at;
}

/* The handshake. */

static int wait_until(
	struct websocket_client *client, short events, int64_t deadline_ms, struct err *err)
{
	struct pollfd fd = {.fd = client->fd, .events = events};
	int64_t left_ms = deadline_ms - time_mono_ms();

	if (left_ms <= 0 || poll(&fd, 1, (int)left_ms) == 0)
		return err_set(
			err, -ETIMEDOUT, "HttpTimeout", "The server was too slow to answer.");
	return 0;
}

/* Reads until the end of the head; what follows stays in client->in. */
static int read_head(
	struct websocket_client *client, int64_t deadline_ms, struct err *err, char **ret)
{
	for (;;) {
		const struct buf *in = &client->in;
		const char *end = in->len ? memmem(in->data, in->len, "\r\n\r\n", 4) : NULL;
		int r;

		if (end) {
			client->in_used = (size_t)(end - in->data) + 4;
			*ret = xstrndup(in->data, client->in_used - 2);
			return 0;
		}
		if (in->len > HEAD_MAX)
			return err_set(err, -EFBIG, "HttpTooLarge",
				"The server sent a larger answer than is accepted.");
		r = receive_bytes(client, err);
		if (r == 0)
			r = wait_until(client, POLLIN, deadline_ms, err);
		if (r < 0)
			return r;
	}
}

/* The value of a field, owned by the caller; NULL when absent. */
static char *head_field(const char *head, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, len) != 0 || line[len] != ':')
			continue;
		line += len + 1;
		line += strspn(line, " \t");
		return xstrndup(line, strcspn(line, "\r"));
	}
	return NULL;
}

/* The body says why; it may come later than the head, or not at all. */
static int refused(
	struct websocket_client *client, const char *head, int64_t deadline_ms, struct err *err)
{
	_cleanup_free_ char *length = head_field(head, "Content-Length");
	_cleanup_json_ json_t *body = NULL;
	const json_t *error;
	uint64_t want = 0;

	if (length)
		str_to_u64(length, BODY_MAX, &want);
	while (client->in.len - client->in_used < want) {
		int r = receive_bytes(client, NULL);

		if (r < 0 || (r == 0 && wait_until(client, POLLIN, deadline_ms, NULL) < 0))
			break;
	}
	json_parse(buf_str(&client->in) + client->in_used,
		MIN(want, client->in.len - client->in_used), 4, NULL, &body);
	error = json_get_obj(body, "error");
	return err_set(err, -EACCES, json_get_str(error, "code", "HttpRefused"), "%s",
		json_get_str(error, "message", "The server refused to open a WebSocket."));
}

static int check_answer(struct websocket_client *client, const char *head, const char *key,
	const char *protocol, int64_t deadline_ms, struct err *err)
{
	_cleanup_free_ char *want = websocket_accept_key(key);
	_cleanup_free_ char *accept = head_field(head, "Sec-WebSocket-Accept");
	_cleanup_free_ char *agreed = head_field(head, "Sec-WebSocket-Protocol");

	if (!str_starts(head, "HTTP/1.1 101 "))
		return refused(client, head, deadline_ms, err);
	if (!accept || !str_eq(accept, want) ||
		(protocol && (!agreed || !str_eq(agreed, protocol))))
		return err_set(err, -EPROTO, "HttpBroken",
			"The server doesn't speak WebSocket as expected.");
	return 0;
}

static int upgrade(struct websocket_client *client, const char *authority, const char *target,
	const char *protocol, struct err *err)
{
	int64_t deadline_ms = time_mono_ms() + OPEN_MS;
	_cleanup_free_ char *key = NULL;
	_cleanup_free_ char *head = NULL;
	unsigned char bytes[16];
	int r;

	random_bytes(bytes, sizeof(bytes));
	key = str_base64(bytes, sizeof(bytes));
	buf_printf(&client->out,
		"GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s%s%s"
		"User-Agent: berth/" BERTH_VERSION "\r\n\r\n",
		target, authority, key, protocol ? "Sec-WebSocket-Protocol: " : "",
		protocol ? protocol : "", protocol ? "\r\n" : "");
	do {
		r = websocket_client_flush(client, err);
		if (r == 1 && wait_until(client, POLLOUT, deadline_ms, err) < 0)
			return -ETIMEDOUT;
	} while (r == 1);
	if (r == 0)
		r = read_head(client, deadline_ms, err, &head);
	if (r == 0)
		r = check_answer(client, head, key, protocol, deadline_ms, err);
	return r;
}

/* "wss://host:port/path" to where curl connects and what we ask for there. */
static int split_url(const char *url, struct err *err, char **ret_base, char **ret_authority,
	const char **ret_target)
{
	const char *authority = url + strlen("wss://");
	size_t len;

	if (!str_starts(url, "wss://") || strpbrk(url, " \r\n"))
		return err_set(err, -EINVAL, "HttpRefused", "%s is no wss URL.", url);
	len = strcspn(authority, "/?#");
	*ret_authority = xstrndup(authority, len);
	*ret_base = xasprintf("https://%s/", *ret_authority);
	*ret_target = authority[len] == '/' ? authority + len : "/";
	return 0;
}

static int connect_tls(
	struct websocket_client *client, const char *base, const char *ca_file, struct err *err)
{
	CURL *curl = client->curl;
	CURLcode code;

	curl_easy_setopt(curl, CURLOPT_URL, base);
	curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)OPEN_MS);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->text);
	if (ca_file) {
		curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file);
		curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
	}
	code = curl_easy_perform(curl);
	if (code != CURLE_OK)
		return err_set(err, -EHOSTUNREACH,
			code == CURLE_PEER_FAILED_VERIFICATION ? "HttpTls" : "HttpUnreachable",
			"%s can't be reached: %s.", base,
			client->text[0] ? client->text : curl_easy_strerror(code));
	curl_easy_getinfo(curl, CURLINFO_ACTIVESOCKET, &client->fd);
	return 0;
}

int websocket_client_open(const struct websocket_client_config *config, struct err *err,
	struct websocket_client **ret)
{
	_cleanup_(websocket_client_freep) struct websocket_client *client =
		xnew(struct websocket_client);
	_cleanup_free_ char *base = NULL, *authority = NULL;
	const char *target = NULL;
	int r;

	client->curl = curl_easy_init();
	if (!client->curl)
		return err_set(err, -ENOMEM, "InternalError", "libcurl can't start.");
	client->in = BUF_MAX(HEAD_MAX + 2 * READ_MAX);
	client->out = BUF_MAX(QUEUE_MAX);
	websocket_reader_init(&client->reader, false, config->max_message);
	r = split_url(config->url, err, &base, &authority, &target);
	if (r == 0)
		r = connect_tls(client, base, config->ca_file, err);
	if (r == 0)
		r = upgrade(client, authority, target, config->protocol, err);
	if (r < 0)
		return r;
	*ret = take_ptr(client);
	return 0;
}

/* Messages. */

void websocket_client_send(struct websocket_client *client, bool text, const void *data, size_t len)
{
	if (!client->close_sent)
		websocket_pack(
			&client->out, text ? WEBSOCKET_TEXT : WEBSOCKET_BINARY, true, data, len);
}

static void answer_close(struct websocket_client *client, int code)
{
	if (!client->close_sent)
		websocket_pack_close(&client->out, true, code, "");
	client->close_sent = true;
	client->ended = true;
	/* It is a courtesy: the server closes the connection in any case. */
	websocket_client_flush(client, NULL);
}

/* Whether the caller wants to hear of it. */
static bool handle_event(struct websocket_client *client, struct websocket_event *event)
{
	switch (event->type) {
	case WEBSOCKET_EVENT_TEXT:
	case WEBSOCKET_EVENT_BINARY:
		return true;
	case WEBSOCKET_EVENT_PING:
		websocket_pack(&client->out, WEBSOCKET_PONG, true, event->data, event->len);
		return false;
	case WEBSOCKET_EVENT_CLOSE:
	case WEBSOCKET_EVENT_FAILED:
		answer_close(client, event->code);
		event->type = WEBSOCKET_EVENT_CLOSE;
		return true;
	case WEBSOCKET_EVENT_NONE:
	case WEBSOCKET_EVENT_PONG:
		break;
	}
	return false;
}

int websocket_client_receive(
	struct websocket_client *client, struct err *err, struct websocket_event *ret)
{
	while (!client->ended) {
		struct websocket_event event;
		int r;

		if (client->in_used < client->in.len) {
			client->in_used +=
				websocket_read(&client->reader, client->in.data + client->in_used,
					client->in.len - client->in_used, &event);
			if (!handle_event(client, &event))
				continue;
			*ret = event;
			return 1;
		}
		r = receive_bytes(client, err);
		if (r <= 0)
			return r;
	}
	return 0;
}
