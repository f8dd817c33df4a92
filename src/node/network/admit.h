/*
 * Other firewalls of the machine. Docker, ufw and their like give iptables' FORWARD or INPUT chain
 * the policy DROP, and what one table accepts another still may drop. So where those chains exist
 * (table `filter` of family ip, as iptables-nft has it) the bridge's packets are let through there;
 * what of them passes is decided in this instance's own table.
 */
#pragma once

#include "base/base.h"

/* Idempotent. No such chains: nothing to do. */
int admit_open(const char *instance, const char *bridge, struct err *err);
int admit_close(const char *instance, struct err *err);
