#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/time.h"
#include "node/runtime/cgroup.h"

#define PERIOD_US 100000
#define QUOTA_MIN_US 1000 /* the kernel refuses less */
#define CONTROL_MAX ((size_t)64 << 10)
#define PROCS_MAX ((size_t)4 << 20)
#define DEPTH_MAX 16
#define PATH_BYTES (PATH_MAX + 256)

static void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

static bool has_option(const char *options, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = options; *p;) {
		size_t n = strcspn(p, ",");

		if (n == len && memcmp(p, name, n) == 0)
			return true;
		p += n + (p[n] == ',');
	}
	return false;
}

static void add_hierarchy(struct cgroups *cgroups, const char *mount, const char *options)
{
	char *copy;

	if (cgroups->n == CGROUP_HIERARCHIES_MAX)
		return;
	copy = cgroups->mounts[cgroups->n++] = xstrdup(mount);
	if (has_option(options, "cpu"))
		cgroups->cpu = copy;
	if (has_option(options, "memory"))
		cgroups->memory = copy;
	if (has_option(options, "pids"))
		cgroups->pids = copy;
}

/* "source mount-point type options 0 0"; blanks in a mount point are octal escapes, so that fields
 * split at blanks. */
static void read_mount(struct cgroups *cgroups, char *line, char **v2_mount)
{
	char *fields[4] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		fields[i] = strsep(&line, " ");
		if (!fields[i])
			return;
	}
	if (str_eq(fields[2], "cgroup"))
		add_hierarchy(cgroups, fields[1], fields[3]);
	else if (str_eq(fields[2], "cgroup2") && !*v2_mount)
		*v2_mount = xstrdup(fields[1]);
}

int cgroups_load(const char *mounts_path, struct cgroups *ret, struct err *err)
{
	_cleanup_free_ char *v2_mount = NULL;
	_cleanup_free_ char *text = NULL;
	struct cgroups cgroups = {0};
	char path[PATH_BYTES];
	char *rest, *line;
	int r;

	r = file_read(AT_FDCWD, mounts_path, (size_t)16 << 20, &text, NULL);
	if (r < 0)
		return err_errno(err, r, "%s", mounts_path);
	rest = text;
	while ((line = strsep(&rest, "\n")))
		read_mount(&cgroups, line, &v2_mount);
	if (!cgroups.cpu && !cgroups.memory && !cgroups.pids && v2_mount) {
		cgroups_done(&cgroups);
		cgroups = (struct cgroups){.v2 = true, .n = 1, .mounts = {take_ptr(v2_mount)}};
		cgroups.cpu = cgroups.memory = cgroups.pids = cgroups.mounts[0];
	}
	if (cgroups.n == 0)
		return err_set(err, -ENOTSUP, "InternalError",
			"This machine has no control groups mounted, so containers can't be limited.");
	if (cgroups.memory && !cgroups.v2) {
		snprintf(path, sizeof(path), "%s/memory.memsw.limit_in_bytes", cgroups.memory);
		cgroups.swap_accounting = access(path, F_OK) == 0;
	}
	*ret = cgroups;
	return 0;
}

void cgroups_done(struct cgroups *cgroups)
{
	for (size_t i = 0; i < cgroups->n; i++)
		free(cgroups->mounts[i]);
	*cgroups = (struct cgroups){0};
}

static int control_set(const char *mount, const char *path, const char *file, const char *value)
{
	char full[PATH_BYTES];

	snprintf(full, sizeof(full), "%s%s/%s", mount, path, file);
	return file_write_control(AT_FDCWD, full, value);
}

static int set(
	const char *mount, const char *path, const char *file, const char *value, struct err *err)
{
	int r = control_set(mount, path, file, value);

	return r < 0 ? err_errno(err, r, "cgroup %s: %s", path, file) : 0;
}

/* A child gets a controller only when each of its ancestors hands it down. */
static int v2_delegate(const char *mount, const char *path, struct err *err)
{
	static const char *const controllers[] = {"+cpu", "+memory", "+pids"};
	_cleanup_free_ char *at = xstrdup(path);

	for (char *slash = at; slash; slash = strchr(slash + 1, '/')) {
		char saved = *slash;

		*slash = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
			int r = set(mount, at, "cgroup.subtree_control", controllers[i], err);

			if (r < 0)
				return r;
		}
		*slash = saved;
	}
	return 0;
}

/* mkdir -p whose umask doesn't matter. What is there already is left as it is. */
static int make_open(const char *mount, const char *path, struct err *err)
{
	_cleanup_free_ char *full = xasprintf("%s%s", mount, path);

	for (char *slash = full + strlen(mount) + 1;; slash++) {
		char saved;

		slash += strcspn(slash, "/");
		saved = *slash;
		*slash = '\0';
		if (mkdir(full, 0755) == 0 ? chmod(full, 0755) < 0 : errno != EEXIST)
			return err_errno(err, -errno, "cgroup %s", full);
		if (!saved)
			return 0;
		*slash = saved;
	}
}

int cgroup_make(const struct cgroups *cgroups, const char *path, struct err *err)
{
	for (size_t i = 0; i < cgroups->n; i++) {
		int r = make_open(cgroups->mounts[i], path, err);

		if (r < 0)
			return r;
	}
	return cgroups->v2 ? v2_delegate(cgroups->mounts[0], path, err) : 0;
}

/* Memory and swap together may not fall below memory alone, so which of the two goes first depends
 * on the direction of the change. */
static int v1_memory(
	const struct cgroups *cgroups, const char *path, uint64_t bytes, struct err *err)
{
	const char *const limit = "memory.limit_in_bytes", *const both =
								   "memory.memsw.limit_in_bytes";
	char value[32];
	int r;

	if (bytes)
		snprintf(value, sizeof(value), "%llu", (unsigned long long)bytes);
	else
		snprintf(value, sizeof(value), "-1");
	if (!cgroups->swap_accounting) {
		control_set(cgroups->memory, path, "memory.swappiness", "0");
		return set(cgroups->memory, path, limit, value, err);
	}
	r = control_set(cgroups->memory, path, limit, value);
	if (r == -EINVAL) {
		r = set(cgroups->memory, path, both, value, err);
		if (r < 0)
			return r;
		return set(cgroups->memory, path, limit, value, err);
	}
	if (r < 0)
		return err_errno(err, r, "cgroup %s: %s", path, limit);
	return set(cgroups->memory, path, both, value, err);
}

static int v1_cpu(const struct cgroups *cgroups, const char *path, long quota_us, struct err *err)
{
	char value[32];
	int r;

	snprintf(value, sizeof(value), "%d", PERIOD_US);
	r = set(cgroups->cpu, path, "cpu.cfs_period_us", value, err);
	if (r < 0)
		return r;
	snprintf(value, sizeof(value), "%ld", quota_us ? quota_us : -1);
	return set(cgroups->cpu, path, "cpu.cfs_quota_us", value, err);
}

static int v2_cpu_memory(const struct cgroups *cgroups, const char *path, long quota_us,
	uint64_t bytes, struct err *err)
{
	char value[64];
	int r;

	if (quota_us)
		snprintf(value, sizeof(value), "%ld %d", quota_us, PERIOD_US);
	else
		snprintf(value, sizeof(value), "max %d", PERIOD_US);
	r = set(cgroups->cpu, path, "cpu.max", value, err);
	if (r < 0)
		return r;
	if (bytes)
		snprintf(value, sizeof(value), "%llu", (unsigned long long)bytes);
	else
		snprintf(value, sizeof(value), "max");
	r = set(cgroups->memory, path, "memory.max", value, err);
	if (r < 0)
		return r;
	/* The file is missing on kernels without swap, where there is nothing to forbid. */
	r = control_set(cgroups->memory, path, "memory.swap.max", bytes ? "0" : "max");
	return r < 0 && r != -ENOENT ? err_errno(err, r, "cgroup %s: memory.swap.max", path) : 0;
}

int cgroup_limit(const struct cgroups *cgroups, const char *path,
	const struct cgroup_limits *limits, struct err *err)
{
	long quota_us = limits->cpu > 0 ? (long)(limits->cpu * PERIOD_US) : 0;
	char value[32];
	int r;

	if (limits->cpu > 0)
		quota_us = MAX(quota_us, QUOTA_MIN_US);
	r = cgroup_make(cgroups, path, err);
	if (r < 0)
		return r;
	if (cgroups->v2) {
		r = v2_cpu_memory(cgroups, path, quota_us, limits->memory_bytes, err);
	} else {
		r = cgroups->cpu ? v1_cpu(cgroups, path, quota_us, err) : 0;
		if (r == 0 && cgroups->memory)
			r = v1_memory(cgroups, path, limits->memory_bytes, err);
	}
	if (r < 0 || !cgroups->pids)
		return r;
	if (limits->pids_max)
		snprintf(value, sizeof(value), "%llu", (unsigned long long)limits->pids_max);
	else
		snprintf(value, sizeof(value), "max");
	return set(cgroups->pids, path, "pids.max", value, err);
}

typedef int (*visit_fn)(int dirfd, const char *name, void *arg);

/* Calls fn for each child directory. */
static int each_child(int dirfd, visit_fn fn, void *arg)
{
	struct dirent *entry;
	DIR *dir;
	int first = fd_opendir_beneath(dirfd, ".", &dir);

	if (first < 0)
		return first;
	while ((entry = readdir(dir))) {
		int r;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		r = fn(dirfd, entry->d_name, arg);
		if (r < 0 && first == 0)
			first = r;
	}
	closedir(dir);
	return first;
}

struct killing {
	unsigned depth;
	size_t seen; /* processes found in this round */
};

/* A file that just went away with its group is an empty one. */
static int kill_procs(int dirfd, struct killing *killing)
{
	_cleanup_free_ char *text = NULL;
	char *rest, *line;
	int r = file_read(dirfd, "cgroup.procs", PROCS_MAX, &text, NULL);

	if (r < 0)
		return r == -ENOENT || r == -ENODEV ? 0 : r;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		uint64_t pid;

		/* 0 is a process that our pid namespace doesn't show: never kill(0, …). */
		if (str_to_u64(line, INT_MAX, &pid) < 0 || pid == 0)
			continue;
		killing->seen++;
		kill((pid_t)pid, SIGKILL);
	}
	return 0;
}

static int kill_tree(int dirfd, const char *name, void *arg)
{
	struct killing *killing = arg;
	_cleanup_fd_ int fd = -EBADF;
	int r;

	if (killing->depth == DEPTH_MAX)
		return -ELOOP;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	killing->depth++;
	r = each_child(fd, kill_tree, killing);
	killing->depth--;
	if (r < 0 && r != -ENOENT && r != -ENODEV)
		return r;
	return kill_procs(fd, killing);
}

int cgroup_kill(const struct cgroups *cgroups, const char *path, int timeout_ms)
{
	const char *mount = cgroups->pids ? cgroups->pids : cgroups->mounts[0];
	int64_t deadline_ms = time_mono_ms() + timeout_ms;
	char full[PATH_BYTES];

	snprintf(full, sizeof(full), "%s%s", mount, path);
	/* Linux 5.14; one write that no fork can outrun. */
	if (cgroups->v2)
		control_set(mount, path, "cgroup.kill", "1");
	for (int wait_ms = 1;; wait_ms = MIN(wait_ms * 2, 20)) {
		struct killing killing = {0};
		int r = kill_tree(AT_FDCWD, full, &killing);

		if (r < 0 || killing.seen == 0)
			return r;
		if (time_mono_ms() >= deadline_ms)
			return -ETIMEDOUT;
		pause_ms(wait_ms);
	}
}

/* A group stays busy for a moment after its last process has ended. */
static int remove_tree(int dirfd, const char *name, void *arg)
{
	unsigned *depth = arg;

	for (int tries = 0;; tries++) {
		_cleanup_fd_ int fd = -EBADF;
		int r;

		if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		r = -errno;
		if (r != -EBUSY && r != -ENOTEMPTY)
			return r;
		if (tries == 200 || *depth == DEPTH_MAX)
			return r;
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			return errno == ENOENT ? 0 : -errno;
		++*depth;
		r = each_child(fd, remove_tree, depth);
		--*depth;
		if (r < 0 && r != -ENOENT && r != -ENODEV)
			return r;
		if (tries > 0)
			pause_ms(5);
	}
}

int cgroup_remove(const struct cgroups *cgroups, const char *path, struct err *err)
{
	int first = 0;

	for (size_t i = 0; i < cgroups->n; i++) {
		char full[PATH_BYTES];
		unsigned depth = 0;
		int r;

		snprintf(full, sizeof(full), "%s%s", cgroups->mounts[i], path);
		r = remove_tree(AT_FDCWD, full, &depth);
		if (r < 0 && first == 0)
			first = err_errno(err, r, "remove cgroup %s", full);
	}
	return first;
}

uint64_t cgroup_oom_kills(const struct cgroups *cgroups, const char *path)
{
	_cleanup_free_ char *text = NULL;
	char full[PATH_BYTES];
	char *rest, *line;

	if (!cgroups->memory)
		return 0;
	snprintf(full, sizeof(full), "%s%s/%s", cgroups->memory, path,
		cgroups->v2 ? "memory.events" : "memory.oom_control");
	if (file_read(AT_FDCWD, full, CONTROL_MAX, &text, NULL) < 0)
		return 0;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		uint64_t n;

		if (str_starts(line, "oom_kill ") &&
			str_to_u64(line + strlen("oom_kill "), UINT64_MAX, &n) == 0)
			return n;
	}
	return 0;
}

uint64_t cgroup_parent_quota_us(const struct cgroups *cgroups, const char *path)
{
	_cleanup_free_ char *text = NULL;
	const char *slash = strrchr(path, '/');
	char full[PATH_BYTES];
	uint64_t quota_us;

	if (cgroups->v2 || !cgroups->cpu || !slash)
		return 0;
	snprintf(full, sizeof(full), "%s%.*s/cpu.cfs_quota_us", cgroups->cpu, (int)(slash - path),
		path);
	if (file_read(AT_FDCWD, full, 64, &text, NULL) < 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return str_to_u64(text, INT64_MAX, &quota_us) < 0 ? 0 : quota_us; /* "-1": none */
}
