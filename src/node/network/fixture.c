#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/time.h"
#include "node/network/fixture.h"

static const struct network_port ports[] = {{.port = 80}, {.udp = true, .port = 5000}};

const struct network_sandbox sandbox_a = {.uid = UID_A,
	.address = ADDRESS_A,
	.public_address = true,
	.ports = ports,
	.n_ports = ARRAY_SIZE(ports),
	.uid_base = 1 << 20};
const struct network_sandbox sandbox_b = {.uid = UID_B,
	.address = ADDRESS_B,
	.public_address = true,
	.ports = ports,
	.n_ports = ARRAY_SIZE(ports),
	.uid_base = (1 << 20) + 65536};
const struct network_sandbox sandbox_p = {.uid = UID_P,
	.address = ADDRESS_P,
	.ports = ports,
	.n_ports = ARRAY_SIZE(ports),
	.uid_base = (1 << 20) + 2 * 65536};

const struct network_config config = {.instance = "0badc0",
	.public_pool = "100.64.0.0/17",
	.private_pool = "100.64.128.0/17",
	.ns_dir = DIR_NS};

struct network *network;
int world = -EBADF; /* the world's network namespace */

void ok(int r, struct err *err)
{
	if (r < 0)
		print_error("%d: %s\n", r, err->message);
	assert_int_equal(r, 0);
}

/* A namespace to open sockets in: -1 is the host's. */
int ns_of(const char *uid)
{
	char path[128];

	snprintf(path, sizeof(path), DIR_NS "/%s.net", uid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

struct socket_arg {
	int type;
	const char *bind_address;
	uint16_t port;
};

static int open_socket(void *arg)
{
	const struct socket_arg *a = arg;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(a->port)};
	int on = 1;
	int fd = socket(AF_INET, a->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* So that it can send from addresses that aren't its own. */
	assert_int_equal(setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof(on)), 0);
	inet_pton(AF_INET, a->bind_address ? a->bind_address : "0.0.0.0", &address.sin_addr);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

int socket_in(int ns, int type, const char *bind_address, uint16_t port)
{
	struct socket_arg arg = {type, bind_address, port};

	return ns < 0 ? open_socket(&arg) : namespace_run(ns, open_socket, &arg);
}

int listen_in(int ns, uint16_t port)
{
	int fd = socket_in(ns, SOCK_STREAM, NULL, port);

	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

struct sockaddr_in ipv4(const char *address, uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

	assert_int_equal(inet_pton(AF_INET, address, &a.sin_addr), 1);
	return a;
}

bool wait_for(int fd, short events, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = events};

	return poll(&p, 1, timeout_ms) == 1;
}

/* Whether a TCP connection is made within a short time. */
bool connects(int ns, const char *address, uint16_t port)
{
	_cleanup_fd_ int fd = socket_in(ns, SOCK_STREAM, NULL, 0);
	struct sockaddr_in to = ipv4(address, port);
	int error = 0;
	socklen_t len = sizeof(error);

	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return true;
	if (errno != EINPROGRESS || !wait_for(fd, POLLOUT, 300))
		return false;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return error == 0;
}

/* Whether a datagram from bind_address in ns reaches server, a bound socket; ret_from is where it
 * came from. */
bool delivers(int ns, const char *bind_address, const char *address, uint16_t port, int server,
	struct sockaddr_in *ret_from)
{
	_cleanup_fd_ int fd = socket_in(ns, SOCK_DGRAM, bind_address, 0);
	struct sockaddr_in to = ipv4(address, port), from;
	socklen_t len = sizeof(from);
	char data[8];

	if (sendto(fd, "hi", 2, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return false;
	if (!wait_for(server, POLLIN, 300))
		return false;
	assert_int_equal(
		recvfrom(server, data, sizeof(data), 0, (struct sockaddr *)&from, &len), 2);
	if (ret_from)
		*ret_from = from;
	return true;
}

/* The world: a namespace with a veth to the host, and the host's default route. */

static int open_route(void *arg)
{
	return nl_open(arg, NETLINK_ROUTE);
}

static void make_world(void)
{
	const unsigned char mac[6] = {2, 0, 0, 0, 0, 1};
	_cleanup_nl_ struct nl host = NL_INIT, inside = NL_INIT;
	struct in_addr here = {htonl(0xc0000201)}, there = {htonl(0xc0000202)};
	struct rt_link link;
	struct err err = {0};

	ok(namespace_ensure("/run/berth-test-world", "world", 1 << 24, &err, &world), &err);
	assert_int_equal(nl_open(&host, NETLINK_ROUTE), 0);
	assert_int_equal(namespace_run(world, open_route, &inside), 0);
	assert_int_equal(rt_link_up(&host, 1), 0);
	assert_int_equal(rt_veth_add(&host, "uplink", 0, world, mac), 0);
	assert_int_equal(rt_link_get(&host, "uplink", &link), 0);
	assert_int_equal(rt_link_up(&host, link.index), 0);
	assert_int_equal(rt_addr_add(&host, link.index, here, 24), 0);
	assert_int_equal(rt_link_get(&inside, "eth0", &link), 0);
	assert_int_equal(rt_link_up(&inside, link.index), 0);
	assert_int_equal(rt_addr_add(&inside, link.index, there, 24), 0);
	assert_int_equal(rt_route_default(&inside, link.index, here), 0);
	assert_int_equal(rt_link_get(&host, "uplink", &link), 0);
	assert_int_equal(rt_route_default(&host, link.index, there), 0);
}

int setup_machine(void **state)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") < 0 ||
		mkdir("/run/berth-test-world", 0700) < 0)
		return -1;
	make_world();
	return 0;
}

int setup(void **state)
{
	struct err err = {0};

	ok(network_open(&config, &err, &network), &err);
	ok(network_sandbox_up(network, &sandbox_a, &err), &err);
	ok(network_sandbox_open(network, &sandbox_a, true, &err), &err);
	ok(network_sandbox_up(network, &sandbox_b, &err), &err);
	ok(network_sandbox_open(network, &sandbox_b, true, &err), &err);
	ok(network_sandbox_up(network, &sandbox_p, &err), &err);
	ok(network_sandbox_open(network, &sandbox_p, true, &err), &err);
	return 0;
}

int teardown(void **state)
{
	struct err err = {0};

	ok(network_sandbox_down(network, UID_A, ADDRESS_A, &err), &err);
	ok(network_sandbox_down(network, UID_B, ADDRESS_B, &err), &err);
	ok(network_sandbox_down(network, UID_P, ADDRESS_P, &err), &err);
	network_close(network);
	ok(network_purge(config.instance, &err), &err);
	return 0;
}
