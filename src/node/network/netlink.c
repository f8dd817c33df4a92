#include <linux/ethtool.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "node/network/netlink.h"

#define NL_RECEIVE_MAX 32768

int nl_open(struct nl *nl, int protocol)
{
	struct timeval timeout = {.tv_sec = 5};
	struct mnl_socket *socket = mnl_socket_open2(protocol, SOCK_CLOEXEC);
	int r;

	if (!socket)
		return -errno;
	if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
		setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVTIMEO, &timeout,
			sizeof(timeout)) < 0) {
		r = -errno;
		mnl_socket_close(socket);
		return r;
	}
	nl->socket = socket;
	nl->seq = 1;
	return 0;
}

void nl_close(struct nl *nl)
{
	if (nl->socket)
		mnl_socket_close(nl->socket);
	nl->socket = NULL;
}

/* One datagram of the kernel. Bytes or -errno. */
static ssize_t receive(struct nl *nl, void *data, size_t size)
{
	for (;;) {
		struct sockaddr_nl from = {0};
		struct iovec iov = {.iov_base = data, .iov_len = size};
		struct msghdr message = {
			.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = &iov,
			.msg_iovlen = 1,
		};
		ssize_t n = recvmsg(mnl_socket_get_fd(nl->socket), &message, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (message.msg_namelen != sizeof(from) || from.nl_pid != 0)
			continue;
		if (message.msg_flags & MSG_TRUNC)
			return -EMSGSIZE;
		return n;
	}
}

struct nlmsghdr *nl_message(void *buf, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(buf);

	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	return message;
}

static int send_all(struct nl *nl, const void *data, size_t len)
{
	ssize_t n = mnl_socket_sendto(nl->socket, data, len);

	return n < 0 ? -errno : 0;
}

int nl_request(struct nl *nl, struct nlmsghdr *message, mnl_cb_t fn, void *arg)
{
	_cleanup_free_ char *answer = xmalloc(NL_RECEIVE_MAX);
	unsigned portid = mnl_socket_get_portid(nl->socket);
	int r;

	assert(message->nlmsg_len <= NL_MESSAGE_MAX);
	message->nlmsg_seq = nl->seq++;
	/* Both bits: alone they are NLM_F_REPLACE and NLM_F_EXCL. */
	if ((message->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		message->nlmsg_flags |= NLM_F_ACK;
	r = send_all(nl, message, message->nlmsg_len);
	if (r < 0)
		return r;
	for (;;) {
		ssize_t n = receive(nl, answer, NL_RECEIVE_MAX);

		if (n < 0)
			return (int)n;
		r = mnl_cb_run(answer, (size_t)n, message->nlmsg_seq, portid, fn, arg);
		if (r < 0 && errno == ESRCH)
			continue; /* a late answer to an earlier request that timed out */
		if (r < 0)
			return -errno;
		if (r == MNL_CB_STOP)
			return 0;
	}
}

int nl_batch(struct nl *nl, const void *data, size_t len, uint32_t first_seq, unsigned n_acks)
{
	_cleanup_free_ char *answer = xmalloc(NL_RECEIVE_MAX);
	int result = send_all(nl, data, len);
	unsigned got = 0;

	if (result < 0)
		return result;
	while (got < n_acks) {
		ssize_t n = receive(nl, answer, NL_RECEIVE_MAX);
		int left = (int)n;

		if (n < 0)
			return result < 0 ? result : (int)n;
		for (struct nlmsghdr *m = (struct nlmsghdr *)(void *)answer; mnl_nlmsg_ok(m, left);
			m = mnl_nlmsg_next(m, &left)) {
			const struct nlmsgerr *e;

			if (m->nlmsg_type != NLMSG_ERROR ||
				mnl_nlmsg_get_payload_len(m) < sizeof(*e))
				continue;
			e = mnl_nlmsg_get_payload(m);
			/* The batch's own frame (below first_seq) fails as a whole: no acks then.
			 */
			if (m->nlmsg_seq < first_seq || m->nlmsg_seq >= first_seq + n_acks) {
				if (e->error < 0)
					return e->error;
				continue;
			}
			got++;
			if (e->error < 0 && result == 0)
				result = e->error;
		}
	}
	return result;
}

/* Links. */

static int on_link(const struct nlmsghdr *message, struct rt_link *ret)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(message);
	const struct nlattr *attr;

	if (message->nlmsg_type != RTM_NEWLINK ||
		mnl_nlmsg_get_payload_len(message) < sizeof(*info))
		return -EINVAL;
	*ret = (struct rt_link){.index = info->ifi_index, .flags = info->ifi_flags};
	nl_attr_for_each(attr, message, sizeof(*info))
	{
		switch (mnl_attr_get_type(attr)) {
		case IFLA_IFNAME:
			if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0)
				str_copy(ret->name, sizeof(ret->name), mnl_attr_get_str(attr));
			break;
		case IFLA_IFALIAS:
			if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0)
				str_copy(ret->alias, sizeof(ret->alias), mnl_attr_get_str(attr));
			break;
		case IFLA_ADDRESS:
			if (mnl_attr_get_payload_len(attr) == sizeof(ret->mac))
				memcpy(ret->mac, mnl_attr_get_payload(attr), sizeof(ret->mac));
			break;
		case IFLA_MASTER:
			if (mnl_attr_validate(attr, MNL_TYPE_U32) == 0)
				ret->master = (int)mnl_attr_get_u32(attr);
			break;
		default:
			break;
		}
	}
	return 0;
}

static int on_one_link(const struct nlmsghdr *message, void *arg)
{
	on_link(message, arg);
	return MNL_CB_OK;
}

static struct ifinfomsg *put_link(struct nlmsghdr *message, int index)
{
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(message, sizeof(*info));

	info->ifi_family = AF_UNSPEC;
	info->ifi_index = index;
	return info;
}

int rt_link_get(struct nl *nl, const char *name, struct rt_link *ret)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_GETLINK, 0);
	struct rt_link link = {0};
	int r;

	put_link(message, 0);
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	r = nl_request(nl, message, on_one_link, &link);
	if (r < 0)
		return r;
	if (link.index == 0)
		return -EPROTO;
	*ret = link;
	return 0;
}

struct links_arg {
	void (*fn)(const struct rt_link *link, void *arg);
	void *arg;
};

static int on_each_link(const struct nlmsghdr *message, void *arg)
{
	struct links_arg *links = arg;
	struct rt_link link;

	if (on_link(message, &link) == 0)
		links->fn(&link, links->arg);
	return MNL_CB_OK;
}

int rt_links(struct nl *nl, void (*fn)(const struct rt_link *link, void *arg), void *arg)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_GETLINK, NLM_F_DUMP);
	struct links_arg links = {.fn = fn, .arg = arg};

	put_link(message, 0);
	return nl_request(nl, message, on_each_link, &links);
}

int rt_link_up(struct nl *nl, int index)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_NEWLINK, 0);
	struct ifinfomsg *info = put_link(message, index);

	info->ifi_flags = info->ifi_change = IFF_UP;
	return nl_request(nl, message, NULL, NULL);
}

int rt_link_delete(struct nl *nl, const char *name)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_DELLINK, 0);
	int r;

	put_link(message, 0);
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	r = nl_request(nl, message, NULL, NULL);
	return r == -ENODEV ? 0 : r;
}

int rt_bridge_add(struct nl *nl, const char *name, const unsigned char mac[6])
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *info, *data;

	put_link(message, 0);
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	/* An address of its own: a bridge without one takes that of a port and changes with them.
	 */
	mnl_attr_put(message, IFLA_ADDRESS, 6, mac);
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_KIND, "bridge");
	data = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	mnl_attr_put_u8(message, IFLA_BR_MCAST_SNOOPING, 0);
	mnl_attr_put_u32(message, IFLA_BR_STP_STATE, 0);
	mnl_attr_put_u32(message, IFLA_BR_FORWARD_DELAY, 0);
	mnl_attr_nest_end(message, data);
	mnl_attr_nest_end(message, info);
	return nl_request(nl, message, NULL, NULL);
}

int rt_veth_add(
	struct nl *nl, const char *name, int bridge, int peer_ns_fd, const unsigned char mac[6])
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *info, *data, *peer;

	put_link(message, 0);
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	mnl_attr_put_u32(message, IFLA_MASTER, (uint32_t)bridge);
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(message, VETH_INFO_PEER);
	put_link(message, 0);
	mnl_attr_put_strz(message, IFLA_IFNAME, "eth0");
	mnl_attr_put(message, IFLA_ADDRESS, 6, mac);
	mnl_attr_put_u32(message, IFLA_NET_NS_FD, (uint32_t)peer_ns_fd);
	mnl_attr_nest_end(message, peer);
	mnl_attr_nest_end(message, data);
	mnl_attr_nest_end(message, info);
	return nl_request(nl, message, NULL, NULL);
}

int rt_port_up(struct nl *nl, int index, const char *alias, bool has_ipv6)
{
	static const uint16_t off[] = {IFLA_BRPORT_LEARNING, IFLA_BRPORT_UNICAST_FLOOD,
		IFLA_BRPORT_MCAST_FLOOD, IFLA_BRPORT_BCAST_FLOOD};
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_NEWLINK, 0);
	struct ifinfomsg *ifinfo = put_link(message, index);
	struct nlattr *info, *data;

	ifinfo->ifi_flags = ifinfo->ifi_change = IFF_UP;
	mnl_attr_put_str(message, IFLA_IFALIAS, alias);
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_SLAVE_KIND, "bridge");
	data = mnl_attr_nest_start(message, IFLA_INFO_SLAVE_DATA);
	mnl_attr_put_u8(message, IFLA_BRPORT_ISOLATED, 1);
	for (size_t i = 0; i < ARRAY_SIZE(off); i++)
		mnl_attr_put_u8(message, off[i], 0);
	mnl_attr_nest_end(message, data);
	mnl_attr_nest_end(message, info);
	if (has_ipv6) {
		struct nlattr *spec = mnl_attr_nest_start(message, IFLA_AF_SPEC);
		struct nlattr *inet6 = mnl_attr_nest_start(message, AF_INET6);

		mnl_attr_put_u8(message, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
		mnl_attr_nest_end(message, inet6);
		mnl_attr_nest_end(message, spec);
	}
	return nl_request(nl, message, NULL, NULL);
}

/* Asking ethtool for the link runs the link watch of that device first (Linux 3.1). */
int link_settle(int socket, const char *name)
{
	struct ethtool_value value = {.cmd = ETHTOOL_GLINK};
	struct ifreq request = {.ifr_data = (char *)&value};
	int r = str_copy(request.ifr_name, sizeof(request.ifr_name), name);

	if (r < 0)
		return r;
	return ioctl(socket, SIOCETHTOOL, &request) < 0 ? -errno : 0;
}

/* Addresses, neighbours, routes. */

int rt_addr_add(struct nl *nl, int index, struct in_addr address, unsigned prefix)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
	struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(message, sizeof(*info));

	info->ifa_family = AF_INET;
	info->ifa_prefixlen = (unsigned char)prefix;
	info->ifa_index = (unsigned)index;
	info->ifa_scope = RT_SCOPE_UNIVERSE;
	mnl_attr_put_u32(message, IFA_LOCAL, address.s_addr);
	mnl_attr_put_u32(message, IFA_ADDRESS, address.s_addr);
	return nl_request(nl, message, NULL, NULL);
}

static struct ndmsg *put_neigh(struct nlmsghdr *message, unsigned char family, int index)
{
	struct ndmsg *info = mnl_nlmsg_put_extra_header(message, sizeof(*info));

	info->ndm_family = family;
	info->ndm_ifindex = index;
	return info;
}

int rt_fdb_add(struct nl *nl, int port, const unsigned char mac[6])
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
	struct ndmsg *info = put_neigh(message, AF_BRIDGE, port);

	info->ndm_state = NUD_NOARP; /* static: doesn't age */
	info->ndm_flags = NTF_MASTER;
	mnl_attr_put(message, NDA_LLADDR, 6, mac);
	return nl_request(nl, message, NULL, NULL);
}

int rt_neigh_add(struct nl *nl, int index, struct in_addr address, const unsigned char mac[6])
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
	struct ndmsg *info = put_neigh(message, AF_INET, index);

	info->ndm_state = NUD_PERMANENT;
	mnl_attr_put_u32(message, NDA_DST, address.s_addr);
	mnl_attr_put(message, NDA_LLADDR, 6, mac);
	return nl_request(nl, message, NULL, NULL);
}

int rt_neigh_delete(struct nl *nl, int index, struct in_addr address)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_DELNEIGH, 0);
	int r;

	put_neigh(message, AF_INET, index);
	mnl_attr_put_u32(message, NDA_DST, address.s_addr);
	r = nl_request(nl, message, NULL, NULL);
	return r == -ENOENT ? 0 : r;
}

int rt_route_default(struct nl *nl, int index, struct in_addr gateway)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
	struct rtmsg *info = mnl_nlmsg_put_extra_header(message, sizeof(*info));

	info->rtm_family = AF_INET;
	info->rtm_table = RT_TABLE_MAIN;
	info->rtm_protocol = RTPROT_STATIC;
	info->rtm_scope = RT_SCOPE_UNIVERSE;
	info->rtm_type = RTN_UNICAST;
	info->rtm_flags = RTNH_F_ONLINK;
	mnl_attr_put_u32(message, RTA_GATEWAY, gateway.s_addr);
	mnl_attr_put_u32(message, RTA_OIF, (uint32_t)index);
	return nl_request(nl, message, NULL, NULL);
}

struct routes_arg {
	void (*fn)(int index, void *arg);
	void *arg;
};

/* Several next hops come as an array of rtnexthop structs. */
static void on_multipath(const struct nlattr *attr, const struct routes_arg *routes)
{
	const char *p = mnl_attr_get_payload(attr);
	size_t left = mnl_attr_get_payload_len(attr);

	while (left >= sizeof(struct rtnexthop)) {
		struct rtnexthop hop;
		size_t step;

		memcpy(&hop, p, sizeof(hop));
		step = RTNH_ALIGN(hop.rtnh_len);
		if (hop.rtnh_len < sizeof(hop))
			return;
		routes->fn(hop.rtnh_ifindex, routes->arg);
		if (step >= left)
			return;
		p += step;
		left -= step;
	}
}

static int on_route(const struct nlmsghdr *message, void *arg)
{
	const struct rtmsg *info = mnl_nlmsg_get_payload(message);
	const struct nlattr *attr;
	struct routes_arg *routes = arg;

	if (message->nlmsg_type != RTM_NEWROUTE ||
		mnl_nlmsg_get_payload_len(message) < sizeof(*info))
		return MNL_CB_OK;
	if (info->rtm_dst_len != 0 || info->rtm_table != RT_TABLE_MAIN ||
		info->rtm_type != RTN_UNICAST)
		return MNL_CB_OK;
	nl_attr_for_each(attr, message, sizeof(*info))
	{
		if (mnl_attr_get_type(attr) == RTA_OIF &&
			mnl_attr_validate(attr, MNL_TYPE_U32) == 0)
			routes->fn((int)mnl_attr_get_u32(attr), routes->arg);
		else if (mnl_attr_get_type(attr) == RTA_MULTIPATH)
			on_multipath(attr, routes);
	}
	return MNL_CB_OK;
}

int rt_default_devices(struct nl *nl, void (*fn)(int index, void *arg), void *arg)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nl_message(buf, RTM_GETROUTE, NLM_F_DUMP);
	struct rtmsg *info = mnl_nlmsg_put_extra_header(message, sizeof(*info));
	struct routes_arg routes = {.fn = fn, .arg = arg};

	info->rtm_family = AF_INET;
	return nl_request(nl, message, on_route, &routes);
}
