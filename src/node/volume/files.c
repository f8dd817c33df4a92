/*
 * secret: a tmpfs, filled before it is attached, so that it is either not there or complete.
 * configMap: a directory of the group's folder, so that it costs no mount; each file is written
 * beside it (file.new) and renamed into it, and containers see the old or the new one, never half.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/file.h"
#include "node/volume/internal.h"

/* Directories for mounts within the volume. */
#define SPARE_INODES 32
#define PAGE 4096

static bool key_is_valid(const char *key)
{
	size_t n = strlen(key);

	if (n < 1 || n > NAME_MAX || str_eq(key, ".") || str_eq(key, ".."))
		return false;
	for (; *key; key++)
		if (*key == '/' || (unsigned char)*key < 0x20 || *key == 0x7f)
			return false;
	return true;
}

static int check_keys(const json_t *files, struct err *err)
{
	void *i;

	for (i = json_object_iter((json_t *)(uintptr_t)files); i;
		i = json_object_iter_next((json_t *)(uintptr_t)files, i))
		if (!key_is_valid(json_object_iter_key(i)) ||
			!json_is_string(json_object_iter_value(i)))
			return err_set(err, -EINVAL, "FailedMount",
				"A key can't be the name of a file, or its value is no text.");
	return 0;
}

static int put_file(int dir, const char *name, const struct volume_group *group, const void *data,
	size_t len, mode_t mode)
{
	_cleanup_fd_ int fd = fd_open_beneath(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	int r = fd < 0 ? fd : fd_write_all(fd, data, len);

	if (r == 0 && (fchown(fd, group->uid_base, group->uid_base) < 0 || fchmod(fd, mode) < 0))
		r = -errno;
	return r;
}

/* --- secret --- */

static int put_secret(int dir, const char *key, const json_t *value,
	const struct volume_group *group, struct err *err)
{
	unsigned char *data;
	size_t len;
	int r = str_base64_decode(
		json_string_value(value), json_string_length(value), false, &data, &len);

	if (r < 0)
		return err_set(
			err, r, "FailedMount", "The value of the key '%s' is not base64.", key);
	r = put_file(dir, key, group, data, len, 0400);
	explicit_bzero(data, len);
	free(data);
	return r < 0 ? err_errno(err, r, "write the key '%s'", key) : 0;
}

static int set_number(int fs, const char *key, unsigned long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", value);
	return fsconfig(fs, FSCONFIG_SET_STRING, key, text, 0) < 0 ? -errno : 0;
}

static int new_tmpfs(const struct volume_group *group, const json_t *files, struct err *err)
{
	_cleanup_fd_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	unsigned long long bytes = PAGE; /* none would mean: without a bound */
	const char *key;
	json_t *value;
	int r, fd;

	if (fs < 0)
		return err_errno(err, -errno, "tmpfs");
	json_object_foreach ((json_t *)(uintptr_t)files, key, value)
		bytes += (json_string_length(value) / 4 * 3 / PAGE + 1) * PAGE;
	r = set_number(fs, "size", bytes);
	if (r == 0)
		r = set_number(fs, "nr_inodes", json_object_size(files) + 1 + SPARE_INODES);
	if (r == 0)
		r = set_number(fs, "uid", group->uid_base);
	if (r == 0)
		r = set_number(fs, "gid", group->uid_base);
	if (r == 0 && fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(err, r, "tmpfs");
	/* From Linux 6.4 on. */
	if (fsconfig(fs, FSCONFIG_SET_FLAG, "noswap", NULL, 0) < 0)
		log_debug("tmpfs without noswap: %s", err_str(-errno));
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_errno(err, -errno, "tmpfs");
	fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? err_errno(err, -errno, "tmpfs") : fd;
}

static int secret_up(
	int dir, const struct volume_group *group, const json_t *files, struct err *err)
{
	_cleanup_fd_ int mnt = -EBADF;
	const char *key;
	json_t *value;

	if (volume_is_mounted(dir, "data"))
		return 0;
	mnt = new_tmpfs(group, files, err);
	if (mnt < 0)
		return mnt;
	json_object_foreach ((json_t *)(uintptr_t)files, key, value) {
		int r = put_secret(mnt, key, value, group, err);

		if (r < 0)
			return r;
	}
	return volume_attach(mnt, dir, err);
}

/* --- configMap --- */

static bool holds(int data, const char *key, const char *text, size_t len)
{
	_cleanup_fd_ int fd = fd_open_beneath(data, key, O_RDONLY | O_NONBLOCK, 0);
	_cleanup_buf_ struct buf buf = BUF_MAX(len + 1);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || (size_t)st.st_size != len)
		return false;
	while (buf.len < len)
		if (buf_read(&buf, fd, len - buf.len) <= 0)
			return false;
	return len == 0 || memcmp(buf.data, text, len) == 0;
}

static int put_config(
	int dir, int data, const char *key, const json_t *value, const struct volume_group *group)
{
	const char *text = json_string_value(value);
	size_t len = json_string_length(value);
	int r;

	if (holds(data, key, text, len))
		return 0;
	if (unlinkat(dir, "file.new", 0) < 0 && errno != ENOENT)
		return -errno;
	r = put_file(dir, "file.new", group, text, len, 0444);
	if (r == 0 && renameat(dir, "file.new", data, key) < 0)
		r = -errno;
	return r;
}

/* Directories are places of mounts, and stay. */
static int remove_gone(int data, const json_t *files)
{
	struct dirent *entry;
	DIR *list;
	int r = fd_opendir_beneath(data, ".", &list);

	if (r < 0)
		return r;
	while ((entry = readdir(list)))
		if (!json_object_get(files, entry->d_name) &&
			unlinkat(data, entry->d_name, 0) < 0 && errno != EISDIR && errno != EPERM &&
			r == 0)
			r = -errno;
	closedir(list);
	return r;
}

static int config_map_up(
	int dir, const struct volume_group *group, const json_t *files, struct err *err)
{
	_cleanup_fd_ int data = -EBADF;
	const char *key;
	json_t *value;
	int r = 0;

	if (mkdirat(dir, "data", 0700) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "make the directory");
	data = fd_open_beneath(dir, "data", O_RDONLY | O_DIRECTORY, 0);
	if (data < 0)
		return err_errno(err, data, "open the directory");
	r = volume_own(data, group, 0755);
	json_object_foreach ((json_t *)(uintptr_t)files, key, value) {
		if (r == 0)
			r = put_config(dir, data, key, value, group);
		if (r < 0)
			return err_errno(err, r, "write the key '%s'", key);
	}
	r = remove_gone(data, files);
	return r < 0 ? err_errno(err, r, "remove a key") : 0;
}

int files_up(const char *dir, const struct volume_group *group, const struct volume_spec *spec,
	struct err *err)
{
	_cleanup_fd_ int fd = volume_open_dir(dir, err);
	int r;

	if (fd < 0)
		return fd;
	r = check_keys(spec->files, err);
	if (r < 0)
		return r;
	return spec->kind == VOLUME_SECRET ? secret_up(fd, group, spec->files, err)
					   : config_map_up(fd, group, spec->files, err);
}
