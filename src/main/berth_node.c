/*
 * berth-node: the agent of a machine. Root, and so it listens nowhere: it dials berthd.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/proc.h"
#include "main/daemon.h"
#include "main/notify.h"
#include "node/agent/agent.h"
#include "node/network/porter_start.h"

struct node {
	struct config *config;
	struct loop *loop;
	struct image_store *images;
	struct network *network;
	struct runtime *runtime;
	struct volumes *volumes;
	struct agent *agent;
	struct proc porter;
	char *probe_program;
	struct loop_source *porter_source;
	/* What the agent borrows. */
	char *groups_dir, *ns_dir, *socket_path, *domain;
};

static int open_images(struct node *node, struct err *err)
{
	_cleanup_free_ char *dir = config_path(node->config, "node/images");
	_cleanup_free_ char *worker = proc_sibling("berth-pull");

	return image_store_open(
		&(struct image_store_config){.dir = dir,
			.worker = worker,
			.ca_file = node->config->registry_ca[0] ? node->config->registry_ca : NULL},
		err, &node->images);
}

static int open_network(struct node *node, struct err *err)
{
	_cleanup_free_ char *ns_dir = config_path(node->config, "node/ns");

	return network_open(&(struct network_config){.instance = node->config->instance,
				    .public_pool = node->config->public_pool,
				    .private_pool = node->config->private_pool,
				    .ns_dir = ns_dir},
		err, &node->network);
}

static int open_runtime(struct node *node, struct err *err)
{
	_cleanup_free_ char *state_dir = config_path(node->config, "node/crun");
	_cleanup_free_ char *cgroup = xasprintf("/berth-%s", node->config->instance);

	return runtime_new(&(struct runtime_config){.crun = "/usr/bin/crun",
				   .conmon = "/usr/bin/conmon",
				   .state_dir = state_dir,
				   .cgroup_root = cgroup,
				   .log_max_bytes = (uint64_t)node->config->log_max_mib << 20},
		err, &node->runtime);
}

static int open_volumes(struct node *node, struct err *err)
{
	_cleanup_free_ char *clone_program = proc_sibling("berth-clone");
	_cleanup_free_ char *smb_program = proc_sibling("berth-smb");
	const struct config *config = node->config;

	return volumes_open(
		&(struct volumes_config){.clone_program = clone_program,
			.smb_program = smb_program,
			.azure_files = config->azure_files_server,
			.ca_file = config->repository_ca[0] ? config->repository_ca : NULL,
			.allow_loopback = config->repository_loopback,
			.empty_dir_max_bytes = (uint64_t)config->empty_dir_max_mib << 20},
		err, &node->volumes);
}

static void start_porter(void *arg);

static void porter_ended(int fd, uint32_t events, void *arg)
{
	struct node *node = arg;

	loop_remove(node->porter_source);
	node->porter_source = NULL;
	log_warn("berth-porter ended with %d and is started again", proc_wait(&node->porter, 0));
	loop_after(node->loop, 1000, start_porter, node);
}

static void start_porter(void *arg)
{
	struct node *node = arg;
	_cleanup_free_ char *program = proc_sibling("berth-porter");
	_cleanup_free_ char *suffix = xasprintf("%s.%s", node->config->region, node->config->zone);
	struct err err = {0};

	if (porter_start(&(struct porter_config){.program = program,
				 .zone_suffix = suffix,
				 .authority = node->config->dns_listen,
				 .gateways = {network_gateway(node->network, true),
					 network_gateway(node->network, false)},
				 .upstreams = node->config->dns_upstreams,
				 .stderr_fd = STDERR_FILENO},
		    &node->porter, &err) < 0) {
		log_error("berth-porter: %s", err.message);
		loop_after(node->loop, 5000, start_porter, node);
		return;
	}
	node->porter_source = loop_add(node->loop, node->porter.pidfd, EPOLLIN, porter_ended, node);
}

typedef int (*agent_fn)(struct node *node, const struct agent_config *config, struct err *err);

static int run_agent(struct node *node, const struct agent_config *config, struct err *err)
{
	return agent_new(config, err, &node->agent);
}

/* `berth down --purge`: the groups, the tree of cgroups, the bridge and the firewall table. */
static int remove_everything(struct node *node, const struct agent_config *config, struct err *err)
{
	int r = agent_remove_all(config, err);

	if (r == 0)
		r = runtime_group_cgroup_remove(node->runtime, "", err);
	return r < 0 ? r : network_purge(node->config->instance, err);
}

static int with_agent_config(struct node *node, agent_fn fn, struct err *err)
{
	const struct config *config = node->config;
	_cleanup_free_ char *control = config_path(config, "control");
	struct stat st;

	if (stat(control, &st) < 0)
		return err_errno(err, -errno, "%s", control);
	node->groups_dir = config_path(config, "node/groups");
	node->ns_dir = config_path(config, "node/ns");
	node->socket_path = config_path(config, "run/link/node.sock");
	node->probe_program = proc_sibling("berth-probe");
	node->domain = xasprintf("%s.%s", config->region, config->zone);
	return fn(node,
		&(struct agent_config){.loop = node->loop,
			.images = node->images,
			.network = node->network,
			.runtime = node->runtime,
			.volumes = node->volumes,
			.probe_program = node->probe_program,
			.node = "local",
			.groups_dir = node->groups_dir,
			.ns_dir = node->ns_dir,
			.socket_path = node->socket_path,
			.control_uid = st.st_uid,
			.domain = node->domain,
			.uid_first = (uint32_t)config->uid_first,
			.uid_groups = (uint32_t)config->uid_groups,
			.backoff_ms = config->restart_backoff_ms,
			.backoff_max_ms = 300000,
			.stop_grace_ms = config->stop_grace_ms,
			.allow_loopback_http = config->registry_loopback_http,
			.on_ready = notify_ready},
		err);
}

static int node_start(struct node *node, bool removing, struct err *err)
{
	int r = open_images(node, err);

	if (r == 0)
		r = open_network(node, err);
	if (r == 0)
		r = open_runtime(node, err);
	if (r == 0)
		r = open_volumes(node, err);
	if (r < 0)
		return r;
	if (removing)
		return with_agent_config(node, remove_everything, err);
	start_porter(node);
	return with_agent_config(node, run_agent, err);
}

static void node_stop(struct node *node)
{
	loop_remove(node->porter_source);
	proc_kill(&node->porter);
	agent_free(node->agent);
	volumes_close(node->volumes);
	runtime_free(node->runtime);
	network_close(node->network);
	image_store_close(node->images);
	loop_free(node->loop);
	config_free(node->config);
	free(node->groups_dir);
	free(node->probe_program);
	free(node->ns_dir);
	free(node->socket_path);
	free(node->domain);
}

int main(int argc, char **argv)
{
	struct node node = {.porter = {.pidfd = -EBADF}};
	_cleanup_free_ char *pin = NULL;
	struct err err = {0};
	bool removing = daemon_take_flag(&argc, argv, "--remove-groups");
	int r;

	r = daemon_start(argc, argv, "berth-node",
		"The agent that runs container groups on this machine. `berth up` starts it.",
		&node.config);
	if (r != 0)
		return r < 0 ? 2 : 0;
	if (geteuid() != 0) {
		fprintf(stderr,
			"berth-node makes namespaces and mounts, and so it needs root. `berth up` starts it.\n");
		return 2;
	}
	umask(0022);
	json_wipe_freed();
	pin = config_path(node.config, "node/mnt");
	r = runtime_namespace_enter(pin, &err);
	if (r == 0) {
		node.loop = loop_new();
		r = daemon_signals(node.loop, &err);
	}
	if (r == 0)
		r = node_start(&node, removing, &err);
	if (r < 0) {
		log_error("%s", err.message);
		return 1;
	}
	if (!removing)
		loop_run(node.loop);
	node_stop(&node);
	return 0;
}
