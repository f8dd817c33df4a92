/*
 * Forwarding of DNS questions, on a loop: names under one suffix go to the authority, all others to
 * the upstreams in turn. There is no cache, so no group can put anything into another one's
 * answers, and nothing to poison: each question leaves from a socket of its own (a random port,
 * connected, so that the kernel drops what comes from elsewhere) under a random id, and an answer
 * counts only if it carries that id and repeats the question.
 *
 * What was asked over TCP is asked over TCP. Everything is bounded: questions in all and for each
 * client, connections, sizes, time.
 */
#pragma once

#include <sys/socket.h>

#include "base/base.h"
#include "base/loop.h"

#define FORWARD_UPSTREAMS_MAX 3
#define FORWARD_PENDING_MAX 4096
#define FORWARD_PENDING_PER_CLIENT 256
#define FORWARD_QUERY_MAX 1280 /* bytes of a question over UDP or TCP */

struct forward_config {
	const char *zone_suffix; /* "local.berth.internal" */
	struct sockaddr_storage authority;
	struct sockaddr_storage upstreams[FORWARD_UPSTREAMS_MAX];
	size_t n_upstreams;
	int timeout_ms; /* for each try */
	unsigned
		max_pending; /* at most FORWARD_PENDING_MAX: as many as there are descriptors for */
};

struct forward;

/* "1.2.3.4:53" or "[2001:db8::1]:53". 0 or -EINVAL. */
int forward_parse_address(const char *text, struct sockaddr_storage *ret);

int forward_new(struct loop *loop, const struct forward_config *config, struct forward **ret);
/* fd (borrowed): a bound UDP socket or a listening TCP one, IPv4. 0 or -errno. */
int forward_listen(struct forward *forward, int fd);
void forward_free(struct forward *forward); /* NULL is fine */
unsigned forward_pending(const struct forward *forward);
