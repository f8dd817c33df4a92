#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/time.h"
#include "node/network/fixture.h"
#include "node/network/porter_start.h"

static void declared_ports_are_reachable_and_others_not(void **state)
{
	_cleanup_fd_ int a = ns_of(UID_A), b = ns_of(UID_B), p = ns_of(UID_P);
	_held_ int a80 = listen_in(a, 80), a81 = listen_in(a, 81), p80 = listen_in(p, 80);
	_cleanup_fd_ int udp = socket_in(a, SOCK_DGRAM, NULL, 5000);
	_cleanup_fd_ int udp2 = socket_in(a, SOCK_DGRAM, NULL, 5001);
	const int from[] = {-1, b, p, world};

	for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
		assert_true(connects(from[i], ADDRESS_A, 80));
		assert_false(connects(from[i], ADDRESS_A, 81));
		assert_true(from[i] == p || !connects(from[i], ADDRESS_P, 80));
		assert_true(delivers(from[i], NULL, ADDRESS_A, 5000, udp, NULL));
		assert_false(delivers(from[i], NULL, ADDRESS_A, 5001, udp2, NULL));
		assert_false(delivers(from[i], NULL, ADDRESS_A, 80, udp2, NULL));
	}
	/* Its own ports, also those that it didn't declare, by its own address. */
	assert_true(connects(a, ADDRESS_A, 81));
	assert_true(connects(a, "127.0.0.1", 81));
}

static void a_neighbour_sees_the_address_itself(void **state)
{
	_cleanup_fd_ int a = ns_of(UID_A), b = ns_of(UID_B);
	_cleanup_fd_ int udp = socket_in(a, SOCK_DGRAM, NULL, 5000);
	struct sockaddr_in from, expected = ipv4(ADDRESS_B, 0);

	assert_true(delivers(b, NULL, ADDRESS_A, 5000, udp, &from));
	assert_int_equal(from.sin_addr.s_addr, expected.sin_addr.s_addr);
}

static void closing_takes_away_what_was_open(void **state)
{
	_cleanup_fd_ int a = ns_of(UID_A), b = ns_of(UID_B);
	_held_ int a80 = listen_in(a, 80), a90 = listen_in(a, 90);
	const struct network_port other[] = {{.port = 90}};
	struct network_sandbox changed = sandbox_a;
	struct err err = {0};

	ok(network_sandbox_open(network, &sandbox_a, false, &err), &err);
	assert_false(connects(-1, ADDRESS_A, 80));
	assert_false(connects(b, ADDRESS_A, 80));
	changed.ports = other;
	changed.n_ports = 1;
	ok(network_sandbox_open(network, &sandbox_a, true, &err), &err);
	ok(network_sandbox_open(network, &changed, true, &err), &err);
	assert_false(connects(-1, ADDRESS_A, 80));
	assert_true(connects(-1, ADDRESS_A, 90));
	assert_true(connects(b, ADDRESS_A, 90));
	ok(network_sandbox_open(network, &sandbox_a, true, &err), &err);
	assert_true(connects(b, ADDRESS_A, 80));
}

/* What asks whether a group is well has to reach it while nobody else can. */
static void a_socket_of_the_sandbox_reaches_it_closed(void **state)
{
	_cleanup_fd_ int fd = network_sandbox_socket(network, sandbox_a.uid);
	_held_ int server = listen_in(ns_of(sandbox_a.uid), 80);
	struct sockaddr_in to = ipv4(ADDRESS_A, 80);
	struct err err = {0};

	ok(network_sandbox_open(network, &sandbox_a, false, &err), &err);
	assert_false(connects(world, ADDRESS_A, 80));
	assert_true(fd >= 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		assert_int_equal(errno, EINPROGRESS);
	assert_true(wait_for(server, POLLIN, 1000));
	assert_int_equal(network_sandbox_socket(network, "../../etc/passwd"), -EINVAL);
	assert_int_equal(
		network_sandbox_socket(network, "00000000-0000-4000-8000-00000000dead"), -ENOENT);
}

static void outgoing_connections_are_masqueraded(void **state)
{
	_cleanup_fd_ int a = ns_of(UID_A), p = ns_of(UID_P);
	_held_ int server = listen_in(world, 8080);
	_cleanup_fd_ int udp = socket_in(world, SOCK_DGRAM, NULL, 8080);
	struct sockaddr_in from, host = ipv4("192.0.2.1", 0);

	assert_true(connects(a, WORLD, 8080));
	assert_true(connects(p, WORLD, 8080));
	assert_true(delivers(p, NULL, WORLD, 8080, udp, &from));
	assert_int_equal(from.sin_addr.s_addr, host.sin_addr.s_addr);
}

static void the_host_offers_dns_and_nothing_else(void **state)
{
	_cleanup_fd_ int a = ns_of(UID_A), p = ns_of(UID_P);
	_held_ int dns = listen_in(-1, 53), api = listen_in(-1, 8443);
	_cleanup_fd_ int udp = socket_in(-1, SOCK_DGRAM, NULL, 53);
	_cleanup_fd_ int other = socket_in(-1, SOCK_DGRAM, NULL, 5353);

	assert_true(connects(a, network_gateway(network, true), 53));
	assert_true(connects(p, network_gateway(network, false), 53));
	assert_true(delivers(a, NULL, network_gateway(network, true), 53, udp, NULL));
	assert_false(connects(a, network_gateway(network, true), 8443));
	assert_false(connects(a, "192.0.2.1", 8443));
	assert_false(connects(a, "192.0.2.1", 53));
	assert_false(delivers(a, NULL, network_gateway(network, true), 5353, other, NULL));
	/* The forwarder is for sandboxes and the host alone. */
	assert_false(connects(world, network_gateway(network, true), 53));
	assert_true(connects(-1, network_gateway(network, true), 53));
	assert_true(connects(world, "192.0.2.1", 8443));
}

/* A question for name from a sandbox; the answering server gives it back as its answer. */
static bool resolves(int ns, const char *gateway, const char *name, size_t name_len, int server)
{
	_cleanup_fd_ int fd = socket_in(ns, SOCK_DGRAM, NULL, 0);
	struct sockaddr_in to = ipv4(gateway, 53), from;
	socklen_t len = sizeof(from);
	unsigned char query[128] = {0x12, 0x34, 1, 0, 0, 1}, data[512];
	size_t n = 12 + name_len + 1 + 4;

	memcpy(query + 12, name, name_len);
	query[n - 3] = query[n - 1] = 1;
	assert_int_equal(sendto(fd, query, n, 0, (struct sockaddr *)&to, sizeof(to)), n);
	if (!wait_for(server, POLLIN, 1000))
		return false;
	assert_int_equal(
		recvfrom(server, data, sizeof(data), 0, (struct sockaddr *)&from, &len), n);
	data[2] |= 0x80;
	sendto(server, data, n, 0, (struct sockaddr *)&from, len);
	return wait_for(fd, POLLIN, 1000) && recv(fd, data, sizeof(data), 0) == (ssize_t)n &&
	       data[0] == 0x12 && data[1] == 0x34 && (data[2] & 0x80);
}

static void the_forwarder_serves_sandboxes(void **state)
{
	_cleanup_fd_ int a = ns_of(UID_A), p = ns_of(UID_P);
	_cleanup_fd_ int authority = socket_in(-1, SOCK_DGRAM, "127.0.0.1", 8453);
	_cleanup_fd_ int upstream = socket_in(world, SOCK_DGRAM, NULL, 53);
	_cleanup_free_ char *status = NULL;
	char program[256] = "", status_path[64];
	struct porter_config porter = {.program = program,
		.gateways = {network_gateway(network, true), network_gateway(network, false)},
		.zone_suffix = "local.berth.internal",
		.authority = "127.0.0.1:8453",
		.resolv_conf = "/run/berth-test-resolv.conf",
		.stderr_fd = 2};
	static const char resolv[] = "# comment\nsearch x\nnameserver " WORLD "\n";
	static const char label[] = "\3web\5local\5berth\10internal", other[] = "\7example\3com";
	struct proc proc = {0};
	struct err err = {0};

	assert_true(readlink("/proc/self/exe", program, sizeof(program) - 32) > 0);
	snprintf(strrchr(program, '/'), 32, "/berth-porter");
	assert_int_equal(
		file_write_replace(AT_FDCWD, porter.resolv_conf, resolv, strlen(resolv), 0644), 0);
	ok(porter_start(&porter, &proc, &err), &err);
	assert_true(resolves(a, porter.gateways[0], label, sizeof(label) - 1, authority));
	assert_true(resolves(p, porter.gateways[1], label, sizeof(label) - 1, authority));
	assert_true(resolves(a, porter.gateways[0], other, sizeof(other) - 1, upstream));
	assert_true(connects(p, porter.gateways[1], 53));

	snprintf(status_path, sizeof(status_path), "/proc/%d/status", proc.pid);
	assert_int_equal(file_read(AT_FDCWD, status_path, 8192, &status, NULL), 0);
	assert_non_null(strstr(status, "Uid:\t268435454\t268435454\t268435454"));
	assert_non_null(strstr(status, "NoNewPrivs:\t1"));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
	assert_non_null(strstr(status, "Seccomp:\t2"));
#endif
	assert_non_null(strstr(status, "CapEff:\t0000000000000000"));
	assert_non_null(strstr(status, "Name:\tberth-porter"));
	assert_int_equal(proc_wait(&proc, 0), -ETIMEDOUT);
	proc_kill(&proc);
	/* Its port is free at once for the next one. */
	ok(porter_start(&porter, &proc, &err), &err);
	proc_kill(&proc);
}

static void name_servers_are_read_from_resolv_conf(void **state)
{
	char **list = porter_upstreams("nameserver\nnameserver x\nnameserverx 1.1.1.1\n"
				       "#nameserver 9.9.9.9\n\tnameserver\t1.2.3.4 # c\n"
				       "nameserver ::1\nnameserver fe80::1%eth0\n"
				       "nameserver 1.1.1.1\r\nnameserver 8.8.8.8");

	assert_string_equal(list[0], "1.2.3.4:53");
	assert_string_equal(list[1], "[::1]:53");
	assert_string_equal(list[2], "1.1.1.1:53");
	assert_null(list[3]);
	porter_upstreams_free(list);
}

static void name_servers_are_read_from_the_setting(void **state)
{
	static const char *const bad[] = {"x", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:", "1.2.3",
		"[::1", "[::1]x", "[1.2.3.4]:53", "1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4"};
	struct err err = {0};
	char **list;

	ok(porter_upstreams_parse("1.2.3.4, 1.2.3.5:5353,::1", &err, &list), &err);
	assert_string_equal(list[0], "1.2.3.4:53");
	assert_string_equal(list[1], "1.2.3.5:5353");
	assert_string_equal(list[2], "[::1]:53");
	assert_null(list[3]);
	porter_upstreams_free(list);
	ok(porter_upstreams_parse("[2001:db8::1]:5353", &err, &list), &err);
	assert_string_equal(list[0], "[2001:db8::1]:5353");
	porter_upstreams_free(list);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(porter_upstreams_parse(bad[i], &err, &list), -EINVAL);
		assert_string_equal(err.code, "InvalidConfiguration");
	}
}

static int add_addresses(void *arg)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct rt_link link;
	struct in_addr b = {htonl(0x6440000b)};
	struct in_addr metadata = {htonl(0xa9fea9fe)};

	assert_int_equal(nl_open(&nl, NETLINK_ROUTE), 0);
	assert_int_equal(rt_link_get(&nl, "eth0", &link), 0);
	return rt_addr_add(&nl, link.index, *(int *)arg ? metadata : b, 32);
}

static void a_forged_source_is_dropped(void **state)
{
	_cleanup_fd_ int a = ns_of(UID_A), b = ns_of(UID_B), p = ns_of(UID_P);
	_cleanup_fd_ int udp = socket_in(b, SOCK_DGRAM, NULL, 5000);
	_cleanup_fd_ int outside = socket_in(world, SOCK_DGRAM, NULL, 9000);
	int which = 0;

	assert_false(delivers(a, "100.64.0.99", ADDRESS_B, 5000, udp, NULL));
	assert_false(delivers(a, ADDRESS_P, ADDRESS_B, 5000, udp, NULL));
	assert_false(delivers(a, "8.8.8.8", WORLD, 9000, outside, NULL));
	assert_true(delivers(a, ADDRESS_A, WORLD, 9000, outside, NULL));
	/* Nor may it take over a neighbour's address. */
	assert_int_equal(namespace_run(p, add_addresses, &which), 0);
	assert_false(delivers(p, ADDRESS_B, WORLD, 9000, outside, NULL));
	assert_true(delivers(a, NULL, ADDRESS_B, 5000, udp, NULL));
	/* The world can't speak as one of ours. */
	assert_false(delivers(world, "100.64.0.77", ADDRESS_B, 5000, udp, NULL));
}

static void metadata_services_are_out_of_reach(void **state)
{
	_cleanup_fd_ int a = ns_of(UID_A);
	_held_ int server = listen_in(world, 80);
	int which = 1;

	assert_int_equal(namespace_run(world, add_addresses, &which), 0);
	assert_true(connects(-1, "169.254.169.254", 80));
	assert_false(connects(a, "169.254.169.254", 80));
	assert_false(connects(a, "168.63.129.16", 80));
}

static int read_sysctls(void *arg)
{
	_cleanup_free_ char *port = NULL, *ping = NULL, *ipv6 = NULL;

	assert_int_equal(file_read(AT_FDCWD, "/proc/sys/net/ipv4/ip_unprivileged_port_start", 64,
				 &port, NULL),
		0);
	assert_string_equal(port, "0\n");
	assert_int_equal(
		file_read(AT_FDCWD, "/proc/sys/net/ipv4/ping_group_range", 64, &ping, NULL), 0);
	assert_string_equal(ping, "1048576\t1114111\n");
	if (file_read(AT_FDCWD, "/proc/sys/net/ipv6/conf/eth0/disable_ipv6", 64, &ipv6, NULL) == 0)
		assert_string_equal(ipv6, "1\n");
	return 0;
}

static void the_namespace_is_set_up_for_its_group(void **state)
{
	_cleanup_fd_ int a = ns_of(UID_A);

	assert_int_equal(namespace_run(a, read_sysctls, NULL), 0);
}

static bool link_exists(const char *name)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct rt_link link;

	assert_int_equal(nl_open(&nl, NETLINK_ROUTE), 0);
	return rt_link_get(&nl, name, &link) == 0;
}

static size_t count_elements(enum firewall_set set, const char *address)
{
	_cleanup_free_ struct firewall_key *keys = NULL;
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct sockaddr_in a = ipv4(address, 0);
	size_t n = 0, found = 0;

	assert_int_equal(nl_open(&nl, NETLINK_NETFILTER), 0);
	assert_int_equal(firewall_elements(&nl, config.instance, set, &keys, &n), 0);
	for (size_t i = 0; i < n; i++)
		found += firewall_key_address(set, &keys[i]).s_addr == a.sin_addr.s_addr;
	return found;
}

static size_t count_listed(void)
{
	struct err err = {0};
	char **uids;
	size_t n = 0;

	ok(network_sandbox_list(network, &err, &uids), &err);
	for (; uids[n]; n++)
		free(uids[n]);
	free(uids);
	return n;
}

static void up_and_down_may_be_repeated(void **state)
{
	_cleanup_fd_ int a = ns_of(UID_A);
	_held_ int a80 = listen_in(a, 80);
	struct network *second;
	struct err err = {0};

	ok(network_sandbox_up(network, &sandbox_a, &err), &err);
	ok(network_sandbox_open(network, &sandbox_a, true, &err), &err);
	assert_int_equal(count_elements(FIREWALL_PINNED, ADDRESS_A), 1);
	assert_int_equal(count_elements(FIREWALL_OPEN, ADDRESS_A), 2);
	/* A node that comes back finds everything in its place. */
	ok(network_open(&config, &err, &second), &err);
	network_close(second);
	assert_int_equal(count_elements(FIREWALL_OPEN, ADDRESS_A), 2);
	assert_true(connects(-1, ADDRESS_A, 80));
	assert_int_equal(count_listed(), 3);

	ok(network_sandbox_down(network, UID_A, ADDRESS_A, &err), &err);
	ok(network_sandbox_down(network, UID_A, ADDRESS_A, &err), &err);
	assert_int_equal(count_elements(FIREWALL_PINNED, ADDRESS_A), 0);
	assert_int_equal(count_elements(FIREWALL_OPEN, ADDRESS_A), 0);
	assert_int_equal(count_listed(), 2);
	assert_false(link_exists("v0badc0aaaaaaaa"));
	assert_int_not_equal(access(DIR_NS "/" UID_A ".net", F_OK), 0);
	assert_int_not_equal(access(DIR_NS "/" UID_A ".user", F_OK), 0);
	ok(network_sandbox_up(network, &sandbox_a, &err), &err);
}

static void half_made_sandboxes_are_completed_and_removed(void **state)
{
	struct err err = {0};

	/* Killed before the second pin; then with a stray file in a pin's place. */
	for (int i = 0; i < 2; i++) {
		_cleanup_fd_ int a80 = -EBADF, a = -EBADF;

		assert_int_equal(umount2(DIR_NS "/" UID_A ".net", MNT_DETACH), 0);
		if (i == 0)
			assert_int_equal(unlink(DIR_NS "/" UID_A ".net"), 0);
		assert_int_equal(count_listed(), 3);
		ok(network_sandbox_up(network, &sandbox_a, &err), &err);
		ok(network_sandbox_open(network, &sandbox_a, true, &err), &err);
		a = ns_of(UID_A);
		a80 = listen_in(a, 80);
		assert_true(connects(-1, ADDRESS_A, 80));
	}
	/* Only pins; only the veth. The address isn't known to whoever cleans up. */
	{
		_cleanup_nl_ struct nl nl = NL_INIT;

		assert_int_equal(nl_open(&nl, NETLINK_ROUTE), 0);
		assert_int_equal(rt_link_delete(&nl, "v0badc0aaaaaaaa"), 0);
		assert_int_equal(count_listed(), 3);
		ok(network_sandbox_down(network, UID_A, NULL, &err), &err);
		assert_int_equal(count_listed(), 2);
		assert_int_equal(count_elements(FIREWALL_PINNED, ADDRESS_A), 0);
		assert_int_equal(count_elements(FIREWALL_OPEN, ADDRESS_A), 0);

		ok(network_sandbox_up(network, &sandbox_a, &err), &err);
		{
			_held_ int keep = ns_of(UID_A);

			ok(namespace_remove(DIR_NS, UID_A, &err), &err);
			assert_int_equal(count_listed(), 3);
			ok(network_sandbox_down(network, UID_A, NULL, &err), &err);
		}
		assert_int_equal(count_listed(), 2);
		ok(network_sandbox_up(network, &sandbox_a, &err), &err);
	}
}

static void a_sandbox_keeps_its_namespaces_when_its_address_changes(void **state)
{
	struct network_sandbox moved = sandbox_a;
	_cleanup_fd_ int a = ns_of(UID_A), a80 = -EBADF;
	struct err err = {0};

	moved.address = "100.64.1.1";
	ok(network_sandbox_up(network, &moved, &err), &err);
	ok(network_sandbox_open(network, &moved, true, &err), &err);
	a80 = listen_in(a, 80);
	assert_true(connects(-1, "100.64.1.1", 80));
	assert_int_equal(count_elements(FIREWALL_PINNED, ADDRESS_A), 0);
	ok(network_sandbox_down(network, UID_A, "100.64.1.1", &err), &err);
	assert_int_equal(count_elements(FIREWALL_OPEN, "100.64.1.1"), 0);
}

static void wrong_arguments_are_refused(void **state)
{
	static const char *const addresses[] = {
		"100.64.128.10", "100.64.0.1", "100.64.0.0", "100.64.127.255", "10.0.0.1", "x", ""};
	struct network_sandbox s = sandbox_a;
	struct err err = {0};

	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		s.address = addresses[i];
		assert_int_equal(network_sandbox_up(network, &s, &err), -EINVAL);
	}
	s = sandbox_a;
	s.uid = "../../../../../../../../../etc/passwd";
	assert_int_equal(network_sandbox_up(network, &s, &err), -EINVAL);
	assert_int_equal(network_sandbox_down(network, "AAAA", NULL, &err), -EINVAL);
}

/* What the tracker knows of a group's conversations must not let its partners in to the next owner
 * of the address. */
static void an_address_is_handed_on_without_its_connections(void **state)
{
	_cleanup_fd_ int outside = socket_in(world, SOCK_DGRAM, NULL, 9000);
	struct sockaddr_in from, to = ipv4(ADDRESS_A, 5000);
	struct network_config routed = config;
	struct network *second;
	struct err err = {0};

	routed.public_routed = true; /* the world sees the address itself */
	ok(network_open(&routed, &err, &second), &err);
	network_close(second);
	for (int reused = 0; reused < 2; reused++) {
		_cleanup_fd_ int a = ns_of(UID_A);
		_cleanup_fd_ int inside = socket_in(a, SOCK_DGRAM, NULL, 7777);
		struct sockaddr_in world_address = ipv4(WORLD, 9000);
		char data[4];
		socklen_t len = sizeof(from);

		to.sin_port = htons(7777);
		if (!reused) {
			assert_int_equal(
				sendto(inside, "hi", 2, 0, (struct sockaddr *)&world_address,
					sizeof(world_address)),
				2);
			assert_true(wait_for(outside, POLLIN, 300));
			recvfrom(outside, data, sizeof(data), 0, (struct sockaddr *)&from, &len);
			assert_int_equal(from.sin_addr.s_addr, to.sin_addr.s_addr);
		}
		assert_int_equal(
			sendto(outside, "re", 2, 0, (struct sockaddr *)&to, sizeof(to)), 2);
		assert_int_equal(wait_for(inside, POLLIN, 300), !reused);
		ok(network_sandbox_down(network, UID_A, ADDRESS_A, &err), &err);
		ok(network_sandbox_up(network, &sandbox_a, &err), &err);
	}
}

static void set_sysctl(const char *path, const char *value)
{
	int r = file_write_control(AT_FDCWD, path, value);

	assert_true(r == 0 || r == -ENOENT);
}

static void machines_with_other_sysctls_work_too(void **state)
{
	set_sysctl("/proc/sys/net/ipv4/conf/all/rp_filter", "1");
	set_sysctl("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
	declared_ports_are_reachable_and_others_not(state);
	outgoing_connections_are_masqueraded(state);
	set_sysctl("/proc/sys/net/bridge/bridge-nf-call-iptables", "1");
	declared_ports_are_reachable_and_others_not(state);
	outgoing_connections_are_masqueraded(state);
	set_sysctl("/proc/sys/net/ipv4/conf/all/rp_filter", "0");
}

static void nft(const char *command)
{
	const char *const argv[] = {"/usr/sbin/nft", command, NULL};
	_cleanup_free_ char *said = NULL;
	struct err err = {0};

	if (proc_run(argv, 10000, 4096, &said, &err) != 0)
		fail_msg("nft: %s %s", said, err.message);
}

/* As Docker and ufw leave a machine. */
static void other_firewalls_let_the_bridge_through(void **state)
{
	static const char *const list[] = {"/usr/sbin/nft", "list table ip filter", NULL};
	_cleanup_free_ char *after = NULL;
	struct network *again;
	struct err err = {0};

	nft("add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0;"
	    " policy drop; }; add chain ip filter INPUT { type filter hook input priority 0; policy"
	    " drop; }; add rule ip filter INPUT iifname lo accept;"
	    " add rule ip filter INPUT ct state established accept");
	for (int i = 0; i < 2; i++) {
		ok(network_open(&config, &err, &again), &err);
		network_close(again);
	}
	declared_ports_are_reachable_and_others_not(state);
	{
		_cleanup_fd_ int a = ns_of(UID_A);
		_held_ int server = listen_in(world, 8080), dns = listen_in(-1, 53);

		assert_true(connects(a, WORLD, 8080));
		assert_true(connects(a, network_gateway(network, true), 53));
	}
	ok(network_purge(config.instance, &err), &err);
	assert_int_equal(proc_run(list, 10000, 65536, &after, &err), 0);
	assert_null(strstr(after, "berth"));
	nft("delete table ip filter");
}

static void *many(void *arg)
{
	unsigned first = *(unsigned *)arg;

	/* Threads start in the namespaces of who starts them, so these are in the test's. */
	for (unsigned i = first; i < first + 10; i++) {
		struct network_sandbox s = sandbox_a;
		char uid[37], address[INET_ADDRSTRLEN];
		struct err err = {0};

		snprintf(uid, sizeof(uid), "%08x-0000-4000-8000-00000000000a", i + 1);
		snprintf(address, sizeof(address), "100.64.3.%u", (i + 1) & 0xff);
		s.uid = uid;
		s.address = address;
		if (network_sandbox_up(network, &s, &err) < 0 ||
			network_sandbox_open(network, &s, true, &err) < 0 ||
			network_sandbox_open(network, &s, false, &err) < 0 ||
			(i % 2 && network_sandbox_down(network, uid, address, &err) < 0)) {
			fprintf(stderr, "%s\n", err.message);
			return arg;
		}
	}
	return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
	pthread_t threads[4];
	unsigned firsts[4];

	for (unsigned i = 0; i < 4; i++) {
		firsts[i] = i * 10;
		assert_int_equal(pthread_create(&threads[i], NULL, many, &firsts[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		void *result;

		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_null(result);
	}
	assert_int_equal(count_listed(), 3 + 20);
	for (unsigned i = 0; i < 40; i += 2) {
		char uid[37];
		struct err err = {0};

		snprintf(uid, sizeof(uid), "%08x-0000-4000-8000-00000000000a", i + 1);
		ok(network_sandbox_down(network, uid, NULL, &err), &err);
	}
	assert_int_equal(count_listed(), 3);
}

static void purge_leaves_nothing(void **state)
{
	_cleanup_free_ char *forwarding = NULL;
	struct network_config other = config;
	struct network *second;
	struct err err = {0};

	/* Another instance relies on the uplink: the last one puts it back. */
	other.instance = "0ddba1";
	other.public_pool = "100.65.0.0/17";
	other.private_pool = "100.65.128.0/17";
	ok(network_open(&other, &err, &second), &err);
	network_close(second);
	ok(network_purge(config.instance, &err), &err);
	assert_false(link_exists("br-0badc0"));
	assert_false(link_exists("v0badc0aaaaaaaa"));
	assert_int_equal(file_read(AT_FDCWD, "/proc/sys/net/ipv4/conf/uplink/forwarding", 8,
				 &forwarding, NULL),
		0);
	assert_string_equal(forwarding, "1\n");
	free(take_ptr(forwarding));
	ok(network_purge(other.instance, &err), &err);
	assert_int_equal(file_read(AT_FDCWD, "/proc/sys/net/ipv4/conf/uplink/forwarding", 8,
				 &forwarding, NULL),
		0);
	assert_string_equal(forwarding, "0\n");
	ok(network_purge(other.instance, &err), &err);
}

static int compare_times(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Not a benchmark: the limit only catches a step that began to wait for something. */
static void a_sandbox_is_up_in_milliseconds(void **state)
{
	int64_t up[40], down[40];
	struct err err = {0};

	for (size_t i = 0; i < ARRAY_SIZE(up); i++) {
		struct network_sandbox s = sandbox_a;
		char uid[37], address[INET_ADDRSTRLEN];
		int64_t start = time_mono_ns();

		snprintf(uid, sizeof(uid), "%08zx-0000-4000-8000-000000000001", i + 1);
		snprintf(address, sizeof(address), "100.64.2.%zu", i + 1);
		s.uid = uid;
		s.address = address;
		ok(network_sandbox_up(network, &s, &err), &err);
		ok(network_sandbox_open(network, &s, true, &err), &err);
		up[i] = time_mono_ns() - start;
	}
	for (size_t i = 0; i < ARRAY_SIZE(down); i++) {
		char uid[37], address[INET_ADDRSTRLEN];
		int64_t start = time_mono_ns();

		snprintf(uid, sizeof(uid), "%08zx-0000-4000-8000-000000000001", i + 1);
		snprintf(address, sizeof(address), "100.64.2.%zu", i + 1);
		ok(network_sandbox_down(network, uid, address, &err), &err);
		down[i] = time_mono_ns() - start;
	}
	qsort(up, ARRAY_SIZE(up), sizeof(up[0]), compare_times);
	qsort(down, ARRAY_SIZE(down), sizeof(down[0]), compare_times);
	print_message("up and open: median %.1f ms, slowest %.1f ms; down: median %.1f ms\n",
		(double)up[20] / 1e6, (double)up[39] / 1e6, (double)down[20] / 1e6);
	assert_true(up[20] < 100 * 1000000LL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			declared_ports_are_reachable_and_others_not, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_neighbour_sees_the_address_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(closing_takes_away_what_was_open, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_socket_of_the_sandbox_reaches_it_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			outgoing_connections_are_masqueraded, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_host_offers_dns_and_nothing_else, setup, teardown),
		cmocka_unit_test_setup_teardown(the_forwarder_serves_sandboxes, setup, teardown),
		cmocka_unit_test(name_servers_are_read_from_resolv_conf),
		cmocka_unit_test(name_servers_are_read_from_the_setting),
		cmocka_unit_test_setup_teardown(a_forged_source_is_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(
			metadata_services_are_out_of_reach, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_namespace_is_set_up_for_its_group, setup, teardown),
		cmocka_unit_test_setup_teardown(up_and_down_may_be_repeated, setup, teardown),
		cmocka_unit_test_setup_teardown(
			half_made_sandboxes_are_completed_and_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_sandbox_keeps_its_namespaces_when_its_address_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_arguments_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_address_is_handed_on_without_its_connections, setup, teardown),
		cmocka_unit_test_setup_teardown(
			machines_with_other_sysctls_work_too, setup, teardown),
		cmocka_unit_test_setup_teardown(
			other_firewalls_let_the_bridge_through, setup, teardown),
		cmocka_unit_test_setup_teardown(threads_do_not_disturb_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(purge_leaves_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(a_sandbox_is_up_in_milliseconds, setup, teardown),
	};

	return cmocka_run_group_tests(tests, setup_machine, NULL);
}
