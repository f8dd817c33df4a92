/*
 * What a Berth needs before its daemons start: the system user, the folders with their owners, the
 * settings, the certificate authority, the first principal. Everything is made once and found
 * again; nothing here parses what a stranger wrote.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <ifaddrs.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/file.h>

#include "base/file.h"
#include "base/proc.h"
#include "base/random.h"
#include "cli/cli.h"
#include "control/auth/auth.h"
#include "http/tls.h"
#include "node/network/porter_start.h"

/* Instances on one machine share 100.64.0.0/10: each has a /16 of it, and a stretch of user ids, by
 * its number. */
#define POOLS 64
#define CLAIMS_DIR "/run/berth"

int setup_user(struct err *err, uid_t *ret_uid, gid_t *ret_gid)
{
	static const char *const argv[] = {"/usr/sbin/useradd", "--system", "--user-group",
		"--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin",
		"berth", NULL};
	_cleanup_free_ char *output = NULL;
	struct passwd *user = getpwnam("berth");
	int r;

	if (!user) {
		r = proc_run(argv, 30000, 4096, &output, err);
		if (r < 0)
			return err_wrap(err, "The system user 'berth' can't be made");
		/* 9: somebody else made it meanwhile. */
		if (r != 0 && r != 9)
			return err_set(err, -EIO, "SetupFailed",
				"The system user 'berth' can't be made: %s", output);
		user = getpwnam("berth");
	}
	if (!user)
		return err_set(err, -ENOENT, "SetupFailed",
			"The system user 'berth' is missing and could not be made. Try: useradd --system berth");
	*ret_uid = user->pw_uid;
	*ret_gid = user->pw_gid;
	return 0;
}

static int make_dir(const struct config *config, const char *name, mode_t mode, uid_t uid,
	gid_t gid, struct err *err)
{
	_cleanup_free_ char *path = config_path(config, name);
	int r = file_mkdirs(path, mode);

	if (r == 0 && (chmod(path, mode) < 0 || chown(path, uid, gid) < 0))
		r = -errno;
	return r < 0 ? err_errno(err, r, "make %s", path) : 0;
}

static int make_dirs(const struct config *config, uid_t uid, gid_t gid, struct err *err)
{
	const struct {
		const char *name;
		mode_t mode;
		bool control;
	} dirs[] = {{"", 0755, false}, {"control", 0700, true}, {"run", 0755, false},
		{"run/link", 0700, true}, {"node", 0711, false}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++)
		r = make_dir(config, dirs[i].name, dirs[i].mode, dirs[i].control ? uid : 0,
			dirs[i].control ? gid : 0, err);
	return r;
}

/* True when an interface of this machine has an address in 100.(64+number).0.0/16. */
static bool pool_is_in_use(unsigned number)
{
	struct ifaddrs *list, *at;
	bool found = false;

	if (getifaddrs(&list) < 0)
		return false;
	for (at = list; at && !found; at = at->ifa_next)
		if (at->ifa_addr && at->ifa_addr->sa_family == AF_INET) {
			const struct sockaddr_in *in =
				(const struct sockaddr_in *)(const void *)at->ifa_addr;

			found = ntohl(in->sin_addr.s_addr) >> 16 == (100u << 8 | (64 + number));
		}
	freeifaddrs(list);
	return found;
}

/* A claim is a file that holds the path of its state directory; it is void when that is gone. */
static bool claim_is_free(unsigned number, const char *state)
{
	_cleanup_free_ char *path = xasprintf(CLAIMS_DIR "/%u", number);
	_cleanup_free_ char *owner = NULL;

	if (file_read(AT_FDCWD, path, 4096, &owner, NULL) < 0)
		return !pool_is_in_use(number);
	return str_eq(owner, state) || access(owner, F_OK) < 0;
}

static int claim_pool(const char *state, struct err *err)
{
	unsigned char hash[4];
	char hex[SHA256_HEX_MAX];
	_cleanup_fd_ int lock = -EBADF;
	unsigned first;
	int r;

	sha256_hex(state, strlen(state), hex);
	hex[8] = 0;
	str_unhex(hex, hash, sizeof(hash));
	first = str_eq(state, DEFAULT_STATE) ? 0 : 1 + (hash[0] << 8 | hash[1]) % (POOLS - 1);
	r = file_mkdirs(CLAIMS_DIR, 0755);
	if (r < 0)
		return err_errno(err, r, "make %s", CLAIMS_DIR);
	lock = open(CLAIMS_DIR "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return err_errno(err, -errno, "lock %s", CLAIMS_DIR);
	for (unsigned i = 0; i < POOLS; i++) {
		unsigned number = (first + i) % POOLS;
		_cleanup_free_ char *path = xasprintf(CLAIMS_DIR "/%u", number);

		if (!claim_is_free(number, state))
			continue;
		r = file_write_replace(AT_FDCWD, path, state, strlen(state), 0644);
		return r < 0 ? err_errno(err, r, "write %s", path) : (int)number;
	}
	return err_set(err, -ENOSPC, "SetupFailed",
		"All %d address pools of 100.64.0.0/10 are taken on this machine. Choose public_pool and private_pool with --set.",
		POOLS);
}

void setup_release_pool(const char *state)
{
	_cleanup_fd_ int lock = open(CLAIMS_DIR "/lock", O_RDWR | O_CLOEXEC);

	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return;
	for (unsigned i = 0; i < POOLS; i++) {
		_cleanup_free_ char *path = xasprintf(CLAIMS_DIR "/%u", i);
		_cleanup_free_ char *owner = NULL;

		if (file_read(AT_FDCWD, path, 4096, &owner, NULL) == 0 && str_eq(owner, state))
			unlink(path);
	}
}

static void set_default(char **setting, char *value)
{
	if (*setting && (*setting)[0])
		free(value);
	else {
		free(*setting);
		*setting = value;
	}
}

static char *new_uuid(void)
{
	char uuid[UUID_STR_MAX];

	return xstrdup(random_uuid(uuid));
}

static char *derived_dns(const char *host, int port)
{
	return xasprintf("%s:%d", host, port + 10 <= 65535 ? port + 10 : port - 10);
}

/* The DNS server follows the API's address unless it was set apart: what was derived is derived
 * again. */
static int forget_derived(struct config *config, struct err *err)
{
	_cleanup_free_ char *derived = NULL;
	char host[64];
	int port, r;

	r = config_host_port(config->listen, host, sizeof(host), &port, err);
	if (r < 0)
		return err_wrap(err, "listen");
	derived = derived_dns(host, port);
	if (str_eq(config->dns_listen ? config->dns_listen : "", derived)) {
		free(config->dns_listen);
		config->dns_listen = NULL;
	}
	return 0;
}

static int choose_defaults(struct config *config, struct err *err)
{
	char hex[SHA256_HEX_MAX], host[64];
	int port, number;
	int r;

	r = config_host_port(config->listen, host, sizeof(host), &port, err);
	if (r < 0)
		return err_wrap(err, "--listen");
	sha256_hex(config->state, strlen(config->state), hex);
	hex[6] = 0;
	set_default(&config->instance, xstrdup(hex));
	set_default(&config->dns_listen, derived_dns(host, port));
	set_default(&config->tenant_id, new_uuid());
	set_default(&config->subscription_id, new_uuid());
	if (config->public_pool && config->private_pool)
		return 0;
	number = claim_pool(config->state, err);
	if (number < 0)
		return number;
	set_default(&config->public_pool, xasprintf("100.%d.0.0/17", 64 + number));
	set_default(&config->private_pool, xasprintf("100.%d.128.0/17", 64 + number));
	config->uid_first += (int64_t)number * config->uid_groups * 65536;
	return 0;
}

/* Said by `berth up`, not only in the log of a daemon. */
static int check_upstreams(const struct config *config, struct err *err)
{
	char **list = NULL;
	int r = porter_upstreams_parse(config->dns_upstreams, err, &list);

	porter_upstreams_free(list);
	return r;
}

static int make_config(const struct setup_options *options, struct err *err, struct config **ret,
	bool *ret_changed)
{
	_cleanup_(config_freep) struct config *config = config_new(options->state);
	_cleanup_free_ char *path = config_path(config, "config.json");
	_cleanup_free_ char *before = NULL, *after = NULL;
	int r = 0;

	file_read(AT_FDCWD, path, 65536, &before, NULL);
	if (before)
		r = config_merge_file(config, path, err);
	if (r == 0)
		r = forget_derived(config, err);
	if (r == 0 && options->config_file)
		r = config_merge_file(config, options->config_file, err);
	for (size_t i = 0; r == 0 && i < options->n_settings; i++)
		r = config_set(config, options->settings[i], err);
	if (r < 0)
		return r;
	if (options->listen) {
		free(config->listen);
		config->listen = xstrdup(options->listen);
	}
	r = choose_defaults(config, err);
	if (r == 0)
		r = check_upstreams(config, err);
	if (r == 0)
		r = config_save(config, err);
	if (r < 0)
		return r;
	file_read(AT_FDCWD, path, 65536, &after, NULL);
	*ret_changed = before && after && !str_eq(before, after);
	*ret = take_ptr(config);
	return 0;
}

static int make_certificates(const struct config *config, uid_t uid, gid_t gid, struct err *err)
{
	_cleanup_free_ char *ca = config_path(config, "ca.pem"),
			    *ca_key = config_path(config, "ca.key");
	_cleanup_free_ char *cert = config_path(config, "control/server.pem");
	_cleanup_free_ char *key = config_path(config, "control/server.key");
	const char *names[] = {NULL, "127.0.0.1", "localhost"};
	char host[64];
	int port, r;
	bool loopback;

	r = config_host_port(config->listen, host, sizeof(host), &port, err);
	if (r < 0)
		return r;
	names[0] = host;
	loopback = str_eq(host, "127.0.0.1");
	r = tls_ensure(ca, ca_key, cert, key, names + loopback, ARRAY_SIZE(names) - loopback, err);
	/* The folder is berthd's, which might have put a link in the place of what was just written
	 * there. */
	if (r == 0 && (lchown(cert, uid, gid) < 0 || lchown(key, uid, gid) < 0))
		r = err_errno(err, -errno, "chown %s", key);
	return r;
}

static int write_private(
	const char *path, const json_t *json, uid_t uid, gid_t gid, struct err *err)
{
	_cleanup_free_ char *text = json_dumps(json, JSON_INDENT(2));
	int r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600);

	if (r == 0 && lchown(path, uid, gid) < 0)
		r = -errno;
	return r < 0 ? err_errno(err, r, "write %s", path) : 0;
}

/* The first principal: its secret is in admin.json, root's alone; berthd only ever sees the hash.
 */
static int make_admin(const struct config *config, uid_t uid, gid_t gid, struct err *err)
{
	_cleanup_free_ char *admin_path = config_path(config, "admin.json");
	_cleanup_free_ char *bootstrap_path = config_path(config, "control/bootstrap.json");
	_cleanup_free_ char *endpoint = xasprintf("https://%s", config->listen);
	_cleanup_json_ json_t *admin = NULL, *bootstrap = NULL;
	_cleanup_free_ char *text = NULL, *secret = NULL, *hash = NULL;
	char client_id[UUID_STR_MAX], object_id[UUID_STR_MAX];
	unsigned char bytes[32];
	int r;

	if (file_read(AT_FDCWD, admin_path, 65536, &text, NULL) == 0) {
		r = json_parse(text, strlen(text), 4, err, &admin);
		if (r < 0)
			return err_wrap(err, "%s", admin_path);
		if (str_eq(json_get_str(admin, "endpoint", ""), endpoint))
			return 0;
		json_put_str(admin, "endpoint", endpoint);
		return write_private(admin_path, admin, 0, 0, err);
	}
	random_bytes(bytes, sizeof(bytes));
	secret = str_base64url(bytes, sizeof(bytes));
	hash = auth_secret_hash(secret);
	random_uuid(client_id);
	random_uuid(object_id);
	bootstrap = json_pack("{s:s, s:s, s:s, s:s}", "clientId", client_id, "objectId", object_id,
		"name", "admin", "secretHash", hash);
	admin = json_pack("{s:s, s:s, s:s, s:s, s:s}", "endpoint", endpoint, "tenantId",
		config->tenant_id, "subscriptionId", config->subscription_id, "clientId", client_id,
		"clientSecret", secret);
	r = write_private(bootstrap_path, bootstrap, uid, gid, err);
	return r < 0 ? r : write_private(admin_path, admin, 0, 0, err);
}

int setup_lock(const char *state, struct err *err)
{
	_cleanup_fd_ int fd = -EBADF;
	int r = file_mkdirs(state, 0755);

	if (r < 0)
		return err_errno(err, r, "make %s", state);
	fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return err_errno(err, -errno, "lock %s", state);
	return take_fd(fd);
}

int setup_run(const struct setup_options *options, struct err *err, struct config **ret,
	bool *ret_changed)
{
	_cleanup_(config_freep) struct config *config = NULL;
	uid_t uid;
	gid_t gid;
	int r;

	r = setup_user(err, &uid, &gid);
	if (r < 0)
		return r;
	r = make_config(options, err, &config, ret_changed);
	if (r < 0)
		rmdir(options->state); /* only when it is empty: nothing was made yet */
	if (r == 0)
		r = make_dirs(config, uid, gid, err);
	if (r == 0)
		r = make_certificates(config, uid, gid, err);
	if (r == 0)
		r = make_admin(config, uid, gid, err);
	if (r < 0)
		return r;
	*ret = take_ptr(config);
	return 0;
}
