/*
 * node/image at the command line, for tests and for a look by hand: image_tool STORE WORKER COMMAND
 * … pull REFERENCE [USER PASSWORD]   always REFERENCE [USER PASSWORD]   import PATH [REFERENCE]
 *   list   remove REFERENCE   pin REFERENCE   unpin REFERENCE   unused (removes them)   prune
 *   run DIR REFERENCE UID-BASE PROGRAM [ARGUMENT…]   in a root file system of the cached image, as
 * the group's root Answers are JSON on standard output; a failure is {"code","message"} and exit 1.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/json.h"
#include "base/time.h"
#include "node/image/image.h"

static int show(json_t *value)
{
	_cleanup_free_ char *text = json_text(value);

	puts(text);
	json_decref(value);
	return 0;
}

static json_t *strings(char *const *list)
{
	json_t *array = json_array();

	for (; list && *list; list++)
		json_array_append_new(array, json_string(*list));
	return array;
}

static int show_image(struct image *image)
{
	json_t *value = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:s?, s:I}", "reference",
		image->reference, "digest", image->digest, "nameDigest", image->name_digest,
		"layers", strings(image->layers), "cmd", strings(image->config.cmd), "env",
		strings(image->config.env), "user", image->config.user, "size",
		(json_int_t)image->size_bytes);

	image_free(image);
	return show(value);
}

static int pull(struct image_store *store, bool always, int argc, char **argv, struct err *err)
{
	_cleanup_free_ char *server = xstrndup(argv[0], strcspn(argv[0], "/"));
	struct image_credential credential = {
		server, argc == 3 ? argv[1] : NULL, argc == 3 ? argv[2] : NULL};
	struct image_pull request = {.reference = argv[0],
		.always = always,
		.allow_loopback_http = true,
		.cancel_fd = -1};
	struct image *image;
	int r;

	if (argc == 3) {
		request.credentials = &credential;
		request.n_credentials = 1;
	}
	r = image_pull(store, &request, err, &image);
	return r < 0 ? r : show_image(image);
}

static int import(
	struct image_store *store, const char *path, const char *reference, struct err *err)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct image *image;
	int r;

	if (fd < 0)
		return err_errno(err, -errno, "open %s", path);
	r = image_import(store, fd, reference, err, &image);
	return r < 0 ? r : show_image(image);
}

static int run_inside(const char *dir, uint32_t uid, char **argv)
{
	_cleanup_free_ char *root = xasprintf("%s/rootfs", dir);
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (chroot(root) < 0 || chdir("/") < 0 || setresgid(uid, uid, uid) < 0 ||
			setresuid(uid, uid, uid) < 0)
			_exit(126);
		execv(argv[0], argv);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Reads the image from the cache, mounts it, makes the places for mounts. */
static int make_root(struct image_store *store, const char *dir, const char *reference,
	uint32_t uid, struct err *err)
{
	static const char *const dirs[] = {"/dev", "/proc", "/sys", "/etc", NULL};
	static const char *const files[] = {"/etc/hosts", "/etc/resolv.conf", NULL};
	struct image *image = NULL;
	int r = image_get(store, reference, err, &image);

	if (r == 0)
		r = image_rootfs_mount(store, image, dir, uid, err);
	if (r == 0)
		r = image_rootfs_prepare(dir, uid, dirs, files, err);
	image_free(image);
	return r;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static int measure(struct image_store *store, char **argv, struct err *err)
{
	enum { ROUNDS_MAX = 1000 };
	int64_t ready[ROUNDS_MAX], gone[ROUNDS_MAX];
	uint64_t base, rounds;
	int r = 0;

	if (str_to_u64(argv[2], UINT32_MAX, &base) < 0 ||
		str_to_u64(argv[3], ROUNDS_MAX, &rounds) < 0 || rounds == 0)
		return err_set(err, -EINVAL, "Usage", "bad number");
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(err, -errno, "mount namespace");
	for (uint64_t i = 0; r == 0 && i < rounds; i++) {
		int64_t start = time_mono_ns();

		r = make_root(store, argv[0], argv[1], (uint32_t)base, err);
		ready[i] = (time_mono_ns() - start) / 1000;
		start = time_mono_ns();
		if (image_rootfs_unmount(store, argv[0], r < 0 ? NULL : err) < 0 && r == 0)
			r = err->r;
		gone[i] = (time_mono_ns() - start) / 1000;
	}
	if (r < 0)
		return r;
	qsort(ready, rounds, sizeof(*ready), compare);
	qsort(gone, rounds, sizeof(*gone), compare);
	return show(json_pack("{s:I, s:I, s:I}", "p50", (json_int_t)ready[rounds / 2], "p95",
		(json_int_t)ready[rounds * 95 / 100], "gone50", (json_int_t)gone[rounds / 2]));
}

static int run(struct image_store *store, char **argv, struct err *err)
{
	uint64_t base;
	int64_t start;
	int r;

	if (str_to_u64(argv[2], UINT32_MAX, &base) < 0)
		return err_set(err, -EINVAL, "Usage", "bad id");
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(err, -errno, "mount namespace");
	start = time_mono_ns();
	r = make_root(store, argv[0], argv[1], (uint32_t)base, err);
	if (r == 0) {
		fprintf(stderr, "ready after %lld us\n",
			(long long)(time_mono_ns() - start) / 1000);
		r = run_inside(argv[0], (uint32_t)base, argv + 3);
	}
	/* Also after a failure: what was prepared for one image must not cover another one. */
	if (image_rootfs_unmount(store, argv[0], r < 0 ? NULL : err) < 0 && r >= 0)
		r = err->r;
	return r;
}

static int command(struct image_store *store, int argc, char **argv, struct err *err)
{
	const char *name = argv[0];
	uint64_t freed;
	json_t *list;
	int r;

	if (argc >= 2 && (str_eq(name, "pull") || str_eq(name, "always")))
		return pull(store, str_eq(name, "always"), argc - 1, argv + 1, err);
	if (argc >= 2 && str_eq(name, "import"))
		return import(store, argv[1], argc > 2 ? argv[2] : NULL, err);
	if (argc >= 2 && str_eq(name, "remove"))
		return image_remove(store, argv[1], err);
	if (argc >= 2 && (str_eq(name, "pin") || str_eq(name, "unpin")))
		return image_pin(store, argv[1], str_eq(name, "pin"), err);
	if (argc == 1 && str_eq(name, "unused")) {
		r = image_remove_unused(store, 0, err, &list);
		return r < 0 ? r : show(list);
	}
	if (argc >= 5 && str_eq(name, "run"))
		return run(store, argv + 1, err);
	if (argc == 5 && str_eq(name, "time"))
		return measure(store, argv + 1, err);
	if (str_eq(name, "list")) {
		r = image_list(store, err, &list);
		return r < 0 ? r : show(list);
	}
	if (str_eq(name, "prune")) {
		r = image_prune(store, err, &freed);
		return r < 0 ? r : show(json_pack("{s:I}", "freed", (json_int_t)freed));
	}
	return err_set(err, -EINVAL, "Usage", "see image_tool.c");
}

int main(int argc, char **argv)
{
	struct image_store_config config;
	struct image_store *store = NULL;
	struct err err = {0};
	int r;

	if (argc < 4) {
		fprintf(stderr, "usage: image_tool STORE WORKER COMMAND ...\n");
		return 2;
	}
	log_init("image_tool", LOG_LEVEL_INFO);
	config = (struct image_store_config){.dir = argv[1], .worker = argv[2]};
	r = image_store_open(&config, &err, &store);
	if (r == 0)
		r = command(store, argc - 3, argv + 3, &err);
	image_store_close(store);
	if (r < 0)
		show(json_pack("{s:s, s:s}", "code", err.code, "message", err.message));
	return r < 0 ? 1 : r;
}
