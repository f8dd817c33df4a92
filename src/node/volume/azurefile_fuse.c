#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/time.h"
#include "node/volume/azurefile.h"

/* berth-smb's ids: below all ranges that groups get, and no other worker's. */
#define SMB_UID ((1U << 28) - 3)
/* In the volume's folder: "PID START-TIME" of the process that serves. */
#define SERVER "server"
/* Longer than what berth-smb takes to give up by itself. */
#define ANSWER_MS 20000
#define ANSWER_MAX 4096
#define END_MS 2000
#define PROGRAM "berth-smb" /* in its root */

/* --- the process's own view of the machine: what it links, and how names are resolved --- */

#define SMB_CONF                                                                                   \
	"[global]\n"                                                                               \
	"client min protocol = SMB3\n"                                                             \
	"client max protocol = SMB3\n"                                                             \
	"client smb encrypt = required\n"                                                          \
	"client use kerberos = off\n"                                                              \
	"name resolve order = host\n"                                                              \
	"disable netbios = yes\n"                                                                  \
	"dos charset = ASCII\n"                                                                    \
	"log file = /dev/null\n"                                                                   \
	"log level = 0\n"

/* Folders that are seen, read-only, where they exist; links such as /lib are made anew. */
static const char *const seen[] = {
	"usr",
	"etc",
	"lib",
	"lib32",
	"lib64",
	"run/systemd/resolve",
	"run/NetworkManager",
	"run/resolvconf",
#if SANITIZED
	"proc",
#endif
};

struct child {
	const char *place; /* an existing folder, where its root is put together */
	const char *program;
};

static int see_folder(const char *name)
{
	char source[64], link[64];
	struct stat st;
	ssize_t n;

	/* No snprintf after a fork: it may wait for a lock of another thread. */
	source[0] = '/';
	memcpy(source + 1, name, strlen(name) + 1);
	if (lstat(source, &st) < 0)
		return 0;
	if (S_ISLNK(st.st_mode)) {
		n = readlink(source, link, sizeof(link) - 1);
		if (n < 0)
			return -errno;
		link[n] = '\0';
		return symlink(link, name) < 0 ? -errno : 0;
	}
	if (mkdir(name, 0755) < 0 && errno != EEXIST)
		return -errno;
	return mount(source, name, NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

static int write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444), r = 0;

	if (fd < 0)
		return -errno;
	if (text && write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		r = -EIO;
	if (fchmod(fd, text ? 0444 : 0555) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int bind_program(const struct child *child)
{
	/* By name: a descriptor of the parent's belongs to the parent's mounts. */
	_cleanup_fd_ int tree =
		open_tree(AT_FDCWD, child->program, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return -errno;
	if (move_mount(tree, "", AT_FDCWD, PROGRAM, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

static int enter_view(const struct child *child)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	int r = 0;

	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("berth-smb", child->place, "tmpfs", MS_NOSUID | MS_NODEV,
			"mode=0755,size=64k,nr_inodes=64") < 0 ||
		chdir(child->place) < 0)
		return -errno;
	if (mkdir("dev", 0755) < 0 || mkdir("run", 0755) < 0 || mkdir("run/systemd", 0755) < 0 ||
		mkdir(".smb", 0755) < 0)
		return -errno;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(seen); i++)
		r = see_folder(seen[i]);
	if (r == 0)
		r = write_file(".smb/smb.conf", SMB_CONF);
	if (r == 0)
		r = write_file(PROGRAM, NULL);
	if (r == 0)
		r = bind_program(child);
	if (r == 0)
		r = write_file("dev/urandom", NULL);
	if (r < 0)
		return r;
	/* The one device: without it Samba's Kerberos library turns in a loop. */
	if (mount_setattr(AT_FDCWD, ".", AT_RECURSIVE, &attr, sizeof(attr)) < 0 ||
		mount("/dev/urandom", "dev/urandom", NULL, MS_BIND, NULL) < 0)
		return -errno;
	/* The old root with all its mounts goes: this process holds none of them. */
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

static int lower_limits(void)
{
	/* Address space is not bounded under a sanitizer, which reserves terabytes. */
	static const struct {
		int resource;
		rlim_t max;
	} limits[] = {
		{RLIMIT_CORE, 0},
		{RLIMIT_NOFILE, 256},
		{RLIMIT_MEMLOCK, 65536},
#if !SANITIZED
		{RLIMIT_AS, (rlim_t)1 << 30},
#endif
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit now;

		if (getrlimit(limits[i].resource, &now) < 0)
			return -errno;
		now.rlim_max = MIN(now.rlim_max, limits[i].max);
		now.rlim_cur = MIN(now.rlim_cur, now.rlim_max);
		if (setrlimit(limits[i].resource, &now) < 0)
			return -errno;
	}
	return 0;
}

/* In the child, before exec. Plain system calls: glibc's wrappers of these coordinate threads that
 * aren't there. */
static int become_smb(void *arg)
{
	int r;

	umask(0022);
	r = enter_view(arg);
	umask(0077);
	if (r == 0)
		r = lower_limits();
	if (r < 0)
		return r;
	for (int cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
			return -errno;
	if (syscall(SYS_setgroups, 0, NULL) < 0 ||
		syscall(SYS_setresgid, SMB_UID, SMB_UID, SMB_UID) < 0 ||
		syscall(SYS_setresuid, SMB_UID, SMB_UID, SMB_UID) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

/* --- start --- */

/* Names and key go by a file without a name, never by arguments or environment. */
static int config_file(const struct azure_server *server, const char *mode, struct err *err)
{
	_cleanup_json_ json_t *json = json_object();
	_cleanup_free_ char *text = NULL;
	_cleanup_fd_ int fd = -EBADF;
	int r;

	json_put_str(json, "mode", mode);
	json_put_str(json, "host", server->host);
	json_object_set_new(json, "port", json_integer(server->port));
	json_put_str(json, "share", server->spec->share);
	json_put_str(json, "account", server->spec->account);
	json_put_str(json, "key", server->spec->key);
	json_object_set_new(json, "uid", json_integer(server->uid_base));
	json_object_set_new(json, "gid", json_integer(server->uid_base));
	json_object_set_new(json, "readOnly", json_boolean(server->spec->read_only));
	text = json_text(json);
	fd = memfd_create("smb-config", MFD_CLOEXEC);
	r = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	explicit_bzero(text, strlen(text));
	return r < 0 ? err_errno(err, r, "configuration of berth-smb") : take_fd(fd);
}

static int spawn(const struct volumes *volumes, const char *path, const char *mode,
	const struct azure_server *server, int fuse_fd, struct err *err, struct proc *ret,
	int *ret_answer_fd)
{
	static const char *const argv[] = {"/" PROGRAM, NULL};
	static const char *const envp[] = {
		"LC_ALL=C.UTF-8", "HOME=/", "USER=berth", "RES_OPTIONS=timeout:2 attempts:2", NULL};
	_cleanup_fd_ int in = config_file(server, mode, err);
	_cleanup_fd_ int answer_read = -EBADF, answer_write = -EBADF;
	struct child child = {.place = path, .program = volumes->config.smb_program};
	struct proc_spec spec = PROC_SPEC_INIT;
	int answer[2], r;

	if (in < 0)
		return in;
	if (pipe2(answer, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe for berth-smb");
	answer_read = answer[0];
	answer_write = answer[1];
	spec.argv = argv;
	spec.envp = envp;
	spec.stdin_fd = in;
	spec.stdout_fd = answer_write;
	spec.stderr_fd = STDERR_FILENO;
	spec.fds = &fuse_fd;
	spec.n_fds = fuse_fd >= 0 ? 1 : 0;
	spec.new_session = true;
	spec.setup = become_smb;
	spec.setup_arg = &child;
	r = proc_spawn(&spec, err, ret);
	if (r < 0)
		return err_wrap(err, "%s", volumes->config.smb_program);
	*ret_answer_fd = take_fd(answer_read);
	return 0;
}

/* Reads the one line. -ECANCELED, -ETIMEDOUT; -EPROTO: it ended without a word. */
static int wait_for_line(int fd, int cancel_fd, struct buf *line)
{
	int64_t deadline_ms = time_mono_ms() + ANSWER_MS;

	for (;;) {
		struct pollfd fds[2] = {
			{.fd = fd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
		int n = poll(fds, 2, (int)MAX(deadline_ms - time_mono_ms(), 0));
		ssize_t len;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ETIMEDOUT;
		if (fds[1].revents)
			return -ECANCELED;
		len = buf_read(line, fd, ANSWER_MAX - line->len);
		if (len <= 0)
			return -EPROTO;
		if (memchr(line->data, '\n', line->len))
			return 0;
	}
}

static int read_answer(const struct azure_server *server, int fd, int cancel_fd, char *address,
	size_t size, struct err *err)
{
	_cleanup_buf_ struct buf line = BUF_MAX(ANSWER_MAX + 1);
	_cleanup_json_ json_t *json = NULL;
	int r = wait_for_line(fd, cancel_fd, &line);

	if (r == -ECANCELED)
		return err_set(err, r, "Canceled", "The mount was given up.");
	if (r == -ETIMEDOUT)
		return azurefile_fail(server, "connect", r, err);
	if (r == 0)
		r = json_parse(buf_str(&line), line.len, 2, NULL, &json);
	if (r < 0)
		return err_set(err, -EPROTO, "FailedMountAzureFileVolume",
			"berth-smb ended before the share was mounted.");
	r = (int)-json_get_int(json, "errno", EPROTO);
	if (r != 0)
		return azurefile_fail(server, json_get_str(json, "step", ""),
			r < 0 && r > -4096 ? r : -EPROTO, err);
	if (address && str_copy(address, size, json_get_str(json, "address", "")) < 0)
		return err_set(
			err, -EPROTO, "FailedMountAzureFileVolume", "berth-smb names no address.");
	return 0;
}

int azurefile_resolve(const struct volumes *volumes, const char *path,
	const struct azure_server *server, int cancel_fd, char *ret, size_t size, struct err *err)
{
	_cleanup_fd_ int answer = -EBADF;
	struct proc proc;
	int r = spawn(volumes, path, "resolve", server, -1, err, &proc, &answer);

	if (r < 0)
		return r;
	r = read_answer(server, answer, cancel_fd, ret, size, err);
	proc_kill(&proc);
	return r;
}

/* --- the mount --- */

static int set(int context, const char *key, const char *value)
{
	return fsconfig(context, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0) < 0
		       ? -errno
		       : 0;
}

/* Of no place yet: it comes to the volume's folder when the share answers, and goes with the
 * descriptors if it doesn't. */
static int new_mount(int fuse_fd, const struct azure_server *server, struct err *err)
{
	unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	_cleanup_fd_ int context = fsopen("fuse", FSOPEN_CLOEXEC);
	char fd_text[12], uid[12];
	int r, mount_fd;

	if (context < 0)
		return err_errno(err, -errno, "the kernel's FUSE");
	snprintf(fd_text, sizeof(fd_text), "%d", fuse_fd);
	snprintf(uid, sizeof(uid), "%u", server->uid_base);
	r = set(context, "source", "berth-smb");
	if (r == 0)
		r = set(context, "subtype", "smb");
	if (r == 0)
		r = set(context, "fd", fd_text);
	if (r == 0)
		r = set(context, "rootmode", "40000");
	if (r == 0)
		r = set(context, "user_id", uid);
	if (r == 0)
		r = set(context, "group_id", uid);
	if (r == 0)
		r = set(context, "allow_other", NULL);
	if (r == 0)
		r = set(context, "default_permissions", NULL);
	if (r == 0)
		r = set(context, "max_read", "1048576");
	if (r == 0 && fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(err, r, "make a FUSE file system");
	if (server->spec->read_only)
		attributes |= MOUNT_ATTR_RDONLY;
	mount_fd = fsmount(context, FSMOUNT_CLOEXEC, attributes);
	return mount_fd < 0 ? err_errno(err, -errno, "mount a FUSE file system") : mount_fd;
}

static int note_server(int dir, pid_t pid, struct err *err)
{
	char text[64];
	uint64_t start;
	int r = proc_start_time(pid, &start);

	if (r == 0) {
		snprintf(text, sizeof(text), "%d %llu", pid, (unsigned long long)start);
		r = file_write_replace(dir, SERVER, text, strlen(text), 0600);
	}
	return r < 0 ? err_errno(err, r, "note the process of berth-smb") : 0;
}

int azurefile_fuse_up(const struct volumes *volumes, int dir, const char *path,
	const struct azure_server *server, int cancel_fd, struct err *err)
{
	_cleanup_fd_ int fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	_cleanup_fd_ int mount_fd = -EBADF, answer = -EBADF;
	struct proc proc;
	int r;

	if (fuse_fd < 0)
		return err_errno(err, -errno,
			"/dev/fuse, for the kernel has no cifs (`modprobe cifs` or `modprobe fuse`)");
	mount_fd = new_mount(fuse_fd, server, err);
	if (mount_fd < 0)
		return mount_fd;
	r = spawn(volumes, path, "mount", server, fuse_fd, err, &proc, &answer);
	if (r < 0)
		return r;
	/* From here on the mount lives as long as that process does. */
	fuse_fd = fd_close(fuse_fd);
	r = note_server(dir, proc.pid, err);
	if (r == 0)
		r = read_answer(server, answer, cancel_fd, NULL, 0, err);
	if (r == 0)
		r = volume_attach(mount_fd, dir, err);
	if (r < 0) {
		proc_kill(&proc);
		unlinkat(dir, SERVER, 0);
		return r;
	}
	fd_close(proc.pidfd); /* it goes on; its end is found by azurefile_fuse_check() */
	return 0;
}

/* --- the process later --- */

struct server {
	pid_t pid;
	uint64_t start;
};

/* -ENOENT: no note; -ESRCH: one that says nothing. */
static int read_note(int dir, struct server *ret)
{
	_cleanup_free_ char *text = NULL;
	struct server server;
	uint64_t pid;
	char *blank;
	int r = file_read(dir, SERVER, 64, &text, NULL);

	if (r < 0)
		return r;
	blank = strchr(text, ' ');
	if (!blank)
		return -ESRCH;
	*blank = '\0';
	if (str_to_u64(text, INT32_MAX, &pid) < 0 || pid <= 1 ||
		str_to_u64(blank + 1, UINT64_MAX, &server.start) < 0)
		return -ESRCH;
	server.pid = (pid_t)pid;
	*ret = server;
	return 0;
}

/* By a descriptor; -ESRCH: gone. */
static int open_server(const struct server *server)
{
	_cleanup_fd_ int fd = pidfd_open(server->pid, 0);
	uint64_t now;

	/* Asked after the descriptor is open: the number can't have changed its owner since. */
	if (fd < 0 || proc_start_time(server->pid, &now) < 0 || now != server->start)
		return -ESRCH;
	return take_fd(fd);
}

int azurefile_fuse_check(int dir)
{
	struct server server;
	int r = read_note(dir, &server);

	if (r == 0)
		r = open_server(&server);
	if (r > 0)
		fd_close(r);
	return MIN(r, 0);
}

void azurefile_fuse_end(int dir)
{
	_cleanup_fd_ int fd = -EBADF;
	struct server server;

	if (read_note(dir, &server) == 0) {
		struct pollfd poll_fd = {.events = POLLIN};

		poll_fd.fd = fd = open_server(&server);
		if (fd >= 0)
			pidfd_send_signal(fd, SIGKILL, NULL, 0);
		if (fd >= 0 && poll(&poll_fd, 1, END_MS) == 0)
			log_warn("berth-smb (process %d) doesn't end", server.pid);
		proc_reap_ended(server.pid, server.start);
	}
	unlinkat(dir, SERVER, 0);
}
