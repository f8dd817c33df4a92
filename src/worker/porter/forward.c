#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/random.h"
#include "worker/porter/forward.h"
#include "worker/porter/message.h"

#define LISTENERS_MAX 4
#define CONNECTIONS_MAX 256
#define CONNECTIONS_PER_CLIENT 16
#define CONNECTION_IDLE_MS 10000
#define DATAGRAMS_PER_ROUND 64
#define STRAY_ANSWERS_MAX 16 /* that don't match: who guesses so often gets no more tries */
#define RCODE_SERVFAIL 2
#define RCODE_REFUSED 5
#define ANSWER_MAX 65535

/* A client's TCP connection. It has one question under way at most; the next is read when that is
 * answered. */
struct connection {
	struct forward *forward;
	struct connection *prev, *next;
	int fd;
	in_addr_t ip;
	struct loop_source *source;
	struct loop_timer *timer;
	struct buf in, out;
	struct pending *pending;
};

/* A question under way. */
struct pending {
	struct forward *forward;
	struct pending *prev, *next;
	struct sockaddr_in from;
	int listener;		       /* UDP: where the answer leaves from */
	struct connection *connection; /* TCP; NULL for UDP */
	uint16_t their_id, our_id;
	unsigned attempt, strays;
	bool authority;
	int fd;
	struct loop_source *source;
	struct loop_timer *timer;
	struct buf in, out; /* TCP to the upstream */
	struct message_question question;
	size_t len;
	uint8_t query[FORWARD_QUERY_MAX];
};

struct listener {
	struct forward *forward;
	int fd;
	struct loop_source *source;
};

struct forward {
	struct loop *loop;
	struct forward_config config;
	uint8_t suffix[MESSAGE_NAME_MAX];
	size_t suffix_len;
	struct listener listeners[LISTENERS_MAX];
	size_t n_listeners;
	struct pending *pending;
	unsigned n_pending;
	struct connection *connections;
	unsigned n_connections;
	/* Questions under way by the last two bytes of the client's address: an instance's pools
	 * are one /16. */
	uint16_t per_client[65536];
	uint8_t answer[2 + ANSWER_MAX];
};

static void pending_try(struct pending *p);
static void connection_free(struct connection *c);
static void connection_next(struct connection *c);

/* Questions under way. */

static uint16_t *client_count(struct forward *f, in_addr_t ip)
{
	return &f->per_client[ntohl(ip) & 0xffff];
}

static void pending_disconnect(struct pending *p)
{
	loop_remove(p->source);
	p->source = NULL;
	loop_cancel(p->timer);
	p->timer = NULL;
	p->fd = fd_close(p->fd);
	buf_done(&p->in);
	buf_done(&p->out);
}

static void pending_free(struct pending *p)
{
	struct forward *f = p->forward;

	pending_disconnect(p);
	if (p->prev)
		p->prev->next = p->next;
	else
		f->pending = p->next;
	if (p->next)
		p->next->prev = p->prev;
	(*client_count(f, p->from.sin_addr.s_addr))--;
	f->n_pending--;
	if (p->connection)
		p->connection->pending = NULL;
	free(p);
}

/* Gives the answer to who asked, and is done. data has two bytes of room in front of it, for TCP's
 * length. */
static void pending_answer(struct pending *p, uint8_t *data, size_t len)
{
	struct connection *c = p->connection;

	message_set_id(data, p->their_id);
	if (!c) {
		(void)!sendto(p->listener, data, len, MSG_DONTWAIT | MSG_NOSIGNAL,
			(struct sockaddr *)&p->from, sizeof(p->from));
		pending_free(p);
		return;
	}
	data[-2] = (uint8_t)(len >> 8);
	data[-1] = (uint8_t)len;
	pending_free(p);
	if (buf_add(&c->out, data - 2, len + 2) < 0) {
		connection_free(c);
		return;
	}
	connection_next(c);
}

static void pending_fail(struct pending *p, int rcode)
{
	uint8_t *data = p->forward->answer + 2;

	pending_answer(p, data, message_error(p->query, &p->question, rcode, data));
}

static void on_timeout(void *arg)
{
	struct pending *p = arg;

	p->timer = NULL;
	p->attempt++;
	pending_try(p);
}

static void try_next(struct pending *p)
{
	p->attempt++;
	pending_try(p);
}

static void check_answer(struct pending *p, uint8_t *data, size_t len)
{
	if (message_is_answer(p->query, &p->question, data, len, p->our_id))
		pending_answer(p, data, len);
	else if (p->connection || ++p->strays > STRAY_ANSWERS_MAX)
		try_next(p);
}

static void on_udp_answer(int fd, uint32_t events, void *arg)
{
	struct pending *p = arg;
	uint8_t *data = p->forward->answer + 2;
	ssize_t n = recv(fd, data, ANSWER_MAX, MSG_DONTWAIT);

	if (n >= 0)
		check_answer(p, data, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		try_next(p); /* nobody listens there */
}

/* 1: sent all, 0: not yet, -errno. */
static int flush(int fd, struct buf *out)
{
	while (out->len > 0) {
		ssize_t n = send(fd, out->data, out->len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		buf_consume(out, (size_t)n);
	}
	return 1;
}

/* The length in front of a message over TCP, once all of it is there; 0 otherwise. */
static size_t whole_message(const struct buf *in)
{
	size_t len;

	if (in->len < 2)
		return 0;
	len = (size_t)((uint8_t)in->data[0] << 8 | (uint8_t)in->data[1]);
	return in->len >= 2 + len ? len : 0;
}

static void on_tcp_answer(int fd, uint32_t events, void *arg)
{
	struct pending *p = arg;
	int r = flush(fd, &p->out);
	size_t len;

	if (r == 1) {
		ssize_t n = buf_read(&p->in, fd, 2 + ANSWER_MAX - p->in.len);

		loop_modify(p->source, EPOLLIN);
		if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR))
			r = -ECONNRESET;
	}
	len = whole_message(&p->in);
	if (len > 0) {
		memcpy(p->forward->answer + 2, p->in.data + 2, len);
		check_answer(p, p->forward->answer + 2, len);
	} else if (r < 0) {
		try_next(p);
	}
}

/* The server for this attempt, NULL when all had their turn; a lone one is asked twice. */
static const struct sockaddr_storage *target(const struct pending *p)
{
	const struct forward_config *config = &p->forward->config;

	if (p->authority)
		return p->attempt < 2 ? &config->authority : NULL;
	if (config->n_upstreams == 1 && p->attempt < 2)
		return &config->upstreams[0];
	return p->attempt < config->n_upstreams ? &config->upstreams[p->attempt] : NULL;
}

static socklen_t address_len(const struct sockaddr_storage *address)
{
	return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
					      : sizeof(struct sockaddr_in);
}

static bool start_udp(struct pending *p)
{
	if (send(p->fd, p->query, p->len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return false;
	p->source = loop_add(p->forward->loop, p->fd, EPOLLIN, on_udp_answer, p);
	return true;
}

static bool start_tcp(struct pending *p)
{
	const uint8_t len[2] = {(uint8_t)(p->len >> 8), (uint8_t)p->len};

	p->in = BUF_MAX(2 + ANSWER_MAX);
	p->out = BUF_MAX(2 + FORWARD_QUERY_MAX);
	buf_add(&p->out, len, 2);
	buf_add(&p->out, p->query, p->len);
	p->source = loop_add(p->forward->loop, p->fd, EPOLLOUT, on_tcp_answer, p);
	return true;
}

static bool start(struct pending *p, const struct sockaddr_storage *to)
{
	int type = p->connection ? SOCK_STREAM : SOCK_DGRAM;

	p->fd = socket(to->ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		return false;
	if (connect(p->fd, (const struct sockaddr *)to, address_len(to)) < 0 &&
		errno != EINPROGRESS)
		return false;
	random_bytes(&p->our_id, sizeof(p->our_id));
	message_set_id(p->query, p->our_id);
	return p->connection ? start_tcp(p) : start_udp(p);
}

static void pending_try(struct pending *p)
{
	const struct sockaddr_storage *to;

	for (; (to = target(p)); p->attempt++) {
		pending_disconnect(p);
		p->strays = 0;
		if (start(p, to)) {
			p->timer = loop_after(
				p->forward->loop, p->forward->config.timeout_ms, on_timeout, p);
			return;
		}
	}
	pending_fail(p, RCODE_SERVFAIL);
}

/* False when it was dropped. */
static bool ask(struct forward *f, const uint8_t *data, size_t len, const struct sockaddr_in *from,
	int listener, struct connection *connection)
{
	struct message_question question;
	enum message_kind kind = message_read_query(data, len, &question);
	uint16_t *count = client_count(f, from->sin_addr.s_addr);
	struct pending *p;

	if (kind == MESSAGE_DROP || len > FORWARD_QUERY_MAX ||
		f->n_pending >= f->config.max_pending || *count >= FORWARD_PENDING_PER_CLIENT)
		return false;
	p = xnew(struct pending);
	p->forward = f;
	p->fd = -EBADF;
	p->from = *from;
	p->listener = listener;
	p->connection = connection;
	p->their_id = message_id(data);
	memcpy(p->query, data, len);
	p->len = len;
	p->question = question;
	p->question.name = p->query + (question.name - data);
	p->authority = message_name_under(
		p->question.name, p->question.name_len, f->suffix, f->suffix_len);
	p->next = f->pending;
	if (p->next)
		p->next->prev = p;
	f->pending = p;
	f->n_pending++;
	(*count)++;
	if (connection)
		connection->pending = p;
	if (kind == MESSAGE_REFUSED)
		pending_fail(p, RCODE_REFUSED);
	else
		pending_try(p);
	return true;
}

/* Clients. */

static void on_udp_query(int fd, uint32_t events, void *arg)
{
	const struct listener *listener = arg;
	uint8_t data[FORWARD_QUERY_MAX + 1];

	for (int i = 0; i < DATAGRAMS_PER_ROUND; i++) {
		struct sockaddr_in from;
		socklen_t from_len = sizeof(from);
		ssize_t n = recvfrom(
			fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n > 0 && from_len == sizeof(from))
			ask(listener->forward, data, (size_t)n, &from, fd, NULL);
	}
}

static void connection_free(struct connection *c)
{
	if (c->pending) {
		struct pending *p = c->pending;

		p->connection = NULL;
		c->pending = NULL;
		pending_free(p);
	}
	loop_remove(c->source);
	loop_cancel(c->timer);
	fd_close(c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	if (c->prev)
		c->prev->next = c->next;
	else
		c->forward->connections = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->forward->n_connections--;
	free(c);
}

static void on_idle(void *arg)
{
	struct connection *c = arg;

	c->timer = NULL;
	connection_free(c);
}

/* Only what the connection waits for: reading while it could ask, writing while an answer is left,
 * neither while a question is under way (a hang-up is told in any case). */
static void connection_next(struct connection *c)
{
	if (flush(c->fd, &c->out) < 0) {
		connection_free(c);
		return;
	}
	loop_cancel(c->timer);
	c->timer = loop_after(c->forward->loop, CONNECTION_IDLE_MS, on_idle, c);
	loop_modify(c->source, c->out.len > 0 ? EPOLLOUT : EPOLLIN);
}

/* How much to read: no further than the end of one question, the next stays in the socket until its
 * turn. 0 for a length that no question has. */
static size_t bytes_of_question(const struct buf *in)
{
	size_t len;

	if (in->len < 2)
		return 2;
	len = (size_t)((uint8_t)in->data[0] << 8 | (uint8_t)in->data[1]);
	return len < MESSAGE_HEADER || len > FORWARD_QUERY_MAX ? 0 : 2 + len;
}

static void on_connection(int fd, uint32_t events, void *arg)
{
	struct connection *c = arg;
	const struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = c->ip};
	uint8_t query[FORWARD_QUERY_MAX];
	size_t len;
	ssize_t n;

	if (c->pending || flush(fd, &c->out) < 0) {
		connection_free(c); /* hung up while waiting */
		return;
	}
	if (c->out.len > 0)
		return;
	loop_modify(c->source, EPOLLIN);
	n = buf_read(&c->in, fd, bytes_of_question(&c->in) - c->in.len);
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0 || bytes_of_question(&c->in) == 0) {
		connection_free(c);
		return;
	}
	len = whole_message(&c->in);
	if (len == 0)
		return;
	memcpy(query, c->in.data + 2, len);
	buf_clear(&c->in);
	loop_modify(c->source, 0);
	/* It may be answered, and the connection gone, when this returns. */
	if (!ask(c->forward, query, len, &from, -1, c))
		connection_free(c);
}

static unsigned connections_of(const struct forward *f, in_addr_t ip)
{
	unsigned n = 0;

	for (const struct connection *c = f->connections; c; c = c->next)
		n += c->ip == ip;
	return n;
}

static void on_accept(int fd, uint32_t events, void *arg)
{
	struct forward *f = ((struct listener *)arg)->forward;
	struct sockaddr_in from = {0};
	socklen_t len = sizeof(from);
	int client = accept4(fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct connection *c;

	if (client < 0)
		return;
	if (f->n_connections >= CONNECTIONS_MAX ||
		connections_of(f, from.sin_addr.s_addr) >= CONNECTIONS_PER_CLIENT) {
		fd_close(client);
		return;
	}
	c = xnew(struct connection);
	c->forward = f;
	c->fd = client;
	c->ip = from.sin_addr.s_addr;
	c->in = BUF_MAX(2 + FORWARD_QUERY_MAX);
	c->out = BUF_MAX(2 + ANSWER_MAX);
	c->next = f->connections;
	if (c->next)
		c->next->prev = c;
	f->connections = c;
	f->n_connections++;
	c->source = loop_add(f->loop, client, EPOLLIN, on_connection, c);
	c->timer = loop_after(f->loop, CONNECTION_IDLE_MS, on_idle, c);
}

/* Life. */

int forward_parse_address(const char *text, struct sockaddr_storage *ret)
{
	struct sockaddr_storage address = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2];
	uint64_t port;
	size_t n;

	if (!colon || str_to_u64(colon + 1, 65535, &port) < 0)
		return -EINVAL;
	n = (size_t)(colon - text);
	if (n < 2 || n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = '\0';
	if (host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) != 1)
			return -EINVAL;
	} else {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		if (inet_pton(AF_INET, host, &v4->sin_addr) != 1)
			return -EINVAL;
	}
	*ret = address;
	return 0;
}

int forward_new(struct loop *loop, const struct forward_config *config, struct forward **ret)
{
	struct forward *f = xnew(struct forward);
	int n = message_name(config->zone_suffix, f->suffix);

	if (n < 0 || config->n_upstreams > FORWARD_UPSTREAMS_MAX) {
		free(f);
		return -EINVAL;
	}
	f->loop = loop;
	f->config = *config;
	f->config.max_pending = MIN(config->max_pending, FORWARD_PENDING_MAX);
	f->suffix_len = (size_t)n;
	*ret = f;
	return 0;
}

int forward_listen(struct forward *f, int fd)
{
	struct listener *listener = &f->listeners[f->n_listeners];
	socklen_t len = sizeof(int);
	int type = 0, r;

	if (f->n_listeners == LISTENERS_MAX)
		return -E2BIG;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return -errno;
	r = fd_set_nonblock(fd, true);
	if (r < 0)
		return r;
	listener->forward = f;
	listener->fd = fd;
	listener->source = loop_add(
		f->loop, fd, EPOLLIN, type == SOCK_STREAM ? on_accept : on_udp_query, listener);
	f->n_listeners++;
	return 0;
}

void forward_free(struct forward *f)
{
	if (!f)
		return;
	while (f->connections)
		connection_free(f->connections);
	while (f->pending)
		pending_free(f->pending);
	for (size_t i = 0; i < f->n_listeners; i++)
		loop_remove(f->listeners[i].source);
	free(f);
}

unsigned forward_pending(const struct forward *f)
{
	return f->n_pending;
}
