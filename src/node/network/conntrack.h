/* What the connection tracker remembers of an address that is about to be someone else's. */
#pragma once

#include <netinet/in.h>

#include "node/network/netlink.h"

/* Ends the tracking of each connection from or to address, or an answer to its last owner would
 * find the next one's door open as "established". nl is of NETLINK_NETFILTER. A kernel without
 * ctnetlink is fine. */
int conntrack_forget(struct nl *nl, struct in_addr address);
