/*
 * The firewall of one instance: two nftables tables named berth_<instance>, of the families bridge
 * and ip.
 *
 * The rules are loaded once, by the nft program, in one transaction that keeps the sets' elements:
 * a node that comes back finds its groups as open as it left them. A group is elements of two sets,
 * changed over netlink: bridge berth_<instance> pinned: port name . MAC . address — what a sandbox
 * may send from, in IP and in ARP ip     berth_<instance> open:   address . protocol . port — what
 * may be reached from outside the sandbox A third set, forwarding, holds the devices on which this
 * instance turned IPv4 forwarding on: the note of what to turn off again.
 */
#pragma once

#include <netinet/in.h>

#include "base/base.h"
#include "node/network/netlink.h"

struct firewall_config {
	const char *instance;
	const char *bridge;
	const char *public_pool, *private_pool;
	struct in_addr public_gateway, private_gateway;
	bool public_routed; /* don't masquerade public addresses either */
};

int firewall_load(const struct firewall_config *config, struct err *err);
/* Both tables; what isn't there is fine. */
int firewall_delete(struct nl *nl, const char *instance);

/* The key of an element, as the kernel has it: fields padded to four bytes. */
#define FIREWALL_KEY_MAX 28

struct firewall_key {
	unsigned char data[FIREWALL_KEY_MAX];
	size_t len;
};

enum firewall_set { FIREWALL_PINNED, FIREWALL_OPEN, FIREWALL_FORWARDING };

void firewall_key_pinned(struct firewall_key *key, const char *port_name,
	const unsigned char mac[6], struct in_addr address);
void firewall_key_open(struct firewall_key *key, struct in_addr address, bool udp, uint16_t port);
void firewall_key_forwarding(struct firewall_key *key, const char *device);

/* What the fields of a key say; for keys that firewall_elements returned. */
const char *firewall_key_name(const struct firewall_key *key); /* pinned, forwarding */
struct in_addr firewall_key_address(enum firewall_set set, const struct firewall_key *key);

/* All elements of a set. -ENOENT when there is no such table. Owned. */
int firewall_elements(struct nl *nl, const char *instance, enum firewall_set set,
	struct firewall_key **ret_keys, size_t *ret_n);

/* One change of many elements: all or none. */
struct firewall_change {
	const char *instance;
	char *data; /* owned */
	size_t len;
	unsigned n;
	bool full;
};

void firewall_change_init(struct firewall_change *change, const char *instance);
/* Adding what is there is fine; removing what isn't fails the change with -ENOENT. */
void firewall_change_add(struct firewall_change *change, enum firewall_set set, bool add,
	const struct firewall_key *key);
int firewall_change_commit(struct firewall_change *change, struct nl *nl);
void firewall_change_done(struct firewall_change *change);

/* fn for the instance of each berth_<instance> table of family ip on this machine. */
int firewall_instances(struct nl *nl, void (*fn)(const char *instance, void *arg), void *arg);
