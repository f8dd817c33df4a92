/* Servers as strangers write them: whatever they do costs their own request alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/time.h"
#include "worker/probe/get.h"

enum manner {
	SAYS,		 /* text, then closes */
	SAYS_AND_WAITS,	 /* text, then neither ends nor says more */
	ENDLESS_HEADERS, /* text, then header lines for as long as anyone reads */
	ENDLESS_BODY,	 /* text, then bytes for as long as anyone reads */
	SLOW_BYTES,	 /* text, a byte at a time */
};

struct server {
	int fd;
	uint16_t port;
	enum manner manner;
	const char *text;
	char request[8192];
	pthread_t thread;
};

struct result {
	bool done;
	int status;
	char error[256];
};

static struct loop *loop;
static struct gets *gets;
static struct result results[64];

static void answered(int64_t id, int status, const char *error, void *arg)
{
	struct result *result = &results[id];

	assert_false(result->done);
	*result = (struct result){.done = true, .status = status};
	snprintf(result->error, sizeof(result->error), "%s", error ? error : "");
}

static bool may_go_on(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	/* The client never says more: readable is the end. */
	return poll(&poll_fd, 1, 10) == 0;
}

static void be_rude(struct server *server, int fd)
{
	const char *line = server->manner == ENDLESS_HEADERS ? "X-More: of the same\r\n" : "x";

	switch (server->manner) {
	case SAYS:
		break;
	case SAYS_AND_WAITS:
		while (may_go_on(fd))
			;
		break;
	case ENDLESS_HEADERS:
	case ENDLESS_BODY:
		while (send(fd, line, strlen(line), MSG_NOSIGNAL) > 0)
			;
		break;
	case SLOW_BYTES:
		for (const char *at = server->text; *at && may_go_on(fd); at++)
			send(fd, at, 1, MSG_NOSIGNAL);
		break;
	}
}

static void *serve(void *arg)
{
	struct server *server = arg;
	int fd = accept(server->fd, NULL, NULL);
	size_t at = 0;
	ssize_t n;

	if (fd < 0)
		return NULL;
	do {
		n = recv(fd, server->request + at, sizeof(server->request) - 1 - at, 0);
		at += n > 0 ? (size_t)n : 0;
	} while (n > 0 && !strstr(server->request, "\r\n\r\n"));
	if (server->manner != SLOW_BYTES)
		send(fd, server->text, strlen(server->text), MSG_NOSIGNAL);
	be_rude(server, fd);
	close(fd);
	return NULL;
}

static void server_start(struct server *server, enum manner manner, const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	*server = (struct server){.manner = manner, .text = text};
	server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server->fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(server->fd, 8), 0);
	assert_int_equal(getsockname(server->fd, (struct sockaddr *)&a, &len), 0);
	server->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_stop(struct server *server)
{
	shutdown(server->fd, SHUT_RDWR);
	pthread_join(server->thread, NULL);
	close(server->fd);
}

static void ask(int id, uint16_t port, const char *path, int timeout_ms, json_t *headers)
{
	_cleanup_json_ json_t *request =
		json_pack("{s:i, s:s, s:i, s:s, s:s, s:i}", "id", id, "address", "127.0.0.1",
			"port", (int)port, "scheme", "http", "path", path, "timeoutMs", timeout_ms);

	if (headers)
		json_object_set_new(request, "headers", headers);
	results[id] = (struct result){0};
	gets_start(gets, request, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static struct result *await(int id)
{
	while (!results[id].done)
		loop_once(loop, 1000);
	return &results[id];
}

static void an_answer_is_its_status(void **state)
{
	static const struct {
		enum manner manner;
		const char *text;
		int status;
		const char *error;
	} rows[] = {
		{SAYS, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, ""},
		{SAYS, "HTTP/1.0 204 No Content\r\n\r\n", 204, ""},
		/* Not followed. */
		{SAYS, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
			302, ""},
		{SAYS, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", 503, ""},
		{SAYS, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			200, ""},
		{ENDLESS_BODY, "HTTP/1.1 200 OK\r\n\r\n", 200, ""},
		{SLOW_BYTES, "HTTP/1.1 200 OK\r\n\r\n", 200, ""},
		{SAYS, "", 0, "Server returned nothing (no headers, no data)"},
		{SAYS, "220 mail.example ESMTP\r\n", 0, "what was answered is not HTTP"},
		{SAYS, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", 0,
			"Transferred a partial file"},
		{ENDLESS_HEADERS, "HTTP/1.1 200 OK\r\n", 0,
			"the headers of the answer are too long"},
		{SAYS_AND_WAITS, "HTTP/1.1 200 OK\r\nX-A", 0, "no answer within 0.4 s"},
		{SAYS_AND_WAITS, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", 0,
			"no answer within 0.4 s"},
		{SAYS_AND_WAITS, "", 0, "no answer within 0.4 s"},
	};
	struct server servers[ARRAY_SIZE(rows)];

	/* All at once: none may disturb another. */
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		server_start(&servers[i], rows[i].manner, rows[i].text);
		ask((int)i, servers[i].port, "/", 400, NULL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct result *result = await((int)i);

		assert_int_equal(result->status, rows[i].status);
		assert_string_equal(result->error, rows[i].error);
		server_stop(&servers[i]);
	}
}

static void what_listens_nowhere_is_refused(void **state)
{
	struct server server;
	uint16_t port;

	server_start(&server, SAYS, "");
	port = server.port;
	server_stop(&server);
	ask(0, port, "/", 1000, NULL);
	assert_string_equal(await(0)->error, "Connection refused");
	ask(1, 0, "/", 1000, NULL);
	assert_string_equal(await(1)->error, "the request can't be understood");
	ask(2, port, "no", 1000, NULL);
	assert_string_equal(await(2)->error, "the request can't be understood");
}

static void without_a_socket_nothing_is_said_of_the_server(void **state)
{
	_cleanup_json_ json_t *request =
		json_pack("{s:i, s:s, s:i, s:s, s:s, s:i}", "id", 0, "address", "127.0.0.1", "port",
			80, "scheme", "http", "path", "/", "timeoutMs", 1000);

	results[0] = (struct result){0};
	gets_start(gets, request, -EBADF);
	assert_int_equal(await(0)->status, 0);
	assert_string_equal(await(0)->error, "");
}

static void headers_are_sent_as_they_were_given(void **state)
{
	struct server server;
	char host[64];

	server_start(&server, SAYS, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	ask(0, server.port, "/a/../b?c=d", 1000, NULL);
	assert_int_equal(await(0)->status, 200);
	server_stop(&server);
	snprintf(host, sizeof(host), "Host: 127.0.0.1:%d\r\n", server.port);
	assert_true(str_starts(server.request, "GET /a/../b?c=d HTTP/1.1\r\n"));
	assert_non_null(strstr(server.request, host));
	assert_non_null(strstr(server.request, "User-Agent: berth-probe/"));
	assert_non_null(strstr(server.request, "Accept: */*\r\n"));

	server_start(&server, SAYS, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	ask(0, server.port, "/", 1000,
		json_pack("[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}, {s:s, s:s}]", "name", "Host",
			"value", "site.example", "name", "X-Twice", "value", "1", "name", "X-Twice",
			"value", "2", "name", "X-Empty", "value", ""));
	assert_int_equal(await(0)->status, 200);
	server_stop(&server);
	assert_non_null(strstr(server.request, "Host: site.example\r\n"));
	assert_null(strstr(server.request, "Host: 127"));
	assert_non_null(strstr(server.request, "X-Twice: 1\r\n"));
	assert_non_null(strstr(server.request, "X-Twice: 2\r\n"));
	assert_non_null(strstr(server.request, "X-Empty:\r\n"));
}

static int setup(void **state)
{
	loop = loop_new();
	return gets_new(loop, answered, NULL, NULL, &gets);
}

static int teardown(void **state)
{
	gets_free(gets);
	loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_is_its_status),
		cmocka_unit_test(what_listens_nowhere_is_refused),
		cmocka_unit_test(without_a_socket_nothing_is_said_of_the_server),
		cmocka_unit_test(headers_are_sent_as_they_were_given),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
