/* Sessions over their stream, with a real container but without a group: the test is the agent. */
#include "node/runtime/fixture.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/time.h"
#include "link/stream.h"
/* The runtime has one of that name, too. */
#define monitor group_monitor
#include "node/agent/session.h"
#undef monitor

static struct agent_config config;
static atomic_bool ending;
static struct err refused;
static int node_end = -1;
static atomic_int n_refused, n_streams; /* of requests with a number */
static int peers[64];

const struct agent_config *agent_config(const struct agent *agent)
{
	return &config;
}

bool agent_is_ending(const struct agent *agent)
{
	return atomic_load(&ending);
}

/* What the table of sessions sees of the agent. */
static struct group the_group;
static struct container the_container;
static bool group_is_there;

struct group *agent_find_group(struct agent *agent, const char *uid)
{
	return group_is_there ? &the_group : NULL;
}

struct container *group_find_container(struct group *group, const char *name)
{
	return str_eq(name, "c") ? &the_container : NULL;
}

char *container_dir(const struct group *group, const struct container *c)
{
	return xstrdup(top);
}

void container_id(const struct group *group, const struct container *c, char *ret, size_t size)
{
}

int link_client_stream(struct link_client *client, int64_t id, const struct err *err, int *ret_fd)
{
	int ends[2];

	if (err) {
		refused = *err;
		atomic_fetch_add(&n_refused, 1);
	} else if (id > 0) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
		peers[id] = ends[0];
		*ret_fd = ends[1];
		atomic_fetch_add(&n_streams, 1);
	} else {
		*ret_fd = node_end;
	}
	return 0;
}

/* Static in the tests: its thread outlives a test that fails. */
struct peer {
	struct session session;
	pthread_t thread;
	int fd;
	struct buf in, out, err; /* packets; what came of the two streams */
	json_t *status;
};

static void *run_session(void *arg)
{
	struct session *session = arg;

	session->job(session);
	atomic_store(&session->done, true);
	return NULL;
}

static void begin(struct peer *peer, struct box *box, void (*job)(struct session *), json_t *args)
{
	int ends[2];

	*peer = (struct peer){0};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	refused = (struct err){0};
	node_end = ends[1];
	peer->fd = ends[0];
	peer->in = peer->out = peer->err = BUF_MAX((size_t)64 << 20);
	peer->session.job = job;
	peer->session.args = args;
	peer->session.dir = box->dir;
	peer->session.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	atomic_store(&peer->session.run, 1);
	str_copy(peer->session.run_id, sizeof(peer->session.run_id), box->id);
	config.runtime = runtime;
	pthread_create(&peer->thread, NULL, run_session, &peer->session);
}

static void end(struct peer *peer)
{
	fd_close(peer->fd);
	pthread_join(peer->thread, NULL);
	fd_close(peer->session.wake_fd);
	buf_done(&peer->in);
	buf_done(&peer->out);
	buf_done(&peer->err);
	json_decref(peer->status);
	json_decref(peer->session.args);
}

static void take(struct peer *peer, const struct stream_packet *packet)
{
	struct err err = {0};

	/* The status is the last one. */
	assert_null(peer->status);
	if (packet->channel == STREAM_STDOUT)
		buf_add(&peer->out, packet->data, packet->len);
	else if (packet->channel == STREAM_STDERR)
		buf_add(&peer->err, packet->data, packet->len);
	else if (packet->channel == STREAM_STATUS)
		assert_int_equal(json_parse(packet->data, packet->len, 8, &err, &peer->status), 0);
	else
		fail_msg("channel %d", packet->channel);
}

/* Until the output has the text, or, with NULL, to the end. */
static void receive(struct peer *peer, const char *text)
{
	int64_t deadline_ms = time_mono_ms() + WAIT_MS;
	struct stream_packet packet;
	size_t size;

	while (!text || !strstr(buf_str(&peer->out), text)) {
		struct pollfd poll_fd = {.fd = peer->fd, .events = POLLIN};

		if (time_mono_ms() > deadline_ms)
			fail_msg("no \"%s\" after: %s", text, buf_str(&peer->out));
		if (poll(&poll_fd, 1, 100) == 0)
			continue;
		if (buf_read(&peer->in, peer->fd, 65536) <= 0) {
			assert_null(text);
			return;
		}
		while (stream_unpack(&peer->in, &packet, &size) == 1) {
			take(peer, &packet);
			buf_consume(&peer->in, size);
		}
	}
}

static void give(struct peer *peer, enum stream_channel channel, const void *data, size_t len)
{
	_cleanup_buf_ struct buf buf = BUF_INIT;

	assert_int_equal(stream_pack(&buf, channel, data, len), 0);
	assert_int_equal(fd_write_all(peer->fd, buf.data, buf.len), 0);
}

static int64_t exit_code(const struct peer *peer)
{
	assert_non_null(peer->status);
	return json_get_int(peer->status, "exitCode", -1);
}

static struct box box;

static json_t *sh(const char *script, bool terminal, bool with_stdin)
{
	return json_pack("{s:[s, s, s], s:b, s:b, s:i, s:i}", "command", "/bin/sh", "-c", script,
		"terminal", terminal, "stdin", with_stdin, "rows", 20, "cols", 70);
}

static void a_command_speaks_over_its_channels(void **state)
{
	static struct peer peer;

	begin(&peer, &box, session_exec, sh("cat; echo wrong >&2; exit 7", false, true));
	give(&peer, STREAM_STDIN, "hello\n", 6);
	receive(&peer, "hello\n");
	give(&peer, STREAM_CLOSE, "\0", 1);
	receive(&peer, NULL);
	assert_string_equal(buf_str(&peer.out), "hello\n");
	assert_string_equal(buf_str(&peer.err), "wrong\n");
	assert_int_equal(exit_code(&peer), 7);
	end(&peer);
}

static void *give_much(void *arg)
{
	_cleanup_free_ char *data = xmalloc(STREAM_PAYLOAD_MAX);

	memset(data, 'x', STREAM_PAYLOAD_MAX);
	for (int i = 0; i < 160; i++)
		give(arg, STREAM_STDIN, data, STREAM_PAYLOAD_MAX);
	give(arg, STREAM_CLOSE, "\0", 1);
	return NULL;
}

static void ten_mebibytes_come_back_whole(void **state)
{
	static struct peer peer;
	pthread_t thread;

	begin(&peer, &box, session_exec, sh("cat", false, true));
	pthread_create(&thread, NULL, give_much, &peer);
	receive(&peer, NULL);
	pthread_join(thread, NULL);
	assert_int_equal(peer.out.len, 160 * STREAM_PAYLOAD_MAX);
	assert_int_equal(exit_code(&peer), 0);
	end(&peer);
	/* The last of what was written is there, too, when nobody read until the end. */
	for (int terminal = 0; terminal < 2; terminal++) {
		begin(&peer, &box, session_exec,
			sh("head -c 60000 /dev/zero | busybox tr '\\0' y; echo end", terminal,
				false));
		poll(NULL, 0, 300);
		receive(&peer, NULL);
		assert_int_equal(peer.out.len, terminal ? 60005 : 60004);
		end(&peer);
	}
}

static void a_terminal_is_resized_and_ends(void **state)
{
	static const char size[] = "{\"Width\": 99, \"Height\": 44}";
	static struct peer peer;

	begin(&peer, &box, session_exec,
		sh("until busybox stty size 2>/dev/null; do :; done; echo go; read l; busybox stty size; cat; exit 3",
			true, true));
	receive(&peer, "20 70\r\ngo\r\n");
	give(&peer, STREAM_RESIZE, size, strlen(size));
	give(&peer, STREAM_RESIZE, "what?", 5);
	give(&peer, STREAM_STDIN, "a\n", 2);
	receive(&peer, "44 99\r\n");
	give(&peer, STREAM_STDIN, "again\n", 6);
	receive(&peer, "again\r\nagain\r\n");
	give(&peer, STREAM_CLOSE, "\0", 1);
	receive(&peer, NULL);
	assert_int_equal(exit_code(&peer), 3);
	end(&peer);
}

static void what_cannot_start_is_refused(void **state)
{
	static struct peer peer;

	begin(&peer, &box, session_exec, json_pack("{s:[s]}", "command", "/bin/none"));
	pthread_join(peer.thread, NULL);
	assert_string_equal(refused.code, "ContainerExecFailed");
	assert_non_null(strstr(refused.message, "/bin/none"));
	pthread_create(&peer.thread, NULL, run_session, &peer.session);
	fd_close(node_end);
	end(&peer);
	begin(&peer, &box, session_exec, json_pack("{s:[]}", "command"));
	pthread_join(peer.thread, NULL);
	assert_string_equal(refused.code, "ContainerExecFailed");
	pthread_create(&peer.thread, NULL, run_session, &peer.session);
	fd_close(node_end);
	end(&peer);
}

static int count(const char *word)
{
	_cleanup_free_ char *found = NULL;
	_cleanup_free_ char *script = xasprintf(
		"grep -lz '^%s$' /proc/[0-9]*/cmdline 2>/dev/null | grep -v self | wc -l", word);
	const char *argv[] = {"/bin/sh", "-c", script, NULL};
	uint64_t n;

	assert_int_equal(proc_run(argv, WAIT_MS, 4096, &found, NULL), 0);
	found[strcspn(found, "\n")] = 0;
	assert_int_equal(str_to_u64(found, 1000, &n), 0);
	return (int)n;
}

static void a_peer_that_goes_ends_the_command(void **state)
{
	static const char *const scripts[] = {"echo up; sleep 5813", "echo up; busybox yes 5813",
		"echo up; sleep 5813 & cat; sleep 5813"};
	static struct peer peer;

	for (int terminal = 0; terminal < 2; terminal++)
		for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
			begin(&peer, &box, session_exec, sh(scripts[i], terminal, true));
			receive(&peer, "up");
			for (int n = 0; n < 500 && count("5813") == 0; n++)
				poll(NULL, 0, 10);
			assert_true(count("5813") > 0);
			/* Also one that doesn't read, whose output stands still. */
			poll(NULL, 0, 100);
			end(&peer);
			assert_int_equal(count("5813"), 0);
		}
	/* Input that nobody reads doesn't hide it. */
	begin(&peer, &box, session_exec, sh("echo up; sleep 5813", false, true));
	receive(&peer, "up");
	{
		_cleanup_free_ char *data = xcalloc(STREAM_PAYLOAD_MAX, 1);

		for (int i = 0; i < 6; i++)
			give(&peer, STREAM_STDIN, data, STREAM_PAYLOAD_MAX);
	}
	end(&peer);
	assert_int_equal(count("5813"), 0);
}

static void when_the_agent_ends_so_do_they(void **state)
{
	static struct peer exec, follow;
	uint64_t one = 1;

	begin(&exec, &box, session_exec, sh("echo up; sleep 5813", false, true));
	receive(&exec, "up");
	begin(&follow, &box, session_follow, json_object());
	poll(NULL, 0, 50);
	atomic_store(&ending, true);
	assert_int_equal(write(exec.session.wake_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(write(follow.session.wake_fd, &one, sizeof(one)), sizeof(one));
	pthread_join(exec.thread, NULL);
	pthread_join(follow.thread, NULL);
	assert_int_equal(count("5813"), 0);
	receive(&follow, NULL);
	assert_non_null(json_get_obj(follow.status, "error"));
	atomic_store(&ending, false);
	exec.session.job = follow.session.job = session_exec;
	json_object_clear(exec.session.args);
	pthread_create(&exec.thread, NULL, run_session, &exec.session);
	pthread_create(&follow.thread, NULL, run_session, &follow.session);
	end(&exec);
	end(&follow);
}

/* Everything of a container that fills several files is there, and a reader that stands still holds
 * it up in nothing. */
static void a_log_is_followed_to_its_end(void **state)
{
	static struct peer peer, slow;
	struct box other;

	runtime->log_max_bytes = 512 << 10;
	box_init(&other, "followed",
		"i=10000; while [ $i -lt 16000 ]; do echo line $i; i=$((i+1)); [ $((i % 500)) -gt 0 ] || sleep 0.2; done; "
		"echo err >&2; printf 'no newline'; sleep 0.3; exit 4");
	box_create(&other);
	begin(&slow, &other, session_follow, json_object());
	poll(NULL, 0, 50);
	begin(&peer, &other, session_follow, json_pack("{s:i}", "tail", -1));
	box_start(&other);
	receive(&peer, "line 10100\n");
	assert_int_equal(box_wait(&other).exit_code, 4);
	atomic_store(&peer.session.exit_code, 4);
	atomic_store(&peer.session.view, SESSION_ENDED);
	receive(&peer, NULL);
	assert_int_equal(exit_code(&peer), 4);
	assert_int_equal(peer.out.len, 6000 * 11 + 10);
	assert_true(str_ends(buf_str(&peer.out), "line 15999\nno newline"));
	assert_string_equal(buf_str(&peer.err), "err\n");
	end(&peer);
	atomic_store(&slow.session.view, SESSION_GONE);
	end(&slow);
	runtime->log_max_bytes = 0;
	box_delete(&other);
}

static void loop_until(const atomic_int *value, int at_least)
{
	for (int i = 0; i < 500 && atomic_load(value) < at_least; i++)
		loop_once(config.loop, 10);
	assert_true(atomic_load(value) >= at_least);
}

static void a_group_has_so_many_and_they_end_with_it(void **state)
{
	_cleanup_json_ json_t *args = json_pack("{s:s, s:s}", "uid", "u", "container", "c");
	_cleanup_json_ json_t *other = json_pack("{s:s, s:s}", "uid", "u", "container", "d");
	_cleanup_buf_ struct buf buf = BUF_INIT;
	struct sessions *sessions;

	atomic_store(&n_refused, 0);
	config.loop = loop_new();
	config.runtime = runtime;
	pthread_mutex_init(&the_group.lock, NULL);
	sessions = sessions_new(NULL, NULL);
	assert_false(sessions_request(sessions, 1, "logs", args));
	assert_true(sessions_request(sessions, 1, "follow", args));
	loop_until(&n_refused, 1);
	assert_string_equal(refused.code, "ContainerNotRunning");
	group_is_there = true;
	the_container.phase = CONTAINER_RUNNING;
	the_container.run = 1;
	assert_true(sessions_request(sessions, 1, "exec", other));
	loop_until(&n_refused, 2);
	for (int i = 1; i <= SESSIONS_GROUP_MAX; i++)
		assert_true(sessions_request(sessions, i, "follow", args));
	loop_until(&n_streams, SESSIONS_GROUP_MAX);
	assert_int_equal(atomic_load(&n_refused), 2);
	assert_true(sessions_request(sessions, 40, "follow", args));
	loop_until(&n_refused, 3);
	assert_string_equal(refused.code, "TooManyRequests");
	/* One that goes makes room. */
	fd_close(peers[1]);
	for (int i = 0; i < 30; i++)
		loop_once(config.loop, 10);
	assert_true(sessions_request(sessions, 1, "follow", args));
	loop_until(&n_streams, SESSIONS_GROUP_MAX + 1);
	/* A round is under way: the container may be about to run again. */
	the_group.busy = true;
	the_container.phase = CONTAINER_TERMINATED;
	the_container.current.exit_code = 6;
	for (int i = 0; i < 30; i++)
		loop_once(config.loop, 10);
	assert_int_equal(buf_read(&buf, (fd_set_nonblock(peers[2], true), peers[2]), 100), -EAGAIN);
	the_group.busy = false;
	for (int i = 0; i < 500 && buf_read(&buf, peers[2], 100) == -EAGAIN; i++)
		loop_once(config.loop, 10);
	assert_memory_equal(buf.data + 4, "{\"exitCode\":6}", 14);
	atomic_store(&ending, true);
	sessions_free(sessions);
	atomic_store(&ending, false);
	for (int i = 1; i <= SESSIONS_GROUP_MAX; i++)
		fd_close(peers[i]);
	loop_free(config.loop);
	pthread_mutex_destroy(&the_group.lock);
}

static int setup_box(void **state)
{
	setup_machine(state);
	box_init(&box, "box", "sleep 1000");
	box_create(&box);
	box_start(&box);
	return 0;
}

static int teardown_box(void **state)
{
	box_delete(&box);
	return teardown_machine(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_command_speaks_over_its_channels),
		cmocka_unit_test(ten_mebibytes_come_back_whole),
		cmocka_unit_test(a_terminal_is_resized_and_ends),
		cmocka_unit_test(what_cannot_start_is_refused),
		cmocka_unit_test(a_peer_that_goes_ends_the_command),
		cmocka_unit_test(when_the_agent_ends_so_do_they),
		cmocka_unit_test(a_log_is_followed_to_its_end),
		cmocka_unit_test(a_group_has_so_many_and_they_end_with_it),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, setup_box, teardown_box);
}
