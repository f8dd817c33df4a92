/*
 * The bundle's config.json, made only from struct runtime_spec: nothing of an image or a request is
 * copied through by name, there are no hooks, devices or sysctls, and the one annotation is our own
 * (crun reads orders out of annotations).
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "node/runtime/internal.h"
#include "node/runtime/user.h"

#define CODE "ContainerCreateFailed"
#define CPU_PERIOD_US 100000
#define CPU_QUOTA_MIN_US 1000
#define CPU_SHARES_MIN 2
#define CPU_SHARES_MAX 262144

static const char default_path[] =
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static const char *const capabilities[] = {"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE",
	"CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"};

static const char *const masked_paths[] = {"/proc/acpi", "/proc/asound", "/proc/interrupts",
	"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
	"/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"};

static const char *const read_only_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

static const struct {
	const char *target, *type, *options; /* blank-separated */
} mounts[] = {
	{"/proc", "proc", "nosuid noexec nodev"},
	{"/dev", "tmpfs", "nosuid strictatime mode=755 size=65536k"},
	{"/dev/pts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"},
	{"/dev/shm", "tmpfs", "nosuid noexec nodev mode=1777 size=65536k"},
	{"/dev/mqueue", "mqueue", "nosuid noexec nodev"},
	{"/sys", "sysfs", "nosuid noexec nodev ro"},
	{"/sys/fs/cgroup", "cgroup", "nosuid noexec nodev relatime ro"},
};

static json_t *strings(const char *const *list, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, json_string(list[i]));
	return array;
}

static json_t *words(const char *text)
{
	json_t *array = json_array();

	for (const char *p = text; *p;) {
		size_t n = strcspn(p, " ");

		json_array_append_new(array, json_stringn(p, n));
		p += n + (p[n] == ' ');
	}
	return array;
}

/* json_string() is NULL for text that isn't UTF-8; then nothing is appended and this says so. */
static int add_text(json_t *array, const char *text, const char *what, struct err *err)
{
	if (json_array_append_new(array, json_string(text)) < 0)
		return err_set(err, -EINVAL, CODE, "The container's %s is not valid UTF-8.", what);
	return 0;
}

static bool has_variable(const char *const *env, const char *name_and_equals)
{
	for (size_t i = 0; env && env[i]; i++)
		if (str_starts(env[i], name_and_equals))
			return true;
	return false;
}

static int add_environment(
	json_t *process, const struct runtime_spec *spec, const struct user *user, struct err *err)
{
	_cleanup_json_ json_t *array = json_array();
	char text[USER_HOME_MAX + 16];
	int r = 0;

	if (!has_variable(spec->env, "PATH="))
		r = add_text(array, default_path, "environment", err);
	if (r == 0 && !has_variable(spec->env, "HOSTNAME=")) {
		snprintf(text, sizeof(text), "HOSTNAME=%s", spec->hostname);
		r = add_text(array, text, "host name", err);
	}
	/* Left out, crun would look it up in the image's passwd file. */
	if (r == 0 && !has_variable(spec->env, "HOME=")) {
		snprintf(text, sizeof(text), "HOME=%s", user->home);
		r = add_text(array, text, "home", err);
	}
	for (size_t i = 0; r == 0 && spec->env && spec->env[i]; i++)
		r = add_text(array, spec->env[i], "environment", err);
	if (r == 0)
		json_object_set(process, "env", array);
	return r;
}

/* As Docker does: a process that isn't root may have them by way of nothing, since it can't gain
 * privileges. */
static json_t *process_capabilities(const struct user *user)
{
	json_t *sets = json_object();

	json_object_set_new(sets, "bounding", strings(capabilities, ARRAY_SIZE(capabilities)));
	json_object_set_new(sets, "inheritable", json_array());
	json_object_set_new(sets, "ambient", json_array());
	if (user->uid == 0) {
		json_object_set_new(
			sets, "effective", strings(capabilities, ARRAY_SIZE(capabilities)));
		json_object_set_new(
			sets, "permitted", strings(capabilities, ARRAY_SIZE(capabilities)));
	} else {
		json_object_set_new(sets, "effective", json_array());
		json_object_set_new(sets, "permitted", json_array());
	}
	return sets;
}

static json_t *process_user(const struct user *user)
{
	json_t *object =
		json_pack("{s:I, s:I}", "uid", (json_int_t)user->uid, "gid", (json_int_t)user->gid);

	if (user->n_groups > 0) {
		json_t *groups = json_array();

		for (size_t i = 0; i < user->n_groups; i++)
			json_array_append_new(groups, json_integer(user->groups[i]));
		json_object_set_new(object, "additionalGids", groups);
	}
	return object;
}

static json_t *rlimit(const char *type, uint64_t value)
{
	return json_pack("{s:s, s:I, s:I}", "type", type, "soft", (json_int_t)value, "hard",
		(json_int_t)value);
}

/* Below these the runtime mounts what is the kernel's. */
static bool is_kernels(const char *path)
{
	static const char *const roots[] = {"/proc", "/sys", "/dev"};

	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		size_t n = strlen(roots[i]);

		if (str_starts(path, roots[i]) && (path[n] == '/' || path[n] == '\0'))
			return true;
	}
	return false;
}

/* The part of path that is there must be without links; the runtime makes the rest. */
static int missing_directory(int root_fd, const char *path, struct err *err)
{
	_cleanup_free_ char *part = xstrdup(path);

	for (char *slash = part; slash;) {
		_cleanup_fd_ int fd = -EBADF;

		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		fd = fd_open_beneath(root_fd, part + 1, O_PATH | O_DIRECTORY, 0);
		if (fd == -ENOENT)
			return 0;
		if (fd < 0)
			return err_set(err, fd, CODE,
				"The working directory \"%s\" can't be reached in the image: %s.",
				path, err_str(fd));
		if (slash)
			*slash = '/';
	}
	return 0;
}

/*
 * The working directory with the image's links followed, as a path without any. The runtime changes
 * into it when /proc is mounted already: a link there could name one of the runtime's own
 * descriptors (CVE-2024-21626).
 */
static int resolve_directory(const char *rootfs, const char *path, struct err *err, char **ret)
{
	_cleanup_fd_ int root_fd = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = -EBADF;
	char root[PATH_MAX], real[PATH_MAX];
	size_t n;

	if (root_fd < 0)
		return err_errno(err, -errno, "%s", rootfs);
	fd = fd_open_in_root(root_fd, path, O_PATH | O_DIRECTORY, 0);
	if (fd == -ENOENT) {
		*ret = xstrdup(path);
		return missing_directory(root_fd, path, err);
	}
	if (fd < 0)
		return err_set(err, fd, CODE, "The working directory \"%s\" can't be used: %s.",
			path, err_str(fd));
	if (fd_path(root_fd, root, sizeof(root)) < 0 || fd_path(fd, real, sizeof(real)) < 0 ||
		!str_starts(real, root))
		return err_set(err, -EXDEV, CODE,
			"The working directory \"%s\" is not within the image.", path);
	n = strlen(root);
	*ret = xstrdup(real[n] ? real + n : "/");
	return 0;
}

/* Absolute, one slash between parts, no "."; ".." is refused. */
static int plain_path(const char *path, struct err *err, char **ret)
{
	struct buf plain = BUF_MAX(PATH_MAX);

	for (const char *p = path; *p;) {
		size_t n;

		p += strspn(p, "/");
		n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			buf_done(&plain);
			return err_set(err, -EINVAL, CODE,
				"The working directory \"%.200s\" contains \"..\".", path);
		}
		if (n > 0 && !(n == 1 && p[0] == '.')) {
			buf_addc(&plain, '/');
			buf_add(&plain, p, n);
		}
		p += n;
	}
	if (plain.full) {
		buf_done(&plain);
		return err_set(
			err, -ENAMETOOLONG, CODE, "The working directory's path is too long.");
	}
	if (plain.len == 0)
		buf_addc(&plain, '/');
	*ret = buf_take(&plain);
	return 0;
}

static int working_directory(const struct runtime_spec *spec, struct err *err, char **ret)
{
	_cleanup_free_ char *rootfs = xasprintf("%s/rootfs", spec->dir);
	_cleanup_free_ char *path = NULL, *real = NULL;
	int r;

	r = plain_path(spec->cwd ? spec->cwd : "/", err, &path);
	if (r == 0)
		r = resolve_directory(rootfs, path, err, &real);
	if (r < 0)
		return r;
	if (is_kernels(real))
		return err_set(err, -EINVAL, CODE,
			"The working directory is \"%.200s\", which is not the image's own. Choose another one.",
			real);
	*ret = take_ptr(real);
	return 0;
}

static int process_object(const struct runtime *runtime, const struct runtime_spec *spec,
	const struct user *user, struct err *err, json_t **ret)
{
	_cleanup_json_ json_t *process = json_object();
	_cleanup_json_ json_t *args = json_array();
	_cleanup_free_ char *cwd = NULL;
	int r;

	for (size_t i = 0; spec->args[i]; i++) {
		r = add_text(args, spec->args[i], "command", err);
		if (r < 0)
			return r;
	}
	json_object_set(process, "args", args);
	r = working_directory(spec, err, &cwd);
	if (r < 0)
		return r;
	if (json_object_set_new(process, "cwd", json_string(cwd)) < 0)
		return err_set(err, -EINVAL, CODE, "The working directory is not valid UTF-8.");
	r = add_environment(process, spec, user, err);
	if (r < 0)
		return r;
	json_object_set_new(process, "terminal", json_false());
	json_object_set_new(process, "user", process_user(user));
	json_object_set_new(process, "capabilities", process_capabilities(user));
	json_object_set_new(process, "noNewPrivileges", json_true());
	json_object_set_new(process, "oomScoreAdj", json_integer(runtime->oom_score_adj));
	json_object_set_new(process, "rlimits",
		json_pack("[o, o]", rlimit("RLIMIT_CORE", 0),
			rlimit("RLIMIT_NOFILE", runtime->nofile)));
	*ret = take_ptr(process);
	return 0;
}

static int mount_list(const struct runtime_spec *spec, struct err *err, json_t **ret)
{
	_cleanup_json_ json_t *array = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++)
		json_array_append_new(
			array, json_pack("{s:s, s:s, s:s, s:o}", "destination", mounts[i].target,
				       "type", mounts[i].type, "source", mounts[i].type, "options",
				       words(mounts[i].options)));
	for (size_t i = 0; i < spec->n_binds; i++) {
		const struct runtime_bind *bind = &spec->binds[i];
		_cleanup_free_ char *options = xasprintf("bind rprivate nosuid nodev %s%s",
			bind->read_only ? "ro" : "rw", bind->no_exec ? " noexec" : "");
		json_t *mount = json_pack("{s:s, s:s, s:s, s:o}", "destination", bind->target,
			"type", "bind", "source", bind->source, "options", words(options));

		if (!mount)
			return err_set(err, -EINVAL, CODE, "A mount's path is not valid UTF-8.");
		json_array_append_new(array, mount);
	}
	*ret = take_ptr(array);
	return 0;
}

static json_t *resources(
	const struct runtime *runtime, const struct runtime_spec *spec, const char *cgroup)
{
	json_t *object = json_pack("{s:[{s:b, s:s}]}", "devices", "allow", 0, "access", "rwm");
	json_t *cpu = json_object();

	if (spec->cpu_limit > 0) {
		json_int_t quota = (json_int_t)(spec->cpu_limit * CPU_PERIOD_US);
		uint64_t parent = cgroup_parent_quota_us(&runtime->cgroups, cgroup);

		if (parent > 0)
			quota = MIN(quota, (json_int_t)parent);
		json_object_set_new(cpu, "period", json_integer(CPU_PERIOD_US));
		json_object_set_new(cpu, "quota", json_integer(MAX(quota, CPU_QUOTA_MIN_US)));
	}
	if (spec->cpu_request > 0) {
		json_int_t shares = (json_int_t)(spec->cpu_request * 1024);

		json_object_set_new(cpu, "shares",
			json_integer(MIN(MAX(shares, CPU_SHARES_MIN), CPU_SHARES_MAX)));
	}
	json_object_set_new(object, "cpu", cpu);
	if (spec->memory_bytes > 0) {
		json_t *memory = json_pack("{s:I}", "limit", (json_int_t)spec->memory_bytes);

		/* OCI's "swap" is memory and swap together: the same number means none. */
		if (runtime->cgroups.v2 || runtime->cgroups.swap_accounting)
			json_object_set_new(
				memory, "swap", json_integer((json_int_t)spec->memory_bytes));
		else
			json_object_set_new(memory, "swappiness", json_integer(0));
		json_object_set_new(object, "memory", memory);
	}
	if (spec->pids_max > 0)
		json_object_set_new(
			object, "pids", json_pack("{s:I}", "limit", (json_int_t)spec->pids_max));
	return object;
}

static json_t *id_mapping(uint32_t base)
{
	return json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID", (json_int_t)base, "size",
		(int)USER_IDS);
}

/* The user namespace is joined by path, being shared by the group. The mappings repeat what it has:
 * crun needs them to make /dev and the like belong to the container's root. */
static json_t *linux_object(const struct runtime *runtime, const struct runtime_spec *spec)
{
	_cleanup_free_ char *cgroup = xasprintf("%s/%s", runtime->cgroup_root, spec->cgroup);
	static const char *const fresh[] = {"pid", "ipc", "uts", "mount", "cgroup"};
	json_t *namespaces = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(fresh); i++)
		json_array_append_new(namespaces, json_pack("{s:s}", "type", fresh[i]));
	json_array_append_new(
		namespaces, json_pack("{s:s, s:s}", "type", "network", "path", spec->net_ns));
	json_array_append_new(
		namespaces, json_pack("{s:s, s:s}", "type", "user", "path", spec->user_ns));
	return json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "namespaces", namespaces,
		"uidMappings", id_mapping(spec->uid_base), "gidMappings",
		id_mapping(spec->uid_base), "cgroupsPath", cgroup, "resources",
		resources(runtime, spec, cgroup), "maskedPaths",
		strings(masked_paths, ARRAY_SIZE(masked_paths)), "readonlyPaths",
		strings(read_only_paths, ARRAY_SIZE(read_only_paths)));
}

/* The seccomp profile is the same for all and large, so its text is put in as it is. */
static int join(
	json_t *config, json_t *linux_part, const char *seccomp, struct err *err, char **ret_text)
{
	_cleanup_buf_ struct buf buf = BUF_MAX(RUNTIME_CONFIG_MAX);
	_cleanup_free_ char *head = json_text(config);
	_cleanup_free_ char *tail = json_text(linux_part);
	int r;

	r = buf_printf(&buf, "%.*s,\"linux\":%.*s,\"seccomp\":%s}}", (int)strlen(head) - 1, head,
		(int)strlen(tail) - 1, tail, seccomp);
	if (r < 0)
		return err_set(
			err, r, CODE, "The container's command and environment are too large.");
	*ret_text = buf_take(&buf);
	return 0;
}

int bundle_config(const struct runtime *runtime, const struct runtime_spec *spec, struct err *err,
	char **ret_text)
{
	_cleanup_free_ char *rootfs = xasprintf("%s/rootfs", spec->dir);
	_cleanup_json_ json_t *config = NULL;
	_cleanup_json_ json_t *process = NULL;
	_cleanup_json_ json_t *mount_array = NULL;
	_cleanup_json_ json_t *linux_part = NULL;
	_cleanup_fd_ int root = open(rootfs, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct user user;
	int r;

	if (root < 0)
		return err_errno(err, -errno, "%s", rootfs);
	r = user_resolve(root, spec->user ? spec->user : "", err, &user);
	if (r < 0)
		return r;
	r = process_object(runtime, spec, &user, err, &process);
	if (r < 0)
		return r;
	r = mount_list(spec, err, &mount_array);
	if (r < 0)
		return r;
	linux_part = linux_object(runtime, spec);
	config = json_pack("{s:s, s:{s:s, s:b}, s:s, s:O, s:O}", "ociVersion", "1.0.2", "root",
		"path", rootfs, "readonly", 0, "hostname", spec->hostname, "process", process,
		"mounts", mount_array);
	if (!config || !linux_part)
		return err_set(err, -EINVAL, CODE,
			"The container's paths or host name are not valid UTF-8.");
	if (runtime->seccomp_program)
		json_object_set_new(config, "annotations",
			json_pack("{s:s}", "run.oci.seccomp_bpf_data", runtime->seccomp_program));
	return join(config, linux_part, runtime->seccomp, err, ret_text);
}

/* A directory of the image that something will be mounted on or in. A missing one is made, and
 * belongs to the container's root; a symlink is refused, because crun 1.8.1 follows it
 * (CVE-2026-47766). */
static int open_target_dir(
	int parent, const char *name, const struct runtime_spec *spec, struct err *err)
{
	int fd = fd_open_beneath(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd == -ENOENT && mkdirat(parent, name, 0755) == 0) {
		/* The mode again, because of the umask. */
		if (fchmodat(parent, name, 0755, 0) < 0 ||
			fchownat(parent, name, spec->uid_base, spec->uid_base,
				AT_SYMLINK_NOFOLLOW) < 0)
			return err_errno(err, -errno, "/%s of the root file system", name);
		fd = fd_open_beneath(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	}
	if (fd == -ELOOP || fd == -ENOTDIR)
		return err_set(err, fd, CODE,
			"The image's \"%s\" is not a directory, so nothing can be mounted there.",
			name);
	return fd < 0 ? err_errno(err, fd, "/%s of the root file system", name) : fd;
}

/* The file itself may be a symlink in an ordinary image (/etc/resolv.conf is one in many). It is
 * replaced, in the container's own layer, since what is mounted over it hides it anyway. */
static int make_target_file(
	int parent, const char *name, const struct runtime_spec *spec, struct err *err)
{
	_cleanup_fd_ int fd = -EBADF;
	struct stat st;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (S_ISREG(st.st_mode))
			return 0;
		if (!S_ISLNK(st.st_mode))
			return err_set(err, -EINVAL, CODE,
				"The image's \"%s\" is neither a file nor a symlink.", name);
		if (unlinkat(parent, name, 0) < 0)
			return err_errno(err, -errno, "%s of the root file system", name);
	}
	fd = fd_open_beneath(parent, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		return err_errno(err, fd, "%s of the root file system", name);
	if (fchown(fd, spec->uid_base, spec->uid_base) < 0 || fchmod(fd, 0644) < 0)
		return err_errno(err, -errno, "%s of the root file system", name);
	return 0;
}

static int prepare_bind(
	int root, const struct runtime_bind *bind, const struct runtime_spec *spec, struct err *err)
{
	static const char *const reserved[] = {"/proc", "/sys", "/dev"};
	_cleanup_fd_ int at = fcntl(root, F_DUPFD_CLOEXEC, 3);
	_cleanup_free_ char *copy = xstrdup(bind->target);
	char *rest = copy, *name;
	struct stat st;

	if (bind->target[0] != '/' || stat(bind->source, &st) < 0)
		return err_set(err, -EINVAL, CODE, "\"%s\" can't be mounted at \"%s\".",
			bind->source, bind->target);
	for (size_t i = 0; i < ARRAY_SIZE(reserved); i++) {
		size_t n = strlen(reserved[i]);

		if (str_starts(bind->target, reserved[i]) &&
			(bind->target[n] == '/' || !bind->target[n]))
			return err_set(err, -EINVAL, CODE, "Nothing can be mounted at \"%s\".",
				bind->target);
	}
	for (rest += strspn(rest, "/"); (name = strsep(&rest, "/"));) {
		int next;

		if (rest)
			rest += strspn(rest, "/");
		if (!*name || str_eq(name, ".") || str_eq(name, ".."))
			return err_set(err, -EINVAL, CODE, "Nothing can be mounted at \"%s\".",
				bind->target);
		if ((!rest || !*rest) && !S_ISDIR(st.st_mode))
			return make_target_file(at, name, spec, err);
		next = open_target_dir(at, name, spec, err);
		if (next < 0)
			return next;
		fd_close(at);
		at = next;
		if (!rest || !*rest)
			break;
	}
	return 0;
}

/* What the image has beneath another bind's target is hidden by that one. */
static bool is_on_another(const struct runtime_spec *spec, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		size_t n = strlen(spec->binds[k].target);

		if (str_starts(spec->binds[i].target, spec->binds[k].target) &&
			spec->binds[i].target[n] == '/')
			return true;
	}
	return false;
}

int bundle_prepare_rootfs(const struct runtime_spec *spec, struct err *err)
{
	static const char *const targets[] = {"dev", "proc", "sys"};
	_cleanup_free_ char *rootfs = xasprintf("%s/rootfs", spec->dir);
	_cleanup_fd_ int root = open(rootfs, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (root < 0)
		return err_errno(err, -errno, "%s", rootfs);
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		int fd = open_target_dir(root, targets[i], spec, err);

		if (fd < 0)
			return fd;
		fd_close(fd);
	}
	for (size_t i = 0; i < spec->n_binds; i++) {
		int r;

		if (is_on_another(spec, i))
			continue;
		r = prepare_bind(root, &spec->binds[i], spec, err);
		if (r < 0)
			return r;
	}
	return 0;
}
