#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include "base/file.h"
#include "base/proc.h"
#include "main/daemon.h"

/* Large blocks go back to the kernel when they are freed. Left alone, glibc takes the first such
 * block (scrypt's 16 MiB, say) as a sign that there will be more, and from then on each thread's
 * arena keeps one. */
static void limit_heap(void)
{
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
	mallopt(M_TRIM_THRESHOLD, 512 << 10);
	mallopt(M_ARENA_MAX, 2);
}

int daemon_start(
	int argc, char **argv, const char *program, const char *summary, struct config **ret)
{
	static const struct option options[] = {{"state", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'v'}, {0}};
	const char *state = "/var/lib/berth";
	struct err err = {0};
	int option;

	limit_heap();
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's') {
			state = optarg;
		} else if (option == 'v') {
			printf("%s %s\n", program, BERTH_VERSION);
			return 1;
		} else {
			fprintf(option == 'h' ? stdout : stderr, "Usage: %s [--state DIR]\n%s\n",
				program, summary);
			return option == 'h' ? 1 : -EINVAL;
		}
	}
	log_init(program, getenv("BERTH_DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	if (config_load(state, &err, ret) < 0) {
		fprintf(stderr, "%s: %s\n", program, err.message);
		return err.r;
	}
	return 0;
}

bool daemon_take_flag(int *argc, char **argv, const char *flag)
{
	for (int i = 1; i < *argc; i++)
		if (str_eq(argv[i], flag)) {
			memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof(*argv));
			(*argc)--;
			return true;
		}
	return false;
}

static void on_signal(int fd, uint32_t events, void *arg)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) == sizeof(info)) {
		log_info("stopping on signal %u", info.ssi_signo);
		loop_stop(arg);
	}
}

int daemon_signals(struct loop *loop, struct err *err)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct rlimit no_core = {0};
	sigset_t mask;
	int fd;

	setrlimit(RLIMIT_CORE, &no_core);
	sigaction(SIGPIPE, &ignore, NULL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_errno(err, -errno, "signalfd");
	loop_add(loop, fd, EPOLLIN, on_signal, loop);
	return 0;
}

int daemon_write_pid(const char *state, const char *name, int pid, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s/run/%s.pid", state, name);
	_cleanup_free_ char *text = NULL;
	uint64_t start;
	int r;

	r = proc_start_time(pid, &start);
	if (r == -ENOENT)
		return 0; /* has ended already: whoever waits for it will hear so, and why */
	if (r < 0)
		return err_errno(err, r, "/proc");
	text = xasprintf("%d %llu\n", pid, (unsigned long long)start);
	r = file_write_replace(AT_FDCWD, path, text, strlen(text), 0644);
	return r < 0 ? err_errno(err, r, "write %s", path) : 0;
}

int daemon_pid(const char *state, const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/run/%s.pid", state, name);
	_cleanup_free_ char *text = NULL;
	uint64_t pid, start, now;
	char *blank;

	if (file_read(AT_FDCWD, path, 64, &text, NULL) < 0)
		return -ESRCH;
	text[strcspn(text, "\n")] = 0;
	blank = strchr(text, ' ');
	if (!blank)
		return -ESRCH;
	*blank = 0;
	if (str_to_u64(text, INT32_MAX, &pid) < 0 ||
		str_to_u64(blank + 1, UINT64_MAX, &start) < 0 ||
		proc_start_time((pid_t)pid, &now) < 0 || now != start)
		return -ESRCH;
	return (int)pid;
}
