#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>

#include "base/file.h"
#include "node/network/admit.h"
#include "node/network/private.h"

/* "100.64.0.0/17", /8 to /28, no bits set below the prefix. */
static int pool_parse(const char *text, struct pool_range *ret)
{
	struct pool_range pool = {0};
	char address[INET_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	uint64_t prefix;
	uint32_t host;

	if (!slash || (size_t)(slash - text) >= sizeof(address))
		return -EINVAL;
	snprintf(address, sizeof(address), "%.*s", (int)(slash - text), text);
	if (inet_pton(AF_INET, address, &pool.network) != 1 ||
		str_to_u64(slash + 1, 28, &prefix) < 0 || prefix < 8)
		return -EINVAL;
	host = ntohl(pool.network.s_addr);
	if (host & (UINT32_MAX >> prefix))
		return -EINVAL;
	pool.prefix = (unsigned)prefix;
	pool.gateway.s_addr = htonl(host + 1);
	if (!inet_ntop(AF_INET, &pool.gateway, pool.gateway_str, sizeof(pool.gateway_str)))
		return -EINVAL;
	*ret = pool;
	return 0;
}

/* An address that a sandbox may have: not the network's, the gateway's or the last one. */
bool pool_has(const struct pool_range *pool, struct in_addr address)
{
	uint32_t first = ntohl(pool->network.s_addr);
	uint32_t last = first | (UINT32_MAX >> pool->prefix);
	uint32_t a = ntohl(address.s_addr);

	return a > first + 1 && a < last;
}

static bool instance_valid(const char *instance)
{
	return strlen(instance) == 6 && strspn(instance, "0123456789abcdef") == 6;
}

static void bridge_name(const char *instance, char ret[IF_NAMESIZE])
{
	snprintf(ret, IF_NAMESIZE, "br-%s", instance);
}

static void sysctl_path(
	const char *device, const char *family, const char *key, char *path, size_t size)
{
	snprintf(path, size, "/proc/sys/net/%s/conf/%s/%s", family, device, key);
}

static int sysctl_write(const char *device, const char *family, const char *key, const char *value)
{
	char path[128];

	sysctl_path(device, family, key, path, sizeof(path));
	return file_write_control(AT_FDCWD, path, value);
}

static int forwarding_read(const char *device, bool *ret)
{
	_cleanup_free_ char *value = NULL;
	char path[128];
	int r;

	sysctl_path(device, "ipv4", "forwarding", path, sizeof(path));
	r = file_read(AT_FDCWD, path, 16, &value, NULL);
	if (r < 0)
		return r;
	*ret = value[0] == '1';
	return 0;
}

/* Who turned forwarding on for which device: the sets `forwarding` of all instances on this
 * machine. */

struct noted {
	struct nl *nl; /* another one than lists the instances */
	const char *device;
	const char *except; /* this instance's note doesn't count */
	bool found;
	int r;
};

static void on_instance(const char *instance, void *arg)
{
	struct noted *noted = arg;
	_cleanup_free_ struct firewall_key *keys = NULL;
	size_t n = 0;
	int r;

	if (!instance_valid(instance) || str_eq(instance, noted->except))
		return;
	r = firewall_elements(noted->nl, instance, FIREWALL_FORWARDING, &keys, &n);
	if (r < 0 && r != -ENOENT)
		noted->r = r;
	for (size_t i = 0; i < n; i++)
		if (str_eq(firewall_key_name(&keys[i]), noted->device))
			noted->found = true;
}

static int noted_by_another(const char *device, const char *except, bool *ret)
{
	_cleanup_nl_ struct nl list = NL_INIT, each = NL_INIT;
	struct noted noted = {.nl = &each, .device = device, .except = except};
	int r = nl_open(&list, NETLINK_NETFILTER);

	if (r == 0)
		r = nl_open(&each, NETLINK_NETFILTER);
	if (r == 0)
		r = firewall_instances(&list, on_instance, &noted);
	if (r == 0)
		r = noted.r;
	if (r == 0)
		*ret = noted.found;
	return r;
}

/* The note comes first: a kill between the two leaves a note too many, not a change that nobody
 * knows of. A device that was forwarding before any of us is left alone, then and later. */
static int forwarding_on(const char *instance, const char *device)
{
	_cleanup_(firewall_change_done) struct firewall_change change = {0};
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct firewall_key key;
	bool on, noted = false;
	int r = forwarding_read(device, &on);

	if (r == 0 && on)
		r = noted_by_another(device, instance, &noted);
	if (r < 0 || (on && !noted))
		return r;
	firewall_key_forwarding(&key, device);
	firewall_change_init(&change, instance);
	firewall_change_add(&change, FIREWALL_FORWARDING, true, &key);
	r = nl_open(&nl, NETLINK_NETFILTER);
	if (r == 0)
		r = firewall_change_commit(&change, &nl);
	return r < 0 ? r : sysctl_write(device, "ipv4", "forwarding", "1");
}

static int forwarding_off(const char *instance)
{
	_cleanup_free_ struct firewall_key *keys = NULL;
	_cleanup_nl_ struct nl nl = NL_INIT;
	size_t n = 0;
	int r = nl_open(&nl, NETLINK_NETFILTER);

	if (r == 0)
		r = firewall_elements(&nl, instance, FIREWALL_FORWARDING, &keys, &n);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; r == 0 && i < n; i++) {
		const char *device = firewall_key_name(&keys[i]);
		bool needed = false;

		if (strchr(device, '/'))
			continue;
		r = noted_by_another(device, instance, &needed);
		if (r == 0 && !needed)
			r = sysctl_write(device, "ipv4", "forwarding", "0");
		if (r == -ENOENT) /* the device is gone */
			r = 0;
	}
	return r;
}

struct devices {
	const char *instance;
	int r;
};

static void on_default_device(int index, void *arg)
{
	struct devices *devices = arg;
	char name[IF_NAMESIZE];

	if (devices->r == 0 && if_indextoname((unsigned)index, name))
		devices->r = forwarding_on(devices->instance, name);
}

/* Answers to what the groups ask, and what comes to public addresses, enters by the devices of
 * default routes. */
static int forwarding_on_uplinks(const char *instance)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct devices devices = {.instance = instance};
	int r = nl_open(&nl, NETLINK_ROUTE);

	if (r == 0)
		r = rt_default_devices(&nl, on_default_device, &devices);
	return r < 0 ? r : devices.r;
}

/* The bridge. */

static int bridge_sysctls(const struct network *network)
{
	static const char *const values[][2] = {
		{"forwarding", "1"}, {"accept_redirects", "0"}, {"route_localnet", "0"}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(values); i++)
		r = sysctl_write(network->bridge, "ipv4", values[i][0], values[i][1]);
	if (r == 0 && network->has_ipv6)
		r = sysctl_write(network->bridge, "ipv6", "disable_ipv6", "1");
	return r;
}

static int ensure_bridge(struct network *network)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	unsigned char mac[6] = {0x02, 0xbf, 0, 0, 0, 0x01};
	struct rt_link link;
	int r = nl_open(&nl, NETLINK_ROUTE);

	if (r < 0)
		return r;
	str_unhex(network->instance, mac + 2, 3);
	r = rt_bridge_add(&nl, network->bridge, mac);
	if (r == 0 || r == -EEXIST)
		r = rt_link_get(&nl, network->bridge, &link);
	if (r < 0)
		return r;
	network->bridge_index = link.index;
	memcpy(network->bridge_mac, link.mac, sizeof(network->bridge_mac));
	r = bridge_sysctls(network);
	if (r == 0)
		r = rt_addr_add(
			&nl, link.index, network->public_pool.gateway, network->public_pool.prefix);
	if (r == 0)
		r = rt_addr_add(&nl, link.index, network->private_pool.gateway,
			network->private_pool.prefix);
	return r < 0 ? r : rt_link_up(&nl, link.index);
}

static int network_new(const struct network_config *config, struct err *err, struct network **ret)
{
	struct network *network;

	if (!instance_valid(config->instance))
		return err_set(
			err, -EINVAL, "InternalError", "bad instance id '%.32s'", config->instance);
	network = xnew(struct network);
	if (pool_parse(config->public_pool, &network->public_pool) < 0 ||
		pool_parse(config->private_pool, &network->private_pool) < 0) {
		free(network);
		return err_set(err, -EINVAL, "InternalError", "bad address pool '%.32s' or '%.32s'",
			config->public_pool, config->private_pool);
	}
	str_copy(network->instance, sizeof(network->instance), config->instance);
	bridge_name(config->instance, network->bridge);
	network->has_ipv6 = access("/proc/sys/net/ipv6", F_OK) == 0;
	network->ns_dir = xstrdup(config->ns_dir);
	*ret = network;
	return 0;
}

/* The rules are there before the bridge is up, so that nothing passes unfiltered. */
int network_open(const struct network_config *config, struct err *err, struct network **ret)
{
	struct network *network = NULL;
	struct firewall_config firewall;
	int r = network_new(config, err, &network);

	if (r < 0)
		return r;
	firewall = (struct firewall_config){
		.instance = network->instance,
		.bridge = network->bridge,
		.public_pool = config->public_pool,
		.private_pool = config->private_pool,
		.public_gateway = network->public_pool.gateway,
		.private_gateway = network->private_pool.gateway,
		.public_routed = config->public_routed,
	};
	r = file_mkdirs(config->ns_dir, 0700);
	if (r < 0)
		err_errno(err, r, "%s", config->ns_dir);
	if (r == 0)
		r = firewall_load(&firewall, err);
	if (r == 0)
		r = admit_open(network->instance, network->bridge, err);
	if (r == 0) {
		r = ensure_bridge(network);
		if (r < 0)
			err_errno(err, r, "bridge %s", network->bridge);
	}
	if (r == 0) {
		r = forwarding_on_uplinks(network->instance);
		if (r < 0)
			err_errno(err, r, "IPv4 forwarding");
	}
	if (r < 0) {
		network_close(network);
		return r;
	}
	*ret = network;
	return 0;
}

void network_close(struct network *network)
{
	if (!network)
		return;
	free(network->ns_dir);
	free(network);
}

const char *network_gateway(const struct network *network, bool public_address)
{
	return public_address ? network->public_pool.gateway_str
			      : network->private_pool.gateway_str;
}

/* Names of the veths that are left, to be deleted after the dump. */
struct leftovers {
	const char *prefix;
	char (*names)[IF_NAMESIZE];
	size_t n;
};

static void on_leftover(const struct rt_link *link, void *arg)
{
	struct leftovers *left = arg;

	if (!str_starts(link->name, left->prefix) || strlen(link->name) != 15)
		return;
	left->names = xrealloc(left->names, (left->n + 1) * IF_NAMESIZE);
	str_copy(left->names[left->n++], IF_NAMESIZE, link->name);
}

static int purge_links(const char *instance)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	char prefix[IF_NAMESIZE], bridge[IF_NAMESIZE];
	struct leftovers left = {.prefix = prefix};
	int r = nl_open(&nl, NETLINK_ROUTE);

	snprintf(prefix, sizeof(prefix), "v%s", instance);
	bridge_name(instance, bridge);
	if (r == 0)
		r = rt_links(&nl, on_leftover, &left);
	for (size_t i = 0; r == 0 && i < left.n; i++)
		r = rt_link_delete(&nl, left.names[i]);
	free(left.names);
	return r < 0 ? r : rt_link_delete(&nl, bridge);
}

int network_purge(const char *instance, struct err *err)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	int r;

	if (!instance_valid(instance))
		return err_set(err, -EINVAL, "InternalError", "bad instance id '%.32s'", instance);
	r = purge_links(instance);
	if (r < 0)
		return err_errno(err, r, "remove the links of instance %s", instance);
	r = admit_close(instance, err);
	if (r < 0)
		return r;
	r = forwarding_off(instance);
	if (r < 0)
		return err_errno(err, r, "put forwarding back");
	r = nl_open(&nl, NETLINK_NETFILTER);
	if (r == 0)
		r = firewall_delete(&nl, instance);
	if (r < 0)
		return err_errno(err, r, "remove the firewall tables of instance %s", instance);
	return 0;
}
