/* Frames as RFC 6455 §5 has them, and everything that it forbids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/websocket_frame.h"

#define MESSAGE_MAX 1000
#define BYTES(text) text, sizeof(text) - 1

struct wanted {
	enum websocket_event_type type;
	int code;
	const char *data;
};

static void expect_events(
	const char *data, size_t len, bool masked, size_t piece, const struct wanted *wanted)
{
	struct websocket_reader reader;
	struct websocket_event event = {0};
	size_t at = 0;

	websocket_reader_init(&reader, masked, MESSAGE_MAX);
	while (at < len && event.type != WEBSOCKET_EVENT_FAILED) {
		size_t n = MIN(piece, len - at);

		n = websocket_read(&reader, data + at, n, &event);
		assert_true(n > 0);
		at += n;
		if (event.type == WEBSOCKET_EVENT_NONE)
			continue;
		assert_int_equal(event.type, wanted->type);
		assert_int_equal(event.code, wanted->code);
		if (wanted->data) {
			assert_int_equal(event.len, strlen(wanted->data));
			assert_string_equal(event.data, wanted->data);
		}
		wanted++;
	}
	assert_int_equal(wanted->type, WEBSOCKET_EVENT_NONE);
	websocket_reader_done(&reader);
}

static const struct {
	const char *data;
	size_t len;
	bool masked;
	struct wanted wanted[4];
} cases[] = {
	/* The examples of §5.7. */
	{BYTES("\x81\x05Hello"), false, {{WEBSOCKET_EVENT_TEXT, 0, "Hello"}}},
	{BYTES("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), true,
		{{WEBSOCKET_EVENT_TEXT, 0, "Hello"}}},
	{BYTES("\x01\x03Hel\x80\x02lo"), false, {{WEBSOCKET_EVENT_TEXT, 0, "Hello"}}},
	{BYTES("\x89\x05Hello\x8a\x00"), false,
		{{WEBSOCKET_EVENT_PING, 0, "Hello"}, {WEBSOCKET_EVENT_PONG, 0, ""}}},
	/* Control frames between fragments; a character across them. */
	{BYTES("\x01\x02"
	       "a\xc3"
	       "\x89\x01p\x80\x01\xa9"),
		false, {{WEBSOCKET_EVENT_PING, 0, "p"}, {WEBSOCKET_EVENT_TEXT, 0, "a\xc3\xa9"}}},
	{BYTES("\x02\x00\x00\x00\x80\x00\x82\x01\xff"), false,
		{{WEBSOCKET_EVENT_BINARY, 0, ""}, {WEBSOCKET_EVENT_BINARY, 0, "\xff"}}},
	{BYTES("\x88\x00"), false, {{WEBSOCKET_EVENT_CLOSE, 1005, ""}}},
	{BYTES("\x88\x05\x03\xe8"
	       "bye"),
		false, {{WEBSOCKET_EVENT_CLOSE, 1000, "bye"}}},
	{BYTES("\x88\x02\x0f\xa0"), false, {{WEBSOCKET_EVENT_CLOSE, 4000, ""}}},
	/* What is forbidden. */
	{BYTES("\x81\x05Hello"), true, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x81\x85"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\xc1\x00"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x91\x00"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x83\x00"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x8b\x00"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x80\x00"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x01\x01"
	       "a\x81\x01"
	       "b"),
		false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x09\x00"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x89\x7e\x00\x7e"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x81\x7e\x00\x7d"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff"), false,
		{{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00"), false,
		{{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x82\x7f\x40\x00\x00\x00\x00\x00\x00\x00"), false,
		{{WEBSOCKET_EVENT_FAILED, 1009}}},
	{BYTES("\x82\x7e\x03\xe9"), false, {{WEBSOCKET_EVENT_FAILED, 1009}}},
	{BYTES("\x02\x01"
	       "a\x80\x7e\x03\xe8"),
		false, {{WEBSOCKET_EVENT_FAILED, 1009}}},
	{BYTES("\x81\x01\xff"), false, {{WEBSOCKET_EVENT_FAILED, 1007}}},
	{BYTES("\x81\x02\xc3"
	       "a"),
		false, {{WEBSOCKET_EVENT_FAILED, 1007}}},
	{BYTES("\x88\x01\x03"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}},
	{BYTES("\x88\x02\x03\xed"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}}, /* 1005 */
	{BYTES("\x88\x02\x13\x88"), false, {{WEBSOCKET_EVENT_FAILED, 1002}}}, /* 5000 */
	{BYTES("\x88\x03\x03\xe8\xff"), false, {{WEBSOCKET_EVENT_FAILED, 1007}}},
};

static void test_frames_in_any_pieces(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t piece = 1; piece <= cases[i].len; piece++)
			expect_events(cases[i].data, cases[i].len, cases[i].masked, piece,
				cases[i].wanted);
}

static void test_nothing_follows_a_failure(void **state)
{
	struct websocket_reader reader;
	struct websocket_event event;

	websocket_reader_init(&reader, false, MESSAGE_MAX);
	websocket_read(&reader, BYTES("\xc1\x00"), &event);
	assert_int_equal(event.type, WEBSOCKET_EVENT_FAILED);
	assert_int_equal(websocket_read(&reader,
				 BYTES("\x81\x01"
				       "a"),
				 &event),
		0);
	assert_int_equal(event.type, WEBSOCKET_EVENT_NONE);
	websocket_reader_done(&reader);
}

static void test_what_is_packed_can_be_read(void **state)
{
	static const size_t lens[] = {0, 1, 125, 126, 127, 65535, 65536, 70000};
	static char data[70000];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(lens); i++) {
		bool masked = i % 2;
		_cleanup_buf_ struct buf out = BUF_INIT;
		struct websocket_reader reader;
		struct websocket_event event;

		websocket_reader_init(&reader, masked, sizeof(data));
		assert_int_equal(
			websocket_pack(&out, WEBSOCKET_BINARY, masked, data, lens[i / 2]), 0);
		assert_int_equal(websocket_read(&reader, out.data, out.len, &event), out.len);
		assert_int_equal(event.type, WEBSOCKET_EVENT_BINARY);
		assert_int_equal(event.len, lens[i / 2]);
		assert_memory_equal(event.data, data, event.len);
		websocket_reader_done(&reader);
	}
}

static void test_a_full_buffer_stays_as_it_was(void **state)
{
	_cleanup_buf_ struct buf out = BUF_MAX(10);

	assert_int_equal(websocket_pack(&out, WEBSOCKET_TEXT, false, "abc", 3), 0);
	assert_int_equal(websocket_pack(&out, WEBSOCKET_TEXT, false, "abcd", 4), -EFBIG);
	assert_int_equal(websocket_pack(&out, WEBSOCKET_TEXT, false, "abc", 3), 0);
	assert_int_equal(out.len, 10);
}

static void test_a_long_reason_is_cut_at_a_character(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	char reason[200];

	memset(reason, 'a', sizeof(reason));
	memcpy(reason + 122, "\xc3\xa9", 2);
	reason[sizeof(reason) - 1] = '\0';
	assert_int_equal(websocket_pack_close(&out, false, 1011, reason), 0);
	assert_int_equal(out.len, 2 + 2 + 122);
}

static void test_keys(void **state)
{
	_cleanup_free_ char *accept = websocket_accept_key("dGhlIHNhbXBsZSBub25jZQ==");

	assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	assert_true(websocket_key_is_valid("dGhlIHNhbXBsZSBub25jZQ=="));
	assert_false(websocket_key_is_valid(""));
	assert_false(websocket_key_is_valid("dGhlIHNhbXBsZSBub25jZQ"));
	assert_false(websocket_key_is_valid("dGhlIHNhbXBsZSBub25jZWVl"));
	assert_false(websocket_key_is_valid("dGhlIHNhbXBsZSBub25jZ!=="));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_in_any_pieces),
		cmocka_unit_test(test_nothing_follows_a_failure),
		cmocka_unit_test(test_what_is_packed_can_be_read),
		cmocka_unit_test(test_a_full_buffer_stays_as_it_was),
		cmocka_unit_test(test_a_long_reason_is_cut_at_a_character),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
