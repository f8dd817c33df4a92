/* What can't be seen from outside the server; the rest is in server_test.c and bounds_test.c. */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "http/request.h"
#include "http/response.h"

static void feed(struct request *request, const char *text)
{
	request_init(request, 4096, 4096);
	request_feed(request, text, strlen(text));
}

static void test_every_cut_gives_the_same(void **state)
{
	static const char text[] =
		"\r\nPUT /a//b?c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
		"A;x=\"y\"\r\n0123456789\r\n1\r\n!\r\n000\r\nT: v\r\n\r\nNEXT";
	size_t len = sizeof(text) - 1;

	for (size_t cut = 0; cut <= len - 4; cut++) {
		struct request request;
		size_t used;

		request_init(&request, 4096, 4096);
		used = request_feed(&request, text, cut);
		assert_int_equal(used, cut);
		used += request_feed(&request, text + cut, len - cut);
		assert_int_equal(request.state, REQUEST_DONE);
		assert_int_equal(used, len - 4);
		assert_string_equal(request.method, "PUT");
		assert_string_equal(request.path, "/a//b");
		assert_string_equal(request.query, "c");
		assert_string_equal(buf_str(&request.body), "0123456789!");
		assert_true(request.keep_alive);
		request_done(&request);
	}
}

static void test_bounds_of_head_and_trailers(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct request request;

	/* 4096 bytes and the empty line are the last that fit. */
	for (int more = 0; more < 2; more++) {
		buf_clear(&text);
		buf_printf(&text, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
		while (text.len < (size_t)(4096 + more))
			buf_addc(&text, 'x');
		buf_adds(&text, "\r\n\r\n");
		feed(&request, text.data);
		assert_int_equal(request.state, more ? REQUEST_FAILED : REQUEST_DONE);
		assert_int_equal(request.status, more ? 431 : 0);
		request_done(&request);
	}

	buf_clear(&text);
	buf_adds(&text, "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
	for (int i = 0; i < 100; i++)
		buf_printf(&text, "T: %0100d\r\n", i);
	feed(&request, text.data);
	assert_int_equal(request.status, 431);
	request_done(&request);
}

static void test_connection_persistence(void **state)
{
	static const struct {
		const char *text;
		bool keep_alive;
	} cases[] = {
		{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", true},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", true},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: closed\r\n\r\n", true},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: CLOSE\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade , close\r\n\r\n", false},
		{"GET / HTTP/1.0\r\n\r\n", false},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct request request;

		feed(&request, cases[i].text);
		assert_int_equal(request.state, REQUEST_DONE);
		assert_int_equal(request.keep_alive, cases[i].keep_alive);
		request_done(&request);
	}
}

static void test_response_headers_cant_be_forged(void **state)
{
	static const struct http_header headers[] = {
		{"Location", "/a\r\nSet-Cookie: x"},
		{"Content-Length", "3"},
		{"transfer-encoding", "chunked"},
		{"Date", "mine"},
	};
	struct response response;
	_cleanup_free_ char *text = NULL;

	response_build(&(struct http_response){.status = 299,
			       .headers = headers,
			       .n_headers = 4,
			       .body = "ab",
			       .body_len = 2},
		false, CONNECTION_STAYS, &response);
	text = xstrndup(response.data, response.len);
	assert_string_equal(text,
		"HTTP/1.1 299 Unknown\r\nLocation: /a  Set-Cookie: x\r\nDate: mine\r\n"
		"Content-Length: 2\r\n\r\nab");
	response_done(&response);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cut_gives_the_same),
		cmocka_unit_test(test_bounds_of_head_and_trailers),
		cmocka_unit_test(test_connection_persistence),
		cmocka_unit_test(test_response_headers_cant_be_forged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
