#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/file.h"
#include "node/image/overlay.h"
#include "node/image/rootfs.h"
#include "node/image/store.h"

#define LOCK_WAIT_MS 30000

/* The layers of an image as the group sees them, top-most first. */
struct attached {
	int view; /* the mount that they are in */
	int fds[IMAGE_LAYERS_MAX];
	size_t n;
	struct stat top; /* the root directory of the top-most layer */
};

static void attached_done(struct attached *attached)
{
	for (size_t i = 0; i < attached->n; i++)
		fd_close(attached->fds[i]);
	fd_close(attached->view);
}

/* The same layer twice (the empty one, mostly) would make overlayfs refuse. The upper place hides
 * all that the lower one shows or hides, so the lower one goes. */
static bool is_repeated_above(char *const *layers, size_t n, size_t i)
{
	for (size_t k = i + 1; k < n; k++)
		if (str_eq(layers[k], layers[i]))
			return true;
	return false;
}

static int attach_layers(struct image_store *store, const struct image *image, struct err *err,
	struct attached *attached)
{
	size_t n = 0;

	while (image->layers[n])
		n++;
	if (n > IMAGE_LAYERS_MAX)
		return err_set(err, -E2BIG, "InvalidImageLayer",
			"The image '%s' has more than %d layers.", image->reference,
			IMAGE_LAYERS_MAX);
	for (size_t i = n; i-- > 0;) {
		int fd;

		if (is_repeated_above(image->layers, n, i))
			continue;
		fd = store_open_layer(attached->view, image->layers[i]);
		if (fd < 0)
			return err_set(err, fd, "InaccessibleImage",
				"The image '%s' is no longer complete in this node's cache "
				"(layer %.12s: %s).",
				image->reference, image->layers[i], err_str(fd));
		attached->fds[attached->n++] = fd;
	}
	return 0;
}

/* An image without layers stands on an empty directory of the node. */
static int attach_empty(int dir, uint32_t uid_base, struct err *err, struct attached *attached)
{
	_cleanup_fd_ int fd = -EBADF;
	int r;

	if (mkdirat(dir, "empty", 0755) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "mkdir empty");
	fd = fd_open_beneath(dir, "empty", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return err_errno(err, fd, "open empty");
	if (fchown(fd, IMAGE_STORE_UID, IMAGE_STORE_UID) < 0 || fchmod(fd, 0755) < 0)
		return err_errno(err, -errno, "own empty");
	r = view_new(fd, uid_base, err);
	if (r < 0)
		return r;
	fd_close(attached->view);
	attached->view = r;
	r = fd_open_beneath(attached->view, ".", O_PATH | O_DIRECTORY, 0);
	if (r < 0)
		return err_errno(err, r, "open empty");
	attached->fds[attached->n++] = r;
	return 0;
}

static int attach(struct image_store *store, const struct image *image, int dir, uint32_t uid_base,
	bool classic, struct err *err, struct attached *attached)
{
	int r;

	/* One that was attached somewhere is used up. */
	attached->view = views_get(store->views, store->dir, uid_base, classic, err);
	if (attached->view < 0)
		return attached->view;
	r = attach_layers(store, image, err, attached);
	if (r == 0 && attached->n == 0)
		r = attach_empty(dir, uid_base, err, attached);
	if (r == 0 && fstat(attached->fds[0], &attached->top) < 0)
		r = err_errno(err, -errno, "stat the top-most layer");
	return r;
}

/* The view shows the group's ids, and the overflow id for what isn't of the store. */
static uint32_t owner(uint32_t id, uint32_t uid_base)
{
	return id - uid_base < IMAGE_STORE_IDS ? id : uid_base;
}

/* Opens dir/name, made with these ids and mode when it wasn't there. What was there stays as it is:
 * a group's files of before. */
static int make_dir(int dir, const char *name, uint32_t uid, uint32_t gid, mode_t mode)
{
	_cleanup_fd_ int fd = -EBADF;
	bool made = mkdirat(dir, name, 0700) == 0;

	if (!made && errno != EEXIST)
		return -errno;
	fd = fd_open_beneath(dir, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	/* The owner first: chown takes the set-id bits away. */
	if (made && (fchown(fd, uid, gid) < 0 || fchmod(fd, mode) < 0))
		return -errno;
	return take_fd(fd);
}

static int mount_at(
	const struct attached *attached, int dir, uint32_t uid_base, bool classic, struct err *err)
{
	struct overlay overlay = {
		.view = attached->view,
		.layers = attached->fds,
		.n_layers = attached->n,
		.dir = dir,
		.target = "rootfs",
		.classic = classic,
	};
	_cleanup_fd_ int layer = -EBADF;
	_cleanup_fd_ int upper = -EBADF;
	_cleanup_fd_ int work = -EBADF;
	_cleanup_fd_ int target = -EBADF;

	/* The container's root must be able to pass through dir, and so may everybody on the
	 * machine; what the container writes, set-uid programs among it, lies in a folder that is
	 * the node's alone. */
	layer = make_dir(dir, "layer", 0, 0, 0700);
	if (layer < 0)
		return err_errno(err, layer, "make the layer directory");
	/* The merged root shows the upper directory's owner and mode: those of the image's root. */
	upper = make_dir(layer, "upper", owner(attached->top.st_uid, uid_base),
		owner(attached->top.st_gid, uid_base), attached->top.st_mode & 07777);
	if (upper < 0)
		return err_errno(err, upper, "make the upper directory");
	work = make_dir(layer, "work", uid_base, uid_base, 0700);
	if (work < 0)
		return err_errno(err, work, "make the work directory");
	target = make_dir(dir, "rootfs", 0, 0, 0700);
	if (target < 0)
		return err_errno(err, target, "make the mount point");
	overlay.upper = upper;
	overlay.work = work;
	return overlay_mount(&overlay, err);
}

int rootfs_mount(struct image_store *store, const struct image *image, const char *dir,
	uint32_t uid_base, bool classic, struct err *err)
{
	_cleanup_(attached_done) struct attached attached = {.view = -EBADF};
	_cleanup_fd_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_fd_ int lock = -EBADF;
	int r;

	if (dir_fd < 0)
		return err_errno(err, -errno, "open %s", dir);
	r = overlay_is_mounted(dir_fd, "rootfs");
	if (r < 0)
		return err_errno(err, r, "look at %s/rootfs", dir);
	if (r > 0)
		return 0;

	/* From the look at the layers to the mark, nothing may be pruned. */
	lock = store_lock(store, false, LOCK_WAIT_MS);
	if (lock < 0)
		return err_errno(err, lock, "lock the image store");
	r = store_mark_use(store, dir, image);
	if (r < 0)
		return err_errno(err, r, "mark the layers of %s as in use", dir);
	r = attach(store, image, dir_fd, uid_base, classic, err, &attached);
	if (r == 0)
		r = mount_at(&attached, dir_fd, uid_base, classic, err);
	if (r < 0)
		err_wrap(err, "Root file system of '%s'", image->reference);
	return r;
}

int image_rootfs_mount(struct image_store *store, const struct image *image, const char *dir,
	uint32_t uid_base, struct err *err)
{
	return rootfs_mount(store, image, dir, uid_base, false, err);
}

int image_rootfs_unmount(struct image_store *store, const char *dir, struct err *err)
{
	static const char *const mounts[] = {"rootfs", "l"};
	static const char *const trees[] = {"rootfs", "l", "layer", "empty"};
	_cleanup_fd_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int r;

	if (dir_fd < 0 && errno == ENOENT) {
		store_unmark_use(store, dir);
		return 0;
	}
	if (dir_fd < 0)
		return err_errno(err, -errno, "open %s", dir);
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		r = overlay_unmount(dir_fd, mounts[i]);
		if (r < 0)
			return err_errno(err, r, "unmount %s/%s", dir, mounts[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(trees); i++) {
		r = file_remove_tree(dir_fd, trees[i]);
		if (r < 0)
			return err_errno(err, r, "remove %s/%s", dir, trees[i]);
	}
	store_unmark_use(store, dir);
	return 0;
}
