/* The real berth-probe: who it is, that it answers, and what becomes of requests when it dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/file.h"
#include "base/loop.h"
#include "base/proc.h"
#include "base/time.h"
#include "node/agent/probe_worker.h"

#define MANY 300

struct answer {
	bool done;
	int status;
	char words[300];
};

static struct loop *loop;
static struct probe_worker *worker;
static int listener;
static int port;

static void answered(int status, const char *words, void *arg)
{
	struct answer *answer = arg;

	*answer = (struct answer){.done = true, .status = status};
	snprintf(answer->words, sizeof(answer->words), "%s", words);
}

static int ask(struct answer *answer, int to_port, int timeout_ms)
{
	_cleanup_json_ json_t *request = json_pack("{s:s, s:s, s:i, s:s, s:i}", "scheme", "http",
		"address", "127.0.0.1", "port", to_port, "path", "/", "timeoutMs", timeout_ms);
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct err err = {0};

	*answer = (struct answer){0};
	return probe_worker_ask(worker, request, fd, timeout_ms, answered, answer, &err);
}

static void await(const struct answer *answer)
{
	while (!answer->done)
		loop_once(loop, 1000);
}

/* Answers one connection that waits. */
static void serve_one(int fd, uint32_t events, void *arg)
{
	static const char text[] = "HTTP/1.1 204 No Content\r\n\r\n";
	int peer = accept(fd, NULL, NULL);

	assert_int_equal(send(peer, text, sizeof(text) - 1, MSG_NOSIGNAL), sizeof(text) - 1);
	/* Not before it has read: unread bytes would reset the connection. */
	shutdown(peer, SHUT_WR);
	while (recv(peer, (char[1024]){0}, 1024, 0) > 0)
		;
	close(peer);
}

static void it_answers_and_owns_nothing(void **state)
{
	_cleanup_free_ char *path = NULL, *status = NULL;
	char ids[64];
	struct answer answer;

	assert_int_equal(probe_worker_pid(worker), 0);
	assert_int_equal(ask(&answer, port, 2000), 0);
	await(&answer);
	assert_int_equal(answer.status, 204);
	path = xasprintf("/proc/%d/status", probe_worker_pid(worker));
	assert_int_equal(file_read(AT_FDCWD, path, 65536, &status, NULL), 0);
	snprintf(ids, sizeof(ids), "Uid:\t%u\t%u\t%u\t%u\n", PROBE_UID, PROBE_UID, PROBE_UID,
		PROBE_UID);
	assert_non_null(strstr(status, ids));
	assert_non_null(strstr(status, "CapEff:\t0000000000000000"));
	assert_non_null(strstr(status, "CapBnd:\t") ? strstr(status, "NoNewPrivs:\t1") : NULL);
	if (!SANITIZED)
		assert_non_null(strstr(status, "Seccomp:\t2"));
}

static void many_at_once(void **state)
{
	static struct answer answers[MANY];

	for (size_t i = 0; i < MANY; i++)
		while (ask(&answers[i], i % 2 ? port : 1, 10000) == -EAGAIN)
			loop_once(loop, 100);
	for (size_t i = 0; i < MANY; i++) {
		await(&answers[i]);
		assert_int_equal(answers[i].status, i % 2 ? 204 : 0);
		if (i % 2 == 0)
			assert_string_equal(answers[i].words, "Connection refused");
	}
}

/* The first ask after a death may come too soon for a new start. */
static void ask_until_it_runs(struct answer *answer, int to_port)
{
	int r;

	while ((r = ask(answer, to_port, 2000)) == -EAGAIN)
		loop_once(loop, 100);
	assert_int_equal(r, 0);
}

static void when_it_dies_nothing_is_known_and_it_starts_again(void **state)
{
	_cleanup_fd_ int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	struct answer answer;
	int pid;

	assert_int_equal(bind(silent, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(silent, 8), 0);
	assert_int_equal(getsockname(silent, (struct sockaddr *)&a, &len), 0);
	ask_until_it_runs(&answer, ntohs(a.sin_port));
	pid = probe_worker_pid(worker);
	kill(pid, SIGKILL);
	await(&answer);
	assert_int_equal(answer.status, -ECANCELED);
	assert_int_equal(probe_worker_pid(worker), 0);
	ask_until_it_runs(&answer, port);
	await(&answer);
	assert_int_equal(answer.status, 204);
	assert_int_not_equal(probe_worker_pid(worker), pid);
}

static int setup(void **state)
{
	static char *program;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	program = proc_sibling("berth-probe");
	loop = loop_new();
	worker = probe_worker_new(loop, program);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 512) < 0 ||
		getsockname(listener, (struct sockaddr *)&a, &len) < 0)
		return -1;
	port = ntohs(a.sin_port);
	loop_add(loop, listener, EPOLLIN, serve_one, NULL);
	*state = program;
	return 0;
}

static int teardown(void **state)
{
	probe_worker_free(worker);
	loop_free(loop);
	close(listener);
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_answers_and_owns_nothing),
		cmocka_unit_test(many_at_once),
		cmocka_unit_test(when_it_dies_nothing_is_known_and_it_starts_again),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
