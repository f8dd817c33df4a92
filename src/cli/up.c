/* berth up: sets up what is missing, starts the daemons that don't run, and stays or returns when
 * both are ready. */
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/file.h"
#include "base/proc.h"
#include "base/time.h"
#include "cli/cli.h"
#include "main/daemon.h"

#define READY_TIMEOUT_MS 30000
#define LOG_TAIL_BYTES 2000
#define SETTINGS_MAX 64

struct ids {
	uid_t uid;
	gid_t gid;
};

/* In the child: berthd never has been root once its program runs. */
static int become_berth(void *arg)
{
	const struct ids *ids = arg;

	if (setgroups(0, NULL) < 0 || setresgid(ids->gid, ids->gid, ids->gid) < 0 ||
		setresuid(ids->uid, ids->uid, ids->uid) < 0)
		return -errno;
	return 0;
}

/* An abstract datagram socket that only takes what root or berth sends is enough: its name can't be
 * guessed. */
static int notify_socket(char *name, size_t size, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(sa_family_t);
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* Autobind: the kernel chooses a free abstract name (unix(7)). */
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) < 0)
		return err_errno(err, -errno, "notify socket");
	len = sizeof(addr);
	if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		return err_errno(err, -errno, "notify socket");
	snprintf(name, size, "NOTIFY_SOCKET=@%.*s",
		(int)(len - offsetof(struct sockaddr_un, sun_path) - 1), addr.sun_path + 1);
	return take_fd(fd);
}

/* The last words of a daemon that didn't start: the message of its last log line. */
static void last_words(const char *log_path, char *ret, size_t size)
{
	_cleanup_fd_ int fd = open(log_path, O_RDONLY | O_CLOEXEC);
	char tail[LOG_TAIL_BYTES + 1] = "";
	char *line;
	ssize_t n;

	snprintf(ret, size, "it wrote nothing to %s", log_path);
	if (fd < 0)
		return;
	if (lseek(fd, -LOG_TAIL_BYTES, SEEK_END) < 0)
		lseek(fd, 0, SEEK_SET);
	n = read(fd, tail, LOG_TAIL_BYTES);
	while (n > 0 && tail[n - 1] == '\n')
		tail[--n] = 0;
	line = strrchr(tail, '\n');
	line = line ? line + 1 : tail;
	if (line[0]) {
		_cleanup_json_ json_t *json = NULL;

		if (json_parse(line, strlen(line), 4, NULL, &json) == 0)
			snprintf(ret, size, "%s", json_get_str(json, "message", line));
		else
			snprintf(ret, size, "%s", line);
	}
}

static int wait_ready(
	const char *name, const char *log_path, int notify_fd, struct proc *proc, struct err *err)
{
	int64_t deadline = time_mono_ms() + READY_TIMEOUT_MS;
	char words[1024], message[64];

	while (time_mono_ms() < deadline) {
		struct pollfd fds[] = {{notify_fd, POLLIN, 0}, {proc->pidfd, POLLIN, 0}};

		if (poll(fds, 2, 1000) <= 0)
			continue;
		if (fds[0].revents & POLLIN) {
			ssize_t n = read(notify_fd, message, sizeof(message) - 1);

			message[MAX(n, 0)] = 0;
			if (str_starts(message, "READY=1"))
				return 0;
		}
		if (fds[1].revents) {
			last_words(log_path, words, sizeof(words));
			return err_set(
				err, -EIO, "StartFailed", "%s ended at its start: %s", name, words);
		}
	}
	last_words(log_path, words, sizeof(words));
	return err_set(err, -ETIMEDOUT, "StartFailed",
		"%s is not ready after %d s. Its last words: %s", name, READY_TIMEOUT_MS / 1000,
		words);
}

static int start_daemon(const struct config *config, const char *name, struct ids *ids,
	struct err *err, struct proc *ret)
{
	_cleanup_free_ char *program = proc_sibling(name);
	_cleanup_free_ char *log_path = xasprintf("%s/run/%s.log", config->state, name);
	_cleanup_fd_ int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	_cleanup_fd_ int notify_fd = -EBADF;
	const char *const argv[] = {program, "--state", config->state, NULL};
	char notify[160];
	const char *envp[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8", "TZ=UTC", notify, getenv("BERTH_DEBUG") ? "BERTH_DEBUG=1" : NULL,
		NULL};
	struct proc_spec spec = PROC_SPEC_INIT;
	int r;

	if (log_fd < 0)
		return err_errno(err, -errno, "open %s", log_path);
	notify_fd = notify_socket(notify, sizeof(notify), err);
	if (notify_fd < 0)
		return notify_fd;
	spec.argv = argv;
	spec.envp = envp;
	spec.stdout_fd = spec.stderr_fd = log_fd;
	spec.new_session = true;
	spec.setup = ids ? become_berth : NULL;
	spec.setup_arg = ids;
	r = proc_spawn(&spec, err, ret);
	if (r < 0)
		return err_wrap(err, "%s", program);
	r = daemon_write_pid(config->state, name, ret->pid, err);
	if (r == 0)
		r = wait_ready(name, log_path, notify_fd, ret, err);
	if (r < 0)
		proc_kill(ret);
	return r;
}

struct daemons {
	struct proc control, node;
};

static int start_all(const struct config *config, struct err *err, struct daemons *ret)
{
	struct ids ids;
	int r = setup_user(err, &ids.uid, &ids.gid);

	if (r == 0 && daemon_pid(config->state, "berthd") < 0)
		r = start_daemon(config, "berthd", &ids, err, &ret->control);
	if (r == 0 && daemon_pid(config->state, "berth-node") < 0)
		r = start_daemon(config, "berth-node", NULL, err, &ret->node);
	return r;
}

static void print_up(const struct config *config)
{
	bool is_default = str_eq(config->state, DEFAULT_STATE);
	_cleanup_free_ char *self = cli_self();

	printf("Berth is up: https://%s\n"
	       "Point az at it:  eval \"$(sudo %s az%s%s)\"\n",
		config->listen, self, is_default ? "" : " --state ",
		is_default ? "" : config->state);
	fflush(stdout);
}

/* In the foreground: what dies is started again; SIGINT and SIGTERM stop the daemons and leave the
 * containers. */
static int stay(const struct config *config, struct daemons *daemons, struct err *err)
{
	struct signalfd_siginfo info;
	bool asked = false;
	sigset_t mask;
	int fd;

	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	fd = signalfd(-1, &mask, SFD_CLOEXEC);
	while (fd >= 0) {
		struct pollfd fds[] = {{fd, POLLIN, 0}, {daemons->control.pidfd, POLLIN, 0},
			{daemons->node.pidfd, POLLIN, 0}};

		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[0].revents & POLLIN && read(fd, &info, sizeof(info)) > 0)
			break;
		for (int i = 0; i < 2; i++) {
			struct proc *proc = i ? &daemons->node : &daemons->control;
			int code;

			if (!fds[i + 1].revents)
				continue;
			code = proc_wait(proc, 0);
			asked = asked || code == 0;
			if (code == 0)
				continue;
			fprintf(stderr, "berth: %s ended with %d and is started again\n",
				i ? "berth-node" : "berthd", code);
			usleep(1000000);
		}
		/* It was told to: `berth down`. */
		if (asked)
			break;
		if (start_all(config, err, daemons) < 0)
			fprintf(stderr, "berth: %s\n", err->message);
	}
	fd_close(fd);
	for (int i = 0; i < 2; i++) {
		struct proc *proc = i ? &daemons->control : &daemons->node;

		if (proc->pid > 0) {
			kill(proc->pid, SIGTERM);
			if (proc_wait(proc, 15000) == -ETIMEDOUT)
				proc_kill(proc);
		}
	}
	return 0;
}

static int up(const struct setup_options *options, bool detach, struct err *err)
{
	_cleanup_(config_freep) struct config *config = NULL;
	struct daemons daemons = {{.pidfd = -1}, {.pidfd = -1}};
	_cleanup_fd_ int lock = -EBADF;
	bool changed, running;
	int r;

	lock = setup_lock(options->state, err);
	if (lock < 0)
		return lock;
	r = setup_run(options, err, &config, &changed);
	if (r < 0)
		return r;
	running = daemon_pid(config->state, "berthd") > 0 ||
		  daemon_pid(config->state, "berth-node") > 0;
	if (changed && running)
		fprintf(stderr,
			"berth: settings were changed; they take effect after `berth down` and `berth up`.\n");
	r = start_all(config, err, &daemons);
	if (r < 0)
		return r;
	print_up(config);
	if (detach)
		return 0;
	if (!daemons.control.pid || !daemons.node.pid)
		return err_set(err, -EALREADY, "AlreadyUp",
			"A daemon of this Berth was running already, so it can't stay in this foreground. Use --detach, or `berth down` first.");
	lock = fd_close(lock);
	return stay(config, &daemons, err);
}

/* For systemd's units, which start the daemons themselves. */
static int prepare_only(const struct setup_options *options, struct err *err)
{
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_fd_ int lock = setup_lock(options->state, err);
	bool changed;
	int r = lock < 0 ? lock : setup_run(options, err, &config, &changed);

	if (r == 0)
		printf("Berth is ready to be started in %s.\n", config->state);
	return r;
}

int command_up(int argc, char **argv)
{
	static const struct option longs[] = {{"state", required_argument, NULL, 's'},
		{"listen", required_argument, NULL, 'l'}, {"config", required_argument, NULL, 'c'},
		{"set", required_argument, NULL, 'S'}, {"detach", no_argument, NULL, 'd'},
		{"prepare", no_argument, NULL, 'P'}, {"help-settings", no_argument, NULL, 'H'},
		{0}};
	const char *settings[SETTINGS_MAX];
	struct setup_options options = {.settings = settings};
	_cleanup_free_ char *state = xstrdup(DEFAULT_STATE);
	struct err err = {0};
	bool detach = false, prepare = false;
	int option, r;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 's') {
			free(state);
			state = config_absolute(optarg);
		} else if (option == 'l') {
			options.listen = optarg;
		} else if (option == 'c') {
			options.config_file = optarg;
		} else if (option == 'S' && options.n_settings < SETTINGS_MAX) {
			settings[options.n_settings++] = optarg;
		} else if (option == 'd') {
			detach = true;
		} else if (option == 'P') {
			prepare = true;
		} else if (option == 'H') {
			config_print_reference();
			return 0;
		} else {
			return option == 'S'
				       ? cli_usage("up", "--set was given more than %d times.",
						 SETTINGS_MAX)
				       : cli_wrong_option("up");
		}
	}
	if (cli_no_more("up", argc, argv, optind))
		return 2;
	if (cli_need_root("up"))
		return 1;
	options.state = state;
	r = prepare ? prepare_only(&options, &err) : up(&options, detach, &err);
	return r < 0 ? cli_fail(&err) : 0;
}
