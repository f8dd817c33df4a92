/*
 * Where the network's tests run: a network and a mount namespace of their own, so that the
 * machine's network is never touched. "The host" is the test's namespace; "the world" is another
 * one, at the end of its default route.
 */
#pragma once

#include <netinet/in.h>

#include "node/network/private.h"

#define DIR_NS "/run/berth-test-ns"
#define UID_A "aaaaaaaa-0000-4000-8000-000000000001"
#define UID_B "bbbbbbbb-0000-4000-8000-000000000002"
#define UID_P "cccccccc-0000-4000-8000-000000000003"
#define ADDRESS_A "100.64.0.10"
#define ADDRESS_B "100.64.0.11"
#define ADDRESS_P "100.64.128.10"
#define WORLD "192.0.2.2"

/* A socket or namespace that only has to be there until the end of the scope. */
#define _held_ _cleanup_fd_ __attribute__((unused))

/* Two public sandboxes and a private one, each with TCP 80 and UDP 5000 declared. */
extern const struct network_sandbox sandbox_a, sandbox_b, sandbox_p;
extern const struct network_config config;
extern struct network *network; /* of setup() */
extern int world;		/* the world's network namespace */

int setup_machine(void **state); /* once: the namespaces and the world */
int setup(void **state);	 /* the instance and its three sandboxes, up and open */
int teardown(void **state);

/* Fails the test when r is an error, with its words. */
void ok(int r, struct err *err);

/* Namespaces are descriptors; -1 is the host's. Sockets may use addresses that aren't their own. */
int ns_of(const char *uid);
int socket_in(int ns, int type, const char *bind_address, uint16_t port);
int listen_in(int ns, uint16_t port);
struct sockaddr_in ipv4(const char *address, uint16_t port);
bool wait_for(int fd, short events, int timeout_ms);
/* Whether a TCP connection is made within a short time. */
bool connects(int ns, const char *address, uint16_t port);
/* Whether a datagram from bind_address in ns reaches server, a bound socket; ret_from is where it
 * came from. */
bool delivers(int ns, const char *bind_address, const char *address, uint16_t port, int server,
	struct sockaddr_in *ret_from);
