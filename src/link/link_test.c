/* Both ends over a real unix socket: hello, messages both ways, calls, errors, streams, loss and
 * redial. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/time.h"
#include "link/link.h"

struct world {
	char dir[64], path[96];
	struct loop *loop;
	pthread_t thread;
	struct link_server *server;
	struct link_client *client;
	int ups, downs, server_messages, client_messages;
	char last_status[64];
	int echo_fd;
};

static void node_up(const char *node, const json_t *hello, void *arg)
{
	struct world *w = arg;

	assert_string_equal(node, "n1");
	assert_int_equal(json_get_int(hello, "cpus", 0), 2);
	__atomic_add_fetch(&w->ups, 1, __ATOMIC_SEQ_CST);
}

static void node_down(const char *node, void *arg)
{
	__atomic_add_fetch(&((struct world *)arg)->downs, 1, __ATOMIC_SEQ_CST);
}

static void server_message(const char *node, const char *type, const json_t *frame, void *arg)
{
	struct world *w = arg;

	str_copy(w->last_status, sizeof(w->last_status), json_get_str(frame, "uid", ""));
	__atomic_add_fetch(&w->server_messages, 1, __ATOMIC_SEQ_CST);
}

static void client_message(const char *type, const json_t *frame, void *arg)
{
	assert_string_equal(type, "group");
	__atomic_add_fetch(&((struct world *)arg)->client_messages, 1, __ATOMIC_SEQ_CST);
}

static void *echo(void *arg)
{
	int fd = ((struct world *)arg)->echo_fd;
	char data[4096];
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		if (fd_write_all(fd, data, (size_t)n) < 0)
			break;
	fd_close(fd);
	return NULL;
}

static void client_request(
	int64_t id, const char *method, const json_t *args, bool stream, void *arg)
{
	struct world *w = arg;
	struct err err = {0};
	int fd;

	if (str_eq(method, "fail")) {
		err_set(&err, -ENOENT, "NoSuchThing", "There is no %s here.",
			json_get_str(args, "name", "?"));
		if (stream)
			link_client_stream(w->client, id, &err, &fd);
		else
			link_client_reply(w->client, id, NULL, &err);
	} else if (str_eq(method, "silent")) {
		return;
	} else if (str_eq(method, "echo")) {
		pthread_t thread;

		assert_int_equal(link_client_stream(w->client, id, NULL, &w->echo_fd), 0);
		pthread_create(&thread, NULL, echo, w);
		pthread_detach(thread);
	} else if (stream) {
		assert_int_equal(link_client_stream(w->client, id, NULL, &fd), 0);
		assert_int_equal(fd_write_all(fd, "raw bytes\n", 10), 0);
		fd_close(fd);
	} else {
		link_client_reply(w->client, id, json_pack("{s:i}", "answer", 42), NULL);
	}
}

static const struct link_server_ops server_ops = {node_up, node_down, server_message};
static const struct link_client_ops client_ops = {NULL, NULL, client_message, client_request};

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void wait_for(const int *value, int at_least)
{
	for (int i = 0; i < 500 && __atomic_load_n(value, __ATOMIC_SEQ_CST) < at_least; i++)
		usleep(10000);
	assert_true(__atomic_load_n(value, __ATOMIC_SEQ_CST) >= at_least);
}

static int setup(void **state)
{
	struct world *w = xnew(struct world);
	struct err err = {0};

	snprintf(w->dir, sizeof(w->dir), "/tmp/link-test-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/node.sock", w->dir);
	w->loop = loop_new();
	assert_int_equal(
		link_server_new(w->loop, w->path, getuid(), &server_ops, w, &err, &w->server), 0);
	w->client = link_client_new(w->loop, w->path, getuid(),
		json_pack("{s:s, s:i}", "node", "n1", "cpus", 2), &client_ops, w);
	pthread_create(&w->thread, NULL, run_loop, w->loop);
	wait_for(&w->ups, 1);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	loop_stop(w->loop);
	pthread_join(w->thread, NULL);
	link_client_free(w->client);
	link_server_free(w->server);
	loop_free(w->loop);
	unlink(w->path);
	rmdir(w->dir);
	free(w);
	return 0;
}

static void messages_go_both_ways(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 100; i++) {
		assert_int_equal(
			link_server_send(w->server, "n1", json_pack("{s:s}", "type", "group")), 0);
		assert_int_equal(link_client_send(w->client,
					 json_pack("{s:s, s:s}", "type", "status", "uid", "u1")),
			0);
	}
	wait_for(&w->client_messages, 100);
	wait_for(&w->server_messages, 100);
	assert_string_equal(w->last_status, "u1");
	assert_int_equal(link_server_send(w->server, "n2", json_object()), -ENOTCONN);
}

static void a_large_frame_arrives_whole(void **state)
{
	struct world *w = *state;
	char *text = xmalloc(3 << 20);

	memset(text, 'x', 3 << 20);
	text[(3 << 20) - 1] = 0;
	assert_int_equal(link_server_send(w->server, "n1",
				 json_pack("{s:s, s:s}", "type", "group", "pad", text)),
		0);
	wait_for(&w->client_messages, 1);
	free(text);
}

static void a_call_returns_the_reply_or_the_error_of_the_node(void **state)
{
	struct world *w = *state;
	struct err err = {0};
	json_t *data;

	assert_int_equal(link_server_call(w->server, "n1", "images", NULL, 2000, &err, &data), 0);
	assert_int_equal(json_get_int(data, "answer", 0), 42);
	json_decref(data);

	assert_true(link_server_call(w->server, "n1", "fail", json_pack("{s:s}", "name", "log"),
			    2000, &err, &data) < 0);
	assert_string_equal(err.code, "NoSuchThing");
	assert_string_equal(err.message, "There is no log here.");

	assert_true(link_server_call(w->server, "n1", "silent", NULL, 50, &err, &data) < 0);
	assert_string_equal(err.code, "NodeUnavailable");
	assert_true(link_server_call(w->server, "n9", "images", NULL, 50, &err, &data) < 0);
	assert_string_equal(err.code, "NodeUnavailable");
}

static void a_stream_gives_raw_bytes_or_an_error(void **state)
{
	struct world *w = *state;
	struct err err = {0};
	char text[32] = "";
	ssize_t n, at = 0;
	int fd;

	assert_int_equal(link_server_stream(w->server, "n1", "logs", NULL, 2000, &err, &fd), 0);
	while ((n = read(fd, text + at, sizeof(text) - 1 - (size_t)at)) > 0)
		at += n;
	assert_string_equal(text, "raw bytes\n");
	fd_close(fd);
	assert_true(link_server_stream(w->server, "n1", "fail", NULL, 2000, &err, &fd) < 0);
	assert_string_equal(err.code, "NoSuchThing");
}

static void a_stream_carries_bytes_both_ways(void **state)
{
	struct world *w = *state;
	struct timeval wait = {0};
	socklen_t len = sizeof(wait);
	struct err err = {0};
	char data[1000], back[1000];
	int fd;

	memset(data, 'x', sizeof(data));
	assert_int_equal(link_server_stream(w->server, "n1", "echo", NULL, 2000, &err, &fd), 0);
	/* As long as nobody asks for a bound, there is none. */
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, &len), 0);
	assert_int_equal(wait.tv_sec, 0);
	for (int i = 0; i < 100; i++) {
		data[0] = (char)i;
		assert_int_equal(fd_write_all(fd, data, sizeof(data)), 0);
		assert_int_equal(recv(fd, back, sizeof(back), MSG_WAITALL), sizeof(back));
		assert_memory_equal(back, data, sizeof(data));
	}
	link_stream_bound(fd);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, &len), 0);
	assert_int_equal(wait.tv_sec, 30);
	shutdown(fd, SHUT_WR);
	assert_int_equal(read(fd, back, sizeof(back)), 0);
	fd_close(fd);
}

struct restart {
	struct world *w;
	int done;
};

static void restart_server(void *arg)
{
	struct restart *restart = arg;
	struct err err = {0};

	link_server_free(restart->w->server);
	assert_int_equal(link_server_new(restart->w->loop, restart->w->path, getuid(), &server_ops,
				 restart->w, &err, &restart->w->server),
		0);
	__atomic_store_n(&restart->done, 1, __ATOMIC_SEQ_CST);
}

static void the_node_dials_again_when_control_restarts(void **state)
{
	struct restart restart = {.w = *state};
	struct err err = {0};
	json_t *data;

	loop_post(restart.w->loop, restart_server, &restart);
	wait_for(&restart.done, 1);
	/* A call doesn't fail for the moment in which the node is away. */
	assert_int_equal(
		link_server_call(restart.w->server, "n1", "images", NULL, 5000, &err, &data), 0);
	json_decref(data);
	wait_for(&restart.w->ups, 2);
	assert_int_equal(restart.w->downs, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(messages_go_both_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(a_large_frame_arrives_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_call_returns_the_reply_or_the_error_of_the_node, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_stream_gives_raw_bytes_or_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(a_stream_carries_bytes_both_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_node_dials_again_when_control_restarts, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
