/* What asks the system: fd, file, proc and random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/base.h"
#include "base/file.h"
#include "base/proc.h"
#include "base/random.h"
#include "base/time.h"

/* A directory for each test that asks for one. */

struct dir {
	char path[64];
	int fd;
};

static int dir_setup(void **state)
{
	struct dir *dir = xnew(struct dir);

	assert_int_equal(str_copy(dir->path, sizeof(dir->path), "/tmp/base_os_test.XXXXXX"), 0);
	assert_non_null(mkdtemp(dir->path));
	dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir->fd >= 0);
	*state = dir;
	return 0;
}

static int dir_teardown(void **state)
{
	struct dir *dir = *state;
	int r;

	fd_close(dir->fd);
	r = file_remove_tree(AT_FDCWD, dir->path);
	free(dir);
	return r;
}

static void put_file(int dirfd, const char *path, const char *text)
{
	assert_int_equal(file_write_replace(dirfd, path, text, strlen(text), 0600), 0);
}

static bool exists(int dirfd, const char *path)
{
	struct stat st;

	return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* fd */

static void fd_close_keeps_errno(void **state)
{
	errno = ENOTTY;
	assert_int_equal(fd_close(-1), -EBADF);
	assert_int_equal(fd_close(1000000), -EBADF);
	assert_int_equal(errno, ENOTTY);
}

static void fd_flags_are_set_and_cleared(void **state)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(fd_set_nonblock(ends[0], true), 0);
	assert_true(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(fd_set_nonblock(ends[0], false), 0);
	assert_false(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(fd_set_nonblock(-1, true), -EBADF);
	fd_close(ends[0]);
	fd_close(ends[1]);
}

static void tree_with_links(int dirfd)
{
	assert_int_equal(mkdirat(dirfd, "sub", 0700), 0);
	put_file(dirfd, "sub/file", "in");
	assert_int_equal(symlinkat("sub", dirfd, "dirlink"), 0);
	assert_int_equal(symlinkat("sub/file", dirfd, "filelink"), 0);
	assert_int_equal(symlinkat("/etc/passwd", dirfd, "absolute"), 0);
	assert_int_equal(symlinkat("/sub/file", dirfd, "rooted"), 0);
}

static void fd_open_beneath_stays_in_the_tree(void **state)
{
	static const struct {
		const char *path;
		int r;
	} cases[] = {
		{"sub/file", 0},
		{"sub/../sub/file", 0},
		{"./sub", 0},
		{"..", -EXDEV},
		{"sub/../../etc/passwd", -EXDEV},
		{"/etc/passwd", -EXDEV},
		{"dirlink/file", -ELOOP},
		{"filelink", -ELOOP},
		{"absolute", -ELOOP},
		{"missing", -ENOENT},
		{"", -ENOENT},
	};
	struct dir *dir = *state;

	tree_with_links(dir->fd);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = fd_open_beneath(dir->fd, cases[i].path, O_RDONLY, 0);

		if (cases[i].r == 0) {
			assert_true(fd >= 0);
			assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
			fd_close(fd);
		} else {
			assert_int_equal(fd, cases[i].r);
		}
	}
}

static void fd_open_beneath_creates_with_the_mode(void **state)
{
	struct dir *dir = *state;
	struct stat st;
	int fd = fd_open_beneath(dir->fd, "new", O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	fd_close(fd);
}

static void fd_open_in_root_resolves_links_in_the_root(void **state)
{
	static const struct {
		const char *path;
		int r;
	} cases[] = {
		{"filelink", 0},
		{"rooted", 0},
		{"/dirlink/file", 0},
		{"../../sub/file", 0},
		{"absolute", -ENOENT},
	};
	struct dir *dir = *state;

	tree_with_links(dir->fd);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = fd_open_in_root(dir->fd, cases[i].path, O_RDONLY, 0);

		if (cases[i].r < 0) {
			assert_int_equal(fd, cases[i].r);
			continue;
		}
		assert_true(fd >= 0);
		fd_close(fd);
	}
}

static void fd_mkdir_beneath_refuses_to_leave(void **state)
{
	struct dir *dir = *state;
	_cleanup_free_ char *longest = xmalloc(301);
	int fd;

	memset(longest, 'a', 300);
	longest[300] = '\0';
	tree_with_links(dir->fd);
	for (int i = 0; i < 2; i++) {
		fd = fd_mkdir_beneath(dir->fd, "a//./b/c/", 0700);
		assert_true(fd >= 0);
		fd_close(fd);
	}
	assert_true(exists(dir->fd, "a/b/c"));
	assert_int_equal(fd_mkdir_beneath(dir->fd, "a/../b", 0700), -EXDEV);
	assert_int_equal(fd_mkdir_beneath(dir->fd, "/a", 0700), -EXDEV);
	assert_int_equal(fd_mkdir_beneath(dir->fd, "", 0700), -ENOENT);
	assert_int_equal(fd_mkdir_beneath(dir->fd, "dirlink/x", 0700), -ELOOP);
	assert_int_equal(fd_mkdir_beneath(dir->fd, "sub/file/x", 0700), -ENOTDIR);
	assert_int_equal(fd_mkdir_beneath(dir->fd, longest, 0700), -ENAMETOOLONG);
	assert_false(exists(dir->fd, "sub/x"));
}

/* file */

static void file_read_is_bounded(void **state)
{
	struct dir *dir = *state;
	_cleanup_free_ char *data = NULL;
	_cleanup_free_ char *proc = NULL;
	char *none = NULL;
	size_t len = 0;

	put_file(dir->fd, "f", "12345");
	assert_int_equal(file_read(dir->fd, "f", 5, &data, &len), 0);
	assert_string_equal(data, "12345");
	assert_int_equal(len, 5);
	assert_int_equal(file_read(dir->fd, "f", 4, &none, NULL), -EFBIG);
	assert_int_equal(file_read(dir->fd, "f", 0, &none, NULL), -EFBIG);
	assert_int_equal(file_read(dir->fd, "missing", 4, &none, NULL), -ENOENT);
	assert_int_equal(file_read(dir->fd, ".", 4, &none, NULL), -EISDIR);
	assert_null(none);
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 1 << 20, &proc, NULL), 0);
	assert_true(str_starts(proc, "Name:"));
	put_file(dir->fd, "empty", "");
	free(data);
	assert_int_equal(file_read(dir->fd, "empty", 0, &data, &len), 0);
	assert_string_equal(data, "");
	assert_int_equal(len, 0);
}

static void file_write_replaces_content_and_mode(void **state)
{
	struct dir *dir = *state;
	_cleanup_free_ char *data = NULL;
	_cleanup_free_ char *absolute = xasprintf("%s/sub/f", dir->path);
	struct stat st;

	assert_int_equal(mkdirat(dir->fd, "sub", 0700), 0);
	assert_int_equal(file_write_atomic(dir->fd, "sub/f", "old content", 11, 0600), 0);
	assert_int_equal(file_write_atomic(AT_FDCWD, absolute, "new", 3, 0644), 0);
	assert_int_equal(file_read(dir->fd, "sub/f", 100, &data, NULL), 0);
	assert_string_equal(data, "new");
	assert_int_equal(fstatat(dir->fd, "sub/f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
}

static void file_write_leaves_nothing_behind_when_it_fails(void **state)
{
	struct dir *dir = *state;

	assert_int_equal(mkdirat(dir->fd, "d", 0700), 0);
	assert_int_equal(mkdirat(dir->fd, "d/target", 0700), 0);
	assert_int_equal(file_write_atomic(dir->fd, "d/target", "x", 1, 0600), -EISDIR);
	assert_int_equal(file_write_atomic(dir->fd, "no/f", "x", 1, 0600), -ENOENT);
	assert_int_equal(file_write_atomic(dir->fd, "..", "x", 1, 0600), -EINVAL);
	assert_int_equal(file_write_atomic(dir->fd, "", "x", 1, 0600), -ENOENT);
	/* Only an empty directory can be removed like this. */
	assert_int_equal(unlinkat(dir->fd, "d/target", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(dir->fd, "d", AT_REMOVEDIR), 0);
}

static void file_write_control_needs_the_file(void **state)
{
	struct dir *dir = *state;
	_cleanup_free_ char *data = NULL;

	assert_int_equal(file_write_control(dir->fd, "knob", "1"), -ENOENT);
	assert_false(exists(dir->fd, "knob"));
	put_file(dir->fd, "knob", "max");
	assert_int_equal(file_write_control(dir->fd, "knob", "1"), 0);
	assert_int_equal(file_read(dir->fd, "knob", 10, &data, NULL), 0);
	assert_string_equal(data, "1");
}

static void file_mkdirs_accepts_what_is_there(void **state)
{
	struct dir *dir = *state;
	_cleanup_free_ char *path = xasprintf("%s/a//b/c/", dir->path);
	_cleanup_free_ char *below_file = xasprintf("%s/f/x", dir->path);
	_cleanup_free_ char *file = xasprintf("%s/f", dir->path);

	assert_int_equal(file_mkdirs(path, 0755), 0);
	assert_int_equal(file_mkdirs(path, 0755), 0);
	assert_true(exists(dir->fd, "a/b/c"));
	put_file(dir->fd, "f", "");
	assert_int_equal(file_mkdirs(below_file, 0755), -ENOTDIR);
	assert_int_equal(file_mkdirs(file, 0755), -ENOTDIR);
	assert_int_equal(file_mkdirs("", 0755), -ENOENT);
	assert_int_equal(file_mkdirs("/", 0755), 0);
}

static void file_remove_tree_does_not_follow_links(void **state)
{
	struct dir *dir = *state;

	tree_with_links(dir->fd);
	assert_int_equal(mkdirat(dir->fd, "tree", 0700), 0);
	assert_int_equal(mkdirat(dir->fd, "tree/empty", 0700), 0);
	assert_int_equal(symlinkat("../sub", dir->fd, "tree/out"), 0);
	put_file(dir->fd, "tree/file", "x");
	assert_int_equal(file_remove_tree(dir->fd, "tree"), 0);
	assert_false(exists(dir->fd, "tree"));
	assert_int_equal(file_remove_tree(dir->fd, "dirlink/"), 0);
	assert_false(exists(dir->fd, "dirlink"));
	assert_true(exists(dir->fd, "sub/file"));
	assert_int_equal(file_remove_tree(dir->fd, "sub/file"), 0);
	assert_false(exists(dir->fd, "sub/file"));
}

static void file_remove_tree_of_nothing_succeeds(void **state)
{
	struct dir *dir = *state;

	assert_int_equal(file_remove_tree(dir->fd, "missing"), 0);
	assert_int_equal(file_remove_tree(dir->fd, "missing/below"), 0);
	assert_int_equal(file_remove_tree(dir->fd, "."), -EINVAL);
	assert_int_equal(file_remove_tree(dir->fd, "a/.."), -EINVAL);
	assert_int_equal(file_remove_tree(dir->fd, "/"), -EINVAL);
	assert_int_equal(file_remove_tree(dir->fd, ""), -ENOENT);
}

static void file_remove_tree_takes_deep_and_wide_trees(void **state)
{
	struct dir *dir = *state;
	_cleanup_fd_ int at = -EBADF;

	assert_int_equal(mkdirat(dir->fd, "deep", 0700), 0);
	at = openat(dir->fd, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 3000; i++) {
		int next;

		assert_int_equal(mkdirat(at, "d", 0700), 0);
		if (i % 100 == 0)
			put_file(at, "f", "x");
		next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		fd_close(at);
		at = next;
	}
	for (int i = 0; i < 2000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "deep/%d", i);
		assert_int_equal(mkdirat(dir->fd, name, 0700), 0);
	}
	assert_int_equal(file_remove_tree(dir->fd, "deep"), 0);
	assert_false(exists(dir->fd, "deep"));
}

static void file_remove_tree_stays_on_its_file_system(void **state)
{
	/* /proc is a mount point everywhere; the refusal comes before anything is touched. */
	assert_int_equal(file_remove_tree(AT_FDCWD, "/proc"), -EXDEV);
}

/* proc */

#define SH(script) ((const char *const[]){"/bin/sh", "-c", script, NULL})

static void proc_run_gives_output_and_exit_code(void **state)
{
	static const struct {
		const char *script;
		int code;
		const char *output;
	} cases[] = {
		{"echo out; echo err >&2; exit 3", 3, "out\nerr\n"},
		{"exit 0", 0, ""},
		{"kill -TERM $$", 143, ""},
		{"cat", 0, ""},
		{"umask; pwd", 0, "0077\n/\n"},
		{"env | grep -v ^PWD= | grep -v ^_= | grep -v ^SHLVL= | sort", 0,
			"LC_ALL=C.UTF-8\n"
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"},
		{"printf 12345678901234567890; printf x; exit 1", 1, "12345678901234567890x"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *output = NULL;
		struct err err = {0};
		int r = proc_run(SH(cases[i].script), 10000, 4096, &output, &err);

		assert_int_equal(r, cases[i].code);
		assert_string_equal(output, cases[i].output);
		assert_false(err_is_set(&err));
	}
}

static void proc_run_drops_output_above_the_maximum(void **state)
{
	_cleanup_free_ char *output = NULL;
	_cleanup_free_ char *none = NULL;
	const char *const *argv = SH("head -c 1000000 /dev/zero | tr '\\0' x; exit 4");

	assert_int_equal(proc_run(argv, 10000, 10, &output, NULL), 4);
	assert_string_equal(output, "xxxxxxxxxx");
	assert_int_equal(proc_run(argv, 10000, 0, &none, NULL), 4);
	assert_string_equal(none, "");
	assert_int_equal(proc_run(argv, -1, 10, NULL, NULL), 4);
}

static void proc_run_kills_at_the_deadline(void **state)
{
	int64_t start = time_mono_ms();
	char *output = NULL;
	struct err err = {0};

	assert_int_equal(
		proc_run(SH("sleep 60 & echo x; wait"), 100, 100, &output, &err), -ETIMEDOUT);
	assert_in_range(time_mono_ms() - start, 99, 20000);
	assert_null(output);
	assert_true(err_is_set(&err));
	assert_int_equal(err.r, -ETIMEDOUT);
}

static void proc_run_does_not_wait_for_grandchildren(void **state)
{
	_cleanup_free_ char *output = NULL;
	int64_t start = time_mono_ms();

	assert_int_equal(proc_run(SH("sleep 5 & echo done"), 60000, 100, &output, NULL), 0);
	assert_string_equal(output, "done\n");
	assert_true(time_mono_ms() - start < 4000);
}

static int refuse_setup(void *arg)
{
	return *(int *)arg;
}

static void proc_spawn_reports_what_prevents_the_program(void **state)
{
	static int refusal = -EKEYREJECTED;
	static const struct {
		const char *program;
		const char *cwd;
		bool refuse;
		int r;
	} cases[] = {
		{"/nonexistent/program", NULL, false, -ENOENT},
		{"/etc/passwd", NULL, false, -EACCES},
		{"/bin/true", "/nonexistent", false, -ENOENT},
		{"/bin/true", NULL, true, -EKEYREJECTED},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *const argv[] = {cases[i].program, NULL};
		struct proc_spec spec = PROC_SPEC_INIT;
		struct proc proc = {.pid = -7};
		struct err err = {0};

		spec.argv = argv;
		spec.cwd = cases[i].cwd;
		spec.setup = cases[i].refuse ? refuse_setup : NULL;
		spec.setup_arg = &refusal;
		assert_int_equal(proc_spawn(&spec, &err, &proc), cases[i].r);
		assert_int_equal(err.r, cases[i].r);
		assert_true(str_starts(err.message, cases[i].program));
		assert_int_equal(proc.pid, -7);
	}
	/* Nothing is left to reap. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* Starts the script with its output on a pipe and gives all of it. */
static char *spawn_output(struct proc_spec *spec, const char *script)
{
	struct buf output = BUF_INIT;
	struct proc proc;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	spec->argv = SH(script);
	spec->stdout_fd = spec->stderr_fd = ends[1];
	assert_int_equal(proc_spawn(spec, NULL, &proc), 0);
	fd_close(ends[1]);
	while (buf_read(&output, ends[0], 4096) > 0)
		;
	fd_close(ends[0]);
	assert_int_equal(proc_wait(&proc, 10000), 0);
	assert_int_equal(proc.pid, 0);
	assert_int_equal(proc_wait(&proc, 0), -ECHILD);
	return buf_take(&output);
}

static void child_has_only_the_descriptors_listed(void **state)
{
	_cleanup_free_ char *output = NULL;
	struct proc_spec spec = PROC_SPEC_INIT;
	int leak = fcntl(0, F_DUPFD, 50);

	output = spawn_output(&spec, "exec ls /proc/self/fd");
	/* 3 is the directory that ls reads. */
	assert_string_equal(output, "0\n1\n2\n3\n");
	fd_close(leak);
}

static void descriptors_are_mapped_even_when_they_overlap(void **state)
{
	struct dir *dir = *state;
	_cleanup_free_ char *output = NULL;
	struct proc_spec spec = PROC_SPEC_INIT;
	int saved[3], files[3], shuffled[4];

	for (int i = 0; i < 3; i++) {
		char name[2] = {(char)('a' + i), '\0'};

		put_file(dir->fd, name, name);
		/* Put a on 5, b on 3, c on 4: the child is to see them as 3, 4, 5. */
		saved[i] = fcntl(3 + i, F_DUPFD_CLOEXEC, 100);
		files[i] = openat(dir->fd, name, O_RDONLY | O_CLOEXEC);
		assert_true(files[i] >= 0);
		files[i] = fcntl(files[i], F_DUPFD_CLOEXEC, 200);
	}
	shuffled[0] = dup2(files[0], 5);
	shuffled[1] = dup2(files[1], 3);
	shuffled[2] = dup2(files[2], 4);
	shuffled[3] = files[2];
	spec.fds = shuffled;
	spec.n_fds = 4;
	spec.stdin_fd = 5;
	output = spawn_output(
		&spec, "for i in 0 3 4 5 6; do readlink /proc/self/fd/$i | sed 's,.*/,,'; done");
	for (int i = 0; i < 3; i++) {
		if (saved[i] >= 0)
			dup2(saved[i], 3 + i);
		else
			close(3 + i);
		fd_close(saved[i]);
		fd_close(files[i]);
	}
	assert_string_equal(output, "a\na\nb\nc\nc\n");
}

static void stdio_can_be_swapped(void **state)
{
	struct dir *dir = *state;
	_cleanup_free_ char *one = NULL;
	_cleanup_free_ char *two = NULL;
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc proc;
	int out = openat(dir->fd, "out", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	int err = openat(dir->fd, "err", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	int saved_out = dup(1), saved_err = dup(2);

	dup2(out, 2);
	dup2(err, 1);
	spec.argv = SH("echo o; echo e >&2");
	spec.stdout_fd = 2;
	spec.stderr_fd = 1;
	assert_int_equal(proc_spawn(&spec, NULL, &proc), 0);
	dup2(saved_out, 1);
	dup2(saved_err, 2);
	fd_close(saved_out);
	fd_close(saved_err);
	fd_close(out);
	fd_close(err);
	assert_int_equal(proc_wait(&proc, -1), 0);
	assert_int_equal(file_read(dir->fd, "out", 10, &one, NULL), 0);
	assert_int_equal(file_read(dir->fd, "err", 10, &two, NULL), 0);
	assert_string_equal(one, "o\n");
	assert_string_equal(two, "e\n");
}

static void child_starts_with_default_signals(void **state)
{
	_cleanup_free_ char *output = NULL;
	struct proc_spec spec = PROC_SPEC_INIT;
	struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
	sigset_t mask, old_mask, now;

	sigaction(SIGPIPE, &ignore, &old);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &mask, &old_mask);
	output = spawn_output(&spec, "exec grep -E '^Sig(Blk|Ign)' /proc/self/status");
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	assert_true(sigismember(&now, SIGUSR1));
	assert_false(sigismember(&now, SIGTERM));
	pthread_sigmask(SIG_SETMASK, &old_mask, NULL);
	sigaction(SIGPIPE, &old, NULL);
	assert_string_equal(output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

static void child_gets_its_environment_directory_and_session(void **state)
{
	struct dir *dir = *state;
	_cleanup_free_ char *output = NULL;
	_cleanup_free_ char *expected = NULL;
	const char *const envp[] = {"NAME=value", "PATH=/usr/bin:/bin", NULL};
	struct proc_spec spec = PROC_SPEC_INIT;

	spec.cwd = dir->path;
	spec.envp = envp;
	spec.new_session = true;
	spec.die_with_parent = true;
	output = spawn_output(&spec, "echo $NAME; pwd; set -- $(cat /proc/$$/stat); "
				     "[ $1 = $6 ] && echo leader");
	expected = xasprintf("value\n%s\nleader\n", dir->path);
	assert_string_equal(output, expected);
}

static void proc_wait_times_out_and_proc_kill_ends(void **state)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc proc;

	spec.argv = SH("exec sleep 60");
	assert_int_equal(proc_spawn(&spec, NULL, &proc), 0);
	assert_int_equal(proc_wait(&proc, 0), -ETIMEDOUT);
	assert_int_equal(proc_wait(&proc, 20), -ETIMEDOUT);
	assert_true(proc.pid > 0);
	proc_kill(&proc);
	assert_int_equal(proc.pid, 0);
	assert_int_equal(proc.pidfd, -EBADF);
	proc_kill(&proc);
}

static void *spawn_many(void *arg)
{
	atomic_int *good = arg;

	for (int i = 0; i < 20; i++) {
		_cleanup_free_ char *output = NULL;

		if (proc_run(SH("echo x"), 20000, 10, &output, NULL) == 0 && str_eq(output, "x\n"))
			atomic_fetch_add(good, 1);
	}
	return NULL;
}

static void threads_can_spawn_at_the_same_time(void **state)
{
	pthread_t threads[4];
	atomic_int good = 0;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, spawn_many, &good), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(good, 80);
}

static void start_time_names_a_process(void **state)
{
	uint64_t mine = 0, again_mine = 0, other = 0;
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc proc;
	pid_t pid;

	assert_int_equal(proc_start_time(getpid(), &mine), 0);
	assert_int_equal(proc_start_time(getpid(), &again_mine), 0);
	assert_true(mine > 0 && mine == again_mine);
	spec.argv = SH("exec sleep 60");
	assert_int_equal(proc_spawn(&spec, NULL, &proc), 0);
	pid = proc.pid;
	assert_int_equal(proc_start_time(pid, &other), 0);
	assert_true(other >= mine);
	proc_kill(&proc);
	assert_int_equal(proc_start_time(pid, &other), -ENOENT);
}

/* random */

static void uuids_have_the_form_of_version_4(void **state)
{
	char a[UUID_STR_MAX], b[UUID_STR_MAX];

	for (int i = 0; i < 100; i++) {
		assert_ptr_equal(random_uuid(a), a);
		random_uuid(b);
		assert_int_equal(strlen(a), 36);
		assert_int_equal(strspn(a, "0123456789abcdef-"), 36);
		assert_true(a[8] == '-' && a[13] == '-' && a[18] == '-' && a[23] == '-');
		assert_int_equal(a[14], '4');
		assert_non_null(strchr("89ab", a[19]));
		assert_string_not_equal(a, b);
	}
}

static void sha256_matches_known_values(void **state)
{
	static const struct {
		const char *text;
		const char *hex;
	} cases[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	};
	char hex[SHA256_HEX_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		sha256_hex(cases[i].text, strlen(cases[i].text), hex);
		assert_string_equal(hex, cases[i].hex);
	}
	sha256_hex(NULL, 0, hex);
	assert_string_equal(hex, cases[0].hex);
}

#define DIR_TEST(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fd_close_keeps_errno),
		cmocka_unit_test(fd_flags_are_set_and_cleared),
		DIR_TEST(fd_open_beneath_stays_in_the_tree),
		DIR_TEST(fd_open_beneath_creates_with_the_mode),
		DIR_TEST(fd_open_in_root_resolves_links_in_the_root),
		DIR_TEST(fd_mkdir_beneath_refuses_to_leave),
		DIR_TEST(file_read_is_bounded),
		DIR_TEST(file_write_replaces_content_and_mode),
		DIR_TEST(file_write_leaves_nothing_behind_when_it_fails),
		DIR_TEST(file_write_control_needs_the_file),
		DIR_TEST(file_mkdirs_accepts_what_is_there),
		DIR_TEST(file_remove_tree_does_not_follow_links),
		DIR_TEST(file_remove_tree_of_nothing_succeeds),
		DIR_TEST(file_remove_tree_takes_deep_and_wide_trees),
		cmocka_unit_test(file_remove_tree_stays_on_its_file_system),
		cmocka_unit_test(proc_run_gives_output_and_exit_code),
		cmocka_unit_test(proc_run_drops_output_above_the_maximum),
		cmocka_unit_test(proc_run_kills_at_the_deadline),
		cmocka_unit_test(proc_run_does_not_wait_for_grandchildren),
		cmocka_unit_test(proc_spawn_reports_what_prevents_the_program),
		cmocka_unit_test(child_has_only_the_descriptors_listed),
		DIR_TEST(descriptors_are_mapped_even_when_they_overlap),
		DIR_TEST(stdio_can_be_swapped),
		cmocka_unit_test(child_starts_with_default_signals),
		DIR_TEST(child_gets_its_environment_directory_and_session),
		cmocka_unit_test(proc_wait_times_out_and_proc_kill_ends),
		cmocka_unit_test(threads_can_spawn_at_the_same_time),
		cmocka_unit_test(start_time_names_a_process),
		cmocka_unit_test(uuids_have_the_form_of_version_4),
		cmocka_unit_test(sha256_matches_known_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
