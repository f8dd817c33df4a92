#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>

#include "cli/session.h"
#include "http/websocket_client.h"

#define SUBPROTOCOL "v5.channel.k8s.io"
#define MESSAGE_MAX ((size_t)128 << 10)
#define INPUT_MAX ((size_t)32 << 10)
#define QUEUE_HIGH ((size_t)256 << 10)

enum channel { CHANNEL_STDIN, CHANNEL_STDOUT, CHANNEL_STDERR, CHANNEL_STATUS, CHANNEL_RESIZE };
#define CHANNEL_CLOSE 255

struct session {
	const struct session_options *options;
	struct websocket_client *client;
	bool reads_input;
	int signal_fd;
	bool ended;
	int result; /* once ended */
};

int session_container(struct api *api, const struct group_options *o, const char *name, bool first,
	struct err *err, char **ret)
{
	_cleanup_json_ json_t *group = NULL;
	const json_t *containers;
	int r;

	if (name) {
		*ret = xstrdup(name);
		return 0;
	}
	r = group_call(api, "GET", o, "", NULL, err, &group);
	if (r < 0)
		return r;
	containers = json_path(group, "properties", "containers", NULL);
	if (json_array_size(containers) != 1 && !first)
		return err_set(err, -EINVAL, "ContainerNotNamed",
			"'%s' has %zu containers: name one with -c CONTAINER.", o->name,
			json_array_size(containers));
	*ret = xstrdup(json_get_str(json_array_get(containers, 0), "name", ""));
	return 0;
}

/* --- to the server --- */

static void send_channel(
	struct session *session, unsigned char channel, const void *data, size_t len)
{
	_cleanup_buf_ struct buf message = BUF_INIT;

	buf_addc(&message, (char)channel);
	buf_add(&message, data, len);
	websocket_client_send(session->client, false, message.data, message.len);
}

static void end_input(struct session *session)
{
	session->reads_input = false;
	send_channel(session, CHANNEL_CLOSE, "\0", 1);
}

static void read_input(struct session *session)
{
	char data[INPUT_MAX];
	ssize_t n = read(STDIN_FILENO, data, sizeof(data));

	if (n > 0)
		send_channel(session, CHANNEL_STDIN, data, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		end_input(session);
}

static void send_size(struct session *session)
{
	struct winsize size;
	_cleanup_free_ char *text = NULL;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
		return;
	text = xasprintf("{\"Width\":%u,\"Height\":%u}", size.ws_col, size.ws_row);
	send_channel(session, CHANNEL_RESIZE, text, strlen(text));
}

/* --- from the server --- */

static void finish(struct session *session, int result)
{
	session->ended = true;
	session->result = result;
}

static void write_output(struct session *session, int fd, const char *data, size_t len)
{
	int r = fd_write_all(fd, data, len);

	/* As if SIGPIPE had ended us, which is ignored for the sake of the connection. */
	if (r < 0)
		finish(session, 128 + SIGPIPE);
}

static void handle_status(struct session *session, const char *data, size_t len, struct err *err)
{
	_cleanup_json_ json_t *status = NULL;
	const json_t *error;

	if (json_parse(data, len, 8, err, &status) < 0) {
		finish(session, -EPROTO);
		return;
	}
	error = json_get_obj(status, "error");
	if (error)
		finish(session,
			err_set(err, -ENOEXEC, json_get_str(error, "code", "InternalError"), "%s",
				json_get_str(error, "message", "It failed without a reason.")));
	else
		finish(session, (int)json_get_int(status, "exitCode", 0) & 255);
}

static void handle_event(
	struct session *session, const struct websocket_event *event, struct err *err)
{
	if (event->type == WEBSOCKET_EVENT_CLOSE) {
		finish(session,
			err_set(err, -ECONNRESET, "SessionEnded", "The session was ended: %s",
				event->len ? event->data : "the server gave no reason."));
		return;
	}
	if (event->type != WEBSOCKET_EVENT_BINARY || event->len < 1)
		return;
	switch ((unsigned char)event->data[0]) {
	case CHANNEL_STDOUT:
		write_output(session, STDOUT_FILENO, event->data + 1, event->len - 1);
		break;
	case CHANNEL_STDERR:
		write_output(session,
			session->options->stderr_as_stdout ? STDOUT_FILENO : STDERR_FILENO,
			event->data + 1, event->len - 1);
		break;
	case CHANNEL_STATUS:
		handle_status(session, event->data + 1, event->len - 1, err);
		break;
	default:
		break;
	}
}

static void receive(struct session *session, struct err *err)
{
	struct websocket_event event;
	int r = 0;

	while (!session->ended && (r = websocket_client_receive(session->client, err, &event)) == 1)
		handle_event(session, &event, err);
	if (r < 0)
		finish(session, r);
}

/* --- the loop --- */

static void handle_signal(struct session *session)
{
	struct signalfd_siginfo info;

	if (read(session->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH)
		send_size(session);
	else
		finish(session, 128 + (int)info.ssi_signo);
}

static int run_session(struct session *session, struct err *err)
{
	while (!session->ended) {
		bool room = websocket_client_queued(session->client) < QUEUE_HIGH;
		int r = websocket_client_flush(session->client, err);
		struct pollfd fds[3] = {
			{.fd = websocket_client_fd(session->client), .events = POLLIN},
			{.fd = session->reads_input && room ? STDIN_FILENO : -1, .events = POLLIN},
			{.fd = session->signal_fd, .events = POLLIN},
		};

		if (r == 1)
			fds[0].events |= POLLOUT;
		/* An error of writing is told after what has come: that may be the result. */
		if (r >= 0 && poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return err_errno(err, -errno, "poll");
		if (fds[1].revents)
			read_input(session);
		if (fds[2].revents)
			handle_signal(session);
		if (!session->ended && (fds[0].revents || r < 0))
			receive(session, err);
		if (r < 0 && !session->ended)
			return r;
	}
	return session->result;
}

/* Signals that would leave a raw terminal behind, and the one that tells of its size. */
static int block_signals(bool terminal)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t set;

	sigaction(SIGPIPE, &ignore, NULL);
	if (!terminal)
		return -EBADF;
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int run_with_terminal(struct session *session, struct err *err)
{
	bool raw = session->options->terminal && session->options->input;
	struct termios saved, changed;
	int r;

	if (raw && tcgetattr(STDIN_FILENO, &saved) == 0) {
		changed = saved;
		cfmakeraw(&changed);
		tcsetattr(STDIN_FILENO, TCSADRAIN, &changed);
	} else {
		raw = false;
	}
	r = run_session(session, err);
	if (raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	return r;
}

int session_run(struct api *api, const struct group_options *o, const char *what,
	const json_t *body, const struct session_options *options, struct err *err)
{
	_cleanup_(websocket_client_freep) struct websocket_client *client = NULL;
	_cleanup_fd_ int signal_fd = -EBADF;
	_cleanup_free_ char *name = url_encode(options->container);
	_cleanup_free_ char *suffix = xasprintf("/containers/%s/%s", name, what);
	_cleanup_json_ json_t *answer = NULL;
	struct session session = {.options = options};
	const char *password;
	int r;

	r = group_call(api, "POST", o, suffix, body, err, &answer);
	if (r < 0)
		return r;
	signal_fd = block_signals(options->terminal);
	r = websocket_client_open(
		&(struct websocket_client_config){.url = json_get_str(answer, "webSocketUri", ""),
			.ca_file = api_ca_file(api),
			.protocol = SUBPROTOCOL,
			.max_message = MESSAGE_MAX},
		err, &client);
	if (r < 0)
		return r;
	session.client = client;
	session.signal_fd = signal_fd;
	session.reads_input = options->input;
	password = json_get_str(answer, "password", "");
	websocket_client_send(client, true, password, strlen(password));
	if (!options->input && str_eq(what, "exec"))
		end_input(&session);
	return run_with_terminal(&session, err);
}
