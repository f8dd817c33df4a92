/*
 * relay: git's only way out. git runs in a network namespace that has nothing but its own loopback,
 * where a socket of the relay listens in place of the server; the relay, outside, connects each
 * connection to one of the addresses that were resolved and judged beforehand, and to nothing else.
 * So no redirect, alternate, second look-up of the name (DNS rebinding) or hole in git or curl
 * reaches another place. TLS is between git and the server: the relay sees cipher text. It counts
 * the bytes, and knows why a connection failed.
 *
 * Single-threaded: whoever waits for git polls the relay's descriptors too.
 */
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include "worker/clone/job.h"

enum { RELAY_FDS_MAX = 17, ADDRESSES_MAX = 8 };

struct address {
	struct sockaddr_storage sockaddr;
	socklen_t len;
};

struct addresses {
	struct address list[ADDRESSES_MAX];
	size_t n;
};

/* The addresses of the job's host that a clone may connect to, in the resolver's order; an error in
 * the user's words when there are none. Blocking; needs the machine's files and network. */
int addresses_find(const struct job *job, struct err *err, struct addresses *ret);

struct relay;

/* Makes the namespace and listens there, on 127.0.0.1 and the job's port. Needs to be root of a
 * user namespace. addresses and job are borrowed. */
int relay_new(const struct job *job, const struct addresses *addresses, struct err *err,
	struct relay **ret);
void relay_free(struct relay *relay);
DEFINE_CLEANUP(struct relay *, relay_free)

/* The namespace for git, borrowed. */
int relay_netns(const struct relay *relay);

/* Fills in what to poll for, RELAY_FDS_MAX at most, and lowers *timeout_ms to the next deadline.
 * Returns how many. Then, whatever poll() said, relay_handle() with the same array. */
size_t relay_prepare(struct relay *relay, struct pollfd *fds, int *timeout_ms);
void relay_handle(struct relay *relay, const struct pollfd *fds);

/* What went wrong on the way to the server since the last call of this: 0 when nothing did, else
 * a negative errno with words. */
int relay_trouble(struct relay *relay, struct err *err);
