/*
 * The agent's table of groups, its link to control, and what wakes a group. Only the loop's thread
 * touches the table; rounds run on the pool, one at a time for each group.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/sysinfo.h>

#include "base/file.h"
#include "base/pool.h"
#include "base/time.h"
#include "node/agent/group.h"
#include "node/agent/prober.h"
#include "node/agent/session.h"
#include "node/runtime/exec.h"

/* Rounds block on pulls and on programs that take their time to end, and mounts on servers, so
 * there is a thread for each group's round, one for its mounting, and some for logs. What costs the
 * machine something, making containers, is bounded by itself. */
#define ROUND_THREADS_MIN 4
#define LOG_THREADS 64
#define MAKERS_MAX 64
#define LOG_KEEP_MS 500
#define WATCH_RETRY_MS 1000

struct agent {
	struct agent_config config;
	struct pool *pool;
	struct link_client *link;
	struct sessions *sessions;
	struct probes *probes;
	struct loop_timer *log_timer;
	bool ready;
	atomic_bool ending;
	/* Of containers; slow_makers: of those that mount a share, whose server may hang meanwhile.
	 * NULL: everything is done on the caller's thread. */
	struct pool *makers, *slow_makers;
	struct group *groups; /* loop thread */
	unsigned char *slots; /* one byte for each range of ids: taken or not; loop thread */
};

const struct agent_config *agent_config(const struct agent *agent)
{
	return &agent->config;
}

struct probes *agent_probes(const struct agent *agent)
{
	return agent->probes;
}

bool agent_is_ending(const struct agent *agent)
{
	return atomic_load(&agent->ending);
}

void agent_submit(struct agent *agent, void (*fn)(void *arg), void *arg)
{
	pool_submit(agent->pool, fn, arg);
}

struct batch {
	pthread_mutex_t lock;
	pthread_cond_t done;
	size_t left;
	void (*fn)(void *thing);
};

struct batch_job {
	struct batch *batch;
	void *thing;
};

static void batch_job(void *arg)
{
	struct batch_job *job = arg;
	struct batch *batch = job->batch;

	batch->fn(job->thing);
	pthread_mutex_lock(&batch->lock);
	if (--batch->left == 0)
		pthread_cond_signal(&batch->done);
	pthread_mutex_unlock(&batch->lock);
}

void agent_do_all(struct agent *agent, bool slow, void (*fn)(void *thing), void *things,
	size_t size, size_t n)
{
	struct batch batch = {.lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER,
		.left = n,
		.fn = fn};
	struct pool *makers = slow ? agent->slow_makers : agent->makers;
	_cleanup_free_ struct batch_job *jobs = xcalloc(n + 1, sizeof(*jobs));

	for (size_t i = 0; i < n; i++) {
		jobs[i] = (struct batch_job){&batch, (char *)things + i * size};
		if (makers)
			pool_submit(makers, batch_job, &jobs[i]);
		else
			batch_job(&jobs[i]);
	}
	pthread_mutex_lock(&batch.lock);
	while (batch.left > 0)
		pthread_cond_wait(&batch.done, &batch.lock);
	pthread_mutex_unlock(&batch.lock);
}

struct group *agent_find_group(struct agent *agent, const char *uid)
{
	for (struct group *group = agent->groups; group; group = group->next)
		if (str_eq(group->uid, uid))
			return group;
	return NULL;
}

static struct group *add_group(struct agent *agent, const char *uid)
{
	struct group *group = xnew(struct group);

	group->agent = agent;
	str_copy(group->uid, sizeof(group->uid), uid);
	group->dir = xasprintf("%s/%s", agent->config.groups_dir, uid);
	str_copy(group->provisioning, sizeof(group->provisioning), "Pending");
	pthread_mutex_init(&group->lock, NULL);
	group->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	group->mount_cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	group->next = agent->groups;
	agent->groups = group;
	return group;
}

static int take_slot(struct agent *agent)
{
	for (uint32_t i = 0; i < agent->config.uid_groups; i++)
		if (!agent->slots[i]) {
			agent->slots[i] = 1;
			return (int)i;
		}
	return -ENOSPC;
}

/* --- rounds --- */

static void round_job(void *arg)
{
	struct group *group = arg;

	pthread_mutex_lock(&group->lock);
	do {
		group->again = false;
		pthread_mutex_unlock(&group->lock);
		if (group_reconcile(group) == 1) {
			agent_group_gone(group); /* stays busy: no further round */
			return;
		}
		pthread_mutex_lock(&group->lock);
	} while (group->again);
	group->busy = false;
	pthread_mutex_unlock(&group->lock);
}

void group_kick(struct group *group)
{
	bool submit;

	pthread_mutex_lock(&group->lock);
	submit = !group->busy;
	group->again = true;
	group->busy = true;
	pthread_mutex_unlock(&group->lock);
	if (submit)
		pool_submit(group->agent->pool, round_job, group);
}

/* Lock held, together with what the round shall see: who takes that up drains the descriptor. */
static void group_interrupt(struct group *group)
{
	uint64_t one = 1;

	if (write(group->cancel_fd, &one, sizeof(one)) < 0 ||
		write(group->mount_cancel_fd, &one, sizeof(one)) < 0)
		log_warn("group %s: a running pull or mount can't be told to stop", group->uid);
}

/* --- what a round asks of the loop --- */

struct wake {
	struct group *group;
	int64_t at_ms;
};

static void timer_due(void *arg)
{
	struct group *group = arg;

	group->timer = NULL; /* freed by the loop */
	group_kick(group);
}

static void wake_on_loop(void *arg)
{
	struct wake *wake = arg;
	struct group *group = wake->group;

	if (!group->timer || wake->at_ms < group->timer_at_ms) {
		loop_cancel(group->timer);
		group->timer_at_ms = wake->at_ms;
		group->timer = loop_after(group->agent->config.loop,
			MAX(wake->at_ms - time_now_ms(), 1), timer_due, group);
	}
	free(wake);
}

void agent_wake_at(struct group *group, int64_t realtime_ms)
{
	struct wake *wake = xnew(struct wake);

	*wake = (struct wake){group, realtime_ms};
	loop_post(group->agent->config.loop, wake_on_loop, wake);
}

static void monitor_remove(struct monitor *monitor)
{
	for (struct monitor **at = &monitor->group->monitors; *at; at = &(*at)->next)
		if (*at == monitor) {
			*at = monitor->next;
			break;
		}
	loop_remove(monitor->source);
	fd_close(monitor->fd);
	free(monitor);
}

static void monitor_ended(int fd, uint32_t events, void *arg)
{
	struct monitor *monitor = arg;
	struct group *group = monitor->group;
	struct container *c;

	pthread_mutex_lock(&group->lock);
	c = group_find_container(group, monitor->container);
	if (c)
		c->monitored = false;
	pthread_mutex_unlock(&group->lock);
	monitor_remove(monitor);
	group_kick(group);
}

static void watch_on_loop(void *arg)
{
	struct monitor *monitor = arg;

	monitor->next = monitor->group->monitors;
	monitor->group->monitors = monitor;
	monitor->source = loop_add(
		monitor->group->agent->config.loop, monitor->fd, EPOLLIN, monitor_ended, monitor);
}

void agent_watch(struct group *group, struct container *c)
{
	_cleanup_free_ char *dir = container_dir(group, c);
	struct monitor *monitor;
	bool monitored;
	char id[160];
	int fd;

	pthread_mutex_lock(&group->lock);
	monitored = c->monitored;
	pthread_mutex_unlock(&group->lock);
	if (monitored)
		return;
	container_id(group, c, id, sizeof(id));
	if (group->fresh)
		runtime_exec_sweep(group->agent->config.runtime, dir, id);
	fd = runtime_monitor_fd(group->agent->config.runtime, dir, id);
	if (fd < 0 && fd != -ESRCH) {
		log_error("group %s: container %s can't be watched: %s", group->uid, c->name,
			err_str(fd));
		agent_wake_at(group, time_now_ms() + WATCH_RETRY_MS);
		return;
	}
	if (fd < 0) {
		/* It ended before we could look: look again. */
		pthread_mutex_lock(&group->lock);
		group->again = true;
		pthread_mutex_unlock(&group->lock);
		return;
	}
	monitor = xnew(struct monitor);
	*monitor = (struct monitor){.group = group, .fd = fd};
	str_copy(monitor->container, sizeof(monitor->container), c->name);
	pthread_mutex_lock(&group->lock);
	c->monitored = true;
	pthread_mutex_unlock(&group->lock);
	loop_post(group->agent->config.loop, watch_on_loop, monitor);
}

void agent_report(struct group *group)
{
	link_client_send(group->agent->link,
		json_pack("{s:s, s:s, s:I, s:o}", "type", "status", "uid", group->uid, "generation",
			(json_int_t)group->spec->generation, "status", group_status(group)));
}

static void gone_on_loop(void *arg)
{
	struct group *group = arg;
	struct agent *agent = group->agent;

	for (struct group **at = &agent->groups; *at; at = &(*at)->next)
		if (*at == group) {
			*at = group->next;
			break;
		}
	loop_cancel(group->timer);
	while (group->monitors)
		monitor_remove(group->monitors);
	probes_forget(group);
	agent->slots[group->slot] = 0;
	link_client_send(
		agent->link, json_pack("{s:s, s:s}", "type", "removed", "uid", group->uid));
	log_info("group %s is gone", group->uid);
	group_free(group);
}

void agent_group_gone(struct group *group)
{
	loop_post(group->agent->config.loop, gone_on_loop, group);
}

/* --- the link --- */

static void refuse_group(
	struct agent *agent, const char *uid, int64_t generation, const struct err *err)
{
	json_t *status = json_pack("{s:I, s:s, s:s, s:[], s:[], s:{s:s, s:s}}", "generation",
		(json_int_t)generation, "provisioningState", "Failed", "state", "Failed", "events",
		"containers", "error", "code", err->code, "message", err->message);

	log_warn("group %s is refused: %s", uid, err->message);
	link_client_send(
		agent->link, json_pack("{s:s, s:s, s:I, s:o}", "type", "status", "uid", uid,
				     "generation", (json_int_t)generation, "status", status));
}

static void handle_group(struct agent *agent, const json_t *frame)
{
	const char *uid = json_get_str(frame, "uid", "");
	int64_t generation = json_get_int(frame, "generation", 0);
	_cleanup_(group_spec_freep) struct group_spec *spec = NULL;
	struct err err = {0};
	struct group *group;
	bool keep;
	int slot;

	if (!uuid_is_valid(uid))
		return;
	if (group_spec_parse(json_get_obj(frame, "spec"), generation, &err, &spec) < 0) {
		refuse_group(agent, uid, generation, &err);
		return;
	}
	group = agent_find_group(agent, uid);
	if (!group) {
		slot = take_slot(agent);
		if (slot < 0) {
			err_set(&err, slot, "NodeCapacityReached",
				"The node runs %u groups already, which is all that it has ranges of user ids for.",
				agent->config.uid_groups);
			refuse_group(agent, uid, generation, &err);
			return;
		}
		group = add_group(agent, uid);
		group->slot = (uint32_t)slot;
	}
	pthread_mutex_lock(&group->lock);
	keep = group_knows_newer(group, generation) ||
	       (!group->next_spec && group->spec && group->spec->generation == generation &&
		       json_equal(group->spec->json, spec->json));
	if (!keep) {
		group_spec_free(group->next_spec);
		group->next_spec = take_ptr(spec);
		group_interrupt(group);
	}
	pthread_mutex_unlock(&group->lock);
	group->seen = true;
	group_kick(group);
}

static void remove_group(struct agent *agent, struct group *group)
{
	pthread_mutex_lock(&group->lock);
	group->removing = true;
	group_interrupt(group);
	pthread_mutex_unlock(&group->lock);
	group_kick(group);
}

static void handle_remove(struct agent *agent, const json_t *frame)
{
	const char *uid = json_get_str(frame, "uid", "");
	struct group *group = agent_find_group(agent, uid);

	if (group)
		remove_group(agent, group);
	else
		link_client_send(
			agent->link, json_pack("{s:s, s:s}", "type", "removed", "uid", uid));
}

static void handle_synced(struct agent *agent)
{
	for (struct group *group = agent->groups; group; group = group->next)
		if (!group->seen) {
			log_info("group %s is not wanted any more", group->uid);
			remove_group(agent, group);
		}
	if (!agent->ready && agent->config.on_ready)
		agent->config.on_ready();
	agent->ready = true;
}

static void link_up(void *arg)
{
	struct agent *agent = arg;

	for (struct group *group = agent->groups; group; group = group->next)
		group->seen = false;
}

static void link_message(const char *type, const json_t *frame, void *arg)
{
	struct agent *agent = arg;

	if (str_eq(type, "group"))
		handle_group(agent, frame);
	else if (str_eq(type, "remove"))
		handle_remove(agent, frame);
	else if (str_eq(type, "synced"))
		handle_synced(agent);
	else
		log_warn("link: a message of type '%s' is not known", type);
}

/* --- requests: on the pool, with copies of what they need --- */

struct request {
	struct agent *agent;
	int64_t id;
	char *dir;
	unsigned run, tail;
	uint64_t max_bytes; /* the last so many; 0: all */
	bool timestamps, previous;
};

/* The run before the last one, if there is a log of it still. */
static int choose_run(struct request *request, struct err *err)
{
	if (!request->previous)
		return 0;
	request->run = runtime_log_previous(request->dir, request->run);
	if (request->run == 0)
		return err_set(err, -ENOENT, "ContainerLogNotAvailable",
			"The container has no run before the present one whose log is kept. Leave out 'previous'.");
	return 0;
}

static void logs_job(void *arg)
{
	struct request *request = arg;
	struct err err = {0};
	int fd, r = choose_run(request, &err);

	if (link_client_stream(request->agent->link, request->id, r < 0 ? &err : NULL, &fd) == 0 &&
		r == 0) {
		/* A reader that stands still must not hold a thread here for ever. */
		link_stream_bound(fd);
		if (request->run > 0 &&
			runtime_log_copy(request->agent->config.runtime, request->dir, request->run,
				request->tail, request->timestamps, request->max_bytes, fd,
				&err) < 0)
			log_warn("logs: %s", err.message);
		fd_close(fd);
	}
	free(request->dir);
	free(request);
}

struct stream_error {
	struct agent *agent;
	int64_t id;
	struct err err;
};

static void stream_error_job(void *arg)
{
	struct stream_error *job = arg;
	int fd;

	link_client_stream(job->agent->link, job->id, &job->err, &fd);
	free(job);
}

static void request_logs(struct agent *agent, int64_t id, const json_t *args)
{
	struct group *group = agent_find_group(agent, json_get_str(args, "uid", ""));
	struct request *request;
	struct container *c = NULL;

	if (group) {
		pthread_mutex_lock(&group->lock);
		c = group_find_container(group, json_get_str(args, "container", ""));
		if (c) {
			request = xnew(struct request);
			*request = (struct request){.agent = agent,
				.id = id,
				.dir = container_dir(group, c),
				.run = c->run,
				.tail = (unsigned)json_get_int(args, "tail", 0),
				.max_bytes = (uint64_t)MAX(json_get_int(args, "maxBytes", 0), 0),
				.timestamps = json_get_bool(args, "timestamps", false),
				.previous = json_get_bool(args, "previous", false)};
			pool_submit(agent->pool, logs_job, request);
		}
		pthread_mutex_unlock(&group->lock);
	}
	if (!c) {
		struct stream_error *job = xnew(struct stream_error);

		job->agent = agent;
		job->id = id;
		err_set(&job->err, -ENOENT, "ContainerLogNotAvailable",
			"The log of container '%s' is not available: the node does not have the container yet.",
			json_get_str(args, "container", ""));
		pool_submit(agent->pool, stream_error_job, job);
	}
}

static void images_job(void *arg)
{
	struct request *request = arg;
	struct err err = {0};
	json_t *images = NULL;

	if (image_list(request->agent->config.images, &err, &images) < 0)
		link_client_reply(request->agent->link, request->id, NULL, &err);
	else
		link_client_reply(request->agent->link, request->id,
			json_pack("{s:o}", "images", images), NULL);
	free(request);
}

static json_t *capacity(void)
{
	struct sysinfo info;

	if (sysinfo(&info) < 0)
		return json_object();
	return json_pack("{s:i, s:I}", "cpus", get_nprocs(), "memoryBytes",
		(json_int_t)info.totalram * info.mem_unit);
}

static void link_request(int64_t id, const char *method, const json_t *args, bool stream, void *arg)
{
	struct agent *agent = arg;
	struct request *request;
	struct err err = {0};

	if (str_eq(method, "logs") && stream) {
		request_logs(agent, id, args);
	} else if (stream && sessions_request(agent->sessions, id, method, args)) {
		return;
	} else if (str_eq(method, "images") && !stream) {
		request = xnew(struct request);
		*request = (struct request){.agent = agent, .id = id};
		pool_submit(agent->pool, images_job, request);
	} else if (str_eq(method, "capacity") && !stream) {
		link_client_reply(agent->link, id, capacity(), NULL);
	} else {
		err_set(&err, -ENOSYS, "NotImplemented",
			"This node does not know the request '%s'.", method);
		link_client_reply(agent->link, id, NULL, &err);
	}
}

/* --- logs that grow past their bound --- */

static void keep_logs(void *arg)
{
	struct agent *agent = arg;

	for (struct group *group = agent->groups; group; group = group->next) {
		pthread_mutex_lock(&group->lock);
		for (size_t i = 0; i < group->n_containers; i++) {
			struct container *c = &group->containers[i];
			_cleanup_free_ char *dir = container_dir(group, c);
			struct err err = {0};

			if (c->monitored &&
				runtime_log_keep(agent->config.runtime, dir, c->run, &err) < 0)
				log_warn("group %s: %s", group->uid, err.message);
		}
		pthread_mutex_unlock(&group->lock);
	}
	agent->log_timer = loop_after(agent->config.loop, LOG_KEEP_MS, keep_logs, agent);
}

/* --- start --- */

/* A folder without a spec was cut off before anything else of the group was made. One that can't be
 * read (a machine that lost power) must not keep all others from running: what is left of the group
 * goes, and control says anew what it is. */
static int load_group(struct agent *agent, const char *uid, struct err *err)
{
	struct group *group = add_group(agent, uid);
	int r = group_load(group, err);

	group->fresh = true;
	if (r == 0 && group->slot < agent->config.uid_groups && !agent->slots[group->slot]) {
		agent->slots[group->slot] = 1;
		return 0;
	}
	if (r == -ENOENT)
		r = file_remove_tree(AT_FDCWD, group->dir);
	else if (r == 0)
		r = err_set(err, -EINVAL, "InvalidGroupSpec",
			"The group's range of user ids is not this node's.");
	else {
		log_error("group %s can't be read and is removed: %s", uid, err->message);
		r = group_remove_unread(group, err);
	}
	agent->groups = group->next;
	group_free(group);
	return r;
}

static int load_groups(struct agent *agent, struct err *err)
{
	DIR *dir = opendir(agent->config.groups_dir);
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return err_errno(err, -errno, "open %s", agent->config.groups_dir);
	while (r == 0 && (entry = readdir(dir))) {
		if (!uuid_is_valid(entry->d_name))
			continue;
		r = load_group(agent, entry->d_name, err);
		if (r < 0)
			err_wrap(err, "group %s", entry->d_name);
	}
	closedir(dir);
	return r;
}

static const struct link_client_ops link_ops = {
	.up = link_up, .message = link_message, .request = link_request};

int agent_new(const struct agent_config *config, struct err *err, struct agent **ret)
{
	struct agent *agent = xnew(struct agent);
	json_t *hello;
	int r;

	agent->config = *config;
	agent->slots = xcalloc(config->uid_groups, 1);
	r = file_mkdirs(config->groups_dir, 0711);
	if (r < 0)
		err_errno(err, r, "make %s", config->groups_dir);
	else
		r = load_groups(agent, err);
	if (r < 0) {
		agent_free(agent);
		return r;
	}
	agent->pool = pool_new_elastic(
		"round", ROUND_THREADS_MIN, 2 * config->uid_groups + LOG_THREADS, 0);
	agent->makers = pool_new_elastic("make", 1, MAKERS_MAX, 0);
	agent->slow_makers = pool_new_elastic("make-slow", 1, MAKERS_MAX, 0);
	hello = capacity();
	json_object_set_new(hello, "node", json_string(config->node));
	json_object_set_new(hello, "version", json_string(BERTH_VERSION));
	agent->link = link_client_new(
		config->loop, config->socket_path, config->control_uid, hello, &link_ops, agent);
	agent->probes = probes_new(agent);
	agent->sessions = sessions_new(agent, agent->link);
	for (struct group *group = agent->groups; group; group = group->next)
		group_kick(group);
	agent->log_timer = loop_after(config->loop, LOG_KEEP_MS, keep_logs, agent);
	*ret = agent;
	return 0;
}

int agent_remove_all(const struct agent_config *config, struct err *err)
{
	struct agent *agent = xnew(struct agent);
	int r;

	agent->config = *config;
	agent->slots = xcalloc(config->uid_groups, 1);
	r = file_mkdirs(config->groups_dir, 0711);
	if (r == 0)
		r = load_groups(agent, err);
	for (struct group *group = agent->groups; r == 0 && group; group = group->next) {
		group->removing = true;
		if (group_reconcile(group) != 1)
			r = err_set(err, -EBUSY, "PurgeFailed",
				"Group %s can't be removed; its log line says why.", group->uid);
	}
	agent_free(agent);
	return r;
}

void agent_free(struct agent *agent)
{
	if (!agent)
		return;
	/* A pull can be gone on with, so nobody waits for it. */
	atomic_store(&agent->ending, true);
	for (struct group *group = agent->groups; group; group = group->next) {
		pthread_mutex_lock(&group->lock);
		group_interrupt(group);
		pthread_mutex_unlock(&group->lock);
	}
	sessions_free(agent->sessions);
	pool_free(agent->pool);
	pool_free(agent->makers);
	pool_free(agent->slow_makers);
	for (struct group *group = agent->groups; group; group = group->next)
		probes_forget(group);
	probes_free(agent->probes);
	loop_cancel(agent->log_timer);
	link_client_free(agent->link);
	while (agent->groups) {
		struct group *group = agent->groups;

		agent->groups = group->next;
		loop_cancel(group->timer);
		while (group->monitors)
			monitor_remove(group->monitors);
		group_free(group);
	}
	free(agent->slots);
	free(agent);
}
