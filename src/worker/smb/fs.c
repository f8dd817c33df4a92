/* Modes and owners are fixed, as those of a mount by the kernel's cifs are: changes of them are
 * accepted and do nothing. What a server has no notion of (devices, hard links) is refused. */
#define FUSE_USE_VERSION 314
#include <fuse.h>
#include <fcntl.h>
#include <stdio.h>

#include "worker/smb/fs.h"

#define IO_BYTES_MAX (1 << 20)

struct fs {
	struct share *share;
	struct fs_config config;
};

static struct fs *current(void)
{
	alarm(SHARE_WATCHDOG_S);
	return fuse_get_context()->private_data;
}

/* Nothing runs between two calls but the wait for the next. */
static int done(int r)
{
	alarm(0);
	return r;
}

static struct share_file *file_of(const struct fuse_file_info *fi)
{
	return (struct share_file *)(uintptr_t)fi->fh;
}

static void *fs_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	struct fs *fs = fuse_get_context()->private_data;

	connection->max_write = IO_BYTES_MAX;
	connection->max_readahead = IO_BYTES_MAX;
	connection->max_read = IO_BYTES_MAX;
	config->set_uid = config->set_gid = 1;
	config->uid = fs->config.uid;
	config->gid = fs->config.gid;
	return fs;
}

static int fs_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	return done(share_stat(current()->share, path, st));
}

struct listing {
	fuse_fill_dir_t fill;
	void *buf;
};

static int add_entry(void *arg, const char *name, const struct stat *st)
{
	struct listing *listing = arg;

	return listing->fill(listing->buf, name, st, 0, FUSE_FILL_DIR_PLUS) ? -ENOMEM : 0;
}

static int fs_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset,
	struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	struct listing listing = {.fill = fill, .buf = buf};
	struct fs *fs = current();

	if (fill(buf, ".", NULL, 0, 0) || fill(buf, "..", NULL, 0, 0))
		return done(-ENOMEM);
	return done(share_list(fs->share, path, add_entry, &listing));
}

static int open_file(const char *path, int flags, struct fuse_file_info *fi)
{
	struct fs *fs = current();
	struct share_file *file;
	int r;

	if (fs->config.read_only &&
		((flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC)))
		return done(-EROFS);
	r = share_open(fs->share, path, flags, &file);
	if (r == 0)
		fi->fh = (uintptr_t)file;
	return done(r);
}

static int fs_open(const char *path, struct fuse_file_info *fi)
{
	return open_file(path, fi->flags & ~(O_CREAT | O_EXCL), fi);
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	return open_file(path, fi->flags | O_CREAT, fi);
}

static int fs_release(const char *path, struct fuse_file_info *fi)
{
	share_close(current()->share, file_of(fi));
	return done(0);
}

static int fs_read(const char *path, char *data, size_t n, off_t offset, struct fuse_file_info *fi)
{
	return done((int)share_read(current()->share, file_of(fi), data, n, offset));
}

static int fs_write(
	const char *path, const char *data, size_t n, off_t offset, struct fuse_file_info *fi)
{
	return done((int)share_write(current()->share, file_of(fi), data, n, offset));
}

/* Every write has been answered by the server when it returns. */
static int fs_flush(const char *path, struct fuse_file_info *fi)
{
	return 0;
}

static int fs_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	return 0;
}

static int truncate_path(struct share *share, const char *path, off_t size)
{
	struct share_file *file;
	int r = share_open(share, path, O_RDWR, &file);

	if (r < 0)
		return r;
	r = share_truncate(share, file, size);
	share_close(share, file);
	return r;
}

static int fs_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	struct fs *fs = current();

	if (fs->config.read_only)
		return done(-EROFS);
	if (fi && fi->fh)
		return done(share_truncate(fs->share, file_of(fi), size));
	return done(truncate_path(fs->share, path, size));
}

static int fs_mknod(const char *path, mode_t mode, dev_t device)
{
	struct fs *fs = current();
	struct share_file *file;
	int r;

	if (fs->config.read_only)
		return done(-EROFS);
	if (!S_ISREG(mode))
		return done(-EPERM);
	r = share_open(fs->share, path, O_WRONLY | O_CREAT | O_EXCL, &file);
	if (r == 0)
		share_close(fs->share, file);
	return done(r);
}

static int fs_unlink(const char *path)
{
	struct fs *fs = current();

	return done(fs->config.read_only ? -EROFS : share_unlink(fs->share, path));
}

static int fs_mkdir(const char *path, mode_t mode)
{
	struct fs *fs = current();

	return done(fs->config.read_only ? -EROFS : share_mkdir(fs->share, path));
}

static int fs_rmdir(const char *path)
{
	struct fs *fs = current();

	return done(fs->config.read_only ? -EROFS : share_rmdir(fs->share, path));
}

static int fs_rename(const char *from, const char *to, unsigned flags)
{
	struct fs *fs = current();

	if (fs->config.read_only)
		return done(-EROFS);
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return done(-EINVAL);
	return done(share_rename(fs->share, from, to, flags & RENAME_NOREPLACE));
}

static int fs_symlink(const char *target, const char *path)
{
	struct fs *fs = current();

	return done(fs->config.read_only ? -EROFS : share_symlink(fs->share, target, path));
}

static int fs_readlink(const char *path, char *target, size_t size)
{
	return done(share_readlink(current()->share, path, target, size));
}

static int fs_link(const char *from, const char *to)
{
	return -EPERM;
}

static int fs_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	return 0;
}

static int fs_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	return 0;
}

static int fs_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi)
{
	struct fs *fs = current();

	return done(fs->config.read_only ? -EROFS : share_utimens(fs->share, path, times));
}

static int fs_statfs(const char *path, struct statvfs *st)
{
	return done(share_statvfs(current()->share, st));
}

static const struct fuse_operations operations = {
	.init = fs_init,
	.getattr = fs_getattr,
	.readdir = fs_readdir,
	.open = fs_open,
	.create = fs_create,
	.release = fs_release,
	.read = fs_read,
	.write = fs_write,
	.flush = fs_flush,
	.fsync = fs_fsync,
	.truncate = fs_truncate,
	.mknod = fs_mknod,
	.unlink = fs_unlink,
	.mkdir = fs_mkdir,
	.rmdir = fs_rmdir,
	.rename = fs_rename,
	.symlink = fs_symlink,
	.readlink = fs_readlink,
	.link = fs_link,
	.chmod = fs_chmod,
	.chown = fs_chown,
	.utimens = fs_utimens,
	.statfs = fs_statfs,
};

int fs_run(struct share *share, const struct fs_config *config)
{
	char name[] = "berth-smb", option[] = "-o", max_read[] = "max_read=1048576";
	char *argv[] = {name, option, max_read, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fs fs = {.share = share, .config = *config};
	struct fuse *fuse = fuse_new(&args, &operations, sizeof(operations), &fs);
	char place[32];
	int r;

	if (!fuse)
		return -EINVAL;
	snprintf(place, sizeof(place), "/dev/fd/%d", config->fuse_fd);
	if (fuse_mount(fuse, place) != 0)
		return -EINVAL;
	r = fuse_loop(fuse);
	return r > 0 ? 0 : r; /* a signal: there is no handler for one */
}
