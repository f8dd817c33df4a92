#include "worker/pull/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/file.h"
#include "base/time.h"
#include "worker/pull/tarname.h"

enum {
	READ_BYTES = 256 << 10,
	XATTR_MAX = 64 << 10,
	IDS = 65536,		  /* what the store's user namespace maps */
	DIR_NAMES_MAX = 64 << 20, /* memory for the names of directories whose times are set last */
};

#define OPAQUE_XATTR "user.overlay.opaque"

struct dir_time { /* a directory's time is set when nothing more is made in it */
	char *path;
	struct timespec mtime;
};

struct unpack {
	int root; /* borrowed */
	unpack_source_fn source;
	void *arg;
	int source_r; /* what the source failed with */
	const struct unpack_limits *limits;
	uint64_t bytes, entries;
	struct tarname name, target;
	char parent[TARNAME_MAX + 1]; /* the directory that parent_fd is; a cache of one */
	int parent_fd;
	struct dir_time *dirs;
	size_t n_dirs, cap_dirs, dir_names;
	char shown[128]; /* the entry's name for messages */
	char buffer[READ_BYTES];
};

/* The times and owner of an entry. */
struct meta {
	uid_t uid;
	gid_t gid;
	mode_t mode;
	struct timespec mtime;
};

static int invalid(struct unpack *u, struct err *err, const char *why)
{
	return err_set(err, -EBADMSG, "InvalidImageLayer", "The layer's entry '%s' is refused: %s",
		u->shown, why);
}

/* For a failed call on an entry: a full disk and a bad path have their own words. */
static int failed(struct unpack *u, struct err *err, int r, const char *what)
{
	if (r == -ENOSPC || r == -EDQUOT)
		return err_set(err, r, "NodeStorageFull",
			"There is no space left for the image's layers.");
	if (r == -ELOOP || r == -EXDEV)
		return invalid(u, err, "its path goes through a symbolic link.");
	if (r == -ENOTDIR)
		return invalid(u, err, "its path goes through something that is not a directory.");
	return err_errno(err, r, "The layer's entry '%s' could not be written: %s", u->shown, what);
}

static void forget_parent(struct unpack *u)
{
	u->parent_fd = fd_close(u->parent_fd);
}

/* Opens a clean directory path beneath the root, making what is missing (0755, root). */
static int open_dir(struct unpack *u, const char *path, bool create)
{
	int fd;

	if (!path[0]) {
		fd = fcntl(u->root, F_DUPFD_CLOEXEC, 3);
		return fd < 0 ? -errno : fd;
	}
	fd = fd_open_beneath(u->root, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd != -ENOENT || !create)
		return fd;
	fd = fd_mkdir_beneath(u->root, path, 0755);
	fd_close(fd);
	if (fd < 0)
		return fd;
	return fd_open_beneath(u->root, path, O_RDONLY | O_DIRECTORY, 0);
}

/* The descriptor of an entry's parent; borrowed, valid until the next call. */
static int parent_dir(struct unpack *u, const char *path)
{
	int fd;

	if (u->parent_fd >= 0 && str_eq(u->parent, path))
		return u->parent_fd;
	fd = open_dir(u, path, true);
	if (fd < 0)
		return fd;
	forget_parent(u);
	(void)str_copy(u->parent, sizeof(u->parent), path);
	return u->parent_fd = fd;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

/* Takes away what an earlier entry of the same layer left under this name. *ret_whiteout: it was a
 * whiteout. */
static int clear_name(int dir, const char *base, bool keep_dir, bool *ret_whiteout)
{
	struct stat st;

	*ret_whiteout = false;
	if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	*ret_whiteout = is_whiteout(&st);
	if (S_ISDIR(st.st_mode) && keep_dir)
		return 0;
	if (S_ISDIR(st.st_mode))
		return file_remove_tree(dir, base);
	return unlinkat(dir, base, 0) < 0 ? -errno : 0;
}

static int set_opaque(int fd)
{
	return fsetxattr(fd, OPAQUE_XATTR, "y", 1, 0) < 0 ? -errno : 0;
}

/* File capabilities: version 2, or version 3 for the namespace's root, is written as version 2: the
 * kernel makes it version 3 with this namespace's root. Anything else isn't for us. */
static int set_capability(int fd, const unsigned char *value, size_t len)
{
	unsigned char v2[20];
	bool v3 = len == 24 && value[3] == 3;

	if (!(len == 20 && value[3] == 2) && !v3)
		return 0;
	if (v3 && (value[20] || value[21] || value[22] || value[23]))
		return 0;
	memcpy(v2, value, sizeof(v2));
	v2[3] = 2;
	return fsetxattr(fd, "security.capability", v2, sizeof(v2), 0) < 0 ? -errno : 0;
}

static int set_xattrs(int fd, struct archive_entry *entry)
{
	const char *name;
	const void *value;
	size_t len;

	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK) {
		if (!name || len > XATTR_MAX)
			continue;
		if (str_eq(name, "security.capability")) {
			int r = set_capability(fd, value, len);

			if (r < 0)
				return r;
		} else if (str_starts(name, "user.") && !str_starts(name, "user.overlay.") &&
			   !str_starts(name, "user.berth.")) {
			/* A convenience: where the file system has no room for it, the image still
			 * runs. */
			(void)fsetxattr(fd, name, value, len, 0);
		}
	}
	return 0;
}

/* Owner, mode, attributes, time, in the order in which none undoes another. */
static int set_meta(int fd, struct archive_entry *entry, const struct meta *meta)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, meta->mtime};
	int r;

	if (fchown(fd, meta->uid, meta->gid) < 0 || fchmod(fd, meta->mode) < 0)
		return -errno;
	r = set_xattrs(fd, entry);
	if (r < 0)
		return r;
	return futimens(fd, times) < 0 ? -errno : 0;
}

/* For what can't be opened: links and fifos. They were just made here and nobody else is in this
 * tree. */
static int set_meta_at(int dir, const char *base, const struct meta *meta, bool has_mode)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, meta->mtime};

	if (fchownat(dir, base, meta->uid, meta->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (has_mode && fchmodat(dir, base, meta->mode, 0) < 0)
		return -errno;
	return utimensat(dir, base, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int entry_meta(
	struct unpack *u, struct archive_entry *entry, struct err *err, struct meta *ret)
{
	int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);

	if (uid < 0 || uid >= IDS || gid < 0 || gid >= IDS)
		return invalid(u, err, "its owner or group id is above 65535.");
	*ret = (struct meta){
		.uid = (uid_t)uid, .gid = (gid_t)gid, .mode = archive_entry_mode(entry) & 07777};
	if (archive_entry_mtime_is_set(entry)) {
		ret->mtime.tv_sec = archive_entry_mtime(entry);
		ret->mtime.tv_nsec = MIN(MAX(archive_entry_mtime_nsec(entry), 0), 999999999L);
	}
	return 0;
}

static int write_content(struct unpack *u, struct archive *a, int fd, int64_t size, struct err *err)
{
	const void *data;
	size_t len;
	la_int64_t offset;
	int r;

	while ((r = archive_read_data_block(a, &data, &len, &offset)) == ARCHIVE_OK) {
		size_t done = 0;

		if (offset < 0 || offset + (int64_t)len > size)
			return invalid(u, err, "it has more content than it says.");
		while (done < len) {
			ssize_t n = pwrite(
				fd, (const char *)data + done, len - done, offset + (off_t)done);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return failed(u, err, n < 0 ? -errno : -EIO, "write");
			done += (size_t)n;
		}
	}
	if (r != ARCHIVE_EOF)
		return u->source_r < 0 ? u->source_r
				       : invalid(u, err, "its content is cut off or broken.");
	if (ftruncate(fd, size) < 0)
		return failed(u, err, -errno, "ftruncate");
	return 0;
}

static int make_file(struct unpack *u, struct archive *a, struct archive_entry *entry, int dir,
	const struct meta *meta, struct err *err)
{
	int64_t size = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : 0;
	_cleanup_fd_ int fd = -EBADF;
	int r;

	if (size < 0)
		return invalid(u, err, "it has a negative size.");
	if ((uint64_t)size > u->limits->bytes - u->bytes)
		return err_set(err, -EFBIG, "ImageTooLarge",
			"The layer unpacks to more than %llu MiB.",
			(unsigned long long)(u->limits->bytes >> 20));
	u->bytes += (uint64_t)size;
	fd = openat(dir, u->name.base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(u, err, -errno, "open");
	if (size > 0) {
		r = write_content(u, a, fd, size, err);
		if (r < 0)
			return r;
	}
	r = set_meta(fd, entry, meta);
	return r < 0 ? failed(u, err, r, "attributes") : 0;
}

/* Notes the time; past the memory bound a directory keeps the time at which it was filled. */
static void note_dir(struct unpack *u, const struct tarname *name, struct timespec mtime)
{
	size_t len = strlen(name->parent) + strlen(name->base) + sizeof(struct dir_time) + 32;

	if (u->dir_names + len > DIR_NAMES_MAX)
		return;
	if (u->n_dirs == u->cap_dirs) {
		u->cap_dirs = u->cap_dirs ? u->cap_dirs * 2 : 64;
		u->dirs = xrealloc(u->dirs, u->cap_dirs * sizeof(*u->dirs));
	}
	u->dir_names += len;
	u->dirs[u->n_dirs++] = (struct dir_time){
		.path = name->parent[0] ? xasprintf("%s/%s", name->parent, name->base)
					: xstrdup(name->base),
		.mtime = mtime,
	};
}

static int make_dir(struct unpack *u, struct archive_entry *entry, int dir, const struct meta *meta,
	bool was_whiteout, struct err *err)
{
	_cleanup_fd_ int fd = -EBADF;
	int r;

	if (mkdirat(dir, u->name.base, 0700) < 0 && errno != EEXIST)
		return failed(u, err, -errno, "mkdir");
	fd = openat(dir, u->name.base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failed(u, err, -errno, "open");
	r = set_meta(fd, entry, meta);
	/* ".wh.x" and "x/" in one layer: the lower x is gone, this one is new. */
	if (r == 0 && was_whiteout)
		r = set_opaque(fd);
	if (r < 0)
		return failed(u, err, r, "attributes");
	note_dir(u, &u->name, meta->mtime);
	return 0;
}

static int make_symlink(struct unpack *u, struct archive_entry *entry, int dir,
	const struct meta *meta, struct err *err)
{
	const char *target = archive_entry_symlink(entry);
	int r;

	if (!target || !target[0] || strlen(target) > TARNAME_MAX)
		return invalid(u, err, "its target is missing or too long.");
	if (symlinkat(target, dir, u->name.base) < 0)
		return failed(u, err, -errno, "symlink");
	r = set_meta_at(dir, u->name.base, meta, false);
	return r < 0 ? failed(u, err, r, "attributes") : 0;
}

/* The target must be a file of this layer that is there already; nothing is followed on the way. */
static int make_hardlink(struct unpack *u, struct archive_entry *entry, struct err *err)
{
	const char *why = "its target is not a valid name.";
	const char *text = archive_entry_hardlink(entry);
	_cleanup_fd_ int from = -EBADF;
	bool whiteout;
	struct stat st;
	int dir, r;

	if (!text || tarname_parse(text, &u->target, &why) < 0 || u->target.kind != TARNAME_PLAIN)
		return invalid(
			u, err, "it is a hard link to something that is no name in this layer.");
	if (str_eq(u->target.parent, u->name.parent) && str_eq(u->target.base, u->name.base))
		return invalid(u, err, "it is a hard link to itself.");
	from = open_dir(u, u->target.parent, false);
	if (from == -ENOENT ||
		(from >= 0 && fstatat(from, u->target.base, &st, AT_SYMLINK_NOFOLLOW) < 0))
		return invalid(u, err, "it is a hard link to a file that is not in this layer.");
	if (from < 0)
		return failed(u, err, from, "open");
	if (S_ISDIR(st.st_mode) || is_whiteout(&st))
		return invalid(u, err, "it is a hard link to something that is not a file.");
	dir = parent_dir(u, u->name.parent);
	if (dir < 0)
		return failed(u, err, dir, "parent");
	r = clear_name(dir, u->name.base, false, &whiteout);
	if (r < 0)
		return failed(u, err, r, "replace");
	if (linkat(from, u->target.base, dir, u->name.base, 0) < 0)
		return errno == ENOENT
			       ? invalid(u, err,
					 "it is a hard link to a file that is not in this layer.")
			       : failed(u, err, -errno, "link");
	return 0;
}

static int make_fifo(struct unpack *u, int dir, const struct meta *meta, struct err *err)
{
	int r;

	if (mkfifoat(dir, u->name.base, 0600) < 0)
		return failed(u, err, -errno, "mkfifo");
	r = set_meta_at(dir, u->name.base, meta, true);
	return r < 0 ? failed(u, err, r, "attributes") : 0;
}

static int apply_plain(
	struct unpack *u, struct archive *a, struct archive_entry *entry, struct err *err)
{
	mode_t type = archive_entry_filetype(entry);
	bool whiteout;
	struct meta meta;
	int dir, r;

	r = entry_meta(u, entry, err, &meta);
	if (r < 0)
		return r;
	if (archive_entry_hardlink(entry))
		return make_hardlink(u, entry, err);
	if (type == AE_IFCHR || type == AE_IFBLK || type == AE_IFSOCK)
		return 0;
	dir = parent_dir(u, u->name.parent);
	if (dir < 0)
		return failed(u, err, dir, "parent");
	r = clear_name(dir, u->name.base, type == AE_IFDIR, &whiteout);
	if (r < 0)
		return failed(u, err, r, "replace");
	switch (type) {
	case AE_IFREG:
		return make_file(u, a, entry, dir, &meta, err);
	case AE_IFDIR:
		return make_dir(u, entry, dir, &meta, whiteout, err);
	case AE_IFLNK:
		return make_symlink(u, entry, dir, &meta, err);
	case AE_IFIFO:
		return make_fifo(u, dir, &meta, err);
	default:
		return invalid(u, err, "it is of a kind that a layer doesn't have.");
	}
}

static int apply_root(struct unpack *u, struct archive_entry *entry, struct err *err)
{
	struct meta meta;
	int r;

	if (archive_entry_hardlink(entry) || archive_entry_filetype(entry) != AE_IFDIR)
		return invalid(u, err, "the root is not a directory.");
	r = entry_meta(u, entry, err, &meta);
	if (r < 0)
		return r;
	r = set_meta(u->root, entry, &meta);
	if (r < 0)
		return failed(u, err, r, "attributes");
	u->name.base = u->name.parent = u->name.path;
	note_dir(u, &u->name, meta.mtime);
	return 0;
}

static int apply_whiteout(struct unpack *u, struct archive_entry *entry, struct err *err)
{
	_cleanup_fd_ int sub = -EBADF;
	struct stat st;
	int dir, r = 0;

	if (archive_entry_filetype(entry) == AE_IFDIR)
		return invalid(u, err, "it is a whiteout and a directory.");
	dir = parent_dir(u, u->name.parent);
	if (dir < 0)
		return failed(u, err, dir, "parent");
	if (u->name.kind == TARNAME_OPAQUE) {
		r = set_opaque(dir);
		return r < 0 ? failed(u, err, r, "opaque") : 0;
	}
	if (fstatat(dir, u->name.base, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		/* A whiteout is about lower layers: what this layer brings under the name stays. */
		if (!S_ISDIR(st.st_mode))
			return 0;
		sub = openat(dir, u->name.base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = sub < 0 ? -errno : set_opaque(sub);
	} else if (mknodat(dir, u->name.base, S_IFCHR, makedev(0, 0)) < 0) {
		r = -errno;
	}
	return r < 0 ? failed(u, err, r, "whiteout") : 0;
}

static void show(struct unpack *u, const char *name)
{
	size_t n = 0;

	for (; name[n] && n < sizeof(u->shown) - 1; n++)
		u->shown[n] = name[n] >= 0x20 && name[n] < 0x7f && name[n] != '\'' ? name[n] : '?';
	u->shown[n] = '\0';
}

static int apply(struct unpack *u, struct archive *a, struct archive_entry *entry, struct err *err)
{
	const char *name = archive_entry_pathname(entry);
	const char *why = "";

	show(u, name ? name : "?");
	if (++u->entries > u->limits->entries)
		return err_set(err, -EFBIG, "ImageTooLarge",
			"The layer has more than %llu entries.",
			(unsigned long long)u->limits->entries);
	if (u->limits->deadline_ms && time_mono_ms() > u->limits->deadline_ms)
		return err_set(
			err, -ETIMEDOUT, "ImageTooLarge", "Unpacking the image took too long.");
	if (!name)
		return invalid(u, err, "its name can't be read.");
	if (tarname_parse(name, &u->name, &why) < 0)
		return err_set(err, -EBADMSG, "InvalidImageLayer",
			"The layer's entry '%s' is refused: %s.", u->shown, why);
	switch (u->name.kind) {
	case TARNAME_ROOT:
		return apply_root(u, entry, err);
	case TARNAME_PLAIN:
		return apply_plain(u, a, entry, err);
	case TARNAME_WHITEOUT:
	case TARNAME_OPAQUE:
		return apply_whiteout(u, entry, err);
	case TARNAME_IGNORED:
		return 0;
	}
	return 0;
}

static la_ssize_t read_source(struct archive *a, void *arg, const void **ret_data)
{
	struct unpack *u = arg;
	ssize_t n = u->source(u->arg, u->buffer, sizeof(u->buffer));

	*ret_data = u->buffer;
	if (n < 0) {
		u->source_r = (int)n;
		archive_set_error(a, EIO, "source");
	}
	return n;
}

static int apply_all(struct unpack *u, struct archive *a, struct err *err)
{
	struct archive_entry *entry;
	int r;

	for (;;) {
		r = archive_read_next_header(a, &entry);
		if (r == ARCHIVE_EOF)
			return 0;
		if (u->source_r < 0)
			return u->source_r;
		/* A warning is about character sets: the bytes of the name are there. */
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return err_set(err, -EBADMSG, "InvalidImageLayer",
				"The layer is not a tar archive, or it is broken.");
		r = apply(u, a, entry, err);
		if (r < 0)
			return r;
	}
}

/* From the last to the first: a parent comes before its children in a tar. */
static int set_dir_times(struct unpack *u, struct err *err)
{
	for (size_t i = u->n_dirs; i-- > 0;) {
		const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, u->dirs[i].mtime};
		_cleanup_fd_ int fd = open_dir(u, u->dirs[i].path, false);

		/* Replaced by a later entry: nothing to do. */
		if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
			continue;
		if (fd < 0 || futimens(fd, times) < 0)
			return failed(u, err, fd < 0 ? fd : -errno, "time");
	}
	return 0;
}

static int drain(struct unpack *u)
{
	ssize_t n;

	do
		n = u->source(u->arg, u->buffer, sizeof(u->buffer));
	while (n > 0);
	return (int)n;
}

int unpack_layer(int dirfd, unpack_source_fn source, void *arg, const struct unpack_limits *limits,
	struct err *err, uint64_t *ret_bytes)
{
	struct unpack *u = xnew(struct unpack);
	struct archive *a = archive_read_new();
	int r;

	assert(a);
	u->root = dirfd;
	u->source = source;
	u->arg = arg;
	u->limits = limits;
	u->parent_fd = -EBADF;
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	archive_read_support_filter_none(a);
	if (archive_read_open(a, u, NULL, read_source, NULL) != ARCHIVE_OK)
		r = u->source_r < 0 ? u->source_r
				    : err_set(err, -EBADMSG, "InvalidImageLayer",
					      "The layer is not a tar archive.");
	else
		r = apply_all(u, a, err);
	if (r == 0)
		r = set_dir_times(u, err);
	if (r == 0)
		r = drain(u);
	if (r == 0)
		*ret_bytes = u->bytes;
	archive_read_free(a);
	forget_parent(u);
	for (size_t i = 0; i < u->n_dirs; i++)
		free(u->dirs[i].path);
	free(u->dirs);
	free(u);
	return r;
}
