/* What the node itself notes about references, beside what the worker wrote: which must stay, and
 * when a container last stood on one. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/random.h"
#include "node/image/store.h"

#define LOCK_WAIT_MS 10000

static void note_path(const char *folder, const char *full, char path[STORE_PATH_MAX])
{
	char hex[SHA256_HEX_MAX];

	sha256_hex(full, strlen(full), hex);
	snprintf(path, STORE_PATH_MAX, "%s/%s", folder, hex);
}

static bool is_there(const struct image_store *store, const char *path)
{
	return faccessat(store->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool store_is_pinned(const struct image_store *store, const char *full)
{
	char path[STORE_PATH_MAX];

	note_path("pins", full, path);
	return is_there(store, path);
}

void store_touch(struct image_store *store, const char *full, bool create)
{
	char path[STORE_PATH_MAX];
	_cleanup_fd_ int fd = -EBADF;

	note_path("used", full, path);
	fd = openat(store->fd, path,
		O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | (create ? O_CREAT : 0), 0600);
	if (fd >= 0)
		futimens(fd, NULL);
}

void store_forget_notes(struct image_store *store, const char *full)
{
	char path[STORE_PATH_MAX];

	note_path("used", full, path);
	unlinkat(store->fd, path, 0);
	note_path("pins", full, path);
	unlinkat(store->fd, path, 0);
}

static int64_t changed_ms(const struct image_store *store, const char *path)
{
	struct stat st;

	if (fstatat(store->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
}

int64_t store_used_ms(const struct image_store *store, const char *full)
{
	char path[STORE_PATH_MAX];

	note_path("used", full, path);
	return changed_ms(store, path);
}

int64_t store_pulled_ms(const struct image_store *store, const char *full)
{
	char path[STORE_PATH_MAX];

	store_ref_path(full, path);
	return changed_ms(store, path);
}

int image_pin(struct image_store *store, const char *text, bool pin, struct err *err)
{
	_cleanup_fd_ int lock = -EBADF;
	struct reference reference = {0};
	char path[STORE_PATH_MAX];
	struct image *image = NULL;
	int r = reference_parse(text, err, &reference);

	if (r < 0)
		return r;
	lock = store_lock(store, false, LOCK_WAIT_MS);
	note_path("pins", reference.full, path);
	if (lock < 0)
		r = err_errno(err, lock, "lock the image store");
	else if (pin)
		r = image_get(store, text, err, &image);
	if (r == 0 && pin) {
		r = file_write_atomic(
			store->fd, path, reference.full, strlen(reference.full), 0600);
		if (r < 0)
			err_errno(err, r, "pin the image '%s'", reference.full);
	} else if (r == 0 && unlinkat(store->fd, path, 0) < 0 && errno != ENOENT) {
		r = err_errno(err, -errno, "unpin the image '%s'", reference.full);
	}
	image_free(image);
	reference_done(&reference);
	return r;
}
