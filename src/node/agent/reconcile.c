/*
 * One round of a group: what is wanted, what is there, the next steps. Straight-line and blocking;
 * cut off at any point, the next round finds what is there and goes on.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/file.h"
#include "base/time.h"
#include "node/agent/group.h"
#include "node/agent/volumes.h"

#define GROUP_PIDS_MAX 8192

static void set_provisioning(struct group *group, const char *state)
{
	str_copy(group->provisioning, sizeof(group->provisioning), state);
}

static void save_and_report(struct group *group)
{
	struct err err = {0};

	if (group_save_state(group, &err) < 0)
		log_error("group %s: %s", group->uid, err.message);
	agent_report(group);
}

static struct network_sandbox sandbox_of(const struct group *group)
{
	return (struct network_sandbox){.uid = group->uid,
		.address = group->spec->address,
		.public_address = group->spec->public_address,
		.ports = group->spec->ports,
		.n_ports = group->spec->n_ports,
		.uid_base = group_uid_base(group)};
}

static int write_file(
	const struct group *group, const char *name, const char *text, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", group->dir, name);
	int r = file_write_replace(AT_FDCWD, path, text, strlen(text), 0644);

	return r < 0 ? err_errno(err, r, "write %s", path) : 0;
}

static int write_etc(const struct group *group, struct err *err)
{
	const struct agent_config *config = agent_config(group->agent);
	const struct group_spec *spec = group->spec;
	_cleanup_free_ char *hosts = xasprintf(
		"127.0.0.1\tlocalhost\n::1\tlocalhost\n%s\t%s\n", spec->address, spec->hostname);
	_cleanup_free_ char *hostname = xasprintf("%s\n", spec->hostname);
	_cleanup_free_ char *resolv =
		spec->dns ? spec_dns_text(spec->dns)
			  : xasprintf("search %s\nnameserver %s\n", config->domain,
				    network_gateway(config->network, spec->public_address));
	int r;

	r = write_file(group, "hosts", hosts, err);
	if (r == 0)
		r = write_file(group, "hostname", hostname, err);
	if (r == 0)
		r = write_file(group, "resolv.conf", resolv, err);
	return r;
}

static int sandbox_up(struct group *group, struct err *err)
{
	const struct agent_config *config = agent_config(group->agent);
	struct network_sandbox sandbox = sandbox_of(group);
	double cpu = 0;
	uint64_t memory = 0;
	int r;

	if (group->sandbox_up)
		return 0;
	for (size_t i = 0; i < group->spec->n_containers; i++) {
		cpu += group->spec->containers[i].cpu;
		memory += group->spec->containers[i].memory_bytes;
	}
	r = write_etc(group, err);
	if (r == 0)
		r = runtime_group_cgroup(
			config->runtime, group->uid, cpu, memory, GROUP_PIDS_MAX, err);
	if (r == 0)
		r = network_sandbox_up(config->network, &sandbox, err);
	if (r == 0)
		r = network_sandbox_open(config->network, &sandbox, group_is_ready(group), err);
	if (r < 0)
		return r;
	group->sandbox_up = true;
	group->open = group_is_ready(group);
	return 0;
}

/* Opens a group that became ready, closes one that is so no more. Connections that are there stay,
 * as in Kubernetes. */
static void apply_readiness(struct group *group)
{
	struct network_sandbox sandbox = sandbox_of(group);
	bool ready = group_is_ready(group);
	struct err err = {0};

	if (!group->sandbox_up || group->open == ready)
		return;
	if (network_sandbox_open(agent_config(group->agent)->network, &sandbox, ready, &err) < 0) {
		log_error("group %s: %s", group->uid, err.message);
		agent_wake_at(group, time_now_ms() + 1000);
		return;
	}
	group->open = ready;
}

static int sandbox_remove(struct group *group, struct err *err)
{
	const struct agent_config *config = agent_config(group->agent);
	const char *address = group->spec ? group->spec->address : NULL;
	int r = group_volumes_down(group, err);

	if (r == 0)
		r = network_sandbox_down(config->network, group->uid, address, err);
	if (r == 0)
		r = runtime_group_cgroup_remove(config->runtime, group->uid, err);
	group->sandbox_up = false;
	return r;
}

static void sandbox_down(struct group *group)
{
	struct err err = {0};

	if (sandbox_remove(group, &err) < 0)
		log_warn("group %s: %s", group->uid, err.message);
}

/* --- what lies in the group's folder --- */

static int each_folder(const char *path, bool (*wanted)(const char *name, void *arg),
	int (*fn)(struct group *group, const char *path, const char *name, struct err *err),
	struct group *group, void *arg, struct err *err)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return errno == ENOENT ? 0 : err_errno(err, -errno, "open %s", path);
	while (r == 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && (!wanted || wanted(entry->d_name, arg)))
			r = fn(group, path, entry->d_name, err);
	closedir(dir);
	return r;
}

/* path: "<group>/c/<container>/run", name: the run's id. */
static int remove_run(struct group *group, const char *path, const char *name, struct err *err)
{
	_cleanup_free_ char *dir = xstrndup(path, strlen(path) - strlen("/run"));
	_cleanup_free_ char *cgroup = xasprintf("%s/%s", group->uid, strrchr(dir, '/') + 1);

	return runtime_delete(agent_config(group->agent)->runtime, dir, name, cgroup, err);
}

/* path: "<group>/c", name: the container's. Its logs go with it. */
static int remove_container(
	struct group *group, const char *path, const char *name, struct err *err)
{
	_cleanup_free_ char *dir = xasprintf("%s/%s", path, name);
	_cleanup_free_ char *runs = xasprintf("%s/run", dir);
	int r = each_folder(runs, NULL, remove_run, group, NULL, err);

	if (r == 0)
		r = image_rootfs_unmount(agent_config(group->agent)->images, dir, err);
	if (r == 0) {
		r = file_remove_tree(AT_FDCWD, dir);
		if (r < 0)
			err_errno(err, r, "remove %s", dir);
	}
	return r;
}

static bool is_not_in_spec(const char *name, void *arg)
{
	return !group_find_container(arg, name);
}

static int remove_containers(struct group *group, bool only_unknown, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s/c", group->dir);

	return each_folder(
		path, only_unknown ? is_not_in_spec : NULL, remove_container, group, group, err);
}

/* The folder goes last: what is left of a group always has one that names it. */
static int remove_all(struct group *group, struct err *err)
{
	int r = remove_containers(group, false, err);

	if (r == 0)
		r = sandbox_remove(group, err);
	if (r == 0) {
		r = file_remove_tree(AT_FDCWD, group->dir);
		if (r < 0)
			err_errno(err, r, "remove %s", group->dir);
	}
	return r;
}

int group_remove_unread(struct group *group, struct err *err)
{
	group_set_spec(group, NULL);
	return remove_all(group, err);
}

static void stop_containers(struct group *group, const char *why)
{
	containers_stop(group, NULL, NULL, why);
}

static bool is_dropped(const struct group *group, size_t i, const void *arg)
{
	const struct group_spec *next = arg;

	for (size_t j = 0; j < next->n_containers; j++)
		if (str_eq(next->containers[j].name, group->containers[i].name))
			return false;
	return true;
}

static bool same_part(const struct group *group, const struct group_spec *next, const char *key)
{
	const json_t *was = json_object_get(group->spec->json, key);
	const json_t *is = json_object_get(next->json, key);

	return was && is ? json_equal(was, is) : was == is;
}

/* Closes the ports of the old spec when the new one has others; sandbox_up() opens those. Files
 * that other name servers are written to are made there, too: runs that are there keep theirs. */
static void close_changed_ports(struct group *group, const struct group_spec *next)
{
	struct network_sandbox sandbox;
	struct err err = {0};

	if (!group->sandbox_up)
		return;
	if (!same_part(group, next, "dns"))
		group->sandbox_up = false;
	if (same_part(group, next, "ports"))
		return;
	sandbox = sandbox_of(group);
	if (network_sandbox_open(agent_config(group->agent)->network, &sandbox, false, &err) < 0)
		log_warn("group %s: %s", group->uid, err.message);
	group->sandbox_up = false;
}

/* Before anything of it is made, the spec is on disk; what the spec no longer names goes after
 * that. */
static int keep_spec(struct group *group, struct err *err)
{
	int r = file_mkdirs(group->dir, 0711);

	if (r == -ENOSPC)
		err_set(err, r, "NodeStorageFull",
			"The node's disk is full. Free space and retry.");
	else if (r < 0)
		err_errno(err, r, "make %s", group->dir);
	else
		r = group_save_spec(group, err);
	if (r < 0)
		return r;
	group->spec_unsaved = false;
	return remove_containers(group, true, err);
}

/* Takes up a spec that has arrived. */
static int take_spec(struct group *group, struct err *err)
{
	struct group_spec *next;
	uint64_t drained;

	pthread_mutex_lock(&group->lock);
	next = take_ptr(group->next_spec);
	if (next && read(group->cancel_fd, &drained, sizeof(drained)) < 0)
		drained = 0;
	pthread_mutex_unlock(&group->lock);
	if (next) {
		mounting_end(group);
		/* Before it is taken up: then they are no more known. */
		containers_stop(group, is_dropped, next, "It is no longer part of the group.");
		close_changed_ports(group, next);
		group->wished_anew = group->spec && group->spec->generation != next->generation;
		pthread_mutex_lock(&group->lock);
		group_set_spec(group, next);
		pthread_mutex_unlock(&group->lock);
		group->spec_unsaved = true;
	}
	return group->spec_unsaved ? keep_spec(group, err) : 0;
}

static void forget_runs(struct group *group)
{
	for (size_t i = 0; i < group->n_containers; i++) {
		struct container *c = &group->containers[i];

		container_renew(c);
		c->restart_count = 0;
		c->current = c->previous = (struct container_view){0};
		events_clear(&c->events);
	}
	events_clear(&group->events);
	group->failure = (struct err){0};
}

/* The same deployment again, in place: address and volumes stay. */
static void run_again(struct group *group, const char *why)
{
	stop_containers(group, why);
	for (size_t i = 0; i < group->n_containers; i++) {
		struct container *c = &group->containers[i];

		c->restart_count += c->started_once;
		container_renew(c);
	}
	group->failure = (struct err){0};
	set_provisioning(group, "Creating");
}

/* A deployment that failed and is asked for again: what hasn't come up is tried at once, and what
 * runs goes on. */
static void try_again(struct group *group)
{
	for (size_t i = 0; i < group->n_containers; i++)
		if (!group->containers[i].started_once)
			container_renew(&group->containers[i]);
	group->failure = (struct err){0};
	set_provisioning(group, "Creating");
}

/* A start after a stop is a new deployment; a restart runs the same one again, and so does a change
 * of the init containers, whose work the containers stand on. */
static void apply_counters(struct group *group)
{
	const struct group_spec *spec = group->spec;

	if (group->runs != spec->runs) {
		stop_containers(group, "The group is deployed anew.");
		group_volumes_drop(group);
		forget_runs(group);
		set_provisioning(group, "Pending");
	} else if (group->restarts != spec->restarts) {
		run_again(group, "The group is restarted.");
	} else if (!str_eq(group->init_hash, spec->init_hash)) {
		run_again(group, "The definition of the init containers changed.");
	} else if (group->wished_anew && str_eq(group->provisioning, "Failed")) {
		try_again(group);
	}
	group->wished_anew = false;
	str_copy(group->init_hash, sizeof(group->init_hash), spec->init_hash);
	group->runs = spec->runs;
	group->restarts = spec->restarts;
}

static bool is_changed(const struct group *group, size_t i)
{
	return group->containers[i].run > 0 && i >= group_first_container(group) &&
	       !str_eq(group->containers[i].hash, group->spec->containers[i].hash);
}

static bool is_changed_and_runs(const struct group *group, size_t i, const void *arg)
{
	return is_changed(group, i) && group->containers[i].phase != CONTAINER_WAITING;
}

/* A container whose part of the spec changed runs again with the new one. */
static void apply_changes(struct group *group)
{
	containers_stop(group, is_changed_and_runs, NULL, "Its definition changed.");
	for (size_t i = 0; i < group->n_containers; i++) {
		struct container *c = &group->containers[i];

		if (!is_changed(group, i))
			continue;
		container_renew(c);
		/* What waits for its image now waits as long as any other. */
		memcpy(c->hash, group->spec->containers[i].hash, sizeof(c->hash));
		group->failure = (struct err){0};
		set_provisioning(group, "Creating");
	}
}

bool group_is_interrupted(struct group *group)
{
	bool yes;

	pthread_mutex_lock(&group->lock);
	yes = group->removing || group->next_spec;
	pthread_mutex_unlock(&group->lock);
	return yes || agent_is_ending(group->agent);
}

/* True when the containers may start. An init container's end wakes the group for the next one. */
static bool run_init(struct group *group)
{
	_cleanup_free_ char *words = NULL;
	size_t i;

	if (group_init_phase(group, &i) == INIT_DONE)
		return true;
	words = xasprintf(
		"the init container '%s' has to succeed first", group->containers[i].name);
	for (size_t j = group_first_container(group); j < group->n_containers; j++)
		container_show_waiting(&group->containers[j], words);
	if (group_init_phase(group, &i) == INIT_RUNNING)
		containers_start(group, i, i + 1);
	/* What kept it from starting is over. */
	if (group->containers[i].phase == CONTAINER_RUNNING) {
		group->failure = (struct err){0};
		set_provisioning(group, "Creating");
	}
	return false;
}

static void start_containers(struct group *group)
{
	if (run_init(group))
		containers_start(group, group_first_container(group), group->n_containers);
}

/* Every container has run: the deployment is done, whatever becomes of them. */
static void settle(struct group *group)
{
	bool all_started = true;

	for (size_t i = group_first_container(group); i < group->n_containers; i++)
		all_started = all_started && group->containers[i].started_once;
	init_describe_failure(group, &group->failure);
	if (all_started) {
		group->failure = (struct err){0};
		set_provisioning(group, "Succeeded");
	} else if (err_is_set(&group->failure)) {
		set_provisioning(group, "Failed");
	}
}

static bool all_ended(const struct group *group)
{
	if (group_init_phase(group, NULL) == INIT_FAILED)
		return true;
	for (size_t i = 0; i < group->n_containers; i++)
		if (group->containers[i].phase != CONTAINER_TERMINATED)
			return false;
	return true;
}

static void run_group(struct group *group)
{
	struct err err = {0};

	apply_counters(group);
	apply_changes(group);
	probes_hear(group);
	if (str_eq(group->provisioning, "Pending"))
		set_provisioning(group, "Creating");
	if (!all_ended(group)) {
		if (sandbox_up(group, &err) == 0) {
			group_volumes_refresh(group);
			start_containers(group);
			mounting_settle(group);
		} else {
			group->failure = err;
			events_add(&group->events, "Warning", "FailedCreateSandbox", "%s",
				err.message);
			agent_wake_at(
				group, time_now_ms() + agent_config(group->agent)->backoff_ms);
		}
	}
	settle(group);
	apply_readiness(group);
	/* What only a running group needs is given back at the end; the address stays. */
	if (all_ended(group) && (group->sandbox_up || group->fresh))
		sandbox_down(group);
	save_and_report(group);
}

static void stop_group(struct group *group)
{
	stop_containers(group, "The group is stopped.");
	sandbox_down(group);
	group->failure = (struct err){0};
	set_provisioning(group, "Succeeded");
	group->runs = group->spec->runs;
	group->restarts = group->spec->restarts;
	save_and_report(group);
}

static bool is_stopped(const struct group *group)
{
	return all_ended(group) && !group->sandbox_up && !group->fresh &&
	       str_eq(group->provisioning, "Succeeded");
}

static int remove_group(struct group *group)
{
	struct err err = {0};

	stop_containers(group, "The group is deleted.");
	if (remove_all(group, &err) < 0) {
		log_error("group %s can't be removed yet: %s", group->uid, err.message);
		agent_wake_at(group, time_now_ms() + 1000);
		return 0;
	}
	return 1;
}

/* After a kill -9: what an ended run left behind goes; runs that live on are watched again. */
static void look_over(struct group *group)
{
	bool anew = group->runs != group->spec->runs || group->restarts != group->spec->restarts ||
		    !str_eq(group->init_hash, group->spec->init_hash);
	struct err err = {0};

	if (group->fresh && remove_containers(group, true, &err) < 0)
		log_warn("group %s: %s", group->uid, err.message);
	for (size_t i = 0; i < group->n_containers; i++) {
		struct container *c = &group->containers[i];

		if (group->fresh && c->run > 0 &&
			(c->phase == CONTAINER_WAITING || c->phase == CONTAINER_TERMINATED))
			container_clean(group, c);
		/* Those that are stopped now may have been told to end already: that is no end for
		 * the policy. */
		if (!anew && !is_changed(group, i))
			container_observe(group, c);
	}
}

static void reconcile_spec(struct group *group)
{
	if (!group->spec->stopped) {
		look_over(group);
		run_group(group);
	} else if (is_stopped(group)) {
		save_and_report(group);
	} else {
		stop_group(group);
	}
	group->fresh = false;
}

int group_reconcile(struct group *group)
{
	struct err err = {0};
	bool removing;

	pthread_mutex_lock(&group->lock);
	removing = group->removing;
	pthread_mutex_unlock(&group->lock);
	if (removing)
		return remove_group(group);
	if (agent_is_ending(group->agent))
		return 0;
	if (take_spec(group, &err) < 0) {
		log_error("group %s: %s", group->uid, err.message);
		agent_wake_at(group, time_now_ms() + agent_config(group->agent)->backoff_ms);
		/* A stop needs no space, and gives some back. */
		if (!group->spec->stopped) {
			group->failure = err;
			set_provisioning(group, "Failed");
			agent_report(group);
			return 0;
		}
	}
	if (group->spec) {
		reconcile_spec(group);
		probes_follow(group);
	}
	return 0;
}
