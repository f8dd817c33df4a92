/* What the other end of the link may send, in pieces: the first byte says how large they are. A
 * frame is an object, and nothing behind the last one is read. */
#include <sys/socket.h>

#include "link/frame.h"
#include "link/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t read_frames(struct frame_conn *conn, int *ret)
{
	size_t n = 0;
	json_t *frame;

	while ((*ret = frame_read(conn, &frame)) == 1) {
		assert(json_is_object(frame));
		json_decref(frame);
		n++;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece, n = 0;
	struct frame_conn conn;
	int ends[2], r = 0;

	if (size < 1 || size > 60000)
		return 0;
	piece = data[0] ? data[0] : size;
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	frame_conn_init(&conn, ends[1]);
	for (size_t at = 1; at < size && r == 0; at += piece) {
		size_t len = MIN(piece, size - at);

		assert(send(ends[0], data + at, len, MSG_NOSIGNAL) == (ssize_t)len);
		n += read_frames(&conn, &r);
		assert(conn.in.len <= LINK_FRAME_MAX + 4);
	}
	assert(r == 0 || r == -EPROTO);
	assert(n <= size / 6);
	fd_close(ends[0]);
	if (r == 0)
		assert(frame_read(&conn, &(json_t *){NULL}) == -EPIPE);
	frame_conn_done(&conn);
	return 0;
}
