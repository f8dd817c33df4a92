#include <stdio.h>

#include "node/volume/azurefile.h"

#define CODE "FailedMountAzureFileVolume"
#define KEY_BYTES_MAX 255 /* what libsmbclient has room for */
#define DEFAULT_PORT 445

static bool has_only(const char *text, const char *allowed, size_t min, size_t max)
{
	size_t n = strlen(text);

	return n >= min && n <= max && strspn(text, allowed) == n;
}

int azurefile_check(const struct volume_spec *spec, struct err *err)
{
	const char *share = spec->share ? spec->share : "";
	size_t n = strlen(share);

	if (!spec->account || !has_only(spec->account, "abcdefghijklmnopqrstuvwxyz0123456789", 3,
				      AZUREFILE_ACCOUNT_MAX))
		return err_set(err, -EINVAL, CODE,
			"The storage account's name must be 3 to 24 lower-case letters and "
			"digits.");
	if (!has_only(share, "abcdefghijklmnopqrstuvwxyz0123456789-", 3, AZUREFILE_SHARE_MAX) ||
		share[0] == '-' || share[n - 1] == '-' || strstr(share, "--"))
		return err_set(err, -EINVAL, CODE,
			"The share's name must be 3 to 63 lower-case letters, digits and single "
			"hyphens within.");
	if (!spec->key ||
		!has_only(spec->key,
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=", 1,
			KEY_BYTES_MAX))
		return err_set(err, -EINVAL, CODE,
			"The storage account's key must be base64 of at most %d characters, "
			"as Azure gives it.",
			KEY_BYTES_MAX);
	return 0;
}

int azure_server_init(
	struct azure_server *server, const char *template, const struct volume_spec *spec)
{
	const char *place = strstr(template, "{account}");
	_cleanup_free_ char *address =
		place ? xasprintf("%.*s%s%s", (int)(place - template), template, spec->account,
				place + strlen("{account}"))
		      : xstrdup(template);
	char *colon = strrchr(address, ':');
	uint64_t port = DEFAULT_PORT;

	if (colon && (str_to_u64(colon + 1, 65535, &port) < 0 || port == 0))
		return -EINVAL;
	if (colon)
		*colon = '\0';
	if (!has_only(address, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.",
		    1, 253))
		return -EINVAL;
	*server = (struct azure_server){
		.host = xstrdup(address), .port = (uint16_t)port, .spec = spec};
	return 0;
}

void azure_server_done(struct azure_server *server)
{
	free(server->host);
}

static int fail_connect(const struct azure_server *server, int r, struct err *err)
{
	const char *host = server->host;
	unsigned port = server->port;

	if (r == -ECONNREFUSED)
		return err_set(err, r, CODE,
			"mount error(%d): Connection refused: nothing listens on port %u of '%s'.",
			-r, port, host);
	if (r == -ETIMEDOUT)
		return err_set(err, r, CODE,
			"mount error(%d): '%s' does not answer on port %u. Is the port open on "
			"the way there? Many networks block it.",
			-r, host, port);
	return err_set(err, r, CODE, "mount error(%d): port %u of '%s' can't be reached: %s.", -r,
		port, host, err_str(r));
}

static int fail_login(const struct azure_server *server, int r, struct err *err)
{
	const char *host = server->host, *account = server->spec->account;

	switch (-r) {
	case EACCES:
	case EPERM:
	case EKEYREJECTED:
		return err_set(err, -EACCES, CODE,
			"mount error(13): Permission denied: '%s' does not let '%s' in with this "
			"key. The storage account's name or key is wrong, or the account may not "
			"use the share '%s', or the server doesn't encrypt, which it must.",
			host, account, server->spec->share);
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return err_set(err, -ENOENT, CODE,
			"mount error(2): No such file or directory: the storage account '%s' has "
			"no share '%s'.",
			account, server->spec->share);
	case ETIMEDOUT:
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return fail_connect(server, r, err);
	case ENOSYS:
	case ENOTSUP:
	case EPROTONOSUPPORT:
	case ECONNRESET:
	case ECONNABORTED:
		return err_set(err, r, CODE,
			"mount error(%d): '%s' and this node have no protocol in common. The "
			"server must speak SMB 3 with encryption.",
			-r, host);
	default:
		return err_set(err, r, CODE,
			"mount error(%d): the share '%s' of '%s' can't be mounted: %s.", -r,
			server->spec->share, host, err_str(r));
	}
}

int azurefile_fail(const struct azure_server *server, const char *step, int r, struct err *err)
{
	if (str_eq(step, "resolve"))
		return err_set(err, r, CODE,
			"mount error(%d): the name '%s' can't be resolved. Is the storage "
			"account's name right?",
			-r, server->host);
	if (str_eq(step, "connect"))
		return fail_connect(server, r, err);
	return fail_login(server, r, err);
}

static int mount_share(const struct volumes *volumes, int dir, const char *path,
	const struct azure_server *server, int cancel_fd, struct err *err)
{
	char address[64];
	int r;

	if (!azurefile_cifs_is_there())
		return azurefile_fuse_up(volumes, dir, path, server, cancel_fd, err);
	r = azurefile_resolve(volumes, path, server, cancel_fd, address, sizeof(address), err);
	return r < 0 ? r : azurefile_cifs_up(dir, server, address, err);
}

/* What is mounted and has a living process, or is the kernel's, is left alone, whether or not its
 * server answers: a server that comes back finds the mount as it was. */
bool azurefile_is_up(int dir)
{
	int r = azurefile_fuse_check(dir);

	return volume_is_mounted(dir, "data") && (r == 0 || r == -ENOENT);
}

int azurefile_up(const struct volumes *volumes, const char *dir, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err)
{
	_cleanup_(azure_server_done) struct azure_server server = {0};
	_cleanup_fd_ int fd = -EBADF;
	int r = azurefile_check(spec, err);

	if (r < 0)
		return r;
	fd = volume_open_dir(dir, err);
	if (fd < 0)
		return fd;
	if (azurefile_is_up(fd))
		return 0;
	azurefile_fuse_end(fd);
	r = volume_unmount(fd, "data");
	if (r < 0)
		return err_errno(err, r, "detach what is left of the mount");
	if (azure_server_init(&server, volumes->config.azure_files, spec) < 0)
		return err_set(err, -EINVAL, CODE,
			"The setting 'azure_files' is no address such as "
			"'{account}.file.core.windows.net:445'.");
	server.uid_base = group->uid_base;
	return mount_share(volumes, fd, dir, &server, cancel_fd, err);
}

int azurefile_down(const char *dir, struct err *err)
{
	_cleanup_fd_ int fd = volume_open_dir(dir, err);
	int r;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (azurefile_fuse_check(fd) == -ENOENT)
		return 0; /* volumes_down() detaches what the kernel serves by itself */
	azurefile_fuse_end(fd);
	r = volume_unmount(fd, "data");
	return r < 0 ? err_errno(err, r, "detach %s/data", dir) : 0;
}
