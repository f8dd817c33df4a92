/* What the commands about one group share. */
#pragma once

#include "cli/cli.h"

#define PORTS_MAX 5
#define DEFAULT_GROUP "berth"

struct group_options {
	const char *state, *resource_group, *name, *image, *label, *policy;
	double cpu, memory;
	uint64_t ports[PORTS_MAX];
	size_t n_ports;
	const char *env[128];
	size_t n_env;
};

/* A name as a segment of a path or a value of a query (RFC 3986, section 2). Owned by the caller.
 */
char *url_encode(const char *text);
/* The group's path in the API, with a suffix as it is. Owned by the caller. */
char *group_path(const struct api *api, const struct group_options *o, const char *suffix);
/* A request about a group; body may be NULL. Not found: the words say where it was looked for, when
 * that wasn't given. */
int group_call(struct api *api, const char *method, const struct group_options *o,
	const char *suffix, const json_t *body, struct err *err, json_t **ret);
