/* What the two ways to mount a share have in common. */
#pragma once

#include "node/volume/internal.h"

struct azure_server {
	char *host;
	uint16_t port;
	const struct volume_spec *spec; /* checked */
	uint32_t uid_base;
};

#define AZUREFILE_ACCOUNT_MAX 24
#define AZUREFILE_SHARE_MAX 63

/* Where the account's server is: template with {account} filled in. -EINVAL. */
int azure_server_init(
	struct azure_server *server, const char *template, const struct volume_spec *spec);
void azure_server_done(struct azure_server *server);

/* Names and key hold nothing but what Azure gives them; so no comma, no slash, no control byte. */
int azurefile_check(const struct volume_spec *spec, struct err *err);

/* The failure r at a step that berth-smb names ("resolve", "connect", "login", "" for a process
 * that ended without a word), in words that help. Returns r. */
int azurefile_fail(const struct azure_server *server, const char *step, int r, struct err *err);

/* --- the program berth-smb --- */

/* Mounts and serves; dir is the volume's folder, and path its name. The process outlives this one:
 * `server` in the folder says which it is. */
int azurefile_fuse_up(const struct volumes *volumes, int dir, const char *path,
	const struct azure_server *server, int cancel_fd, struct err *err);
/* Is there a process that serves the mount, and is it alive? -ENOENT: the mount has none. */
int azurefile_fuse_check(int dir);
/* Ends it, which also frees all who wait for its answer. */
void azurefile_fuse_end(int dir);
/* The server's address, numeric, once something listens there. */
int azurefile_resolve(const struct volumes *volumes, const char *path,
	const struct azure_server *server, int cancel_fd, char *ret, size_t size, struct err *err);

/* --- the kernel's cifs --- */

/* One option of the mount; value NULL: a flag. */
struct cifs_option {
	const char *key, *value;
};
#define CIFS_OPTIONS_MAX 24
struct cifs_options {
	struct cifs_option list[CIFS_OPTIONS_MAX];
	size_t n;
	char *source, uid[12], port[8];
};

bool azurefile_cifs_is_there(void);
void azurefile_cifs_options(
	const struct azure_server *server, const char *address, struct cifs_options *ret);
/* For mount(2) of kernels whose cifs doesn't take options one by one; NULL when a value has a
 * comma or a backslash, which would be read as something else. Owned. */
char *azurefile_cifs_text(const struct cifs_options *options);
void cifs_options_done(struct cifs_options *options);
int azurefile_cifs_up(
	int dir, const struct azure_server *server, const char *address, struct err *err);
