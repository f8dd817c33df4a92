/*
 * berth-porter: answers the DNS questions of sandboxes by asking others. Started by berth-node with
 * its sockets as descriptors 3 and up, its configuration as JSON on standard input, and an identity
 * that owns nothing:
 *   {"zone_suffix":"local.berth.internal","authority":"127.0.0.1:8453","upstreams":["192.0.2.1:53"]}
 * From its first question on it can't open files, start programs or gain rights (seccomp).
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/json.h"
#include "base/log.h"
#include "worker/porter/forward.h"

#define CONFIG_MAX 65536
#define FIRST_SOCKET 3
#define SOCKETS_MAX 4
#define TIMEOUT_MS 2000
#define DESCRIPTORS_ASIDE 320 /* for connections, the loop and what else is open */

static int read_config(struct forward_config *ret, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_MAX(CONFIG_MAX);
	_cleanup_json_ json_t *json = NULL;
	struct forward_config config = {.timeout_ms = TIMEOUT_MS};
	const json_t *upstreams;
	ssize_t n;
	int r;

	do
		n = buf_read(&text, STDIN_FILENO, CONFIG_MAX - text.len);
	while (n > 0 || n == -EINTR);
	if (n < 0)
		return err_errno(err, (int)n, "configuration");
	r = json_parse(buf_str(&text), text.len, JSON_DEPTH_MAX, err, &json);
	if (r < 0)
		return r;
	if (forward_parse_address(json_get_str(json, "authority", ""), &config.authority) < 0)
		return err_set(err, -EINVAL, "InternalError", "configuration: bad authority");
	upstreams = json_get_arr(json, "upstreams");
	for (size_t i = 0; i < json_array_size(upstreams); i++) {
		const char *text_i = json_string_value(json_array_get(upstreams, i));

		if (config.n_upstreams == FORWARD_UPSTREAMS_MAX)
			break;
		if (!text_i ||
			forward_parse_address(text_i, &config.upstreams[config.n_upstreams]) < 0)
			return err_set(
				err, -EINVAL, "InternalError", "configuration: bad upstream");
		config.n_upstreams++;
	}
	config.zone_suffix = xstrdup(json_get_str(json, "zone_suffix", ""));
	*ret = config;
	return 0;
}

/* Each question under way has a socket. */
static unsigned descriptors_for_questions(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 64;
	limit.rlim_cur = MIN(limit.rlim_max, FORWARD_PENDING_MAX + DESCRIPTORS_ASIDE);
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 2 * DESCRIPTORS_ASIDE)
		return 64;
	return (unsigned)limit.rlim_cur - DESCRIPTORS_ASIDE;
}

/* What the loop, the sockets and malloc need; socket() for the internet alone. A sanitizer needs
 * more than that. */
static int lock_down(void)
{
	static const int calls[] = {SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev),
		SCMP_SYS(close), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl),
		SCMP_SYS(connect), SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(accept4),
		SCMP_SYS(getsockopt), SCMP_SYS(timerfd_settime), SCMP_SYS(getrandom),
		SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(brk), SCMP_SYS(madvise),
		SCMP_SYS(futex), SCMP_SYS(clock_gettime), SCMP_SYS(rt_sigreturn),
		SCMP_SYS(rt_sigprocmask), SCMP_SYS(restart_syscall), SCMP_SYS(exit),
		SCMP_SYS(exit_group)};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? 0 : -ENOMEM;

	if (SANITIZED) {
		seccomp_release(filter);
		return 0;
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(calls); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	if (r == 0)
		r = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_INET));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
			SCMP_A0(SCMP_CMP_EQ, AF_INET6));
	if (r == 0) /* memory, never code */
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, 4 /* PROT_EXEC */, 0));
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

/* Before anything else is opened, which would get the numbers that no socket has. */
static int count_sockets(void)
{
	int n = 0, type;
	socklen_t len = sizeof(type);

	while (n < SOCKETS_MAX &&
		getsockopt(FIRST_SOCKET + n, SOL_SOCKET, SO_TYPE, &type, &len) == 0)
		n++;
	return n;
}

static int run(struct err *err)
{
	int n_sockets = count_sockets();
	struct loop *loop = loop_new();
	struct forward_config config;
	struct forward *forward;
	int r = read_config(&config, err);

	if (r < 0)
		return r;
	config.max_pending = descriptors_for_questions();
	r = forward_new(loop, &config, &forward);
	if (r < 0)
		return err_set(err, r, "InternalError", "configuration: bad zone_suffix");
	if (n_sockets == 0)
		return err_set(err, -ENOTSOCK, "InternalError", "descriptor 3 is no socket");
	for (int i = 0; r == 0 && i < n_sockets; i++)
		r = forward_listen(forward, FIRST_SOCKET + i);
	if (r < 0)
		return err_errno(err, r, "sockets");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_errno(err, -errno, "prctl");
	r = lock_down();
	if (r < 0)
		return err_errno(err, r, "seccomp");
	loop_run(loop);
	return 0;
}

int main(void)
{
	struct err err = {0};

	log_init("berth-porter", LOG_LEVEL_INFO);
	prctl(PR_SET_NAME, "berth-porter"); /* it was started by a descriptor's name */
	if (run(&err) < 0) {
		log_error("%s", err.message);
		return 1;
	}
	return 0;
}
