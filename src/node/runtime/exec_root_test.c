/* Commands in a running container: how they end, what they see, and what of them may not stay. */
#include "node/runtime/fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/time.h"
#include "node/runtime/exec.h"

static struct box box;
static const char *args[8];

static struct runtime_exec_spec sh(const char *script)
{
	args[0] = "/bin/sh";
	args[1] = "-c";
	args[2] = script;
	args[3] = NULL;
	return (struct runtime_exec_spec){.dir = box.dir, .id = box.id, .args = args};
}

static int run(const char *script, int timeout_ms, char **ret_output)
{
	struct runtime_exec_spec spec = sh(script);
	struct err err = {0};
	int r = runtime_exec_run(runtime, &spec, timeout_ms, 4096, &err, ret_output);

	if (r < 0 && r != -ETIMEDOUT)
		print_message("%s: %s\n", err.code, err.message);
	return r;
}

static void start(const struct runtime_exec_spec *spec, struct runtime_exec *exec)
{
	struct err err = {0};

	*exec = RUNTIME_EXEC_INIT;
	if (runtime_exec_start(runtime, spec, &err, exec) < 0)
		fail_msg("exec: %s", err.message);
}

/* Reads until the text was seen, or to the end with NULL. */
static char *read_until(int fd, const char *text)
{
	struct buf buf = BUF_INIT;
	int64_t deadline_ms = time_mono_ms() + WAIT_MS;

	for (;;) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (text && strstr(buf_str(&buf), text))
			return buf_take(&buf);
		if (time_mono_ms() > deadline_ms)
			fail_msg("no \"%s\" in: %s", text, buf_str(&buf));
		poll(&poll_fd, 1, 100);
		n = buf_read(&buf, fd, 4096);
		if (n == 0 || (n < 0 && n != -EAGAIN))
			return buf_take(&buf);
	}
}

static void expect_output(const struct runtime_exec *exec, const char *text)
{
	free(read_until(exec->stdout_fd, text));
}

/* Nothing of a session stays in the run's folder, nor any process whose arguments have the word. */
static void assert_clean(const char *word)
{
	_cleanup_free_ char *found = NULL;
	_cleanup_free_ char *script = xasprintf(
		"ls %s/run/%s | grep exec- ; grep -lz '^%s$' /proc/[0-9]*/cmdline 2>/dev/null | "
		"grep -v self ; true",
		box.dir, box.id, word);
	const char *argv[] = {"/bin/sh", "-c", script, NULL};

	assert_int_equal(proc_run(argv, WAIT_MS, 4096, &found, &box.err), 0);
	assert_string_equal(found, "");
}

static void it_ends_as_the_command_ends(void **state)
{
	static const struct {
		const char *script;
		int code;
	} rows[] = {{"exit 0", 0}, {"exit 3", 3}, {"exit 255", 255}, {"kill -9 $$", 137},
		{"kill -TERM $$", 143}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(run(rows[i].script, WAIT_MS, NULL), rows[i].code);
	assert_clean("exit 3");
}

static void it_runs_as_the_container_does(void **state)
{
	static const char *const expected[] = {"uid=1000(web) gid=1000(web)", "2000(extra)",
		"FOO=bar", "HOSTNAME=box", "HOME=/home/web", "cwd /etc", "NoNewPrivs:\t1",
		"Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t00000000a80425fb", "oom 100",
		"Max core file size        0 ", "0    1000000      65536", "fds 0 1 2 3\n"};
	struct runtime_exec_spec spec =
		sh("id; busybox env; echo cwd $PWD; cat /proc/self/status /proc/self/limits "
		   "/proc/self/uid_map; echo oom $(cat /proc/self/oom_score_adj); "
		   "echo fds $(ls /proc/self/fd)");
	_cleanup_free_ char *output = NULL;

	assert_int_equal(runtime_exec_run(runtime, &spec, WAIT_MS, 65536, &box.err, &output), 0);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_has(output, expected[i]);
	assert_null(strstr(output, "TERM="));
}

static void streams_are_separate_and_input_ends(void **state)
{
	struct runtime_exec_spec spec = sh("cat; echo err >&2; exit 5");
	struct runtime_exec exec;

	spec.with_stdin = true;
	start(&spec, &exec);
	assert_int_equal(write(exec.stdin_fd, "some input\n", 11), 11);
	expect_output(&exec, "some input\n");
	assert_int_equal(runtime_exec_wait(&exec, 100), -ETIMEDOUT);
	exec.stdin_fd = fd_close(exec.stdin_fd);
	assert_int_equal(runtime_exec_wait(&exec, WAIT_MS), 5);
	{
		_cleanup_free_ char *out = read_until(exec.stdout_fd, NULL);
		_cleanup_free_ char *err = read_until(exec.stderr_fd, NULL);

		assert_string_equal(out, "");
		assert_string_equal(err, "err\n");
	}
	runtime_exec_done(&exec);
	runtime_exec_done(&exec);
	/* Nobody asked for input: it has ended from the start. */
	assert_int_equal(run("cat", WAIT_MS, NULL), 0);
}

static void a_terminal_has_a_size_that_changes(void **state)
{
	struct runtime_exec_spec spec = sh(
		"trap 'busybox stty size' WINCH; tty=$(busybox tty); echo tty $tty $TERM; until busybox stty size 2>/dev/null; do :; done; "
		"echo ready; while :; do read line || continue; [ \"$line\" = end ] && exit 6; done");
	struct runtime_exec exec;

	spec.terminal = true;
	spec.rows = 33;
	spec.cols = 101;
	start(&spec, &exec);
	assert_int_equal(exec.stderr_fd, -EBADF);
	{
		_cleanup_free_ char *text = read_until(exec.stdout_fd, "ready\r\n");

		assert_has(text, "tty /dev/pts/0 xterm\r\n");
		assert_has(text, "33 101\r\n");
	}
	runtime_exec_resize(&exec, 50, 120);
	assert_int_equal(write(exec.stdin_fd, "\n", 1), 1);
	expect_output(&exec, "50 120\r\n");
	assert_int_equal(write(exec.stdin_fd, "end\n", 4), 4);
	assert_int_equal(runtime_exec_wait(&exec, WAIT_MS), 6);
	runtime_exec_done(&exec);
	assert_clean("end");
}

static void what_cannot_start_says_why(void **state)
{
	for (int terminal = 0; terminal < 2; terminal++) {
		struct runtime_exec_spec spec = sh("");
		struct runtime_exec exec = RUNTIME_EXEC_INIT;
		struct err err = {0};

		args[0] = "/bin/none";
		spec.terminal = terminal;
		assert_true(runtime_exec_start(runtime, &spec, &err, &exec) < 0);
		assert_string_equal(err.code, "ContainerExecFailed");
		assert_string_equal(err.message,
			"executable file `/bin/none` not found in $PATH: No such file or directory");
		args[0] = "/etc/passwd";
		assert_true(runtime_exec_start(runtime, &spec, &err, &exec) < 0);
		print_message("%s\n", err.message);
		assert_non_null(strstr(err.message, "ermission denied"));
	}
	assert_clean("/bin/none");
}

static void a_deadline_kills_all_of_it(void **state)
{
	static const char *const scripts[] = {"echo said; sleep 4711",
		"trap '' TERM INT HUP; sleep 4711 & sleep 4711", "(sleep 4711 & sleep 4711) & wait",
		"while :; do echo without end; done"};

	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		_cleanup_free_ char *output = NULL;
		int64_t before = time_mono_ms();

		assert_int_equal(run(scripts[i], 400, &output), -ETIMEDOUT);
		assert_true(time_mono_ms() - before < WAIT_MS);
		assert_true(strlen(output) <= 4096);
		if (i == 0)
			assert_string_equal(output, "said\n");
		assert_clean("4711");
	}
	/* So early that the command may not have come to run. */
	for (int ms = 0; ms < 40; ms += 3) {
		int r = run("sleep 4711", ms, NULL);

		assert_int_equal(r, -ETIMEDOUT);
		assert_clean("4711");
	}
}

static void its_end_ends_what_it_left(void **state)
{
	struct runtime_exec_spec spec = sh("sleep 4711 & echo $$; exit 2");
	struct runtime_exec exec;

	assert_int_equal(run("sleep 4711 & exit 2", WAIT_MS, NULL), 2);
	assert_clean("4711");
	spec.terminal = true;
	start(&spec, &exec);
	assert_int_equal(runtime_exec_wait(&exec, WAIT_MS), 2);
	runtime_exec_done(&exec);
	assert_clean("4711");
	/* In the middle, with its terminal. */
	spec = sh("trap '' HUP; echo up; sleep 4711");
	spec.terminal = true;
	start(&spec, &exec);
	expect_output(&exec, "up");
	runtime_exec_done(&exec);
	assert_clean("4711");
}

/* SECURITY: a working directory that the container made a link to one of the runtime's own
 * descriptors (CVE-2024-21626), or to its own directory. */
static void a_hostile_working_directory_leads_nowhere(void **state)
{
	struct box other;
	struct runtime_exec_spec spec = sh(
		"cat /proc/self/mountinfo >/dev/null; busybox pwd -P 2>&1; ls -d $PWD/process.json ../config.json 2>&1; true");

	box_init(&other, "cwd", "sleep 1000");
	other.spec.cwd = "/work";
	box_create(&other);
	box_start(&other);
	spec.dir = other.dir;
	spec.id = other.id;
	for (int fd = -1; fd < 16; fd++) {
		_cleanup_free_ char *output = NULL;
		char path[8192], target[64];
		struct err err = {0};
		int r;

		snprintf(path, sizeof(path), "%s/rootfs/work", other.dir);
		snprintf(
			target, sizeof(target), fd < 0 ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
		assert_true(rmdir(path) == 0 || unlink(path) == 0);
		assert_int_equal(symlink(target, path), 0);
		r = runtime_exec_run(runtime, &spec, WAIT_MS, 4096, &err, &output);
		if (r >= 0) {
			/* Only a folder of the container's own. */
			assert_null(strstr(output, "/tmp/berth"));
			assert_null(strstr(output, "/run/"));
			assert_non_null(strstr(output, "No such file"));
			print_message("%s: %s\n", target, output);
		}
	}
	box_delete(&other);
}

/* The container's root may replace /dev/ptmx. */
static void a_false_terminal_is_refused(void **state)
{
	struct runtime_exec_spec spec = sh("true");
	struct runtime_exec exec = RUNTIME_EXEC_INIT;
	struct box other;
	struct err err = {0};

	box_init(&other, "ptmx",
		"busybox rm -f /dev/ptmx /dev/pts/ptmx; busybox touch /dev/ptmx; sleep 1000");
	box_create(&other);
	box_start(&other);
	usleep(300000);
	spec.dir = other.dir;
	spec.id = other.id;
	spec.terminal = true;
	assert_true(runtime_exec_start(runtime, &spec, &err, &exec) < 0);
	assert_string_equal(err.code, "ContainerExecFailed");
	print_message("%s\n", err.message);
	box_delete(&other);
}

static void it_ends_with_the_container(void **state)
{
	struct runtime_exec_spec spec = sh("echo up; sleep 4711");
	struct runtime_exec exec;
	struct box other;
	struct err err = {0};

	box_init(&other, "ends", "sleep 1000");
	box_create(&other);
	spec.dir = other.dir;
	spec.id = other.id;
	/* Not yet started, and gone. */
	assert_true(runtime_exec_start(runtime, &spec, &err, &exec) < 0);
	assert_string_equal(err.code, "ContainerNotRunning");
	box_start(&other);
	start(&spec, &exec);
	expect_output(&exec, "up");
	assert_int_equal(runtime_kill(runtime, other.cgroup, &err), 0);
	assert_int_equal(runtime_exec_wait(&exec, WAIT_MS), 137);
	box_wait(&other);
	assert_true(runtime_exec_start(runtime, &spec, &err, &exec) < 0);
	assert_string_equal(err.code, "ContainerNotRunning");
	box_delete(&other);
	runtime_exec_done(&exec);
	assert_true(runtime_exec_start(runtime, &spec, &err, &exec) < 0);
	assert_string_equal(err.code, "ContainerNotRunning");
}

static void killed_child(const struct runtime_exec_spec *spec, int out)
{
	struct runtime_exec exec = RUNTIME_EXEC_INIT;
	struct err err = {0};

	if (runtime_exec_start(runtime, spec, &err, &exec) < 0 || write(out, "x", 1) != 1)
		_exit(1);
	raise(SIGKILL);
}

static void what_a_killed_program_left_is_ended(void **state)
{
	struct runtime_exec_spec spec = sh("trap '' HUP PIPE; sleep 4711 & sleep 4711");
	char byte;
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		killed_child(&spec, ends[1]);
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	waitpid(pid, NULL, 0);
	runtime_exec_sweep(runtime, box.dir, box.id);
	assert_clean("4711");
	/* The container goes on. */
	assert_int_equal(run("exit 0", WAIT_MS, NULL), 0);
	runtime_exec_sweep(runtime, box.dir, box.id);
	runtime_exec_sweep(runtime, box.dir, "none");
}

static int setup_box(void **state)
{
	setup_machine(state);
	box_init(&box, "box", "sleep 1000");
	box.spec.user = "web";
	box.spec.cwd = "/etc";
	box.spec.env = (const char *const[]){"FOO=bar", NULL};
	box_create(&box);
	box_start(&box);
	return 0;
}

static int teardown_box(void **state)
{
	box_delete(&box);
	return teardown_machine(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_ends_as_the_command_ends),
		cmocka_unit_test(it_runs_as_the_container_does),
		cmocka_unit_test(streams_are_separate_and_input_ends),
		cmocka_unit_test(a_terminal_has_a_size_that_changes),
		cmocka_unit_test(what_cannot_start_says_why),
		cmocka_unit_test(a_deadline_kills_all_of_it),
		cmocka_unit_test(its_end_ends_what_it_left),
		cmocka_unit_test(a_hostile_working_directory_leads_nowhere),
		cmocka_unit_test(a_false_terminal_is_refused),
		cmocka_unit_test(it_ends_with_the_container),
		cmocka_unit_test(what_a_killed_program_left_is_ended),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, setup_box, teardown_box);
}
