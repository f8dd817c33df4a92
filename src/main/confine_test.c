#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "main/confine.h"

static void *nothing(void *arg)
{
	return arg;
}

/* Each returns the step that went wrong, 0 when all is as it should be. */
static int still_possible(void)
{
	_cleanup_fd_ int unix_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	_cleanup_fd_ int inet_fd = socket(AF_INET6, SOCK_STREAM, 0);
	_cleanup_fd_ int file = open("/proc/self/status", O_RDONLY);
	pthread_t thread;

	if (unix_fd < 0 || (inet_fd < 0 && errno != EAFNOSUPPORT) || file < 0)
		return 1;
	if (pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0)
		return 2;
	return 0;
}

static int impossible(void)
{
	char *const argv[] = {NULL};

	if (execve("/bin/true", argv, argv) == 0 || errno != EPERM)
		return 10;
	if (fork() >= 0 || errno != EPERM)
		return 11;
	if (unshare(CLONE_NEWUSER) == 0 || errno != EPERM)
		return 12;
	if (mount("none", "/mnt", "tmpfs", 0, NULL) == 0 || errno != EPERM)
		return 13;
	if (socket(AF_PACKET, SOCK_RAW, 0) >= 0 || errno != EAFNOSUPPORT)
		return 14;
	if (socket(AF_ALG, SOCK_SEQPACKET, 0) >= 0 || errno != EAFNOSUPPORT)
		return 15;
	if (syscall(SYS_ptrace, 0, 0, 0, 0) == 0 || errno != EPERM)
		return 16;
	if (setresuid(0, 0, 0) == 0)
		return 17;
	if (prctl(PR_GET_DUMPABLE) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 18;
	return 0;
}

static void test_confined_process(void **state)
{
	pid_t pid = fork();
	int status = 0;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct err err = {0};
		int step = 20;

		if (setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0 &&
			confine(&err) == 0) {
			step = still_possible();
			if (step == 0 && !SANITIZED)
				step = impossible();
		}
		_exit(step);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_confined_process)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
