/* Frames of the link: a 32-bit big-endian length and one JSON object, read and written without
 * blocking. */
#pragma once

#include "base/base.h"
#include "base/json.h"

/* One end of a connection. in holds what was read and not yet used, out what couldn't be written
 * yet. */
struct frame_conn {
	int fd; /* owned, non-blocking */
	struct buf in, out;
};

void frame_conn_init(struct frame_conn *conn, int fd);
void frame_conn_done(struct frame_conn *conn);

/* Takes over the reference. Writes what goes, keeps the rest. Returns 1 when something is left to
 * write, 0 when not, -EMSGSIZE for a frame that is too large, -ENOBUFS when the peer reads too
 * slowly, -errno. */
int frame_send(struct frame_conn *conn, json_t *frame);
int frame_flush(struct frame_conn *conn);

/* Reads at most one frame and no byte beyond it, so that what follows can be raw. 1 and the frame
 * (new reference), 0 when more bytes are needed, -EPIPE at end of file, -EPROTO for anything that
 * isn't a frame. */
int frame_read(struct frame_conn *conn, json_t **ret);

/* The socket of a stream is taken out of the frame world: blocking, owned by the caller. */
int frame_conn_take_fd(struct frame_conn *conn);

/* The uid at the other end of a unix socket. */
int frame_peer_uid(int fd, uid_t *ret_uid);
