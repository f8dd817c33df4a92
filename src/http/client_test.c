#include <arpa/inet.h>
#include <sys/socket.h>

#include "http/client.h"
#include "http/test_peer.h"

static struct test_server server;
static struct http_client *client;

static int setup(void **state)
{
	struct http_client_config config = {.ca_file = certs_ca()};
	struct err err = {0};

	test_server_start(&server, NULL);
	assert_int_equal(http_client_new(&config, &err, &client), 0);
	return 0;
}

static int teardown(void **state)
{
	http_client_free(client);
	test_server_stop(&server);
	return 0;
}

static char *url(const char *path)
{
	return xasprintf("https://localhost:%d%s", server.port, path);
}

/* status 0: wants this code and a message that has these words. */
static void exchange(
	const struct http_client_request *request, int status, const char *want, const char *words)
{
	struct http_client_response response = {0};
	struct err err = {0};
	int r = http_client_do(client, request, &err, &response);

	if (status) {
		if (r < 0)
			fail_msg("%s: %s", err.code, err.message);
		assert_int_equal(response.status, status);
		assert_string_equal(buf_str(&response.body), want);
	} else {
		assert_true(r < 0);
		assert_string_equal(err.code, want);
		if (!strstr(err.message, words))
			fail_msg("%s", err.message);
	}
	http_client_response_done(&response);
}

static void test_methods_bodies_and_odd_paths(void **state)
{
	_cleanup_free_ char *odd = url("/a//b/../%2f?q=1+2");
	_cleanup_free_ char *put = url("/put");
	_cleanup_free_ char *status = url("/status?307");

	exchange(&(struct http_client_request){.method = "GET", .url = odd}, 200,
		"GET /a//b/../%2f ?q=1+2 =", NULL);
	exchange(&(struct http_client_request){.method = "HEAD", .url = put}, 200, "", NULL);
	exchange(
		&(struct http_client_request){
			.method = "PUT", .url = put, .body = "body", .body_len = 4},
		200, "PUT /put ? =body", NULL);
	exchange(&(struct http_client_request){.method = "POST", .url = put}, 200,
		"POST /put ? =", NULL);
	exchange(&(struct http_client_request){.method = "DELETE", .url = put}, 200,
		"DELETE /put ? =", NULL);
	exchange(&(struct http_client_request){.method = "GET", .url = put}, 200,
		"GET /put ? =", NULL);
	exchange(&(struct http_client_request){.method = "GET", .url = status}, 307, "text", NULL);
}

static void test_headers_both_ways(void **state)
{
	static const char *const headers[] = {
		"Content-Type: application/json", "X-Custom: value", NULL};
	static const char *const forged[] = {"X: y\r\nZ: z", NULL};
	_cleanup_free_ char *custom = url("/header?x-custom");
	_cleanup_free_ char *type = url("/header?content-type");
	_cleanup_free_ char *agent = url("/header?user-agent");
	struct http_client_response response = {0};
	struct err err = {0};
	_cleanup_free_ char *value = NULL;

	exchange(&(struct http_client_request){.method = "GET", .url = custom, .headers = headers},
		200, "value", NULL);
	exchange(&(struct http_client_request){.method = "PUT",
			 .url = type,
			 .headers = headers,
			 .body = "x",
			 .body_len = 1},
		200, "application/json", NULL);
	exchange(
		&(struct http_client_request){
			.method = "PUT", .url = type, .body = "x", .body_len = 1},
		404, "", NULL);
	exchange(&(struct http_client_request){.method = "GET", .url = agent}, 200,
		"berth/" BERTH_VERSION, NULL);
	exchange(&(struct http_client_request){.method = "GET", .url = agent, .headers = forged}, 0,
		"HttpBroken", "line break");

	assert_int_equal(
		http_client_do(client, &(struct http_client_request){.method = "GET", .url = agent},
			&err, &response),
		0);
	value = http_client_response_header(&response, "content-TYPE");
	assert_string_equal(value, "text/plain");
	assert_null(http_client_response_header(&response, "Content"));
	http_client_response_done(&response);
}

struct stream {
	int status;
	size_t len;
	size_t stop_at;
};

static int on_status(int status, void *arg)
{
	struct stream *stream = arg;

	assert_int_equal(stream->len, 0);
	stream->status = status;
	return status == 404 ? -ENOENT : 0;
}

static int on_body(const void *data, size_t len, void *arg)
{
	struct stream *stream = arg;

	stream->len += len;
	return stream->stop_at && stream->len >= stream->stop_at ? -ENOSPC : 0;
}

static int do_stream(const char *path, struct stream *stream)
{
	_cleanup_free_ char *where = url(path);
	struct http_client_response response = {0};
	struct http_client_request request = {.method = "GET",
		.url = where,
		.on_body = on_body,
		.on_status = on_status,
		.arg = stream};
	struct err err = {0};
	int r = http_client_do(client, &request, &err, &response);

	http_client_response_done(&response);
	return r;
}

static void test_body_is_streamed_and_can_be_stopped(void **state)
{
	struct stream all = {0}, some = {.stop_at = 100000}, none = {0}, empty = {0};

	assert_int_equal(do_stream("/big?10000000", &all), 0);
	assert_int_equal(all.status, 200);
	assert_int_equal(all.len, 10000000);
	assert_int_equal(do_stream("/big?10000000", &some), -ENOSPC);
	assert_true(some.len < 1000000);
	assert_int_equal(do_stream("/header?absent", &none), -ENOENT);
	assert_int_equal(none.len, 0);
	assert_int_equal(do_stream("/status?204", &empty), 0);
	assert_int_equal(empty.status, 204);
}

static void test_bounds(void **state)
{
	_cleanup_free_ char *big = url("/big?5000000");
	_cleanup_free_ char *hold = url("/hold");

	exchange(&(struct http_client_request){.method = "GET", .url = big}, 0, "HttpTooLarge",
		"larger");
	exchange(&(struct http_client_request){.method = "GET", .url = big, .max_body = 10}, 0,
		"HttpTooLarge", "larger");
	exchange(&(struct http_client_request){.method = "GET", .url = hold, .timeout_ms = 50}, 0,
		"HttpTimeout", "too slow to answer");
	test_await_held(&server, 1);
	test_release(&server, 0);
}

/* A port on which nobody listens. */
static int free_port(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	return ntohs(address.sin_port);
}

static void test_failures_are_explained(void **state)
{
	int nobody = free_port();
	_cleanup_free_ char *refused = xasprintf("http://127.0.0.1:%d/", nobody);
	_cleanup_free_ char *plain = xasprintf("http://localhost:%d/", server.port);
	_cleanup_free_ char *words = xasprintf("127.0.0.1:%d refused the connection.", nobody);

	exchange(&(struct http_client_request){.method = "GET", .url = refused}, 0,
		"HttpUnreachable", words);
	exchange(&(struct http_client_request){.method = "GET", .url = plain}, 0, "HttpBroken",
		"localhost:");
	exchange(&(struct http_client_request){.method = "GET", .url = "file:///etc/passwd"}, 0,
		"HttpRefused", "no https or http URL");
	exchange(&(struct http_client_request){.method = "GET", .url = "https://nowhere.invalid/"},
		0, "HttpUnreachable", "nowhere.invalid is unknown");
}

static int setup_any(void **state)
{
	struct http_client_config config = {.ca_file = certs_ca()};

	test_server_start(&server, &(struct http_server_config){.host = "0.0.0.0"});
	return http_client_new(&config, NULL, &client);
}

static void test_certificates_are_checked(void **state)
{
	struct http_client *system = NULL;
	_cleanup_free_ char *wrong_name = xasprintf("https://127.0.0.2:%d/", server.port);
	_cleanup_free_ char *right = xasprintf("https://127.0.0.1:%d/", server.port);
	struct http_client_request request = {.method = "GET", .url = right};
	struct http_client_response response = {0};
	struct err err = {0};

	exchange(&request, 200, "GET / ? =", NULL);
	exchange(&(struct http_client_request){.method = "GET", .url = wrong_name}, 0, "HttpTls",
		"not trusted");

	assert_int_equal(http_client_new(&(struct http_client_config){0}, &err, &system), 0);
	assert_true(http_client_do(system, &request, &err, &response) < 0);
	assert_string_equal(err.code, "HttpTls");
	http_client_free(system);
}

static bool allow_none(const char *address, void *arg)
{
	*(bool *)arg = str_eq(address, "127.0.0.1") || str_eq(address, "::1");
	return false;
}

static void test_addresses_can_be_refused(void **state)
{
	bool asked = false;
	struct http_client_config config = {
		.ca_file = certs_ca(), .allow_address = allow_none, .arg = &asked};
	struct http_client *strict = NULL;
	_cleanup_free_ char *where = url("/");
	struct http_client_response response = {0};
	struct err err = {0};

	assert_int_equal(http_client_new(&config, &err, &strict), 0);
	assert_int_equal(
		http_client_do(strict, &(struct http_client_request){.method = "GET", .url = where},
			&err, &response),
		-EACCES);
	assert_string_equal(err.code, "HttpRefused");
	assert_non_null(strstr(err.message, "not allowed"));
	assert_true(asked);
	http_client_free(strict);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_methods_bodies_and_odd_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers_both_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_body_is_streamed_and_can_be_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failures_are_explained, setup, teardown),
		cmocka_unit_test_setup_teardown(test_certificates_are_checked, setup_any, teardown),
		cmocka_unit_test_setup_teardown(test_addresses_can_be_refused, setup, teardown),
	};

	/* The environment of whoever runs the tests may name a proxy. */
	setenv("no_proxy", "*", 1);
	return cmocka_run_group_tests(tests, certs_setup, certs_teardown);
}
