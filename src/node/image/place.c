/* Where in an image something can be mounted that a request names: the image's links are followed
 * (/var/run is one to /run in most), but only within it, and before any process of the group could
 * change them. What the runtime gets has no links any more. */
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "node/image/image.h"

#define CODE "ContainerCreateFailed"

struct walk {
	int root; /* of the image */
	char root_path[PATH_MAX];
	const char *path; /* as it was asked for */
	uint32_t uid_base;
};

static int refuse(
	const struct walk *walk, int r, const char *part, const char *what, struct err *err)
{
	return err_set(err, r, CODE, "Nothing can be mounted at '%s': the image's '%s' %s.",
		walk->path, part, what);
}

/* Not through a link: the image's own entry, or the one made here. */
static int make_directory(
	const struct walk *walk, int at, const char *name, const char *part, struct err *err)
{
	struct stat st;
	int fd;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return refuse(walk, -ENOENT, part, "is a link that leads nowhere", err);
	if (mkdirat(at, name, 0755) < 0 ||
		fchownat(at, name, walk->uid_base, walk->uid_base, AT_SYMLINK_NOFOLLOW) < 0 ||
		fchmodat(at, name, 0755, 0) < 0)
		return err_errno(err, -errno, "make '%s' in the root file system", part);
	fd = fd_open_beneath(at, name, O_PATH | O_DIRECTORY, 0);
	return fd < 0 ? err_errno(err, fd, "open '%s' of the root file system", part) : fd;
}

/* part: the path up to and with this component, which is name. */
static int step(const struct walk *walk, int at, const char *part, struct err *err)
{
	int fd = fd_open_in_root(walk->root, part, O_PATH | O_DIRECTORY, 0);

	switch (fd) {
	case -ENOENT:
		return make_directory(walk, at, strrchr(part, '/') + 1, part, err);
	case -ELOOP:
		return refuse(walk, fd, part, "is a link that leads in circles", err);
	case -ENOTDIR:
		return refuse(walk, fd, part, "is not a directory", err);
	default:
		return fd < 0 ? refuse(walk, fd, part, err_str(fd), err) : fd;
	}
}

/* Where the descriptor's directory lies in the image, "" for its root. */
static int real_path(const struct walk *walk, int fd, char ret[PATH_MAX], struct err *err)
{
	size_t n = strlen(walk->root_path);
	char path[PATH_MAX];
	int r = fd_path(fd, path, sizeof(path));

	if (r < 0)
		return refuse(walk, r, walk->path, "can't be reached", err);
	if (!str_starts(path, walk->root_path) || (path[n] != '/' && path[n] != '\0'))
		return refuse(walk, -EXDEV, walk->path, "is not within the image", err);
	str_copy(ret, PATH_MAX, path + n);
	return 0;
}

static bool is_beneath(const char *path, const char *top)
{
	size_t n = strlen(top);

	return str_starts(path, top) && (path[n] == '/' || path[n] == '\0');
}

static bool is_covered(const char *path, const char *const *covered)
{
	for (; covered && *covered; covered++)
		if (is_beneath(path, *covered))
			return true;
	return false;
}

/* Gives where the walk ended, and in *ret_rest what of the path was left there. */
static int walk_down(const struct walk *walk, const char *const *covered, char real[PATH_MAX],
	const char **ret_rest, struct err *err)
{
	_cleanup_fd_ int at = fd_open_beneath(walk->root, ".", O_PATH | O_DIRECTORY, 0);
	_cleanup_free_ char *part = xstrdup(walk->path);
	size_t end = 0;

	real[0] = '\0';
	while (at >= 0 && !is_covered(real, covered) && walk->path[end]) {
		size_t n = strcspn(walk->path + end + 1, "/");
		int next, r;

		end += 1 + n;
		if (n == 0)
			continue;
		part[end] = '\0';
		next = step(walk, at, part, err);
		part[end] = walk->path[end];
		if (next < 0)
			return next;
		fd_close(at);
		at = next;
		r = real_path(walk, at, real, err);
		if (r < 0)
			return r;
	}
	if (at < 0)
		return err_errno(err, at, "open the root file system");
	*ret_rest = walk->path + end;
	return 0;
}

static bool is_kernels(const char *path)
{
	return is_beneath(path, "/proc") || is_beneath(path, "/sys") || is_beneath(path, "/dev");
}

static bool has_dots(const char *path)
{
	for (const char *p = path; (p = strstr(p, "/.")); p++) {
		size_t n = strcspn(p + 1, "/");

		if (n == 1 || (n == 2 && p[2] == '.'))
			return true;
	}
	return false;
}

int image_rootfs_place(const char *dir, uint32_t uid_base, const char *path,
	const char *const *covered, struct err *err, char **ret_path)
{
	_cleanup_fd_ int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int root = -EBADF;
	struct walk walk = {.path = path, .uid_base = uid_base};
	_cleanup_free_ char *result = NULL;
	char real[PATH_MAX];
	const char *rest = "";
	size_t n;
	int r;

	if (path[0] != '/' || has_dots(path))
		return err_set(err, -EINVAL, CODE,
			"The mount path '%s' must be absolute and must not contain '.' or '..'.",
			path);
	if (dir_fd < 0)
		return err_errno(err, -errno, "open %s", dir);
	root = fd_open_beneath(dir_fd, "rootfs", O_PATH | O_DIRECTORY, 0);
	if (root < 0)
		return err_errno(err, root, "open %s/rootfs", dir);
	walk.root = root;
	r = fd_path(root, walk.root_path, sizeof(walk.root_path));
	if (r < 0)
		return err_errno(err, r, "%s/rootfs", dir);
	r = walk_down(&walk, covered, real, &rest, err);
	if (r < 0)
		return r;
	result = xasprintf("%s%s", real, rest);
	for (n = strlen(result); n > 0 && result[n - 1] == '/'; n--)
		result[n - 1] = '\0';
	if (!result[0] || is_kernels(result))
		return err_set(err, -EINVAL, CODE,
			"Nothing can be mounted at '%s': in the image it is '%s', which is the runtime's own.",
			path, result[0] ? result : "/");
	*ret_path = take_ptr(result);
	return 0;
}
