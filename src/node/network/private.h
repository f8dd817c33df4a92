/* What network.c and sandbox.c share. */
#pragma once

#include <net/if.h>
#include <netinet/in.h>

#include "node/network/firewall.h"
#include "node/network/netlink.h"
#include "node/network/network.h"

struct pool_range {
	struct in_addr network;
	unsigned prefix;
	struct in_addr gateway; /* the first address */
	char gateway_str[INET_ADDRSTRLEN];
};

/* Nothing in it changes after network_open, so threads share it without a lock. */
struct network {
	char instance[7];
	char bridge[IF_NAMESIZE];
	int bridge_index;
	unsigned char bridge_mac[6];
	bool has_ipv6;
	struct pool_range public_pool, private_pool;
	char *ns_dir; /* owned */
};

bool pool_has(const struct pool_range *pool, struct in_addr address);

/* Namespaces: namespace.c */

/* Makes both namespaces of a group and pins them, or finds them. Returns a descriptor of the
 * network namespace. */
int namespace_ensure(
	const char *ns_dir, const char *uid, uint32_t uid_base, struct err *err, int *ret_net);
int namespace_remove(const char *ns_dir, const char *uid, struct err *err);

/* A descriptor of the group's network namespace, -ENOENT or -errno. */
int namespace_open(const char *ns_dir, const char *uid);

/* Runs fn on this thread inside the network namespace. fn must not start threads. Its result, or
 * -errno. */
int namespace_run(int net_fd, int (*fn)(void *arg), void *arg);
