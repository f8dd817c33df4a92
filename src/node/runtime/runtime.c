/*
 * A container's folder:
 *   rootfs/           mounted by node/image
 *   log/<run>.log     what the run wrote, in k8s-file format; of the last two runs that have one
 *   log/<run>.log.old the file before, if it was full; .held: a second name of the present one
 *   run/<id>/         one run, removed by runtime_delete():
 *     config.json     the bundle
 *     conmon.pid      written by conmon itself
 *     monitor         "pid start-ticks cgroup": the container was created, and by whom it is
 * watched started         realtime in ms, written before the program is let go exit decimal exit
 * code, written by conmon when the log is complete; its mtime is the time pidfile, attach, ctl,
 * winsz, oom   conmon's and crun's
 *     exec-<n>/       a command in the container, see exec.c
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/time.h"
#include "node/runtime/internal.h"

#define NOFILE_MAX 1048576u
#define OOM_SCORE_ADJ 100 /* the kernel shall take a container before a daemon */
#define KILL_TIMEOUT_MS 10000
#define MONITOR_TIMEOUT_MS 10000
#define EXIT_SIGKILL (128 + 9)
#define CREATE_TRIES 3
#define REMOVE_TRIES 3

static int own_oom_score_adj(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t value;

	if (file_read(AT_FDCWD, "/proc/self/oom_score_adj", 64, &text, NULL) < 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return str_to_u64(text, 1000, &value) < 0 ? 0 : (int)value;
}

int runtime_new(const struct runtime_config *config, struct err *err, struct runtime **ret)
{
	_cleanup_(runtime_freep) struct runtime *runtime = xnew(struct runtime);
	struct rlimit limit;
	int r;

	assert(config->cgroup_root[0] == '/');
	runtime->crun = xstrdup(config->crun);
	runtime->conmon = xstrdup(config->conmon);
	runtime->state_dir = xstrdup(config->state_dir);
	runtime->cgroup_root = xstrdup(config->cgroup_root);
	runtime->log_max_bytes = config->log_max_bytes;
	runtime->seccomp = seccomp_profile();
	r = seccomp_program(err, &runtime->seccomp_program);
	if (r < 0)
		return r;
	/* Lowering it would need a privilege that the node may lack. */
	runtime->oom_score_adj = MAX(own_oom_score_adj(), OOM_SCORE_ADJ);
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_errno(err, -errno, "RLIMIT_NOFILE");
	runtime->nofile = MIN((uint64_t)limit.rlim_max, NOFILE_MAX);
	r = file_mkdirs(config->state_dir, 0700);
	if (r < 0)
		return err_errno(err, r, "%s", config->state_dir);
	r = cgroups_load("/proc/self/mounts", &runtime->cgroups, err);
	if (r < 0)
		return r;
	*ret = take_ptr(runtime);
	return 0;
}

void runtime_free(struct runtime *runtime)
{
	if (!runtime)
		return;
	cgroups_done(&runtime->cgroups);
	free(runtime->crun);
	free(runtime->conmon);
	free(runtime->state_dir);
	free(runtime->cgroup_root);
	free(runtime->seccomp);
	free(runtime->seccomp_program);
	free(runtime);
}

static bool id_is_valid(const char *id)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return n > 0 && id[n] == '\0' && n < RUNTIME_ID_MAX && id[0] != '-';
}

/* Names that end in a path of ours: components of letters, digits, '-', '_' and single dots. */
static bool cgroup_is_valid(const char *cgroup)
{
	size_t n = strspn(
		cgroup, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./");

	return n > 0 && cgroup[n] == '\0' && cgroup[0] != '/' && !strstr(cgroup, "..") &&
	       !strstr(cgroup, "//");
}

static int open_run(const char *dir, const char *id)
{
	char path[PATH_MAX];
	int fd;

	if (!id_is_valid(id) ||
		snprintf(path, sizeof(path), "%s/run/%s", dir, id) >= (int)sizeof(path))
		return -EINVAL;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int make_folder(const char *dir, const char *name, mode_t mode, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, name);

	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "%s", path);
	return 0;
}

static int make_run(
	const struct runtime_spec *spec, const char *run_dir, struct err *err, int *ret_fd)
{
	int r;

	r = make_folder(spec->dir, "log", 0700, err);
	if (r == 0)
		r = make_folder(spec->dir, "run", 0700, err);
	if (r < 0)
		return r;
	if (mkdir(run_dir, 0700) < 0)
		return err_errno(err, -errno, "%s", run_dir);
	*ret_fd = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret_fd < 0 ? err_errno(err, -errno, "%s", run_dir) : 0;
}

static int create(struct runtime *runtime, const struct runtime_spec *spec, const char *run_dir,
	struct err *err)
{
	_cleanup_free_ char *cgroup = xasprintf("%s/%s", runtime->cgroup_root, spec->cgroup);
	_cleanup_free_ char *config = NULL;
	_cleanup_fd_ int run_fd = -EBADF;
	int r;

	r = make_run(spec, run_dir, err, &run_fd);
	if (r < 0)
		return r;
	r = bundle_prepare_rootfs(spec, err);
	if (r < 0)
		return r;
	r = bundle_config(runtime, spec, err, &config);
	if (r < 0)
		return r;
	r = file_write_replace(run_fd, "config.json", config, strlen(config), 0600);
	if (r < 0)
		return err_errno(err, r, "config.json");
	r = cgroup_make(&runtime->cgroups, cgroup, err);
	if (r < 0)
		return r;
	/* conmon counts a log's bytes from nothing, so the file must be new. */
	log_remove(spec->dir, spec->run);
	log_remove_old(spec->dir, spec->run);
	r = conmon_create(runtime, spec, run_dir, run_fd, err);
	return r < 0 ? r : runtime_log_keep(runtime, spec->dir, spec->run, err);
}

int runtime_create(struct runtime *runtime, const struct runtime_spec *spec, struct err *err)
{
	_cleanup_free_ char *run_dir = xasprintf("%s/run/%s", spec->dir, spec->id);
	int r = 0;

	if (!id_is_valid(spec->id) || !cgroup_is_valid(spec->cgroup) || spec->dir[0] != '/' ||
		!spec->args[0])
		return err_set(err, -EINVAL, "ContainerCreateFailed",
			"The container has no command, or a name that can't be used.");
	/* A conmon of an attempt that was cut off may still be on its way when what it left is
	 * removed, and take the name before us. */
	for (int tries = 0; tries < CREATE_TRIES; tries++) {
		/* What an earlier attempt left behind when its process was killed. */
		r = runtime_delete(runtime, spec->dir, spec->id, spec->cgroup, err);
		if (r < 0)
			return r;
		r = create(runtime, spec, run_dir, err);
		if (r == 0)
			return 0;
		if (!err || !strstr(err->message, "already exists"))
			break;
	}
	runtime_delete(runtime, spec->dir, spec->id, spec->cgroup, NULL);
	log_remove(spec->dir, spec->run);
	return r;
}

static int read_number(int run_fd, const char *name, uint64_t max, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = file_read(run_fd, name, 64, &text, NULL);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	return str_to_u64(text, max, ret);
}

int runtime_start(struct runtime *runtime, const char *dir, const char *id, struct err *err,
	int64_t *ret_started_ms)
{
	_cleanup_fd_ int run_fd = open_run(dir, id);
	uint64_t started_ms;
	char text[32];
	int r;

	if (run_fd < 0)
		return err_errno(err, run_fd, "run %s", id);
	/* A second call, after a restart of ours: crun removes its fifo when the program was let
	 * go. */
	if (read_number(run_fd, "started", INT64_MAX, &started_ms) == 0 &&
		!crun_waits(runtime, id)) {
		*ret_started_ms = (int64_t)started_ms;
		return 0;
	}
	started_ms = (uint64_t)time_now_ms();
	snprintf(text, sizeof(text), "%llu\n", (unsigned long long)started_ms);
	r = file_write_replace(run_fd, "started", text, strlen(text), 0600);
	if (r < 0)
		return err_errno(err, r, "run %s", id);
	r = crun_start(runtime, id, err);
	if (r < 0) {
		if (crun_waits(runtime, id))
			unlinkat(run_fd, "started", 0);
		return r;
	}
	*ret_started_ms = (int64_t)started_ms;
	return 0;
}

static bool read_exit(
	struct runtime *runtime, int run_fd, const char *cgroup, struct runtime_state *state)
{
	char path[PATH_MAX];
	struct stat st;
	uint64_t code;

	/* Written as a whole by rename; "-1" when conmon didn't learn it. */
	if (fstatat(run_fd, "exit", &st, 0) < 0)
		return false;
	state->phase = RUNTIME_EXITED;
	state->exit_code = read_number(run_fd, "exit", 255, &code) == 0 ? (int)code : 255;
	/* A file's times come from a clock that is a few milliseconds late. */
	state->finished_ms = MAX((int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000,
		state->started_ms);
	snprintf(path, sizeof(path), "%s/%s", runtime->cgroup_root, cgroup);
	state->oom_killed =
		state->exit_code == EXIT_SIGKILL && cgroup_oom_kills(&runtime->cgroups, path) > 0;
	return true;
}

int runtime_inspect(struct runtime *runtime, const char *dir, const char *id, struct err *err,
	struct runtime_state *ret)
{
	_cleanup_fd_ int run_fd = open_run(dir, id);
	_cleanup_fd_ int monitor_fd = -EBADF;
	_cleanup_(monitor_done) struct monitor monitor = {0};
	struct runtime_state state = {.phase = RUNTIME_ABSENT};
	uint64_t started_ms;
	int r = run_fd < 0 ? run_fd : monitor_read(run_fd, &monitor);

	if (r == -ENOENT) {
		*ret = state;
		return 0;
	}
	if (r < 0)
		return err_errno(err, r, "run %s", id);
	if (read_number(run_fd, "started", INT64_MAX, &started_ms) == 0)
		state.started_ms = (int64_t)started_ms;
	/* The monitor first: it writes the code before it ends, so "gone" and "no code" is the
	 * truth in this order. */
	monitor_fd = monitor_open(&monitor);
	if (monitor_fd < 0 && monitor_fd != -ESRCH)
		return err_errno(err, monitor_fd, "monitor of %s", id);
	if (!read_exit(runtime, run_fd, monitor.cgroup, &state)) {
		if (monitor_fd < 0)
			state.phase = RUNTIME_LOST;
		else
			state.phase = state.started_ms && !crun_waits(runtime, id)
					      ? RUNTIME_RUNNING
					      : RUNTIME_CREATED;
	}
	state.monitor_pid = monitor_fd >= 0 ? monitor.pid : 0;
	*ret = state;
	return 0;
}

int runtime_monitor_fd(struct runtime *runtime, const char *dir, const char *id)
{
	_cleanup_fd_ int run_fd = open_run(dir, id);
	_cleanup_(monitor_done) struct monitor monitor = {0};
	int r = run_fd < 0 ? run_fd : monitor_read(run_fd, &monitor);

	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	return monitor_open(&monitor);
}

int runtime_signal(struct runtime *runtime, const char *id, int signal, struct err *err)
{
	if (!id_is_valid(id))
		return err_set(err, -EINVAL, "InternalError", "\"%s\" is not the id of a run.", id);
	return crun_kill(runtime, id, signal, err);
}

int runtime_kill(struct runtime *runtime, const char *cgroup, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", runtime->cgroup_root, cgroup);
	int r;

	if (!cgroup_is_valid(cgroup))
		return err_set(err, -EINVAL, "InternalError", "\"%s\" is not the name of a cgroup.",
			cgroup);
	r = cgroup_kill(&runtime->cgroups, path, KILL_TIMEOUT_MS);
	return r < 0 ? err_errno(err, r, "kill the processes of %s", path) : 0;
}

bool runtime_handles_signal(struct runtime *runtime, const char *dir, const char *id, int signal)
{
	_cleanup_fd_ int run_fd = open_run(dir, id);
	_cleanup_free_ char *status = NULL;
	char path[64];
	uint64_t pid;
	const char *mask;

	if (run_fd < 0 || read_number(run_fd, "pidfile", INT32_MAX, &pid) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (file_read(AT_FDCWD, path, 16384, &status, NULL) < 0)
		return false;
	mask = strstr(status, "\nSigCgt:\t");
	return mask && strtoull(mask + strlen("\nSigCgt:\t"), NULL, 16) >> (signal - 1) & 1;
}

/* Its last work is to complete the log, so it gets time; then it is stopped by force. */
static void end_monitor(const struct monitor *monitor)
{
	_cleanup_fd_ int fd = monitor_open(monitor);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	if (fd < 0)
		return;
	if (poll(&poll_fd, 1, MONITOR_TIMEOUT_MS) > 0)
		return;
	pidfd_send_signal(fd, SIGKILL, NULL, 0);
	poll(&poll_fd, 1, MONITOR_TIMEOUT_MS);
}

int runtime_delete(struct runtime *runtime, const char *dir, const char *id, const char *cgroup,
	struct err *err)
{
	_cleanup_free_ char *group = xasprintf("%s/%s", runtime->cgroup_root, cgroup);
	_cleanup_free_ char *run_path = xasprintf("%s/run/%s", dir, id);
	_cleanup_(monitor_done) struct monitor monitor = {0};
	_cleanup_fd_ int run_fd = -EBADF;
	int r;

	if (!id_is_valid(id) || !cgroup_is_valid(cgroup))
		return err_set(err, -EINVAL, "InternalError", "\"%s\" is not the id of a run.", id);
	run_fd = open_run(dir, id);
	/* Without the monitor's word the create never came to its end, and may still be under way.
	 */
	if (run_fd >= 0 && monitor_read(run_fd, &monitor) < 0)
		conmon_kill_strays(runtime, id);
	r = cgroup_kill(&runtime->cgroups, group, KILL_TIMEOUT_MS);
	if (r < 0)
		return err_errno(err, r, "kill the processes of %s", id);
	end_monitor(&monitor);
	if (crun_knows(runtime, id)) {
		r = crun_delete(runtime, id, err);
		if (r < 0)
			return r;
	}
	r = cgroup_remove(&runtime->cgroups, group, err);
	if (r < 0)
		return r;
	/* A command that was just about to start may have made its folder meanwhile. */
	for (int tries = 0; tries < REMOVE_TRIES; tries++) {
		r = file_remove_tree(AT_FDCWD, run_path);
		if (r != -ENOTEMPTY)
			break;
	}
	return r < 0 ? err_errno(err, r, "remove %s", run_path) : 0;
}

int runtime_group_cgroup(struct runtime *runtime, const char *cgroup, double cpu_limit,
	uint64_t memory_bytes, uint64_t pids_max, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", runtime->cgroup_root, cgroup);
	struct cgroup_limits limits = {
		.cpu = cpu_limit, .memory_bytes = memory_bytes, .pids_max = pids_max};

	if (!cgroup_is_valid(cgroup))
		return err_set(err, -EINVAL, "InternalError", "\"%s\" is not the name of a cgroup.",
			cgroup);
	return cgroup_limit(&runtime->cgroups, path, &limits, err);
}

int runtime_group_cgroup_remove(struct runtime *runtime, const char *cgroup, struct err *err)
{
	_cleanup_free_ char *path = *cgroup ? xasprintf("%s/%s", runtime->cgroup_root, cgroup)
					    : xstrdup(runtime->cgroup_root);
	int r;

	if (*cgroup && !cgroup_is_valid(cgroup))
		return err_set(err, -EINVAL, "InternalError", "\"%s\" is not the name of a cgroup.",
			cgroup);
	r = cgroup_kill(&runtime->cgroups, path, KILL_TIMEOUT_MS);
	if (r < 0)
		return err_errno(err, r, "kill the processes of %s", path);
	return cgroup_remove(&runtime->cgroups, path, err);
}
