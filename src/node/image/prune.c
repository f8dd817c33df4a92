#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "node/image/prune.h"
#include "node/image/store.h"

#define LOCK_WAIT_MS 10000
#define SIZE_DEPTH_MAX 128

static bool is_dots(const char *name)
{
	return str_eq(name, ".") || str_eq(name, "..");
}

static void empty_folder(struct image_store *store, const char *name)
{
	struct dirent *entry;
	DIR *dir;

	if (fd_opendir_beneath(store->fd, name, &dir) < 0)
		return;
	while ((entry = readdir(dir)))
		if (!is_dots(entry->d_name))
			file_remove_tree(dirfd(dir), entry->d_name);
	closedir(dir);
}

void prune_staging(struct image_store *store)
{
	_cleanup_fd_ int lock = store_lock(store, true, 0);

	if (lock >= 0)
		empty_folder(store, "staging");
}

static int prune_lock_failed(int r, struct err *err)
{
	if (r == -EWOULDBLOCK)
		return err_set(err, -EBUSY, "ImageStoreBusy",
			"Images are being pulled or imported; try again later.");
	return err_errno(err, r, "lock the image store");
}

/* Sets of names, as objects whose members are true. */
struct needed {
	struct image_store *store;
	json_t *manifests; /* file names */
	json_t *layers;	   /* hex */
};

static void need_reference(const struct ref_document *ref, void *arg)
{
	struct needed *needed = arg;
	struct reference reference = {0};
	struct image *image = NULL;
	char path[STORE_PATH_MAX];

	store_manifest_path(ref->digest, path);
	json_object_set_new(needed->manifests, path + strlen("manifests/"), json_true());
	if (reference_parse(ref->reference, NULL, &reference) < 0)
		return;
	if (store_read_image(needed->store, &reference, ref->digest, &image) == 0)
		for (char **layer = image->layers; *layer; layer++)
			json_object_set_new(needed->layers, *layer, json_true());
	image_free(image);
	reference_done(&reference);
}

/* A mark whose root file system is gone, after a crash between two steps, counts no more. */
static void need_uses(struct needed *needed)
{
	struct dirent *entry;
	DIR *dir;

	if (fd_opendir_beneath(needed->store->fd, "uses", &dir) < 0)
		return;
	while ((entry = readdir(dir))) {
		_cleanup_free_ char *data = NULL;
		_cleanup_json_ json_t *mark = NULL;
		const char *root;
		json_t *layer;
		size_t i, len;

		if (is_dots(entry->d_name))
			continue;
		if (file_read(dirfd(dir), entry->d_name, USE_FILE_MAX, &data, &len) < 0 ||
			json_parse(data, len, 4, NULL, &mark) < 0)
			continue;
		root = json_get_str(mark, "dir", "");
		if (access(root, F_OK) < 0 && errno == ENOENT) {
			unlinkat(dirfd(dir), entry->d_name, 0);
			continue;
		}
		json_array_foreach (json_get_arr(mark, "layers"), i, layer)
			json_object_set_new(needed->layers, json_string_value(layer), json_true());
	}
	closedir(dir);
}

/* --- images that nobody uses --- */

struct unused {
	struct needed needed; /* by containers */
	int64_t before_ms;
	json_t *references;
};

static bool stands_on(const json_t *layers, const struct image *image)
{
	size_t n = 0;

	while (image->layers[n])
		n++;
	return n > 0 && json_object_get(layers, image->layers[n - 1]);
}

static void add_unused(const struct ref_document *ref, void *arg)
{
	struct unused *unused = arg;
	struct image_store *store = unused->needed.store;
	struct reference reference = {0};
	struct image *image = NULL;
	bool used = store_is_pinned(store, ref->reference) ||
		    store_used_ms(store, ref->reference) >= unused->before_ms ||
		    store_pulled_ms(store, ref->reference) >= unused->before_ms;

	if (used || reference_parse(ref->reference, NULL, &reference) < 0)
		return;
	if (store_read_image(store, &reference, ref->digest, &image) < 0 ||
		!stands_on(unused->needed.layers, image))
		json_array_append_new(unused->references, json_string(ref->reference));
	image_free(image);
	reference_done(&reference);
}

int image_remove_unused(
	struct image_store *store, int64_t unused_ms, struct err *err, json_t **ret_references)
{
	_cleanup_fd_ int lock = store_lock(store, true, LOCK_WAIT_MS);
	struct unused unused = {.needed = {.store = store}};
	json_t *reference;
	size_t i;
	int r;

	if (lock < 0)
		return prune_lock_failed(lock, err);
	unused.before_ms = unused_ms > 0 ? time_now_ms() - unused_ms : INT64_MAX;
	unused.references = json_array();
	unused.needed.layers = json_object();
	need_uses(&unused.needed);
	r = store_each_ref(store, add_unused, &unused);
	if (r < 0)
		err_errno(err, r, "read the image store");
	json_array_foreach (unused.references, i, reference)
		if (r == 0)
			r = image_remove(store, json_string_value(reference), err);
	json_decref(unused.needed.layers);
	if (r == 0)
		*ret_references = unused.references;
	else
		json_decref(unused.references);
	return r;
}

/* Bytes on disk below a directory. A hard link's file is counted once for each name, which is good
 * enough here. */
static uint64_t tree_bytes(int parent, const char *name, unsigned depth)
{
	uint64_t bytes = 0;
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	if (fd_opendir_beneath(parent, name, &dir) < 0)
		return 0;
	while ((entry = readdir(dir))) {
		if (is_dots(entry->d_name) ||
			fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		bytes += (uint64_t)st.st_blocks * 512;
		if (S_ISDIR(st.st_mode) && depth < SIZE_DEPTH_MAX)
			bytes += tree_bytes(dirfd(dir), entry->d_name, depth + 1);
	}
	closedir(dir);
	return bytes;
}

static void remove_others(
	struct image_store *store, const char *folder, const json_t *keep, uint64_t *freed)
{
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	if (fd_opendir_beneath(store->fd, folder, &dir) < 0)
		return;
	while ((entry = readdir(dir))) {
		uint64_t bytes;

		if (is_dots(entry->d_name) || json_object_get(keep, entry->d_name))
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		bytes = (uint64_t)st.st_blocks * 512;
		if (S_ISDIR(st.st_mode))
			bytes += tree_bytes(dirfd(dir), entry->d_name, 0);
		if (file_remove_tree(dirfd(dir), entry->d_name) == 0)
			*freed += bytes;
	}
	closedir(dir);
}

int image_prune(struct image_store *store, struct err *err, uint64_t *ret_freed_bytes)
{
	_cleanup_fd_ int lock = store_lock(store, true, LOCK_WAIT_MS);
	struct needed needed = {.store = store};
	uint64_t freed = 0;
	int r;

	if (lock < 0)
		return prune_lock_failed(lock, err);

	needed.manifests = json_object();
	needed.layers = json_object();
	r = store_each_ref(store, need_reference, &needed);
	if (r == 0) {
		need_uses(&needed);
		remove_others(store, "manifests", needed.manifests, &freed);
		remove_others(store, "layers", needed.layers, &freed);
		remove_others(store, "partial", NULL, &freed);
		remove_others(store, "staging", NULL, &freed);
		/* Who waits for one of these holds the store's lock, so nobody does. */
		remove_others(store, "locks", NULL, &freed);
	} else {
		err_errno(err, r, "read the image store");
	}
	json_decref(needed.manifests);
	json_decref(needed.layers);
	if (r == 0)
		*ret_freed_bytes = freed;
	return r;
}
