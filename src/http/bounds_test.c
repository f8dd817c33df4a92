/* What the server refuses, and when it loses patience. */
#include <sys/socket.h>

#include "base/time.h"
#include "http/connection.h"
#include "http/test_peer.h"

#define GET(target) "GET " target " HTTP/1.1\r\nHost: h\r\n\r\n"

static struct test_server server;

static int setup(void **state)
{
	test_server_start(&server, NULL);
	return 0;
}

static int teardown(void **state)
{
	test_server_stop(&server);
	return 0;
}

/* Sends, and wants a refusal after which the connection is closed in order. */
static void refused(const char *request, int status)
{
	struct peer peer;
	_cleanup_free_ char *head = NULL;
	_cleanup_free_ char *body = NULL;
	unsigned handled = __atomic_load_n(&server.n_handled, __ATOMIC_RELAXED);
	int have;

	peer_open(&peer, server.port);
	peer_send(&peer, request);
	have = peer_read(&peer, false, &head, &body);
	if (have != status)
		fail_msg("%d and not %d for: %.100s", have, status, request);
	assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
	assert_true(str_starts(body, "{\"error\":{\"code\":\""));
	assert_true(peer_at_end(&peer));
	assert_int_equal(SSL_get_shutdown(peer.tls), SSL_RECEIVED_SHUTDOWN);
	assert_int_equal(__atomic_load_n(&server.n_handled, __ATOMIC_RELAXED), handled);
	peer_close(&peer);
}

static void test_malformed_requests(void **state)
{
	static const struct {
		int status;
		const char *request;
	} cases[] = {
		{400, "GET / HTTP/1.1\r\n\r\n"}, /* no Host */
		{400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2, 2\r\n\r\nab"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +2\r\n\r\nab"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -2\r\n\r\nab"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\nab"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 2\r\n\r\nab"},
		{400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\r\n"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5 x\r\nhello\r\n"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n"},
		{400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000005\r\nhello\r\n"},
		{413, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello\r\n"},
		{417, "POST / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\nContent-Length: 2\r\n\r\nab"},
		{505, "GET / HTTP/2.0\r\nHost: h\r\n\r\n"},
		{400, "GET / \r\nHost: h\r\n\r\n"},
		{400, "GET /\r\n\r\n"},
		{400, "GET  / HTTP/1.1\r\nHost: h\r\n\r\n"},
		{400, "G(T / HTTP/1.1\r\nHost: h\r\n\r\n"},
		{400, "GET a HTTP/1.1\r\nHost: h\r\n\r\n"},
		{400, "GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n"},
		{400, "GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n"},
		{400, "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n"},
		{400, "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"},
		{400, "GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n"},
		{400, "GET / HTTP/1.1\r\nHost: h\r\nNo colon\r\n\r\n"},
		{400, "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n"},
		{400, "GET / HTTP/1.1\r\nHost: h\r\nA: \x01\r\n\r\n"},
		{400, "GET / HTTP/1.1\r\nHost: h\r\nA: a\rb\r\n\r\n"},
		{400, "GET / HTTP/1.1\nHost: h\r\n"}, /* at once, not when the header ends */
		{400, "GET / HTTP/1.1\r\nHost: h\n\r\n\r\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		refused(cases[i].request, cases[i].status);
}

static void test_large_header(void **state)
{
	_cleanup_buf_ struct buf request = BUF_INIT;

	buf_adds(&request, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
	while (request.len < (33 << 10))
		buf_adds(&request, "xxxxxxxxxxxxxxxx");
	refused(request.data, 431); /* without ever ending */
	buf_adds(&request, "\r\n\r\n");
	refused(request.data, 431);

	buf_clear(&request);
	buf_adds(&request, "GET / HTTP/1.1\r\nHost: h\r\n");
	for (int i = 0; i < 101; i++)
		buf_printf(&request, "X%d: y\r\n", i);
	buf_adds(&request, "\r\n");
	refused(request.data, 431);
}

static void test_header_just_within_the_bound(void **state)
{
	_cleanup_buf_ struct buf request = BUF_INIT;
	struct peer peer;

	buf_adds(&request, "GET /a HTTP/1.1\r\nHost: h\r\nX: ");
	while (request.len < (32 << 10) - 20)
		buf_adds(&request, "x");
	buf_adds(&request, "\r\n\r\n");
	peer_open(&peer, server.port);
	peer_send(&peer, request.data);
	peer_expect(&peer, 200, "GET /a ? =");
	peer_close(&peer);
}

static void test_large_body_is_refused_before_it_is_read(void **state)
{
	refused("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n", 413);
	refused("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n",
		413);
	refused("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1048577\r\n\r\n",
		413);
}

static void test_client_that_sends_its_large_body_nevertheless_reads_413(void **state)
{
	static char piece[65536];
	struct peer peer;

	peer_open(&peer, server.port);
	peer_send(&peer, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4194304\r\n\r\n");
	for (int i = 0; i < 64; i++)
		peer_send_bytes(&peer, piece, sizeof(piece));
	peer_expect(&peer, 413, NULL);
	peer_close(&peer);
}

static void test_large_chunked_body(void **state)
{
	_cleanup_buf_ struct buf request = BUF_INIT;

	buf_adds(&request, "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 17; i++)
		buf_printf(&request, "10000\r\n%065536d\r\n", i);
	refused(request.data, 413);
}

static void test_body_just_within_the_bound(void **state)
{
	_cleanup_buf_ struct buf request = BUF_INIT;
	_cleanup_free_ char *body = NULL;
	struct peer peer;

	buf_printf(&request,
		"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n%01048576d", 7);
	peer_open(&peer, server.port);
	peer_send(&peer, request.data);
	assert_int_equal(peer_read(&peer, false, NULL, &body), 200);
	assert_int_equal(strlen(body), 1048576 + 9);
	peer_close(&peer);
}

static void test_refusal_does_not_overtake_answers(void **state)
{
	struct peer peer;

	peer_open(&peer, server.port);
	peer_send(&peer, GET("/pool/a") "nonsense\r\n\r\n");
	peer_expect(&peer, 200, "GET /pool/a ? =");
	peer_expect(&peer, 400, NULL);
	assert_true(peer_at_end(&peer));
	peer_close(&peer);
}

static void test_impatience(void **state)
{
	struct test_server own;
	struct peer silent, slow, body, idle;
	int64_t began = time_mono_ms();

	test_server_start(&own,
		&(struct http_server_config){
			.header_timeout_ms = 150, .body_timeout_ms = 150, .idle_timeout_ms = 150});
	peer_open(&silent, own.port);
	peer_open(&slow, own.port);
	peer_open(&body, own.port);
	peer_open(&idle, own.port);
	peer_send(&slow, "GET / HTTP/1.1\r\nHos");
	peer_send(&body, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n123");
	peer_send(&idle, GET("/a"));
	peer_expect(&idle, 200, "GET /a ? =");
	/* Drop by drop doesn't help. */
	for (int i = 0; i < 30; i++) {
		usleep(10000);
		peer_send(&slow, "t");
	}
	peer_expect(&slow, 408, NULL);
	peer_expect(&body, 408, NULL);
	assert_true(peer_at_end(&silent));
	assert_true(peer_at_end(&slow));
	assert_true(peer_at_end(&body));
	assert_true(peer_at_end(&idle));
	assert_true(time_mono_ms() - began < 1500);
	peer_close(&silent);
	peer_close(&slow);
	peer_close(&body);
	peer_close(&idle);
	test_server_stop(&own);
}

struct count {
	struct http_server *server;
	unsigned connections;
};

static void count_connections(void *arg)
{
	struct count *count = arg;

	__atomic_store_n(&count->connections, count->server->n_connections, __ATOMIC_RELAXED);
}

static void test_reader_that_stops_reading(void **state)
{
	struct test_server own;
	struct count count;
	struct peer peer;
	unsigned have = 1;

	test_server_start(&own, &(struct http_server_config){.write_timeout_ms = 100});
	count = (struct count){own.server, 1};
	peer_open(&peer, own.port);
	peer_send(&peer, GET("/big?30000000"));
	/* Its end of the connection can't tell: the announcement waits behind what isn't read. */
	for (int i = 0; i < 300 && have > 0; i++) {
		usleep(10000);
		loop_post(own.loop, count_connections, &count);
		have = __atomic_load_n(&count.connections, __ATOMIC_RELAXED);
	}
	assert_int_equal(have, 0);
	assert_int_equal(peer_read(&peer, false, NULL, NULL), 0);
	peer_close(&peer);
	test_server_stop(&own);
}

static void test_answers_may_take_longer_than_any_deadline(void **state)
{
	struct test_server own;
	struct peer peer;

	test_server_start(&own, &(struct http_server_config){.header_timeout_ms = 50,
					.body_timeout_ms = 50,
					.idle_timeout_ms = 50,
					.write_timeout_ms = 50});
	peer_open(&peer, own.port);
	peer_send(&peer, GET("/hold"));
	test_await_held(&own, 1);
	usleep(1300000); /* that of libwebsockets is counted in whole seconds */
	test_release(&own, 0);
	peer_expect(&peer, 200, "GET /hold ? =");
	peer_close(&peer);
	test_server_stop(&own);
}

static void test_connections_beyond_the_bound(void **state)
{
	struct test_server own;
	struct peer peers[4], late;

	test_server_start(&own, &(struct http_server_config){.max_connections = 4});
	for (int i = 0; i < 4; i++)
		peer_open(&peers[i], own.port);
	peer_open(&late, own.port);
	peer_send(&late, GET("/a"));
	peer_expect(&late, 503, NULL);
	assert_true(peer_at_end(&late));
	peer_close(&late);

	for (int i = 0; i < 4; i++) {
		peer_send(&peers[i], GET("/a"));
		peer_expect(&peers[i], 200, "GET /a ? =");
		peer_close(&peers[i]);
	}
	usleep(50000);
	peer_open(&late, own.port);
	peer_send(&late, GET("/b"));
	peer_expect(&late, 200, "GET /b ? =");
	peer_close(&late);
	test_server_stop(&own);
}

static void test_bodies_beyond_the_bound_of_all(void **state)
{
	_cleanup_free_ char *half = xcalloc(1, 60001);
	struct test_server own;
	struct peer peers[3];

	memset(half, 'x', 60000);
	test_server_start(
		&own, &(struct http_server_config){.max_body = 100000, .max_bodies = 150000});
	for (int i = 0; i < 3; i++) {
		peer_open(&peers[i], own.port);
		peer_send(
			&peers[i], "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 60001\r\n\r\n");
		if (i < 2)
			peer_send_bytes(&peers[i], half, 60000);
	}
	usleep(100000);
	peer_send_bytes(&peers[2], half, 60000);
	peer_expect(&peers[2], 503, NULL);
	peer_close(&peers[2]);
	for (int i = 0; i < 2; i++) {
		peer_send(&peers[i], "x");
		peer_expect(&peers[i], 200, NULL);
		peer_close(&peers[i]);
	}
	/* What was counted is free again, also of those that went away in the middle. */
	for (int i = 0; i < 6; i++) {
		peer_open(&peers[0], own.port);
		peer_send(
			&peers[0], "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 60001\r\n\r\n");
		peer_send_bytes(&peers[0], half, 60000);
		usleep(20000);
		if (i % 2 == 0) {
			peer_send(&peers[0], "x");
			peer_expect(&peers[0], 200, NULL);
		}
		peer_close(&peers[0]);
		usleep(20000);
	}
	test_server_stop(&own);
}

static void test_plain_http_and_garbage_are_cut(void **state)
{
	struct peer peer;
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	struct timeval patience = {.tv_sec = 2};
	char answer[64];
	int fd;

	peer_open(&peer, server.port);
	assert_int_equal(getpeername(peer.fd, (struct sockaddr *)&address, &len), 0);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(fd_write_all(fd, GET("/a"), strlen(GET("/a"))), 0);
	for (ssize_t n = 1; n > 0;) {
		n = read(fd, answer, sizeof(answer));
		assert_true(n >= 0 || errno == ECONNRESET);
	}
	fd_close(fd);
	peer_send(&peer, GET("/b"));
	peer_expect(&peer, 200, "GET /b ? =");
	peer_close(&peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_malformed_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_header, setup, teardown),
		cmocka_unit_test_setup_teardown(test_header_just_within_the_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_large_body_is_refused_before_it_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_client_that_sends_its_large_body_nevertheless_reads_413, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_large_chunked_body, setup, teardown),
		cmocka_unit_test_setup_teardown(test_body_just_within_the_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_refusal_does_not_overtake_answers, setup, teardown),
		cmocka_unit_test(test_impatience),
		cmocka_unit_test(test_reader_that_stops_reading),
		cmocka_unit_test(test_answers_may_take_longer_than_any_deadline),
		cmocka_unit_test(test_connections_beyond_the_bound),
		cmocka_unit_test(test_bodies_beyond_the_bound_of_all),
		cmocka_unit_test_setup_teardown(
			test_plain_http_and_garbage_are_cut, setup, teardown),
	};

	return cmocka_run_group_tests(tests, certs_setup, certs_teardown);
}
