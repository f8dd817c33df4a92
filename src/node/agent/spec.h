/* What control wants of a group, out of the link's JSON: checked again here, since names become
 * paths. */
#pragma once

#include <stdint.h>

#include "base/base.h"
#include "base/json.h"
#include "base/random.h"
#include "node/image/image.h"
#include "node/network/network.h"
#include "node/volume/volume.h"

#define SPEC_CONTAINERS_MAX 60
#define SPEC_INIT_CONTAINERS_MAX 59
#define SPEC_CPU_MAX 4096.0
#define SPEC_MEMORY_MAX ((int64_t)1 << 50)
#define SPEC_VOLUMES_MAX 20
#define SPEC_MOUNTS_MAX 64 /* of a container */

enum restart_policy { RESTART_ALWAYS, RESTART_ON_FAILURE, RESTART_NEVER };

enum probe_kind { PROBE_LIVENESS, PROBE_READINESS };
#define PROBE_KINDS 2

/* What asks a container how it is; exactly one of command and path is there. */
struct probe_spec {
	const char **command; /* NULL-terminated array, owned */
	const char *path;     /* of an HTTP GET, borrowed; begins with '/' */
	bool https;
	uint16_t port;
	const json_t *headers; /* [{"name","value"}], checked; borrowed, may be NULL */
	int initial_delay_s, period_s, timeout_s, success_threshold, failure_threshold;
};

struct container_mount {
	const struct volume_spec *volume; /* of group_spec.volumes */
	char *path;			  /* absolute, one slash between parts; owned */
	bool read_only;
};

struct container_spec {
	const char *name; /* borrowed from group_spec.json, as are all strings here */
	const char *image;
	const char **command; /* NULL-terminated array, owned; NULL: the image's */
	char **env;	      /* "NAME=value", NULL-terminated, owned */
	double cpu, cpu_limit;
	uint64_t memory_bytes, memory_limit_bytes;
	struct probe_spec *probes[PROBE_KINDS]; /* owned; NULL where it has none */
	struct container_mount *mounts;		/* owned */
	size_t n_mounts;
	const json_t *config_map;  /* or NULL */
	char hash[SHA256_HEX_MAX]; /* of the container's part of the spec without what is in its
				      configMap, and of the volumes that it mounts: tells whether
				      it changed */
};

struct group_spec {
	json_t *json; /* owned */
	int64_t generation;
	const char *name, *resource_group, *hostname, *address;
	bool stopped;
	bool public_address;
	bool always_pull;
	int64_t runs, restarts;
	enum restart_policy policy;
	struct network_port *ports;
	size_t n_ports;
	struct image_credential *credentials;
	size_t n_credentials;
	struct volume_spec *volumes;
	size_t n_volumes;
	/* The init containers first, n_init of them, in their order; names are unique over both. */
	struct container_spec *containers;
	size_t n_containers, n_init;
	/* Of all init containers: a change runs the whole group anew. "" without any. */
	char init_hash[SHA256_HEX_MAX];
	const json_t *dns; /* checked; NULL: the node's own */
};

/* Code "InvalidGroupSpec" names what is wrong. json: a reference is taken. */
int group_spec_parse(json_t *json, int64_t generation, struct err *err, struct group_spec **ret);
void group_spec_free(struct group_spec *spec);
DEFINE_CLEANUP(struct group_spec *, group_spec_free)

/* spec_probe.c: *ret stays NULL when there is none. */
int probe_spec_parse(const json_t *json, struct err *err, struct probe_spec **ret);
void probe_spec_free(struct probe_spec *probe);

/* dns.c: "dns" of the link, and the text of resolv.conf that it makes. Owned by the caller. */
int spec_dns_check(const json_t *dns, struct err *err);
char *spec_dns_text(const json_t *dns);

/* Lower-case letters, digits and inner hyphens, at most 63: safe as a name on disk. */
bool spec_name_is_valid(const char *name);
