/* Sessions without sockets: the WebSocket is a fake, and the node is the other end of a socketpair.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/json.h"
#include "base/time.h"
#include "control/providers/containerinstance/session.h"

#define BIG ((size_t)60000)

/* --- fakes --- */

struct http_exchange {
	struct http_request request;
	const char *authorization;
	int status; /* of an answer; 0: none */
};

struct websocket {
	const struct websocket_ops *ops;
	void *arg;
	bool protocol, paused, full;
	struct buf sent; /* "T:" or "B:" and the message, each with a line break */
	int code;
	char reason[128];
};

static struct world {
	struct loop *loop;
	struct sessions *sessions;
	struct websocket *websocket; /* the last one */
	bool refuse_upgrade, wants_protocol;
	struct err *open_err;
	int node; /* its end of the stream */
	json_t *args;
	char method[16];
} world;

const struct http_request *http_exchange_request(const struct http_exchange *exchange)
{
	return &exchange->request;
}

const char *http_exchange_header(const struct http_exchange *exchange, const char *name)
{
	return str_eq_nocase(name, "authorization") ? exchange->authorization : NULL;
}

void http_exchange_respond(struct http_exchange *exchange, const struct http_response *response)
{
	exchange->status = response->status;
}

struct websocket *websocket_accept(
	struct http_exchange *exchange, const struct websocket_config *config)
{
	if (world.refuse_upgrade) {
		exchange->status = 403;
		return NULL;
	}
	world.websocket = xnew(struct websocket);
	world.websocket->ops = config->ops;
	world.websocket->arg = config->arg;
	world.websocket->protocol = world.wants_protocol;
	world.websocket->sent = BUF_INIT;
	return world.websocket;
}

bool websocket_has_protocol(const struct websocket *websocket)
{
	return websocket->protocol;
}

int websocket_send(struct websocket *websocket, bool text, const void *data, size_t len)
{
	assert_int_equal(websocket->code, 0);
	assert_true(len > 0);
	if (text)
		assert_true(str_is_utf8(data, len));
	buf_adds(&websocket->sent, text ? "T:" : "B:");
	buf_add(&websocket->sent, data, len);
	buf_addc(&websocket->sent, '\n');
	return websocket->full;
}

void websocket_pause(struct websocket *websocket, bool paused)
{
	websocket->paused = paused;
}

void websocket_set_ping(struct websocket *websocket, int64_t ping_ms, int64_t lost_ms)
{
}

void websocket_close(struct websocket *websocket, int code, const char *reason)
{
	if (websocket->code)
		return;
	websocket->code = code;
	snprintf(websocket->reason, sizeof(websocket->reason), "%s", reason);
}

static int fake_open(
	void *arg, const char *node, const char *method, json_t *args, struct err *err, int *ret_fd)
{
	int fds[2];

	assert_string_equal(node, "n1");
	snprintf(world.method, sizeof(world.method), "%s", method);
	json_decref(world.args);
	world.args = args;
	if (world.open_err) {
		*err = *world.open_err;
		return err->r;
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	world.node = fds[1];
	*ret_fd = fds[0];
	return 0;
}

/* --- the world --- */

static void open_sessions(int64_t expire_ms)
{
	world.sessions = sessions_new(&(struct sessions_config){.loop = world.loop,
					      .authority = "127.0.0.1:8443",
					      .open = fake_open,
					      .expire_ms = expire_ms,
					      .max = 4,
					      .max_per_container = 2},
		NULL);
}

static int setup(void **state)
{
	world = (struct world){.loop = loop_new(), .node = -EBADF};
	open_sessions(0);
	return 0;
}

static void hang_up(int code)
{
	struct websocket *websocket = take_ptr(world.websocket);

	websocket->ops->closed(websocket, code, websocket->arg);
	buf_done(&websocket->sent);
	free(websocket);
}

static int teardown(void **state)
{
	if (world.websocket)
		hang_up(1006);
	sessions_free(world.sessions);
	loop_free(world.loop);
	json_decref(world.args);
	fd_close(world.node);
	return 0;
}

static void create(enum session_protocol protocol, char *id, char *password)
{
	_cleanup_json_ json_t *args = json_pack("{s:s}", "uid", "u");
	struct session_spec spec = {protocol, "n1", "u/c", "exec", args};

	assert_int_equal(sessions_create(world.sessions, &spec, NULL, id, password), 0);
}

/* The status of the answer, 0 when it became a WebSocket. */
static int dial(const char *id, const char *authorization)
{
	_cleanup_free_ char *path = xasprintf(SESSION_PATH "%s", id);
	struct http_exchange exchange = {.request.path = path, .authorization = authorization};

	assert_true(sessions_handle(world.sessions, &exchange));
	return exchange.status;
}

static void tell(const char *data, size_t len, bool text)
{
	world.websocket->ops->message(world.websocket, text, data, len, world.websocket->arg);
}

static void turn(void)
{
	for (int i = 0; i < 20; i++)
		loop_once(world.loop, 2);
}

static void await_stream(void)
{
	for (int i = 0; i < 1000 && world.node < 0; i++)
		loop_once(world.loop, 5);
	turn();
}

static void await_close(void)
{
	for (int i = 0; i < 1000 && world.websocket->code == 0; i++)
		loop_once(world.loop, 5);
}

/* A session up to the stream. */
static void start(enum session_protocol protocol)
{
	char id[UUID_STR_MAX], password[SESSION_PASSWORD_MAX];

	create(protocol, id, password);
	assert_int_equal(dial(id, NULL), 0);
	tell(password, strlen(password), true);
	assert_true(world.websocket->paused);
	await_stream();
	assert_false(world.websocket->paused);
}

static void node_says(enum stream_channel channel, const char *data, size_t len)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	stream_pack(&out, channel, data, len);
	assert_int_equal(fd_write_all(world.node, out.data, out.len), 0);
	turn();
}

static void node_hears(enum stream_channel channel, const char *data, size_t len)
{
	_cleanup_buf_ struct buf in = BUF_INIT;
	struct stream_packet packet;
	size_t size;

	while (stream_unpack(&in, &packet, &size) == 0)
		assert_true(buf_read(&in, world.node, 4 + len - MIN(in.len, 4 + len)) > 0);
	assert_int_equal(packet.channel, channel);
	assert_int_equal(packet.len, len);
	assert_memory_equal(packet.data, data, len);
}

#define NODE_SAYS(channel, text) node_says(channel, text, sizeof(text) - 1)
#define TELL(data) tell(data, sizeof(data) - 1, false)
#define SENT(text)                                                                                 \
	do {                                                                                       \
		assert_int_equal(world.websocket->sent.len, sizeof(text) - 1);                     \
		assert_memory_equal(world.websocket->sent.data, text, sizeof(text) - 1);           \
		buf_clear(&world.websocket->sent);                                                 \
	} while (0)

/* --- tests --- */

static void test_a_session_is_for_one_use(void **state)
{
	char id[UUID_STR_MAX], password[SESSION_PASSWORD_MAX];
	struct http_exchange other = {.request.path = "/streamsx"};

	assert_false(sessions_handle(world.sessions, &other));
	create(SESSION_TERMINAL, id, password);
	assert_true(str_ends(password, "[[EOM]]") && strlen(password) > 43);
	assert_int_equal(dial("", NULL), 404);
	assert_int_equal(dial("nothing", NULL), 404);
	/* An upgrade that is refused doesn't spend it. */
	world.refuse_upgrade = true;
	assert_int_equal(dial(id, NULL), 403);
	world.refuse_upgrade = false;
	assert_int_equal(dial(id, NULL), 0);
	assert_int_equal(dial(id, NULL), 404);
	tell(password, strlen(password), true);
	await_stream();
	assert_int_equal(dial(id, NULL), 404);
	hang_up(1006);
	assert_int_equal(dial(id, NULL), 404);
}

static void test_a_wrong_password_ends_it(void **state)
{
	static const char *const wrong[] = {"", "x", "[[EOM]]"};
	char id[UUID_STR_MAX], password[SESSION_PASSWORD_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(wrong) + 2; i++) {
		create(SESSION_TERMINAL, id, password);
		assert_int_equal(dial(id, NULL), 0);
		if (i < ARRAY_SIZE(wrong))
			tell(wrong[i], strlen(wrong[i]), true);
		else if (i == ARRAY_SIZE(wrong))
			tell(password, strlen(password) - 1, true);
		else
			tell(password, strlen(password) + 1, true);
		assert_int_equal(world.websocket->code, 1008);
		tell(password, strlen(password), true);
		turn();
		assert_true(world.node < 0);
		hang_up(1008);
	}
}

static void test_a_password_may_be_in_the_header(void **state)
{
	char id[UUID_STR_MAX], password[SESSION_PASSWORD_MAX];
	_cleanup_free_ char *bearer = NULL;

	create(SESSION_OUTPUT, id, password);
	bearer = xasprintf("Bearer %s", password);
	assert_int_equal(dial(id, bearer), 0);
	await_stream();
	TELL("dropped");
	NODE_SAYS(STREAM_STDOUT, "out");
	SENT("T:out\n");
	hang_up(1000);

	create(SESSION_OUTPUT, id, password);
	assert_int_equal(dial(id, "wrong[[EOM]]"), 0);
	assert_int_equal(world.websocket->code, 1008);
}

static void test_unused_ones_expire(void **state)
{
	char id[UUID_STR_MAX], password[SESSION_PASSWORD_MAX];

	sessions_free(world.sessions);
	open_sessions(50);
	create(SESSION_TERMINAL, id, password);
	usleep(60000);
	assert_int_equal(dial(id, NULL), 404);
	/* And so do those that nobody said the password to. */
	create(SESSION_TERMINAL, id, password);
	assert_int_equal(dial(id, NULL), 0);
	await_close();
	assert_int_equal(world.websocket->code, 1008);
	tell(password, strlen(password), true);
	turn();
	assert_true(world.node < 0);
}

static void test_their_number_is_bounded(void **state)
{
	struct session_spec spec = {SESSION_TERMINAL, "n1", "u/a", "exec", json_object()};
	char id[UUID_STR_MAX], password[SESSION_PASSWORD_MAX];
	static const char *const containers[] = {"u/a", "u/a", "u/a", "u/b", "u/c", "u/d"};
	static const int wanted[] = {0, 0, -EBUSY, 0, 0, -EBUSY};

	for (size_t i = 0; i < ARRAY_SIZE(containers); i++) {
		struct err err = {0};

		spec.container = containers[i];
		assert_int_equal(
			sessions_create(world.sessions, &spec, &err, id, password), wanted[i]);
		if (wanted[i] < 0)
			assert_string_equal(err.code, "TooManyRequests");
	}
	json_decref(spec.args);
}

static void test_a_terminal_is_text(void **state)
{
	start(SESSION_TERMINAL);
	assert_string_equal(world.method, "exec");
	tell("ls", 2, true);
	node_hears(STREAM_STDIN, "ls", 2);
	TELL("\xff\x00");
	node_hears(STREAM_STDIN, "\xff\x00", 2);
	tell("", 0, true);
	NODE_SAYS(STREAM_STDOUT, "a\xc3");
	SENT("T:a\n");
	NODE_SAYS(STREAM_STDOUT, "");
	NODE_SAYS(STREAM_STDOUT, "\xa9z\xff\xe2\x82");
	SENT("T:\xc3\xa9z\xef\xbf\xbd\n");
	NODE_SAYS(STREAM_STDOUT, "\0");
	SENT("T:\xef\xbf\xbd\xef\xbf\xbd\0\n");
	NODE_SAYS(STREAM_STDOUT, "\xf0\x9f");
	SENT("");
	NODE_SAYS(STREAM_STATUS, "{\"exitCode\":3}");
	SENT("T:\xef\xbf\xbd\xef\xbf\xbd\n");
	assert_int_equal(world.websocket->code, 1000);
}

static void test_channels_are_passed_on(void **state)
{
	start(SESSION_CHANNELS);
	TELL("\0in");
	node_hears(STREAM_STDIN, "in", 2);
	TELL("\0");
	TELL("");
	TELL("\x04{\"Width\":10,\"Height\":5,\"x\":[]}");
	node_hears(STREAM_RESIZE, "{\"Width\":10,\"Height\":5}", 23);
	TELL("\x04{\"Width\":0,\"Height\":5}");
	TELL("\x04nonsense");
	TELL("\xff\x01");
	TELL("\xff\0");
	node_hears(STREAM_CLOSE, "\0", 1);
	NODE_SAYS(STREAM_STDOUT, "o\xff");
	NODE_SAYS(STREAM_STDERR, "e");
	NODE_SAYS(77, "dropped");
	SENT("B:\x01o\xff\nB:\x02"
	     "e\n");
	NODE_SAYS(STREAM_STATUS, "{\"exitCode\":3}");
	SENT("B:\x03{\"exitCode\":3}\n");
	assert_int_equal(world.websocket->code, 1000);
}

static void test_a_terminal_has_channels_when_asked(void **state)
{
	world.wants_protocol = true;
	start(SESSION_TERMINAL);
	NODE_SAYS(STREAM_STDOUT, "o");
	SENT("B:\x01o\n");
}

static void test_other_channels_end_the_session(void **state)
{
	start(SESSION_CHANNELS);
	TELL("\x01out");
	assert_int_equal(world.websocket->code, 1008);
	TELL("\0late");
	hang_up(1008);
	fd_close(take_fd(world.node));
	start(SESSION_CHANNELS);
	tell("\0text", 5, true);
	assert_int_equal(world.websocket->code, 1008);
}

static void test_failures_have_their_words(void **state)
{
	char id[UUID_STR_MAX], password[SESSION_PASSWORD_MAX];
	struct err err = {0};

	start(SESSION_TERMINAL);
	NODE_SAYS(STREAM_STATUS, "{\"error\":{\"code\":\"C\",\"message\":\"no such file\"}}");
	SENT("T:no such file\r\n\n");
	assert_int_equal(world.websocket->code, 1011);
	assert_string_equal(world.websocket->reason, "no such file");
	hang_up(1011);
	fd_close(take_fd(world.node));

	start(SESSION_CHANNELS);
	NODE_SAYS(STREAM_STATUS, "{\"error\":{\"code\":\"C\",\"message\":\"no such file\"}}");
	SENT("B:\x03{\"error\":{\"code\":\"C\",\"message\":\"no such file\"}}\n");
	assert_int_equal(world.websocket->code, 1011);
	hang_up(1011);
	fd_close(take_fd(world.node));

	start(SESSION_TERMINAL);
	fd_close(take_fd(world.node));
	turn();
	assert_int_equal(world.websocket->code, 1011);
	hang_up(1011);

	start(SESSION_TERMINAL);
	assert_int_equal(fd_write_all(world.node, "\x01\xff\xff\xff", 4), 0);
	turn();
	assert_int_equal(world.websocket->code, 1011);
	hang_up(1011);
	fd_close(take_fd(world.node));

	err_set(&err, -ENOTCONN, "NodeUnavailable", "The node is away.");
	world.open_err = &err;
	create(SESSION_TERMINAL, id, password);
	assert_int_equal(dial(id, NULL), 0);
	tell(password, strlen(password), true);
	await_close();
	SENT("T:The node is away.\r\n\n");
	assert_int_equal(world.websocket->code, 1011);
}

static void test_a_client_that_goes_ends_the_stream(void **state)
{
	char id[UUID_STR_MAX], password[SESSION_PASSWORD_MAX], byte;

	start(SESSION_TERMINAL);
	hang_up(1006);
	assert_int_equal(read(world.node, &byte, 1), 0);
	fd_close(take_fd(world.node));
	/* Also when it goes before the stream is there. */
	create(SESSION_TERMINAL, id, password);
	assert_int_equal(dial(id, NULL), 0);
	tell(password, strlen(password), true);
	hang_up(1006);
	await_stream();
	assert_int_equal(read(world.node, &byte, 1), 0);
}

static void test_a_slow_client_stops_the_node(void **state)
{
	char data[BIG];
	size_t before;
	int flags;

	start(SESSION_CHANNELS);
	flags = fcntl(world.node, F_GETFL);
	fcntl(world.node, F_SETFL, flags | O_NONBLOCK);
	memset(data, 'x', sizeof(data));
	world.websocket->full = true;
	node_says(STREAM_STDOUT, data, 1000);
	before = world.websocket->sent.len;
	/* No more is taken, and in the end the node's socket is full. */
	while (send(world.node, data, sizeof(data), MSG_NOSIGNAL) > 0)
		turn();
	assert_int_equal(world.websocket->sent.len, before);
	/* A hang-up now is not a busy loop, and seen once it is read again. */
	hang_up(1006);
}

static void test_a_slow_node_stops_the_client(void **state)
{
	_cleanup_free_ char *all = NULL;
	char data[BIG] = {0};
	size_t told = 0, heard = 0;

	start(SESSION_TERMINAL);
	while (!world.websocket->paused) {
		tell(data, sizeof(data), false);
		told += sizeof(data) + 4;
		assert_true(told < (2 << 20));
	}
	all = xmalloc(told);
	while (heard < told) {
		ssize_t n = recv(world.node, all, told, MSG_DONTWAIT);

		if (n > 0)
			heard += (size_t)n;
		turn();
	}
	assert_false(world.websocket->paused);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_a_session_is_for_one_use),
		TEST(test_a_wrong_password_ends_it),
		TEST(test_a_password_may_be_in_the_header),
		TEST(test_unused_ones_expire),
		TEST(test_their_number_is_bounded),
		TEST(test_a_terminal_is_text),
		TEST(test_channels_are_passed_on),
		TEST(test_a_terminal_has_channels_when_asked),
		TEST(test_other_channels_end_the_session),
		TEST(test_failures_have_their_words),
		TEST(test_a_client_that_goes_ends_the_stream),
		TEST(test_a_slow_client_stops_the_node),
		TEST(test_a_slow_node_stops_the_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
