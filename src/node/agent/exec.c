/*
 * exec: packets of the stream to the command's input, its output to packets, and at the end the
 * status. Both directions have buffers with a bound; beyond it this side stops reading, so a reader
 * that stands still stops the command that it asked for, and nothing else.
 */
#include <poll.h>

#include "base/time.h"
#include "link/stream.h"
#include "node/agent/session.h"
#include "node/runtime/exec.h"

#define CODE "ContainerExecFailed"
#define IN_MAX (STREAM_PAYLOAD_MAX + ((size_t)64 << 10))
#define STDIN_WAITING ((size_t)256 << 10)
#define OUT_WAITING ((size_t)256 << 10)
#define CHUNK ((size_t)32 << 10)
#define LAST_OUTPUT ((size_t)2 << 20) /* of each stream, when the command has ended */
#define LAST_SEND_MS 30000
#define END_OF_INPUT '\x04'

struct relay {
	struct session *session;
	struct runtime_exec exec;
	int fd;
	bool terminal, input_ends;
	struct buf in, input, out; /* packets; bytes for the command; packets */
	char *chunk;
};

static void take_packet(struct relay *relay, const struct stream_packet *packet)
{
	_cleanup_json_ json_t *size = NULL;

	switch (packet->channel) {
	case STREAM_STDIN:
		if (relay->exec.stdin_fd >= 0 && !relay->input_ends)
			buf_add(&relay->input, packet->data, packet->len);
		break;
	case STREAM_CLOSE:
		if (packet->len != 1 || packet->data[0] != STREAM_STDIN || relay->input_ends)
			break;
		if (relay->terminal)
			buf_addc(&relay->input, END_OF_INPUT);
		relay->input_ends = true;
		break;
	case STREAM_RESIZE:
		if (relay->terminal && json_parse(packet->data, packet->len, 4, NULL, &size) == 0)
			runtime_exec_resize(&relay->exec,
				(unsigned)MAX(json_get_int(size, "Height", 0), 0),
				(unsigned)MAX(json_get_int(size, "Width", 0), 0));
		break;
	default:
		break;
	}
}

static int take_packets(struct relay *relay)
{
	struct stream_packet packet;
	size_t size;
	int r;

	while (relay->input.len < STDIN_WAITING &&
		(r = stream_unpack(&relay->in, &packet, &size)) != 0) {
		if (r < 0)
			return r;
		take_packet(relay, &packet);
		buf_consume(&relay->in, size);
	}
	return 0;
}

static void give_input(struct relay *relay)
{
	struct buf *input = &relay->input;

	if (input->len > 0) {
		ssize_t n = write(relay->exec.stdin_fd, input->data, input->len);

		if (n > 0) {
			buf_consume(input, (size_t)n);
		} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
			/* Nobody reads it any more, which is no reason to end. */
			buf_clear(input);
			relay->input_ends = true;
			relay->exec.stdin_fd = fd_close(relay->exec.stdin_fd);
		}
	}
	if (input->len == 0 && relay->input_ends && !relay->terminal)
		relay->exec.stdin_fd = fd_close(relay->exec.stdin_fd);
}

/* Bytes read, 0 when there are none now. */
static size_t take_output(struct relay *relay, int *fd, enum stream_channel channel)
{
	ssize_t n = read(*fd, relay->chunk, CHUNK);

	if (n > 0) {
		stream_pack(&relay->out, channel, relay->chunk, (size_t)n);
		return (size_t)n;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		*fd = fd_close(*fd);
	return 0;
}

/* What the command wrote before its end; not what others of its session still write. */
static void take_last_output(struct relay *relay)
{
	size_t n, total = 0;

	while (relay->exec.stdout_fd >= 0 && total < LAST_OUTPUT &&
		(n = take_output(relay, &relay->exec.stdout_fd, STREAM_STDOUT)) > 0)
		total += n;
	total = 0;
	while (relay->exec.stderr_fd >= 0 && total < LAST_OUTPUT &&
		(n = take_output(relay, &relay->exec.stderr_fd, STREAM_STDERR)) > 0)
		total += n;
}

/* Until the command has ended: its exit code; or the peer has gone, or we end: negative. */
static int relay_all(struct relay *relay)
{
	for (;;) {
		bool room = relay->out.len < OUT_WAITING;
		bool wants =
			relay->in.len < STREAM_PAYLOAD_MAX + 4 && relay->input.len < STDIN_WAITING;
		struct pollfd fds[] = {{.fd = relay->fd,
					       .events = (short)((wants ? POLLIN : 0) |
								 (relay->out.len ? POLLOUT : 0))},
			{.fd = relay->input.len ? relay->exec.stdin_fd : -1, .events = POLLOUT},
			{.fd = room ? relay->exec.stdout_fd : -1, .events = POLLIN},
			{.fd = room ? relay->exec.stderr_fd : -1, .events = POLLIN},
			{.fd = relay->exec.proc.pidfd, .events = POLLIN},
			{.fd = relay->session->wake_fd, .events = POLLIN}};
		uint64_t woken;
		int r = 0;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[5].revents && read(relay->session->wake_fd, &woken, sizeof(woken)) < 0)
			woken = 0;
		if (agent_is_ending(relay->session->agent))
			return -ECANCELED;
		if (fds[0].revents & POLLOUT)
			r = session_send(relay->fd, &relay->out);
		if (r == 0 && fds[0].revents & (POLLIN | POLLHUP | POLLERR))
			r = wants ? session_receive(relay->fd, &relay->in)
			    : fds[0].revents & (POLLHUP | POLLERR) ? -EPIPE
								   : 0;
		if (r == 0)
			r = take_packets(relay);
		if (r < 0)
			return r;
		if (relay->exec.stdin_fd >= 0 && (fds[1].revents || relay->input_ends))
			give_input(relay);
		if (fds[2].revents)
			take_output(relay, &relay->exec.stdout_fd, STREAM_STDOUT);
		if (fds[3].revents)
			take_output(relay, &relay->exec.stderr_fd, STREAM_STDERR);
		if (fds[4].revents)
			return runtime_exec_wait(&relay->exec, 0);
	}
}

static void send_rest(struct relay *relay)
{
	int64_t deadline_ms = time_mono_ms() + LAST_SEND_MS;

	while (relay->out.len > 0 && time_mono_ms() < deadline_ms &&
		!agent_is_ending(relay->session->agent)) {
		struct pollfd fds[] = {{.fd = relay->fd, .events = POLLOUT}};

		poll(fds, ARRAY_SIZE(fds), 1000);
		if (session_send(relay->fd, &relay->out) < 0)
			return;
	}
}

static void relay(struct relay *relay)
{
	struct err err = {0};
	int r;

	fd_set_nonblock(relay->fd, true);
	relay->in = BUF_MAX(IN_MAX);
	relay->input = BUF_MAX(STDIN_WAITING + STREAM_PAYLOAD_MAX + 1);
	relay->out = BUF_MAX(OUT_WAITING + 4 * LAST_OUTPUT);
	relay->chunk = xmalloc(CHUNK);
	r = relay_all(relay);
	if (r >= 0)
		take_last_output(relay);
	/* Before the peer hears of the end: by then there is nothing of it any more. */
	runtime_exec_done(&relay->exec);
	if (r == -ECANCELED)
		err_set(&err, r, CODE, "The node's program is restarted. Please retry.");
	else if (r < 0 && r != -EPIPE && r != -EPROTO)
		err_errno(&err, r, "wait for the command");
	if (r != -EPIPE && r != -EPROTO) {
		session_status(&relay->out, r, &err);
		send_rest(relay);
	}
	buf_done(&relay->in);
	buf_done(&relay->input);
	buf_done(&relay->out);
	free(relay->chunk);
}

static int make_args(const json_t *command, struct err *err, const char ***ret)
{
	size_t n = json_array_size(command);
	_cleanup_free_ const char **args = xcalloc(n + 1, sizeof(*args));

	for (size_t i = 0; i < n; i++)
		args[i] = json_string_value(json_array_get(command, i));
	for (size_t i = 0; i < MAX(n, 1); i++)
		if (!args[i] || !args[0][0])
			return err_set(err, -EINVAL, CODE, "The command is empty.");
	*ret = take_ptr(args);
	return 0;
}

void session_exec(struct session *session)
{
	struct runtime *runtime = agent_config(session->agent)->runtime;
	struct relay state = {.session = session, .exec = RUNTIME_EXEC_INIT, .fd = -EBADF};
	_cleanup_free_ const char **args = NULL;
	const json_t *json = session->args;
	struct runtime_exec_spec spec;
	struct err err = {0};
	int r;

	r = make_args(json_get_arr(json, "command"), &err, &args);
	if (r == 0) {
		state.terminal = json_get_bool(json, "terminal", false);
		spec = (struct runtime_exec_spec){.dir = session->dir,
			.id = session->run_id,
			.args = args,
			.terminal = state.terminal,
			.with_stdin = json_get_bool(json, "stdin", false),
			.rows = (unsigned)MAX(json_get_int(json, "rows", 0), 0),
			.cols = (unsigned)MAX(json_get_int(json, "cols", 0), 0)};
		r = runtime_exec_start(runtime, &spec, &err, &state.exec);
	}
	if (r < 0) {
		session_refuse(session, &err);
		return;
	}
	if (link_client_stream(session->link, session->request, NULL, &state.fd) == 0)
		relay(&state);
	runtime_exec_done(&state.exec);
	fd_close(state.fd);
}
