/*
 * network: a sandbox's network namespace, its veth on an isolated bridge port, its address, and the
 * firewall.
 *
 * A sandbox has a /32 and one route: everything goes through the gateway, so the host routes and
 * filters all of it, what goes from one group to another included. On the link below nothing is
 * learnt or flooded: ports are isolated, and MAC addresses are written by hand where they are
 * needed.
 *
 * One Berth on a machine has one bridge, one nftables table and two address pools, all named after
 * its instance id, so that several live side by side. The bridge owns the first address of each
 * pool (the gateway). Base rules are loaded once; a group is only elements of sets: its pinned
 * source address, and its open ports. Default is drop: from the world to a group only declared
 * ports; from a group to the host only DNS and ping of the gateway; from a group out everything but
 * the metadata services of clouds; between groups and from the host only declared ports of public
 * addresses. What leaves the machine is masqueraded; with public_routed, connections of public
 * addresses are not. IPv6 is off.
 *
 * What is changed on the machine besides: where iptables' FORWARD and INPUT chains exist, the
 * bridge is let through there (rules with the comment berth_<instance>); IPv4 forwarding of the
 * devices that default routes use, if it was off. Those are noted in the table's set "forwarding"
 * and put back by network_purge unless another instance relies on them.
 */
#pragma once

#include "base/base.h"

struct network;

struct network_config {
	const char *instance;	  /* [0-9a-f]{6} */
	const char *public_pool;  /* "100.64.0.0/17" */
	const char *private_pool; /* "100.64.128.0/17" */
	const char
		*ns_dir; /* where namespaces are pinned by bind mounts: <ns_dir>/<uid>.net, .user */
	bool public_routed; /* upstream has a route to the public pool: don't translate it */
};

struct network_port {
	bool udp;
	uint16_t port;
};

struct network_sandbox {
	const char *uid;     /* the group's uuid */
	const char *address; /* from one of the pools */
	bool public_address; /* its ports are reachable; of a private one none is */
	const struct network_port *ports;
	size_t n_ports;
	uint32_t uid_base; /* the group's user namespace maps 0 → uid_base, 65536 ids */
};

/* Makes or repairs bridge, table and sysctls of this instance. Idempotent. */
int network_open(const struct network_config *config, struct err *err, struct network **ret);
void network_close(struct network *network); /* leaves everything in place */

/* The user namespace (pinned at <ns_dir>/<uid>.user), the network namespace owned by it
 * (<uid>.net), lo and eth0 up, the address, the default route,
 * net.ipv4.ip_unprivileged_port_start=0, ping_group_range. Idempotent: completes what is half made.
 * Thread-safe. */
int network_sandbox_up(
	struct network *network, const struct network_sandbox *sandbox, struct err *err);
/* Opens or closes the sandbox for traffic from outside (set elements only). Ports that were open
 * and are no more among sandbox->ports are closed in the same step. */
int network_sandbox_open(
	struct network *network, const struct network_sandbox *sandbox, bool open, struct err *err);
/* Removes elements, veth, pins, and what the connection tracker remembers. Idempotent: what isn't
 * there is fine. address may be NULL when it isn't known (a leftover of network_sandbox_list). */
int network_sandbox_down(
	struct network *network, const char *uid, const char *address, struct err *err);

/* A TCP socket (IPv4, non-blocking) of the sandbox's network: what connects with it comes from the
 * sandbox itself, and the firewall sees nothing of it. A descriptor, -ENOENT without such a
 * sandbox, -errno. Doesn't block. Thread-safe. */
int network_sandbox_socket(struct network *network, const char *uid);

/* uids of all sandboxes of this instance that exist in part: pins, veths. NULL-terminated array of
 * strings, owned. */
int network_sandbox_list(struct network *network, struct err *err, char ***ret_uids);

const char *network_gateway(const struct network *network, bool public_address); /* "100.64.0.1" */

/* Removes what is left of veths, bridge and tables, and puts sysctls back: `berth down --purge`. */
int network_purge(const char *instance, struct err *err);
