/*
 * emptyDir: an ext4 of the asked size in a sparse file, mounted through a loop device that goes
 * with the mount. So bytes and inodes are bounded on every file system, without quotas that
 * somebody would have to set up: a full volume is ENOSPC for who fills it and for nobody else. It
 * costs about 15 ms. No journal: what the file system holds ends with the group, and a machine that
 * lost power gets it checked.
 *
 * In the volume's folder: image.new (half made), image (complete), data (the mount).
 */
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file.h"
#include "base/proc.h"
#include "node/volume/internal.h"

#define SIZE_MIN ((uint64_t)1 << 20)
#define SMALL_BLOCKS ((uint64_t)64 << 20) /* below, blocks of 1 KiB */
#define MKFS_MS 60000
#define CHECK_MS 600000
#define OUTPUT_MAX 2048
#define LOOP_TRIES 1000
#define LOOP_WAIT_US 2000
#define LOOP_MAJOR 7

static int run(const char *const *argv, int timeout_ms, char **ret_output, struct err *err)
{
	int code = proc_run(argv, timeout_ms, OUTPUT_MAX, ret_output, err);

	if (code == -ENOENT)
		return err_set(err, code, "FailedMount",
			"The node has no %s. Install e2fsprogs; the mount is tried again.",
			argv[0]);
	return code;
}

/* Features are named one by one, whatever the machine's mke2fs.conf says. Tables of inodes are left
 * to the holes of the file, and so the kernel must not fill them either (noinit_itable). */
static int make_fs(
	const char *image, const struct volume_group *group, uint64_t size, struct err *err)
{
	char extended[96];
	const char *const argv[] = {"/usr/sbin/mkfs.ext4", "-q", "-F", "-b",
		size < SMALL_BLOCKS ? "1024" : "4096", "-I", "256", "-i", "16384", "-m", "0", "-O",
		"none,extent,filetype,sparse_super,large_file,huge_file,dir_nlink,extra_isize,"
		"flex_bg,dir_index,64bit,metadata_csum",
		"-E", extended, image, NULL};
	_cleanup_free_ char *output = NULL;
	int code;

	snprintf(extended, sizeof(extended), "lazy_itable_init=1,nodiscard,root_owner=%u:%u",
		group->uid_base, group->uid_base);
	code = run(argv, MKFS_MS, &output, err);
	if (code > 0)
		return err_set(err, -EIO, "FailedMount", "mkfs.ext4: %s", output);
	return code;
}

/* Clean ones are done with at once. 0 to 3: fine, or repaired. */
static int check_fs(const char *image, bool *ret_usable, struct err *err)
{
	const char *const argv[] = {"/usr/sbin/e2fsck", "-y", image, NULL};
	int code = run(argv, CHECK_MS, NULL, err);

	if (code < 0)
		return code;
	*ret_usable = code < 4;
	return 0;
}

/* --- loop devices --- */

static int open_device(int number, int flags)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/loop%d", number);
	fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT &&
		mknod(path, S_IFBLK | 0600, makedev(LOOP_MAJOR, (unsigned)number)) == 0)
		fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static int configure(int image_fd, int number)
{
	struct loop_config config = {
		.fd = (uint32_t)image_fd,
		/* Pages are cached once, by the file system above. Left out where the file below
		 * can't do it. */
		.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
	};
	_cleanup_fd_ int fd = open_device(number, O_RDWR);
	int device;

	if (fd < 0)
		return fd;
	if (ioctl(fd, LOOP_CONFIGURE, &config) < 0)
		return -errno;
	/* It clears itself when the last descriptor or mount is gone; and a device that is open for
	 * writing can't be mounted on every kernel. */
	device = open_device(number, O_RDONLY);
	if (device < 0)
		ioctl(fd, LOOP_CLR_FD, 0);
	return device;
}

/* A free number can be taken by somebody else before it is configured: then the next one. */
static int loop_new(int image_fd, int *ret_number, struct err *err)
{
	_cleanup_fd_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int r = -EBUSY;

	if (control < 0)
		return err_set(err, -errno, "FailedMount",
			"The node has no loop devices (/dev/loop-control: %s), which emptyDir volumes need. Load the kernel's module 'loop'.",
			err_str(-errno));
	for (int i = 0; i < LOOP_TRIES; i++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		r = number < 0 ? -errno : configure(image_fd, number);
		if (r >= 0) {
			*ret_number = number;
			return r;
		}
		if (r != -EBUSY && r != -ENXIO)
			break;
		usleep(LOOP_WAIT_US);
	}
	return err_errno(err, r, "loop device");
}

/* --- mount --- */

static int set_up(int fs, int number)
{
	char device[32];

	snprintf(device, sizeof(device), "/dev/loop%d", number);
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", device, 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_FLAG, "noinit_itable", NULL, 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_FLAG, "discard", NULL, 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	return 0;
}

/* The file system as a detached mount: it and the loop device are gone with the descriptor. */
static int open_fs(int dir, const char *name, struct err *err)
{
	_cleanup_fd_ int image = fd_open_beneath(dir, name, O_RDWR, 0);
	_cleanup_fd_ int device = -EBADF;
	_cleanup_fd_ int fs = -EBADF;
	int number = 0, fd, r;

	if (image < 0)
		return err_errno(err, image, "open the image");
	device = loop_new(image, &number, err);
	if (device < 0)
		return device;
	fs = fsopen("ext4", FSOPEN_CLOEXEC);
	if (fs < 0)
		return err_errno(err, -errno, "ext4");
	r = set_up(fs, number);
	if (r < 0)
		return err_errno(err, r, "mount the ext4 in %s", name);
	fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	return fd < 0 ? err_errno(err, -errno, "mount the ext4 in %s", name) : fd;
}

/* From the rename on the tenant may have written to it, so its root is made ready before that. */
static int make_image(
	const char *path, int dir, const struct volume_group *group, uint64_t size, struct err *err)
{
	_cleanup_free_ char *image = xasprintf("%s/image.new", path);
	_cleanup_fd_ int fd = -EBADF;
	int mnt, r;

	if (unlinkat(dir, "image.new", 0) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "remove %s", image);
	fd = fd_open_beneath(dir, "image.new", O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return err_errno(err, fd, "make %s", image);
	if (ftruncate(fd, (off_t)size) < 0)
		return err_errno(
			err, -errno, "make %s of %llu bytes", image, (unsigned long long)size);
	r = make_fs(image, group, size, err);
	if (r < 0)
		return r;
	mnt = open_fs(dir, "image.new", err);
	if (mnt < 0)
		return mnt;
	/* Programs that want an empty directory refuse one with this. */
	if (unlinkat(mnt, "lost+found", AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0)
		r = volume_own(mnt, group, 0777);
	if (r == 0 && renameat(dir, "image.new", dir, "image") < 0)
		r = -errno;
	if (r < 0) {
		fd_close(mnt);
		return err_errno(err, r, "prepare the ext4");
	}
	return mnt;
}

/* Complete, but not mounted: the last call was cut off, or the machine was started anew. */
static int reopen_image(
	const char *path, int dir, const struct volume_group *group, uint64_t size, struct err *err)
{
	_cleanup_free_ char *image = xasprintf("%s/image", path);
	bool usable;
	int r = check_fs(image, &usable, err);

	if (r < 0)
		return r;
	if (usable)
		return open_fs(dir, "image", err);
	log_warn("%s can't be repaired and is made anew", image);
	if (unlinkat(dir, "image", 0) < 0)
		return err_errno(err, -errno, "remove %s", image);
	return make_image(path, dir, group, size, err);
}

int emptydir_up(const struct volumes *volumes, const char *dir, const struct volume_group *group,
	const struct volume_spec *spec, struct err *err)
{
	_cleanup_fd_ int fd = volume_open_dir(dir, err);
	_cleanup_fd_ int mnt = -EBADF;
	uint64_t most = spec->kind == VOLUME_GIT_REPO ? volumes->config.git_repo_max_bytes
						      : volumes->config.empty_dir_max_bytes;
	uint64_t size = spec->size_bytes ? MIN(spec->size_bytes, most) : most;

	if (fd < 0)
		return fd;
	if (volume_is_mounted(fd, "data"))
		return 0;
	size = MAX(size, SIZE_MIN);
	if (faccessat(fd, "image", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		mnt = reopen_image(dir, fd, group, size, err);
	else
		mnt = make_image(dir, fd, group, size, err);
	return mnt < 0 ? mnt : volume_attach(mnt, fd, err);
}
