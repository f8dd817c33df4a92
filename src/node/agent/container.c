/*
 * One container of a group: its runs, from the image to the exit code.
 *
 * A run's number is written down (phase STARTING) before anything of it exists, so that after a
 * kill -9 the same run is looked for, gone on with or cleaned up, and never started twice.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "base/file.h"
#include "base/time.h"
#include "node/agent/group.h"
#include "node/agent/volumes.h"

#define PIDS_MAX 4096
#define STOP_POLL_MS 5
#define KILL_WAIT_MS 5000
#define MOUNT_BACKOFF_MAX_MS 60000
#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* A wait starts over from the first back-off once a run was up for this long, as in Kubernetes. */
#define BACKOFF_RESET_MS 600000

char *container_dir(const struct group *group, const struct container *c)
{
	return xasprintf("%s/c/%s", group->dir, c->name);
}

void container_id(const struct group *group, const struct container *c, char *ret, size_t size)
{
	snprintf(ret, size, "%s-%s-%u", group->uid, c->name, c->run);
}

static char *container_cgroup(const struct group *group, const struct container *c)
{
	return xasprintf("%s/%s", group->uid, c->name);
}

static void set_view(struct container *c, const char *state, int64_t start_ms, const char *detail)
{
	c->current = (struct container_view){.known = true, .start_ms = start_ms};
	str_copy(c->current.state, sizeof(c->current.state), state);
	snprintf(c->current.detail, sizeof(c->current.detail), "%s", detail);
}

/* What the words are made of may be longer than what is shown. */
static void set_detail(struct container *c, const char *reason, const char *words)
{
	_cleanup_free_ char *clean = NULL;
	char text[sizeof(c->current.detail) - 16];

	snprintf(text, sizeof(text), "%s: %s", reason, words);
	clean = str_utf8_clean(text, strlen(text));
	str_copy(c->current.detail, sizeof(c->current.detail), clean);
}

static void wait_until(
	struct container *c, int64_t next_start_ms, const char *reason, const char *words)
{
	if (c->current.known && str_eq(c->current.state, "Terminated"))
		c->previous = c->current;
	c->phase = CONTAINER_WAITING;
	c->next_start_ms = next_start_ms;
	set_view(c, "Waiting", 0, "");
	set_detail(c, reason, words);
}

static int64_t next_wait(const struct group *group, int64_t last_ms)
{
	const struct agent_config *config = agent_config(group->agent);

	return last_ms == 0 ? config->backoff_ms : MIN(last_ms * 2, config->backoff_max_ms);
}

/* An image that can't be had: said at once, tried again with growing waits until the group is
 * stopped or deleted. */
static void pull_failed(struct group *group, struct container *c, const struct container_spec *spec,
	const struct err *err)
{
	events_add(&c->events, "Warning", "Failed", "Failed to pull image \"%s\": %s", spec->image,
		err->message);
	events_add(&c->events, "Normal", "BackOff", "Back-off pulling image \"%s\"", spec->image);
	c->pull_backoff_ms = next_wait(group, c->pull_backoff_ms);
	wait_until(c, time_now_ms() + c->pull_backoff_ms, "ImagePullBackOff", err->message);
}

static int pull(struct group *group, struct container *c, const struct container_spec *spec,
	bool always, struct err *err, struct image **ret)
{
	const struct agent_config *config = agent_config(group->agent);
	struct image_pull job = {.reference = spec->image,
		.credentials = group->spec->credentials,
		.n_credentials = group->spec->n_credentials,
		.always = always,
		.allow_loopback_http = config->allow_loopback_http,
		.cancel_fd = group->cancel_fd};
	struct image *cached = NULL;
	bool was_cached = !always && image_get(config->images, spec->image, NULL, &cached) >= 0;
	int r;

	image_free(cached);
	if (!was_cached) {
		events_add(&c->events, "Normal", "Pulling", "pulling image \"%s\"", spec->image);
		agent_report(group);
	}
	r = image_pull(config->images, &job, err, ret);
	if (r == -ECANCELED)
		return r;
	if (r < 0) {
		pull_failed(group, c, spec, err);
		return r;
	}
	c->pull_backoff_ms = 0;
	if (was_cached)
		events_add(&c->events, "Normal", "Pulled",
			"Container image \"%s\" already present on machine", (*ret)->name_digest);
	else
		events_add(&c->events, "Normal", "Pulled", "Successfully pulled image \"%s\"",
			(*ret)->name_digest);
	return 0;
}

/* Entrypoint and command as Docker combines them; the group's command replaces both, as in ACI. */
static const char **make_args(const struct image *image, const struct container_spec *spec)
{
	char *const none[] = {NULL};
	char *const *entrypoint = image->config.entrypoint ? image->config.entrypoint : none;
	char *const *cmd = image->config.cmd ? image->config.cmd : none;
	size_t n = 0, at = 0;
	const char **args;

	for (size_t i = 0; spec->command && spec->command[i]; i++)
		n++;
	for (size_t i = 0; entrypoint[i]; i++)
		n++;
	for (size_t i = 0; cmd[i]; i++)
		n++;
	args = xcalloc(n + 1, sizeof(*args));
	if (spec->command) {
		for (size_t i = 0; spec->command[i]; i++)
			args[at++] = spec->command[i];
		return args;
	}
	for (size_t i = 0; entrypoint[i]; i++)
		args[at++] = entrypoint[i];
	for (size_t i = 0; cmd[i]; i++)
		args[at++] = cmd[i];
	return args;
}

static bool env_has(const char *const *env, const char *entry)
{
	size_t n = strcspn(entry, "=") + 1;

	for (; *env; env++)
		if (strncmp(*env, entry, n) == 0)
			return true;
	return false;
}

/* The group's variables win over the image's; PATH and HOSTNAME are always there. */
static const char **make_env(const struct group *group, const struct image *image,
	const struct container_spec *spec, char **ret_hostname)
{
	size_t n = 3, at = 0;
	const char **env;

	for (char **e = spec->env; *e; e++)
		n++;
	for (char **e = image->config.env; e && *e; e++)
		n++;
	env = xcalloc(n + 1, sizeof(*env));
	for (char **e = spec->env; *e; e++)
		if (!env_has(env, *e))
			env[at++] = *e;
	for (char **e = image->config.env; e && *e; e++)
		if (!env_has(env, *e))
			env[at++] = *e;
	if (!env_has(env, DEFAULT_PATH))
		env[at++] = DEFAULT_PATH;
	*ret_hostname = xasprintf("HOSTNAME=%s", group->spec->hostname);
	if (!env_has(env, *ret_hostname))
		env[at++] = *ret_hostname;
	return env;
}

/* An init container has all that the group has: nothing else runs beside it. */
static double group_cpu(const struct group *group)
{
	double cpu = 0;

	for (size_t i = 0; i < group->spec->n_containers; i++)
		cpu += group->spec->containers[i].cpu;
	return cpu;
}

static int create(struct group *group, struct container *c, const struct container_spec *spec,
	const struct image *image, struct err *err)
{
	const struct agent_config *config = agent_config(group->agent);
	_cleanup_free_ char *dir = container_dir(group, c);
	_cleanup_free_ char *cgroup = container_cgroup(group, c);
	_cleanup_free_ char *net = xasprintf("%s/%s.net", config->ns_dir, group->uid);
	_cleanup_free_ char *user = xasprintf("%s/%s.user", config->ns_dir, group->uid);
	_cleanup_free_ const char **args = make_args(image, spec);
	_cleanup_free_ char *hostname_env = NULL;
	_cleanup_free_ const char **env = make_env(group, image, spec, &hostname_env);
	_cleanup_(container_binds_done) struct container_binds binds = {0};
	static const char *const files[] = {
		"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", NULL};
	static const char *const dirs[] = {"/dev", "/proc", "/sys", "/etc", NULL};
	char id[160];
	int r;

	if (!args[0])
		return err_set(err, -EINVAL, "ContainerCreateFailed",
			"The image '%s' names no program to run, and the container has no 'command'. Set 'command'.",
			spec->image);
	r = file_mkdirs(dir, 0711);
	if (r < 0)
		return err_errno(err, r, "make %s", dir);
	r = image_rootfs_mount(config->images, image, dir, group_uid_base(group), err);
	if (r < 0)
		return r;
	r = image_rootfs_prepare(dir, group_uid_base(group), dirs, files, err);
	if (r == 0)
		r = container_binds_find(group, c, spec, err, &binds);
	if (r < 0)
		return r;
	container_id(group, c, id, sizeof(id));
	return runtime_create(config->runtime,
		&(struct runtime_spec){.id = id,
			.dir = dir,
			.run = c->run,
			.args = args,
			.env = env,
			.cwd = image->config.working_dir && image->config.working_dir[0]
				       ? image->config.working_dir
				       : "/",
			.user = image->config.user ? image->config.user : "",
			.hostname = group->spec->hostname,
			.net_ns = net,
			.user_ns = user,
			.uid_base = group_uid_base(group),
			.cgroup = cgroup,
			.cpu_limit = spec->cpu_limit,
			.cpu_request = c->init ? group_cpu(group) : spec->cpu,
			.memory_bytes = spec->memory_limit_bytes,
			.pids_max = PIDS_MAX,
			.binds = binds.list,
			.n_binds = binds.n},
		err);
}

static void note_created(struct container *c)
{
	events_add(&c->events, "Normal", "Created", "Created container");
}

static void note_started(struct container *c, int64_t started_ms)
{
	c->phase = CONTAINER_RUNNING;
	c->started_once = true;
	set_view(c, "Running", started_ms, "");
	events_add(&c->events, "Normal", "Started", "Started container");
}

static int run_created(struct group *group, struct container *c, struct err *err)
{
	const struct agent_config *config = agent_config(group->agent);
	_cleanup_free_ char *dir = container_dir(group, c);
	char id[160];
	int64_t started_ms;
	int r;

	container_id(group, c, id, sizeof(id));
	r = runtime_start(config->runtime, dir, id, err, &started_ms);
	if (r < 0)
		return r;
	note_started(c, started_ms);
	agent_watch(group, c);
	return 0;
}

/* The process of a run that could not be made: it counts as a run that ended with 128, as in
 * Kubernetes. */
static void start_failed(struct group *group, struct container *c, const struct err *err)
{
	int64_t now = time_now_ms();

	container_clean(group, c);
	events_add(&c->events, "Warning", "Failed", "Error: %s", err->message);
	set_view(c, "Terminated", now, "");
	c->current.finish_ms = now;
	c->current.exit_code = 128;
	set_detail(c, "StartError", err->message);
	container_apply_policy(group, c);
}

/* Nothing is wrong with the container but with the node: it starts when that is over. */
static void start_later(struct group *group, struct container *c, struct err *err)
{
	container_clean(group, c);
	if (err->r == -ENOSPC && !str_eq(err->code, "NodeStorageFull"))
		err_set(err, -ENOSPC, "NodeStorageFull",
			"The node's disk is full (%s). Free space; the container is started then.",
			err->message);
	events_add(&c->events, "Warning", "Failed", "Error: %s", err->message);
	c->pull_backoff_ms = next_wait(group, c->pull_backoff_ms);
	wait_until(c, time_now_ms() + c->pull_backoff_ms, err->code, err->message);
}

/* Of all containers only those wait that mount what can't be had: 5, 10, … 60 s. */
static void mount_failed(struct group *group, struct container *c, const struct err *err)
{
	int64_t first = MAX(agent_config(group->agent)->backoff_ms / 2, (int64_t)1);

	if (c->phase == CONTAINER_STARTING)
		container_clean(group, c);
	events_add(&c->events, "Warning", err->code, "%s", err->message);
	events_add(&group->events, "Warning", err->code, "%s", err->message);
	c->mount_backoff_ms =
		c->mount_backoff_ms ? MIN(c->mount_backoff_ms * 2, MOUNT_BACKOFF_MAX_MS) : first;
	wait_until(c, time_now_ms() + c->mount_backoff_ms, err->code, err->message);
}

/* While it is tried again, why it failed stays to be read. */
static void mount_under_way(struct group *group, struct container *c)
{
	if (c->phase == CONTAINER_STARTING)
		container_clean(group, c);
	c->phase = CONTAINER_WAITING;
	if (c->mount_backoff_ms == 0)
		wait_until(c, 0, "Mounting", "its volumes are being mounted");
}

int container_new_run(struct group *group, struct container *c, const struct container_spec *spec,
	struct err *err)
{
	if (c->phase == CONTAINER_STARTING)
		return 0;
	/* Nothing of the last run may become part of this one. */
	if (c->run > 0 && container_clean(group, c) < 0)
		return err_set(err, -EBUSY, "ContainerCleanupFailed",
			"What the last run of the container left on the node can't be removed yet.");
	pthread_mutex_lock(&group->lock);
	c->run++;
	memset(c->news, 0, sizeof(c->news));
	pthread_mutex_unlock(&group->lock);
	c->phase = CONTAINER_STARTING;
	c->ready = c->unhealthy = c->asked = false;
	c->kill_at_ms = 0;
	memcpy(c->hash, spec->hash, sizeof(c->hash));
	if (c->current.known && str_eq(c->current.state, "Terminated"))
		c->previous = c->current;
	return 0;
}

int container_prepare(struct group *group, struct container *c, const struct container_spec *spec,
	bool pull_always, struct err *err, struct image **ret)
{
	int r = container_volumes_up(group, c, spec, err);

	if (r == -EINPROGRESS)
		mount_under_way(group, c);
	else if (r < 0 && r != -ECANCELED)
		mount_failed(group, c, err);
	if (r < 0)
		return r;
	c->mount_backoff_ms = 0;
	return pull(group, c, spec, pull_always, err, ret);
}

int container_make(struct group *group, struct container *c, const struct container_spec *spec,
	const struct image *image, struct err *err)
{
	int r = create(group, c, spec, image, err);

	if (r < 0)
		return r;
	note_created(c);
	return run_created(group, c, err);
}

int container_make_again(struct group *group, struct container *c,
	const struct container_spec *spec, struct err *err)
{
	struct image *image = NULL;
	int r;

	container_clean(group, c);
	r = pull(group, c, spec, false, err, &image);
	if (r == 0)
		r = container_make(group, c, spec, image, err);
	image_free(image);
	return r;
}

void container_make_failed(struct group *group, struct container *c, int r, struct err *err)
{
	if (r == -ENOSPC || r == -EBUSY)
		start_later(group, c, err);
	/* Otherwise it waits, for an image that went away and can't be had again. */
	else if (r != -ECANCELED && c->phase == CONTAINER_STARTING)
		start_failed(group, c, err);
}

/* A run that was chosen before the agent was killed: see how far it came. */
static bool observe_starting(
	struct group *group, struct container *c, const struct runtime_state *state)
{
	struct err err = {0};

	if (state->phase == RUNTIME_ABSENT) {
		/* Nothing of the run exists: its number was chosen and no more. Half-made files go,
		 * the run starts. */
		container_clean(group, c);
		return false;
	}
	note_created(c);
	if (state->phase == RUNTIME_CREATED) {
		if (run_created(group, c, &err) < 0)
			start_failed(group, c, &err);
		return true;
	}
	note_started(c, state->started_ms);
	if (state->phase != RUNTIME_RUNNING)
		return container_observe(group, c);
	agent_watch(group, c);
	return true;
}

bool container_observe(struct group *group, struct container *c)
{
	const struct agent_config *config = agent_config(group->agent);
	_cleanup_free_ char *dir = container_dir(group, c);
	struct runtime_state state = {0};
	struct err err = {0};
	const char *detail;
	char id[160];

	if (c->phase != CONTAINER_RUNNING && c->phase != CONTAINER_STARTING)
		return false;
	container_id(group, c, id, sizeof(id));
	if (runtime_inspect(config->runtime, dir, id, &err, &state) < 0) {
		log_warn("group %s: container %s can't be inspected: %s", group->uid, c->name,
			err.message);
		return false;
	}
	if (c->phase == CONTAINER_STARTING)
		return observe_starting(group, c, &state);
	if (state.phase == RUNTIME_RUNNING || state.phase == RUNTIME_CREATED) {
		agent_watch(group, c);
		return false;
	}
	detail = state.oom_killed ? "OOMKilled" : state.exit_code == 0 ? "Completed" : "Error";
	if (state.phase == RUNTIME_LOST || state.phase == RUNTIME_ABSENT) {
		detail = "Error: the container's monitor was lost";
		state.exit_code = 255;
		state.finished_ms = time_now_ms();
	}
	set_view(c, "Terminated", c->current.start_ms ? c->current.start_ms : state.started_ms,
		detail);
	c->current.finish_ms = state.finished_ms ? state.finished_ms : time_now_ms();
	c->current.exit_code = state.exit_code;
	probes_end(group, c);
	container_apply_policy(group, c);
	group_save_state(group, &err);
	container_clean(group, c);
	return true;
}

/* What an init container is for is done once it has succeeded. */
static enum restart_policy policy_of(const struct group *group, const struct container *c)
{
	if (c->init && group->spec->policy == RESTART_ALWAYS)
		return RESTART_ON_FAILURE;
	return group->spec->policy;
}

void container_apply_policy(struct group *group, struct container *c)
{
	enum restart_policy policy = policy_of(group, c);
	bool failed = c->current.exit_code != 0 || c->unhealthy;
	int64_t ran_ms = c->current.start_ms > 0 ? c->current.finish_ms - c->current.start_ms : 0;
	char words[64];

	if (policy == RESTART_NEVER || (policy == RESTART_ON_FAILURE && !failed)) {
		c->phase = CONTAINER_TERMINATED;
		return;
	}
	/* The first restart comes at once, the next ones after 10 s, 20 s, … 5 min, as in
	 * Kubernetes. */
	if (!c->restarted || ran_ms >= BACKOFF_RESET_MS)
		c->backoff_ms = 0;
	else
		c->backoff_ms = next_wait(group, c->backoff_ms);
	c->restarted = true;
	c->restart_count++;
	c->phase = CONTAINER_WAITING;
	c->next_start_ms = 0;
	if (c->backoff_ms == 0)
		return;
	snprintf(words, sizeof(words), "Back-off %gs restarting failed",
		(double)c->backoff_ms / 1000);
	wait_until(c, time_now_ms() + c->backoff_ms, "CrashLoopBackOff", words);
	events_add(&c->events, "Warning", "BackOff", "Back-off restarting failed container");
}

void container_renew(struct container *c)
{
	c->phase = CONTAINER_WAITING;
	c->next_start_ms = c->backoff_ms = c->pull_backoff_ms = c->mount_backoff_ms = 0;
	c->started_once = c->restarted = false;
}

void container_show_waiting(struct container *c, const char *words)
{
	if (c->phase == CONTAINER_WAITING)
		wait_until(c, c->next_start_ms, "Initializing", words);
}

int container_clean(struct group *group, struct container *c)
{
	const struct agent_config *config = agent_config(group->agent);
	_cleanup_free_ char *dir = container_dir(group, c);
	_cleanup_free_ char *cgroup = container_cgroup(group, c);
	struct err err = {0};
	char id[160];
	int r;

	container_id(group, c, id, sizeof(id));
	r = runtime_delete(config->runtime, dir, id, cgroup, &err);
	if (r == 0)
		r = image_rootfs_unmount(config->images, dir, &err);
	if (r < 0)
		log_warn("group %s: container %s: %s", group->uid, c->name, err.message);
	return r;
}

void container_ask_stop(struct group *group, struct container *c, const char *why)
{
	const struct agent_config *config = agent_config(group->agent);
	_cleanup_free_ char *dir = container_dir(group, c);
	char id[160];

	if (c->phase != CONTAINER_RUNNING && c->phase != CONTAINER_STARTING)
		return;
	probes_end(group, c);
	container_id(group, c, id, sizeof(id));
	events_add(&c->events, "Normal", "Killing", "Killing container with id %s. %s", id, why);
	/* The first process of a pid namespace never sees a signal that it has no handler for:
	 * don't wait then. */
	c->asked = runtime_handles_signal(config->runtime, dir, id, SIGTERM) &&
		   runtime_signal(config->runtime, id, SIGTERM, NULL) == 0;
}

void container_end_unhealthy(struct group *group, struct container *c)
{
	struct err err = {0};

	/* Written down first: it may end well, and is to be restarted all the same. */
	c->unhealthy = true;
	if (group_save_state(group, &err) < 0)
		log_error("group %s: %s", group->uid, err.message);
	container_ask_stop(group, c,
		policy_of(group, c) == RESTART_NEVER
			? "Its liveness probe failed."
			: "Its liveness probe failed; it will be restarted.");
	c->kill_at_ms = time_mono_ms() + (c->asked ? agent_config(group->agent)->stop_grace_ms : 0);
}

void container_press(struct group *group, struct container *c)
{
	_cleanup_free_ char *cgroup = NULL;
	int64_t left_ms;

	if (!c->unhealthy || c->phase != CONTAINER_RUNNING)
		return;
	/* Known from disk: how long it has been asked for isn't. */
	if (c->kill_at_ms == 0)
		container_end_unhealthy(group, c);
	left_ms = c->kill_at_ms - time_mono_ms();
	if (left_ms > 0) {
		agent_wake_at(group, time_now_ms() + left_ms);
		return;
	}
	cgroup = container_cgroup(group, c);
	runtime_kill(agent_config(group->agent)->runtime, cgroup, NULL);
}

/* Waits until the run has ended. False at the deadline. */
static bool wait_end(struct group *group, const char *dir, const char *id, int64_t deadline_mono_ms,
	struct runtime_state *ret)
{
	const struct agent_config *config = agent_config(group->agent);

	for (;;) {
		if (runtime_inspect(config->runtime, dir, id, NULL, ret) < 0 ||
			(ret->phase != RUNTIME_RUNNING && ret->phase != RUNTIME_CREATED))
			return true;
		if (time_mono_ms() >= deadline_mono_ms)
			return false;
		usleep(STOP_POLL_MS * 1000);
	}
}

void container_await_end(struct group *group, struct container *c, int64_t deadline_mono_ms)
{
	_cleanup_free_ char *dir = container_dir(group, c);
	struct runtime_state state;
	char id[160];

	container_id(group, c, id, sizeof(id));
	if (c->asked)
		wait_end(group, dir, id, deadline_mono_ms, &state);
}

static void end_run(struct group *group, struct container *c)
{
	_cleanup_free_ char *dir = container_dir(group, c);
	_cleanup_free_ char *cgroup = container_cgroup(group, c);
	struct runtime_state state = {0};
	char id[160];

	container_id(group, c, id, sizeof(id));
	if (!c->asked || !wait_end(group, dir, id, 0, &state)) {
		runtime_kill(agent_config(group->agent)->runtime, cgroup, NULL);
		wait_end(group, dir, id, time_mono_ms() + KILL_WAIT_MS, &state);
	}
	c->asked = false;
	set_view(c, "Terminated", c->current.start_ms, "");
	c->current.exit_code = state.phase == RUNTIME_EXITED ? state.exit_code : 137;
	c->current.finish_ms = state.finished_ms ? state.finished_ms : time_now_ms();
	str_copy(c->current.detail, sizeof(c->current.detail),
		c->current.exit_code == 0 ? "Completed" : "Error");
}

void container_end(struct group *group, struct container *c)
{
	if (c->phase == CONTAINER_RUNNING || c->phase == CONTAINER_STARTING) {
		end_run(group, c);
	} else if (c->current.known && str_eq(c->current.state, "Waiting")) {
		c->current = c->previous;
		c->previous = (struct container_view){0};
	}
	c->phase = CONTAINER_TERMINATED;
}
