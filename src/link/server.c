/*
 * Control's end. The loop's thread reads; any thread may send, under one lock, straight into the
 * socket. A call registers itself, sends its request, and waits on its condition until the reply,
 * the stream's connection, the node's loss or its deadline.
 */
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/time.h"
#include "link/frame.h"
#include "link/link.h"

#define CONNECTIONS_MAX 256
/* A restarted node or control finds the other again within this time, so a call waits that long. */
#define RETURN_MS 2000

struct conn {
	struct link_server *server;
	struct frame_conn frames;
	struct loop_source *source;
	char node[128]; /* "" until hello */
	bool wants_write;
	struct conn *next;
};

struct call {
	int64_t id;
	char node[128];
	bool done;
	json_t *data; /* owned until taken */
	struct err err;
	int fd; /* of a stream */
	pthread_cond_t cond;
	struct call *next;
};

struct link_server {
	struct loop *loop;
	int fd;
	struct loop_source *source;
	uid_t peer_uid;
	const struct link_server_ops *ops;
	void *arg;
	pthread_mutex_t lock; /* conns' nodes and out buffers, calls, next_id */
	struct conn *conns;
	unsigned n_conns;
	struct call *calls;
	int64_t next_id;
	int64_t changed_ms;  /* monotonic: when we started, or a node went away */
	pthread_cond_t came; /* a node said hello */
};

/* For waits until a time of time_mono_ms(). */
static void cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

static struct timespec mono_timespec(int64_t mono_ms)
{
	return (struct timespec){.tv_sec = mono_ms / 1000, .tv_nsec = mono_ms % 1000 * 1000000};
}

static void call_finish(struct call *call)
{
	call->done = true;
	pthread_cond_signal(&call->cond);
}

/* With the lock held. */
static struct call *call_find(struct link_server *server, int64_t id)
{
	for (struct call *call = server->calls; call; call = call->next)
		if (call->id == id && !call->done)
			return call;
	return NULL;
}

static void call_set_error(struct call *call, const json_t *error)
{
	err_set(&call->err, -EREMOTEIO, json_get_str(error, "code", "InternalError"), "%s",
		json_get_str(error, "message",
			"The node answered with an error that it did not explain."));
}

static void conn_close(struct conn *conn)
{
	struct link_server *server = conn->server;

	pthread_mutex_lock(&server->lock);
	for (struct conn **at = &server->conns; *at; at = &(*at)->next)
		if (*at == conn) {
			*at = conn->next;
			break;
		}
	server->n_conns--;
	if (conn->node[0])
		server->changed_ms = time_mono_ms();
	for (struct call *call = server->calls; conn->node[0] && call; call = call->next)
		if (!call->done && str_eq(call->node, conn->node)) {
			err_set(&call->err, -ENOTCONN, "NodeUnavailable",
				"The node '%s' went away. Please retry.", conn->node);
			call_finish(call);
		}
	pthread_mutex_unlock(&server->lock);

	loop_remove(conn->source);
	if (conn->node[0] && server->ops->node_down)
		server->ops->node_down(conn->node, server->arg);
	frame_conn_done(&conn->frames);
	free(conn);
}

static void handle_reply(struct link_server *server, json_t *frame)
{
	json_t *error = json_get_obj(frame, "error");
	struct call *call;

	pthread_mutex_lock(&server->lock);
	call = call_find(server, json_get_int(frame, "id", 0));
	if (call) {
		if (error) {
			call_set_error(call, error);
		} else {
			/* Taken out of the frame: the caller's thread and this one share nothing of
			 * it. */
			call->data = json_incref(json_object_get(frame, "data"));
			json_object_del(frame, "data");
		}
		call_finish(call);
	}
	pthread_mutex_unlock(&server->lock);
}

/* The second connection of a stream request: hand its descriptor to the call. */
static void handle_stream(struct conn *conn, const json_t *frame)
{
	struct link_server *server = conn->server;
	json_t *error = json_get_obj(frame, "error");
	struct call *call;

	pthread_mutex_lock(&server->lock);
	call = call_find(server, json_get_int(frame, "id", 0));
	if (call) {
		if (error) {
			call_set_error(call, error);
		} else {
			loop_remove(conn->source);
			conn->source = NULL;
			call->fd = frame_conn_take_fd(&conn->frames);
		}
		call_finish(call);
	}
	pthread_mutex_unlock(&server->lock);
	conn_close(conn);
}

static void handle_hello(struct conn *conn, const json_t *frame)
{
	struct link_server *server = conn->server;
	const char *node = json_get_str(frame, "node", "");

	pthread_mutex_lock(&server->lock);
	if (str_copy(conn->node, sizeof(conn->node), node) < 0)
		log_warn("link: a node's name is too long and was refused");
	pthread_cond_broadcast(&server->came);
	pthread_mutex_unlock(&server->lock);
	if (conn->node[0] && server->ops->node_up)
		server->ops->node_up(conn->node, frame, server->arg);
}

/* False when the connection is gone afterwards. */
static bool handle_frame(struct conn *conn, json_t *frame)
{
	struct link_server *server = conn->server;
	const char *type = json_get_str(frame, "type", "");

	if (!conn->node[0]) {
		if (str_eq(type, "stream")) {
			handle_stream(conn, frame);
			return false;
		}
		if (str_eq(type, "hello"))
			handle_hello(conn, frame);
		if (!conn->node[0])
			conn_close(conn);
		return conn->node[0];
	}
	if (str_eq(type, "reply"))
		handle_reply(server, frame);
	else if (server->ops->message)
		server->ops->message(conn->node, type, frame, server->arg);
	return true;
}

static void conn_event(int fd, uint32_t events, void *arg)
{
	struct conn *conn = arg;
	int r = 0;

	if (events & EPOLLOUT) {
		pthread_mutex_lock(&conn->server->lock);
		r = frame_flush(&conn->frames);
		if (r == 0) {
			conn->wants_write = false;
			loop_modify(conn->source, EPOLLIN);
		}
		pthread_mutex_unlock(&conn->server->lock);
	}
	while (r >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		json_t *frame;

		r = frame_read(&conn->frames, &frame);
		if (r <= 0)
			break;
		bool alive = handle_frame(conn, frame);
		json_decref(frame);
		if (!alive)
			return;
	}
	if (r < 0) {
		if (r == -EPROTO)
			log_warn("link: a connection sent what is no frame and was closed");
		conn_close(conn);
	}
}

static void server_accept(int listen_fd, uint32_t events, void *arg)
{
	struct link_server *server = arg;
	_cleanup_fd_ int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *conn;
	uid_t uid;

	if (fd < 0)
		return;
	if (frame_peer_uid(fd, &uid) < 0 || uid != server->peer_uid) {
		log_warn("link: a connection of another user was refused");
		return;
	}
	if (server->n_conns >= CONNECTIONS_MAX)
		return;
	conn = xnew(struct conn);
	conn->server = server;
	frame_conn_init(&conn->frames, take_fd(fd));
	conn->source = loop_add(server->loop, conn->frames.fd, EPOLLIN, conn_event, conn);
	pthread_mutex_lock(&server->lock);
	conn->next = server->conns;
	server->conns = conn;
	server->n_conns++;
	pthread_mutex_unlock(&server->lock);
}

static int listen_unix(const char *path, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_cleanup_fd_ int fd = -EBADF;

	if (str_copy(addr.sun_path, sizeof(addr.sun_path), path) < 0)
		return err_set(err, -ENAMETOOLONG, "InvalidConfiguration",
			"The path of the link's socket, '%s', is longer than %zu bytes. Choose a shorter --state.",
			path, sizeof(addr.sun_path) - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, -errno, "socket");
	unlink(path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 64) < 0)
		return err_errno(err, -errno, "listen on %s", path);
	return take_fd(fd);
}

int link_server_new(struct loop *loop, const char *socket_path, uid_t peer_uid,
	const struct link_server_ops *ops, void *arg, struct err *err, struct link_server **ret)
{
	int fd = listen_unix(socket_path, err);
	struct link_server *server;

	if (fd < 0)
		return fd;
	server = xnew(struct link_server);
	*server = (struct link_server){
		.loop = loop, .fd = fd, .peer_uid = peer_uid, .ops = ops, .arg = arg, .next_id = 1};
	server->changed_ms = time_mono_ms();
	pthread_mutex_init(&server->lock, NULL);
	cond_init(&server->came);
	server->source = loop_add(loop, fd, EPOLLIN, server_accept, server);
	*ret = server;
	return 0;
}

void link_server_free(struct link_server *server)
{
	if (!server)
		return;
	while (server->conns)
		conn_close(server->conns);
	loop_remove(server->source);
	fd_close(server->fd);
	pthread_cond_destroy(&server->came);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

/* A sender found the socket full: the loop's thread goes on. The connection may be gone by then. */
static void server_want_write(void *arg)
{
	struct link_server *server = arg;

	pthread_mutex_lock(&server->lock);
	for (struct conn *conn = server->conns; conn; conn = conn->next)
		if (conn->wants_write && conn->source)
			loop_modify(conn->source, EPOLLIN | EPOLLOUT);
	pthread_mutex_unlock(&server->lock);
}

/* With the lock held. */
static int send_locked(struct link_server *server, const char *node, json_t *frame)
{
	struct conn *conn = server->conns;
	int r;

	while (conn && !(conn->node[0] && str_eq(conn->node, node)))
		conn = conn->next;
	if (!conn) {
		json_decref(frame);
		return -ENOTCONN;
	}
	r = frame_send(&conn->frames, frame);
	if (r == 1 && !conn->wants_write) {
		conn->wants_write = true;
		loop_post(server->loop, server_want_write, server);
	}
	if (r < 0)
		shutdown(
			conn->frames.fd, SHUT_RDWR); /* the loop's thread sees the end and closes */
	return r < 0 ? r : 0;
}

int link_server_send(struct link_server *server, const char *node, json_t *frame)
{
	int r;

	pthread_mutex_lock(&server->lock);
	r = send_locked(server, node, frame);
	pthread_mutex_unlock(&server->lock);
	return r;
}

static void call_init(struct call *call, const char *node)
{
	*call = (struct call){.fd = -EBADF};
	str_copy(call->node, sizeof(call->node), node);
	cond_init(&call->cond);
}

static void call_remove(struct link_server *server, struct call *call)
{
	for (struct call **at = &server->calls; *at; at = &(*at)->next)
		if (*at == call) {
			*at = call->next;
			break;
		}
}

/* With the lock held. A node that was there a moment ago, or may have been, is waited for. */
static int send_request(
	struct link_server *server, const char *node, json_t *frame, int64_t deadline)
{
	for (;;) {
		int64_t until = MIN(deadline, server->changed_ms + RETURN_MS);
		struct timespec ts = mono_timespec(until);
		int r = send_locked(server, node, json_incref(frame));

		if (r != -ENOTCONN || time_mono_ms() >= until)
			return r;
		pthread_cond_timedwait(&server->came, &server->lock, &ts);
	}
}

static int server_call(struct link_server *server, const char *node, const char *method,
	json_t *args, int timeout_ms, bool stream, struct err *err, struct call *call)
{
	int64_t deadline = time_mono_ms() + timeout_ms;
	struct timespec ts = mono_timespec(deadline);
	_cleanup_json_ json_t *frame = NULL;
	int r;

	call_init(call, node);
	pthread_mutex_lock(&server->lock);
	call->id = server->next_id++;
	frame = json_pack("{s:s, s:I, s:s, s:b}", "type", "request", "id", (json_int_t)call->id,
		"method", method, "stream", stream);
	json_object_set_new(frame, "args", args ? args : json_object());
	r = send_request(server, node, frame, deadline);
	if (r < 0) {
		err_set(&call->err, -ENOTCONN, "NodeUnavailable",
			"The node '%s' is not connected at this moment. Please retry.", node);
	} else {
		call->next = server->calls;
		server->calls = call;
		while (!call->done &&
			pthread_cond_timedwait(&call->cond, &server->lock, &ts) != ETIMEDOUT)
			;
		call_remove(server, call);
		if (!call->done)
			err_set(&call->err, -ETIMEDOUT, "NodeUnavailable",
				"The node '%s' did not answer within %d ms. Please retry.", node,
				timeout_ms);
	}
	pthread_mutex_unlock(&server->lock);
	pthread_cond_destroy(&call->cond);
	if (err && call->err.r < 0)
		*err = call->err;
	return call->err.r;
}

int link_server_call(struct link_server *server, const char *node, const char *method, json_t *args,
	int timeout_ms, struct err *err, json_t **ret_data)
{
	struct call call;
	int r = server_call(server, node, method, args, timeout_ms, false, err, &call);

	fd_close(call.fd);
	if (r < 0)
		json_decref(call.data);
	else
		*ret_data = call.data ? call.data : json_null();
	return r;
}

int link_server_stream(struct link_server *server, const char *node, const char *method,
	json_t *args, int timeout_ms, struct err *err, int *ret_fd)
{
	struct call call;
	int r = server_call(server, node, method, args, timeout_ms, true, err, &call);

	json_decref(call.data);
	if (r < 0)
		fd_close(call.fd);
	else if (call.fd < 0)
		return err_set(err, -EPROTO, "NodeUnavailable",
			"The node '%s' answered '%s' without a stream.", node, method);
	else
		*ret_fd = call.fd;
	return r;
}
