#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/file.h"
#include "node/volume/azurefile.h"

#define FILESYSTEMS_MAX 65536

bool azurefile_cifs_is_there(void)
{
	_cleanup_free_ char *text = NULL;
	char *rest, *line;

	if (file_read(AT_FDCWD, "/proc/filesystems", FILESYSTEMS_MAX, &text, NULL) < 0)
		return false;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		const char *name = strrchr(line, '\t');

		if (name && str_eq(name + 1, "cifs"))
			return true;
	}
	return false;
}

static void add(struct cifs_options *options, const char *key, const char *value)
{
	assert(options->n < CIFS_OPTIONS_MAX);
	options->list[options->n++] = (struct cifs_option){key, value};
}

/* Borrows from the server. */
void azurefile_cifs_options(
	const struct azure_server *server, const char *address, struct cifs_options *ret)
{
	*ret = (struct cifs_options){
		.source = xasprintf("//%s/%s", server->host, server->spec->share)};
	snprintf(ret->uid, sizeof(ret->uid), "%u", server->uid_base);
	snprintf(ret->port, sizeof(ret->port), "%u", server->port);
	add(ret, "source", ret->source);
	add(ret, "ip", address);
	add(ret, "port", ret->port);
	add(ret, "vers", "3.1.1");
	add(ret, "seal", NULL);
	add(ret, "username", server->spec->account);
	add(ret, "password", server->spec->key);
	add(ret, "uid", ret->uid);
	add(ret, "gid", ret->uid);
	add(ret, "dir_mode", "0777");
	add(ret, "file_mode", "0777");
	add(ret, "soft", NULL);
	add(ret, "serverino", NULL);
	add(ret, "nosharesock", NULL);
	add(ret, "mfsymlinks", NULL);
	add(ret, "actimeo", "30");
}

void cifs_options_done(struct cifs_options *options)
{
	free(options->source);
}

char *azurefile_cifs_text(const struct cifs_options *options)
{
	struct buf text = BUF_MAX(4096);

	for (size_t i = 0; i < options->n; i++) {
		const struct cifs_option *option = &options->list[i];

		if (option->value && strpbrk(option->value, ",\\\n")) {
			buf_done(&text);
			return NULL;
		}
		/* mount(2) takes the source by itself */
		if (str_eq(option->key, "source"))
			continue;
		buf_printf(&text, "%s%s", text.len ? "," : "", option->key);
		if (option->value)
			buf_printf(&text, "=%s", option->value);
	}
	return buf_take(&text);
}

static int one_by_one(const struct cifs_options *options, bool read_only, int dir, bool *ret_failed)
{
	unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	_cleanup_fd_ int context = fsopen("cifs", FSOPEN_CLOEXEC), mount_fd = -EBADF;

	*ret_failed = true;
	if (context < 0)
		return -errno;
	for (size_t i = 0; i < options->n; i++) {
		const struct cifs_option *option = &options->list[i];

		if (fsconfig(context, option->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG,
			    option->key, option->value, 0) < 0)
			return -errno;
	}
	*ret_failed = false;
	if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	if (read_only)
		attributes |= MOUNT_ATTR_RDONLY;
	mount_fd = fsmount(context, FSMOUNT_CLOEXEC, attributes);
	if (mount_fd < 0)
		return -errno;
	return volume_attach(mount_fd, dir, NULL);
}

static int all_at_once(const struct cifs_options *options, bool read_only, int dir)
{
	_cleanup_free_ char *text = azurefile_cifs_text(options);
	char place[64];
	int r;

	if (!text)
		return -EINVAL;
	if (mkdirat(dir, "data", 0700) < 0 && errno != EEXIST)
		return -errno;
	snprintf(place, sizeof(place), "/proc/self/fd/%d/data", dir);
	r = mount(options->source, place, "cifs",
		    MS_NOSUID | MS_NODEV | (read_only ? MS_RDONLY : 0), text) < 0
		    ? -errno
		    : 0;
	explicit_bzero(text, strlen(text));
	return r;
}

int azurefile_cifs_up(
	int dir, const struct azure_server *server, const char *address, struct err *err)
{
	_cleanup_(cifs_options_done) struct cifs_options options = {0};
	bool refused_options;
	int r;

	azurefile_cifs_options(server, address, &options);
	r = one_by_one(&options, server->spec->read_only, dir, &refused_options);
	/* Before Linux 5.11 cifs knows only the joined form, and takes no key from fsconfig. */
	if (r < 0 && refused_options)
		r = all_at_once(&options, server->spec->read_only, dir);
	return r < 0 ? azurefile_fail(server, "login", r, err) : 0;
}
