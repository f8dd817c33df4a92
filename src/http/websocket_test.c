/* WebSockets over real connections: the handshake, messages both ways, backpressure, and ends. */
#include <semaphore.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/time.h"
#include "http/test_peer.h"
#include "http/websocket.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define UPGRADE "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define WITH_KEY "Sec-WebSocket-Key: " KEY "\r\n"
#define HOST "Host: 127.0.0.1:8443\r\n"
#define OPEN "GET /socket HTTP/1.1\r\n" HOST UPGRADE VERSION WITH_KEY "\r\n"
#define PUSHED 4000

/* The server's end: says what it got, but for some words that mean something. */
struct end {
	struct test_server server;
	size_t bytes; /* received */
	unsigned pushed;
	unsigned drained;
	struct loop_timer *resume;
	struct websocket *paused;
	int code;
	sem_t closed;
};

static struct end end;

/* Sends numbered messages of 1000 bytes until it should wait. */
static void push(struct websocket *websocket)
{
	char data[1000];
	int r = 0;

	memset(data, 'x', sizeof(data));
	while (end.pushed < PUSHED && r == 0) {
		memcpy(data, &end.pushed, sizeof(end.pushed));
		r = websocket_send(websocket, false, data, sizeof(data));
		assert_true(r >= 0);
		end.pushed++;
	}
}

static void resume(void *arg)
{
	end.resume = NULL;
	websocket_pause(end.paused, false);
}

static void on_message(
	struct websocket *websocket, bool text, const char *data, size_t len, void *arg)
{
	assert_ptr_equal(arg, &end);
	end.bytes += len;
	if (str_eq(data, "push")) {
		push(websocket);
	} else if (str_eq(data, "pause")) {
		end.paused = websocket;
		websocket_pause(websocket, true);
		end.resume = loop_after(end.server.loop, 200, resume, NULL);
	} else if (str_eq(data, "ping")) {
		websocket_set_ping(websocket, 50, 400);
	} else if (str_eq(data, "count")) {
		_cleanup_free_ char *count = xasprintf("%zu", end.bytes);

		websocket_send(websocket, true, count, strlen(count));
	} else if (str_eq(data, "close")) {
		websocket_send(websocket, true, "last", 4);
		websocket_close(websocket, 4000, "bye");
		websocket_close(websocket, 4001, "again");
		assert_int_equal(websocket_send(websocket, true, "late", 4), -EPIPE);
	} else if (len <= 1000) {
		websocket_send(websocket, text, data, len);
	}
}

static void on_drained(struct websocket *websocket, void *arg)
{
	end.drained++;
	push(websocket);
}

static void on_closed(struct websocket *websocket, int code, void *arg)
{
	end.code = code;
	loop_cancel(take_ptr(end.resume));
	sem_post(&end.closed);
}

static const struct websocket_ops ops = {on_message, on_drained, on_closed};

static int setup(void **state)
{
	end = (struct end){0};
	sem_init(&end.closed, 0, 0);
	test_server_start(&end.server, &(struct http_server_config){.idle_timeout_ms = 200});
	end.server.websocket = (struct websocket_config){.ops = &ops,
		.arg = &end,
		.max_message = 65536,
		.authority = "127.0.0.1:8443",
		.protocol = "talk"};
	return 0;
}

static int teardown(void **state)
{
	test_server_stop(&end.server);
	sem_destroy(&end.closed);
	return 0;
}

static void await_closed(int code)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 8;
	assert_int_equal(sem_timedwait(&end.closed, &until), 0);
	assert_int_equal(end.code, code);
}

/* --- the client's end --- */

struct talk {
	struct peer peer;
	struct websocket_reader reader;
	struct websocket_event event;
};

static void talk_open(struct talk *talk)
{
	peer_open(&talk->peer, end.server.port);
	websocket_reader_init(&talk->reader, false, 1 << 20);
	peer_send(&talk->peer, OPEN);
	assert_int_equal(peer_read(&talk->peer, true, NULL, NULL), 101);
}

static void talk_close(struct talk *talk)
{
	websocket_reader_done(&talk->reader);
	peer_close(&talk->peer);
}

static void say(struct talk *talk, enum websocket_opcode opcode, const void *data, size_t len)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	assert_int_equal(websocket_pack(&out, opcode, true, data, len), 0);
	peer_send_bytes(&talk->peer, out.data, out.len);
}

static void say_text(struct talk *talk, const char *text)
{
	say(talk, WEBSOCKET_TEXT, text, strlen(text));
}

/* False at the end of the connection. */
static bool hear(struct talk *talk)
{
	for (;;) {
		struct buf *in = &talk->peer.in;
		size_t n = websocket_read(&talk->reader, buf_str(in), in->len, &talk->event);

		buf_consume(in, n);
		if (talk->event.type != WEBSOCKET_EVENT_NONE)
			return true;
		if (!peer_fill(&talk->peer))
			return false;
	}
}

static void expect(struct talk *talk, enum websocket_event_type type, int code, const char *data)
{
	assert_true(hear(talk));
	assert_int_equal(talk->event.type, type);
	assert_int_equal(talk->event.code, code);
	if (data)
		assert_string_equal(talk->event.data, data);
}

/* --- tests --- */

static void test_requests_that_open_none(void **state)
{
	static const struct {
		int status;
		const char *request;
	} cases[] = {
		{405, "POST /socket HTTP/1.1\r\n" HOST UPGRADE VERSION WITH_KEY "\r\n"},
		{400, "GET /socket HTTP/1.0\r\n" HOST UPGRADE VERSION WITH_KEY "\r\n"},
		{400, "GET /socket HTTP/1.1\r\n" HOST UPGRADE VERSION WITH_KEY
		      "Content-Length: 1\r\n\r\na"},
		{426, "GET /socket HTTP/1.1\r\n" HOST "\r\n"},
		{426, "GET /socket HTTP/1.1\r\n" HOST UPGRADE WITH_KEY "\r\n"},
		{426, "GET /socket HTTP/1.1\r\n" HOST UPGRADE WITH_KEY
		      "Sec-WebSocket-Version: 8\r\n\r\n"},
		{426, "GET /socket HTTP/1.1\r\n" HOST
		      "Upgrade: h2c\r\nConnection: Upgrade\r\n" VERSION WITH_KEY "\r\n"},
		{400, "GET /socket HTTP/1.1\r\n" HOST "Upgrade: websocket\r\n" VERSION WITH_KEY
		      "\r\n"},
		{400, "GET /socket HTTP/1.1\r\n" HOST UPGRADE VERSION "\r\n"},
		{400, "GET /socket HTTP/1.1\r\n" HOST UPGRADE VERSION
		      "Sec-WebSocket-Key: short\r\n\r\n"},
		{403, "GET /socket HTTP/1.1\r\nHost: evil.example:8443\r\n" UPGRADE VERSION WITH_KEY
		      "\r\n"},
		{403, "GET /socket HTTP/1.1\r\nHost: 127.0.0.1:80\r\n" UPGRADE VERSION WITH_KEY
		      "\r\n"},
		{403, "GET /socket HTTP/1.1\r\nHost: 127.0.0.1\r\n" UPGRADE VERSION WITH_KEY
		      "\r\n"},
		{403, "GET /socket HTTP/1.1\r\n" HOST UPGRADE VERSION WITH_KEY
		      "Origin: https://evil.example\r\n\r\n"},
		{403, "GET /socket HTTP/1.1\r\n" HOST UPGRADE VERSION WITH_KEY
		      "Origin: null\r\n\r\n"},
		{403, "GET /socket HTTP/1.1\r\n" HOST UPGRADE VERSION WITH_KEY
		      "Origin: https://127.0.0.1:8443.evil.example\r\n\r\n"},
		{101, "GET /socket HTTP/1.1\r\n" HOST UPGRADE VERSION WITH_KEY
		      "Origin: http://127.0.0.1:8443\r\n\r\n"},
		{101, "GET /socket HTTP/1.1\r\nHost: localhost:8443\r\n" UPGRADE VERSION WITH_KEY
		      "Origin: https://localhost:8443\r\n\r\n"},
		{101, "GET /socket HTTP/1.1\r\nHost: [::1]:8443\r\n" UPGRADE VERSION WITH_KEY
		      "\r\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct peer peer;

		peer_open(&peer, end.server.port);
		peer_send(&peer, cases[i].request);
		assert_int_equal(
			peer_read(&peer, cases[i].status == 101, NULL, NULL), cases[i].status);
		peer_close(&peer);
		if (cases[i].status == 101)
			await_closed(1006);
	}
}

static void test_the_answer_to_the_handshake(void **state)
{
	_cleanup_free_ char *head = NULL;
	struct peer peer;

	peer_open(&peer, end.server.port);
	peer_send(&peer, "GET /socket HTTP/1.1\r\n" HOST UPGRADE VERSION WITH_KEY
			 "Sec-WebSocket-Protocol: other, talk\r\n"
			 "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
	assert_int_equal(peer_read(&peer, true, &head, NULL), 101);
	assert_non_null(strstr(head, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	assert_non_null(strstr(head, "\r\nSec-WebSocket-Protocol: talk\r\n"));
	assert_null(strstr(head, "Extensions"));
	peer_close(&peer);
	await_closed(1006);
}

static void test_messages_both_ways(void **state)
{
	_cleanup_buf_ struct buf all = BUF_INIT;
	struct talk talk;

	talk_open(&talk);
	say_text(&talk, "h\xc3\xa9");
	expect(&talk, WEBSOCKET_EVENT_TEXT, 0, "h\xc3\xa9");
	say(&talk, WEBSOCKET_BINARY, "\xff", 1);
	expect(&talk, WEBSOCKET_EVENT_BINARY, 0, "\xff");
	say(&talk, WEBSOCKET_PING, "p", 1);
	expect(&talk, WEBSOCKET_EVENT_PONG, 0, "p");
	/* Longer than HTTP's patience for an idle connection. */
	usleep(600000);
	say_text(&talk, "still");
	expect(&talk, WEBSOCKET_EVENT_TEXT, 0, "still");
	talk_close(&talk);
	await_closed(1006);

	/* With the handshake in one piece. */
	buf_adds(&all, OPEN);
	websocket_pack(&all, WEBSOCKET_TEXT, true, "early", 5);
	peer_open(&talk.peer, end.server.port);
	websocket_reader_init(&talk.reader, false, 1000);
	peer_send_bytes(&talk.peer, all.data, all.len);
	assert_int_equal(peer_read(&talk.peer, true, NULL, NULL), 101);
	expect(&talk, WEBSOCKET_EVENT_TEXT, 0, "early");
	talk_close(&talk);
	await_closed(1006);
}

static void test_both_ends_can_close(void **state)
{
	struct talk talk;

	talk_open(&talk);
	say(&talk, WEBSOCKET_CLOSE, "\x0f\xa1why", 5);
	expect(&talk, WEBSOCKET_EVENT_CLOSE, 4001, "");
	await_closed(4001);
	assert_true(peer_at_end(&talk.peer));
	talk_close(&talk);

	talk_open(&talk);
	say_text(&talk, "close");
	expect(&talk, WEBSOCKET_EVENT_TEXT, 0, "last");
	expect(&talk, WEBSOCKET_EVENT_CLOSE, 4000, "bye");
	say(&talk, WEBSOCKET_CLOSE, "\x0f\xa0", 2);
	await_closed(4000);
	assert_true(peer_at_end(&talk.peer));
	talk_close(&talk);
}

static void test_a_peer_that_breaks_the_rules_is_told(void **state)
{
	struct talk talk;

	talk_open(&talk);
	peer_send_bytes(&talk.peer, "\x82\xff\x40\0\0\0\0\0\0\0mask", 14);
	expect(&talk, WEBSOCKET_EVENT_CLOSE, 1009, "The message is too large.");
	await_closed(1009);
	assert_true(peer_at_end(&talk.peer));
	talk_close(&talk);

	talk_open(&talk);
	peer_send_bytes(&talk.peer,
		"\x81\x01"
		"a",
		3);
	expect(&talk, WEBSOCKET_EVENT_CLOSE, 1002, NULL);
	await_closed(1002);
	talk_close(&talk);
}

static void test_a_peer_that_does_not_answer_the_close_is_left(void **state)
{
	struct talk talk;
	int64_t start_ms = time_mono_ms();

	talk_open(&talk);
	say_text(&talk, "close");
	await_closed(4000);
	assert_in_range(time_mono_ms() - start_ms, 4500, 7500);
	talk_close(&talk);
}

static void test_what_is_sent_waits_for_a_slow_reader(void **state)
{
	struct talk talk;

	talk_open(&talk);
	say_text(&talk, "push");
	usleep(300000);
	/* The kernel's buffers and the queue are full; then it goes on. */
	for (unsigned i = 0; i < PUSHED; i++) {
		unsigned number;

		expect(&talk, WEBSOCKET_EVENT_BINARY, 0, NULL);
		assert_int_equal(talk.event.len, 1000);
		memcpy(&number, talk.event.data, sizeof(number));
		assert_int_equal(number, i);
	}
	assert_true(end.drained > 0);
	talk_close(&talk);
	await_closed(1006);
}

static void test_a_paused_websocket_loses_nothing(void **state)
{
	char data[10000] = {0};
	struct talk talk;

	talk_open(&talk);
	say_text(&talk, "pause");
	for (int i = 0; i < 200; i++)
		say(&talk, WEBSOCKET_BINARY, data, sizeof(data));
	say_text(&talk, "count");
	expect(&talk, WEBSOCKET_EVENT_TEXT, 0, "2000010");
	talk_close(&talk);
	await_closed(1006);
}

static void test_a_silent_peer_is_pinged_and_then_lost(void **state)
{
	struct talk talk;

	talk_open(&talk);
	say_text(&talk, "ping");
	expect(&talk, WEBSOCKET_EVENT_PING, 0, "");
	say(&talk, WEBSOCKET_PONG, "", 0);
	expect(&talk, WEBSOCKET_EVENT_PING, 0, "");
	await_closed(1006);
	talk_close(&talk);
}

static void test_a_server_that_goes_ends_them(void **state)
{
	struct talk talk;

	talk_open(&talk);
	test_server_stop(&end.server);
	await_closed(1006);
	talk_close(&talk);
	test_server_start(&end.server, NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests_that_open_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_answer_to_the_handshake, setup, teardown),
		cmocka_unit_test_setup_teardown(test_messages_both_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(test_both_ends_can_close, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_peer_that_breaks_the_rules_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_peer_that_does_not_answer_the_close_is_left, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_what_is_sent_waits_for_a_slow_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_paused_websocket_loses_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_silent_peer_is_pinged_and_then_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_server_that_goes_ends_them, setup, teardown),
	};

	return cmocka_run_group_tests(tests, certs_setup, certs_teardown);
}
