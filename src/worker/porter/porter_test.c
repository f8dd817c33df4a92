#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/time.h"
#include "worker/porter/forward.h"
#include "worker/porter/message.h"

static struct loop *loop;
static struct forward *forwarder;
static int udp, tcp, authority, upstream[2], authority_tcp;

static struct sockaddr_in address_of(int fd)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	return a;
}

static int bound(int type, uint16_t port_be)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = port_be};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 100), 0);
	return fd;
}

static int setup(void **state)
{
	struct forward_config config = {.zone_suffix = "local.berth.internal",
		.n_upstreams = 2,
		.timeout_ms = 100,
		.max_pending = 64};
	struct sockaddr_in a;

	loop = loop_new();
	udp = bound(SOCK_DGRAM, 0);
	tcp = bound(SOCK_STREAM, 0);
	authority_tcp = bound(SOCK_STREAM, 0);
	a = address_of(authority_tcp);
	authority = bound(SOCK_DGRAM, a.sin_port);
	memcpy(&config.authority, &a, sizeof(a));
	for (int i = 0; i < 2; i++) {
		upstream[i] = bound(SOCK_DGRAM, 0);
		a = address_of(upstream[i]);
		memcpy(&config.upstreams[i], &a, sizeof(a));
	}
	assert_int_equal(forward_new(loop, &config, &forwarder), 0);
	assert_int_equal(forward_listen(forwarder, udp), 0);
	assert_int_equal(forward_listen(forwarder, tcp), 0);
	return 0;
}

static int teardown(void **state)
{
	forward_free(forwarder);
	loop_free(loop);
	fd_close(udp);
	fd_close(tcp);
	fd_close(authority);
	fd_close(authority_tcp);
	fd_close(upstream[0]);
	fd_close(upstream[1]);
	return 0;
}

static bool readable(int fd, int timeout_ms)
{
	int64_t end = time_mono_ms() + timeout_ms;

	do {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		loop_once(loop, 2);
		if (poll(&p, 1, 0) == 1)
			return true;
	} while (time_mono_ms() < end);
	return false;
}

static size_t make_query(const char *name, uint16_t id, uint16_t type, uint8_t *ret)
{
	int n;

	memset(ret, 0, MESSAGE_HEADER);
	message_set_id(ret, id);
	ret[2] = 1;
	ret[5] = 1;
	n = message_name(name, ret + MESSAGE_HEADER);
	assert_true(n > 0);
	ret[MESSAGE_HEADER + n] = (uint8_t)(type >> 8);
	ret[MESSAGE_HEADER + n + 1] = (uint8_t)type;
	ret[MESSAGE_HEADER + n + 2] = 0;
	ret[MESSAGE_HEADER + n + 3] = 1;
	return (size_t)(MESSAGE_HEADER + n + 4);
}

static int client(int type, int to)
{
	struct sockaddr_in a = address_of(to);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static size_t ask(int fd, const char *name, uint8_t *query)
{
	size_t n = make_query(name, 0xabcd, 1, query);

	assert_int_equal(send(fd, query, n, 0), n);
	return n;
}

/* A server's side: takes a question, gives it back as an answer with a byte behind it. */
static size_t take(int server, uint8_t *data, struct sockaddr_in *from)
{
	socklen_t len = sizeof(*from);
	ssize_t n;

	assert_true(readable(server, 1000));
	n = recvfrom(server, data, 512, 0, (struct sockaddr *)from, &len);
	assert_true(n > MESSAGE_HEADER);
	return (size_t)n;
}

static void give(int server, uint8_t *data, size_t n, uint8_t mark, const struct sockaddr_in *to)
{
	data[2] |= 0x80;
	data[n] = mark;
	assert_int_equal(
		sendto(server, data, n + 1, 0, (const struct sockaddr *)to, sizeof(*to)), n + 1);
}

static void expect(int fd, const uint8_t *query, size_t n, int mark)
{
	uint8_t data[600];

	assert_true(readable(fd, 1000));
	assert_int_equal(recv(fd, data, sizeof(data), 0), n + 1);
	assert_memory_equal(data, query, 2);
	assert_memory_equal(data + 4, query + 4, n - 4);
	assert_int_equal(data[n], mark);
}

static void names_go_to_their_servers(void **state)
{
	static const struct {
		const char *name;
		bool authority;
	} table[] = {{"web.local.berth.internal", true}, {"LOCAL.Berth.internal", true},
		{"a.b.local.berth.internal", true}, {"example.com", false},
		{"xlocal.berth.internal", false}, {"berth.internal", false},
		{"local.berth.internal.com", false}};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_fd_ int fd = client(SOCK_DGRAM, udp);
		int server = table[i].authority ? authority : upstream[0];
		uint8_t query[512], data[520];
		struct sockaddr_in from;
		size_t n = ask(fd, table[i].name, query);

		assert_int_equal(take(server, data, &from), n);
		give(server, data, n, (uint8_t)i, &from);
		expect(fd, query, n, (int)i);
	}
	assert_int_equal(forward_pending(forwarder), 0);
}

static void ids_and_ports_are_new_for_each_question(void **state)
{
	_cleanup_fd_ int fd = client(SOCK_DGRAM, udp);
	unsigned same_id = 0, same_port = 0;
	uint16_t id = 0, port = 0;

	for (int i = 0; i < 20; i++) {
		uint8_t query[512], data[520];
		struct sockaddr_in from;
		size_t n = ask(fd, "example.com", query);

		assert_int_equal(take(upstream[0], data, &from), n);
		same_id += message_id(data) == id;
		same_port += from.sin_port == port;
		id = message_id(data);
		port = from.sin_port;
		give(upstream[0], data, n, 1, &from);
		expect(fd, query, n, 1);
	}
	assert_true(same_id < 3 && same_port < 5);
}

static void forged_answers_are_ignored(void **state)
{
	_cleanup_fd_ int fd = client(SOCK_DGRAM, udp);
	_cleanup_fd_ int stranger = bound(SOCK_DGRAM, 0);
	uint8_t query[512], data[520], forged[520];
	struct sockaddr_in from;
	size_t n = ask(fd, "example.com", query);

	assert_int_equal(take(upstream[0], data, &from), n);
	memcpy(forged, data, n);
	give(stranger, forged, n, 6, &from);
	message_set_id(forged, (uint16_t)(message_id(data) + 1));
	give(upstream[0], forged, n, 6, &from);
	memcpy(forged, data, n);
	forged[MESSAGE_HEADER + 1] = 'f'; /* fxample.com */
	give(upstream[0], forged, n, 6, &from);
	assert_false(readable(fd, 20));
	give(upstream[0], data, n, 7, &from);
	expect(fd, query, n, 7);
}

static void a_silent_upstream_is_followed_by_the_next_then_servfail(void **state)
{
	_cleanup_fd_ int fd = client(SOCK_DGRAM, udp);
	uint8_t query[512], data[520];
	struct sockaddr_in from;
	size_t n = ask(fd, "example.com", query);

	take(upstream[0], data, &from);
	assert_int_equal(take(upstream[1], data, &from), n);
	give(upstream[1], data, n, 2, &from);
	expect(fd, query, n, 2);

	n = ask(fd, "example.org", query);
	take(upstream[0], data, &from);
	take(upstream[1], data, &from);
	assert_true(readable(fd, 1000));
	assert_int_equal(recv(fd, data, sizeof(data), 0), n);
	assert_int_equal(data[3] & 15, 2);
	assert_int_equal(message_id(data), 0xabcd);
	assert_int_equal(forward_pending(forwarder), 0);
}

static void what_is_no_question_is_dropped_or_refused(void **state)
{
	_cleanup_fd_ int fd = client(SOCK_DGRAM, udp);
	uint8_t query[512], data[520];
	size_t n = make_query("example.com", 1, 252, query);

	assert_int_equal(send(fd, query, n, 0), n);
	assert_true(readable(fd, 1000));
	assert_int_equal(recv(fd, data, sizeof(data), 0), n);
	assert_int_equal(data[3] & 15, 5);
	n = make_query("example.com", 1, 1, query);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(send(fd, query, i, 0), i);
	query[2] |= 0x80;
	assert_int_equal(send(fd, query, n, 0), n);
	query[2] = 1;
	query[MESSAGE_HEADER] = 0xc0; /* a compressed name */
	assert_int_equal(send(fd, query, n, 0), n);
	assert_false(readable(fd, 30));
	assert_int_equal(forward_pending(forwarder), 0);
}

static void questions_under_way_are_bounded(void **state)
{
	_cleanup_fd_ int fd = client(SOCK_DGRAM, udp);
	uint8_t query[512], data[520];

	for (int i = 0; i < 100; i++) {
		size_t n = make_query("example.com", (uint16_t)i, 1, query);

		assert_int_equal(send(fd, query, n, 0), n);
	}
	for (int i = 0; i < 5; i++)
		loop_once(loop, 1);
	assert_int_equal(forward_pending(forwarder), 64);
	/* All of them end, by a SERVFAIL each. */
	for (int i = 0; i < 64; i++) {
		assert_true(readable(fd, 1000));
		assert_true(recv(fd, data, sizeof(data), 0) > 0);
	}
	assert_int_equal(forward_pending(forwarder), 0);
	for (int i = 0; i < 2; i++)
		while (recv(upstream[i], data, sizeof(data), MSG_DONTWAIT) > 0)
			;
}

static size_t tcp_ask(int fd, const char *name, uint8_t *query)
{
	size_t n = make_query(name, 0x1234, 1, query + 2);

	query[0] = 0;
	query[1] = (uint8_t)n;
	assert_int_equal(send(fd, query, n + 2, 0), n + 2);
	return n;
}

static void tcp_is_asked_over_tcp(void **state)
{
	_cleanup_fd_ int fd = client(SOCK_STREAM, tcp);
	uint8_t query[512], data[1024];

	/* Two questions at once on one connection: they are answered in turn. */
	tcp_ask(fd, "one.local.berth.internal", query);
	tcp_ask(fd, "two.local.berth.internal", query);
	for (int i = 0; i < 2; i++) {
		_cleanup_fd_ int server = -EBADF;
		ssize_t n;

		assert_true(readable(authority_tcp, 1000));
		server = accept(authority_tcp, NULL, NULL);
		assert_true(readable(server, 1000));
		n = recv(server, data, sizeof(data), 0);
		assert_int_equal(n, 2 + data[1]);
		data[4] |= 0x80;
		assert_memory_equal(data + 2 + MESSAGE_HEADER + 1, i ? "two" : "one", 3);
		/* In two pieces. */
		assert_int_equal(send(server, data, 10, 0), 10);
		loop_once(loop, 2);
		assert_int_equal(send(server, data + 10, (size_t)n - 10, 0), n - 10);
		assert_true(readable(fd, 1000));
		assert_int_equal(recv(fd, data, sizeof(data), 0), n);
		assert_int_equal(message_id(data + 2), 0x1234);
		assert_memory_equal(data + 2 + MESSAGE_HEADER + 1, i ? "two" : "one", 3);
	}
	/* A length that no question has. */
	assert_int_equal(send(fd, "\xff\xff", 2, 0), 2);
	assert_true(readable(fd, 1000));
	assert_int_equal(recv(fd, data, sizeof(data), 0), 0);
}

static void a_client_that_hangs_up_takes_its_question_along(void **state)
{
	int fd = client(SOCK_STREAM, tcp);
	struct linger linger = {.l_onoff = 1};
	uint8_t query[512];

	tcp_ask(fd, "x.local.berth.internal", query);
	for (int i = 0; i < 10; i++)
		loop_once(loop, 1);
	assert_int_equal(forward_pending(forwarder), 1);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	fd_close(fd);
	for (int i = 0; i < 10; i++)
		loop_once(loop, 1);
	assert_int_equal(forward_pending(forwarder), 0);
}

static void connections_of_a_client_are_bounded(void **state)
{
	int fds[20];
	unsigned closed = 0;
	char c;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = client(SOCK_STREAM, tcp);
	for (int i = 0; i < 40; i++)
		loop_once(loop, 1);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		closed += recv(fds[i], &c, 1, MSG_DONTWAIT) == 0;
		fd_close(fds[i]);
	}
	assert_int_equal(closed, 4);
}

static void addresses_are_parsed_strictly(void **state)
{
	static const char *const good[] = {"127.0.0.1:53", "[::1]:53", "1.2.3.4:65535"};
	static const char *const bad[] = {"", ":53", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536",
		"::1:53", "[::1]", "host:53", "[1.2.3.4]:53", "1.2.3.4:-1"};
	struct sockaddr_storage address;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(forward_parse_address(good[i], &address), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(forward_parse_address(bad[i], &address), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_go_to_their_servers, setup, teardown),
		cmocka_unit_test_setup_teardown(
			ids_and_ports_are_new_for_each_question, setup, teardown),
		cmocka_unit_test_setup_teardown(forged_answers_are_ignored, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_silent_upstream_is_followed_by_the_next_then_servfail, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_is_no_question_is_dropped_or_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(questions_under_way_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(tcp_is_asked_over_tcp, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_client_that_hangs_up_takes_its_question_along, setup, teardown),
		cmocka_unit_test_setup_teardown(
			connections_of_a_client_are_bounded, setup, teardown),
		cmocka_unit_test(addresses_are_parsed_strictly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
