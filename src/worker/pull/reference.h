/*
 * The name of an image, as users write it. One parser for everybody, the worker and the node
 *(Docker's reference grammar, distribution/reference):
 *
 *	[domain "/"] path [":" tag] ["@" digest]
 *
 * ASCII only. A first component is a domain when it has a '.' or a ':' or is "localhost"; otherwise
 * the domain is "docker.io", where a path of one component is below "library/". Without tag and
 * digest the tag is "latest". The domain is lower-cased, a path with upper case is refused.
 */
#pragma once

#include "base/base.h"

/* Enough for every full name. */
#define REFERENCE_MAX 640

struct reference {
	char *full; /* the one spelling: "docker.io/library/nginx:latest", "host/x@sha256:…"; a tag
		     * beside a digest says nothing and is left out */
	char *name;   /* "docker.io/library/nginx" */
	char *domain; /* "docker.io", "registry.example:5000", "[::1]:5000" */
	char *path;   /* "library/nginx" */
	char *tag;    /* NULL when there is a digest and no tag */
	char *digest; /* "sha256:…" or NULL */
};

/* Fails with -EINVAL and the code "InvalidImageReference". */
int reference_parse(const char *text, struct err *err, struct reference *ret);
void reference_done(struct reference *ref);

/* Host and port to connect to: the domain, but "registry-1.docker.io" for Docker Hub. Borrowed. */
const char *reference_registry(const struct reference *ref);

/* Does a credential for `server`, as users write it ("https://index.docker.io/v1/",
 * "Reg.Example.com:443"), belong to the registry with this domain? */
bool reference_server_matches(const char *server, const char *domain);
