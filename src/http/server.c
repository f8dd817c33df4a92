#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "http/connection.h"

#define ACCEPT_TURN 64
#define ACCEPT_PAUSE_MS 100
#define SWEEP_MS 500

/* Answers from other threads. */

struct answers *answers_ref(struct answers *answers)
{
	__atomic_add_fetch(&answers->refs, 1, __ATOMIC_RELAXED);
	return answers;
}

void answers_unref(struct answers *answers)
{
	if (__atomic_sub_fetch(&answers->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	pthread_mutex_destroy(&answers->lock);
	free(answers);
}

static struct answers *answers_new(void)
{
	struct answers *answers = xnew(struct answers);

	pthread_mutex_init(&answers->lock, NULL);
	answers->refs = 1;
	answers->tail = &answers->first;
	answers->wake_fd = -EBADF;
	return answers;
}

/* Gives back an exchange that nobody will write any longer, or NULL. */
static struct http_exchange *answers_push(struct answers *answers, struct http_exchange *exchange)
{
	uint64_t one = 1;

	pthread_mutex_lock(&answers->lock);
	if (!answers->closed) {
		/* The first one wakes the server, who takes all. EAGAIN can't be: the counter is
		 * far from full. */
		if (!answers->first && answers->wake_fd >= 0 &&
			write(answers->wake_fd, &one, sizeof(one)) != sizeof(one))
			abort();
		*answers->tail = exchange;
		answers->tail = &exchange->next;
		exchange = NULL;
	}
	pthread_mutex_unlock(&answers->lock);
	return exchange;
}

static struct http_exchange *answers_take(struct answers *answers, bool close)
{
	struct http_exchange *first;

	pthread_mutex_lock(&answers->lock);
	first = answers->first;
	answers->first = NULL;
	answers->tail = &answers->first;
	answers->closed = close;
	pthread_mutex_unlock(&answers->lock);
	return first;
}

static void deliver_all(struct http_exchange *exchange)
{
	struct http_exchange *next;

	for (; exchange; exchange = next) {
		next = exchange->next;
		exchange_deliver(exchange);
	}
}

static void answers_ready(struct http_server *server)
{
	uint64_t count;

	if (read(server->answers->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN &&
		errno != EINTR)
		abort();
	deliver_all(answers_take(server->answers, false));
}

const struct http_request *http_exchange_request(const struct http_exchange *exchange)
{
	return &exchange->view;
}

const char *http_exchange_header(const struct http_exchange *exchange, const char *name)
{
	return request_field(&exchange->request, name);
}

void http_exchange_respond(struct http_exchange *exchange, const struct http_response *response)
{
	struct answers *answers = exchange->answers;
	const struct request *request = &exchange->request;
	bool head_only = str_eq(request->method, "HEAD");
	enum persistence then = !request->keep_alive ? CONNECTION_CLOSES
				: request->is_1_0    ? CONNECTION_STAYS_1_0
						     : CONNECTION_STAYS;

	response_build(response, head_only, then, &exchange->response);
	if (answers->thread_known && pthread_equal(answers->thread, pthread_self())) {
		exchange_deliver(exchange);
		return;
	}
	exchange = answers_push(answers, exchange);
	if (exchange) {
		/* The server is gone, and its connections with it. */
		assert(!exchange->connection);
		exchange_deliver(exchange);
	}
}

/* Listening. */

static void format_peer(const struct sockaddr_storage *address, char *to, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(to, size, "[%s]:%u", host, ntohs(in6->sin6_port));
	} else {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;

		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(to, size, "%s:%u", host, ntohs(in->sin_port));
	}
}

static void sweep(void *arg)
{
	struct http_server *server = arg;

	server->sweep = NULL;
	connections_sweep(server);
	if (server->connections)
		server->sweep = loop_after(server->loop, server->sweep_ms, sweep, server);
}

static void accept_again(void *arg)
{
	struct http_server *server = arg;

	server->accept_again = NULL;
	lws_rx_flow_control(server->listener_wsi, 1);
}

/* Without descriptors accept fails at once and for ever, and poll reports the listener again and
 * again. */
static void accept_pause(struct http_server *server)
{
	if (server->accept_again)
		return;
	log_warn("No descriptors left for HTTP connections.");
	lws_rx_flow_control(server->listener_wsi, 0);
	server->accept_again = loop_after(server->loop, ACCEPT_PAUSE_MS, accept_again, server);
}

static bool accept_one(struct http_server *server)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);
	unsigned max = server->config.max_connections;
	char peer[INET6_ADDRSTRLEN + 10];
	int one = 1;
	int fd = accept4(server->listener_fd, (struct sockaddr *)&address, &len,
		SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			accept_pause(server);
		return errno == ECONNABORTED || errno == EINTR;
	}
	/* Some more than allowed get in to be told so; the rest is just closed. */
	if (server->n_connections >= max + max / 4 + 16) {
		fd_close(fd);
		return true;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	format_peer(&address, peer, sizeof(peer));
	connection_open(server, fd, peer, server->n_connections >= max);
	if (!server->sweep)
		server->sweep = loop_after(server->loop, server->sweep_ms, sweep, server);
	return true;
}

static void listener_ready(struct http_server *server)
{
	for (int i = 0; i < ACCEPT_TURN && accept_one(server); i++)
		;
}

static int parse_address(
	const char *host, int port, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

	*ret = (struct sockaddr_storage){0};
	if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)port);
		*ret_len = sizeof(*in);
		return 0;
	}
	if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		*ret_len = sizeof(*in6);
		return 0;
	}
	return -EINVAL;
}

static int listener_open(const struct http_server_config *config, int *ret_port, struct err *err)
{
	struct sockaddr_storage address;
	socklen_t len;
	_cleanup_fd_ int fd = -EBADF;
	int one = 1;

	if (config->port < 0 || config->port > 65535 ||
		parse_address(config->host, config->port, &address, &len) < 0)
		return err_set(err, -EINVAL, "InvalidListenAddress",
			"%s port %d is no address to listen on.", config->host, config->port);
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, -errno, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, SOMAXCONN) < 0)
		return err_errno(
			err, -errno, "listening on %s port %d", config->host, config->port);
	len = sizeof(address);
	if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		return err_errno(err, -errno, "getsockname");
	*ret_port =
		ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
						    : ((struct sockaddr_in *)&address)->sin_port);
	return take_fd(fd);
}

/* libwebsockets. */

static void loop_ready(struct http_server *server)
{
	loop_once(server->loop, 0);
	if (loop_stopped(server->loop))
		server->stopped = true;
}

static int carried_callback(
	struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct carried *carried = lws_get_opaque_user_data(wsi);

	if (reason == LWS_CALLBACK_RAW_RX_FILE)
		carried->ready(carried->server);
	return 0;
}

/* libwebsockets offers P-256 alone, which costs clients that guess X25519 one more round trip. */
static int configure_tls(SSL_CTX *tls)
{
	static char groups[] = "X25519:P-256:P-384"; /* not const: a macro casts it */

	SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	if (SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) != 1 ||
		SSL_CTX_set1_groups_list(tls, groups) != 1)
		return -1;
	return 0;
}

/* The first protocol also hears of what concerns the vhost, with a wsi that is none. */
static int vhost_callback(
	struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	if (reason == LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS)
		return configure_tls(user);
	return 0;
}

static const struct lws_protocols protocols[] = {
	{.name = "vhost", .callback = vhost_callback},
	{.name = "connection", .callback = connection_callback},
	{.name = "carried", .callback = carried_callback},
	{0},
};

static void lws_log(int level, const char *line)
{
	log_warn("libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

/* libwebsockets makes tables for as many descriptors as the process may have, and makes them too
 * small (and writes past their end) where that is more than ten million. */
static void limit_descriptors(void)
{
	const rlim_t most = 1 << 20;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur <= most)
		return;
	limit.rlim_cur = most;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Makes libwebsockets poll fd, which becomes its own. */
static struct lws *carry(struct http_server *server, struct carried *carried,
	void (*ready)(struct http_server *), int fd)
{
	struct lws_adopt_desc desc = {
		.vh = server->vhost,
		.type = LWS_ADOPT_RAW_FILE_DESC,
		.fd.filefd = fd,
		.vh_prot_name = "carried",
		.opaque = carried,
	};
	struct lws *wsi;

	*carried = (struct carried){ready, server};
	wsi = fd >= 0 ? lws_adopt_descriptor_vhost_via_info(&desc) : NULL;
	if (!wsi)
		fd_close(fd);
	return wsi;
}

static int context_open(struct http_server *server, struct err *err)
{
	const struct http_server_config *config = &server->config;
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN_SERVER,
		.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT |
			   LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
			   LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
		.gid = (gid_t)-1,
		.uid = (uid_t)-1,
		.pt_serv_buf_size = 32 << 10, /* more than a TLS record, so that a read leaves
						 nothing behind in it */
		.timeout_secs =
			(unsigned)((config->header_timeout_ms + 999) / 1000), /* of the handshake */
		.protocols = protocols,
		.alpn = "http/1.1",
		.vhost_name = "api",
		.ssl_cert_filepath = config->cert_file,
		.ssl_private_key_filepath = config->key_file,
	};

	limit_descriptors();
	lws_set_log_level(LLL_ERR, lws_log);
	server->context = lws_create_context(&info);
	if (!server->context)
		return err_set(err, -EIO, "InternalError", "libwebsockets can't start.");
	server->vhost = lws_create_vhost(server->context, &info);
	if (!server->vhost)
		return err_set(err, -EINVAL, "InvalidCertificate",
			"The server certificate %s and its key %s can't be used.",
			config->cert_file, config->key_file);
	return 0;
}

static int carry_all(struct http_server *server, int listener, struct err *err)
{
	int wake_fd;

	server->listener_wsi = carry(server, &server->carried_listener, listener_ready, listener);
	if (!server->listener_wsi)
		goto fail;
	server->listener_fd = listener;
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!carry(server, &server->carried_answers, answers_ready, wake_fd))
		goto fail;
	server->answers->wake_fd = wake_fd;
	/* libwebsockets closes what it polls, so it gets a duplicate of the loop's. */
	if (!carry(server, &server->carried_loop, loop_ready,
		    fcntl(loop_fd(server->loop), F_DUPFD_CLOEXEC, 3)))
		goto fail;
	return 0;
fail:
	return err_set(err, -EIO, "InternalError", "libwebsockets takes no more descriptors.");
}

static void set_default(int64_t *timeout_ms, int64_t fallback_ms, int64_t *sweep_ms)
{
	if (*timeout_ms <= 0)
		*timeout_ms = fallback_ms;
	*sweep_ms = MIN(*sweep_ms, MAX(*timeout_ms / 4, 10));
}

int http_server_new(struct loop *loop, const struct http_server_config *config, struct err *err,
	struct http_server **ret)
{
	struct http_server *server = xnew(struct http_server);
	_cleanup_fd_ int listener = -EBADF;
	int r;

	server->config = *config;
	server->loop = loop;
	server->answers = answers_new();
	server->sweep_ms = SWEEP_MS;
	if (!server->config.max_bodies)
		server->config.max_bodies = 16 * server->config.max_body;
	set_default(&server->config.header_timeout_ms, 10000, &server->sweep_ms);
	set_default(&server->config.body_timeout_ms, 60000, &server->sweep_ms);
	set_default(&server->config.idle_timeout_ms, 120000, &server->sweep_ms);
	set_default(&server->config.write_timeout_ms, 60000, &server->sweep_ms);

	r = listener = listener_open(config, &server->port, err);
	if (r >= 0)
		r = context_open(server, err);
	if (r >= 0)
		r = carry_all(server, take_fd(listener), err);
	if (r < 0) {
		http_server_free(server);
		return r;
	}
	*ret = server;
	return 0;
}

void http_server_run(struct http_server *server)
{
	server->answers->thread = pthread_self();
	server->answers->thread_known = true; /* before any exchange is handed out, and for good */
	server->stopped = false;
	while (!server->stopped)
		if (lws_service(server->context, 0) < 0) {
			log_error("libwebsockets has stopped serving.");
			break;
		}
}

void http_server_free(struct http_server *server)
{
	if (!server)
		return;
	loop_cancel(server->sweep);
	loop_cancel(server->accept_again);

	/* The context closes wake_fd, and tells exchanges that their connection is gone. What is
	 * answered meanwhile is queued without waking anybody; what is answered later is freed by
	 * whoever answers. */
	pthread_mutex_lock(&server->answers->lock);
	server->answers->wake_fd = -EBADF;
	pthread_mutex_unlock(&server->answers->lock);
	if (server->context)
		lws_context_destroy(server->context);
	assert(!server->connections);
	deliver_all(answers_take(server->answers, true));
	answers_unref(server->answers);
	free(server);
}

int http_server_port(const struct http_server *server)
{
	return server->port;
}
