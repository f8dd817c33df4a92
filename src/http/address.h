/*
 * What kind of place a numeric address is: workers that connect where a stranger's text says ask it
 * of the address that they really connect to.
 */
#pragma once

#include "base/base.h"

/* Ordered: a server of one class may send us to those that come before it, or are the same. */
enum address_class {
	ADDRESS_PUBLIC,
	ADDRESS_PRIVATE, /* RFC 1918, RFC 6598, unique local */
	ADDRESS_LOOPBACK,
	ADDRESS_FORBIDDEN, /* link-local (cloud metadata), multicast, unspecified, unreadable */
};

enum address_class address_class(const char *numeric);
