#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "node/image/overlay.h"

#define ATTACH_DIR "l"
/* More than any image has layers: a loop over stacked mounts ends even if somebody keeps mounting.
 */
#define STACK_MAX 1024

int overlay_is_mounted(int dir, const char *name)
{
	struct statx stx;

	if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &stx) < 0)
		return errno == ENOENT ? 0 : -errno;
	return (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

int overlay_unmount(int dir, const char *name)
{
	char path[320];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
	for (int i = 0; i < STACK_MAX; i++) {
		int r = overlay_is_mounted(dir, name);

		if (r <= 0)
			return r;
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
			return -errno;
	}
	return -EBUSY;
}

static int set_fd(int fs, const char *key, int fd)
{
	return fsconfig(fs, FSCONFIG_SET_FD, key, NULL, fd) < 0 ? -errno : 0;
}

static int set_flag(int fs, const char *key)
{
	return fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL, 0) < 0 ? -errno : 0;
}

static int set_string(int fs, const char *key, const char *value)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

/* The kernel says why in messages that can be read from the descriptor of the file system context.
 */
static void kernel_words(int fs, char *dst, size_t size)
{
	ssize_t n;

	dst[0] = '\0';
	while ((n = read(fs, dst, size - 1)) > 0) {
		dst[n] = '\0';
		if (dst[0] == 'e')
			return;
	}
}

/* Kernels from 6.15 on take detached mounts by descriptor: nothing is attached anywhere but the
 * result. -EINVAL or -ENOSYS (or -EXDEV) from an older one. */
static int mount_by_fd(const struct overlay *overlay, char *words, size_t words_size)
{
	_cleanup_fd_ int fs = -EBADF;
	_cleanup_fd_ int mnt = -EBADF;
	int r = 0;

	fs = fsopen("overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -errno;
	for (size_t i = 0; r == 0 && i < overlay->n_layers; i++)
		r = set_fd(fs, "lowerdir+", overlay->layers[i]);
	if (r == 0)
		r = set_fd(fs, "upperdir", overlay->upper);
	if (r == 0)
		r = set_fd(fs, "workdir", overlay->work);
	if (r == 0)
		r = set_flag(fs, "userxattr");
	if (r == 0)
		r = set_string(fs, "index", "off");
	if (r == 0)
		r = set_string(fs, "source", "berth");
	if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	if (r < 0) {
		kernel_words(fs, words, words_size);
		return r;
	}
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV);
	if (mnt < 0)
		return -errno;
	if (move_mount(mnt, "", overlay->dir, overlay->target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

static int classic_options(const struct overlay *overlay, char *dst, size_t size)
{
	struct buf buf = BUF_MAX(size - 1);
	int r = buf_adds(&buf, "userxattr,index=off,lowerdir=");

	for (size_t i = 0; r >= 0 && i < overlay->n_layers; i++)
		r = buf_printf(&buf, "%s/proc/self/fd/%d", i ? ":" : "", overlay->layers[i]);
	if (r >= 0)
		r = buf_printf(&buf, ",upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d",
			overlay->upper, overlay->work);
	if (r >= 0)
		r = str_copy(dst, size, buf_str(&buf));
	buf_done(&buf);
	return r < 0 ? r : 0;
}

/* An older kernel wants lower layers of a mount that is attached in our namespace. So it is
 * attached, and taken off again: the overlay has clones of its own. The layers are named by
 * descriptor, so that 128 of them fit the one page of options. */
static int mount_classic(const struct overlay *overlay)
{
	char options[4096], target[320];
	int r;

	if (mkdirat(overlay->dir, ATTACH_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	r = classic_options(overlay, options, sizeof(options));
	if (r == 0 && move_mount(overlay->view, "", overlay->dir, ATTACH_DIR,
			      MOVE_MOUNT_F_EMPTY_PATH) < 0)
		r = -errno;
	snprintf(target, sizeof(target), "/proc/self/fd/%d/%s", overlay->dir, overlay->target);
	if (r == 0 && mount("berth", target, "overlay", MS_NODEV, options) < 0)
		r = -errno;
	overlay_unmount(overlay->dir, ATTACH_DIR);
	unlinkat(overlay->dir, ATTACH_DIR, AT_REMOVEDIR);
	return r;
}

int overlay_mount(const struct overlay *overlay, struct err *err)
{
	char words[256] = "";
	int r;

	if (!overlay->classic) {
		r = mount_by_fd(overlay, words, sizeof(words));
		if (r == 0)
			return 0;
		log_debug("overlay by descriptors: %s (%s)", err_str(r), words);
	}
	r = mount_classic(overlay);
	if (r < 0)
		return err_errno(err, r, "mount the overlay%s%s", words[0] ? ": " : "", words);
	return 0;
}
