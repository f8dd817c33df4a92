/* Packets of a stream: what is packed comes out again, in any pieces, and what is none is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "link/stream.h"

static void what_is_packed_comes_out_again(void **state)
{
	static const struct {
		enum stream_channel channel;
		size_t len;
	} rows[] = {{STREAM_STDIN, 0}, {STREAM_STDOUT, 1}, {STREAM_STDERR, 255},
		{STREAM_STATUS, 256}, {STREAM_RESIZE, 65535}, {STREAM_CLOSE, STREAM_PAYLOAD_MAX}};
	_cleanup_free_ char *data = xmalloc(STREAM_PAYLOAD_MAX + 1);
	_cleanup_buf_ struct buf all = BUF_INIT;
	_cleanup_buf_ struct buf in = BUF_INIT;
	struct stream_packet packet;
	size_t size, at = 0;

	for (size_t i = 0; i <= STREAM_PAYLOAD_MAX; i++)
		data[i] = (char)(i * 7);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(stream_pack(&all, rows[i].channel, data, rows[i].len), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		/* Nothing comes before the last byte is there. */
		for (; in.len < 4 + rows[i].len; at++) {
			assert_int_equal(stream_unpack(&in, &packet, &size), 0);
			buf_addc(&in, all.data[at]);
		}
		assert_int_equal(stream_unpack(&in, &packet, &size), 1);
		assert_int_equal(packet.channel, rows[i].channel);
		assert_int_equal(packet.len, rows[i].len);
		assert_memory_equal(packet.data, data, rows[i].len);
		buf_consume(&in, size);
		assert_int_equal(in.len, 0);
	}
	assert_int_equal(at, all.len);
}

static void what_is_too_long_is_refused(void **state)
{
	_cleanup_free_ char *data = xcalloc(STREAM_PAYLOAD_MAX + 1, 1);
	_cleanup_buf_ struct buf out = BUF_MAX(64);
	_cleanup_buf_ struct buf in = BUF_INIT;
	struct stream_packet packet;
	size_t size;

	assert_int_equal(stream_pack(&out, STREAM_STDOUT, data, STREAM_PAYLOAD_MAX + 1), -EMSGSIZE);
	assert_int_equal(stream_pack(&out, STREAM_STDOUT, data, 61), -EFBIG);
	assert_int_equal(out.len, 0);
	buf_add(&in, "\x01\x01\x00\x01", 4);
	assert_int_equal(stream_unpack(&in, &packet, &size), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_packed_comes_out_again),
		cmocka_unit_test(what_is_too_long_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
