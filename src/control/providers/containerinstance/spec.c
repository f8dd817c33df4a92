/* What a node is told of a group: resolved values only, so that a node needn't know the API. */
#include <math.h>

#include "control/providers/containerinstance/containerinstance.h"
#include "control/providers/containerinstance/internal.h"

#define GIB 1073741824.0
#define EPHEMERAL_GB 50 /* of a group, as the service documents it */

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

static json_t *mounts_spec(const json_t *mounts)
{
	json_t *spec = json_array();
	const json_t *mount;
	size_t i;

	json_array_foreach (mounts, i, mount) {
		_cleanup_free_ char *path = mount_path(json_get_str(mount, "mountPath", ""));

		json_array_append_new(
			spec, json_pack("{s:s, s:s, s:b}", "volume",
				      json_get_str(mount, "name", ""), "path", path ? path : "",
				      "readOnly", json_get_bool(mount, "readOnly", false)));
	}
	return spec;
}

static json_t *http_spec(const json_t *get)
{
	json_t *headers = json_array();
	const json_t *header;
	size_t i;

	json_array_foreach (json_get_arr(get, "httpHeaders"), i, header)
		json_array_append_new(
			headers, json_pack("{s:s, s:s}", "name", json_get_str(header, "name", ""),
					 "value", json_get_str(header, "value", "")));
	return json_pack("{s:s, s:s, s:I, s:o}", "scheme", json_get_str(get, "scheme", "http"),
		"path", json_get_str(get, "path", "/"), "port",
		(json_int_t)json_get_int(get, "port", 0), "headers", headers);
}

/* The defaults are Kubernetes'. */
static json_t *probe_spec(const json_t *probe)
{
	static const struct {
		const char *name;
		int fallback;
	} timings[] = {{"initialDelaySeconds", 0}, {"periodSeconds", 10}, {"timeoutSeconds", 1},
		{"successThreshold", 1}, {"failureThreshold", 3}};
	json_t *command = json_path(probe, "exec", "command", NULL);
	json_t *spec = json_object();

	if (command)
		json_object_set(spec, "exec", command);
	else
		json_object_set_new(spec, "http", http_spec(json_get_obj(probe, "httpGet")));
	for (size_t i = 0; i < ARRAY_SIZE(timings); i++)
		json_object_set_new(spec, timings[i].name,
			json_integer(json_get_int(probe, timings[i].name, timings[i].fallback)));
	return spec;
}

/* What containers and init containers have in common. */
static json_t *common_spec(const json_t *container)
{
	const json_t *properties = json_get_obj(container, "properties");
	json_t *command = json_get_arr(properties, "command");
	json_t *spec = json_object();

	json_put_str(spec, "name", json_get_str(container, "name", ""));
	json_put_str(spec, "image", json_get_str(properties, "image", ""));
	if (command)
		json_object_set(spec, "command", command);
	json_object_set_new(
		spec, "env", variables_spec(json_get_arr(properties, "environmentVariables")));
	return spec;
}

/* What a container doesn't have isn't there, rather than empty: the node takes any difference for a
 * change that restarts it. */
static void put_extras(json_t *spec, const json_t *properties)
{
	static const char *const probes[] = {"livenessProbe", "readinessProbe"};
	const json_t *mounts = json_get_arr(properties, "volumeMounts");
	json_t *pairs = json_path(properties, "configMap", "keyValuePairs", NULL);

	if (mounts)
		json_object_set_new(spec, "mounts", mounts_spec(mounts));
	if (pairs)
		json_object_set(spec, "configMap", pairs);
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
		const json_t *probe = json_get_obj(properties, probes[i]);

		if (probe)
			json_object_set_new(spec, probes[i], probe_spec(probe));
	}
}

static json_t *container_spec(const json_t *container)
{
	const json_t *properties = json_get_obj(container, "properties");
	const json_t *requests = json_path(properties, "resources", "requests", NULL);
	const json_t *limits = json_path(properties, "resources", "limits", NULL);
	double cpu = json_get_num(requests, "cpu", 0),
	       memory = json_get_num(requests, "memoryInGB", 0);
	json_t *spec = common_spec(container);

	json_object_set_new(spec, "cpu", json_real(cpu));
	put_bytes(spec, "memoryBytes", memory);
	json_object_set_new(spec, "cpuLimit", json_real(json_get_num(limits, "cpu", cpu)));
	put_bytes(spec, "memoryLimitBytes", json_get_num(limits, "memoryInGB", memory));
	json_object_set_new(spec, "ports", ports_spec(json_get_arr(properties, "ports")));
	put_extras(spec, properties);
	return spec;
}

static json_t *init_container_spec(const json_t *container)
{
	json_t *spec = common_spec(container);

	put_extras(spec, json_get_obj(container, "properties"));
	return spec;
}

static json_t *volume_spec(const json_t *volume)
{
	const json_t *file = json_get_obj(volume, "azureFile"),
		     *repo = json_get_obj(volume, "gitRepo");
	json_t *secret = json_get_obj(volume, "secret");
	json_t *spec = json_object(), *own = json_object();

	json_put_str(spec, "name", json_get_str(volume, "name", ""));
	if (file) {
		json_put_str(own, "share", json_get_str(file, "shareName", ""));
		json_put_str(own, "account", json_get_str(file, "storageAccountName", ""));
		json_put_str(own, "key", json_get_str(file, "storageAccountKey", ""));
		json_object_set_new(
			own, "readOnly", json_boolean(json_get_bool(file, "readOnly", false)));
	} else if (repo) {
		json_put_str(own, "repository", json_get_str(repo, "repository", ""));
		json_put_str(own, "revision", json_get_str(repo, "revision", NULL));
		json_put_str(own, "directory", json_get_str(repo, "directory", NULL));
	} else if (secret) {
		json_object_update(own, secret);
	} else {
		put_bytes(own, "sizeBytes", EPHEMERAL_GB);
	}
	json_object_set_new(spec,
		file	 ? "azureFile"
		: repo	 ? "gitRepo"
		: secret ? "secret"
			 : "emptyDir",
		own);
	return spec;
}

static json_t *dns_spec(const json_t *config)
{
	return json_pack("{s:O, s:o, s:o}", "nameServers", json_get_arr(config, "nameServers"),
		"searchDomains", dns_words(json_get_str(config, "searchDomains", "")), "options",
		dns_words(json_get_str(config, "options", "")));
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

/* Nothing when there is no list. */
static void put_list(
	json_t *spec, const char *key, const json_t *list, json_t *(*element_spec)(const json_t *))
{
	json_t *specs, *element;
	size_t i;

	if (!list)
		return;
	specs = json_array();
	json_array_foreach (list, i, element)
		json_array_append_new(specs, element_spec(element));
	json_object_set_new(spec, key, specs);
}

json_t *containerinstance_spec(const json_t *record, void *arg)
{
	const json_t *properties = json_path(record, "document", "properties", NULL);
	const json_t *address = json_get_obj(properties, "ipAddress");
	int64_t runs = json_get_int(record, "runs", 1),
		restarts = json_get_int(record, "restarts", 0);
	const json_t *dns = json_get_obj(properties, "dnsConfig");
	json_t *spec = json_object();

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
	put_list(spec, "initContainers", json_get_arr(properties, "initContainers"),
		init_container_spec);
	put_list(spec, "containers", json_get_arr(properties, "containers"), container_spec);
	put_list(spec, "volumes", json_get_arr(properties, "volumes"), volume_spec);
	if (dns)
		json_object_set_new(spec, "dns", dns_spec(dns));
	return spec;
}
