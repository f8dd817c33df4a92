/* What the other end of a stream may send: each packet lies within what came, and packed again is
 * the same bytes. */
#include "link/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf in = BUF_INIT;
	_cleanup_buf_ struct buf again = BUF_INIT;
	struct stream_packet packet;
	size_t used, total = 0;
	int r;

	assert(buf_add(&in, data, size) == 0);
	while ((r = stream_unpack(&in, &packet, &used)) == 1) {
		assert(used == packet.len + 4 && used <= in.len);
		assert(packet.data + packet.len <= in.data + in.len);
		assert(stream_pack(&again, packet.channel, packet.data, packet.len) == 0);
		total += used;
		buf_consume(&in, used);
	}
	assert(r == 0 || r == -EPROTO);
	assert(again.len == total && (total == 0 || memcmp(again.data, data, total) == 0));
	return 0;
}
