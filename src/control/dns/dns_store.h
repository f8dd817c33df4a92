/*
 * Labels out of the store: label/<region>/<label> is {"uid","ip","id"}.
 *
 * Each question reads the store. A read costs microseconds and is always as new as the last commit,
 * which an index kept by a watch is not: a label that moved to another group would point to the old
 * one until the watch caught up.
 */
#pragma once

#include "control/dns/dns.h"
#include "control/store/store.h"

struct dns_store {
	struct store *store; /* borrowed */
	const char *region;  /* borrowed */
};

/* The label of a scope (its key: label/<region>/<label>.<scope>): this many lower-case hex digits.
 */
#define DNS_SCOPE_CHARS 16

/* A dns_lookup_fn; arg is a struct dns_store. */
int dns_store_lookup(const char *label, char ret_ip[16], void *arg);
