#include "worker/pull/savefile.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/random.h"
#include "base/time.h"
#include "worker/pull/inflate.h"
#include "worker/pull/tarname.h"

enum { FILES_MAX = 8192, LINKS_MAX = 1024, HOPS_MAX = 8, READ_BYTES = 256 << 10 };

struct link {
	char *name, *target; /* clean paths */
};

struct savefile {
	int dir;  /* of a folder import: borrowed */
	int copy; /* of a tar import: owned */
	struct link *links;
	size_t n_links;
};

struct copying {
	const struct job *job;
	struct savefile *files;
	struct inflate *inflate;
	int fd, source_r;
	uint64_t bytes;
	char buffer[READ_BYTES];
	struct tarname name, target;
};

static int invalid(struct err *err, const char *why)
{
	return err_set(err, -EBADMSG, "InvalidImageLayer", "%s", why);
}

static char *whole(const struct tarname *name)
{
	return name->parent[0] ? xasprintf("%s/%s", name->parent, name->base) : xstrdup(name->base);
}

static ssize_t read_file(void *arg, void *data, size_t n)
{
	struct copying *c = arg;
	ssize_t got;

	if (job_cancelled() || time_mono_ms() > c->job->deadline_ms)
		return -ECANCELED;
	got = read(c->fd, data, n);
	return got < 0 ? -errno : got;
}

static la_ssize_t read_tar(struct archive *a, void *arg, const void **ret_data)
{
	struct copying *c = arg;
	ssize_t n = inflate_read(c->inflate, c->buffer, sizeof(c->buffer));

	*ret_data = c->buffer;
	if (n < 0) {
		c->source_r = (int)n;
		archive_set_error(a, EIO, "source");
	}
	return n;
}

static int copy_file(struct copying *c, struct archive *a, struct archive_entry *entry,
	const char *name, struct err *err)
{
	int64_t size = archive_entry_size(entry);
	_cleanup_fd_ int fd = -EBADF;
	char hex[SHA256_HEX_MAX];

	if (size < 0 || (uint64_t)size > c->job->limits.bytes * 2 - c->bytes)
		return err_set(err, -EFBIG, "ImageTooLarge", "the archive is larger than %llu MiB.",
			(unsigned long long)(c->job->limits.bytes >> 19));
	c->bytes += (uint64_t)size;
	sha256_hex(name, strlen(name), hex);
	(void)unlinkat(c->files->copy, hex, 0);
	fd = openat(
		c->files->copy, hex, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, -errno, "a file of the archive could not be copied");
	if (archive_read_data_into_fd(a, fd) != ARCHIVE_OK)
		return archive_errno(a) == ENOSPC
			       ? err_set(err, -ENOSPC, "NodeStorageFull",
					 "there is no space left for the archive.")
			       : invalid(err, "it is cut off or broken.");
	return 0;
}

/* A symbolic link's target is relative to its folder; ".." is resolved by name, as `docker save`
 * needs ("../x/layer.tar"). */
static char *resolve(const char *parent, const char *target)
{
	_cleanup_free_ char *path = xstrdup(parent);

	if (strlen(target) > TARNAME_MAX)
		return NULL;
	while (*target) {
		size_t len = strcspn(target, "/");
		char *slash;

		if (len == 2 && !strncmp(target, "..", 2)) {
			slash = strrchr(path, '/');
			if (!slash && !path[0])
				return NULL;
			*(slash ? slash : path) = '\0';
		} else if (len > 0 && !(len == 1 && *target == '.')) {
			char *longer =
				xasprintf("%s%s%.*s", path, path[0] ? "/" : "", (int)len, target);

			free(path);
			path = longer;
		}
		target += len;
		target += *target == '/';
	}
	return take_ptr(path);
}

static int note_link(struct copying *c, const char *name, char *target, struct err *err)
{
	struct savefile *files = c->files;

	if (!target || files->n_links == LINKS_MAX) {
		free(target);
		return target ? invalid(err, "it has too many links.") : 0;
	}
	files->links[files->n_links++] = (struct link){xstrdup(name), target};
	return 0;
}

static int copy_entry(
	struct copying *c, struct archive *a, struct archive_entry *entry, struct err *err)
{
	const char *text = archive_entry_pathname(entry), *why;
	const char *symlink = archive_entry_symlink(entry),
		   *hardlink = archive_entry_hardlink(entry);
	_cleanup_free_ char *name = NULL;

	if (!text || tarname_parse(text, &c->name, &why) < 0)
		return invalid(err, "it has an entry whose name is not one.");
	if (c->name.kind != TARNAME_PLAIN)
		return 0;
	name = whole(&c->name);
	if (hardlink)
		return tarname_parse(hardlink, &c->target, &why) < 0 ||
				       c->target.kind != TARNAME_PLAIN
			       ? invalid(err, "it has a link whose target is not a name.")
			       : note_link(c, name, whole(&c->target), err);
	if (archive_entry_filetype(entry) == AE_IFLNK)
		return note_link(c, name, symlink ? resolve(c->name.parent, symlink) : NULL, err);
	if (archive_entry_filetype(entry) == AE_IFREG)
		return copy_file(c, a, entry, name, err);
	return 0;
}

static int copy_all(struct copying *c, struct archive *a, struct err *err)
{
	struct archive_entry *entry;

	for (int i = 0;; i++) {
		int r = archive_read_next_header(a, &entry);

		if (r == ARCHIVE_EOF)
			return 0;
		if (c->source_r == -ECANCELED)
			return job_canceled_err(err);
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return invalid(err, "it is not a tar archive, or it is broken.");
		if (i == FILES_MAX)
			return invalid(err, "it has too many entries.");
		r = copy_entry(c, a, entry, err);
		if (r < 0)
			return r;
	}
}

static int copy_archive(const struct job *job, struct savefile *files, int fd, struct err *err)
{
	struct copying *c = xnew(struct copying);
	struct archive *a = archive_read_new();
	int r;

	assert(a);
	c->job = job;
	c->files = files;
	c->fd = fd;
	c->inflate = inflate_new(read_file, c);
	archive_read_support_format_tar(a);
	archive_read_support_filter_none(a);
	if (archive_read_open(a, c, NULL, read_tar, NULL) != ARCHIVE_OK)
		r = invalid(err, "it is not a tar archive.");
	else
		r = copy_all(c, a, err);
	archive_read_free(a);
	inflate_free(c->inflate);
	free(c);
	return r;
}

int savefile_open(const struct job *job, struct staging *staging, int fd, struct err *err,
	struct savefile **ret)
{
	_cleanup_(savefile_freep) struct savefile *files = xnew(struct savefile);
	struct stat st;
	int r;

	files->dir = files->copy = -EBADF;
	if (fstat(fd, &st) < 0)
		return err_errno(err, -errno, "The archive could not be opened");
	if (S_ISDIR(st.st_mode)) {
		files->dir = fd;
		*ret = take_ptr(files);
		return 0;
	}
	files->links = xcalloc(LINKS_MAX, sizeof(*files->links));
	if (mkdirat(staging->fd, "import", 0700) < 0)
		return err_errno(err, -errno, "The archive's staging folder could not be made");
	files->copy =
		openat(staging->fd, "import", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (files->copy < 0)
		return err_errno(err, -errno, "The archive's staging folder could not be opened");
	r = copy_archive(job, files, fd, err);
	if (r < 0)
		return r;
	*ret = take_ptr(files);
	return 0;
}

void savefile_free(struct savefile *files)
{
	if (!files)
		return;
	for (size_t i = 0; i < files->n_links; i++) {
		free(files->links[i].name);
		free(files->links[i].target);
	}
	free(files->links);
	fd_close(files->copy);
	free(files);
}

static const char *link_target(const struct savefile *files, const char *name)
{
	for (size_t i = 0; i < files->n_links; i++)
		if (str_eq(files->links[i].name, name))
			return files->links[i].target;
	return NULL;
}

int savefile_get(const struct savefile *files, const char *name)
{
	_cleanup_fd_ int fd = -EBADF;
	char hex[SHA256_HEX_MAX];
	struct stat st;

	if (files->dir >= 0) {
		fd = fd_open_beneath(files->dir, name, O_RDONLY | O_NONBLOCK, 0);
	} else {
		for (int hop = 0; hop < HOPS_MAX && link_target(files, name); hop++)
			name = link_target(files, name);
		sha256_hex(name, strlen(name), hex);
		fd = openat(files->copy, hex, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	}
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -EINVAL;
	return take_fd(fd);
}

int savefile_read(const struct savefile *files, const char *name, size_t max, struct buf *ret)
{
	_cleanup_fd_ int fd = savefile_get(files, name);
	_cleanup_buf_ struct buf buf = BUF_MAX(max);
	ssize_t n;

	if (fd < 0)
		return fd;
	do
		n = buf_read(&buf, fd, 65536);
	while (n > 0);
	if (n < 0)
		return (int)n;
	*ret = buf;
	buf = BUF_INIT;
	return 0;
}
