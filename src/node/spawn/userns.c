#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/file.h"
#include "node/spawn/userns.h"

int userns_write_maps(pid_t pid, uint32_t inside, uint32_t outside)
{
	static const char *const names[] = {"uid_map", "gid_map"};
	char path[64], map[64];
	int r;

	snprintf(map, sizeof(map), "%u %u %u\n", inside, outside, USERNS_IDS);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, names[i]);
		r = file_write_control(AT_FDCWD, path, map);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Shares the parent's memory, so it touches nothing of it: not even errno, which is the calling
 * thread's. */
static int hold(void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
	return 0;
}

/* The holder has no exit signal, so that a daemon's SIGCHLD handling doesn't see it: __WALL finds
 * it all the same. */
static void end_holder(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
}

int userns_new(uint32_t inside, uint32_t outside, struct err *err)
{
	static const size_t stack_bytes = 16384;
	_cleanup_free_ char *stack = xmalloc(stack_bytes);
	sigset_t all, old;
	char path[64];
	pid_t pid;
	int fd, r;

	/* Signals stay blocked in the holder: a handler of ours must not run there. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = clone(hold, stack + stack_bytes - 64, CLONE_VM | CLONE_NEWUSER, NULL);
	r = pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0)
		return err_errno(err, r, "new user namespace");

	r = userns_write_maps(pid, inside, outside);
	if (r < 0) {
		end_holder(pid);
		return err_errno(err, r, "id map %u to %u", inside, outside);
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -errno : 0;
	end_holder(pid);
	if (r < 0)
		return err_errno(err, r, "open %s", path);
	return fd;
}
