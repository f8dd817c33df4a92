/*
 * Netlink in the few shapes that a sandbox needs: one request, its acknowledgement or dump. A
 * socket belongs to the network namespace of the thread that opened it and to one thread at a time.
 * Only the kernel is listened to: a message from any other sender is dropped (runc CVE-2021-43784
 * is what careless parsing costs).
 */
#pragma once

#include <libmnl/libmnl.h>
#include <netinet/in.h>

#include "base/base.h"

#define NL_MESSAGE_MAX 2048 /* bytes of a request, larger than any that is built here */

struct nl {
	struct mnl_socket *socket;
	uint32_t seq;
};

/* As libmnl's macros of these names without their casts of const. */
#define nl_attr_for_each(attr, message, offset)                                                    \
	for ((attr) = mnl_nlmsg_get_payload_offset((message), (offset));                           \
		mnl_attr_ok((attr), (int)((const char *)mnl_nlmsg_get_payload_tail(message) -      \
					    (const char *)(attr)));                                \
		(attr) = mnl_attr_next(attr))
#define nl_attr_for_each_nested(attr, nest)                                                        \
	for ((attr) = mnl_attr_get_payload(nest); mnl_attr_ok(                                     \
		     (attr), (int)((const char *)mnl_attr_get_payload(nest) +                      \
				     mnl_attr_get_payload_len(nest) - (const char *)(attr)));      \
		(attr) = mnl_attr_next(attr))

#define NL_INIT ((struct nl){0})

/* protocol: NETLINK_ROUTE or NETLINK_NETFILTER. Answers that stay away for 5 s are -EAGAIN. */
int nl_open(struct nl *nl, int protocol);
void nl_close(struct nl *nl);
#define _cleanup_nl_ _cleanup_(nl_close)

/* Starts a request in buf (NL_MESSAGE_MAX bytes); the sequence number is set by nl_request. */
struct nlmsghdr *nl_message(void *buf, uint16_t type, uint16_t flags);

/* Sends and reads to the end of the answer, fn for each message. 0 or -errno of the kernel. fn may
 * be NULL. A dump that changed while it was read is -EINTR. */
int nl_request(struct nl *nl, struct nlmsghdr *message, mnl_cb_t fn, void *arg);

/* Sends bytes that hold several messages, of which n_acks with consecutive numbers from first_seq
 * carry NLM_F_ACK; reads as many answers. The first error that the kernel reports, or 0. */
int nl_batch(struct nl *nl, const void *data, size_t len, uint32_t first_seq, unsigned n_acks);

/* Links. MAC addresses are 6 bytes. */
struct rt_link {
	int index;
	unsigned flags; /* IFF_… */
	int master;	/* index, 0: none */
	unsigned char mac[6];
	char name[16];
	char alias[64];
};

int rt_link_get(struct nl *nl, const char *name, struct rt_link *ret); /* -ENODEV */
int rt_links(struct nl *nl, void (*fn)(const struct rt_link *link, void *arg), void *arg);
int rt_link_up(struct nl *nl, int index);
int rt_link_delete(struct nl *nl, const char *name); /* what isn't there is fine */
int rt_bridge_add(struct nl *nl, const char *name, const unsigned char mac[6]); /* -EEXIST */

/* name becomes a port of the bridge, its peer eth0 with mac is born inside the other namespace. */
int rt_veth_add(
	struct nl *nl, const char *name, int bridge, int peer_ns_fd, const unsigned char mac[6]);

/* A port that hears only what is meant for it and talks to the bridge alone: isolated, no floods,
 * no learning, no IPv6 address of its own; the alias is set and the link brought up. */
int rt_port_up(struct nl *nl, int index, const char *alias, bool has_ipv6);
/* Lets the kernel take note, now, of whether a link has a carrier: by itself it may wait up to a
 * second, and until then a bridge doesn't use the port. socket: any of AF_INET, of the link's
 * namespace. */
int link_settle(int socket, const char *name);

int rt_fdb_add(struct nl *nl, int port, const unsigned char mac[6]);

int rt_addr_add(struct nl *nl, int index, struct in_addr address, unsigned prefix);
int rt_neigh_add(struct nl *nl, int index, struct in_addr address, const unsigned char mac[6]);
int rt_neigh_delete(struct nl *nl, int index, struct in_addr address);
/* 0.0.0.0/0 through a gateway that no other route leads to (onlink). */
int rt_route_default(struct nl *nl, int index, struct in_addr gateway);
/* fn for the device of each IPv4 default route of the main table. */
int rt_default_devices(struct nl *nl, void (*fn)(int index, void *arg), void *arg);
