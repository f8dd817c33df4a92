/* Volumes for real: as root, in a mount namespace of the test's own. */
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "node/volume/internal.h"

#define BASE 1000000u
#define MIB ((uint64_t)1 << 20)

static char top[] = "/var/tmp/berth-volume-test-XXXXXX";
static struct volumes *volumes;
static struct volume_group group = {.uid = "g", .uid_base = BASE};

static void must(bool ok, const char *what)
{
	if (!ok)
		fail_msg("%s: %s", what, strerror(errno));
}
#define MUST(condition) must(condition, #condition)

static int set_up(void **state)
{
	struct err err = {0};

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	if (!mkdtemp(top) || chmod(top, 0711) < 0)
		return -1;
	return volumes_open(&(struct volumes_config){.clone_program = "/nonexistent",
				    .smb_program = "/nonexistent",
				    .azure_files = "127.0.0.1:1",
				    .empty_dir_max_bytes = 64 * MIB},
		&err, &volumes);
}

static int tear_down(void **state)
{
	volumes_close(volumes);
	return rmdir(top);
}

static int new_group(void **state)
{
	group.dir = xasprintf("%s/group", top);
	return mkdir(group.dir, 0711);
}

/* Whatever the test did: nothing is left. */
static int end_group(void **state)
{
	struct err err = {0};
	int r = volumes_down(volumes, &group, &err);

	if (r < 0)
		print_error("%s\n", err.message);
	r = rmdir(group.dir);
	free((void *)(uintptr_t)group.dir);
	return r;
}

static void up(const struct volume_spec *spec)
{
	struct err err = {0};

	if (volume_up(volumes, &group, spec, -1, &err) < 0)
		fail_msg("%s", err.message);
}

static int open_data(const struct volume_spec *spec)
{
	_cleanup_free_ char *path = volume_path(&group, spec);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	MUST(fd >= 0);
	return fd;
}

static struct stat look(const struct volume_spec *spec, const char *name)
{
	_cleanup_fd_ int fd = open_data(spec);
	struct stat st = {0};

	MUST(fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno == ENOENT);
	return st;
}

static char *content(const struct volume_spec *spec, const char *name)
{
	_cleanup_fd_ int fd = open_data(spec);
	char *text = NULL;

	return file_read(fd, name, 65536, &text, NULL) < 0 ? xstrdup("(none)") : text;
}

static void assert_content(const struct volume_spec *spec, const char *name, const char *expected)
{
	_cleanup_free_ char *text = content(spec, name);

	assert_string_equal(text, expected);
}

static void put(const struct volume_spec *spec, const char *name, const char *text)
{
	_cleanup_fd_ int fd = open_data(spec);

	assert_int_equal(file_write_replace(fd, name, text, strlen(text), 0644), 0);
}

/* In the process that a tenant would be: ids of the group's range and nothing else. */
static int fill(const struct volume_spec *spec)
{
	static char block[65536];
	_cleanup_fd_ int dir = open_data(spec);
	pid_t child = fork();
	int status, fd;

	MUST(child >= 0);
	if (child == 0) {
		if (setgid(BASE) < 0 || setuid(BASE) < 0)
			_exit(1);
		fd = openat(dir, "big", O_WRONLY | O_CREAT, 0600);
		while (write(fd, block, sizeof(block)) > 0)
			;
		_exit(errno == ENOSPC ? 0 : errno);
	}
	MUST(waitpid(child, &status, 0) == child);
	return status;
}

static void an_empty_dir_is_the_groups_and_empty_and_bounded(void **state)
{
	const struct volume_spec spec = {
		.name = "scratch", .kind = VOLUME_EMPTY_DIR, .size_bytes = 8 * MIB};
	_cleanup_fd_ int dir = -EBADF;
	struct statvfs fs;
	struct stat st;
	int64_t start = time_mono_ms();

	up(&spec);
	print_message("emptyDir: %d ms\n", (int)(time_mono_ms() - start));
	st = look(&spec, ".");
	assert_int_equal(st.st_mode, S_IFDIR | 0777);
	assert_int_equal(st.st_uid, BASE);
	assert_int_equal(look(&spec, "lost+found").st_mode, 0);
	dir = open_data(&spec);
	assert_int_equal(fstatvfs(dir, &fs), 0);
	assert_true(fs.f_frsize * fs.f_blocks <= 8 * MIB && fs.f_frsize * fs.f_blocks > 7 * MIB);
	assert_true(fs.f_files > 100 && fs.f_files < 10000);
	assert_true((fs.f_flag & ST_NOSUID) && (fs.f_flag & ST_NODEV));
	assert_int_equal(fill(&spec), 0);
	assert_true(look(&spec, "big").st_size > (off_t)(6 * MIB));
}

static void an_empty_dir_without_a_size_has_the_nodes(void **state)
{
	const struct volume_spec none = {.name = "none", .kind = VOLUME_EMPTY_DIR};
	const struct volume_spec huge = {
		.name = "huge", .kind = VOLUME_EMPTY_DIR, .size_bytes = UINT64_MAX};
	const struct volume_spec tiny = {.name = "tiny", .kind = VOLUME_EMPTY_DIR, .size_bytes = 1};
	struct statvfs fs;

	for (size_t i = 0; i < 3; i++) {
		const struct volume_spec *spec = i == 0 ? &none : i == 1 ? &huge : &tiny;
		_cleanup_fd_ int dir = -EBADF;

		up(spec);
		dir = open_data(spec);
		assert_int_equal(fstatvfs(dir, &fs), 0);
		assert_true(fs.f_frsize * fs.f_blocks <= (i == 2 ? 1 : 64) * MIB);
		assert_true(fs.f_frsize * fs.f_blocks > (i == 2 ? 0 : 60) * MIB);
	}
}

static void what_is_freed_goes_back_to_the_node(void **state)
{
	const struct volume_spec spec = {
		.name = "scratch", .kind = VOLUME_EMPTY_DIR, .size_bytes = 32 * MIB};
	_cleanup_free_ char *image = xasprintf("%s/v/scratch/image", group.dir);
	_cleanup_fd_ int dir = -EBADF;
	struct stat full, empty;

	up(&spec);
	assert_int_equal(fill(&spec), 0);
	dir = open_data(&spec);
	MUST(syncfs(dir) == 0 && stat(image, &full) == 0);
	assert_true((uint64_t)full.st_blocks * 512 > 24 * MIB);
	MUST(unlinkat(dir, "big", 0) == 0 && syncfs(dir) == 0 && stat(image, &empty) == 0);
	assert_true((uint64_t)empty.st_blocks * 512 < 4 * MIB);
}

static void an_empty_dir_is_found_again_wherever_it_was_cut_off(void **state)
{
	const struct volume_spec spec = {.name = "scratch", .kind = VOLUME_EMPTY_DIR};
	_cleanup_free_ char *data = volume_path(&group, &spec);
	_cleanup_free_ char *image = xasprintf("%s/v/scratch/image", group.dir);
	_cleanup_free_ char *half = xasprintf("%s/v/scratch/image.new", group.dir);

	/* Half made. */
	up(&spec);
	MUST(umount2(data, MNT_DETACH) == 0);
	MUST(rename(image, half) == 0 && truncate(half, 5) == 0);
	up(&spec);
	assert_true(access(half, F_OK) < 0);
	put(&spec, "kept", "text");

	/* Mounted: nothing changes, also what the tenant made of its root. */
	MUST(chmod(data, 0700) == 0);
	up(&spec);
	assert_content(&spec, "kept", "text");
	/* Complete and not mounted, as after a start of the machine. */
	MUST(umount2(data, 0) == 0);
	up(&spec);
	assert_content(&spec, "kept", "text");
	assert_int_equal(look(&spec, ".").st_mode, S_IFDIR | 0700);
	assert_int_equal(look(&spec, "lost+found").st_mode, 0);
	/* Torn by a loss of power. */
	MUST(umount2(data, 0) == 0 && truncate(image, 100) == 0);
	up(&spec);
	assert_content(&spec, "kept", "(none)");
	assert_int_equal(look(&spec, ".").st_mode, S_IFDIR | 0777);
}

static void a_kill_at_any_moment_loses_no_data_and_leaves_nothing(void **state)
{
	const struct volume_spec spec = {.name = "scratch", .kind = VOLUME_EMPTY_DIR};
	struct err err = {0};

	for (int delay_us = 0; delay_us < 14000; delay_us += 700) {
		pid_t child = fork();

		MUST(child >= 0);
		if (child == 0) {
			if (volume_up(volumes, &group, &spec, -1, NULL) == 0)
				put(&spec, "kept", "text");
			pause();
		}
		usleep((useconds_t)delay_us);
		MUST(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
		up(&spec);
		if (look(&spec, "kept").st_mode)
			assert_content(&spec, "kept", "text");
		put(&spec, "kept", "text");
		up(&spec);
		assert_content(&spec, "kept", "text");
		if (volumes_down(volumes, &group, &err) < 0)
			fail_msg("%s", err.message);
	}
}

static unsigned loops(void)
{
	unsigned n = 0;

	for (int i = 0; i < 256; i++) {
		char path[64];
		_cleanup_free_ char *text = NULL;

		snprintf(path, sizeof(path), "/sys/block/loop%d/loop/backing_file", i);
		if (file_read(AT_FDCWD, path, 4096, &text, NULL) == 0 && strstr(text, top))
			n++;
	}
	return n;
}

static void the_end_leaves_nothing(void **state)
{
	const struct volume_spec scratch = {.name = "scratch", .kind = VOLUME_EMPTY_DIR};
	_cleanup_json_ json_t *files = json_pack("{s:s}", "k", "eA==");
	const struct volume_spec secret = {.name = "s", .kind = VOLUME_SECRET, .files = files};
	_cleanup_free_ char *v = xasprintf("%s/v", group.dir);
	_cleanup_free_ char *stray = xasprintf("%s/v/scratch/other", group.dir);
	struct err err = {0};

	up(&scratch);
	up(&secret);
	assert_int_equal(loops(), 1);
	MUST(mkdir(stray, 0700) == 0);
	for (int i = 0; i < 3; i++)
		MUST(mount("tmp", stray, "tmpfs", 0, NULL) == 0);
	for (int twice = 0; twice < 2; twice++)
		if (volumes_down(volumes, &group, &err) < 0)
			fail_msg("%s", err.message);
	assert_true(access(v, F_OK) < 0);
	/* The loop device is cleared by the kernel's own thread. */
	for (int i = 0; i < 200 && loops() > 0; i++)
		usleep(10000);
	assert_int_equal(loops(), 0);
}

static void a_secret_is_a_tmpfs_that_only_the_groups_root_reads(void **state)
{
	_cleanup_json_ json_t *files =
		json_pack("{s:s, s:s, s:s}", "user", "YWRtaW4=", ".cfg", "AAECAw==", "empty", "");
	const struct volume_spec spec = {.name = "creds", .kind = VOLUME_SECRET, .files = files};
	_cleanup_fd_ int dir = -EBADF;
	struct statvfs vfs;
	struct statfs fs;
	struct stat st;

	up(&spec);
	up(&spec);
	assert_content(&spec, "user", "admin");
	st = look(&spec, "user");
	assert_int_equal(st.st_mode, S_IFREG | 0400);
	assert_int_equal(st.st_uid, BASE);
	assert_int_equal(st.st_gid, BASE);
	assert_int_equal(look(&spec, ".cfg").st_size, 4);
	assert_int_equal(look(&spec, "empty").st_mode, S_IFREG | 0400);
	dir = open_data(&spec);
	MUST(fstatfs(dir, &fs) == 0 && fstatvfs(dir, &vfs) == 0);
	assert_int_equal(fs.f_type, TMPFS_MAGIC);
	assert_int_equal(
		vfs.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC), ST_NOSUID | ST_NODEV | ST_NOEXEC);
	assert_true(vfs.f_frsize * vfs.f_blocks <= 65536 && vfs.f_files < 64);
	assert_int_equal(fill(&spec), 0);
}

static void a_volume_with_another_definition_is_made_anew(void **state)
{
	_cleanup_json_ json_t *old = json_pack("{s:s, s:s}", "a", "MQ==", "b", "MQ==");
	_cleanup_json_ json_t *other = json_pack("{s:s}", "a", "Mg==");
	struct volume_spec spec = {.name = "x", .kind = VOLUME_SECRET, .files = old};
	struct volume_spec scratch = {.name = "x", .kind = VOLUME_EMPTY_DIR};

	up(&spec);
	spec.files = other;
	up(&spec);
	assert_content(&spec, "a", "2");
	assert_int_equal(look(&spec, "b").st_mode, 0);
	up(&scratch);
	assert_int_equal(look(&scratch, "a").st_mode, 0);
	put(&scratch, "kept", "1");
	scratch.size_bytes = 2 * MIB;
	up(&scratch);
	assert_int_equal(look(&scratch, "kept").st_mode, 0);
}

static void bad_secrets_leave_nothing_mounted(void **state)
{
	static const char *const rows[][2] = {{"../x", "eA=="}, {"a/b", "eA=="}, {"..", "eA=="},
		{"", "eA=="}, {".", "eA=="}, {"a\nb", "eA=="}, {"k", "not base64!"}, {"k", "eB=="}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *files = json_pack("{s:s}", rows[i][0], rows[i][1]);
		const struct volume_spec spec = {
			.name = "bad", .kind = VOLUME_SECRET, .files = files};
		_cleanup_free_ char *data = volume_path(&group, &spec);
		struct err err = {0};

		assert_int_equal(volume_up(volumes, &group, &spec, -1, &err), -EINVAL);
		assert_string_equal(err.code, "FailedMount");
		assert_null(strstr(err.message, rows[i][1]));
		assert_true(access(data, F_OK) < 0);
	}
}

static void names_are_one_component(void **state)
{
	for (const char *const *name =
			(const char *const[]){"", ".", "..", "../x", "a/b", "A", ".x", NULL};
		*name; name++) {
		const struct volume_spec spec = {.name = *name, .kind = VOLUME_EMPTY_DIR};
		struct err err = {0};

		assert_int_equal(volume_up(volumes, &group, &spec, -1, &err), -EINVAL);
	}
}

static void a_config_map_changes_in_place(void **state)
{
	_cleanup_json_ json_t *first = json_pack("{s:s, s:s, s:s}", "a", "1", "b", "2", "c", "");
	_cleanup_json_ json_t *second = json_pack("{s:s, s:s, s:s}", "a", "1", "b", "3", "d", "4");
	struct volume_spec spec = {
		.name = "configmap.web", .kind = VOLUME_CONFIG_MAP, .files = first};
	struct stat a, b, dir;

	up(&spec);
	dir = look(&spec, ".");
	a = look(&spec, "a");
	b = look(&spec, "b");
	assert_int_equal(a.st_mode, S_IFREG | 0444);
	assert_int_equal(a.st_uid, BASE);
	spec.files = second;
	up(&spec);
	assert_content(&spec, "b", "3");
	assert_content(&spec, "d", "4");
	assert_content(&spec, "c", "(none)");
	/* The directory that containers have bound is the same, a file is a new one or untouched.
	 */
	assert_int_equal(look(&spec, ".").st_ino, dir.st_ino);
	assert_int_equal(look(&spec, "a").st_ino, a.st_ino);
	assert_int_not_equal(look(&spec, "b").st_ino, b.st_ino);
	spec.files = NULL;
	up(&spec);
	assert_content(&spec, "a", "(none)");
}

static void what_the_spec_no_longer_names_is_removed(void **state)
{
	const char *const names[] = {"kept", NULL};
	const struct volume_spec kept = {.name = "kept", .kind = VOLUME_EMPTY_DIR};
	const struct volume_spec gone = {.name = "gone", .kind = VOLUME_EMPTY_DIR};
	const struct volume_spec ours = {.name = "configmap.web", .kind = VOLUME_CONFIG_MAP};
	_cleanup_free_ char *path = xasprintf("%s/v/gone", group.dir);
	struct err err = {0};

	up(&kept);
	up(&gone);
	up(&ours);
	put(&kept, "f", "1");
	assert_int_equal(volumes_prune(volumes, &group, names, &err), 0);
	assert_content(&kept, "f", "1");
	assert_int_equal(look(&ours, ".").st_mode, S_IFDIR | 0755);
	assert_true(access(path, F_OK) < 0);
}

static void places_within_a_volume_are_not_made_through_links(void **state)
{
	const struct volume_spec spec = {.name = "v", .kind = VOLUME_EMPTY_DIR};
	_cleanup_fd_ int dir = -EBADF;
	struct err err = {0};

	up(&spec);
	dir = open_data(&spec);
	MUST(symlinkat("/etc", dir, "out") == 0);
	MUST(symlinkat(".", dir, "here") == 0);
	put(&spec, "file", "x");
	for (int twice = 0; twice < 2; twice++) {
		assert_int_equal(volume_make_place(&group, &spec, "a/b", false, &err), 0);
		assert_int_equal(volume_make_place(&group, &spec, "c/hosts", true, &err), 0);
	}
	assert_int_equal(look(&spec, "a/b").st_mode, S_IFDIR | 0755);
	assert_int_equal(look(&spec, "a/b").st_uid, BASE);
	assert_int_equal(look(&spec, "c/hosts").st_mode, S_IFREG | 0644);
	for (const char *const *path = (const char *const[]){"out", "out/x", "here/y", "file",
		     "file/x", "../x", "a/../../x", NULL};
		*path; path++)
		if (volume_make_place(&group, &spec, *path, false, &err) == 0)
			fail_msg("%s", *path);
	assert_true(volume_make_place(&group, &spec, "a", true, &err) < 0);
	assert_true(volume_make_place(&group, &spec, "out", true, &err) < 0);
	assert_string_equal(err.code, "ContainerCreateFailed");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, new_group, end_group)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_empty_dir_is_the_groups_and_empty_and_bounded),
		TEST(an_empty_dir_without_a_size_has_the_nodes),
		TEST(what_is_freed_goes_back_to_the_node),
		TEST(an_empty_dir_is_found_again_wherever_it_was_cut_off),
		TEST(a_kill_at_any_moment_loses_no_data_and_leaves_nothing),
		TEST(the_end_leaves_nothing),
		TEST(a_secret_is_a_tmpfs_that_only_the_groups_root_reads),
		TEST(a_volume_with_another_definition_is_made_anew),
		TEST(bad_secrets_leave_nothing_mounted),
		TEST(names_are_one_component),
		TEST(a_config_map_changes_in_place),
		TEST(what_the_spec_no_longer_names_is_removed),
		TEST(places_within_a_volume_are_not_made_through_links),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
