/*
 * follow: the container's log as packets, from its files. It ends when the container has ended for
 * good and all of its log was given, or the peer has gone.
 */
#include <poll.h>

#include "base/time.h"
#include "link/stream.h"
#include "node/agent/session.h"
#include "node/runtime/follow.h"

#define OUT_FLUSH ((size_t)128 << 10)
#define OUT_MAX ((size_t)4 << 20)
#define IN_MAX ((size_t)64 << 10)
/* Between two looks at the file: at first, and when nothing has come for a while. */
#define WAIT_MIN_MS 10
#define WAIT_MAX_MS 100
#define STALL_LOOK_MS 1000
#define STALL_MAX_MS 30000

struct peer {
	struct session *session;
	int fd;
	struct buf out, in;
	struct runtime_follow *log;
};

/* Waits for the peer, at most so long; what it says is of no interest, but that it is there. */
static int wait_peer(struct peer *peer, bool to_send, int timeout_ms)
{
	struct pollfd fds[] = {
		{.fd = peer->fd, .events = (short)(POLLIN | (to_send ? POLLOUT : 0))},
		{.fd = peer->session->wake_fd, .events = POLLIN}};
	uint64_t woken;
	int r = 0;

	if (poll(fds, ARRAY_SIZE(fds), timeout_ms) < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[1].revents && read(peer->session->wake_fd, &woken, sizeof(woken)) < 0)
		woken = 0;
	if (agent_is_ending(peer->session->agent))
		return -ECANCELED;
	if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
		r = session_receive(peer->fd, &peer->in);
	buf_clear(&peer->in);
	return r;
}

/* A reader may stand still for as long as it likes, but not keep files on the disk that the log's
 * bound has removed. */
static int flush(struct peer *peer)
{
	int64_t moved_ms = time_mono_ms();
	int r = 0;

	while (r == 0 && peer->out.len > 0) {
		size_t before = peer->out.len;

		r = wait_peer(peer, true, STALL_LOOK_MS);
		if (r == 0)
			r = session_send(peer->fd, &peer->out);
		if (peer->out.len < before)
			moved_ms = time_mono_ms();
		else if (r == 0 && time_mono_ms() > moved_ms + STALL_MAX_MS &&
			 runtime_follow_holds_removed(peer->log))
			return -ETIMEDOUT;
	}
	return r;
}

static int give(bool is_stderr, const char *data, size_t len, void *arg)
{
	struct peer *peer = arg;
	int r = 0;

	while (r == 0 && len > 0) {
		size_t n = MIN(len, STREAM_PAYLOAD_MAX);

		r = stream_pack(&peer->out, is_stderr ? STREAM_STDERR : STREAM_STDOUT, data, n);
		data += n;
		len -= n;
		if (r == 0 && peer->out.len >= OUT_FLUSH)
			r = flush(peer);
	}
	return r;
}

/* What the loop's thread said of the container comes first: what was written before that is then in
 * the files. */
static int follow(struct peer *peer, struct err *err)
{
	struct runtime_follow *log = peer->log;
	struct session *session = peer->session;
	int wait_ms = WAIT_MIN_MS;

	for (;;) {
		enum session_view view = atomic_load(&session->view);
		unsigned run = atomic_load(&session->run);
		bool some = false;
		int r;

		while ((r = runtime_follow_read(log, give, peer, err)) == 1)
			some = true;
		some = some || peer->out.len > 0;
		if (r == 0)
			r = flush(peer);
		if (r < 0)
			return r;
		if (run > runtime_follow_run(log)) {
			runtime_follow_next(log, run);
			continue;
		}
		if (view != SESSION_GOING)
			return 0;
		wait_ms = some ? WAIT_MIN_MS : MIN(wait_ms * 2, WAIT_MAX_MS);
		r = wait_peer(peer, false, wait_ms);
		if (r < 0)
			return r;
	}
}

void session_follow(struct session *session)
{
	struct runtime *runtime = agent_config(session->agent)->runtime;
	struct peer peer = {
		.session = session, .fd = -EBADF, .out = BUF_MAX(OUT_MAX), .in = BUF_MAX(IN_MAX)};
	struct err err = {0};
	int r;

	if (link_client_stream(session->link, session->request, NULL, &peer.fd) < 0)
		return;
	fd_set_nonblock(peer.fd, true);
	peer.log = runtime_follow_new(runtime, session->dir, atomic_load(&session->run),
		json_get_int(session->args, "tail", -1),
		json_get_bool(session->args, "timestamps", false));
	r = follow(&peer, &err);
	if (r == -ECANCELED)
		err_set(&err, r, "NodeUnavailable",
			"The node's program is restarted. Please retry.");
	if (r == -ETIMEDOUT)
		err_set(&err, r, "LogReaderTooSlow",
			"Nothing of the log was taken for a while, and what comes next is no longer kept. Follow it again.");
	if (r != -EPIPE) {
		session_status(&peer.out, atomic_load(&session->exit_code), r < 0 ? &err : NULL);
		/* When this program ends, or the peer takes nothing, nobody waits. */
		if (r == -ECANCELED || r == -ETIMEDOUT)
			session_send(peer.fd, &peer.out);
		else
			flush(&peer);
	}
	runtime_follow_free(peer.log);
	buf_done(&peer.out);
	buf_done(&peer.in);
	fd_close(peer.fd);
}
