#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/file.h"
#include "base/time.h"
#include "http/test_peer.h"
#include "http/tls.h"

static char cert_dir[64];
static char ca_file[96], ca_key[96], cert_file[96], key_file[96];
static SSL_CTX *client_tls;

int certs_setup(void **state)
{
	static const char *const names[] = {"127.0.0.1", "localhost"};
	struct err err = {0};

	snprintf(cert_dir, sizeof(cert_dir), "/tmp/berth-http-test-XXXXXX");
	assert_non_null(mkdtemp(cert_dir));
	snprintf(ca_file, sizeof(ca_file), "%s/ca.pem", cert_dir);
	snprintf(ca_key, sizeof(ca_key), "%s/ca.key", cert_dir);
	snprintf(cert_file, sizeof(cert_file), "%s/server.pem", cert_dir);
	snprintf(key_file, sizeof(key_file), "%s/server.key", cert_dir);
	if (tls_ensure(ca_file, ca_key, cert_file, key_file, names, 2, &err) < 0)
		fail_msg("%s", err.message);
	client_tls = SSL_CTX_new(TLS_client_method());
	SSL_CTX_load_verify_locations(client_tls, ca_file, NULL);
	SSL_CTX_set_verify(client_tls, SSL_VERIFY_PEER, NULL);
	return 0;
}

int certs_teardown(void **state)
{
	SSL_CTX_free(client_tls);
	file_remove_tree(AT_FDCWD, cert_dir);
	return 0;
}

const char *certs_ca(void)
{
	return ca_file;
}

/* The handler. */

static void respond_text(struct http_exchange *exchange, int status, const char *body, size_t len)
{
	static const struct http_header text = {"Content-Type", "text/plain"};

	http_exchange_respond(exchange, &(struct http_response){.status = status,
						.headers = &text,
						.n_headers = 1,
						.body = body,
						.body_len = len});
}

static void respond_echo(void *arg)
{
	struct http_exchange *exchange = arg;
	const struct http_request *request = http_exchange_request(exchange);
	_cleanup_free_ char *text = xasprintf(
		"%s %s ?%s =%s", request->method, request->path, request->query, request->body);

	assert_int_equal(strlen(request->body), request->body_len);
	respond_text(exchange, 200, text, strlen(text));
}

static void respond_big(struct http_exchange *exchange)
{
	uint64_t n = 0;
	char *body;

	str_to_u64(http_exchange_request(exchange)->query, UINT64_MAX, &n);
	body = xmalloc(n + 1);
	memset(body, 'x', n);
	respond_text(exchange, 200, body, n);
	free(body);
}

static void hold(struct test_server *server, struct http_exchange *exchange)
{
	pthread_mutex_lock(&server->lock);
	assert_true(server->n_held < ARRAY_SIZE(server->held));
	server->held[server->n_held++] = exchange;
	pthread_mutex_unlock(&server->lock);
}

static void handle(struct http_exchange *exchange, void *arg)
{
	struct test_server *server = arg;
	const struct http_request *request = http_exchange_request(exchange);
	uint64_t status = 500;

	__atomic_add_fetch(&server->n_handled, 1, __ATOMIC_RELAXED);
	if (str_starts(request->path, "/pool")) {
		pool_submit(server->pool, respond_echo, exchange);
	} else if (str_starts(request->path, "/hold")) {
		hold(server, exchange);
	} else if (str_eq(request->path, "/socket")) {
		websocket_accept(exchange, &server->websocket);
	} else if (str_eq(request->path, "/big")) {
		respond_big(exchange);
	} else if (str_eq(request->path, "/header")) {
		const char *value = http_exchange_header(exchange, request->query);

		respond_text(
			exchange, value ? 200 : 404, value ? value : "", value ? strlen(value) : 0);
	} else if (str_eq(request->path, "/status")) {
		str_to_u64(request->query, 999, &status);
		respond_text(exchange, (int)status, "text", 4);
	} else {
		respond_echo(exchange);
	}
}

void test_await_held(struct test_server *server, unsigned n)
{
	for (int i = 0; i < 2000; i++) {
		unsigned have;

		pthread_mutex_lock(&server->lock);
		have = server->n_held;
		pthread_mutex_unlock(&server->lock);
		if (have >= n)
			return;
		usleep(1000);
	}
	fail_msg("the request didn't reach the handler");
}

struct http_exchange *test_held(struct test_server *server, unsigned i)
{
	struct http_exchange *exchange;

	pthread_mutex_lock(&server->lock);
	exchange = server->held[i];
	pthread_mutex_unlock(&server->lock);
	return exchange;
}

void test_release(struct test_server *server, unsigned i)
{
	respond_echo(test_held(server, i));
}

/* The server. */

static void *run(void *arg)
{
	struct test_server *server = arg;

	http_server_run(server->server);
	return NULL;
}

void test_server_start(struct test_server *server, const struct http_server_config *config)
{
	struct http_server_config all = config ? *config : (struct http_server_config){0};
	struct err err = {0};

	*server = (struct test_server){.loop = loop_new(), .pool = pool_new("test", 2, 0)};
	pthread_mutex_init(&server->lock, NULL);
	if (!all.host)
		all.host = "127.0.0.1";
	all.cert_file = cert_file;
	all.key_file = key_file;
	if (!all.max_body)
		all.max_body = 1 << 20;
	if (!all.max_connections)
		all.max_connections = 64;
	all.handle = handle;
	all.arg = server;
	if (http_server_new(server->loop, &all, &err, &server->server) < 0)
		fail_msg("%s", err.message);
	server->port = http_server_port(server->server);
	pthread_create(&server->thread, NULL, run, server);
}

void test_server_halt(struct test_server *server)
{
	loop_stop(server->loop);
	pthread_join(server->thread, NULL);
}

void test_server_stop(struct test_server *server)
{
	test_server_halt(server);
	pool_free(server->pool);
	http_server_free(server->server);
	loop_free(server->loop);
}

/* The peer. */

void peer_open(struct peer *peer, int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 2};
	int one = 1;

	*peer = (struct peer){.in = BUF_MAX((size_t)64 << 20)};
	peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(peer->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(peer->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	peer->tls = SSL_new(client_tls);
	SSL_set_fd(peer->tls, peer->fd);
	SSL_set1_host(peer->tls, "localhost");
	assert_int_equal(SSL_connect(peer->tls), 1);
}

void peer_send_bytes(struct peer *peer, const void *data, size_t len)
{
	/* A server that has refused may have closed: what it said is what counts. */
	if (len)
		SSL_write(peer->tls, data, (int)len);
}

void peer_send(struct peer *peer, const char *text)
{
	peer_send_bytes(peer, text, strlen(text));
}

bool peer_fill(struct peer *peer)
{
	char data[16384];
	int n = SSL_read(peer->tls, data, sizeof(data));

	if (n <= 0)
		return false;
	assert_int_equal(buf_add(&peer->in, data, (size_t)n), 0);
	return true;
}

int peer_read(struct peer *peer, bool head_only, char **ret_head, char **ret_body)
{
	const char *end, *field;
	size_t head_len, body_len = 0;
	int status;

	while (!(end = strstr(buf_str(&peer->in), "\r\n\r\n")))
		if (!peer_fill(peer))
			return 0;
	head_len = (size_t)(end - peer->in.data) + 4;
	assert_true(str_starts(peer->in.data, "HTTP/1.1 "));
	status = (peer->in.data[9] - '0') * 100 + (peer->in.data[10] - '0') * 10 +
		 peer->in.data[11] - '0';
	field = strstr(peer->in.data, "\r\nContent-Length: ");
	if (field && field < end && !head_only)
		body_len = strtoul(field + 18, NULL, 10);
	while (peer->in.len < head_len + body_len)
		if (!peer_fill(peer))
			return 0;
	if (ret_head)
		*ret_head = xstrndup(peer->in.data, head_len);
	if (ret_body)
		*ret_body = xstrndup(peer->in.data + head_len, body_len);
	buf_consume(&peer->in, head_len + body_len);
	return status;
}

void peer_expect(struct peer *peer, int status, const char *body)
{
	_cleanup_free_ char *have = NULL;

	assert_int_equal(peer_read(peer, false, NULL, &have), status);
	if (body)
		assert_string_equal(have, body);
}

bool peer_at_end(struct peer *peer)
{
	int64_t until = time_mono_ms() + 1900;

	if (peer->in.len)
		return false;
	while (peer_fill(peer))
		;
	return time_mono_ms() < until;
}

void peer_close(struct peer *peer)
{
	SSL_free(peer->tls);
	fd_close(peer->fd);
	buf_done(&peer->in);
}
