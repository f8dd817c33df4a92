#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "node/volume/internal.h"

/* A hash of what the volume was asked to be; written before anything of it is made. */
#define DEFINITION "definition"
#define NAME_BYTES_MAX 128
/* More than anybody stacks: a loop over stacked mounts ends even if somebody keeps mounting. */
#define STACK_MAX 64

int volumes_open(const struct volumes_config *config, struct err *err, struct volumes **ret)
{
	struct volumes *volumes = xnew(struct volumes);

	assert(config->clone_program && config->smb_program && config->azure_files);
	volumes->config = (struct volumes_config){
		.clone_program = xstrdup(config->clone_program),
		.smb_program = xstrdup(config->smb_program),
		.azure_files = xstrdup(config->azure_files),
		.ca_file = config->ca_file ? xstrdup(config->ca_file) : NULL,
		.allow_loopback = config->allow_loopback,
		.empty_dir_max_bytes = config->empty_dir_max_bytes,
		.git_repo_max_bytes = config->git_repo_max_bytes,
	};
	*ret = volumes;
	return 0;
}

static void free_const(const char *text)
{
	free((void *)(uintptr_t)text);
}

void volumes_close(struct volumes *volumes)
{
	if (!volumes)
		return;
	free_const(volumes->config.clone_program);
	free_const(volumes->config.smb_program);
	free_const(volumes->config.azure_files);
	free_const(volumes->config.ca_file);
	free(volumes);
}

/* One component that is neither hidden nor a way up. */
static bool name_is_valid(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n <= NAME_BYTES_MAX && name[0] != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == n;
}

int volume_own(int dir, const struct volume_group *group, mode_t mode)
{
	if (fchownat(dir, "", group->uid_base, group->uid_base, AT_EMPTY_PATH) < 0 ||
		fchmodat(dir, ".", mode, 0) < 0)
		return -errno;
	return 0;
}

bool volume_is_mounted(int dir, const char *name)
{
	struct statx stx;

	/* Of the kernel's own knowledge: a server that hangs is not asked. */
	return statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0,
		       &stx) == 0 &&
	       (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

int volume_unmount(int dir, const char *name)
{
	char path[NAME_MAX + 64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
	for (int i = 0; i < STACK_MAX; i++) {
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
			continue;
		return errno == EINVAL || errno == ENOENT || errno == ENOTDIR || errno == ELOOP
			       ? 0
			       : -errno;
	}
	return -EBUSY;
}

int volume_attach(int mount_fd, int dir, struct err *err)
{
	if (mkdirat(dir, "data", 0700) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "make the mount point");
	if (move_mount(mount_fd, "", dir, "data", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(err, -errno, "attach the mount");
	return 0;
}

int volume_open_dir(const char *dir, struct err *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? err_errno(err, -errno, "open %s", dir) : fd;
}

/* <group>/v; -ENOENT, without words, when the group has no volumes and none are to be made. */
static int open_top(const struct volume_group *group, bool make, struct err *err)
{
	_cleanup_fd_ int at = open(group->dir, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int fd;

	if (at < 0)
		return errno == ENOENT && !make ? -ENOENT
						: err_errno(err, -errno, "open %s", group->dir);
	if (make && mkdirat(at, "v", 0711) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "make %s/v", group->dir);
	if (make && fchmodat(at, "v", 0711, 0) < 0)
		return err_errno(err, -errno, "make %s/v", group->dir);
	fd = fd_open_beneath(at, "v", O_RDONLY | O_DIRECTORY, 0);
	return fd < 0 && (make || fd != -ENOENT) ? err_errno(err, fd, "open %s/v", group->dir) : fd;
}

/* --- the end --- */

static int detach_all(int dir, const char *path, struct err *err)
{
	struct dirent *entry;
	DIR *list;
	int r = fd_opendir_beneath(dir, ".", &list), first = 0;

	if (r < 0)
		return err_errno(err, r, "open %s", path);
	while ((entry = readdir(list))) {
		if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
			continue;
		r = volume_unmount(dir, entry->d_name);
		if (r < 0 && first == 0)
			first = err_errno(err, r, "unmount %s/%s", path, entry->d_name);
	}
	closedir(list);
	return first;
}

static int remove_volume(
	int top, const struct volume_group *group, const char *name, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s/v/%s", group->dir, name);
	_cleanup_fd_ int dir = fd_open_beneath(top, name, O_RDONLY | O_DIRECTORY, 0);
	int r;

	if (dir == -ENOENT)
		return 0;
	/* What is no directory of ours can't have mounts beneath it. */
	if (dir >= 0) {
		r = azurefile_down(path, err);
		if (r == 0)
			r = detach_all(dir, path, err);
		if (r < 0)
			return r;
	}
	r = file_remove_tree(top, name);
	return r < 0 ? err_errno(err, r, "remove %s", path) : 0;
}

static bool is_kept(const char *name, const char *const *names)
{
	if (!names)
		return false;
	if (strchr(name, '.'))
		return true;
	for (; *names; names++)
		if (str_eq(*names, name))
			return true;
	return false;
}

/* Goes on after a failure, and gives the first. */
static int remove_others(
	const struct volume_group *group, const char *const *names, struct err *err)
{
	_cleanup_fd_ int top = open_top(group, false, err);
	struct dirent *entry;
	DIR *list;
	int r, first = 0;

	if (top < 0)
		return top == -ENOENT ? 0 : top;
	r = fd_opendir_beneath(top, ".", &list);
	if (r < 0)
		return err_errno(err, r, "open %s/v", group->dir);
	while ((entry = readdir(list))) {
		if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, "..") ||
			is_kept(entry->d_name, names))
			continue;
		r = remove_volume(top, group, entry->d_name, first ? NULL : err);
		if (r < 0 && first == 0)
			first = r;
	}
	closedir(list);
	return first;
}

int volumes_prune(struct volumes *volumes, const struct volume_group *group,
	const char *const *names, struct err *err)
{
	return remove_others(group, names, err);
}

int volumes_down(struct volumes *volumes, const struct volume_group *group, struct err *err)
{
	_cleanup_free_ char *top = xasprintf("%s/v", group->dir);
	int r = remove_others(group, NULL, err);

	if (r == 0 && rmdir(top) < 0 && errno != ENOENT)
		r = err_errno(err, -errno, "remove %s", top);
	return r;
}

/* --- the beginning --- */

/* Secrets go in as hashes, so that the buffer holds none of them. */
static void put(struct buf *buf, const char *key, const char *value)
{
	char hash[SHA256_HEX_MAX];

	sha256_hex(value ? value : "", value ? strlen(value) : 0, hash);
	buf_printf(buf, "%s=%s\n", key, value ? hash : "");
}

/* "" for a configMap, which is the agent's by its name and changes in place. */
static void hash_definition(const struct volume_spec *spec, char ret[SHA256_HEX_MAX])
{
	_cleanup_buf_ struct buf buf = BUF_INIT;
	const char *key;
	json_t *value;

	ret[0] = '\0';
	if (spec->kind == VOLUME_CONFIG_MAP)
		return;
	buf_printf(&buf, "kind=%d\nsize=%llu\nread_only=%d\n", (int)spec->kind,
		(unsigned long long)spec->size_bytes, spec->read_only);
	put(&buf, "repository", spec->repository);
	put(&buf, "revision", spec->revision);
	put(&buf, "directory", spec->directory);
	put(&buf, "share", spec->share);
	put(&buf, "account", spec->account);
	put(&buf, "key", spec->key);
	json_object_foreach ((json_t *)(uintptr_t)spec->files, key, value) {
		put(&buf, "file", key);
		put(&buf, "is", json_string_value(value));
	}
	sha256_hex(buf.data, buf.len, ret);
}

static bool has_definition(int dir, const char *definition)
{
	_cleanup_free_ char *text = NULL;

	if (!definition[0])
		return true;
	return file_read(dir, DEFINITION, SHA256_HEX_MAX, &text, NULL) == 0 &&
	       str_eq(text, definition);
}

/* The volume's folder, made by this definition or empty. */
static int open_volume(
	const struct volume_group *group, const struct volume_spec *spec, struct err *err)
{
	_cleanup_fd_ int top = open_top(group, true, err);
	_cleanup_fd_ int dir = -EBADF;
	char definition[SHA256_HEX_MAX];
	int r;

	if (top < 0)
		return top;
	hash_definition(spec, definition);
	dir = fd_open_beneath(top, spec->name, O_RDONLY | O_DIRECTORY, 0);
	if (dir >= 0 && has_definition(dir, definition))
		return take_fd(dir);
	r = remove_volume(top, group, spec->name, err);
	if (r < 0)
		return r;
	dir = fd_close(dir);
	if (mkdirat(top, spec->name, 0711) < 0 || fchmodat(top, spec->name, 0711, 0) < 0)
		return err_errno(err, -errno, "make the volume's folder");
	dir = fd_open_beneath(top, spec->name, O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0)
		return err_errno(err, dir, "open the volume's folder");
	if (definition[0])
		r = file_write_replace(dir, DEFINITION, definition, strlen(definition), 0600);
	return r < 0 ? err_errno(err, r, "write the volume's definition") : take_fd(dir);
}

static int kind_up(struct volumes *volumes, const char *path, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err)
{
	switch (spec->kind) {
	case VOLUME_EMPTY_DIR:
		return emptydir_up(volumes, path, group, spec, err);
	case VOLUME_SECRET:
	case VOLUME_CONFIG_MAP:
		return files_up(path, group, spec, err);
	case VOLUME_GIT_REPO:
		return gitrepo_up(volumes, path, group, spec, cancel_fd, err);
	case VOLUME_AZURE_FILE:
		return azurefile_up(volumes, path, group, spec, cancel_fd, err);
	}
	return err_set(err, -EINVAL, "FailedMount", "There is no such kind of volume.");
}

int volume_up(struct volumes *volumes, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s/v/%s", group->dir, spec->name);
	const char *code =
		spec->kind == VOLUME_AZURE_FILE ? "FailedMountAzureFileVolume" : "FailedMount";
	_cleanup_fd_ int dir = -EBADF;
	struct err why = {0};
	int r;

	if (!name_is_valid(spec->name))
		return err_set(err, -EINVAL, code, "A volume's name is not valid.");
	dir = open_volume(group, spec, &why);
	r = dir < 0 ? dir : kind_up(volumes, path, group, spec, cancel_fd, &why);
	if (r == 0)
		return 0;
	if (r == -ECANCELED)
		return err_set(err, r, "Canceled", "The mount was given up.");
	return err_set(
		err, r, code, "The volume '%s' can't be mounted: %s", spec->name, why.message);
}

bool volume_is_up(const struct volume_group *group, const struct volume_spec *spec)
{
	_cleanup_free_ char *path = xasprintf("%s/v/%s", group->dir, spec->name);
	_cleanup_fd_ int dir = volume_open_dir(path, NULL);
	char definition[SHA256_HEX_MAX];

	if (dir < 0)
		return false;
	hash_definition(spec, definition);
	return has_definition(dir, definition) &&
	       (spec->kind == VOLUME_GIT_REPO ? gitrepo_is_up(dir) : azurefile_is_up(dir));
}

char *volume_path(const struct volume_group *group, const struct volume_spec *spec)
{
	return xasprintf("%s/v/%s/data", group->dir, spec->name);
}

/* --- places for other mounts --- */

static int make_directory(int at, const char *name, const struct volume_group *group)
{
	bool made = mkdirat(at, name, 0755) == 0;
	int fd;

	if (!made && errno != EEXIST)
		return -errno;
	fd = fd_open_beneath(at, name, O_PATH | O_DIRECTORY, 0);
	/* By descriptor: the tenant may be changing names at this moment. A server that keeps no
	 * owners (SMB) refuses, and who may use the place is its own matter. */
	if (fd >= 0 && made &&
		fchownat(fd, "", group->uid_base, group->uid_base, AT_EMPTY_PATH) < 0)
		log_debug("own %s: %s", name, err_str(-errno));
	return fd;
}

static int make_file(int at, const char *name, const struct volume_group *group)
{
	int fd = fd_open_beneath(at, name, O_WRONLY | O_CREAT | O_EXCL, 0644);

	if (fd == -EEXIST)
		return fd_open_beneath(at, name, O_PATH, 0);
	if (fd >= 0 && fchown(fd, group->uid_base, group->uid_base) < 0)
		log_debug("own %s: %s", name, err_str(-errno));
	return fd;
}

int volume_make_place(const struct volume_group *group, const struct volume_spec *spec,
	const char *path, bool is_file, struct err *err)
{
	_cleanup_free_ char *base = volume_path(group, spec);
	_cleanup_free_ char *copy = xstrdup(path);
	_cleanup_fd_ int at = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	char *rest = copy, *name;
	struct stat st;
	int r = at < 0 ? -errno : 0;

	while (r == 0 && (name = strsep(&rest, "/"))) {
		int next;

		if (!*name || str_eq(name, "."))
			continue;
		if (str_eq(name, ".."))
			next = -EINVAL;
		else if (is_file && !rest)
			next = make_file(at, name, group);
		else
			next = make_directory(at, name, group);
		r = MIN(next, 0);
		fd_close(at);
		at = next;
	}
	if (r == 0 && fstat(at, &st) < 0)
		r = -errno;
	if (r == 0 && (is_file ? !S_ISREG(st.st_mode) : !S_ISDIR(st.st_mode)))
		r = is_file ? -EISDIR : -ENOTDIR;
	if (r < 0)
		return err_set(err, r, "ContainerCreateFailed",
			"Nothing can be mounted at '%s' within the volume '%s': %s.", path,
			spec->name, err_str(r));
	return 0;
}
