#include <openssl/sha.h>

#include "base/random.h"
#include "http/websocket_frame.h"

#define FIN 0x80
#define RESERVED 0x70
#define OPCODE 0x0f
#define MASKED 0x80

void websocket_reader_init(struct websocket_reader *reader, bool masked, size_t max_message)
{
	*reader = (struct websocket_reader){.masked = masked, .message = BUF_MAX(max_message)};
}

void websocket_reader_done(struct websocket_reader *reader)
{
	buf_done(&reader->message);
}

static void fail(
	struct websocket_reader *reader, int code, const char *why, struct websocket_event *ret)
{
	reader->failed = true;
	*ret = (struct websocket_event){WEBSOCKET_EVENT_FAILED, why, strlen(why), code};
}

static bool is_control(const struct websocket_reader *reader)
{
	return reader->head[0] & 0x08;
}

/* How long the head is, as far as its first two bytes tell. */
static size_t head_size(const struct websocket_reader *reader)
{
	unsigned len = reader->head[1] & 0x7f;

	if (reader->head_len < 2)
		return 2;
	return 2 + (len == 126 ? 2u : len == 127 ? 8u : 0u) + (reader->masked ? 4u : 0u);
}

/* What the first two bytes say must hold before any more is read. */
static bool check_start(struct websocket_reader *reader, struct websocket_event *ret)
{
	unsigned char opcode = reader->head[0] & OPCODE;
	const char *why = NULL;

	if (reader->head[0] & RESERVED)
		why = "No extension was agreed on.";
	else if (!(reader->head[1] & MASKED) == reader->masked)
		why = reader->masked ? "Frames of a client must be masked."
				     : "Frames of a server must not be masked.";
	else if (opcode > WEBSOCKET_BINARY && (opcode < WEBSOCKET_CLOSE || opcode > WEBSOCKET_PONG))
		why = "The opcode is unknown.";
	else if (is_control(reader) && !(reader->head[0] & FIN))
		why = "A control frame can't be in fragments.";
	else if (is_control(reader) && (reader->head[1] & 0x7f) > WEBSOCKET_CONTROL_MAX)
		why = "A control frame has at most 125 bytes.";
	else if (opcode == WEBSOCKET_CONTINUATION && !reader->message_opcode)
		why = "There is no message to be continued.";
	else if (!is_control(reader) && opcode != WEBSOCKET_CONTINUATION && reader->message_opcode)
		why = "The last message isn't complete.";
	if (why)
		fail(reader, WEBSOCKET_CLOSE_PROTOCOL, why, ret);
	return !why;
}

static bool check_length(struct websocket_reader *reader, struct websocket_event *ret)
{
	unsigned code = reader->head[1] & 0x7f;
	uint64_t len = code, least = 0;

	if (code >= 126) {
		len = 0;
		for (size_t i = 0; i < (code == 126 ? 2 : 8); i++)
			len = len << 8 | reader->head[2 + i];
		least = code == 126 ? 126 : 65536;
	}
	if (len < least || len > INT64_MAX) {
		fail(reader, WEBSOCKET_CLOSE_PROTOCOL, "A frame's length is badly written.", ret);
		return false;
	}
	if (!is_control(reader) && len > reader->message.max - reader->message.len) {
		fail(reader, WEBSOCKET_CLOSE_TOO_LARGE, "The message is too large.", ret);
		return false;
	}
	reader->remain = len;
	return true;
}

/* Returns how many bytes of the head were read; in_payload is set when it is complete. */
static size_t read_head(struct websocket_reader *reader, const unsigned char *data, size_t len,
	struct websocket_event *ret)
{
	size_t used = 0;

	while (used < len && reader->head_len < head_size(reader)) {
		reader->head[reader->head_len++] = data[used++];
		if (reader->head_len == 2 && !check_start(reader, ret))
			return used;
	}
	if (reader->head_len < head_size(reader) || !check_length(reader, ret))
		return used;
	reader->in_payload = true;
	reader->mask_at = 0;
	reader->control_len = 0;
	if (!is_control(reader) && !reader->message_opcode)
		reader->message_opcode = reader->head[0] & OPCODE;
	return used;
}

static void unmask(struct websocket_reader *reader, char *data, size_t len)
{
	const unsigned char *key = reader->head + reader->head_len - 4;

	if (!reader->masked)
		return;
	for (size_t i = 0; i < len; i++)
		data[i] = (char)(data[i] ^ key[reader->mask_at++ & 3]);
}

static void read_payload(struct websocket_reader *reader, const unsigned char *data, size_t len)
{
	char *to;

	if (is_control(reader)) {
		to = reader->control + reader->control_len;
		memcpy(to, data, len);
		reader->control_len += len;
	} else {
		/* The head was refused if this didn't fit. */
		if (buf_add(&reader->message, data, len) < 0)
			abort();
		to = reader->message.data + reader->message.len - len;
	}
	if (len > 0)
		unmask(reader, to, len);
	reader->remain -= len;
}

/* §7.4: codes that may stand in a close frame. */
static bool code_is_valid(int code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != WEBSOCKET_CLOSE_NONE &&
		       code != WEBSOCKET_CLOSE_LOST) ||
	       (code >= 3000 && code <= 4999);
}

static void finish_close(struct websocket_reader *reader, struct websocket_event *ret)
{
	const unsigned char *data = (const unsigned char *)reader->control;
	size_t len = reader->control_len;
	int code = len >= 2 ? data[0] << 8 | data[1] : WEBSOCKET_CLOSE_NONE;

	if (len == 1 || (len >= 2 && !code_is_valid(code)))
		fail(reader, WEBSOCKET_CLOSE_PROTOCOL, "The close frame's code is no valid one.",
			ret);
	else if (len > 2 && !str_is_utf8(reader->control + 2, len - 2))
		fail(reader, WEBSOCKET_CLOSE_TEXT, "The close frame's reason isn't UTF-8.", ret);
	else
		*ret = (struct websocket_event){WEBSOCKET_EVENT_CLOSE,
			reader->control + MIN(len, 2), len > 2 ? len - 2 : 0, code};
}

static void finish_control(struct websocket_reader *reader, struct websocket_event *ret)
{
	unsigned char opcode = reader->head[0] & OPCODE;

	reader->control[reader->control_len] = '\0';
	if (opcode == WEBSOCKET_CLOSE)
		finish_close(reader, ret);
	else
		*ret = (struct websocket_event){
			opcode == WEBSOCKET_PING ? WEBSOCKET_EVENT_PING : WEBSOCKET_EVENT_PONG,
			reader->control, reader->control_len, 0};
}

static void finish_message(struct websocket_reader *reader, struct websocket_event *ret)
{
	const struct buf *message = &reader->message;
	bool text = reader->message_opcode == WEBSOCKET_TEXT;

	if (text && !str_is_utf8(buf_str(message), message->len)) {
		fail(reader, WEBSOCKET_CLOSE_TEXT, "A text message isn't UTF-8.", ret);
		return;
	}
	*ret = (struct websocket_event){text ? WEBSOCKET_EVENT_TEXT : WEBSOCKET_EVENT_BINARY,
		buf_str(message), message->len, 0};
	reader->message_opcode = 0;
	reader->message_given = true;
}

size_t websocket_read(
	struct websocket_reader *reader, const void *data, size_t len, struct websocket_event *ret)
{
	const unsigned char *bytes = data;
	size_t used = 0;

	*ret = (struct websocket_event){.data = ""};
	if (reader->message_given)
		buf_clear(&reader->message);
	reader->message_given = false;
	while (!reader->failed && ret->type == WEBSOCKET_EVENT_NONE) {
		size_t n;

		if (!reader->in_payload) {
			used += read_head(reader, bytes + used, len - used, ret);
			if (!reader->in_payload)
				break;
		}
		n = (size_t)MIN(reader->remain, len - used);
		read_payload(reader, bytes + used, n);
		used += n;
		if (reader->remain > 0)
			break;
		if (is_control(reader))
			finish_control(reader, ret);
		else if (reader->head[0] & FIN)
			finish_message(reader, ret);
		reader->in_payload = false;
		reader->head_len = 0;
	}
	return used;
}

/* Writing. */

int websocket_pack(
	struct buf *out, enum websocket_opcode opcode, bool masked, const void *data, size_t len)
{
	unsigned char head[WEBSOCKET_HEAD_MAX] = {(unsigned char)(FIN | opcode)};
	size_t n = 2, n_length = len < 126 ? 0 : len < 65536 ? 2 : 8;
	size_t start = out->len, max = out->max ? out->max : BUF_DEFAULT_MAX;
	unsigned char *key;

	head[1] = (unsigned char)(n_length == 0 ? len : n_length == 2 ? 126 : 127);
	for (size_t i = n_length; i-- > 0;)
		head[n++] = (unsigned char)(len >> 8 * i);
	key = head + n;
	if (masked) {
		head[1] |= MASKED;
		random_bytes(key, 4);
		n += 4;
	}
	/* Asked before and not after: a buffer that refused something takes nothing any more. */
	if (len > max || n + len > max - MIN(start, max))
		return -EFBIG;
	if (buf_add(out, head, n) < 0 || buf_add(out, data, len) < 0)
		return -ENOMEM;
	for (size_t i = 0; masked && i < len; i++)
		out->data[start + n + i] = (char)(out->data[start + n + i] ^ key[i & 3]);
	return 0;
}

int websocket_pack_close(struct buf *out, bool masked, int code, const char *reason)
{
	char payload[WEBSOCKET_CONTROL_MAX] = {(char)(code >> 8), (char)code};
	size_t len = MIN(strlen(reason), sizeof(payload) - 2);

	if (code == WEBSOCKET_CLOSE_NONE)
		return websocket_pack(out, WEBSOCKET_CLOSE, masked, NULL, 0);
	while (len > 0 && !str_is_utf8(reason, len))
		len--;
	memcpy(payload + 2, reason, len);
	return websocket_pack(out, WEBSOCKET_CLOSE, masked, payload, 2 + len);
}

/* Keys. */

char *websocket_accept_key(const char *key)
{
	_cleanup_free_ char *text = xasprintf("%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
	unsigned char digest[SHA_DIGEST_LENGTH];

	SHA1((const unsigned char *)text, strlen(text), digest);
	return str_base64(digest, sizeof(digest));
}

bool websocket_key_is_valid(const char *key)
{
	_cleanup_free_ unsigned char *data = NULL;
	size_t len;

	return strlen(key) == 24 && str_base64_decode(key, 24, false, &data, &len) == 0 &&
	       len == 16;
}
