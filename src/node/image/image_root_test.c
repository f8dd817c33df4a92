/* The store, the worker's cage and root file systems, for real: as root, in a mount namespace of
 * the test's own. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "base/time.h"
#include "node/image/overlay.h"
#include "node/image/prune.h"
#include "node/image/rootfs.h"
#include "node/image/store.h"

#define BASE 1000000u
#define LOW "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HIGH "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define DIGEST "sha256:3333333333333333333333333333333333333333333333333333333333333333"

static char top[] = "/tmp/berth-image-test-XXXXXX";
static char *store_dir;
static struct image_store *store;

static void must(bool ok, const char *what)
{
	if (!ok)
		fail_msg("%s: %s", what, strerror(errno));
}
#define MUST(condition) must(condition, #condition)

static int open_store(void **state)
{
	struct image_store_config config = {.worker = IMAGE_FAKE_WORKER};
	struct err err = {0};

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	if (!mkdtemp(top) || mount("tmp", top, "tmpfs", 0, NULL) < 0)
		return -1;
	/* Nothing above the store lets a stranger through: the worker has only its descriptor. */
	store_dir = xasprintf("%s/node/images", top);
	chmod(top, 0700);
	config.dir = store_dir;
	if (image_store_open(&config, &err, &store) < 0) {
		print_error("%s\n", err.message);
		return -1;
	}
	return 0;
}

static int close_store(void **state)
{
	image_store_close(store);
	free(store_dir);
	umount2(top, MNT_DETACH);
	return rmdir(top);
}

/* Layers as a worker leaves them: all of the store's ids. */
static int layer_dir(const char *hex)
{
	int fd;

	MUST(mkdirat(store->layers_fd, hex, 0700) == 0 || errno == EEXIST);
	fd = openat(store->layers_fd, hex, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(fd >= 0);
	return fd;
}

static void add_file(int dir, const char *name, uint32_t uid, mode_t mode, const char *text)
{
	_cleanup_fd_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	MUST(fd >= 0);
	MUST(fd_write_all(fd, text, strlen(text)) == 0);
	MUST(fchown(fd, IMAGE_STORE_UID + uid, IMAGE_STORE_UID + uid) == 0);
	MUST(fchmod(fd, mode) == 0);
}

static void add_dir(int dir, const char *name, uint32_t uid, mode_t mode)
{
	MUST(mkdirat(dir, name, 0700) == 0);
	MUST(fchownat(dir, name, IMAGE_STORE_UID + uid, IMAGE_STORE_UID + uid, 0) == 0);
	MUST(fchmodat(dir, name, mode, 0) == 0);
}

static void own_root(int dir, uint32_t uid, mode_t mode)
{
	MUST(fchown(dir, IMAGE_STORE_UID + uid, IMAGE_STORE_UID + uid) == 0);
	MUST(fchmod(dir, mode) == 0);
}

static void make_layers(void)
{
	_cleanup_fd_ int low = layer_dir(LOW);
	_cleanup_fd_ int high = layer_dir(HIGH);
	char path[64];

	own_root(low, 0, 0755);
	add_dir(low, "bin", 0, 0755);
	add_file(low, "bin/su", 0, 04755, "program");
	add_file(low, "gone", 0, 0644, "whited out");
	add_file(low, "changed", 0, 0644, "old");
	add_dir(low, "opaque", 0, 0755);
	add_file(low, "opaque/hidden", 0, 0644, "x");
	add_dir(low, "merged", 0, 0755);
	add_file(low, "merged/a", 0, 0644, "a");

	own_root(high, 5, 0751);
	MUST(mknodat(high, "gone", S_IFCHR, makedev(0, 0)) == 0);
	add_file(high, "changed", 33, 0640, "new");
	add_dir(high, "opaque", 0, 0755);
	snprintf(path, sizeof(path), "/proc/self/fd/%d/opaque", high);
	MUST(setxattr(path, "user.overlay.opaque", "y", 1, 0) == 0);
	add_file(high, "opaque/shown", 0, 0644, "y");
	add_dir(high, "merged", 0, 0755);
	add_file(high, "merged/b", 0, 0644, "b");
	MUST(symlinkat("/proc", high, "proc") == 0);
	add_dir(high, "etc", 0, 0755);
	MUST(symlinkat("../../../etc/passwd", high, "etc/hosts") == 0);
}

static struct image *hand_made(const char *a, const char *b, const char *c)
{
	struct image *image = xnew(struct image);

	image->reference = xstrdup("docker.io/library/test:latest");
	image->digest = xstrdup(DIGEST);
	image->layers = xcalloc(4, sizeof(char *));
	image->layers[0] = a ? xstrdup(a) : NULL;
	image->layers[1] = b ? xstrdup(b) : NULL;
	image->layers[2] = c ? xstrdup(c) : NULL;
	return image;
}

static char *container_dir(const char *name)
{
	char *dir = xasprintf("%s/%s", top, name);

	MUST(mkdir(dir, 0700) == 0 || errno == EEXIST);
	return dir;
}

static struct stat look(const char *dir, const char *path)
{
	_cleanup_free_ char *full = xasprintf("%s/rootfs/%s", dir, path);
	struct stat st = {0};

	if (lstat(full, &st) < 0)
		st.st_mode = 0;
	return st;
}

static void check_content(const char *dir)
{
	struct stat st = look(dir, "");

	assert_int_equal(st.st_uid, BASE + 5);
	assert_int_equal(st.st_mode & 07777, 0751);
	st = look(dir, "bin/su");
	assert_int_equal(st.st_mode, S_IFREG | 04755);
	assert_int_equal(st.st_uid, BASE);
	st = look(dir, "changed");
	assert_int_equal(st.st_uid, BASE + 33);
	assert_int_equal(st.st_gid, BASE + 33);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(look(dir, "gone").st_mode, 0);
	assert_int_equal(look(dir, "opaque/hidden").st_mode, 0);
	assert_int_not_equal(look(dir, "opaque/shown").st_mode, 0);
	assert_int_not_equal(look(dir, "merged/a").st_mode, 0);
	assert_int_not_equal(look(dir, "merged/b").st_mode, 0);
}

static bool mounts_mention(const char *word)
{
	_cleanup_free_ char *text = NULL;

	MUST(file_read(AT_FDCWD, "/proc/self/mountinfo", (size_t)1 << 20, &text, NULL) == 0);
	return strstr(text, word);
}

static void mount_and_check(const char *name, bool classic)
{
	struct image *image = hand_made(LOW, HIGH, NULL);
	_cleanup_free_ char *dir = container_dir(name);
	struct err err = {0};

	if (rootfs_mount(store, image, dir, BASE, classic, &err) < 0)
		fail_msg("%s", err.message);
	check_content(dir);
	/* Twice is once. */
	assert_int_equal(rootfs_mount(store, image, dir, BASE, classic, &err), 0);
	assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	assert_false(mounts_mention(dir));
	assert_int_equal(rmdir(dir), 0);
	image_free(image);
}

static void a_rootfs_shows_the_layers_as_the_groups(void **state)
{
	mount_and_check("fd", false);
}

static void the_older_way_of_mounting_shows_the_same(void **state)
{
	mount_and_check("classic", true);
}

static void changes_of_lower_files_keep_their_owner(void **state)
{
	struct image *image = hand_made(LOW, HIGH, NULL);
	_cleanup_free_ char *dir = container_dir("copyup");
	_cleanup_free_ char *file = xasprintf("%s/rootfs/changed", dir);
	_cleanup_fd_ int fd = -EBADF;
	struct err err = {0};

	assert_int_equal(image_rootfs_mount(store, image, dir, BASE, &err), 0);
	fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(fd_write_all(fd, "er", 2), 0);
	fd = fd_close(fd);
	/* What was written lies where other users of the machine can't reach it. */
	assert_int_equal(look(dir, "../layer").st_mode, S_IFDIR | 0700);
	assert_int_equal(look(dir, "../layer").st_uid, 0);
	assert_int_equal(look(dir, "../layer/upper/changed").st_size, 5);
	assert_int_equal(look(dir, "changed").st_uid, BASE + 33);
	assert_int_equal(look(dir, "changed").st_size, 5);
	assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);

	/* Nothing of it is left for the next one. */
	assert_int_equal(image_rootfs_mount(store, image, dir, BASE + 65536, &err), 0);
	assert_int_equal(look(dir, "changed").st_uid, BASE + 65536 + 33);
	assert_int_equal(look(dir, "changed").st_size, 3);
	assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	image_free(image);
}

static void repeated_and_missing_layers(void **state)
{
	struct image *image = hand_made(LOW, HIGH, LOW);
	_cleanup_free_ char *dir = container_dir("repeated");
	struct err err = {0};

	if (image_rootfs_mount(store, image, dir, BASE, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_not_equal(look(dir, "gone").st_mode, 0);
	assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	image_free(image);

	image = hand_made(NULL, NULL, NULL);
	if (image_rootfs_mount(store, image, dir, BASE, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(look(dir, "").st_uid, BASE);
	assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	image_free(image);

	image = hand_made(&DIGEST[7], NULL, NULL);
	assert_int_equal(image_rootfs_mount(store, image, dir, BASE, &err), -ENOENT);
	assert_string_equal(err.code, "InaccessibleImage");
	assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	image_free(image);
}

static void a_hundred_and_twenty_eight_layers_fit(void **state)
{
	struct image *image = xnew(struct image);
	_cleanup_free_ char *dir = container_dir("many");
	struct err err = {0};

	image->reference = xstrdup("docker.io/library/many:latest");
	image->layers = xcalloc(IMAGE_LAYERS_MAX + 1, sizeof(char *));
	for (int i = 0; i < IMAGE_LAYERS_MAX; i++) {
		_cleanup_fd_ int fd = -EBADF;
		char name[16];

		image->layers[i] = xasprintf("%064x", 0xc000 + i);
		fd = layer_dir(image->layers[i]);
		snprintf(name, sizeof(name), "f%d", i);
		own_root(fd, 0, 0755);
		add_file(fd, name, 0, 0644, "");
	}
	for (int classic = 0; classic < 2; classic++) {
		if (rootfs_mount(store, image, dir, BASE, classic, &err) < 0)
			fail_msg("%s", err.message);
		assert_int_not_equal(look(dir, "f0").st_mode, 0);
		assert_int_not_equal(look(dir, "f127").st_mode, 0);
		assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	}
	image_free(image);
}

static void places_for_mounts_are_prepared_or_refused(void **state)
{
	static const char *const dirs[] = {"/dev", "/sys", "/a/b/c", "/merged", NULL};
	static const char *const files[] = {"/etc/resolv.conf", "/new/hostname", "/changed", NULL};
	static const char *const linked_dir[] = {"/proc", NULL};
	static const char *const beyond_link[] = {"/proc/x", NULL};
	static const char *const dots[] = {"/merged/../../x", NULL};
	static const char *const linked_file[] = {"/etc/hosts", NULL};
	static const char *const dir_for_file[] = {"/merged", NULL};
	struct image *image = hand_made(LOW, HIGH, NULL);
	_cleanup_free_ char *dir = container_dir("prepare");
	struct err err = {0};

	assert_int_equal(image_rootfs_mount(store, image, dir, BASE, &err), 0);
	for (int twice = 0; twice < 2; twice++)
		if (image_rootfs_prepare(dir, BASE, dirs, files, &err) < 0)
			fail_msg("%s", err.message);
	assert_int_equal(look(dir, "a/b/c").st_mode, S_IFDIR | 0755);
	assert_int_equal(look(dir, "a/b").st_uid, BASE);
	assert_int_equal(look(dir, "new/hostname").st_mode, S_IFREG | 0644);
	assert_int_equal(look(dir, "new/hostname").st_uid, BASE);
	assert_int_equal(look(dir, "changed").st_size, 3);

	assert_true(image_rootfs_prepare(dir, BASE, linked_dir, NULL, &err) < 0);
	assert_string_equal(err.code, "InvalidImageLayer");
	assert_true(image_rootfs_prepare(dir, BASE, beyond_link, NULL, &err) < 0);
	assert_true(image_rootfs_prepare(dir, BASE, dots, NULL, &err) < 0);
	assert_int_equal(image_rootfs_prepare(dir, BASE, NULL, linked_file, &err), -ELOOP);
	assert_int_equal(image_rootfs_prepare(dir, BASE, NULL, dir_for_file, &err), -EINVAL);
	assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	image_free(image);
}

/* What images do with the places that requests name. */
static void places_that_requests_name_are_found_through_links(void **state)
{
	static const char *const covered[] = {"/data", NULL};
	static const struct {
		const char *path, *expected; /* NULL: refused */
	} rows[] = {
		{"/run/x", "/run/x"},
		{"/var/run", "/run"},
		{"/var/run/app/deep", "/run/app/deep"},
		{"/merged", "/merged"},
		{"/new/a/b", "/new/a/b"},
		{"/out", "/etc"}, /* to ../../../etc: the image's own */
		{"/absolute", "/merged"},
		{"/data", "/data"},
		{"/data/trap/x", "/data/trap/x"}, /* hidden by what is mounted at /data */
		{"/link-to-data/y", "/data/y"},
		{"/dangling", NULL},
		{"/dangling/x", NULL},
		{"/loop", NULL},
		{"/loop/x", NULL},
		{"/changed", NULL},
		{"/changed/x", NULL},
		{"/etc/hosts", NULL},
		{"/proc", NULL},
		{"/proc/x", NULL},
		{"/to-proc/sys", NULL},
		{"/to-root", NULL},
		{"/dev/shm", NULL},
		{"/sys", NULL},
		{"/", NULL},
		{"relative", NULL},
		{"/merged/../x", NULL},
	};
	struct image *image = hand_made(LOW, HIGH, NULL);
	_cleanup_free_ char *dir = container_dir("place");
	_cleanup_free_ char *rootfs = xasprintf("%s/rootfs", dir);
	_cleanup_fd_ int root = -EBADF;
	struct err err = {0};

	assert_int_equal(image_rootfs_mount(store, image, dir, BASE, &err), 0);
	root = open(rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(mkdirat(root, "var", 0755) == 0 && mkdirat(root, "run", 0755) == 0);
	MUST(mkdirat(root, "data", 0755) == 0 && mkdirat(root, "sys", 0755) == 0);
	MUST(symlinkat("../run", root, "var/run") == 0);
	MUST(symlinkat("../../../etc", root, "out") == 0);
	MUST(symlinkat("/merged", root, "absolute") == 0);
	MUST(symlinkat("/etc", root, "data/trap") == 0);
	MUST(symlinkat("data", root, "link-to-data") == 0);
	MUST(symlinkat("/nowhere/at/all", root, "dangling") == 0);
	MUST(symlinkat("loop", root, "loop") == 0);
	MUST(symlinkat("/sys", root, "to-proc") == 0);
	MUST(symlinkat("/", root, "to-root") == 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *path = NULL;
		int r = image_rootfs_place(dir, BASE, rows[i].path, covered, &err, &path);

		if ((r == 0) != (rows[i].expected != NULL))
			fail_msg("%s: %s", rows[i].path, path ? path : err.message);
		if (r == 0)
			assert_string_equal(path, rows[i].expected);
		else
			assert_string_equal(err.code, "ContainerCreateFailed");
	}
	assert_int_equal(look(dir, "run/app/deep").st_mode, S_IFDIR | 0755);
	assert_int_equal(look(dir, "new/a/b").st_uid, BASE);
	assert_int_equal(look(dir, "etc/x").st_mode, 0);
	assert_int_equal(look(dir, "nowhere").st_mode, 0);
	assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	image_free(image);
}

static unsigned starts(void)
{
	_cleanup_free_ char *path = xasprintf("%s/partial", store_dir);
	DIR *dir = opendir(path);
	struct dirent *entry;
	unsigned n = 0;

	MUST(dir);
	while ((entry = readdir(dir)))
		n += str_starts(entry->d_name, "start-");
	closedir(dir);
	return n;
}

static void count_progress(const struct image_progress *progress, void *arg)
{
	++*(unsigned *)arg;
	assert_string_equal(progress->layer, "111111111111");
}

static void a_public_image_is_pulled_once(void **state)
{
	unsigned progress = 0, before = starts();
	struct image_pull pull = {.reference = "reg.example.com/public",
		.cancel_fd = -1,
		.progress = count_progress,
		.arg = &progress};
	struct image *image;
	struct err err = {0};
	json_t *list;

	if (image_pull(store, &pull, &err, &image) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(progress, 1);
	assert_string_equal(image->reference, "reg.example.com/public:latest");
	assert_non_null(strstr(image->name_digest, "reg.example.com/public@sha256:2222"));
	assert_string_equal(image->config.cmd[0], "/bin/tool");
	image_free(image);

	assert_int_equal(image_pull(store, &pull, &err, &image), 0);
	image_free(image);
	assert_int_equal(starts(), before + 1);
	pull.always = true;
	assert_int_equal(image_pull(store, &pull, &err, &image), 0);
	image_free(image);
	assert_int_equal(starts(), before + 2);

	assert_int_equal(image_list(store, &err, &list), 0);
	assert_int_equal(json_array_size(list), 1);
	assert_int_equal(json_get_int(json_array_get(list, 0), "sizeBytes", 0), 3);
	json_decref(list);
	assert_int_equal(image_get(store, "reg.example.com/public:latest", &err, &image), 0);
	image_free(image);
	assert_int_equal(image_remove(store, "reg.example.com/public", &err), 0);
	assert_int_equal(image_remove(store, "reg.example.com/public", &err), -ENOENT);
	assert_int_equal(image_get(store, "reg.example.com/public", &err, &image), -ENOENT);
}

static void a_private_image_is_checked_for_each_group(void **state)
{
	struct image_credential credential = {"REG.example.com", "u", "p"};
	struct image_pull pull = {.reference = "reg.example.com/private",
		.credentials = &credential,
		.n_credentials = 1,
		.cancel_fd = -1};
	struct image *image;
	struct err err = {0};
	unsigned before = starts();

	assert_int_equal(image_pull(store, &pull, &err, &image), 0);
	image_free(image);
	assert_int_equal(image_pull(store, &pull, &err, &image), 0);
	image_free(image);
	assert_int_equal(starts(), before + 2);
	/* Another group, without the right credentials. */
	credential.server = "other.example.com";
	assert_int_equal(image_pull(store, &pull, &err, &image), -EACCES);
	assert_string_equal(err.code, "InaccessibleImage");
	assert_string_equal(err.message, "authentication required");
}

static void failures_of_the_worker_are_errors(void **state)
{
	static const struct {
		const char *reference, *code;
	} cases[] = {
		{"reg.example.com/absent", "InaccessibleImage"},
		{"reg.example.com/garbage", "RegistryErrorResponse"},
		{"reg.example.com/flood", "RegistryErrorResponse"},
		{"reg.example.com/crash", "RegistryErrorResponse"},
		{"reg.example.com/link", "InvalidImageLayer"},
		{"reg.example.com/BAD", "InvalidImageReference"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct image_pull pull = {.reference = cases[i].reference, .cancel_fd = -1};
		struct image *image;
		struct err err = {0};

		assert_true(image_pull(store, &pull, &err, &image) < 0);
		assert_string_equal(err.code, cases[i].code);
	}
}

static void a_hanging_worker_is_cancelled(void **state)
{
	_cleanup_fd_ int cancel = eventfd(0, EFD_CLOEXEC);
	struct image_pull pull = {.reference = "reg.example.com/hang", .cancel_fd = cancel};
	struct image *image;
	struct err err = {0};
	int64_t start = time_mono_ms();
	pid_t pid = fork();

	if (pid == 0) {
		usleep(200000);
		_exit(eventfd_write(cancel, 1) < 0);
	}
	assert_int_equal(image_pull(store, &pull, &err, &image), -ECANCELED);
	assert_string_equal(err.code, "Canceled");
	assert_true(time_mono_ms() - start < 5000);
	MUST(waitpid(pid, NULL, 0) == pid);
}

static void *pull_slow(void *arg)
{
	struct image_pull pull = {.reference = "reg.example.com/slow", .cancel_fd = -1};
	struct image *image = NULL;

	if (image_pull(store, &pull, NULL, &image) < 0)
		return NULL;
	image_free(image);
	return arg;
}

static void pulls_at_once_share_one_transfer(void **state)
{
	unsigned before = starts();
	pthread_t threads[6];
	void *result;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		MUST(pthread_create(&threads[i], NULL, pull_slow, &before) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &result);
		assert_non_null(result);
	}
	assert_int_equal(starts(), before + 1);
}

static void an_archive_may_name_itself(void **state)
{
	_cleanup_fd_ int archive = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct image *image;
	struct err err = {0};

	/* Descriptor 4 is the archive; the fake looks that there is no 5. */
	if (image_import(store, archive, NULL, &err, &image) < 0)
		fail_msg("%s", err.message);
	assert_string_equal(image->reference, "docker.io/library/named:latest");
	image_free(image);
	assert_int_equal(image_import(store, archive, "my/own:1", &err, &image), 0);
	assert_string_equal(image->reference, "docker.io/my/own:1");
	image_free(image);
}

static bool has_layer(const char *hex)
{
	return faccessat(store->layers_fd, hex, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void prune_leaves_what_is_in_use(void **state)
{
	struct image *image = hand_made(LOW, HIGH, NULL);
	_cleanup_free_ char *dir = container_dir("pruned");
	struct err err = {0};
	uint64_t freed = 0;
	int lock;

	assert_int_equal(image_rootfs_mount(store, image, dir, BASE, &err), 0);
	MUST(mkdirat(store->fd, "staging/left", 0700) == 0);
	lock = store_lock(store, false, 0);
	assert_true(lock >= 0);
	prune_staging(store);
	MUST(faccessat(store->fd, "staging/left", F_OK, 0) == 0);
	fd_close(lock);

	assert_int_equal(image_prune(store, &err, &freed), 0);
	assert_true(freed > 0);
	assert_true(faccessat(store->fd, "staging/left", F_OK, 0) < 0);
	assert_true(has_layer(LOW) && has_layer(HIGH));
	assert_true(has_layer("1111111111111111111111111111111111111111111111111111111111111111"));
	assert_false(has_layer("000000000000000000000000000000000000000000000000000000000000c000"));
	check_content(dir);
	assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	assert_int_equal(image_prune(store, &err, &freed), 0);
	assert_false(has_layer(LOW) || has_layer(HIGH));
	image_free(image);
}

/* No more than a look: the machine may be busy. */
static void a_mount_is_fast(void **state)
{
	struct image *image = hand_made(LOW, HIGH, NULL);
	struct err err = {0};
	int64_t total = 0, least = INT64_MAX;

	for (int i = 0; i < 20; i++) {
		_cleanup_free_ char *name = xasprintf("fast%d", i);
		_cleanup_free_ char *dir = container_dir(name);
		int64_t start = time_mono_ns();

		assert_int_equal(image_rootfs_mount(store, image, dir, BASE, &err), 0);
		total += time_mono_ns() - start;
		least = MIN(least, time_mono_ns() - start);
		assert_int_equal(image_rootfs_unmount(store, dir, &err), 0);
	}
	print_message("mount: mean %lld us, least %lld us\n", (long long)total / 20000,
		(long long)least / 1000);
	image_free(image);
}

static int layers_first(void **state)
{
	if (open_store(state) < 0)
		return -1;
	make_layers();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rootfs_shows_the_layers_as_the_groups),
		cmocka_unit_test(the_older_way_of_mounting_shows_the_same),
		cmocka_unit_test(changes_of_lower_files_keep_their_owner),
		cmocka_unit_test(repeated_and_missing_layers),
		cmocka_unit_test(a_hundred_and_twenty_eight_layers_fit),
		cmocka_unit_test(places_for_mounts_are_prepared_or_refused),
		cmocka_unit_test(places_that_requests_name_are_found_through_links),
		cmocka_unit_test(a_mount_is_fast),
		cmocka_unit_test(a_public_image_is_pulled_once),
		cmocka_unit_test(a_private_image_is_checked_for_each_group),
		cmocka_unit_test(failures_of_the_worker_are_errors),
		cmocka_unit_test(a_hanging_worker_is_cancelled),
		cmocka_unit_test(pulls_at_once_share_one_transfer),
		cmocka_unit_test(an_archive_may_name_itself),
		cmocka_unit_test(prune_leaves_what_is_in_use),
	};

	return cmocka_run_group_tests(tests, layers_first, close_store);
}
