/* What a registry asks for when it answers 401: WWW-Authenticate (RFC 9110 §11.6.1, distribution's
 * token spec). Pure functions. */
#pragma once

#include "base/base.h"

struct challenge {
	bool bearer, basic;
	char *realm, *service, *scope; /* of the bearer challenge; NULL when absent */
};

/* Adds the challenges of one header value. Never fails: what can't be understood is left out. */
void challenge_parse(const char *value, struct challenge *challenge);
void challenge_done(struct challenge *challenge);
