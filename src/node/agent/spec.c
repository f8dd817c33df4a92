#include <ctype.h>

#include "node/agent/spec.h"
#include "node/agent/volumes.h"

bool spec_name_is_valid(const char *name)
{
	size_t n = strlen(name);

	if (n < 1 || n > 63 || name[0] == '-' || name[n - 1] == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static int bad(struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "InvalidGroupSpec",
		"The group's specification has no valid '%s'.", what);
}

static const char **parse_command(const json_t *array)
{
	const char **command;
	size_t i, n = json_array_size(array);
	json_t *word;

	if (n == 0)
		return NULL;
	command = xcalloc(n + 1, sizeof(*command));
	json_array_foreach (array, i, word)
		command[i] = json_is_string(word) ? json_string_value(word) : "";
	return command;
}

static char **parse_env(const json_t *array)
{
	size_t i, n = json_array_size(array);
	char **env = xcalloc(n + 1, sizeof(*env));
	json_t *entry;

	json_array_foreach (array, i, entry)
		env[i] = xasprintf(
			"%s=%s", json_get_str(entry, "name", ""), json_get_str(entry, "value", ""));
	return env;
}

/* Control has checked all this; but it faces the network and the node is root, so what the kernel
 * is told is bounded here, too. */
static int parse_resources(const json_t *json, struct container_spec *c, struct err *err)
{
	int64_t memory = json_get_int(json, "memoryBytes", 0);
	int64_t limit = json_get_int(json, "memoryLimitBytes", memory);

	c->cpu = json_get_num(json, "cpu", 1);
	c->cpu_limit = json_get_num(json, "cpuLimit", c->cpu);
	if (!(c->cpu >= 0 && c->cpu <= SPEC_CPU_MAX) ||
		!(c->cpu_limit >= 0 && c->cpu_limit <= SPEC_CPU_MAX))
		return bad(err, "containers[].cpu");
	if (memory < 0 || memory > SPEC_MEMORY_MAX || limit < 0 || limit > SPEC_MEMORY_MAX)
		return bad(err, "containers[].memoryBytes");
	c->memory_bytes = (uint64_t)memory;
	c->memory_limit_bytes = (uint64_t)limit;
	return 0;
}

static int parse_container(const json_t *json, const struct group_spec *spec, bool init,
	struct container_spec *c, struct err *err)
{
	int r;

	c->name = json_get_str(json, "name", "");
	if (!spec_name_is_valid(c->name))
		return bad(err, "containers[].name");
	c->image = json_get_str(json, "image", "");
	if (!c->image[0])
		return bad(err, "containers[].image");
	c->command = parse_command(json_get_arr(json, "command"));
	c->env = parse_env(json_get_arr(json, "env"));
	r = spec_parse_mounts(json, spec, c, err);
	if (r < 0 || init)
		return r;
	r = probe_spec_parse(
		json_object_get(json, "livenessProbe"), err, &c->probes[PROBE_LIVENESS]);
	if (r == 0)
		r = probe_spec_parse(
			json_object_get(json, "readinessProbe"), err, &c->probes[PROBE_READINESS]);
	return r < 0 ? r : parse_resources(json, c, err);
}

static int parse_list(const json_t *array, bool init, struct group_spec *spec, struct err *err)
{
	const json_t *json;
	size_t i;
	int r;

	json_array_foreach (array, i, json) {
		struct container_spec *c = &spec->containers[spec->n_containers++];

		r = parse_container(json, spec, init, c, err);
		if (r < 0)
			return r;
		for (struct container_spec *other = spec->containers; other < c; other++)
			if (str_eq(other->name, c->name))
				return bad(err, "containers[].name");
	}
	return 0;
}

static int parse_containers(const json_t *json, struct group_spec *spec, struct err *err)
{
	const json_t *init = json_get_arr(json, "initContainers");
	const json_t *containers = json_get_arr(json, "containers");
	size_t n_init = json_array_size(init), n = json_array_size(containers);
	char hashes[SPEC_INIT_CONTAINERS_MAX * SHA256_HEX_MAX];
	int r;

	if (n < 1 || n > SPEC_CONTAINERS_MAX)
		return bad(err, "containers");
	if (n_init > SPEC_INIT_CONTAINERS_MAX)
		return bad(err, "initContainers");
	spec->containers = xcalloc(n_init + n, sizeof(*spec->containers));
	spec->n_init = n_init;
	r = parse_list(init, true, spec, err);
	if (r == 0)
		r = parse_list(containers, false, spec, err);
	if (r < 0 || n_init == 0)
		return r;
	for (size_t i = 0; i < n_init; i++)
		memcpy(hashes + i * SHA256_HEX_MAX, spec->containers[i].hash, SHA256_HEX_MAX);
	sha256_hex(hashes, n_init * SHA256_HEX_MAX, spec->init_hash);
	return 0;
}

static int parse_ports(const json_t *array, struct group_spec *spec, struct err *err)
{
	size_t i, n = json_array_size(array);
	json_t *json;

	spec->ports = xcalloc(n + 1, sizeof(*spec->ports));
	json_array_foreach (array, i, json) {
		int64_t port = json_get_int(json, "port", 0);

		if (port < 1 || port > 65535)
			return bad(err, "ports[].port");
		spec->ports[spec->n_ports++] = (struct network_port){
			.udp = str_eq_nocase(json_get_str(json, "protocol", "TCP"), "UDP"),
			.port = (uint16_t)port};
	}
	return 0;
}

static void parse_credentials(const json_t *array, struct group_spec *spec)
{
	size_t i;
	json_t *json;

	spec->credentials = xcalloc(json_array_size(array) + 1, sizeof(*spec->credentials));
	json_array_foreach (array, i, json)
		spec->credentials[spec->n_credentials++] =
			(struct image_credential){.server = json_get_str(json, "server", ""),
				.username = json_get_str(json, "username", ""),
				.password = json_get_str(json, "password", "")};
}

static enum restart_policy parse_policy(const char *name)
{
	if (str_eq_nocase(name, "Never"))
		return RESTART_NEVER;
	return str_eq_nocase(name, "OnFailure") ? RESTART_ON_FAILURE : RESTART_ALWAYS;
}

int group_spec_parse(json_t *json, int64_t generation, struct err *err, struct group_spec **ret)
{
	_cleanup_(group_spec_freep) struct group_spec *spec = xnew(struct group_spec);
	int r;

	spec->json = json_incref(json);
	spec->generation = generation;
	spec->name = json_get_str(json, "name", "");
	spec->resource_group = json_get_str(json, "resourceGroup", "");
	spec->hostname = json_get_str(json, "hostname", spec->name);
	spec->address = json_get_str(json, "address", "");
	spec->public_address = json_get_bool(json, "public", false);
	spec->always_pull = json_get_bool(json, "alwaysPull", false);
	spec->stopped = str_eq(json_get_str(json, "desired", "running"), "stopped");
	spec->runs = json_get_int(json, "runs", 1);
	spec->restarts = json_get_int(json, "restarts", 0);
	spec->policy = parse_policy(json_get_str(json, "restartPolicy", "Always"));
	if (!spec_name_is_valid(spec->hostname))
		return bad(err, "hostname");
	if (!spec->address[0] || strspn(spec->address, "0123456789.") != strlen(spec->address) ||
		strlen(spec->address) > 15)
		return bad(err, "address");
	parse_credentials(json_get_arr(json, "registries"), spec);
	r = parse_ports(json_get_arr(json, "ports"), spec, err);
	if (r < 0)
		return r;
	r = spec_parse_volumes(json_get_arr(json, "volumes"), spec, err);
	if (r < 0)
		return r;
	r = parse_containers(json, spec, err);
	if (r < 0)
		return r;
	spec->dns = json_get_obj(json, "dns");
	r = spec_dns_check(spec->dns, err);
	if (r < 0)
		return r;
	*ret = take_ptr(spec);
	return 0;
}

void group_spec_free(struct group_spec *spec)
{
	if (!spec)
		return;
	for (size_t i = 0; i < spec->n_containers; i++) {
		struct container_spec *c = &spec->containers[i];

		probe_spec_free(c->probes[PROBE_LIVENESS]);
		probe_spec_free(c->probes[PROBE_READINESS]);
		free(c->command);
		for (char **env = c->env; env && *env; env++)
			free(*env);
		free(c->env);
		spec_mounts_free(c);
	}
	free(spec->containers);
	free(spec->volumes);
	free(spec->credentials);
	free(spec->ports);
	json_decref(spec->json);
	free(spec);
}
