/* What control may send as a group: root makes paths, mounts and limits of it. */
#include "node/agent/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(group_spec_freep) struct group_spec *spec = NULL;
	_cleanup_json_ json_t *json = NULL;
	struct err err = {0};

	if (json_parse((const char *)data, size, JSON_DEPTH_MAX, NULL, &json) < 0)
		return 0;
	if (group_spec_parse(json, 1, &err, &spec) < 0) {
		assert(err.code[0] && err.message[0]);
		return 0;
	}
	assert(spec->n_init <= SPEC_INIT_CONTAINERS_MAX);
	assert(spec->n_containers > spec->n_init &&
		spec->n_containers - spec->n_init <= SPEC_CONTAINERS_MAX);
	free(spec_dns_text(spec->dns));
	assert(spec_name_is_valid(spec->hostname));
	for (size_t i = 0; i < spec->n_containers; i++) {
		const struct container_spec *c = &spec->containers[i];

		assert(spec_name_is_valid(c->name) && !strpbrk(c->name, "/."));
		assert(c->cpu >= 0 && c->cpu <= SPEC_CPU_MAX && c->cpu_limit >= 0 &&
			c->cpu_limit <= SPEC_CPU_MAX);
		assert(c->n_mounts <= SPEC_MOUNTS_MAX);
		for (size_t k = 0; k < c->n_mounts; k++) {
			const struct container_mount *mount = &c->mounts[k];

			assert(mount->path[0] == '/' && mount->path[1] &&
				!strstr(mount->path, "//"));
			assert(!strstr(mount->path, "/../") && !str_ends(mount->path, "/.."));
			assert(spec_name_is_valid(mount->volume->name));
		}
		assert(c->memory_bytes <= (uint64_t)SPEC_MEMORY_MAX &&
			c->memory_limit_bytes <= (uint64_t)SPEC_MEMORY_MAX);
		for (size_t kind = 0; kind < PROBE_KINDS; kind++) {
			const struct probe_spec *probe = c->probes[kind];

			assert(!probe || (i >= spec->n_init && probe->period_s > 0));
			assert(!probe || !probe->command == !!probe->path);
		}
	}
	return 0;
}
