#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "control/dns/dns.h"

#define CONNECTIONS_MAX 128
#define IDLE_MS 5000	       /* between the questions of a connection */
#define DATAGRAMS_PER_ROUND 64 /* so that the loop's other sources get their turn */

struct connection {
	struct dns *dns;
	struct connection *prev, *next;
	int fd;
	struct loop_source *source;
	struct loop_timer *timer;
	struct buf in, out;
};

struct dns {
	struct loop *loop;
	struct dns_zone *zone;
	int udp_fd, tcp_fd;
	struct loop_source *udp, *tcp;
	struct connection *connections; /* by their last question, the latest first */
	unsigned n_connections;
	uint16_t port;
};

/* UDP. */

static void on_udp(int fd, uint32_t events, void *arg)
{
	struct dns *dns = arg;
	uint8_t query[DNS_MESSAGE_MAX + 1], answer[DNS_UDP_MAX];

	for (int i = 0; i < DATAGRAMS_PER_ROUND; i++) {
		struct sockaddr_in from;
		socklen_t from_len = sizeof(from);
		ssize_t n =
			recvfrom(fd, query, sizeof(query), 0, (struct sockaddr *)&from, &from_len);
		size_t len;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		len = dns_answer(dns->zone, query, (size_t)n, true, answer, sizeof(answer));
		/* A full send queue loses an answer, as any network may; the asker repeats. */
		if (len > 0)
			(void)!sendto(fd, answer, len, MSG_DONTWAIT | MSG_NOSIGNAL,
				(struct sockaddr *)&from, from_len);
	}
}

/* TCP: each message has its length in front (RFC 1035 §4.2.2). */

static void connection_link(struct connection *c)
{
	c->prev = NULL;
	c->next = c->dns->connections;
	if (c->next)
		c->next->prev = c;
	c->dns->connections = c;
}

static void connection_unlink(struct connection *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		c->dns->connections = c->next;
	if (c->next)
		c->next->prev = c->prev;
}

static void connection_free(struct connection *c)
{
	loop_remove(c->source);
	loop_cancel(c->timer);
	fd_close(c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	connection_unlink(c);
	c->dns->n_connections--;
	free(c);
}

/* Who has been silent longest makes room, so that nobody can hold all places for nothing. */
static void evict(struct dns *dns)
{
	struct connection *c = dns->connections;

	while (c->next)
		c = c->next;
	connection_free(c);
}

static void on_idle(void *arg)
{
	struct connection *c = arg;

	c->timer = NULL;
	connection_free(c);
}

static int flush(struct connection *c)
{
	while (c->out.len > 0) {
		ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		buf_consume(&c->out, (size_t)n);
	}
	return 0;
}

/* 1: a whole message was answered; 0: there is none; -errno: hang up. */
static int answer_one(struct connection *c)
{
	const uint8_t *in = (const uint8_t *)c->in.data;
	uint8_t answer[2 + DNS_MESSAGE_MAX];
	size_t len, n;

	if (c->in.len < 2)
		return 0;
	len = (size_t)(in[0] << 8 | in[1]);
	if (len > DNS_MESSAGE_MAX)
		return -EMSGSIZE;
	if (c->in.len < 2 + len)
		return 0;
	n = dns_answer(c->dns->zone, in + 2, len, false, answer + 2, DNS_MESSAGE_MAX);
	if (n == 0)
		return -EBADMSG;
	answer[0] = (uint8_t)(n >> 8);
	answer[1] = (uint8_t)n;
	buf_consume(&c->in, 2 + len);
	connection_unlink(c);
	connection_link(c);
	loop_cancel(c->timer);
	c->timer = loop_after(c->dns->loop, IDLE_MS, on_idle, c);
	return buf_add(&c->out, answer, 2 + n) < 0 ? -ENOBUFS : 1;
}

/* Nothing more is read from who doesn't take the answers, so a connection holds one question and
 * one answer. */
static void on_connection(int fd, uint32_t events, void *arg)
{
	struct connection *c = arg;
	int r = flush(c);

	if (r == 0 && c->out.len == 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		ssize_t n = buf_read(&c->in, fd, 2 + DNS_MESSAGE_MAX - c->in.len);

		if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR))
			r = -ECONNRESET;
	}
	while (r == 0 && c->out.len == 0) {
		r = answer_one(c);
		if (r <= 0)
			break;
		r = flush(c);
	}
	if (r < 0) {
		connection_free(c);
		return;
	}
	loop_modify(c->source, c->out.len > 0 ? EPOLLOUT : EPOLLIN);
}

static void on_accept(int fd, uint32_t events, void *arg)
{
	struct dns *dns = arg;
	int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct connection *c;

	if (client < 0)
		return;
	if (dns->n_connections >= CONNECTIONS_MAX)
		evict(dns);
	c = xnew(struct connection);
	c->dns = dns;
	c->fd = client;
	c->in = BUF_MAX(2 + DNS_MESSAGE_MAX);
	c->out = BUF_MAX(2 + DNS_MESSAGE_MAX);
	connection_link(c);
	dns->n_connections++;
	c->source = loop_add(dns->loop, client, EPOLLIN, on_connection, c);
	c->timer = loop_after(dns->loop, IDLE_MS, on_idle, c);
}

/* Sockets. */

static int parse_listen(const char *text, struct sockaddr_in *ret)
{
	const char *colon = strrchr(text, ':');
	struct sockaddr_in address = {.sin_family = AF_INET};
	char host[INET_ADDRSTRLEN];
	uint64_t port;

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return -EINVAL;
	snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	if (inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
		str_to_u64(colon + 1, 65535, &port) < 0)
		return -EINVAL;
	address.sin_port = htons((uint16_t)port);
	*ret = address;
	return 0;
}

static int bound_socket(int type, const struct sockaddr_in *address)
{
	_cleanup_fd_ int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return -errno;
	if (type == SOCK_STREAM && listen(fd, 64) < 0)
		return -errno;
	return take_fd(fd);
}

/* UDP takes the port that TCP got, also when the kernel chose it. */
static int open_sockets(struct dns *dns, struct sockaddr_in *address)
{
	socklen_t len = sizeof(*address);

	dns->tcp_fd = bound_socket(SOCK_STREAM, address);
	if (dns->tcp_fd < 0)
		return dns->tcp_fd;
	if (getsockname(dns->tcp_fd, (struct sockaddr *)address, &len) < 0)
		return -errno;
	dns->port = ntohs(address->sin_port);
	dns->udp_fd = bound_socket(SOCK_DGRAM, address);
	return dns->udp_fd < 0 ? dns->udp_fd : 0;
}

int dns_new(struct loop *loop, const struct dns_config *config, struct err *err, struct dns **ret)
{
	struct sockaddr_in address;
	struct dns *dns;
	int r;

	if (parse_listen(config->listen, &address) < 0)
		return err_set(err, -EINVAL, "InternalError", "'%.64s' is not ADDRESS:PORT",
			config->listen);
	dns = xnew(struct dns);
	dns->loop = loop;
	dns->udp_fd = dns->tcp_fd = -EBADF;
	r = dns_zone_new(config, err, &dns->zone);
	if (r == 0) {
		r = open_sockets(dns, &address);
		if (r < 0)
			err_errno(err, r, "DNS on %s", config->listen);
	}
	if (r < 0) {
		dns_free(dns);
		return r;
	}
	dns->udp = loop_add(loop, dns->udp_fd, EPOLLIN, on_udp, dns);
	dns->tcp = loop_add(loop, dns->tcp_fd, EPOLLIN, on_accept, dns);
	*ret = dns;
	return 0;
}

void dns_free(struct dns *dns)
{
	if (!dns)
		return;
	while (dns->connections)
		connection_free(dns->connections);
	loop_remove(dns->udp);
	loop_remove(dns->tcp);
	fd_close(dns->udp_fd);
	fd_close(dns->tcp_fd);
	dns_zone_free(dns->zone);
	free(dns);
}

uint16_t dns_port(const struct dns *dns)
{
	return dns->port;
}
