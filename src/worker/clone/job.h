/* What to clone, from where, into what: the job, read and checked. */
#pragma once

#include "base/base.h"

struct job_limits {
	uint64_t bytes; /* from the server, and of one file */
	uint64_t seconds;
	uint64_t idle_seconds;
};

struct job {
	char *url;	     /* without user and password */
	char *authorization; /* value of the header, or NULL. A secret */
	char host[256];	     /* lower case, as curl has it; never an IPv6 literal */
	uint16_t port;
	char *revision;	 /* or NULL: HEAD */
	char *directory; /* relative; "." is the volume's root */
	char *ca;	 /* PEM, or NULL */
	bool allow_loopback;
	struct job_limits limits;
};

int job_parse(const char *data, size_t len, struct err *err, struct job *ret);
/* The same from a descriptor, to its end. */
int job_read(int fd, struct err *err, struct job *ret);
void job_done(struct job *job);
