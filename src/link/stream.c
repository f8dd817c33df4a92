#include "link/stream.h"

#define HEAD ((size_t)4)

int stream_pack(struct buf *out, enum stream_channel channel, const void *data, size_t len)
{
	unsigned char head[HEAD] = {
		(unsigned char)channel, len >> 16 & 255, len >> 8 & 255, len & 255};
	size_t before = out->len;
	int r;

	if (len > STREAM_PAYLOAD_MAX)
		return -EMSGSIZE;
	r = buf_add(out, head, sizeof(head));
	if (r < 0)
		return r;
	r = buf_add(out, data, len);
	/* A head without its payload would swallow the next packet. */
	if (r < 0)
		out->len = before;
	return r;
}

int stream_unpack(const struct buf *in, struct stream_packet *ret, size_t *ret_size)
{
	const unsigned char *head = (const unsigned char *)in->data;
	size_t len;

	if (in->len < HEAD)
		return 0;
	len = (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
	if (len > STREAM_PAYLOAD_MAX)
		return -EPROTO;
	if (in->len < HEAD + len)
		return 0;
	*ret = (struct stream_packet){.channel = head[0], .data = in->data + HEAD, .len = len};
	*ret_size = HEAD + len;
	return 1;
}
