#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "node/network/conntrack.h"

/* The kernel's own numbers of CTA_FILTER_ORIG_FLAGS (net/netfilter/nf_conntrack_netlink.c,
 * Linux 5.8); not in its public headers. */
#define FILTER_IP_SRC (1 << 0)
#define FILTER_IP_DST (1 << 1)
#define CTA_FILTER_ATTR 25
#define CTA_FILTER_ORIG_FLAGS_ATTR 1
#define CTA_FILTER_REPLY_FLAGS_ATTR 2

#define TUPLE_MAX 128

struct tuples {
	unsigned char (*data)[TUPLE_MAX]; /* each an attribute CTA_TUPLE_ORIG with its header */
	size_t n, cap;
	bool source;
	struct in_addr address;
};

static struct nlmsghdr *ct_message(void *buf, unsigned type, uint16_t flags)
{
	struct nlmsghdr *message =
		nl_message(buf, (uint16_t)((NFNL_SUBSYS_CTNETLINK << 8) | type), flags);
	struct nfgenmsg *info = mnl_nlmsg_put_extra_header(message, sizeof(*info));

	info->nfgen_family = AF_INET;
	info->version = NFNETLINK_V0;
	return message;
}

/* A kernel before 5.8 ignores the filter, so each tuple is looked at again. */
static bool tuple_matches(const struct nlattr *tuple, const struct tuples *tuples)
{
	int wanted = tuples->source ? CTA_IP_V4_SRC : CTA_IP_V4_DST;
	const struct nlattr *part, *ip;

	nl_attr_for_each_nested(part, tuple)
	{
		if (mnl_attr_get_type(part) != CTA_TUPLE_IP)
			continue;
		nl_attr_for_each_nested(ip, part)
		{
			if (mnl_attr_get_type(ip) == wanted &&
				mnl_attr_validate(ip, MNL_TYPE_U32) == 0 &&
				mnl_attr_get_u32(ip) == tuples->address.s_addr)
				return true;
		}
	}
	return false;
}

static int on_connection(const struct nlmsghdr *message, void *arg)
{
	struct tuples *tuples = arg;
	const struct nlattr *attr;

	if (mnl_nlmsg_get_payload_len(message) < sizeof(struct nfgenmsg))
		return MNL_CB_OK;
	nl_attr_for_each(attr, message, sizeof(struct nfgenmsg))
	{
		size_t len = mnl_attr_get_len(attr);

		if (mnl_attr_get_type(attr) != CTA_TUPLE_ORIG || len > TUPLE_MAX ||
			!tuple_matches(attr, tuples))
			continue;
		if (tuples->n == tuples->cap) {
			tuples->cap = tuples->cap ? tuples->cap * 2 : 32;
			tuples->data = xrealloc(tuples->data, tuples->cap * TUPLE_MAX);
		}
		memcpy(tuples->data[tuples->n++], attr, len);
	}
	return MNL_CB_OK;
}

static int collect(struct nl *nl, struct tuples *tuples)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = ct_message(buf, IPCTNL_MSG_CT_GET, NLM_F_DUMP);
	struct nlattr *tuple, *ip, *filter;

	tuple = mnl_attr_nest_start(message, CTA_TUPLE_ORIG);
	ip = mnl_attr_nest_start(message, CTA_TUPLE_IP);
	mnl_attr_put_u32(
		message, tuples->source ? CTA_IP_V4_SRC : CTA_IP_V4_DST, tuples->address.s_addr);
	mnl_attr_nest_end(message, ip);
	mnl_attr_nest_end(message, tuple);
	filter = mnl_attr_nest_start(message, CTA_FILTER_ATTR);
	mnl_attr_put_u32(message, CTA_FILTER_ORIG_FLAGS_ATTR,
		tuples->source ? FILTER_IP_SRC : FILTER_IP_DST);
	mnl_attr_put_u32(message, CTA_FILTER_REPLY_FLAGS_ATTR, 0);
	mnl_attr_nest_end(message, filter);
	return nl_request(nl, message, on_connection, tuples);
}

static int delete_one(struct nl *nl, const unsigned char *tuple)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = ct_message(buf, IPCTNL_MSG_CT_DELETE, 0);
	struct nlattr attr;
	int r;

	memcpy(&attr, tuple, sizeof(attr));
	mnl_attr_put(message, CTA_TUPLE_ORIG | NLA_F_NESTED, attr.nla_len - MNL_ATTR_HDRLEN,
		tuple + MNL_ATTR_HDRLEN);
	r = nl_request(nl, message, NULL, NULL);
	return r == -ENOENT ? 0 : r;
}

static int forget(struct nl *nl, struct in_addr address, bool source)
{
	struct tuples tuples = {.address = address, .source = source};
	int r = collect(nl, &tuples);

	for (size_t i = 0; r == 0 && i < tuples.n; i++)
		r = delete_one(nl, tuples.data[i]);
	free(tuples.data);
	return r;
}

int conntrack_forget(struct nl *nl, struct in_addr address)
{
	int r = forget(nl, address, true);

	if (r == 0)
		r = forget(nl, address, false);
	return r == -EINVAL || r == -EOPNOTSUPP ? 0 : r;
}
