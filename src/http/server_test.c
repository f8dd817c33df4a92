#include <arpa/inet.h>
#include <sys/socket.h>

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

static void exchange(const char *request, int status, const char *body)
{
	struct peer peer;

	peer_open(&peer, server.port);
	peer_send(&peer, request);
	peer_expect(&peer, status, body);
	peer_close(&peer);
}

static void test_targets_arrive_as_sent(void **state)
{
	static const char *const targets[][2] = {
		{"/subscriptions/s/providers/Microsoft.ContainerInstance//containerGroups/N",
			"/subscriptions/s/providers/Microsoft.ContainerInstance//containerGroups/N ?"},
		{"///a///", "///a/// ?"},
		{"/a%2Fb%2fc", "/a%2Fb%2fc ?"},
		{"/a/../b/./c/..", "/a/../b/./c/.. ?"},
		{"/..%2f..", "/..%2f.. ?"},
		{"/a+b%20c%zz", "/a+b%20c%zz ?"},
		{"/a;b=c&d=e", "/a;b=c&d=e ?"},
		{"/a?", "/a ?"},
		{"/a?api-version=2023-05-01&$filter=a+b%2Bc//..&x?y",
			"/a ?api-version=2023-05-01&$filter=a+b%2Bc//..&x?y"},
		{"https://localhost:8443/abs//x?y", "/abs//x ?y"},
		{"https://localhost?y", "/ ?y"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		_cleanup_free_ char *request =
			xasprintf("GET %s HTTP/1.1\r\nHost: h\r\n\r\n", targets[i][0]);
		_cleanup_free_ char *body = xasprintf("GET %s =", targets[i][1]);

		exchange(request, 200, body);
	}
}

static void test_methods_with_and_without_body(void **state)
{
	exchange("POST /a HTTP/1.1\r\nHost: h\r\n\r\n", 200, "POST /a ? =");
	exchange("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 200, "POST /a ? =");
	exchange("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", 200,
		"PUT /a ? =hello");
	exchange("PATCH /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 200,
		"PATCH /a ? ={}");
	exchange("DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n", 200, "DELETE /a ? =");
	exchange("DELETE /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab", 200,
		"DELETE /a ? =ab");
	exchange("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 200, "OPTIONS * ? =");
}

static void test_chunked_body(void **state)
{
	static const char request[] =
		"PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
		"5\r\nhello\r\n6;ext=\"1\"\r\n world\r\n0\r\nTrailer: x\r\n\r\n" GET("/next");
	struct peer peer;

	peer_open(&peer, server.port);
	peer_send(&peer, request);
	peer_expect(&peer, 200, "PUT /c ? =hello world");
	peer_expect(&peer, 200, "GET /next ? =");
	/* And byte by byte. */
	for (const char *c = request; *c; c++)
		peer_send_bytes(&peer, c, 1);
	peer_expect(&peer, 200, "PUT /c ? =hello world");
	peer_expect(&peer, 200, "GET /next ? =");
	peer_close(&peer);
}

static void test_head_has_length_and_no_body(void **state)
{
	struct peer peer;
	_cleanup_free_ char *head = NULL;

	peer_open(&peer, server.port);
	peer_send(&peer, "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n" GET("/b"));
	assert_int_equal(peer_read(&peer, true, &head, NULL), 200);
	assert_non_null(strstr(head, "\r\nContent-Length: 11\r\n"));
	assert_non_null(strstr(head, "\r\nDate: "));
	assert_non_null(strstr(head, " GMT\r\n"));
	peer_expect(&peer, 200, "GET /b ? =");
	peer_close(&peer);
}

static void test_204_has_neither_length_nor_body(void **state)
{
	struct peer peer;
	_cleanup_free_ char *head = NULL;

	peer_open(&peer, server.port);
	peer_send(&peer, GET("/status?204") GET("/b"));
	assert_int_equal(peer_read(&peer, false, &head, NULL), 204);
	assert_null(strstr(head, "Content-Length"));
	peer_expect(&peer, 200, "GET /b ? =");
	peer_close(&peer);
}

static void test_headers_can_be_asked_for(void **state)
{
	static const char *const names[] = {"authorization", "content-type", "accept", "host",
		"user-agent", "x-ms-client-request-id", "x-ms-correlation-request-id",
		"x-ms-return-client-request-id", "if-match", "if-none-match", "origin",
		"x-anything-else"};
	_cleanup_buf_ struct buf fields = BUF_INIT;
	struct peer peer;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		buf_printf(&fields, "%s: \t value of %zu \r\n", names[i], i);
	peer_open(&peer, server.port);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_free_ char *request =
			xasprintf("GET /header?%s HTTP/1.1\r\n%s\r\n", names[i], fields.data);
		_cleanup_free_ char *value = xasprintf("value of %zu", i);

		request[12] &= (char)~0x20; /* names are case-insensitive */
		peer_send(&peer, request);
		peer_expect(&peer, 200, value);
	}
	peer_send(&peer, GET("/header?absent"));
	peer_expect(&peer, 404, "");
	peer_close(&peer);
}

static void test_many_requests_on_one_connection(void **state)
{
	struct peer peer;

	peer_open(&peer, server.port);
	for (int i = 0; i < 1000; i++) {
		peer_send(&peer, i % 2 ? GET("/pool/x") : GET("/x"));
		peer_expect(&peer, 200, i % 2 ? "GET /pool/x ? =" : "GET /x ? =");
	}
	peer_close(&peer);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
	_cleanup_buf_ struct buf all = BUF_INIT;
	struct peer peer;

	for (int i = 0; i < 1000; i++)
		buf_printf(&all,
			"PUT /%s%d HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n%0100d",
			i % 3 ? "pool" : "", i, i);
	peer_open(&peer, server.port);
	peer_send_bytes(&peer, all.data, all.len);
	for (int i = 0; i < 1000; i++) {
		_cleanup_free_ char *body =
			xasprintf("PUT /%s%d ? =%0100d", i % 3 ? "pool" : "", i, i);

		peer_expect(&peer, 200, body);
	}
	peer_close(&peer);
}

static void test_expect_continue(void **state)
{
	struct peer peer;

	peer_open(&peer, server.port);
	peer_send(&peer,
		"PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	assert_int_equal(peer_read(&peer, true, NULL, NULL), 100);
	peer_send(&peer, "ok");
	peer_expect(&peer, 200, "PUT /a ? =ok");
	peer_close(&peer);
}

static void test_connection_close_and_http_1_0(void **state)
{
	static const char *const requests[] = {
		"GET /a HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n",
		"GET /a HTTP/1.0\r\n\r\n",
	};
	struct peer kept;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		struct peer peer;
		_cleanup_free_ char *head = NULL;

		peer_open(&peer, server.port);
		peer_send(&peer, requests[i]);
		assert_int_equal(peer_read(&peer, false, &head, NULL), 200);
		assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
		assert_true(peer_at_end(&peer));
		assert_int_equal(
			SSL_get_shutdown(peer.tls), SSL_RECEIVED_SHUTDOWN); /* no truncation */
		peer_close(&peer);
	}
	peer_open(&kept, server.port);
	for (int i = 0; i < 2; i++) {
		_cleanup_free_ char *head = NULL;

		peer_send(&kept, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
		assert_int_equal(peer_read(&kept, false, &head, NULL), 200);
		assert_non_null(strstr(head, "\r\nConnection: keep-alive\r\n"));
	}
	peer_close(&kept);
}

static void test_large_response_waits_for_a_slow_reader(void **state)
{
	struct peer peer, other;
	_cleanup_free_ char *body = NULL;

	peer_open(&peer, server.port);
	peer_send(&peer, GET("/big?30000000") GET("/after"));
	usleep(20000);
	/* Meanwhile the server serves others. */
	peer_open(&other, server.port);
	peer_send(&other, GET("/other"));
	peer_expect(&other, 200, "GET /other ? =");
	peer_close(&other);

	assert_int_equal(peer_read(&peer, false, NULL, &body), 200);
	assert_int_equal(strspn(body, "x"), 30000000);
	peer_expect(&peer, 200, "GET /after ? =");
	peer_close(&peer);
}

static void test_peer_that_leaves_before_the_answer(void **state)
{
	struct peer peer;

	for (unsigned i = 0; i < 2; i++) {
		peer_open(&peer, server.port);
		peer_send(&peer, "PUT /hold HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
		test_await_held(&server, i + 1);
		peer_close(&peer);
	}
	exchange(GET("/a"), 200, NULL); /* the server has noticed by now */
	assert_string_equal(http_exchange_request(test_held(&server, 0))->body, "body");
	assert_string_equal(http_exchange_header(test_held(&server, 0), "host"), "h");
	test_release(&server, 0);
	test_release(&server, 1);
	exchange(GET("/b"), 200, "GET /b ? =");
}

static void test_peer_that_leaves_in_the_middle_of_a_large_answer(void **state)
{
	struct peer peer;

	peer_open(&peer, server.port);
	peer_send(&peer, GET("/big?30000000"));
	usleep(5000);
	peer_close(&peer);
	exchange(GET("/b"), 200, "GET /b ? =");
}

static void test_answer_after_the_server_is_gone(void **state)
{
	struct test_server own;
	struct peer peer;

	test_server_start(&own, NULL);
	peer_open(&peer, own.port);
	peer_send(&peer, GET("/hold"));
	test_await_held(&own, 1);
	test_server_stop(&own);
	assert_string_equal(http_exchange_request(test_held(&own, 0))->path, "/hold");
	test_release(&own, 0);
	peer_close(&peer);
}

static void set_flag(void *arg)
{
	__atomic_store_n((int *)arg, 1, __ATOMIC_RELAXED);
}

struct timer_case {
	struct loop *loop;
	int done;
};

static void start_timer(void *arg)
{
	struct timer_case *timer = arg;

	loop_after(timer->loop, 1, set_flag, &timer->done);
}

static void test_the_loop_is_carried(void **state)
{
	struct timer_case timer = {.loop = server.loop};

	loop_post(server.loop, start_timer, &timer);
	for (int i = 0; i < 1000 && !__atomic_load_n(&timer.done, __ATOMIC_RELAXED); i++)
		usleep(1000);
	assert_int_equal(__atomic_load_n(&timer.done, __ATOMIC_RELAXED), 1);
}

static void test_bad_configuration_is_explained(void **state)
{
	struct sockaddr_in taken = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(taken);
	int fd;
	struct loop *loop = loop_new();
	struct http_server *none = NULL;
	struct http_server_config config = {.host = "127.0.0.1",
		.cert_file = "/nonexistent/c",
		.key_file = "/nonexistent/k",
		.max_connections = 1};
	struct err err = {0};

	assert_int_equal(http_server_new(loop, &config, &err, &none), -EINVAL);
	assert_non_null(strstr(err.message, "/nonexistent/c"));
	config.host = "localhost";
	assert_int_equal(http_server_new(loop, &config, &err, &none), -EINVAL);
	config.host = "127.0.0.1";
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&taken, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&taken, &len), 0);
	config.port = ntohs(taken.sin_port);
	assert_int_equal(http_server_new(loop, &config, &err, &none), -EADDRINUSE);
	fd_close(fd);
	assert_null(none);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_targets_arrive_as_sent, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_methods_with_and_without_body, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chunked_body, setup, teardown),
		cmocka_unit_test_setup_teardown(test_head_has_length_and_no_body, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_204_has_neither_length_nor_body, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers_can_be_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_many_requests_on_one_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_pipelined_requests_are_answered_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_expect_continue, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_connection_close_and_http_1_0, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_large_response_waits_for_a_slow_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_peer_that_leaves_before_the_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_peer_that_leaves_in_the_middle_of_a_large_answer, setup, teardown),
		cmocka_unit_test(test_answer_after_the_server_is_gone),
		cmocka_unit_test_setup_teardown(test_the_loop_is_carried, setup, teardown),
		cmocka_unit_test(test_bad_configuration_is_explained),
	};

	return cmocka_run_group_tests(tests, certs_setup, certs_teardown);
}
