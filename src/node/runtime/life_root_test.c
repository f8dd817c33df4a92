/* A container's life: start and end, limits, log, and the deaths of those who watch it. */
#include "node/runtime/fixture.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/time.h"

static void test_exit_codes(void **state)
{
	static const struct {
		const char *name, *script;
		int code;
	} cases[] = {{"exit0", "exit 0", 0}, {"exit2", "exit 2", 2}, {"exit255", "exit 255", 255}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct box box;
		struct runtime_state after;

		box_init(&box, cases[i].name, cases[i].script);
		after = box_run(&box);
		assert_int_equal(after.phase, RUNTIME_EXITED);
		assert_int_equal(after.exit_code, cases[i].code);
		assert_false(after.oom_killed);
		assert_true(after.started_ms > 0 && after.finished_ms >= after.started_ms);
		assert_true(time_now_ms() - after.finished_ms < WAIT_MS);
		box_delete(&box);
	}
}

static void test_signals(void **state)
{
	struct box box;
	struct runtime_state after;

	box_init(&box, "sigterm", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done");
	box_create(&box);
	box_start(&box);
	assert_int_equal(box_inspect(&box).phase, RUNTIME_RUNNING);
	assert_true(box_inspect(&box).monitor_pid > 0);
	for (int i = 0; i < 100; i++) {
		_cleanup_free_ char *log = box_log(&box, 0, false, 0);

		if (str_eq(log, "up\n"))
			break;
		poll(NULL, 0, 20);
	}
	assert_int_equal(runtime_signal(runtime, box.id, SIGTERM, &box.err), 0);
	after = box_wait(&box);
	assert_int_equal(after.exit_code, 7);
	/* Gone is success. */
	assert_int_equal(runtime_signal(runtime, box.id, SIGTERM, &box.err), 0);
	box_delete(&box);
	assert_int_equal(runtime_signal(runtime, box.id, SIGTERM, &box.err), 0);

	box_init(&box, "sigkill", "sleep 1000");
	box_create(&box);
	box_start(&box);
	assert_int_equal(runtime_kill(runtime, box.spec.cgroup, &box.err), 0);
	after = box_wait(&box);
	assert_int_equal(after.exit_code, 137);
	assert_false(after.oom_killed);
	assert_int_equal(runtime_kill(runtime, box.spec.cgroup, &box.err), 0);
	box_delete(&box);
	assert_int_equal(runtime_kill(runtime, box.spec.cgroup, &box.err), 0);
}

static void test_out_of_memory(void **state)
{
	struct box box;
	struct runtime_state after;

	box_init(&box, "oom", "exec dd if=/dev/zero of=/dev/null bs=100M count=1");
	box.spec.memory_bytes = 32 * MEBIBYTE;
	after = box_run(&box);
	assert_int_equal(after.phase, RUNTIME_EXITED);
	assert_int_equal(after.exit_code, 137);
	assert_true(after.oom_killed);
	box_delete(&box);
}

static void test_group_limit(void **state)
{
	struct box box;
	struct runtime_state after;

	box_init(&box, "oomgroup", "exec dd if=/dev/zero of=/dev/null bs=60M count=1");
	box.spec.cgroup = "small/oomgroup";
	memcpy(box.cgroup, "small/oomgroup", sizeof("small/oomgroup"));
	box.spec.memory_bytes = 128 * MEBIBYTE;
	for (uint64_t mib = 16; mib <= 64; mib += 24)
		assert_int_equal(
			runtime_group_cgroup(runtime, "small", 0.5, mib * MEBIBYTE, 100, &box.err),
			0);
	assert_int_equal(
		runtime_group_cgroup(runtime, "small", 0.5, 32 * MEBIBYTE, 100, &box.err), 0);
	after = box_run(&box);
	assert_int_equal(after.exit_code, 137);
	assert_true(after.oom_killed);
	box_delete(&box);
	for (int i = 0; i < 2; i++)
		assert_int_equal(runtime_group_cgroup_remove(runtime, "small", &box.err), 0);
	assert_false(anywhere_in_cgroups("small"));
}

static void test_log(void **state)
{
	struct box box;

	box_init(&box, "log",
		"i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo bad >&2; "
		"head -c 20000 /dev/zero; echo; printf 'no newline'");
	assert_int_equal(box_run(&box).exit_code, 0);
	{
		_cleanup_free_ char *tail = box_log(&box, 1, false, 0);

		assert_string_equal(tail, "no newline");
	}
	{
		_cleanup_fd_ int fd = memfd_create("log", MFD_CLOEXEC);
		struct stat st;
		/* "line N\n" of 2000 lines, "bad\n", 20000 zeroes and a newline, "no newline" */
		size_t expected = 2000 * 6 + 10 + 90 * 2 + 900 * 3 + 1000 * 4 + 4 + 20001 + 10;

		assert_int_equal(
			runtime_log_copy(runtime, box.dir, 1, 0, false, 0, fd, &box.err), 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_size, expected);
	}
	{
		_cleanup_free_ char *last = box_log(&box, 0, false, 7);

		assert_string_equal(last, "newline");
	}
	{
		_cleanup_free_ char *stamped = box_log(&box, 1, true, 0);
		char *blank = strchr(stamped, ' ');

		assert_non_null(blank);
		assert_string_equal(blank, " no newline");
		assert_int_equal(blank[-1], 'Z');
	}
	box_delete(&box);
	/* Logs outlive the run. */
	{
		_cleanup_free_ char *tail = box_log(&box, 1, false, 0);

		assert_string_equal(tail, "no newline");
	}
}

static void test_missing_program(void **state)
{
	struct box box;

	box_init(&box, "missing", "");
	box.args[0] = "/bin/none";
	assert_true(runtime_create(runtime, &box.spec, &box.err) < 0);
	assert_string_equal(box.err.code, "ContainerCreateFailed");
	assert_non_null(strstr(box.err.message, "/bin/none"));
	assert_non_null(strstr(box.err.message, "No such file or directory"));
	print_message("missing program: %s\n", box.err.message);
	assert_int_equal(box_inspect(&box).phase, RUNTIME_ABSENT);
	assert_false(anywhere_in_cgroups(box.cgroup));
	box_delete(&box);
}

/* What conmon drops when the log is full stays readable, if someone looks in time. */
static void test_log_is_bounded(void **state)
{
	struct box box;
	struct stat st;
	char path[8192];

	runtime->log_max_bytes = 64 << 10;
	box_init(&box, "full",
		"i=1000; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ $((i % 200)) -gt 0 ] || sleep 0.2; done; sleep 0.2");
	box_create(&box);
	box_start(&box);
	while (box_inspect(&box).phase != RUNTIME_EXITED) {
		assert_int_equal(runtime_log_keep(runtime, box.dir, 1, &box.err), 0);
		poll(NULL, 0, 1);
	}
	assert_int_equal(runtime_log_keep(runtime, box.dir, 1, &box.err), 0);
	snprintf(path, sizeof(path), "%s/log/1.log", box.dir);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size <= 16 << 10);
	{
		/* The last 16 KiB and more, and nothing missing in it. */
		_cleanup_free_ char *log = box_log(&box, 0, false, 0);
		char *line = log;

		assert_true(strlen(log) > (16 << 10) / 56 * 10);
		assert_true(str_ends(log, "line 2999\n"));
		for (size_t n = 3000 - strlen(log) / 10; n < 3000; n++, line += 10) {
			char expected[16];

			snprintf(expected, sizeof(expected), "line %zu\n", n);
			assert_memory_equal(line, expected, 10);
		}
	}
	runtime->log_max_bytes = 0;
	box_delete(&box);
}

/* The agent is a child here; it dies at `point`, and this process takes over. */
static void die_after(struct box *box, int point)
{
	pid_t pid = fork();

	if (pid == 0) {
		int64_t started_ms;

		if (runtime_create(runtime, &box->spec, &box->err) < 0)
			_exit(1);
		if (point > 0 &&
			runtime_start(runtime, box->dir, box->id, &box->err, &started_ms) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	waitpid(pid, NULL, 0);
}

static void box_make_fifo(const struct box *box)
{
	assert_int_equal(mkfifo(path_of("crun/%s/exec.fifo", box->id), 0600), 0);
}

static void test_agent_killed(void **state)
{
	struct box box;

	box_init(&box, "created", "echo hello; exit 3");
	die_after(&box, 0);
	assert_int_equal(box_inspect(&box).phase, RUNTIME_CREATED);
	box_start(&box);
	assert_int_equal(box_wait(&box).exit_code, 3);
	box_delete(&box);

	box_init(&box, "started", "sleep 0.3; exit 4");
	die_after(&box, 1);
	assert_int_equal(box_inspect(&box).phase, RUNTIME_RUNNING);
	box_start(&box);
	assert_int_equal(box_wait(&box).exit_code, 4);
	box_delete(&box);

	/* Between letting the program go and removing the fifo. */
	box_init(&box, "letting-go", "sleep 0.3; exit 5");
	die_after(&box, 1);
	box_make_fifo(&box);
	assert_int_equal(box_inspect(&box).phase, RUNTIME_CREATED);
	box_start(&box);
	assert_int_equal(box_inspect(&box).phase, RUNTIME_RUNNING);
	assert_int_equal(box_wait(&box).exit_code, 5);
	box_delete(&box);
}

/* Killed at many moments of a create: whatever is there, the next one starts afresh. */
static void test_agent_killed_within_create(void **state)
{
	for (unsigned delay_us = 500; delay_us < 40000; delay_us += 2500) {
		struct box box;
		pid_t pid;

		box_init(&box, "within", "exit 5");
		pid = fork();
		if (pid == 0) {
			runtime_create(runtime, &box.spec, &box.err);
			_exit(0);
		}
		usleep(delay_us);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		if (box_inspect(&box).phase != RUNTIME_CREATED) {
			assert_int_equal(box_inspect(&box).phase, RUNTIME_ABSENT);
			box_create(&box);
		}
		box_start(&box);
		assert_int_equal(box_wait(&box).exit_code, 5);
		box_delete(&box);
	}
}

static void test_monitor_killed(void **state)
{
	struct box box;
	struct runtime_state before;

	box_init(&box, "lost", "sleep 1000");
	box_create(&box);
	box_start(&box);
	before = box_inspect(&box);
	assert_int_equal(kill(before.monitor_pid, SIGKILL), 0);
	assert_int_equal(box_wait(&box).phase, RUNTIME_LOST);
	assert_int_equal(box_wait(&box).monitor_pid, 0);
	box_delete(&box);

	box_init(&box, "lost2", "sleep 1000");
	box_create(&box);
	before = box_inspect(&box);
	assert_int_equal(kill(before.monitor_pid, SIGKILL), 0);
	assert_int_equal(box_wait(&box).phase, RUNTIME_LOST);
	box_delete(&box);
}

static void test_delete_while_running(void **state)
{
	struct box box;

	box_init(&box, "running", "sleep 1000 & sleep 1000");
	box_create(&box);
	box_delete(&box);
	box_create(&box);
	box_start(&box);
	box_delete(&box);
}

static void measure(const char *what)
{
	int64_t create_ns = 0, start_ns = 0, delete_ns = 0;
	const int rounds = 10;

	for (int i = 0; i < rounds; i++) {
		int64_t t[4];
		struct box box;

		box_init(&box, "speed", "exit 0");
		t[0] = time_mono_ns();
		box_create(&box);
		t[1] = time_mono_ns();
		box_start(&box);
		t[2] = time_mono_ns();
		box_wait(&box);
		t[3] = time_mono_ns();
		box_delete(&box);
		create_ns += t[1] - t[0];
		start_ns += t[2] - t[1];
		delete_ns += time_mono_ns() - t[3];
	}
	print_message("%s, mean of %d: create %.1f ms, start %.1f ms, delete %.1f ms\n", what,
		rounds, (double)create_ns / rounds / 1e6, (double)start_ns / rounds / 1e6,
		(double)delete_ns / rounds / 1e6);
}

/* Says what things cost; only a person can judge the numbers. */
static void test_speed(void **state)
{
	char *program = runtime->seccomp_program;

	measure("as it is");
	runtime->seccomp_program = NULL;
	measure("seccomp as JSON");
	runtime->seccomp_program = program;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit_codes),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_group_limit),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_log_is_bounded),
		cmocka_unit_test(test_missing_program),
		cmocka_unit_test(test_agent_killed),
		cmocka_unit_test(test_agent_killed_within_create),
		cmocka_unit_test(test_monitor_killed),
		cmocka_unit_test(test_delete_while_running),
		cmocka_unit_test(test_speed),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, setup_machine, teardown_machine);
}
