#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/file.h"
#include "base/random.h"
#include "node/network/conntrack.h"
#include "node/network/private.h"

#define OPEN_TRIES 5

/* One listing and the change that follows from it at a time: another thread's change in between
 * would make the listing old, and while the kernel rebuilds a set's table a listing is not to be
 * relied on. */
static pthread_mutex_t sets_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

/* "v", the instance, eight digits of the uid: 15 characters, all that a name may have. Two uids
 * with the same digits are told apart by the alias. */
static void veth_name(const struct network *network, const char *uid, char ret[IF_NAMESIZE])
{
	snprintf(ret, IF_NAMESIZE, "v%s%.8s", network->instance, uid);
}

static void sandbox_mac(struct in_addr address, unsigned char ret[6])
{
	ret[0] = 0x02; /* locally administered */
	ret[1] = 0xbe;
	memcpy(ret + 2, &address, 4);
}

struct setup {
	const struct network *network;
	const struct network_sandbox *sandbox;
	char veth[IF_NAMESIZE];
	unsigned char mac[6];
	struct in_addr address;
	const struct pool_range *pool;
	int net_fd;
	struct nl host; /* in the machine's namespace */
	struct nl inside;
	int inside_socket;
	bool was_there;	  /* an end of the veth, so there may be elements of another address */
	const char *step; /* what failed, for the message */
};

static int setup_init(struct setup *setup, struct network *network,
	const struct network_sandbox *sandbox, struct err *err)
{
	*setup = (struct setup){
		.network = network, .sandbox = sandbox, .net_fd = -EBADF, .inside_socket = -EBADF};
	if (!uuid_is_valid(sandbox->uid))
		return err_set(err, -EINVAL, "InternalError", "not a uuid: '%.64s'", sandbox->uid);
	setup->pool = sandbox->public_address ? &network->public_pool : &network->private_pool;
	if (inet_pton(AF_INET, sandbox->address, &setup->address) != 1 ||
		!pool_has(setup->pool, setup->address))
		return err_set(err, -EINVAL, "InternalError", "%.64s is no address of the pool",
			sandbox->address);
	veth_name(network, sandbox->uid, setup->veth);
	sandbox_mac(setup->address, setup->mac);
	return 0;
}

static void setup_done(struct setup *setup)
{
	nl_close(&setup->host);
	nl_close(&setup->inside);
	fd_close(setup->inside_socket);
	fd_close(setup->net_fd);
}

/* Where the kernel has no IPv6, there is nothing to turn off. */
static int sysctl_if_there(const char *path, const char *value)
{
	int r = file_write_control(AT_FDCWD, path, value);

	return r == -ENOENT ? 0 : r;
}

/* Inside the sandbox's network namespace: procfs shows the sysctls of the calling thread's
 * namespace, and a netlink socket stays in the one where it was opened. */
static int enter(void *arg)
{
	struct setup *setup = arg;
	uint32_t base = setup->sandbox->uid_base;
	char groups[32];
	int r;

	r = sysctl_if_there("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
	if (r == 0)
		r = sysctl_if_there("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	if (r == 0)
		r = file_write_control(
			AT_FDCWD, "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
	/* In ids of the writer's user namespace, which is the machine's. */
	snprintf(groups, sizeof(groups), "%u %u", base, base + 65535);
	if (r == 0)
		r = file_write_control(AT_FDCWD, "/proc/sys/net/ipv4/ping_group_range", groups);
	if (r < 0) {
		setup->step = "sysctls";
		return r;
	}
	setup->inside_socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (setup->inside_socket < 0)
		return -errno;
	return nl_open(&setup->inside, NETLINK_ROUTE);
}

/* The pair, made anew unless both ends are as they should be. */
static int ensure_veth(struct setup *setup, int *ret_port, int *ret_eth0)
{
	struct rt_link port = {0}, eth0 = {0};
	int r = rt_link_get(&setup->host, setup->veth, &port);
	int r2 = rt_link_get(&setup->inside, "eth0", &eth0);

	setup->step = "veth";
	setup->was_there = r == 0 || r2 == 0;
	if (r == 0 && port.alias[0] && !str_eq(port.alias, setup->sandbox->uid))
		return -EADDRINUSE;
	if (r < 0 || r2 < 0 || port.master != setup->network->bridge_index ||
		memcmp(eth0.mac, setup->mac, 6) != 0) {
		r = rt_link_delete(&setup->inside, "eth0");
		if (r == 0)
			r = rt_link_delete(&setup->host, setup->veth);
		if (r == 0)
			r = rt_veth_add(&setup->host, setup->veth, setup->network->bridge_index,
				setup->net_fd, setup->mac);
		if (r == 0)
			r = rt_link_get(&setup->host, setup->veth, &port);
		if (r == 0)
			r = rt_link_get(&setup->inside, "eth0", &eth0);
		if (r < 0)
			return r;
	}
	*ret_port = port.index;
	*ret_eth0 = eth0.index;
	return 0;
}

static int configure_inside(struct setup *setup, int eth0)
{
	int r = rt_link_up(&setup->inside, 1); /* lo is the first link of every namespace */

	setup->step = "addresses in the namespace";
	if (r == 0)
		r = rt_link_up(&setup->inside, eth0);
	if (r == 0)
		r = rt_addr_add(&setup->inside, eth0, setup->address, 32);
	if (r == 0)
		r = rt_neigh_add(
			&setup->inside, eth0, setup->pool->gateway, setup->network->bridge_mac);
	if (r == 0)
		r = rt_route_default(&setup->inside, eth0, setup->pool->gateway);
	return r;
}

static int configure_host(struct setup *setup, int port)
{
	const struct network *network = setup->network;
	int r = rt_port_up(&setup->host, port, setup->sandbox->uid, network->has_ipv6);

	setup->step = "bridge port";
	if (r == 0)
		r = rt_fdb_add(&setup->host, port, setup->mac);
	if (r == 0)
		r = rt_neigh_add(&setup->host, network->bridge_index, setup->address, setup->mac);
	return r;
}

/* After this the first packet passes. */
static int settle(struct setup *setup)
{
	_cleanup_fd_ int host = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = host < 0 ? -errno : link_settle(host, setup->veth);

	setup->step = "carrier";
	if (r == 0)
		r = link_settle(setup->inside_socket, "eth0");
	/* The bridge has a carrier when a port has one. */
	return r < 0 ? r : link_settle(host, setup->network->bridge);
}

/* The sandbox's source addresses are exactly this one. */
/* The kernel may list an element twice when the set's table grows during the listing. */
static bool has_key(const struct firewall_key *keys, size_t n, const struct firewall_key *key)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(keys[i].data, key->data, key->len) == 0)
			return true;
	return false;
}

static int change_pin(struct setup *setup)
{
	const char *instance = setup->network->instance;
	_cleanup_(firewall_change_done) struct firewall_change change = {0};
	_cleanup_free_ struct firewall_key *keys = NULL;
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct firewall_key key;
	size_t n = 0;
	int r = nl_open(&nl, NETLINK_NETFILTER);

	setup->step = "pinned address";
	if (r == 0 && setup->was_there)
		r = firewall_elements(&nl, instance, FIREWALL_PINNED, &keys, &n);
	if (r < 0)
		return r;
	firewall_key_pinned(&key, setup->veth, setup->mac, setup->address);
	firewall_change_init(&change, instance);
	for (size_t i = 0; i < n; i++)
		if (str_eq(firewall_key_name(&keys[i]), setup->veth) &&
			memcmp(keys[i].data, key.data, key.len) != 0 && !has_key(keys, i, &keys[i]))
			firewall_change_add(&change, FIREWALL_PINNED, false, &keys[i]);
	firewall_change_add(&change, FIREWALL_PINNED, true, &key);
	return firewall_change_commit(&change, &nl);
}

static int pin_source(struct setup *setup)
{
	int r;

	pthread_mutex_lock(&sets_lock);
	r = change_pin(setup);
	pthread_mutex_unlock(&sets_lock);
	return r;
}

int network_sandbox_up(
	struct network *network, const struct network_sandbox *sandbox, struct err *err)
{
	_cleanup_(setup_done) struct setup setup;
	int port = 0, eth0 = 0;
	int r = setup_init(&setup, network, sandbox, err);

	if (r < 0)
		return r;
	r = namespace_ensure(network->ns_dir, sandbox->uid, sandbox->uid_base, err, &setup.net_fd);
	if (r < 0)
		return r;
	setup.step = "netlink";
	r = nl_open(&setup.host, NETLINK_ROUTE);
	if (r == 0)
		r = namespace_run(setup.net_fd, enter, &setup);
	if (r == 0)
		r = ensure_veth(&setup, &port, &eth0);
	/* Pinned before the port is up: there is no moment in which a frame could carry another
	 * source. */
	if (r == 0)
		r = pin_source(&setup);
	if (r == 0)
		r = configure_host(&setup, port);
	if (r == 0)
		r = configure_inside(&setup, eth0);
	if (r == 0)
		r = settle(&setup);
	if (r < 0)
		return err_errno(err, r, "network of sandbox %s: %s", sandbox->uid, setup.step);
	return 0;
}

/* What is open becomes what is wanted, in one change. -ENOENT: somebody else changed the set
 * meanwhile. */
static int change_open(struct nl *nl, const char *instance, struct in_addr address,
	const struct firewall_key *wanted, size_t n_wanted)
{
	_cleanup_(firewall_change_done) struct firewall_change change = {0};
	_cleanup_free_ struct firewall_key *keys = NULL;
	size_t n = 0;
	int r = firewall_elements(nl, instance, FIREWALL_OPEN, &keys, &n);

	if (r < 0)
		return r;
	firewall_change_init(&change, instance);
	for (size_t i = 0; i < n; i++)
		if (firewall_key_address(FIREWALL_OPEN, &keys[i]).s_addr == address.s_addr &&
			!has_key(wanted, n_wanted, &keys[i]) && !has_key(keys, i, &keys[i]))
			firewall_change_add(&change, FIREWALL_OPEN, false, &keys[i]);
	for (size_t i = 0; i < n_wanted; i++)
		if (!has_key(keys, n, &wanted[i]))
			firewall_change_add(&change, FIREWALL_OPEN, true, &wanted[i]);
	return firewall_change_commit(&change, nl);
}

static int set_open(struct nl *nl, const char *instance, struct in_addr address,
	const struct firewall_key *wanted, size_t n_wanted)
{
	int r = -ENOENT;

	pthread_mutex_lock(&sets_lock);
	for (int tries = 0; r == -ENOENT && tries < OPEN_TRIES; tries++)
		r = change_open(nl, instance, address, wanted, n_wanted);
	pthread_mutex_unlock(&sets_lock);
	return r;
}

int network_sandbox_open(
	struct network *network, const struct network_sandbox *sandbox, bool open, struct err *err)
{
	size_t n = open && sandbox->public_address ? sandbox->n_ports : 0;
	_cleanup_free_ struct firewall_key *wanted = xcalloc(n + 1, sizeof(struct firewall_key));
	_cleanup_(setup_done) struct setup setup;
	_cleanup_nl_ struct nl nl = NL_INIT;
	int r = setup_init(&setup, network, sandbox, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		firewall_key_open(
			&wanted[i], setup.address, sandbox->ports[i].udp, sandbox->ports[i].port);
	r = nl_open(&nl, NETLINK_NETFILTER);
	if (r == 0)
		r = set_open(&nl, network->instance, setup.address, wanted, n);
	if (r < 0)
		return err_errno(err, r, "%s the ports of sandbox %s", open ? "open" : "close",
			sandbox->uid);
	return 0;
}

static int make_socket(void *arg)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

int network_sandbox_socket(struct network *network, const char *uid)
{
	_cleanup_fd_ int net = uuid_is_valid(uid) ? namespace_open(network->ns_dir, uid) : -EINVAL;

	return net < 0 ? net : namespace_run(net, make_socket, NULL);
}

/* Nothing of the address may be left when it is given to another group. */
static int forget_address(
	struct network *network, struct nl *route, struct nl *netfilter, struct in_addr address)
{
	int r = set_open(netfilter, network->instance, address, NULL, 0);

	if (r == -ENOENT) /* no table: then there are no elements either */
		r = 0;
	if (r == 0)
		r = rt_neigh_delete(route, network->bridge_index, address);
	if (r == -ENODEV || r == -EINVAL) /* no bridge */
		r = 0;
	if (r == 0)
		r = conntrack_forget(netfilter, address);
	return r;
}

static int forget_sandbox_locked(struct network *network, struct nl *route, struct nl *netfilter,
	const char *veth, const char *address_str)
{
	_cleanup_(firewall_change_done) struct firewall_change change = {0};
	_cleanup_free_ struct firewall_key *keys = NULL;
	struct in_addr address = {INADDR_ANY};
	size_t n = 0;
	int r = firewall_elements(netfilter, network->instance, FIREWALL_PINNED, &keys, &n);

	if (r < 0 && r != -ENOENT)
		return r;
	r = 0;
	if (address_str && inet_pton(AF_INET, address_str, &address) == 1)
		r = forget_address(network, route, netfilter, address);
	firewall_change_init(&change, network->instance);
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct in_addr pinned = firewall_key_address(FIREWALL_PINNED, &keys[i]);

		if (!str_eq(firewall_key_name(&keys[i]), veth) || has_key(keys, i, &keys[i]))
			continue;
		if (pinned.s_addr != address.s_addr)
			r = forget_address(network, route, netfilter, pinned);
		firewall_change_add(&change, FIREWALL_PINNED, false, &keys[i]);
	}
	return r < 0 ? r : firewall_change_commit(&change, netfilter);
}

static int forget_sandbox(struct network *network, struct nl *route, struct nl *netfilter,
	const char *veth, const char *address_str)
{
	int r;

	pthread_mutex_lock(&sets_lock);
	r = forget_sandbox_locked(network, route, netfilter, veth, address_str);
	pthread_mutex_unlock(&sets_lock);
	return r;
}

int network_sandbox_down(
	struct network *network, const char *uid, const char *address, struct err *err)
{
	_cleanup_nl_ struct nl route = NL_INIT, netfilter = NL_INIT;
	char veth[IF_NAMESIZE];
	struct rt_link link;
	int r;

	if (!uuid_is_valid(uid))
		return err_set(err, -EINVAL, "InternalError", "not a uuid: '%.64s'", uid);
	veth_name(network, uid, veth);
	r = nl_open(&route, NETLINK_ROUTE);
	if (r == 0)
		r = nl_open(&netfilter, NETLINK_NETFILTER);
	/* A veth of another group with the same digits stays, and so do its elements. */
	if (r == 0 && rt_link_get(&route, veth, &link) == 0 && link.alias[0] &&
		!str_eq(link.alias, uid))
		return namespace_remove(network->ns_dir, uid, err);
	if (r == 0)
		r = forget_sandbox(network, &route, &netfilter, veth, address);
	if (r == 0)
		r = rt_link_delete(&route, veth);
	if (r < 0)
		return err_errno(err, r, "take down the network of sandbox %s", uid);
	/* The pins go last: as long as one is there, network_sandbox_list names the sandbox. */
	return namespace_remove(network->ns_dir, uid, err);
}

/* The list of what is there. */

struct uids {
	char **list; /* NULL-terminated once anything was added */
	size_t n;
	const char *prefix; /* of the veths' names */
};

static void uids_add(struct uids *uids, const char *uid)
{
	for (size_t i = 0; i < uids->n; i++)
		if (str_eq(uids->list[i], uid))
			return;
	uids->list = xrealloc(uids->list, (uids->n + 2) * sizeof(char *));
	uids->list[uids->n++] = xstrdup(uid);
	uids->list[uids->n] = NULL;
}

static void on_listed_link(const struct rt_link *link, void *arg)
{
	struct uids *uids = arg;

	if (str_starts(link->name, uids->prefix) && uuid_is_valid(link->alias))
		uids_add(uids, link->alias);
}

static int list_pins(const char *ns_dir, struct uids *uids)
{
	DIR *dir = opendir(ns_dir);
	struct dirent *entry;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		char uid[37];

		snprintf(uid, sizeof(uid), "%.36s", entry->d_name);
		if (uuid_is_valid(uid) &&
			(str_eq(entry->d_name + 36, ".net") || str_eq(entry->d_name + 36, ".user")))
			uids_add(uids, uid);
	}
	closedir(dir);
	return 0;
}

int network_sandbox_list(struct network *network, struct err *err, char ***ret_uids)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	char prefix[IF_NAMESIZE];
	struct uids uids = {.prefix = prefix};
	int r;

	snprintf(prefix, sizeof(prefix), "v%s", network->instance);
	r = list_pins(network->ns_dir, &uids);
	if (r == 0)
		r = nl_open(&nl, NETLINK_ROUTE);
	if (r == 0)
		r = rt_links(&nl, on_listed_link, &uids);
	if (r < 0) {
		for (size_t i = 0; i < uids.n; i++)
			free(uids.list[i]);
		free(uids.list);
		return err_errno(err, r, "list sandboxes");
	}
	*ret_uids = uids.list ? uids.list : xcalloc(1, sizeof(char *));
	return 0;
}
