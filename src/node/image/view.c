#include <fcntl.h>
#include <pthread.h>
#include <sys/mount.h>

#include "node/image/image.h"
#include "node/spawn/userns.h"
#include "node/image/view.h"

#define VIEWS_MAX 512

struct entry {
	uint32_t uid_base;
	int fd;
	uint64_t used; /* counts up: the smallest goes first */
};

struct views {
	pthread_mutex_t lock;
	struct entry entries[VIEWS_MAX];
	size_t n;
	uint64_t clock;
};

/* Not nosuid: set-uid programs work inside, and those of the store's range mean nothing outside. */
int view_new(int dir, uint32_t uid_base, struct err *err)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_IDMAP,
		.propagation = MS_PRIVATE,
	};
	_cleanup_fd_ int userns = userns_new(IMAGE_STORE_UID, uid_base, err);
	_cleanup_fd_ int fd = -EBADF;

	if (userns < 0)
		return userns;
	fd = open_tree(dir, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0)
		return err_errno(err, -errno, "clone the tree of layers");
	attr.userns_fd = (uint64_t)userns;
	if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_errno(err, -errno,
			"idmapped mount of the layers (does the file system allow them?)");
	return take_fd(fd);
}

struct views *views_new(void)
{
	struct views *views = xnew(struct views);

	pthread_mutex_init(&views->lock, NULL);
	return views;
}

void views_free(struct views *views)
{
	if (!views)
		return;
	for (size_t i = 0; i < views->n; i++)
		fd_close(views->entries[i].fd);
	pthread_mutex_destroy(&views->lock);
	free(views);
}

/* The mount goes with the last copy of its descriptor, so who has one needn't fear that the table
 * drops it. */
static int dup_fd(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

static int lookup(struct views *views, uint32_t uid_base)
{
	for (size_t i = 0; i < views->n; i++) {
		struct entry *entry = &views->entries[i];

		if (entry->uid_base != uid_base)
			continue;
		entry->used = ++views->clock;
		return dup_fd(entry->fd);
	}
	return -ENOENT;
}

/* Returns a descriptor that has lost its place, to be closed without the lock, or -EBADF. */
static int insert(struct views *views, uint32_t uid_base, int fd)
{
	struct entry *entry = &views->entries[0];
	int lost = -EBADF;

	if (views->n < VIEWS_MAX) {
		entry = &views->entries[views->n++];
	} else {
		for (size_t i = 1; i < views->n; i++)
			if (views->entries[i].used < entry->used)
				entry = &views->entries[i];
		lost = entry->fd;
	}
	*entry = (struct entry){.uid_base = uid_base, .fd = fd, .used = ++views->clock};
	return lost;
}

/* The kernel clones mounts of the caller's own namespace only, and the store may have been opened
 * in another one: hence by path. */
static int open_layers(const char *store_dir)
{
	_cleanup_fd_ int dir = open(store_dir, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return dir < 0 ? -errno : fd_open_beneath(dir, "layers", O_PATH | O_DIRECTORY, 0);
}

int views_get(
	struct views *views, const char *store_dir, uint32_t uid_base, bool fresh, struct err *err)
{
	_cleanup_fd_ int layers = -EBADF;
	_cleanup_fd_ int lost = -EBADF;
	int fd, copy;

	if (!fresh) {
		pthread_mutex_lock(&views->lock);
		fd = lookup(views, uid_base);
		pthread_mutex_unlock(&views->lock);
		if (fd != -ENOENT)
			return fd < 0 ? err_errno(err, fd, "duplicate a view") : fd;
	}
	layers = open_layers(store_dir);
	if (layers < 0)
		return err_errno(err, layers, "open the image store's layers");
	fd = view_new(layers, uid_base, err);
	if (fd < 0 || fresh)
		return fd;
	copy = dup_fd(fd);
	if (copy < 0)
		return fd; /* then there is nothing to keep */

	/* Two threads may have made the same one: twice in the table does no harm. */
	pthread_mutex_lock(&views->lock);
	lost = insert(views, uid_base, copy);
	pthread_mutex_unlock(&views->lock);
	return fd;
}
