/* What a container sees and may do, and the mount namespace that all of them live in. */
#include "node/runtime/fixture.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/file.h"

#define SELF_TARGET "/self/program"

static char self_path[4096];

/* What runs inside a container. */

static void show(const char *what, long result)
{
	printf("%s=%d\n", what, result < 0 ? errno : 0);
}

static int probe(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};
	struct clone_args args = {.exit_signal = SIGCHLD};
	char c = 'x';
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	show("bind80", bind(sock, (struct sockaddr *)&address, sizeof(address)));
	show("clone3", syscall(SYS_clone3, &args, sizeof(args)));
	show("clone-user", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
	show("unshare", syscall(SYS_unshare, CLONE_NEWUSER));
	show("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	show("add_key", syscall(SYS_add_key, "user", "x", "x", 1, -3));
	show("bpf", syscall(SYS_bpf, 0, NULL, 0));
	show("userfaultfd", syscall(SYS_userfaultfd, 0));
	show("io_uring", syscall(SYS_io_uring_setup, 1, NULL));
	show("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
	show("tiocsti", syscall(SYS_ioctl, 0, (unsigned long)TIOCSTI, &c));
	show("tiocsti-high", syscall(SYS_ioctl, 0, (unsigned long)TIOCSTI | 1ul << 32, &c));
	show("tcgets", syscall(SYS_ioctl, 0, (unsigned long)TCGETS, &c));
	show("vsock", syscall(SYS_socket, 40ul, SOCK_STREAM, 0));
	show("vsock-high", syscall(SYS_socket, 40ul | 1ul << 32, SOCK_STREAM, 0));
	show("vfork", 0);
	return 0;
}

static void test_inside(void **state)
{
	static const char *const expected[] = {"uid=0(root) gid=0(root)", "0    1000000      65536",
		"NoNewPrivs:\t1", "Seccomp:\t2", "CapInh:\t0000000000000000",
		"CapEff:\t00000000a80425fb", "CapPrm:\t00000000a80425fb",
		"CapBnd:\t00000000a80425fb", "CapAmb:\t0000000000000000", "HOME=/root",
		"HOSTNAME=box", "FOO=bar", "Max core file size        0                    0",
		"shm 1777", "ro-sys", "ro-proc", "uts box", "oom 100", "mem 67108864",
		"fds 0 1 2 3\n"};
	struct box box;

	box_init(&box, "inside",
		"id; cat /proc/self/uid_map /proc/self/status /proc/self/limits; busybox env; "
		"echo shm $(stat -c %a /dev/shm); "
		"echo x >/sys/x || echo ro-sys; echo 1 >/proc/sys/kernel/domainname || echo ro-proc; "
		"echo uts $(busybox hostname); echo oom $(cat /proc/self/oom_score_adj); "
		"echo fds $(ls /proc/self/fd); "
		"echo mem $(cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max)");
	box.spec.env = (const char *const[]){"FOO=bar", NULL};
	assert_int_equal(box_run(&box).exit_code, 0);
	{
		_cleanup_free_ char *log = box_log(&box, 0, false, 0);

		for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
			assert_has(log, expected[i]);
	}
	box_delete(&box);
}

static void test_user(void **state)
{
	static const char *const expected[] = {
		"uid=1000(web) gid=1000(web) groups=1000(web),2000(extra)",
		"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000",
		"CapBnd:\t00000000a80425fb", "HOME=/home/web"};
	struct box box;

	box_init(&box, "user", "id; cat /proc/self/status; busybox env");
	box.spec.user = "web";
	assert_int_equal(box_run(&box).exit_code, 0);
	{
		_cleanup_free_ char *log = box_log(&box, 0, false, 0);

		for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
			assert_has(log, expected[i]);
	}
	box_delete(&box);

	box_init(&box, "nouser", "id");
	box.spec.user = "nobody-here";
	assert_true(runtime_create(runtime, &box.spec, &box.err) < 0);
	assert_string_equal(box.err.message, "The image has no user \"nobody-here\".");
	box_delete(&box);
}

static int setup_with_path(void **state)
{
	assert_true(readlink("/proc/self/exe", self_path, sizeof(self_path) - 1) > 0);
	return setup_machine(state);
}

/* This program in a container, as a user without privileges, with the machine's libraries. */
static void probe_seccomp(const char *name)
{
	static const char *const expected[] = {"bind80=0\n", "clone3=38\n", "clone-user=1\n",
		"unshare=1\n", "keyctl=1\n", "add_key=1\n", "bpf=1\n", "userfaultfd=1\n",
		"io_uring=1\n", "mount=1\n", "tiocsti=1\n", "tiocsti-high=1\n", "tcgets=25\n",
		"vsock=1\n", "vsock-high=1\n", "vfork=0\n"};
	char program[8192];
	struct runtime_bind binds[4] = {{"/usr", "/usr", true}, {"/lib", "/lib", true},
		{program, SELF_TARGET, true}, {"/lib64", "/lib64", true}};
	_cleanup_free_ char *data = NULL;
	_cleanup_free_ char *log = NULL;
	struct box box;
	size_t len;

	/* The build folder may be closed to others. */
	snprintf(program, sizeof(program), "%s/program", top);
	assert_int_equal(file_read(AT_FDCWD, self_path, 256 * MEBIBYTE, &data, &len), 0);
	assert_int_equal(file_write_replace(AT_FDCWD, program, data, len, 0755), 0);
	box_init(&box, name, NULL);
	box.args[0] = SELF_TARGET;
	box.args[1] = "probe";
	box.spec.user = "1000";
	box.spec.memory_bytes = 0;
	box.spec.env = (const char *const[]){"ASAN_OPTIONS=detect_leaks=0", NULL};
	box.spec.binds = binds;
	box.spec.n_binds = access("/lib64", F_OK) == 0 ? 4 : 3;
	assert_int_equal(box_run(&box).exit_code, 0);
	log = box_log(&box, 0, false, 0);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_has(log, expected[i]);
	box_delete(&box);
}

/* Both forms of the profile do the same. */
static void test_seccomp(void **state)
{
	char *program = runtime->seccomp_program;

	probe_seccomp("seccomp");
	runtime->seccomp_program = NULL;
	probe_seccomp("seccompjson");
	runtime->seccomp_program = program;
}

/* An image whose /dev is a symlink makes crun 1.8.1 mount elsewhere. */
static void test_symlinked_targets(void **state)
{
	const char *const names[] = {"dev", "proc", "sys"};
	struct runtime_bind bind = {"/etc/hostname", "/etc/resolv.conf", true};
	struct box box;
	char path[8192];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		box_init(&box, "links", "true");
		snprintf(path, sizeof(path), "%s/rootfs/%s", box.dir, names[i]);
		rmdir(path);
		assert_int_equal(symlink("/tmp", path), 0);
		assert_true(runtime_create(runtime, &box.spec, &box.err) < 0);
		assert_non_null(strstr(box.err.message, "not a directory"));
		assert_int_equal(unlink(path), 0);
		box_delete(&box);
	}
	box_init(&box, "links", "cat /etc/resolv.conf");
	snprintf(path, sizeof(path), "%s/rootfs/etc/resolv.conf", box.dir);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	box.spec.binds = &bind;
	box.spec.n_binds = 1;
	assert_int_equal(box_run(&box).exit_code, 0);
	box_delete(&box);
}

static ino_t own_namespace(void)
{
	struct stat st;

	assert_int_equal(stat("/proc/self/ns/mnt", &st), 0);
	return st.st_ino;
}

static void namespace_child(const char *dir, int out)
{
	struct err err = {0};
	ino_t ino;

	if (setns(machine_ns, CLONE_NEWNS) < 0 || runtime_namespace_enter(dir, &err) < 0)
		_exit(1);
	ino = own_namespace();
	if (write(out, &ino, sizeof(ino)) < 0)
		_exit(1);
	raise(SIGKILL);
}

static void test_namespace_outlives(void **state)
{
	const char *dir = path_of("other");
	ino_t inodes[2] = {0};
	struct err err = {0};

	for (size_t i = 0; i < 2; i++) {
		int ends[2];
		pid_t pid;

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		pid = fork();
		if (pid == 0)
			namespace_child(dir, ends[1]);
		close(ends[1]);
		assert_int_equal(read(ends[0], &inodes[i], sizeof(ino_t)), sizeof(ino_t));
		close(ends[0]);
		waitpid(pid, NULL, 0);
	}
	assert_int_equal(inodes[0], inodes[1]);
	assert_int_not_equal(inodes[0], own_namespace());
	{
		int here = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

		assert_int_equal(setns(machine_ns, CLONE_NEWNS), 0);
		assert_int_equal(runtime_namespace_purge(dir, &err), 0);
		assert_int_not_equal(access(dir, F_OK), 0);
		assert_int_equal(setns(here, CLONE_NEWNS), 0);
		close(here);
	}
}

static void shared_child(const char *dir, int out)
{
	struct err err = {0};
	char byte = 'n';
	int hold[2];
	pid_t peer;

	if (setns(machine_ns, CLONE_NEWNS) < 0 || unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0 || pipe(hold) < 0)
		_exit(1);
	peer = fork();
	if (peer == 0) {
		if (unshare(CLONE_NEWNS) == 0 && write(hold[1], &byte, 1) == 1)
			pause();
		_exit(1);
	}
	if (read(hold[0], &byte, 1) != 1)
		_exit(1);
	if (runtime_namespace_enter(dir, &err) == 0)
		byte = 'y';
	else
		print_error("%s\n", err.message);
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
	if (write(out, &byte, 1) != 1)
		_exit(1);
	_exit(0);
}

/* As systemd has it: all mounts are shared, and other namespaces would get a copy of the pin, which
 * the kernel refuses. */
static void test_namespace_among_shared_mounts(void **state)
{
	const char *dir = path_of("shared");
	char byte = 0;
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		shared_child(dir, ends[1]);
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	waitpid(pid, NULL, 0);
	assert_int_equal(byte, 'y');
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inside),
		cmocka_unit_test(test_user),
		cmocka_unit_test(test_seccomp),
		cmocka_unit_test(test_symlinked_targets),
		cmocka_unit_test(test_namespace_outlives),
		cmocka_unit_test(test_namespace_among_shared_mounts),
	};

	if (argc == 2 && str_eq(argv[1], "probe"))
		return probe();
	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, setup_with_path, teardown_machine);
}
