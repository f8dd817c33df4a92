#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <sys/mman.h>

#include "base/file.h"
#include "base/proc.h"
#include "node/network/firewall.h"

#define NFT_PROGRAM "/usr/sbin/nft"
#define NFT_TIMEOUT_MS 20000
#define CHANGE_MAX ((size_t)96 << 10) /* under the kernel's default for socket buffers */
#define TABLE_PREFIX "berth_"

/* The rules. */

/* What comes from a port of the bridge must carry the sandbox's own addresses; the rest (IPv6, VLAN
 * tags, other neighbours' names) ends here, before the bridge has learnt anything from it. */
static void print_bridge_table(struct buf *buf, const struct firewall_config *c)
{
	const char *i = c->instance;

	buf_printf(buf,
		"add table bridge berth_%s\n"
		"flush table bridge berth_%s\n"
		"add set bridge berth_%s pinned { type ifname . ether_addr . ipv4_addr; }\n"
		"add chain bridge berth_%s ingress"
		" { type filter hook prerouting priority -300; policy accept; }\n",
		i, i, i, i);
	buf_printf(buf, "add rule bridge berth_%s ingress iifname != \"v%s*\" accept\n", i, i);
	buf_printf(buf,
		"add rule bridge berth_%s ingress ether type arp"
		" iifname . ether saddr . arp saddr ip @pinned"
		" iifname . arp saddr ether . arp saddr ip @pinned accept\n",
		i);
	buf_printf(buf,
		"add rule bridge berth_%s ingress ether type ip"
		" iifname . ether saddr . ip saddr @pinned accept\n",
		i);
	buf_printf(buf, "add rule bridge berth_%s ingress counter drop\n", i);
}

static void print_sets_and_chains(struct buf *buf, const struct firewall_config *c)
{
	static const char *const chains[][2] = {
		{"raw", "filter hook prerouting priority -300"},
		{"input", "filter hook input priority 0"},
		{"forward", "filter hook forward priority 0"},
		{"output", "filter hook output priority 0"},
		{"postrouting", "nat hook postrouting priority 100"},
	};
	const char *i = c->instance;

	buf_printf(buf,
		"add table ip berth_%s\n"
		"flush table ip berth_%s\n"
		"add set ip berth_%s open { type ipv4_addr . inet_proto . inet_service; }\n"
		"add set ip berth_%s forwarding { type ifname; }\n",
		i, i, i, i);
	for (size_t n = 0; n < ARRAY_SIZE(chains); n++)
		buf_printf(buf, "add chain ip berth_%s %s { type %s; policy accept; }\n", i,
			chains[n][0], chains[n][1]);
}

struct rules {
	struct buf *buf;
	const char *instance;
};

static void rule(const struct rules *rules, const char *chain, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void rule(const struct rules *rules, const char *chain, const char *fmt, ...)
{
	va_list ap;

	buf_printf(rules->buf, "add rule ip berth_%s %s ", rules->instance, chain);
	va_start(ap, fmt);
	buf_vprintf(rules->buf, fmt, ap);
	va_end(ap);
	buf_addc(rules->buf, '\n');
}

/* From a sandbox to the host: the DNS forwarder, ping of the gateway, nothing else. From elsewhere:
 * our pools as source are a forgery, and the forwarder is no open resolver. */
static void print_host_rules(const struct rules *rules, const struct firewall_config *c)
{
	const char *br = c->bridge;
	char g1[INET_ADDRSTRLEN], g2[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &c->public_gateway, g1, sizeof(g1));
	inet_ntop(AF_INET, &c->private_gateway, g2, sizeof(g2));

	rule(rules, "raw", "iifname != { \"%s\", \"lo\" } ip saddr { %s, %s } drop", br,
		c->public_pool, c->private_pool);
	rule(rules, "raw", "iifname != { \"%s\", \"lo\" } ip daddr { %s, %s } drop", br, g1, g2);

	rule(rules, "input", "iifname != \"%s\" accept", br);
	rule(rules, "input", "ct state established,related accept");
	rule(rules, "input", "ip daddr { %s, %s } udp dport 53 accept", g1, g2);
	rule(rules, "input", "ip daddr { %s, %s } tcp dport 53 accept", g1, g2);
	rule(rules, "input", "ip daddr { %s, %s } icmp type echo-request accept", g1, g2);
	rule(rules, "input", "counter drop");

	/* The host too reaches only what is declared. A redirect would tell a sandbox to look for
	 * its neighbour on a link where they can't see each other. */
	rule(rules, "output", "oifname != \"%s\" accept", br);
	rule(rules, "output", "icmp type redirect drop");
	rule(rules, "output", "ct state established,related accept");
	rule(rules, "output", "ip daddr . meta l4proto . th dport @open accept");
	rule(rules, "output", "counter drop");
}

static void print_transit_rules(const struct rules *rules, const struct firewall_config *c)
{
	const char *br = c->bridge;

	/* A machine that became a router for its groups' sake must not become one for others: a
	 * packet may not turn round between devices on which forwarding was off before. */
	rule(rules, "forward", "iifname @forwarding oifname @forwarding drop");
	rule(rules, "forward", "iifname != \"%s\" oifname != \"%s\" accept", br, br);
	rule(rules, "forward", "ct state established,related accept");
	rule(rules, "forward", "ct state invalid drop");
	/* The metadata and host services of clouds that this machine may be in, and what is no
	 * host. */
	rule(rules, "forward",
		"iifname \"%s\" ip daddr { 0.0.0.0/8, 127.0.0.0/8, 168.63.129.16, 169.254.0.0/16,"
		" 224.0.0.0/3 } counter drop",
		br);
	rule(rules, "forward", "oifname \"%s\" ip daddr . meta l4proto . th dport @open accept",
		br);
	rule(rules, "forward", "oifname \"%s\" counter drop", br);
	rule(rules, "forward", "ip saddr != { %s, %s } counter drop", c->public_pool,
		c->private_pool);

	if (c->public_routed)
		rule(rules, "postrouting", "oifname != \"%s\" ip saddr %s masquerade", br,
			c->private_pool);
	else
		rule(rules, "postrouting", "oifname != \"%s\" ip saddr { %s, %s } masquerade", br,
			c->public_pool, c->private_pool);
}

/* A memory file as standard input: no pipe that could fill while nobody reads. */
static int memory_file(const char *name, const void *data, size_t len)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, data, len);
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	if (r < 0) {
		fd_close(fd);
		return r;
	}
	return fd;
}

static int run_nft(const struct buf *rules, struct err *err)
{
	static const char *const argv[] = {NFT_PROGRAM, "-f", "-", NULL};
	_cleanup_fd_ int in = memory_file("nft-rules", rules->data, rules->len);
	_cleanup_fd_ int out = memory_file("nft-output", "", 0);
	struct proc_spec spec = PROC_SPEC_INIT;
	char said[512] = "";
	struct proc proc;
	int r;

	if (in < 0 || out < 0)
		return err_errno(err, in < 0 ? in : out, "memory file for nft");
	spec.argv = argv;
	spec.stdin_fd = in;
	spec.stdout_fd = spec.stderr_fd = out;
	r = proc_spawn(&spec, err, &proc);
	if (r < 0)
		return r;
	r = proc_wait(&proc, NFT_TIMEOUT_MS);
	if (r == -ETIMEDOUT)
		proc_kill(&proc);
	if (r == 0)
		return 0;
	if (pread(out, said, sizeof(said) - 1, 0) < 0)
		said[0] = '\0';
	return err_set(err, r < 0 ? r : -EIO, "InternalError",
		"nft could not load the rules (%d): %s", r, said);
}

int firewall_load(const struct firewall_config *config, struct err *err)
{
	_cleanup_buf_ struct buf buf = BUF_INIT;
	const struct rules rules = {.buf = &buf, .instance = config->instance};

	print_bridge_table(&buf, config);
	print_sets_and_chains(&buf, config);
	print_host_rules(&rules, config);
	print_transit_rules(&rules, config);
	assert(!buf.full);
	return run_nft(&buf, err);
}

/* Keys. */

static void key_add(struct firewall_key *key, const void *data, size_t len)
{
	size_t padded = (len + 3) & ~(size_t)3;

	assert(key->len + padded <= sizeof(key->data));
	memcpy(key->data + key->len, data, len);
	key->len += padded;
}

static void key_add_name(struct firewall_key *key, const char *name)
{
	char padded[IFNAMSIZ] = "";

	str_copy(padded, sizeof(padded), name);
	key_add(key, padded, sizeof(padded));
}

void firewall_key_pinned(struct firewall_key *key, const char *port_name,
	const unsigned char mac[6], struct in_addr address)
{
	*key = (struct firewall_key){0};
	key_add_name(key, port_name);
	key_add(key, mac, 6);
	key_add(key, &address, sizeof(address));
}

void firewall_key_open(struct firewall_key *key, struct in_addr address, bool udp, uint16_t port)
{
	unsigned char protocol = udp ? IPPROTO_UDP : IPPROTO_TCP;
	uint16_t port_be = htons(port);

	*key = (struct firewall_key){0};
	key_add(key, &address, sizeof(address));
	key_add(key, &protocol, sizeof(protocol));
	key_add(key, &port_be, sizeof(port_be));
}

void firewall_key_forwarding(struct firewall_key *key, const char *device)
{
	*key = (struct firewall_key){0};
	key_add_name(key, device);
}

/* The kernel's names are shorter than their field, so there is a NUL. */
const char *firewall_key_name(const struct firewall_key *key)
{
	assert(key->len >= IFNAMSIZ && key->data[IFNAMSIZ - 1] == '\0');
	return (const char *)key->data;
}

struct in_addr firewall_key_address(enum firewall_set set, const struct firewall_key *key)
{
	struct in_addr address;

	assert(set != FIREWALL_FORWARDING);
	memcpy(&address, key->data + (set == FIREWALL_PINNED ? 24 : 0), sizeof(address));
	return address;
}

/* Sets over netlink. */

static const struct {
	const char *name;
	uint8_t family;
	size_t key_len;
} sets[] = {
	[FIREWALL_PINNED] = {"pinned", NFPROTO_BRIDGE, 28},
	[FIREWALL_OPEN] = {"open", NFPROTO_IPV4, 12},
	[FIREWALL_FORWARDING] = {"forwarding", NFPROTO_IPV4, IFNAMSIZ},
};

static void put_nfgen(struct nlmsghdr *message, uint8_t family, uint16_t resource)
{
	struct nfgenmsg *info = mnl_nlmsg_put_extra_header(message, sizeof(*info));

	info->nfgen_family = family;
	info->version = NFNETLINK_V0;
	info->res_id = htons(resource);
}

static struct nlmsghdr *nft_message(void *buf, unsigned type, uint16_t flags, uint8_t family)
{
	struct nlmsghdr *message =
		nl_message(buf, (uint16_t)((NFNL_SUBSYS_NFTABLES << 8) | type), flags);

	put_nfgen(message, family, 0);
	return message;
}

static void put_table(struct nlmsghdr *message, uint16_t attr, const char *instance)
{
	char name[32];

	snprintf(name, sizeof(name), TABLE_PREFIX "%s", instance);
	mnl_attr_put_strz(message, attr, name);
}

void firewall_change_init(struct firewall_change *change, const char *instance)
{
	struct nlmsghdr *message;

	*change = (struct firewall_change){.instance = instance, .data = xcalloc(1, CHANGE_MAX)};
	message = nl_message(change->data, NFNL_MSG_BATCH_BEGIN, 0);
	put_nfgen(message, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	change->len = message->nlmsg_len;
}

/* Room for one more message, and for the batch's end. */
static void *change_room(struct firewall_change *change)
{
	if (change->len + 2 * 512 > CHANGE_MAX)
		change->full = true;
	return change->full ? NULL : change->data + change->len;
}

static void change_added(struct firewall_change *change, struct nlmsghdr *message)
{
	change->n++;
	change->len += message->nlmsg_len;
}

void firewall_change_add(struct firewall_change *change, enum firewall_set set, bool add,
	const struct firewall_key *key)
{
	void *room = change_room(change);
	struct nlmsghdr *message;
	struct nlattr *list, *element, *key_attr;

	if (!room)
		return;
	assert(key->len == sets[set].key_len);
	message = nft_message(room, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
		NLM_F_ACK | (add ? NLM_F_CREATE : 0), sets[set].family);
	put_table(message, NFTA_SET_ELEM_LIST_TABLE, change->instance);
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, sets[set].name);
	list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
	element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
	key_attr = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);
	mnl_attr_put(message, NFTA_DATA_VALUE, key->len, key->data);
	mnl_attr_nest_end(message, key_attr);
	mnl_attr_nest_end(message, element);
	mnl_attr_nest_end(message, list);
	change_added(change, message);
}

int firewall_change_commit(struct firewall_change *change, struct nl *nl)
{
	uint32_t first_seq = nl->seq + 1; /* after the batch's begin */
	struct nlmsghdr *message;
	int left;

	if (change->full)
		return -E2BIG;
	if (change->n == 0)
		return 0;
	message = nl_message(change->data + change->len, NFNL_MSG_BATCH_END, 0);
	put_nfgen(message, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	change->len += message->nlmsg_len;
	left = (int)change->len;
	for (message = (struct nlmsghdr *)(void *)change->data; mnl_nlmsg_ok(message, left);
		message = mnl_nlmsg_next(message, &left))
		message->nlmsg_seq = nl->seq++;
	return nl_batch(nl, change->data, change->len, first_seq, change->n);
}

void firewall_change_done(struct firewall_change *change)
{
	free(change->data);
	change->data = NULL;
}

static int delete_table(struct nl *nl, const char *instance, uint8_t family)
{
	_cleanup_(firewall_change_done) struct firewall_change change = {0};
	struct nlmsghdr *message;
	int r;

	firewall_change_init(&change, instance);
	message = nft_message(change_room(&change), NFT_MSG_DELTABLE, NLM_F_ACK, family);
	put_table(message, NFTA_TABLE_NAME, instance);
	change_added(&change, message);
	r = firewall_change_commit(&change, nl);
	return r == -ENOENT ? 0 : r;
}

int firewall_delete(struct nl *nl, const char *instance)
{
	int r = delete_table(nl, instance, NFPROTO_BRIDGE);
	int r2 = delete_table(nl, instance, NFPROTO_IPV4);

	return r < 0 ? r : r2;
}

/* Reading. */

struct elements {
	size_t key_len;
	struct firewall_key *keys;
	size_t n, cap;
};

static void on_element(const struct nlattr *element, struct elements *ret)
{
	const struct nlattr *attr, *value;

	nl_attr_for_each_nested(attr, element)
	{
		if (mnl_attr_get_type(attr) != NFTA_SET_ELEM_KEY)
			continue;
		nl_attr_for_each_nested(value, attr)
		{
			if (mnl_attr_get_type(value) != NFTA_DATA_VALUE ||
				mnl_attr_get_payload_len(value) != ret->key_len)
				continue;
			if (ret->n == ret->cap) {
				ret->cap = ret->cap ? ret->cap * 2 : 64;
				ret->keys =
					xrealloc(ret->keys, ret->cap * sizeof(struct firewall_key));
			}
			ret->keys[ret->n] = (struct firewall_key){.len = ret->key_len};
			memcpy(ret->keys[ret->n].data, mnl_attr_get_payload(value), ret->key_len);
			ret->n++;
		}
	}
}

static int on_elements(const struct nlmsghdr *message, void *arg)
{
	const struct nlattr *attr, *element;

	if (message->nlmsg_type != ((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWSETELEM))
		return MNL_CB_OK;
	nl_attr_for_each(attr, message, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attr) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		nl_attr_for_each_nested(element, attr)
		{
			on_element(element, arg);
		}
	}
	return MNL_CB_OK;
}

int firewall_elements(struct nl *nl, const char *instance, enum firewall_set set,
	struct firewall_key **ret_keys, size_t *ret_n)
{
	int r = -EINTR;

	/* Another group's change makes a dump that takes several reads start over. */
	for (int i = 0; i < 50 && r == -EINTR; i++) {
		struct elements elements = {.key_len = sets[set].key_len};
		char buf[NL_MESSAGE_MAX];
		struct nlmsghdr *message =
			nft_message(buf, NFT_MSG_GETSETELEM, NLM_F_DUMP, sets[set].family);

		put_table(message, NFTA_SET_ELEM_LIST_TABLE, instance);
		mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, sets[set].name);
		r = nl_request(nl, message, on_elements, &elements);
		if (r < 0) {
			free(elements.keys);
			continue;
		}
		*ret_keys = elements.keys;
		*ret_n = elements.n;
	}
	return r;
}

struct tables_arg {
	void (*fn)(const char *instance, void *arg);
	void *arg;
};

static int on_table(const struct nlmsghdr *message, void *arg)
{
	const struct tables_arg *tables = arg;
	const struct nlattr *attr;

	if (message->nlmsg_type != ((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWTABLE))
		return MNL_CB_OK;
	nl_attr_for_each(attr, message, sizeof(struct nfgenmsg))
	{
		const char *name = mnl_attr_get_payload(attr);

		if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME &&
			mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0 &&
			str_starts(name, TABLE_PREFIX))
			tables->fn(name + strlen(TABLE_PREFIX), tables->arg);
	}
	return MNL_CB_OK;
}

int firewall_instances(struct nl *nl, void (*fn)(const char *instance, void *arg), void *arg)
{
	char buf[NL_MESSAGE_MAX];
	struct nlmsghdr *message = nft_message(buf, NFT_MSG_GETTABLE, NLM_F_DUMP, NFPROTO_IPV4);
	struct tables_arg tables = {.fn = fn, .arg = arg};

	return nl_request(nl, message, on_table, &tables);
}
