#include "worker/pull/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "base/time.h"
#include "worker/pull/job.h"

/* The layer's unpacked size lives with the layer, so that an image made of layers that are there
 * knows its own. */
#define SIZE_XATTR "user.berth.size"

enum { LOCK_EVERY_US = 50000, RECORD_BYTES_MAX = 4 << 20 };

static int open_sub(int dirfd, const char *name, struct err *err, int *ret)
{
	int fd;

	if (mkdirat(dirfd, name, 0755) < 0 && errno != EEXIST)
		return err_errno(
			err, -errno, "The content store's folder '%s' could not be made", name);
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(
			err, -errno, "The content store's folder '%s' could not be opened", name);
	*ret = fd;
	return 0;
}

/* Takes the lock without waiting; false when somebody has it. */
static bool try_lock(int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static bool still_named(int dir, const char *name, int fd)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && fstatat(dir, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* Staging directories of workers that were killed. */
static void sweep(struct store *store)
{
	int fd = fcntl(store->staging, F_DUPFD_CLOEXEC, 3);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		fd_close(fd);
		return;
	}
	rewinddir(dir);
	while ((entry = readdir(dir))) {
		_cleanup_fd_ int sub = -EBADF;

		if (entry->d_name[0] == '.' || entry->d_type != DT_DIR)
			continue;
		sub = openat(store->staging, entry->d_name,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0 && try_lock(sub))
			(void)file_remove_tree(store->staging, entry->d_name);
	}
	closedir(dir);
}

int store_open(int dirfd, struct err *err, struct store *ret)
{
	_cleanup_(store_done) struct store store = STORE_INIT;
	int r;

	store.dir = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store.dir < 0)
		return err_errno(err, -errno, "The content store could not be opened");
	r = open_sub(store.dir, "refs", err, &store.refs);
	if (r == 0)
		r = open_sub(store.dir, "manifests", err, &store.manifests);
	if (r == 0)
		r = open_sub(store.dir, "layers", err, &store.layers);
	if (r == 0)
		r = open_sub(store.dir, "staging", err, &store.staging);
	if (r == 0)
		r = open_sub(store.dir, "partial", err, &store.partial);
	if (r < 0)
		return r;
	sweep(&store);
	*ret = store;
	store = STORE_INIT;
	return 0;
}

void store_done(struct store *store)
{
	fd_close(store->dir);
	fd_close(store->refs);
	fd_close(store->manifests);
	fd_close(store->layers);
	fd_close(store->staging);
	fd_close(store->partial);
	*store = STORE_INIT;
}

int staging_new(struct store *store, struct err *err, struct staging *ret)
{
	for (int attempt = 0; attempt < 10; attempt++) {
		struct staging staging = STAGING_INIT;

		random_uuid(staging.name);
		if (mkdirat(store->staging, staging.name, 0700) < 0)
			return err_errno(err, -errno, "The staging folder could not be made");
		staging.fd = openat(store->staging, staging.name,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		/* Another worker's sweep may have come between. */
		if (staging.fd >= 0 && try_lock(staging.fd) &&
			still_named(store->staging, staging.name, staging.fd)) {
			*ret = staging;
			return 0;
		}
		fd_close(staging.fd);
	}
	return err_set(err, -EBUSY, "InternalError", "The staging folder could not be locked.");
}

void staging_done(struct store *store, struct staging *staging)
{
	if (staging->fd < 0)
		return;
	(void)file_remove_tree(store->staging, staging->name);
	staging->fd = fd_close(staging->fd);
}

static void lock_name(const char *diff_id, char ret[160])
{
	snprintf(ret, 160, "%s.lock", digest_hex(diff_id));
}

int store_lock_layer(struct store *store, const char *diff_id, struct err *err, int *ret_lock)
{
	char name[160];

	lock_name(diff_id, name);
	for (;;) {
		_cleanup_fd_ int fd = openat(
			store->staging, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

		if (fd < 0)
			return err_errno(err, -errno, "The layer's lock could not be opened");
		if (try_lock(fd)) {
			if (!still_named(store->staging, name, fd))
				continue;
			*ret_lock = take_fd(fd);
			return 0;
		}
		if (job_cancelled())
			return job_canceled_err(err);
		usleep(LOCK_EVERY_US);
	}
}

void store_unlock_layer(struct store *store, const char *diff_id, int *lock)
{
	char name[160];

	if (*lock < 0)
		return;
	lock_name(diff_id, name);
	/* Unlinked while held: who waits on this file sees that it lost its name and opens a new
	 * one. */
	(void)unlinkat(store->staging, name, 0);
	*lock = fd_close(*lock);
}

bool store_has_layer(const struct store *store, const char *diff_id)
{
	return faccessat(store->layers, digest_hex(diff_id), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

uint64_t store_layer_size(const struct store *store, const char *diff_id)
{
	_cleanup_fd_ int fd = openat(store->layers, digest_hex(diff_id),
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char text[24];
	uint64_t size;
	ssize_t n;

	n = fd < 0 ? -1 : fgetxattr(fd, SIZE_XATTR, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return str_to_u64(text, INT64_MAX, &size) == 0 ? size : 0;
}

int store_commit_layer(struct store *store, const struct staging *staging, const char *name,
	const char *diff_id, uint64_t size, struct err *err)
{
	_cleanup_fd_ int fd =
		openat(staging->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char text[24];

	if (fd < 0)
		return err_errno(err, -errno, "The layer's staging folder could not be opened");
	snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	(void)fsetxattr(fd, SIZE_XATTR, text, strlen(text), 0);
	/* A layer is complete by being there, also after a power cut: content first, name second.
	 * One sync of the file system costs less than one for each of thousands of files. */
	if (syncfs(fd) < 0)
		return err_errno(err, -errno, "The layer could not be written to disk");
	if (renameat(staging->fd, name, store->layers, digest_hex(diff_id)) < 0 &&
		errno != ENOTEMPTY && errno != EEXIST)
		return err_errno(err, -errno, "The layer could not be moved into the store");
	(void)fsync(store->layers);
	return 0;
}

static int write_json(int dir, const char *name, const json_t *value, struct err *err)
{
	_cleanup_free_ char *text = json_text(value);
	int r;

	if (strlen(text) > RECORD_BYTES_MAX)
		return err_set(err, -EFBIG, "ImageTooLarge", "its config is larger than 4 MiB.");
	r = file_write_atomic(dir, name, text, strlen(text), 0644);
	if (r == -ENOSPC || r == -EDQUOT)
		return err_set(err, r, "NodeStorageFull", "There is no space left for the image.");
	return r < 0 ? err_errno(err, r, "The image's record could not be written") : 0;
}

static json_t *read_json(int dir, const char *name)
{
	_cleanup_free_ char *text = NULL;
	json_t *value = NULL;
	size_t len;

	if (file_read(dir, name, RECORD_BYTES_MAX, &text, &len) < 0 ||
		json_parse(text, len, JSON_DEPTH_MAX, NULL, &value) < 0)
		return NULL;
	return value;
}

int store_write_manifest(
	struct store *store, const char *digest, const json_t *manifest, struct err *err)
{
	char name[DIGEST_MAX], file[DIGEST_MAX + 8];

	snprintf(file, sizeof(file), "%s.json", digest_file_name(digest, name));
	return write_json(store->manifests, file, manifest, err);
}

static void ref_name(const char *reference, char ret[SHA256_HEX_MAX + 8])
{
	char hex[SHA256_HEX_MAX];

	sha256_hex(reference, strlen(reference), hex);
	snprintf(ret, SHA256_HEX_MAX + 8, "%s.json", hex);
}

int store_write_ref(struct store *store, const char *reference, const char *digest, const char *top,
	bool is_private, bool imported, struct err *err)
{
	char file[SHA256_HEX_MAX + 8], now[TIME_STR_MAX];
	_cleanup_json_ json_t *ref = json_pack("{s:s, s:s, s:s, s:b, s:b}", "reference", reference,
		"digest", digest, "pulled", time_format(time_now_ms(), 0, now), "private",
		is_private, "imported", imported);

	if (top && !str_eq(top, digest))
		json_put_str(ref, "index", top);
	ref_name(reference, file);
	return write_json(store->refs, file, ref, err);
}

json_t *store_read_ref(const struct store *store, const char *reference)
{
	char file[SHA256_HEX_MAX + 8];

	ref_name(reference, file);
	return read_json(store->refs, file);
}

json_t *store_read_manifest(const struct store *store, const char *digest)
{
	char name[DIGEST_MAX], file[DIGEST_MAX + 8];

	snprintf(file, sizeof(file), "%s.json", digest_file_name(digest, name));
	return read_json(store->manifests, file);
}
