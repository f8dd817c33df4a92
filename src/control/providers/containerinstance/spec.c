/* What a node is told of a group: resolved values only, so that a node needn't know the API. */
#include <math.h>

#include "control/providers/containerinstance/containerinstance.h"
#include "control/providers/containerinstance/internal.h"

#define GIB 1073741824.0

static json_t *ports_spec(const json_t *ports)
{
	json_t *spec = json_array();
	const json_t *port;
	size_t i;

	json_array_foreach (ports, i, port)
		json_array_append_new(spec,
			json_pack("{s:I, s:s}", "port", (json_int_t)json_get_int(port, "port", 0),
				"protocol", json_get_str(port, "protocol", "TCP")));
	return spec;
}

static json_t *variables_spec(const json_t *variables)
{
	json_t *spec = json_array();
	const json_t *variable;
	size_t i;

	json_array_foreach (variables, i, variable)
		json_array_append_new(spec,
			json_pack("{s:s, s:s}", "name", json_get_str(variable, "name", ""), "value",
				json_get_str(variable, "secureValue",
					json_get_str(variable, "value", ""))));
	return spec;
}

static void put_bytes(json_t *spec, const char *key, double gigabytes)
{
	json_object_set_new(spec, key, json_integer((json_int_t)llround(gigabytes * GIB)));
}

static json_t *container_spec(const json_t *container)
{
	const json_t *properties = json_get_obj(container, "properties");
	const json_t *requests = json_path(properties, "resources", "requests", NULL);
	const json_t *limits = json_path(properties, "resources", "limits", NULL);
	json_t *command = json_get_arr(properties, "command");
	double cpu = json_get_num(requests, "cpu", 0),
	       memory = json_get_num(requests, "memoryInGB", 0);
	json_t *spec = json_object();

	json_put_str(spec, "name", json_get_str(container, "name", ""));
	json_put_str(spec, "image", json_get_str(properties, "image", ""));
	if (command)
		json_object_set(spec, "command", command);
	json_object_set_new(
		spec, "env", variables_spec(json_get_arr(properties, "environmentVariables")));
	json_object_set_new(spec, "cpu", json_real(cpu));
	put_bytes(spec, "memoryBytes", memory);
	json_object_set_new(spec, "cpuLimit", json_real(json_get_num(limits, "cpu", cpu)));
	put_bytes(spec, "memoryLimitBytes", json_get_num(limits, "memoryInGB", memory));
	json_object_set_new(spec, "ports", ports_spec(json_get_arr(properties, "ports")));
	return spec;
}

static json_t *registries_spec(const json_t *credentials)
{
	json_t *spec = json_array();
	const json_t *credential;
	size_t i;

	json_array_foreach (credentials, i, credential)
		json_array_append_new(
			spec, json_pack("{s:s, s:s, s:s}", "server",
				      json_get_str(credential, "server", ""), "username",
				      json_get_str(credential, "username", ""), "password",
				      json_get_str(credential, "password", "")));
	return spec;
}

json_t *containerinstance_spec(const json_t *record, void *arg)
{
	const json_t *properties = json_path(record, "document", "properties", NULL);
	const json_t *address = json_get_obj(properties, "ipAddress");
	int64_t runs = json_get_int(record, "runs", 1),
		restarts = json_get_int(record, "restarts", 0);
	json_t *spec = json_object(), *containers = json_array();
	const json_t *container;
	size_t i;

	json_put_str(spec, "name", json_get_str(record, "name", ""));
	json_put_str(spec, "resourceGroup", json_get_str(record, "resourceGroup", ""));
	json_put_str(spec, "desired", json_get_str(record, "desired", "running"));
	json_object_set_new(spec, "runs", json_integer(runs));
	json_object_set_new(spec, "restarts", json_integer(restarts));
	json_put_str(spec, "address", json_get_str(record, "ip", ""));
	json_object_set_new(
		spec, "public", json_boolean(str_eq(json_get_str(address, "type", ""), "Public")));
	json_object_set_new(spec, "ports", ports_spec(json_get_arr(address, "ports")));
	json_put_str(spec, "hostname", json_get_str(record, "name", ""));
	json_put_str(spec, "restartPolicy", json_get_str(properties, "restartPolicy", "Always"));
	json_object_set_new(spec, "registries",
		registries_spec(json_get_arr(properties, "imageRegistryCredentials")));
	/* A first start takes an image that is there; whoever starts, restarts or updates wants
	 * what the registry has now. */
	json_object_set_new(spec, "alwaysPull",
		json_boolean(runs > 1 || restarts > 0 || json_get_int(record, "deploys", 1) > 1));
	json_array_foreach (json_get_arr(properties, "containers"), i, container)
		json_array_append_new(containers, container_spec(container));
	json_object_set_new(spec, "containers", containers);
	return spec;
}
