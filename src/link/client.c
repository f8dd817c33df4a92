/*
 * The node's end: one connection for frames, dialled again and again on the loop's thread, and a
 * connection of its own for each stream. Any thread may send, under one lock.
 */
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "link/frame.h"
#include "link/link.h"

#define DIAL_MIN_MS 20
#define DIAL_MAX_MS 200

struct link_client {
	struct loop *loop;
	char path[108];
	uid_t peer_uid;
	json_t *hello;
	const struct link_client_ops *ops;
	void *arg;
	struct loop_timer *timer;
	struct loop_source *source;
	int64_t delay_ms;
	pthread_mutex_t lock; /* frames.fd, frames.out, wants_write */
	struct frame_conn frames;
	bool connected, wants_write;
};

static void client_dial(void *arg);

static int dial(const struct link_client *client)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uid_t uid;
	int r;

	if (fd < 0)
		return -errno;
	str_copy(addr.sun_path, sizeof(addr.sun_path), client->path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	r = frame_peer_uid(fd, &uid);
	if (r < 0)
		return r;
	if (uid != client->peer_uid) {
		log_warn("link: %s belongs to another user", client->path);
		return -EPERM;
	}
	return take_fd(fd);
}

static void client_lost(struct link_client *client)
{
	loop_remove(client->source);
	client->source = NULL;
	pthread_mutex_lock(&client->lock);
	client->connected = client->wants_write = false;
	frame_conn_done(&client->frames);
	pthread_mutex_unlock(&client->lock);
	if (client->ops->down)
		client->ops->down(client->arg);
	client->timer = loop_after(client->loop, client->delay_ms, client_dial, client);
}

static void client_frame(struct link_client *client, const json_t *frame)
{
	const char *type = json_get_str(frame, "type", "");

	if (str_eq(type, "request"))
		client->ops->request(json_get_int(frame, "id", 0),
			json_get_str(frame, "method", ""), json_get_obj(frame, "args"),
			json_get_bool(frame, "stream", false), client->arg);
	else
		client->ops->message(type, frame, client->arg);
}

static void client_event(int fd, uint32_t events, void *arg)
{
	struct link_client *client = arg;
	int r = 0;

	if (events & EPOLLOUT) {
		pthread_mutex_lock(&client->lock);
		r = frame_flush(&client->frames);
		if (r == 0) {
			client->wants_write = false;
			loop_modify(client->source, EPOLLIN);
		}
		pthread_mutex_unlock(&client->lock);
	}
	while (r >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		json_t *frame;

		r = frame_read(&client->frames, &frame);
		if (r <= 0)
			break;
		client_frame(client, frame);
		json_decref(frame);
	}
	if (r < 0)
		client_lost(client);
}

static void client_dial(void *arg)
{
	struct link_client *client = arg;
	int fd = dial(client);

	client->timer = NULL;
	if (fd < 0) {
		client->timer = loop_after(client->loop, client->delay_ms, client_dial, client);
		client->delay_ms = MIN(client->delay_ms * 2, DIAL_MAX_MS);
		return;
	}
	client->delay_ms = DIAL_MIN_MS;
	pthread_mutex_lock(&client->lock);
	frame_conn_init(&client->frames, fd);
	client->connected = true;
	pthread_mutex_unlock(&client->lock);
	client->source = loop_add(client->loop, fd, EPOLLIN, client_event, client);
	link_client_send(client, json_deep_copy(client->hello));
	if (client->ops->up)
		client->ops->up(client->arg);
}

struct link_client *link_client_new(struct loop *loop, const char *socket_path, uid_t peer_uid,
	json_t *hello, const struct link_client_ops *ops, void *arg)
{
	struct link_client *client = xnew(struct link_client);

	*client = (struct link_client){.loop = loop,
		.peer_uid = peer_uid,
		.ops = ops,
		.arg = arg,
		.delay_ms = DIAL_MIN_MS,
		.frames = {.fd = -EBADF}};
	str_copy(client->path, sizeof(client->path), socket_path);
	client->hello = hello;
	json_object_set_new(client->hello, "type", json_string("hello"));
	pthread_mutex_init(&client->lock, NULL);
	client->timer = loop_after(loop, 0, client_dial, client);
	return client;
}

void link_client_free(struct link_client *client)
{
	if (!client)
		return;
	loop_cancel(client->timer);
	loop_remove(client->source);
	frame_conn_done(&client->frames);
	json_decref(client->hello);
	pthread_mutex_destroy(&client->lock);
	free(client);
}

static void client_want_write(void *arg)
{
	struct link_client *client = arg;

	if (client->source && client->wants_write)
		loop_modify(client->source, EPOLLIN | EPOLLOUT);
}

int link_client_send(struct link_client *client, json_t *frame)
{
	int r = -ENOTCONN;

	pthread_mutex_lock(&client->lock);
	if (!client->connected) {
		json_decref(frame);
	} else {
		r = frame_send(&client->frames, frame);
		if (r == 1 && !client->wants_write) {
			client->wants_write = true;
			loop_post(client->loop, client_want_write, client);
		}
		if (r < 0)
			shutdown(client->frames.fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&client->lock);
	return MIN(r, 0);
}

static json_t *answer(const char *type, int64_t id, const struct err *err)
{
	json_t *frame = json_pack("{s:s, s:I}", "type", type, "id", (json_int_t)id);

	if (err) {
		json_t *error =
			json_pack("{s:s}", "code", err->code[0] ? err->code : "InternalError");

		json_put_str(error, "message", err->message);
		json_object_set_new(frame, "error", error);
	}
	return frame;
}

void link_client_reply(struct link_client *client, int64_t id, json_t *data, const struct err *err)
{
	json_t *frame = answer("reply", id, err);

	if (data)
		json_object_set_new(frame, "data", data);
	link_client_send(client, frame);
}

int link_client_stream(struct link_client *client, int64_t id, const struct err *err, int *ret_fd)
{
	struct frame_conn conn;
	int fd = dial(client);
	int r;

	if (fd < 0)
		return fd;
	frame_conn_init(&conn, fd);
	r = frame_send(&conn, answer("stream", id, err));
	if (r == 0 && !err)
		*ret_fd = frame_conn_take_fd(&conn);
	frame_conn_done(&conn);
	return MIN(r, 0);
}
