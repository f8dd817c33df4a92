#include <sys/socket.h>

#include "link/frame.h"
#include "link/link.h"

/* Status of many groups may pile up while the peer restarts its loop; beyond this it is stuck. */
#define FRAME_OUT_MAX (4 * LINK_FRAME_MAX)
/* Between two bytes of a stream. */
#define STREAM_WAIT_S 30

void frame_conn_init(struct frame_conn *conn, int fd)
{
	*conn = (struct frame_conn){
		.fd = fd, .in = BUF_MAX(LINK_FRAME_MAX + 4), .out = BUF_MAX(FRAME_OUT_MAX)};
	fd_set_nonblock(fd, true);
}

void frame_conn_done(struct frame_conn *conn)
{
	conn->fd = fd_close(conn->fd);
	buf_done(&conn->in);
	buf_done(&conn->out);
}

int frame_flush(struct frame_conn *conn)
{
	while (conn->out.len > 0) {
		ssize_t n = send(conn->fd, conn->out.data, conn->out.len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 1 : -errno;
		buf_consume(&conn->out, (size_t)n);
	}
	return 0;
}

int frame_send(struct frame_conn *conn, json_t *frame)
{
	_cleanup_free_ char *text = json_text(frame);
	size_t len = strlen(text);
	unsigned char head[4] = {len >> 24 & 255, len >> 16 & 255, len >> 8 & 255, len & 255};

	json_decref(frame);
	if (len > LINK_FRAME_MAX)
		return -EMSGSIZE;
	if (conn->out.len + len + sizeof(head) > FRAME_OUT_MAX)
		return -ENOBUFS;
	buf_add(&conn->out, head, sizeof(head));
	buf_add(&conn->out, text, len);
	return frame_flush(conn);
}

static size_t frame_length(const struct buf *in)
{
	const unsigned char *p = (const unsigned char *)in->data;

	return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* Reads until in holds `want` bytes. 1 when it does. */
static int frame_fill(struct frame_conn *conn, size_t want)
{
	while (conn->in.len < want) {
		ssize_t n = buf_read(&conn->in, conn->fd, want - conn->in.len);

		if (n == 0)
			return -EPIPE;
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
	}
	return 1;
}

int frame_read(struct frame_conn *conn, json_t **ret)
{
	struct err err = {0};
	json_t *frame;
	size_t len;
	int r;

	r = frame_fill(conn, 4);
	if (r <= 0)
		return r;
	len = frame_length(&conn->in);
	if (len > LINK_FRAME_MAX)
		return -EPROTO;
	r = frame_fill(conn, 4 + len);
	if (r <= 0)
		return r;
	r = json_parse(conn->in.data + 4, len, 2 * JSON_DEPTH_MAX, &err, &frame);
	buf_clear(&conn->in);
	if (r < 0 || !json_is_object(frame)) {
		if (r >= 0)
			json_decref(frame);
		return -EPROTO;
	}
	*ret = frame;
	return 1;
}

int frame_conn_take_fd(struct frame_conn *conn)
{
	fd_set_nonblock(conn->fd, false);
	return take_fd(conn->fd);
}

void link_stream_bound(int fd)
{
	struct timeval wait = {.tv_sec = STREAM_WAIT_S};

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0)
		log_warn("link: a stream's wait can't be bounded: %s", err_str(-errno));
}

int frame_peer_uid(int fd, uid_t *ret_uid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	*ret_uid = cred.uid;
	return 0;
}
