#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "base/time.h"
#include "node/image/prune.h"
#include "node/image/store.h"

/* The worker's folders belong to its root. The store's own directory, the locks and the marks of
 * use are the node's, so that a worker that was taken over can't put another folder in the place of
 * one. */
static const struct {
	const char *name;
	bool worker;
} folders[] = {
	{"refs", true},
	{"manifests", true},
	{"layers", true},
	{"staging", true},
	{"partial", true},
	{"locks", false},
	{"uses", false},
	{"pins", false},
	{"used", false},
};

static int make_folder(int dir, const char *name, bool worker, struct err *err)
{
	uid_t uid = worker ? IMAGE_STORE_UID : 0;
	_cleanup_fd_ int fd = -EBADF;
	struct stat st;

	if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "image store: mkdir %s", name);
	fd = fd_open_beneath(dir, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return err_errno(err, fd, "image store: open %s", name);
	if (fstat(fd, &st) < 0 ||
		((st.st_uid != uid || st.st_gid != uid) && fchown(fd, uid, uid) < 0) ||
		((st.st_mode & 07777) != 0700 && fchmod(fd, 0700) < 0))
		return err_errno(err, -errno, "image store: own %s", name);
	return 0;
}

static int open_dir(struct image_store *store, struct err *err)
{
	int r = file_mkdirs(store->dir, 0755);

	if (r < 0)
		return err_errno(err, r, "make the image store %s", store->dir);
	store->fd = open(store->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (store->fd < 0)
		return err_errno(err, -errno, "open the image store %s", store->dir);
	/* The worker, a stranger here, opens it again and goes through it. */
	if (fchmod(store->fd, 0755) < 0)
		return err_errno(err, -errno, "mode of the image store %s", store->dir);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		r = make_folder(store->fd, folders[i].name, folders[i].worker, err);
		if (r < 0)
			return r;
	}
	store->layers_fd = fd_open_beneath(store->fd, "layers", O_RDONLY | O_DIRECTORY, 0);
	if (store->layers_fd < 0)
		return err_errno(err, store->layers_fd, "open the image store's layers");
	return 0;
}

DEFINE_CLEANUP(struct image_store *, image_store_close)

int image_store_open(
	const struct image_store_config *config, struct err *err, struct image_store **ret)
{
	_cleanup_(image_store_closep) struct image_store *store = xnew(struct image_store);
	int r;

	store->fd = store->layers_fd = store->worker_fd = -EBADF;
	store->dir = xstrdup(config->dir);
	store->ca_file = config->ca_file ? xstrdup(config->ca_file) : NULL;
	store->views = views_new();
	pthread_mutex_init(&store->lock, NULL);
	pthread_cond_init(&store->landed, NULL);

	r = open_dir(store, err);
	if (r < 0)
		return r;
	store->worker_fd = open(config->worker, O_PATH | O_CLOEXEC);
	if (store->worker_fd < 0)
		return err_errno(err, -errno, "open the image worker %s", config->worker);
	prune_staging(store);
	*ret = take_ptr(store);
	return 0;
}

void image_store_close(struct image_store *store)
{
	if (!store)
		return;
	assert(!store->flights);
	fd_close(store->fd);
	fd_close(store->layers_fd);
	fd_close(store->worker_fd);
	views_free(store->views);
	pthread_cond_destroy(&store->landed);
	pthread_mutex_destroy(&store->lock);
	free(store->dir);
	free(store->ca_file);
	free(store);
}

int store_lock(struct image_store *store, bool exclusive, int wait_ms)
{
	_cleanup_fd_ int fd = openat(store->fd, "locks", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int64_t deadline = time_mono_ms() + wait_ms;

	if (fd < 0)
		return -errno;
	while (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (time_mono_ms() >= deadline)
			return -EWOULDBLOCK;
		poll(NULL, 0, 20);
	}
	return take_fd(fd);
}

int store_read(
	struct image_store *store, const char *path, size_t max, char **ret_data, size_t *ret_len)
{
	_cleanup_buf_ struct buf buf = BUF_MAX(max + 1);
	_cleanup_fd_ int fd = -EBADF;
	struct stat st;
	ssize_t n;

	/* Not blocking: a fifo in the file's place must not hold us. */
	fd = fd_open_beneath(store->fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	do {
		n = buf_read(&buf, fd, 65536);
		if (n < 0)
			return (int)n;
		if (buf.len > max)
			return -EFBIG;
	} while (n > 0);
	*ret_len = buf.len;
	*ret_data = buf_take(&buf);
	return 0;
}

void store_ref_path(const char *full, char path[STORE_PATH_MAX])
{
	char hex[SHA256_HEX_MAX];

	sha256_hex(full, strlen(full), hex);
	snprintf(path, STORE_PATH_MAX, "refs/%s.json", hex);
}

void store_manifest_path(const char *digest, char path[STORE_PATH_MAX])
{
	const char *colon = strchr(digest, ':');

	assert(colon && digest_is_valid(digest));
	snprintf(path, STORE_PATH_MAX, "manifests/%.*s-%s.json", (int)(colon - digest), digest,
		colon + 1);
}

int store_read_ref(struct image_store *store, const char *full, struct ref_document *ret)
{
	_cleanup_free_ char *data = NULL;
	struct ref_document ref;
	char path[STORE_PATH_MAX];
	size_t len;
	int r;

	store_ref_path(full, path);
	r = store_read(store, path, REF_FILE_MAX, &data, &len);
	if (r == 0)
		r = ref_document_parse(data, len, &ref);
	if (r == 0 && !str_eq(ref.reference, full))
		r = -EBADMSG;
	if (r < 0) {
		if (r != -ENOENT)
			log_warn("image store: %s can't be read: %s", path, err_str(r));
		return -ENOENT;
	}
	*ret = ref;
	return 0;
}

int store_open_layer(int layers, const char *hex)
{
	assert(hex_valid(hex, 64));
	return fd_open_beneath(layers, hex, O_PATH | O_DIRECTORY, 0);
}

DEFINE_CLEANUP(struct image *, image_free)

int store_read_image(struct image_store *store, const struct reference *reference,
	const char *digest, struct image **ret)
{
	_cleanup_(image_freep) struct image *image = NULL;
	_cleanup_free_ char *data = NULL;
	char path[STORE_PATH_MAX];
	size_t len;
	int r;

	store_manifest_path(digest, path);
	r = store_read(store, path, MANIFEST_FILE_MAX, &data, &len);
	if (r == 0)
		r = manifest_document_parse(data, len, digest, &image);
	if (r < 0) {
		if (r != -ENOENT)
			log_warn("image store: %s can't be read: %s", path, err_str(r));
		return -ENOENT;
	}
	for (char **layer = image->layers; *layer; layer++) {
		struct stat st;

		if (fstatat(store->layers_fd, *layer, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			!S_ISDIR(st.st_mode))
			return -ENOENT;
	}
	image->reference = xstrdup(reference->full);
	image->name_digest = xasprintf("%s@%s", reference->name, digest);
	*ret = take_ptr(image);
	return 0;
}

int image_get(struct image_store *store, const char *text, struct err *err, struct image **ret)
{
	struct reference reference = {0};
	struct ref_document ref;
	int r = reference_parse(text, err, &reference);

	if (r < 0)
		return r;
	r = store_read_ref(store, reference.full, &ref);
	if (r == 0)
		r = store_read_image(store, &reference, ref.digest, ret);
	if (r < 0)
		err_set(err, r, "ImageNotFound", "The image '%s' is not in this node's cache.",
			reference.full);
	reference_done(&reference);
	return r;
}

static json_t *list_entry(struct image_store *store, const struct ref_document *ref)
{
	struct reference reference = {0};
	struct image *image = NULL;
	json_t *entry = NULL;
	char used[TIME_STR_MAX];

	if (reference_parse(ref->reference, NULL, &reference) < 0)
		return NULL;
	if (store_read_image(store, &reference, ref->digest, &image) == 0)
		entry = json_pack("{s:s, s:s, s:I, s:s, s:b}", "reference", ref->reference,
			"digest", ref->digest, "sizeBytes", (json_int_t)image->size_bytes, "pulled",
			ref->pulled, "pinned", store_is_pinned(store, ref->reference));
	if (entry && store_used_ms(store, ref->reference) > 0)
		json_put_str(
			entry, "used", time_format(store_used_ms(store, ref->reference), 0, used));
	image_free(image);
	reference_done(&reference);
	return entry;
}

/* The shape of a file's name in refs: 64 hex digits and ".json". */
static bool is_ref_name(const char *name)
{
	char hex[65];

	if (strlen(name) != 69 || !str_eq(name + 64, ".json"))
		return false;
	memcpy(hex, name, 64);
	hex[64] = '\0';
	return hex_valid(hex, 64);
}

int store_each_ref(
	struct image_store *store, void (*fn)(const struct ref_document *ref, void *arg), void *arg)
{
	struct dirent *entry;
	DIR *dir;
	int r = fd_opendir_beneath(store->fd, "refs", &dir);

	if (r < 0)
		return r;
	while ((entry = readdir(dir))) {
		_cleanup_free_ char *data = NULL;
		struct ref_document ref;
		char path[STORE_PATH_MAX], expected[STORE_PATH_MAX];
		size_t len;

		if (!is_ref_name(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "refs/%.80s", entry->d_name);
		if (store_read(store, path, REF_FILE_MAX, &data, &len) < 0 ||
			ref_document_parse(data, len, &ref) < 0)
			continue;
		store_ref_path(ref.reference, expected);
		if (str_eq(path, expected))
			fn(&ref, arg);
	}
	closedir(dir);
	return 0;
}

struct listing {
	struct image_store *store;
	json_t *array;
};

static void add_to_list(const struct ref_document *ref, void *arg)
{
	struct listing *listing = arg;
	json_t *entry = list_entry(listing->store, ref);

	if (entry)
		json_array_append_new(listing->array, entry);
}

static int compare_entries(const void *a, const void *b)
{
	return strcmp(json_get_str(*(json_t *const *)a, "reference", ""),
		json_get_str(*(json_t *const *)b, "reference", ""));
}

int image_list(struct image_store *store, struct err *err, json_t **ret)
{
	struct listing listing = {.store = store, .array = json_array()};
	size_t n;
	json_t **sorted;
	int r = store_each_ref(store, add_to_list, &listing);

	if (r < 0) {
		json_decref(listing.array);
		return err_errno(err, r, "list the image store");
	}
	n = json_array_size(listing.array);
	sorted = xcalloc(n + 1, sizeof(*sorted));
	for (size_t i = 0; i < n; i++)
		sorted[i] = json_incref(json_array_get(listing.array, i));
	qsort(sorted, n, sizeof(*sorted), compare_entries);
	json_array_clear(listing.array);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(listing.array, sorted[i]);
	free(sorted);
	*ret = listing.array;
	return 0;
}

int image_remove(struct image_store *store, const char *text, struct err *err)
{
	struct reference reference = {0};
	_cleanup_fd_ int refs = -EBADF;
	char path[STORE_PATH_MAX];
	int r = reference_parse(text, err, &reference);

	if (r < 0)
		return r;
	if (store_is_pinned(store, reference.full)) {
		r = err_set(err, -EBUSY, "ImagePinned",
			"The image '%s' is pinned. To remove it, unpin it first.", reference.full);
		reference_done(&reference);
		return r;
	}
	store_ref_path(reference.full, path);
	refs = fd_open_beneath(store->fd, "refs", O_RDONLY | O_DIRECTORY, 0);
	if (refs < 0)
		r = err_errno(err, refs, "open the image store's references");
	else if (unlinkat(refs, path + strlen("refs/"), 0) < 0)
		r = errno == ENOENT
			    ? err_set(err, -ENOENT, "ImageNotFound",
				      "The image '%s' is not in this node's cache.", reference.full)
			    : err_errno(err, -errno, "remove the image '%s'", reference.full);
	else
		store_forget_notes(store, reference.full);
	reference_done(&reference);
	return r;
}

static void use_path(const char *dir, char path[STORE_PATH_MAX])
{
	char hex[SHA256_HEX_MAX];

	sha256_hex(dir, strlen(dir), hex);
	snprintf(path, STORE_PATH_MAX, "uses/%s", hex);
}

int store_mark_use(struct image_store *store, const char *dir, const struct image *image)
{
	json_t *array = json_array();
	_cleanup_json_ json_t *mark = NULL;
	_cleanup_free_ char *text = NULL;
	char path[STORE_PATH_MAX];

	for (char *const *layer = image->layers; *layer; layer++)
		json_array_append_new(array, json_string(*layer));
	mark = json_pack(
		"{s:s, s:s, s:o}", "dir", dir, "reference", image->reference, "layers", array);
	if (!mark)
		return -EINVAL;
	text = json_text(mark);
	use_path(dir, path);
	store_touch(store, image->reference, true);
	return file_write_replace(store->fd, path, text, strlen(text), 0600);
}

void store_unmark_use(struct image_store *store, const char *dir)
{
	_cleanup_json_ json_t *mark = NULL;
	_cleanup_free_ char *data = NULL;
	char path[STORE_PATH_MAX];
	size_t len;

	use_path(dir, path);
	if (file_read(store->fd, path, USE_FILE_MAX, &data, &len) == 0 &&
		json_parse(data, len, 4, NULL, &mark) == 0)
		store_touch(store, json_get_str(mark, "reference", ""), false);
	unlinkat(store->fd, path, 0);
}
