#include "node/runtime/fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"

#define UID_BASE 1000000u

char top[] = "/tmp/berth-runtime-XXXXXX";
int machine_ns = -1;
struct runtime *runtime;

static char instance[64];

static int write_text(const char *path, const char *text)
{
	return file_write_control(AT_FDCWD, path, text);
}

void *path_of(const char *fmt, ...)
{
	static char paths[8][4096];
	static unsigned next;
	char *path = paths[next++ % 8];
	size_t len = (size_t)snprintf(path, sizeof(paths[0]), "%s/", top);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path + len, sizeof(paths[0]) - len, fmt, ap);
	va_end(ap);
	return path;
}

static void pin(pid_t pid, const char *ns)
{
	char source[64];
	const char *target = path_of("ns/%s", ns);
	int fd = open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
	snprintf(source, sizeof(source), "/proc/%d/ns/%s", (int)pid, ns);
	assert_int_equal(mount(source, target, NULL, MS_BIND, NULL), 0);
}

static int up_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = ioctl(sock, SIOCSIFFLAGS, &request);

	close(sock);
	return r;
}

static void sandbox_child(int ready, int go)
{
	char byte = 'r';

	if (unshare(CLONE_NEWUSER) < 0 || write(ready, &byte, 1) != 1 || read(go, &byte, 1) != 1)
		_exit(1);
	if (unshare(CLONE_NEWNET) < 0 || up_loopback() < 0 ||
		write_text("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0") < 0)
		_exit(1);
	if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) < 0)
		_exit(1);
	_exit(0);
}

static void make_sandbox(void)
{
	int ready[2], go[2];
	char path[64], text[64], byte;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		sandbox_child(ready[1], go[0]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	snprintf(text, sizeof(text), "0 %u 65536\n", UID_BASE);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
	assert_int_equal(write_text(path, text), 0);
	snprintf(path, sizeof(path), "/proc/%d/gid_map", (int)pid);
	assert_int_equal(write_text(path, text), 0);
	assert_int_equal(write(go[1], "g", 1), 1);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(mkdir(path_of("ns"), 0711), 0);
	pin(pid, "user");
	pin(pid, "net");
	assert_int_equal(write(go[1], "g", 1), 1);
	waitpid(pid, NULL, 0);
	close(go[1]);
	close(go[0]);
	close(ready[0]);
	close(ready[1]);
}

static void new_runtime(void)
{
	struct err err = {0};
	struct runtime_config config = {
		.crun = "/usr/bin/crun", .conmon = "/usr/bin/conmon", .cgroup_root = instance};

	config.state_dir = path_of("crun");
	assert_int_equal(runtime_new(&config, &err, &runtime), 0);
}

int setup_machine(void **state)
{
	struct err err = {0};

	assert_non_null(mkdtemp(top));
	assert_int_equal(chmod(top, 0711), 0);
	snprintf(instance, sizeof(instance), "/berth-%s", top + strlen("/tmp/berth-"));
	machine_ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (runtime_namespace_enter(path_of("mnt"), &err) < 0)
		fail_msg("%s", err.message);
	make_sandbox();
	new_runtime();
	return 0;
}

int teardown_machine(void **state)
{
	struct err err = {0};

	assert_int_equal(runtime_group_cgroup_remove(runtime, "", &err), 0);
	runtime_free(runtime);
	assert_int_equal(umount2(path_of("ns/user"), MNT_DETACH), 0);
	assert_int_equal(umount2(path_of("ns/net"), MNT_DETACH), 0);
	assert_int_equal(setns(machine_ns, CLONE_NEWNS), 0);
	assert_int_equal(runtime_namespace_purge(path_of("mnt"), &err), 0);
	assert_int_equal(runtime_namespace_purge(path_of("mnt"), &err), 0);
	assert_int_equal(file_remove_tree(AT_FDCWD, top), 0);
	return 0;
}

static int give_to_group(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return lchown(path, UID_BASE, UID_BASE);
}

static void make_rootfs(const char *dir)
{
	static const char *const applets[] = {
		"sh", "cat", "id", "sleep", "true", "dd", "ls", "printf", "head", "stat"};
	static const char passwd[] =
		"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:Web:/home/web:/bin/sh\n";
	static const char group[] = "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n";
	char path[4096];

	snprintf(path, sizeof(path), "%s/rootfs/bin", dir);
	assert_int_equal(file_mkdirs(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/rootfs/etc", dir);
	assert_int_equal(file_mkdirs(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/rootfs/etc/passwd", dir);
	assert_int_equal(file_write_replace(AT_FDCWD, path, passwd, strlen(passwd), 0644), 0);
	snprintf(path, sizeof(path), "%s/rootfs/etc/group", dir);
	assert_int_equal(file_write_replace(AT_FDCWD, path, group, strlen(group), 0644), 0);
	snprintf(path, sizeof(path), "%s/rootfs/bin/busybox", dir);
	{
		_cleanup_free_ char *data = NULL;
		size_t len;

		assert_int_equal(
			file_read(AT_FDCWD, "/bin/busybox", 16 * MEBIBYTE, &data, &len), 0);
		assert_int_equal(file_write_replace(AT_FDCWD, path, data, len, 0755), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(applets); i++) {
		snprintf(path, sizeof(path), "%s/rootfs/bin/%s", dir, applets[i]);
		assert_int_equal(symlink("busybox", path), 0);
	}
	snprintf(path, sizeof(path), "%s/rootfs", dir);
	assert_int_equal(nftw(path, give_to_group, 16, FTW_PHYS), 0);
}

void box_init(struct box *box, const char *name, const char *script)
{
	*box = (struct box){0};
	snprintf(box->dir, sizeof(box->dir), "%s/%s", top, name);
	snprintf(box->id, sizeof(box->id), "g-%s-1", name);
	snprintf(box->cgroup, sizeof(box->cgroup), "group/%s", name);
	snprintf(box->net, sizeof(box->net), "%s/ns/net", top);
	snprintf(box->user, sizeof(box->user), "%s/ns/user", top);
	if (mkdir(box->dir, 0711) == 0)
		make_rootfs(box->dir);
	box->args[0] = "/bin/sh";
	box->args[1] = "-c";
	box->args[2] = script;
	box->spec = (struct runtime_spec){
		.id = box->id,
		.dir = box->dir,
		.run = 1,
		.args = box->args,
		.cwd = "/",
		.user = "",
		.hostname = "box",
		.net_ns = box->net,
		.user_ns = box->user,
		.uid_base = UID_BASE,
		.cgroup = box->cgroup,
		.cpu_limit = 1,
		.cpu_request = 0.5,
		.memory_bytes = 64 * MEBIBYTE,
		.pids_max = 64,
	};
}

void box_create(struct box *box)
{
	if (runtime_create(runtime, &box->spec, &box->err) < 0)
		fail_msg("create: %s", box->err.message);
}

void box_start(struct box *box)
{
	int64_t started_ms = 0;

	if (runtime_start(runtime, box->dir, box->id, &box->err, &started_ms) < 0)
		fail_msg("start: %s", box->err.message);
	assert_true(started_ms > 0);
}

struct runtime_state box_inspect(struct box *box)
{
	struct runtime_state state;

	if (runtime_inspect(runtime, box->dir, box->id, &box->err, &state) < 0)
		fail_msg("inspect: %s", box->err.message);
	return state;
}

struct runtime_state box_wait(struct box *box)
{
	int fd = runtime_monitor_fd(runtime, box->dir, box->id);

	if (fd >= 0) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

		assert_int_equal(poll(&poll_fd, 1, WAIT_MS), 1);
		close(fd);
	} else {
		assert_int_equal(fd, -ESRCH);
	}
	return box_inspect(box);
}

char *box_log(struct box *box, unsigned tail, bool timestamps, uint64_t max_bytes)
{
	_cleanup_fd_ int fd = memfd_create("log", MFD_CLOEXEC);
	struct buf buf = BUF_INIT;

	if (runtime_log_copy(runtime, box->dir, 1, tail, timestamps, max_bytes, fd, &box->err) < 0)
		fail_msg("log: %s", box->err.message);
	lseek(fd, 0, SEEK_SET);
	while (buf_read(&buf, fd, 65536) > 0)
		;
	return buf_take(&buf);
}

bool anywhere_in_cgroups(const char *path)
{
	for (size_t i = 0; i < runtime->cgroups.n; i++) {
		char full[4096];

		snprintf(full, sizeof(full), "%s%s/%s", runtime->cgroups.mounts[i], instance, path);
		if (access(full, F_OK) == 0)
			return true;
	}
	return false;
}

void box_delete(struct box *box)
{
	for (int i = 0; i < 2; i++)
		if (runtime_delete(runtime, box->dir, box->id, box->cgroup, &box->err) < 0)
			fail_msg("delete: %s", box->err.message);
	assert_int_equal(box_inspect(box).phase, RUNTIME_ABSENT);
	assert_false(anywhere_in_cgroups(box->cgroup));
	assert_false(crun_knows(runtime, box->id));
	assert_int_equal(runtime_monitor_fd(runtime, box->dir, box->id), -ESRCH);
}

struct runtime_state box_run(struct box *box)
{
	box_create(box);
	assert_int_equal(box_inspect(box).phase, RUNTIME_CREATED);
	box_start(box);
	return box_wait(box);
}

void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no \"%s\" at the end: %s", part,
			text + (strlen(text) > 900 ? strlen(text) - 900 : 0));
}
