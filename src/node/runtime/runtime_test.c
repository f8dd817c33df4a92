#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "node/runtime/internal.h"
#include "node/runtime/k8slog.h"
#include "node/runtime/user.h"

/* ---- users ---- */

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
			     "big:x:4294967296:1::/:\n"
			     "far:x:70000:1::/:\n"
			     "4294967296:x:0:0::/:\n"
			     "12:x:0:0::/:\n"
			     "broken\n"
			     "relative:x:5:6::home:\n"
			     "last:x:7:8::/home/last";
static const char group[] =
	"root:x:0:\nwww-data:x:33:\nadm:x:4:syslog,www-data\nstaff:x:50:www-data,\n"
	"huge:x:4294967297:www-data\nfar:x:70000:www-data\n13:x:9:\n";

static void test_user_is_resolved(void **state)
{
	static const struct {
		const char *user;
		uint32_t uid, gid;
		const char *home;
		size_t n_groups;
	} cases[] = {
		{"", 0, 0, "/root", 1},
		{"0", 0, 0, "/root", 1},
		{"root", 0, 0, "/root", 1},
		{"www-data", 33, 33, "/var/www", 3}, /* adm, staff, its own */
		{"33", 33, 33, "/var/www", 3},
		{"www-data:adm", 33, 4, "/var/www", 1},
		{"www-data:50", 33, 50, "/var/www", 1},
		{"33:", 33, 33, "/var/www", 3},
		{":adm", 0, 4, "/root", 1},
		{"1000", 1000, 0, "/", 1},
		{"1000:100", 1000, 100, "/", 1},
		{"65535:65535", 65535, 65535, "/", 1},
		{"12", 12, 0, "/", 1}, /* never the user who is called so */
		{"1000:13", 1000, 13, "/", 1},
		{"relative", 5, 6, "/", 1},
		{"last", 7, 8, "/home/last", 1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = {0};
		struct user user;

		if (user_parse(cases[i].user, passwd, strlen(passwd), group, strlen(group), &err,
			    &user) < 0)
			fail_msg("%s: %s", cases[i].user, err.message);
		if (user.uid != cases[i].uid || user.gid != cases[i].gid ||
			!str_eq(user.home, cases[i].home) || user.n_groups != cases[i].n_groups)
			fail_msg("\"%s\" became %u:%u %s with %zu groups", cases[i].user, user.uid,
				user.gid, user.home, user.n_groups);
	}
}

static void test_user_is_refused(void **state)
{
	static const char *const cases[] = {"4294967296", "2147483648", "99999999999999999999",
		"70000", "-1", "+1", " 1", "0x1", "1 ", "big", "far", "nobody", "broken",
		"1000:none", "1000:4294967296", "1000:70000", "1000:-1", "www-data:huge", "a:b:c",
		"www-data:adm:x"};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = {0};
		struct user user;

		if (user_parse(cases[i], passwd, strlen(passwd), group, strlen(group), &err,
			    &user) == 0)
			fail_msg("\"%s\" became %u:%u", cases[i], user.uid, user.gid);
		assert_string_equal(err.code, "ContainerCreateFailed");
	}
}

static void write_file(const char *dir, const char *name, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, name);

	assert_int_equal(file_write_replace(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static void make_dir(const char *dir, const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, name);

	assert_int_equal(file_mkdirs(path, 0755), 0);
}

static void test_user_files_of_the_image(void **state)
{
	char dir[] = "/tmp/berth-user-XXXXXX";
	_cleanup_fd_ int root = -EBADF;
	struct err err = {0};
	struct user user;
	char path[256];

	assert_non_null(mkdtemp(dir));
	root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* No files: numbers work, names don't. */
	assert_int_equal(user_resolve(root, "1000", &err, &user), 0);
	assert_true(user_resolve(root, "web", &err, &user) < 0);
	make_dir(dir, "etc");
	/* A link stays within the image: the machine's own passwd has a root. */
	snprintf(path, sizeof(path), "%s/etc/passwd", dir);
	assert_int_equal(symlink("/etc/real", path), 0);
	assert_true(user_resolve(root, "daemon", &err, &user) < 0);
	write_file(dir, "etc/real", "web:x:12:13::/w:\n");
	assert_int_equal(user_resolve(root, "web", &err, &user), 0);
	assert_int_equal(user.uid, 12);
	/* Neither waits for a fifo nor opens it. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(user_resolve(root, "web", &err, &user), -EINVAL);
	/* A file of more than 1 MiB is refused. */
	assert_int_equal(unlink(path), 0);
	write_file(dir, "etc/passwd", "web:x:12:13::/w:\n");
	assert_int_equal(truncate(path, (off_t)USER_FILE_MAX + 1), 0);
	assert_int_equal(user_resolve(root, "web", &err, &user), -EFBIG);
	assert_int_equal(file_remove_tree(AT_FDCWD, dir), 0);
}

/* ---- logs ---- */

#define T1 "2026-11-23T18:50:51.333062283+00:00 "
#define T2 "2026-11-23T18:50:52.000000001+00:00 "

static char *copy_log(const char *log, size_t len, struct k8slog_copy options)
{
	_cleanup_fd_ int fd = memfd_create("log", MFD_CLOEXEC);
	_cleanup_fd_ int out = memfd_create("out", MFD_CLOEXEC);
	struct buf buf = BUF_INIT;

	assert_int_equal(fd_write_all(fd, log, len), 0);
	assert_int_equal(k8slog_copy(-EBADF, fd, &options, out), 0);
	lseek(out, 0, SEEK_SET);
	while (buf_read(&buf, out, 65536) > 0)
		;
	return buf_take(&buf);
}

static void test_log_copies(void **state)
{
	static const struct {
		const char *log;
		struct k8slog_copy options;
		const char *expected;
	} cases[] = {
		{"", {0}, ""},
		{T1 "stdout F a\n" T1 "stderr F b\n", {0}, "a\nb\n"},
		{T1 "stdout F \n", {0}, "\n"},
		{T1 "stdout P a\n" T1 "stdout P b\n" T1 "stdout F c\n", {0}, "abc\n"},
		/* Two streams, each with an unfinished line. */
		{T1 "stdout P a\n" T1 "stderr P x\n" T1 "stdout F b\n" T1 "stderr F y\n", {0},
			"ab\nxy\n"},
		{T1 "stdout P a\n" T1 "stderr F x\n" T1 "stdout P b\n", {0}, "x\nab"},
		{T1 "stdout F a\n" T2 "stdout P no end", {0},
			"a\n"}, /* conmon is still writing this record */
		{T1 "stdout F a\n" T2 "stdout P end\n", {0}, "a\nend"},
		{"junk\n\n" T1 "stdxxx F a\n" T1 "stdout X a\n" T1 "stdout F\n" T1 "stdout F b\n",
			{0}, "b\n"},
		{"2026-11-23 stdout F a\n"
		 "abcd-11-23T18:50:51.3+00:00 stdout F a\n",
			{0}, ""},
		{T1 "stdout P a\n" T2 "stdout F b\n", {.timestamps = true},
			"2026-11-23T18:50:51.333062283Z ab\n"},
		{T1 "stdout F a\n" T1 "stdout F b\n" T1 "stdout F c\n", {.tail = 2}, "b\nc\n"},
		{T1 "stdout F a\n" T1 "stdout F b\n", {.tail = 9}, "a\nb\n"},
		{T1 "stdout F a\n" T1 "stdout F b\n" T1 "stdout P c\n", {.tail = 2}, "b\nc"},
		{T1 "stdout F abc\n" T1 "stdout F def\n", {.max_bytes = 6}, "c\ndef\n"},
		{T1 "stdout F abc\n" T1 "stdout F def\n", {.max_bytes = 6, .tail = 1}, "def\n"},
		{T1 "stdout F abc\n", {.max_bytes = 100}, "abc\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *out =
			copy_log(cases[i].log, strlen(cases[i].log), cases[i].options);

		if (!str_eq(out, cases[i].expected))
			fail_msg("case %zu: \"%s\" instead of \"%s\"", i, out, cases[i].expected);
	}
}

static void test_log_in_two_files(void **state)
{
	static const char older[] = T1 "stdout F a\n" T1 "stdout P b\n",
			  newer[] = T2 "stdout F c\n" T2 "stdout F d\n";
	_cleanup_fd_ int older_fd = memfd_create("older", MFD_CLOEXEC);
	_cleanup_fd_ int newer_fd = memfd_create("newer", MFD_CLOEXEC);
	_cleanup_fd_ int out = memfd_create("out", MFD_CLOEXEC);
	struct k8slog_copy options = {.tail = 2};
	char text[64] = "";

	assert_int_equal(fd_write_all(older_fd, older, strlen(older)), 0);
	assert_int_equal(fd_write_all(newer_fd, newer, strlen(newer)), 0);
	assert_int_equal(k8slog_copy(older_fd, newer_fd, &options, out), 0);
	assert_true(pread(out, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(text, "bc\nd\n");
}

/* Larger than any window of the search for the end. */
static void test_log_tail_of_a_large_log(void **state)
{
	_cleanup_buf_ struct buf buf = BUF_INIT;
	struct k8slog_copy options = {.tail = 2};
	_cleanup_free_ char *out = NULL, *all = NULL;

	/* The line of stderr begins before everything else. */
	assert_int_equal(buf_adds(&buf, T1 "stderr P early-\n"), 0);
	for (int i = 0; i < 40000; i++)
		assert_int_equal(buf_printf(&buf, T1 "stdout F line %d\n", i), 0);
	assert_int_equal(buf_adds(&buf, T2 "stderr F late\n" T2 "stdout F end\n"), 0);
	out = copy_log(buf.data, buf.len, options);
	assert_string_equal(out, "early-late\nend\n");
	free(out);
	options = (struct k8slog_copy){.max_bytes = 14};
	out = copy_log(buf.data, buf.len, options);
	assert_string_equal(out, "arly-late\nend\n");
	options = (struct k8slog_copy){0};
	all = copy_log(buf.data, buf.len, options);
	assert_int_equal(strlen(all), 10 * 7 + 90 * 8 + 900 * 9 + 9000 * 10 + 30000 * 11 + 11 + 4);
}

static void test_log_long_lines(void **state)
{
	_cleanup_buf_ struct buf buf = BUF_INIT;
	_cleanup_free_ char *out = NULL;
	char text[8193];
	size_t newlines = 0;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 200; i++)
		assert_int_equal(buf_printf(&buf, T1 "stdout P %s\n", text), 0);
	assert_int_equal(buf_adds(&buf, T1 "stdout F \n"), 0);
	/* No record at all, then one. */
	for (int i = 0; i < 20; i++)
		assert_int_equal(buf_adds(&buf, text), 0);
	assert_int_equal(buf_adds(&buf, "\n" T1 "stdout F end\n"), 0);
	out = copy_log(buf.data, buf.len, (struct k8slog_copy){0});
	for (char *p = out; *p; p++)
		newlines += *p == '\n';
	assert_int_equal(strlen(out), 200 * 8192 + 4 + newlines - 1);
	assert_int_equal(newlines, 2); /* in pieces of a mebibyte, but one line; and "end" */
}

/* ---- control groups ---- */

static const char *const v2_files[] = {"cgroup.subtree_control", "cpu.max", "memory.max",
	"memory.swap.max", "pids.max", "cgroup.kill", "cgroup.procs"};

static void v2_dir(const char *dir, const char *name)
{
	make_dir(dir, name);
	for (size_t i = 0; i < ARRAY_SIZE(v2_files); i++) {
		char path[256];

		snprintf(path, sizeof(path), "%s/%s", name, v2_files[i]);
		write_file(dir, path, "");
	}
}

static void assert_content(const char *dir, const char *name, const char *expected)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, name);
	_cleanup_free_ char *text = NULL;

	assert_int_equal(file_read(AT_FDCWD, path, 4096, &text, NULL), 0);
	assert_string_equal(text, expected);
}

static void test_cgroup_v2(void **state)
{
	char dir[] = "/tmp/berth-cgroup-XXXXXX", text[256], path[256];
	struct cgroup_limits limits = {.cpu = 1.5, .memory_bytes = 1 << 30, .pids_max = 100};
	struct cgroups cgroups;
	struct err err = {0};

	assert_non_null(mkdtemp(dir));
	snprintf(text, sizeof(text),
		"proc /proc proc rw 0 0\ncgroup2 %s/fs cgroup2 rw,nsdelegate 0 0\n", dir);
	write_file(dir, "mounts", text);
	v2_dir(dir, "fs");
	v2_dir(dir, "fs/berth-a");
	v2_dir(dir, "fs/berth-a/g");
	snprintf(path, sizeof(path), "%s/mounts", dir);
	assert_int_equal(cgroups_load(path, &cgroups, &err), 0);
	assert_true(cgroups.v2);
	assert_int_equal(cgroups.n, 1);

	assert_int_equal(cgroup_limit(&cgroups, "/berth-a/g", &limits, &err), 0);
	assert_content(dir, "fs/berth-a/g/cpu.max", "150000 100000");
	assert_content(dir, "fs/berth-a/g/memory.max", "1073741824");
	assert_content(dir, "fs/berth-a/g/memory.swap.max", "0");
	assert_content(dir, "fs/berth-a/g/pids.max", "100");
	assert_content(
		dir, "fs/berth-a/cgroup.subtree_control", "+pids"); /* the last of three writes */
	assert_content(dir, "fs/berth-a/g/cgroup.subtree_control", "");
	limits = (struct cgroup_limits){0};
	assert_int_equal(cgroup_limit(&cgroups, "/berth-a/g", &limits, &err), 0);
	assert_content(dir, "fs/berth-a/g/cpu.max", "max 100000");
	assert_content(dir, "fs/berth-a/g/memory.max", "max");

	assert_int_equal(cgroup_oom_kills(&cgroups, "/berth-a/g"), 0);
	write_file(dir, "fs/berth-a/g/memory.events",
		"low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n");
	assert_int_equal(cgroup_oom_kills(&cgroups, "/berth-a/g"), 2);

	assert_int_equal(cgroup_kill(&cgroups, "/berth-a", 100), 0);
	assert_content(dir, "fs/berth-a/cgroup.kill", "1");
	assert_int_equal(cgroup_kill(&cgroups, "/berth-none", 100), 0);
	assert_int_equal(cgroup_remove(&cgroups, "/berth-none", &err), 0);
	cgroups_done(&cgroups);
	assert_int_equal(file_remove_tree(AT_FDCWD, dir), 0);
}

static void test_cgroup_hybrid_is_v1(void **state)
{
	char dir[] = "/tmp/berth-cgroup-XXXXXX", path[256];
	struct cgroups cgroups;
	struct err err = {0};

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/mounts", dir);
	write_file(dir, "mounts",
		"cgroup /c/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup /c/memory cgroup rw,memory 0 0\n"
		"cgroup /c/pids cgroup rw,pids 0 0\ncgroup /c/systemd cgroup rw,name=systemd 0 0\n"
		"cgroup2 /c/unified cgroup2 rw 0 0\n");
	assert_int_equal(cgroups_load(path, &cgroups, &err), 0);
	assert_false(cgroups.v2);
	assert_int_equal(cgroups.n, 4);
	assert_string_equal(cgroups.cpu, "/c/cpu");
	assert_string_equal(cgroups.memory, "/c/memory");
	assert_string_equal(cgroups.pids, "/c/pids");
	cgroups_done(&cgroups);
	write_file(dir, "mounts", "proc /proc proc rw 0 0\n");
	assert_int_equal(cgroups_load(path, &cgroups, &err), -ENOTSUP);
	assert_int_equal(file_remove_tree(AT_FDCWD, dir), 0);
}

/* ---- the bundle ---- */

struct fixture {
	char dir[64];
	struct runtime runtime;
	struct runtime_spec spec;
};

static void fixture_init(struct fixture *fixture)
{
	static const char *const args[] = {"/bin/true", "--flag", NULL};
	static const char *const env[] = {"A=1", "PATH=/x", NULL};

	*fixture = (struct fixture){.dir = "/tmp/berth-bundle-XXXXXX"};
	assert_non_null(mkdtemp(fixture->dir));
	make_dir(fixture->dir, "rootfs/etc");
	write_file(fixture->dir, "rootfs/etc/passwd", passwd);
	write_file(fixture->dir, "rootfs/etc/group", group);
	fixture->runtime = (struct runtime){
		.cgroup_root = xstrdup("/berth-a"), .seccomp = seccomp_profile(), .nofile = 1000};
	fixture->runtime.cgroups.v2 = true;
	fixture->spec = (struct runtime_spec){.id = "g-c-1",
		.dir = fixture->dir,
		.run = 1,
		.args = args,
		.env = env,
		.cwd = "work",
		.user = "www-data",
		.hostname = "host",
		.net_ns = "/ns/net",
		.user_ns = "/ns/user",
		.uid_base = 1000000,
		.cgroup = "g/c",
		.cpu_limit = 0.5,
		.cpu_request = 0.25,
		.memory_bytes = 1 << 20,
		.pids_max = 10};
}

static void fixture_done(struct fixture *fixture)
{
	free(fixture->runtime.cgroup_root);
	free(fixture->runtime.seccomp);
	assert_int_equal(file_remove_tree(AT_FDCWD, fixture->dir), 0);
}

static void test_bundle_config(void **state)
{
	_cleanup_json_ json_t *config = NULL;
	_cleanup_free_ char *text = NULL;
	static const char *const keys[] = {
		"ociVersion", "root", "hostname", "process", "mounts", "linux"};
	struct fixture fixture;
	struct err err = {0};
	json_t *process, *linux_part, *resources;

	fixture_init(&fixture);
	assert_int_equal(bundle_config(&fixture.runtime, &fixture.spec, &err, &text), 0);
	assert_int_equal(json_parse(text, strlen(text), JSON_DEPTH_MAX, &err, &config), 0);
	/* An allow-list: no annotations, hooks or anything else. */
	assert_int_equal(json_object_size(config), ARRAY_SIZE(keys));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_non_null(json_object_get(config, keys[i]));
	process = json_get_obj(config, "process");
	assert_string_equal(json_get_str(process, "cwd", ""), "/work");
	assert_true(json_get_bool(process, "noNewPrivileges", false));
	assert_int_equal(json_get_int(json_get_obj(process, "user"), "uid", -1), 33);
	assert_int_equal(json_array_size(json_path(process, "capabilities", "effective", NULL)), 0);
	assert_int_equal(json_array_size(json_path(process, "capabilities", "bounding", NULL)), 14);
	assert_int_equal(
		json_array_size(json_get_arr(process, "env")), 4); /* HOME and HOSTNAME are added */
	linux_part = json_get_obj(config, "linux");
	assert_string_equal(json_get_str(linux_part, "cgroupsPath", ""), "/berth-a/g/c");
	assert_int_equal(json_array_size(json_get_arr(linux_part, "namespaces")), 7);
	assert_string_equal(json_get_str(json_get_obj(linux_part, "seccomp"), "defaultAction", ""),
		"SCMP_ACT_ERRNO");
	resources = json_get_obj(linux_part, "resources");
	assert_int_equal(json_get_int(json_get_obj(resources, "cpu"), "quota", -1), 50000);
	assert_int_equal(json_get_int(json_get_obj(resources, "cpu"), "shares", -1), 256);
	assert_int_equal(json_get_int(json_get_obj(resources, "memory"), "limit", -1), 1 << 20);
	assert_int_equal(json_get_int(json_get_obj(resources, "memory"), "swap", -1), 1 << 20);
	assert_int_equal(json_get_int(json_get_obj(resources, "pids"), "limit", -1), 10);
	fixture_done(&fixture);
}

static void test_bundle_refuses(void **state)
{
	static const char *const directories[] = {
		"/proc/self/fd/7", "//proc", "proc/self", "/./proc/1", "/a/../proc", ".."};
	/* A link that leads to the runtime's descriptors once /proc is mounted (CVE-2024-21626). */
	static const struct {
		const char *target;
		bool allowed;
	} links[] = {{"/proc/self/fd/7", false}, {"../../../proc/self/fd/7", false},
		{"/dev/fd/7", false}, {"/etc", true}, {"../../etc", true}};
	static const char *const not_utf8[] = {"/bin/true", "\xff", NULL};
	struct fixture fixture;
	struct err err = {0};
	char *text = NULL;

	fixture_init(&fixture);
	for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
		fixture.spec.cwd = directories[i];
		if (bundle_config(&fixture.runtime, &fixture.spec, &err, &text) == 0)
			fail_msg("working directory %s", directories[i]);
	}
	fixture.spec.cwd = "/process";
	assert_int_equal(bundle_config(&fixture.runtime, &fixture.spec, &err, &text), 0);
	free(text);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		_cleanup_free_ char *link = xasprintf("%s/rootfs/link%zu", fixture.dir, i);
		char cwd[16];

		snprintf(cwd, sizeof(cwd), "/link%zu", i);
		assert_int_equal(symlink(links[i].target, link), 0);
		fixture.spec.cwd = cwd;
		text = NULL;
		assert_int_equal(bundle_config(&fixture.runtime, &fixture.spec, &err, &text) == 0,
			links[i].allowed);
		if (links[i].allowed)
			assert_non_null(strstr(text, "\"cwd\":\"/etc\""));
		free(text);
	}
	fixture.spec.cwd = "/";
	fixture.spec.args = not_utf8;
	assert_int_equal(bundle_config(&fixture.runtime, &fixture.spec, &err, &text), -EINVAL);
	assert_string_equal(err.message, "The container's command is not valid UTF-8.");
	fixture_done(&fixture);
}

static void test_seccomp_program(void **state)
{
	_cleanup_free_ char *program = NULL;
	struct err err = {0};

	assert_int_equal(seccomp_program(&err, &program), 0);
	assert_true(strlen(program) > 1000);
}

/* ---- conmon ---- */

static void test_sync_line(void **state)
{
	static const struct {
		const char *line;
		int expected;
		const char *message;
	} cases[] = {
		{"{\"data\": 4711}", 4711, ""},
		{"{\"data\": -1, \"message\": \"open executable: Permission denied\\n\"}", -EIO,
			"open executable: Permission denied"},
		{"{\"data\": -1}", -EIO,
			"The container could not be created; the runtime gave no reason."},
		{"{\"data\": 0}", -EIO,
			"The container could not be created; the runtime gave no reason."},
		{"{\"data\": 99999999999}", -EIO,
			"The container could not be created; the runtime gave no reason."},
		{"{\"data\": -1, \"message\": \"a\xff\\u0007\"}", -EIO, "a\xef\xbf\xbd "},
		{"nonsense", -EPROTO, "The container's monitor sent something unreadable."},
		{"[1]", -EPROTO, "The container's monitor sent something unreadable."},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = {0};

		assert_int_equal(conmon_sync_parse(cases[i].line, strlen(cases[i].line), &err),
			cases[i].expected);
		assert_string_equal(err.message, cases[i].message);
	}
}

static void test_monitor_file(void **state)
{
	char dir[] = "/tmp/berth-monitor-XXXXXX", text[128];
	_cleanup_fd_ int fd = -EBADF, pidfd = -EBADF;
	static const char *const broken[] = {"", "1", "1 2", "x 2 g", "1 x g", "-1 2 g"};
	struct monitor monitor;
	uint64_t ticks;

	assert_non_null(mkdtemp(dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(monitor_read(fd, &monitor), -ENOENT);
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		write_file(dir, "monitor", broken[i]);
		assert_int_equal(monitor_read(fd, &monitor), -EBADMSG);
	}
	assert_int_equal(proc_start_time(getpid(), &ticks), 0);
	snprintf(text, sizeof(text), "%d %llu group/box\n", (int)getpid(),
		(unsigned long long)ticks);
	write_file(dir, "monitor", text);
	assert_int_equal(monitor_read(fd, &monitor), 0);
	assert_string_equal(monitor.cgroup, "group/box");
	pidfd = monitor_open(&monitor);
	assert_true(pidfd >= 0);
	/* The same number, another process. */
	monitor.start_ticks--;
	assert_int_equal(monitor_open(&monitor), -ESRCH);
	monitor_done(&monitor);
	assert_int_equal(file_remove_tree(AT_FDCWD, dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_user_is_resolved),
		cmocka_unit_test(test_user_is_refused),
		cmocka_unit_test(test_user_files_of_the_image),
		cmocka_unit_test(test_log_copies),
		cmocka_unit_test(test_log_in_two_files),
		cmocka_unit_test(test_log_tail_of_a_large_log),
		cmocka_unit_test(test_log_long_lines),
		cmocka_unit_test(test_cgroup_v2),
		cmocka_unit_test(test_cgroup_hybrid_is_v1),
		cmocka_unit_test(test_bundle_config),
		cmocka_unit_test(test_bundle_refuses),
		cmocka_unit_test(test_seccomp_program),
		cmocka_unit_test(test_sync_line),
		cmocka_unit_test(test_monitor_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
