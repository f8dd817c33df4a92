/*
 * Starts berth-porter, the DNS forwarder of an instance's sandboxes: binds port 53 of both gateways
 * as root, then hands the sockets to a process that owns nothing.
 */
#pragma once

#include "base/proc.h"

#define PORTER_UID ((1U << 28) - 2) /* below all ranges that groups get */

struct porter_config {
	const char *program;	 /* absolute path of berth-porter */
	const char *gateways[2]; /* network_gateway(); the bridge must be up */
	const char *zone_suffix; /* "local.berth.internal" */
	const char *authority;	 /* "127.0.0.1:8453" */
	const char *upstreams;	 /* "192.0.2.1,192.0.2.2:5353" instead of those of resolv_conf; NULL
				    or "": none */
	const char *resolv_conf; /* NULL: /etc/resolv.conf. Without a name server in it other names
				    get SERVFAIL */
	int stderr_fd;		 /* where its log goes; -1: nowhere */
};

/* The process dies with the thread that calls this, so call it on one that lives as long as the
 * node does. When ret->pidfd becomes readable it has ended: start it again. */
int porter_start(const struct porter_config *config, struct proc *ret, struct err *err);

/* The name servers of a resolv.conf as "ADDRESS:53", at most three as resolv.conf(5) has it;
 * NULL-terminated, owned. */
char **porter_upstreams(const char *resolv_conf_text);

/* The same of a setting: addresses between commas, with a port or without. Code
 * "InvalidConfiguration". */
int porter_upstreams_parse(const char *setting, struct err *err, char ***ret);
void porter_upstreams_free(char **list);
