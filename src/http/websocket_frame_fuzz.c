/* The first byte says which end reads and in which pieces the rest is fed: however frames are cut,
 * the same comes out of them. */
#include "http/websocket_frame.h"

#define MESSAGE_MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A digest of all events. */
static uint64_t feed(const uint8_t *data, size_t size, bool masked, size_t piece)
{
	struct websocket_reader reader;
	uint64_t digest = 14695981039346656037U;

	websocket_reader_init(&reader, masked, MESSAGE_MAX);
	for (size_t at = 0; at < size;) {
		struct websocket_event event;
		size_t len = MIN(piece, size - at);
		size_t n = websocket_read(&reader, data + at, len, &event);

		assert(n <= len && event.len <= MESSAGE_MAX && event.data);
		at += n;
		if (event.type == WEBSOCKET_EVENT_NONE) {
			assert(n == len);
			continue;
		}
		if (event.type == WEBSOCKET_EVENT_TEXT || event.type == WEBSOCKET_EVENT_CLOSE)
			assert(str_is_utf8(event.data, event.len));
		digest = (digest ^ (uint64_t)event.type) * 1099511628211U;
		digest = (digest ^ (uint64_t)event.code) * 1099511628211U;
		for (size_t i = 0; i < event.len; i++)
			digest = (digest ^ (uint8_t)event.data[i]) * 1099511628211U;
		if (event.type == WEBSOCKET_EVENT_FAILED)
			break;
	}
	websocket_reader_done(&reader);
	return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool masked = size > 0 && data[0] & 0x80;

	if (size < 1)
		return 0;
	assert(feed(data + 1, size - 1, masked, size) ==
		feed(data + 1, size - 1, masked, (size_t)(data[0] & 0x3f) + 1));
	return 0;
}
