/*
 * dns: authoritative answers for <region>.<zone>, where a group's label is a name:
 * web.local.berth.internal; or web.<scope>.local.berth.internal for one that is unique in a scope
 * only, such as its resource group.
 *
 * berthd runs it on its loop, over UDP and TCP. It knows nothing but the zone's own records and
 * what lookup says of a label at that moment; there is no cache, so a name resolves as soon as the
 * commit that made it has returned. It is no resolver: names outside the zone, transfers and ANY
 * are REFUSED, and an answer is never much larger than its question. Messages are read and written
 * by ldns (RFC 1035, EDNS of RFC 6891).
 */
#pragma once

#include "base/base.h"
#include "base/loop.h"

#define DNS_MESSAGE_MAX 4096 /* of a query; larger ones aren't read */
#define DNS_UDP_MAX 1232  /* of an answer over UDP: fits an IPv6 packet that needs no fragments */
#define DNS_TTL_SECONDS 5 /* of answers, negative ones included */

#define DNS_LABEL_MAX 128

/* Address of a group's label, lower-case and of [a-z0-9-], or of "LABEL.SCOPE": 0 ("" when it has
 * none yet, or only names below it have), -ENOENT, or another errno for a SERVFAIL. Called on the
 * loop's thread: it must be quick. */
typedef int (*dns_lookup_fn)(const char *label, char ret_ip[16], void *arg);

struct dns_config {
	const char *listen; /* "127.0.0.1:8453", IPv4; port 0 lets the kernel choose */
	const char *region; /* "local" */
	const char *zone;   /* "berth.internal" */
	dns_lookup_fn lookup;
	void *arg;
};

struct dns;

int dns_new(struct loop *loop, const struct dns_config *config, struct err *err, struct dns **ret);
void dns_free(struct dns *dns); /* NULL is fine */
uint16_t dns_port(const struct dns *dns);

/* The answering alone, without sockets. */
struct dns_zone;

int dns_zone_new(const struct dns_config *config, struct err *err, struct dns_zone **ret);
void dns_zone_free(struct dns_zone *zone);
/* The answer to a message; bytes, or 0 when there is none to give. answer has room for size (at
 * least 512) bytes. An answer that would be longer than the asker takes, or than size, is truncated
 * (TC) for UDP. */
size_t dns_answer(struct dns_zone *zone, const uint8_t *query, size_t len, bool udp,
	uint8_t *answer, size_t size);
