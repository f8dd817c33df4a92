/*
 * Where a pull may connect to, and who may get credentials. Pure functions over addresses and URLs
 * (SECURITY of images: requests to inner addresses by way of redirects and realms; credentials sent
 * elsewhere, CVE-2020-15157).
 */
#pragma once

#include <jansson.h>

#include "base/base.h"
#include "http/address.h"

struct origin {
	char scheme[8]; /* "https", "http" */
	char host[256]; /* lower case; IPv6 in brackets */
	char port[8];
};

/* The parts of an absolute URL, or of one relative to base (base may be NULL). *ret_url (may be
 * NULL) is the absolute URL, owned. -EINVAL for anything but http and https, or when it carries a
 * user name. */
int origin_parse(const char *base, const char *url, struct origin *ret, char **ret_url);
bool origin_same(const struct origin *a, const struct origin *b);
/* "localhost", 127.0.0.0/8, ::1: names that can't mean another machine. */
bool host_is_loopback(const char *host);

/* May a token server at `realm` get the credentials that are for `registry`? The same host, one
 * below the same registrable domain, or one of extra (array of host names, may be NULL); over
 * https, or on loopback when the registry is there too. */
bool realm_may_know(const struct origin *registry, const struct origin *realm, const json_t *extra);
