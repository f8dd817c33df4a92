#include <fcntl.h>
#include <libsmbclient.h>
#include <stdio.h>
#include <sys/time.h>

#include "base/time.h"
#include "worker/smb/name.h"
#include "worker/smb/share.h"
#include "worker/smb/symlink.h"

#define RECONNECT_MS 10000 /* for how long a server that restarts is waited for */
#define RETRY_MS 200
#define SILENT_MS 3000 /* for how long a silent server isn't asked again */

struct share_file {
	struct share_file *prev, *next;
	SMBCFILE *smb; /* NULL: to be opened anew at the next use */
	char *path;
	int flags;
};

struct share {
	SMBCCTX *smb;
	char *base; /* smb://host:port/share */
	char *host, *account, *key;
	int64_t silent_until_ms;
	struct share_file *files;
	bool connected;
};

/* One call, with what it may still try. */
struct attempt {
	int64_t deadline_ms;
	bool again; /* an earlier one may have been done without our knowing */
};

/* --- connection --- */

static void authenticate(SMBCCTX *smb, const char *server, const char *share_name, char *workgroup,
	int workgroup_len, char *user, int user_len, char *password, int password_len)
{
	struct share *share = smbc_getOptionUserData(smb);

	/* A server may send its clients elsewhere: the key is for this one alone. */
	if (!str_eq_nocase(server, share->host))
		return;
	snprintf(user, (size_t)user_len, "%s", share->account);
	snprintf(password, (size_t)password_len, "%s", share->key);
}

int share_new(const struct share_config *config, struct share **ret)
{
	struct share *share = xnew(struct share);
	SMBCCTX *smb = smbc_new_context();

	if (!smb)
		return -ENOMEM;
	share->smb = smb;
	share->host = xstrdup(config->host);
	share->account = xstrdup(config->account);
	share->key = xstrdup(config->key);
	share->base = xasprintf("smb://%s:%u/%s", config->host, config->port, config->share);
	smbc_setOptionUserData(smb, share);
	smbc_setFunctionAuthDataWithContext(smb, authenticate);
	smbc_setTimeout(smb, config->timeout_ms);
	smbc_setPort(smb, config->port);
	smbc_setOptionUseKerberos(smb, 0);
	smbc_setOptionNoAutoAnonymousLogin(smb, 1);
	smbc_setOptionOneSharePerServer(smb, 1);
	smbc_setOptionSmbEncryptionLevel(smb, SMBC_ENCRYPTLEVEL_REQUIRE);
	smbc_setOptionCaseSensitive(smb, 1);
	smbc_setOptionDebugToStderr(smb, 1);
	smbc_setDebug(smb, 0);
	if (!smbc_init_context(smb) || !smbc_setOptionProtocols(smb, "SMB3", "SMB3"))
		return -EIO;
	*ret = share;
	return 0;
}

static bool is_connection_lost(int r)
{
	switch (-r) {
	case ECONNRESET:
	case ECONNABORTED:
	case ECONNREFUSED:
	case EPIPE:
	case ENOTCONN:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETRESET:
	case EBADF:
	case ESTALE:
		return true;
	default:
		return false;
	}
}

static int begin(const struct share *share, struct attempt *attempt)
{
	int64_t now_ms = time_mono_ms();

	alarm(SHARE_WATCHDOG_S);
	*attempt = (struct attempt){.deadline_ms = now_ms + (share->connected ? RECONNECT_MS : 0)};
	return now_ms < share->silent_until_ms ? -ETIMEDOUT : 0;
}

/* Whether a call that ended with r is to be made once more. */
static bool again(struct share *share, struct attempt *attempt, int r)
{
	if (r == -ETIMEDOUT)
		share->silent_until_ms = time_mono_ms() + SILENT_MS;
	if (!is_connection_lost(r) || time_mono_ms() > attempt->deadline_ms)
		return false;
	if (attempt->again)
		usleep(RETRY_MS * 1000);
	attempt->again = true;
	return true;
}

#define RESULT(call) ((call) < 0 ? -errno : 0)

/* --- stat --- */

static void fill_stat(struct stat *st, const struct stat *from)
{
	*st = (struct stat){
		.st_mode = S_ISDIR(from->st_mode) ? S_IFDIR | 0777 : S_IFREG | 0777,
		.st_nlink = S_ISDIR(from->st_mode) ? 2 : 1,
		.st_size = S_ISDIR(from->st_mode) ? 0 : MAX(from->st_size, 0),
		.st_atim = from->st_atim,
		.st_mtim = from->st_mtim,
		.st_ctim = from->st_ctim,
		.st_blksize = 65536,
	};
	st->st_blocks = (st->st_size + 511) / 512;
}

/* A symlink is a file of one certain size, and so only those are read. */
static void see_symlink(struct share *share, const char *path, struct stat *st)
{
	char target[SYMLINK_TARGET_MAX + 1];

	if (!S_ISREG(st->st_mode) || st->st_size != SYMLINK_FILE_SIZE ||
		share_readlink(share, path, target, sizeof(target)) < 0)
		return;
	st->st_mode = S_IFLNK | 0777;
	st->st_size = (off_t)strlen(target);
}

int share_stat(struct share *share, const char *path, struct stat *ret)
{
	_cleanup_free_ char *url = NULL;
	struct attempt attempt;
	struct stat st = {0};
	int r = name_to_url(share->base, path, &url);

	if (r == 0)
		r = begin(share, &attempt);
	if (r < 0)
		return r;
	do
		r = RESULT(smbc_getFunctionStat(share->smb)(share->smb, url, &st));
	while (again(share, &attempt, r));
	if (r < 0)
		return r;
	fill_stat(ret, &st);
	see_symlink(share, path, ret);
	return 0;
}

int share_connect(struct share *share)
{
	struct stat st;
	int r = share_stat(share, "/", &st);

	share->connected = r == 0;
	return r;
}

int share_statvfs(struct share *share, struct statvfs *ret)
{
	struct statvfs st = {0};
	struct attempt attempt;
	int r = begin(share, &attempt);

	if (r < 0)
		return r;
	do
		r = RESULT(smbc_getFunctionStatVFS(share->smb)(share->smb, share->base, &st));
	while (again(share, &attempt, r));
	if (r < 0)
		return r;
	*ret = (struct statvfs){
		.f_bsize = st.f_bsize ? st.f_bsize : 4096,
		.f_frsize = st.f_frsize ? st.f_frsize : 1,
		.f_blocks = st.f_blocks,
		.f_bfree = st.f_bfree,
		.f_bavail = st.f_bavail,
		.f_files = st.f_files,
		.f_ffree = st.f_ffree,
		.f_favail = st.f_favail,
		.f_namemax = NAME_BYTES_MAX,
	};
	/* libsmbclient gives the units of a fragment as a count of f_bsize. */
	ret->f_frsize *= ret->f_bsize;
	ret->f_bsize = ret->f_frsize;
	return 0;
}

/* --- folders --- */

static int open_folder(struct share *share, const char *path, SMBCFILE **ret)
{
	_cleanup_free_ char *url = NULL;
	struct attempt attempt;
	SMBCFILE *folder = NULL;
	int r = name_to_url(share->base, path, &url);

	if (r == 0)
		r = begin(share, &attempt);
	if (r < 0)
		return r;
	do {
		folder = smbc_getFunctionOpendir(share->smb)(share->smb, url);
		r = folder ? 0 : -errno;
	} while (again(share, &attempt, r));
	if (r == 0)
		*ret = folder;
	return r;
}

/* The library has read the whole list by now. */
int share_list(struct share *share, const char *path, share_list_fn fn, void *arg)
{
	const struct libsmb_file_info *info;
	SMBCFILE *folder = NULL;
	struct stat from = {0}, st;
	int r = open_folder(share, path, &folder);

	if (r < 0)
		return r;
	while (r == 0 &&
		(info = smbc_getFunctionReaddirPlus2(share->smb)(share->smb, folder, &from))) {
		_cleanup_free_ char *full = NULL;
		char name[NAME_BYTES_MAX + 1];

		if (!info->name || name_from_server(info->name, name) < 0)
			continue;
		fill_stat(&st, &from);
		full = xasprintf("%s/%s", str_eq(path, "/") ? "" : path, name);
		see_symlink(share, full, &st);
		r = fn(arg, name, &st);
	}
	smbc_getFunctionClosedir(share->smb)(share->smb, folder);
	return r;
}

/* --- files --- */

static int reopen(struct share *share, struct share_file *file, int more_flags)
{
	_cleanup_free_ char *url = NULL;
	int r;

	if (file->smb)
		return 0;
	r = name_to_url(share->base, file->path, &url);
	if (r < 0)
		return r;
	/* The end of a file isn't told to who may only write. */
	file->smb = smbc_getFunctionOpen(share->smb)(share->smb, url,
		(file->flags & O_APPEND ? O_RDWR : file->flags & O_ACCMODE) | more_flags, 0666);
	return file->smb ? 0 : -errno;
}

static void let_go(struct share *share, struct share_file *file)
{
	if (file->smb)
		smbc_getFunctionClose(share->smb)(share->smb, file->smb);
	file->smb = NULL;
}

int share_open(struct share *share, const char *path, int flags, struct share_file **ret)
{
	struct share_file *file;
	struct attempt attempt;
	int r = begin(share, &attempt);

	if (r < 0)
		return r;
	file = xnew(struct share_file);
	file->path = xstrdup(path);
	file->flags = flags & (O_ACCMODE | O_APPEND);
	do
		r = reopen(share, file, flags & (O_CREAT | O_EXCL | O_TRUNC));
	while (again(share, &attempt, r));
	if (r < 0) {
		free(file->path);
		free(file);
		return r;
	}
	file->next = share->files;
	if (file->next)
		file->next->prev = file;
	share->files = file;
	*ret = file;
	return 0;
}

void share_close(struct share *share, struct share_file *file)
{
	let_go(share, file);
	if (file->prev)
		file->prev->next = file->next;
	else
		share->files = file->next;
	if (file->next)
		file->next->prev = file->prev;
	free(file->path);
	free(file);
}

static ssize_t read_once(
	struct share *share, struct share_file *file, char *data, size_t n, off_t offset)
{
	size_t done = 0;
	ssize_t len;

	if (smbc_getFunctionLseek(share->smb)(share->smb, file->smb, offset, SEEK_SET) < 0)
		return -errno;
	while (done < n) {
		len = smbc_getFunctionRead(share->smb)(
			share->smb, file->smb, data + done, n - done);
		if (len < 0)
			return -errno;
		if (len == 0)
			break;
		done += (size_t)len;
	}
	return (ssize_t)done;
}

static ssize_t write_once(
	struct share *share, struct share_file *file, const char *data, size_t n, off_t offset)
{
	struct stat st = {0};
	size_t done = 0;
	ssize_t len;

	if (file->flags & O_APPEND) {
		if (smbc_getFunctionFstat(share->smb)(share->smb, file->smb, &st) < 0)
			return -errno;
		offset = st.st_size;
	}
	if (smbc_getFunctionLseek(share->smb)(share->smb, file->smb, offset, SEEK_SET) < 0)
		return -errno;
	while (done < n) {
		len = smbc_getFunctionWrite(share->smb)(
			share->smb, file->smb, data + done, n - done);
		if (len < 0)
			return -errno;
		if (len == 0)
			return -EIO;
		done += (size_t)len;
	}
	return (ssize_t)done;
}

/* A descriptor of the old connection is of no use on the new one. */
static bool again_with(
	struct share *share, struct share_file *file, struct attempt *attempt, ssize_t n)
{
	if (!again(share, attempt, (int)MIN(n, 0)))
		return false;
	let_go(share, file);
	return true;
}

ssize_t share_read(struct share *share, struct share_file *file, void *data, size_t n, off_t offset)
{
	struct attempt attempt;
	ssize_t r = begin(share, &attempt);

	if (r < 0)
		return r;
	do {
		r = reopen(share, file, 0);
		if (r == 0)
			r = read_once(share, file, data, n, offset);
	} while (again_with(share, file, &attempt, r));
	return r;
}

ssize_t share_write(
	struct share *share, struct share_file *file, const void *data, size_t n, off_t offset)
{
	struct attempt attempt;
	ssize_t r = begin(share, &attempt);

	if (r < 0)
		return r;
	do {
		r = reopen(share, file, 0);
		if (r == 0)
			r = write_once(share, file, data, n, offset);
	} while (again_with(share, file, &attempt, r));
	return r;
}

int share_truncate(struct share *share, struct share_file *file, off_t size)
{
	struct attempt attempt;
	int r = begin(share, &attempt);

	if (r < 0)
		return r;
	do {
		r = reopen(share, file, 0);
		if (r == 0)
			r = RESULT(
				smbc_getFunctionFtruncate(share->smb)(share->smb, file->smb, size));
	} while (again_with(share, file, &attempt, r));
	return r;
}

/* --- names --- */

/* `done` is what the server says of a call that it had carried out before the connection broke. */
static int on_name(
	struct share *share, const char *path, int (*fn)(struct share *, const char *), int done)
{
	_cleanup_free_ char *url = NULL;
	struct attempt attempt;
	int r = name_to_url(share->base, path, &url);

	if (r == 0)
		r = begin(share, &attempt);
	if (r < 0)
		return r;
	do
		r = fn(share, url);
	while (again(share, &attempt, r));
	return r == done && attempt.again ? 0 : r;
}

static int unlink_once(struct share *share, const char *url)
{
	return RESULT(smbc_getFunctionUnlink(share->smb)(share->smb, url));
}

static int mkdir_once(struct share *share, const char *url)
{
	return RESULT(smbc_getFunctionMkdir(share->smb)(share->smb, url, 0777));
}

static int rmdir_once(struct share *share, const char *url)
{
	return RESULT(smbc_getFunctionRmdir(share->smb)(share->smb, url));
}

int share_unlink(struct share *share, const char *path)
{
	return on_name(share, path, unlink_once, -ENOENT);
}

int share_mkdir(struct share *share, const char *path)
{
	return on_name(share, path, mkdir_once, -EEXIST);
}

int share_rmdir(struct share *share, const char *path)
{
	return on_name(share, path, rmdir_once, -ENOENT);
}

static bool is_beneath(const char *path, const char *top)
{
	size_t n = strlen(top);

	return strncmp(path, top, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* A server refuses to rename what is open, by us as by anybody: our own descriptors are closed and
 * opened anew, by the new name, when they are used next. */
static void let_go_beneath(struct share *share, const char *path)
{
	for (struct share_file *file = share->files; file; file = file->next)
		if (is_beneath(file->path, path))
			let_go(share, file);
}

static void rename_open_files(struct share *share, const char *from, const char *to)
{
	for (struct share_file *file = share->files; file; file = file->next) {
		char *path;

		if (!is_beneath(file->path, from))
			continue;
		path = xasprintf("%s%s", to, file->path + strlen(from));
		free(file->path);
		file->path = path;
	}
}

/* The library removes a file that is in the way, and no folder. */
static int make_way(struct share *share, const char *from, const char *to, bool no_replace)
{
	struct stat source, target;
	int r = share_stat(share, to, &target);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (no_replace)
		return -EEXIST;
	r = share_stat(share, from, &source);
	if (r < 0)
		return r;
	if (S_ISDIR(target.st_mode) != S_ISDIR(source.st_mode))
		return S_ISDIR(target.st_mode) ? -EISDIR : -ENOTDIR;
	return S_ISDIR(target.st_mode) ? share_rmdir(share, to) : 0;
}

int share_rename(struct share *share, const char *from, const char *to, bool no_replace)
{
	_cleanup_free_ char *from_url = NULL, *to_url = NULL;
	struct attempt attempt;
	int r = name_to_url(share->base, from, &from_url);

	if (r == 0)
		r = name_to_url(share->base, to, &to_url);
	if (r == 0)
		r = make_way(share, from, to, no_replace);
	if (r == 0)
		r = begin(share, &attempt);
	if (r < 0)
		return r;
	let_go_beneath(share, from);
	let_go_beneath(share, to);
	do
		r = RESULT(smbc_getFunctionRename(share->smb)(
			share->smb, from_url, share->smb, to_url));
	while (again(share, &attempt, r));
	if (r == -ENOENT && attempt.again)
		r = 0;
	if (r == 0)
		rename_open_files(share, from, to);
	return r;
}

static struct timeval choose_time(const struct timespec *wanted, const struct timespec *old)
{
	struct timespec now = *wanted;

	if (wanted->tv_nsec == UTIME_OMIT)
		now = *old;
	else if (wanted->tv_nsec == UTIME_NOW)
		clock_gettime(CLOCK_REALTIME, &now);
	return (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
}

int share_utimens(struct share *share, const char *path, const struct timespec times[2])
{
	_cleanup_free_ char *url = NULL;
	struct timeval values[2];
	struct attempt attempt;
	struct stat st = {0};
	int r = share_stat(share, path, &st);

	if (r == 0)
		r = name_to_url(share->base, path, &url);
	if (r == 0)
		r = begin(share, &attempt);
	if (r < 0)
		return r;
	values[0] = choose_time(&times[0], &st.st_atim);
	values[1] = choose_time(&times[1], &st.st_mtim);
	do
		r = RESULT(smbc_getFunctionUtimes(share->smb)(share->smb, url, values));
	while (again(share, &attempt, r));
	return r;
}

/* --- symlinks --- */

int share_symlink(struct share *share, const char *target, const char *path)
{
	char content[SYMLINK_FILE_SIZE];
	struct share_file *file;
	ssize_t n;
	int r = symlink_format(target, content);

	if (r == 0)
		r = share_open(share, path, O_WRONLY | O_CREAT | O_EXCL, &file);
	if (r < 0)
		return r;
	n = share_write(share, file, content, sizeof(content), 0);
	share_close(share, file);
	return (int)MIN(n, 0);
}

int share_readlink(struct share *share, const char *path, char *ret, size_t size)
{
	char content[SYMLINK_FILE_SIZE], target[SYMLINK_TARGET_MAX + 1];
	struct share_file *file;
	ssize_t n;
	int r = share_open(share, path, O_RDONLY, &file);

	if (r < 0)
		return r;
	n = share_read(share, file, content, sizeof(content), 0);
	share_close(share, file);
	if (n != (ssize_t)sizeof(content))
		return n < 0 ? (int)n : -EINVAL;
	r = symlink_parse(content, target);
	if (r == 0) /* cut as readlink(2) cuts */
		snprintf(ret, size, "%s", target);
	return r;
}
