/*
 * berth-probe: the HTTP requests of a node's probes, in one process that owns nothing. Started by
 * berth-node with a seqpacket socket as descriptor 3, in a network namespace without any device. A
 * message in is a request (get.h) with a TCP socket of the group's own network; a message out is
 *   {"id":7,"status":200}   or   {"id":7,"error":"Connection refused"}
 * with neither when nobody could be asked, which is no fault of the container.
 * Before its first request it gives up opening files, making sockets and starting programs
 * (seccomp). It ends when berth-node does.
 */
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "worker/probe/get.h"

#define CONTROL_FD 3
#define MESSAGE_MAX 65536
#define MESSAGE_DEPTH 4

struct worker {
	struct loop *loop;
	struct gets *gets;
};

static void answer(int64_t id, int status, const char *error, void *arg)
{
	_cleanup_json_ json_t *json = json_pack("{s:I}", "id", (json_int_t)id);
	_cleanup_free_ char *text = NULL;

	if (status > 0)
		json_object_set_new(json, "status", json_integer(status));
	else if (error)
		json_put_str(json, "error", error);
	text = json_text(json);
	if (send(CONTROL_FD, text, strlen(text), MSG_NOSIGNAL) < 0)
		log_warn("an answer is lost: %s", err_str(-errno));
}

/* The descriptor that came along; -EBADF when there is none. */
static int passed_socket(struct msghdr *header)
{
	struct cmsghdr *part = CMSG_FIRSTHDR(header);
	int fd = -EBADF;

	if (part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS &&
		part->cmsg_len == CMSG_LEN(sizeof(fd)))
		memcpy(&fd, CMSG_DATA(part), sizeof(fd));
	return fd;
}

static void control_ready(int fd, uint32_t events, void *arg)
{
	static char text[MESSAGE_MAX];
	struct worker *worker = arg;
	_cleanup_json_ json_t *request = NULL;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec data = {text, sizeof(text)};
	struct msghdr header = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct err err = {0};
	int socket;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		loop_stop(worker->loop);
		return;
	}
	socket = passed_socket(&header);
	if (json_parse(text, (size_t)n, MESSAGE_DEPTH, &err, &request) < 0) {
		log_warn("a request can't be read: %s", err.message);
		fd_close(socket);
		return;
	}
	gets_start(worker->gets, request, socket);
}

/* What requests over sockets that are there need. Nothing dies of the rest: a stranger's answer
 * that led there would end everybody's probes. */
static int lock_down(void)
{
	static const int calls[] = {SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev),
		SCMP_SYS(close), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl),
		SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(connect), SCMP_SYS(sendto),
		SCMP_SYS(sendmsg), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(shutdown),
		SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname),
		SCMP_SYS(getpeername), SCMP_SYS(timerfd_settime), SCMP_SYS(getrandom),
		SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(brk), SCMP_SYS(madvise),
		SCMP_SYS(futex), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time),
		SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(rt_sigreturn),
		SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(restart_syscall),
		SCMP_SYS(exit), SCMP_SYS(exit_group)};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = filter ? 0 : -ENOMEM;

	if (SANITIZED) {
		seccomp_release(filter);
		return 0;
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(calls); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	for (size_t i = 0; r == 0 && i < 2; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
			SCMP_A1(SCMP_CMP_EQ, i == 0 ? F_GETFL : F_SETFL));
	if (r == 0)
		r = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, FIONBIO));
	if (r == 0) /* memory, never code */
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, 4 /* PROT_EXEC */, 0));
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

static int run(struct err *err)
{
	struct worker worker = {.loop = loop_new()};
	int r = gets_new(worker.loop, answer, NULL, err, &worker.gets);

	if (r < 0)
		return r;
	sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	loop_add(worker.loop, CONTROL_FD, EPOLLIN, control_ready, &worker);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_errno(err, -errno, "prctl");
	r = lock_down();
	if (r < 0)
		return err_errno(err, r, "seccomp");
	loop_run(worker.loop);
	gets_free(worker.gets);
	loop_free(worker.loop);
	return 0;
}

int main(void)
{
	struct err err = {0};

	log_init("berth-probe", LOG_LEVEL_INFO);
	prctl(PR_SET_NAME, "berth-probe"); /* it was started by a descriptor's name */
	if (run(&err) < 0) {
		log_error("%s", err.message);
		return 1;
	}
	return 0;
}
