/*
 * What the schema table can't say: rules over several properties at once, with the service's codes
 * and words where they are known. Each names the JSON path at fault.
 */
#include <ctype.h>
#include <math.h>

#include "control/providers/containerinstance/internal.h"

#define CONTAINERS_MAX 60
#define GROUP_CPU_MAX 31.0
#define GROUP_MEMORY_MAX 240.0
#define NAME_RULE "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
#define PROFILE_NAME_RULE "[a-zA-Z0-9]|[a-zA-Z0-9][-_a-zA-Z0-9]{0,61}[a-zA-Z0-9]"
#define EPSILON 1e-6

#define FAIL(err, path_fmt, path_arg, ...)                                                         \
	({                                                                                         \
		int _r = err_set(err, -EINVAL, __VA_ARGS__);                                       \
		err_target(err, path_fmt, path_arg);                                               \
		_r;                                                                                \
	})

static const json_t *properties_of(const json_t *object)
{
	return json_get_obj(object, "properties");
}

/* --- the request against its address --- */

static const char *type_of(const struct validate_context *context)
{
	return context->type ? context->type : GROUPS_TYPE;
}

static int check_name(const char *name, struct err *err)
{
	if (strlen(name) <= 63 && schema_matches(NAME_RULE, name))
		return 0;
	return FAIL(err, "%s", "name", "InvalidContainerGroupName",
		"The container group name '%.80s' is invalid. The container group name must contain no more than 63 "
		"characters and must match the regex '" NAME_RULE "' (e.g. 'my-name').",
		name);
}

/* id, name and type may be sent back, but only as they are: a client that sends others believes
 * that it talks to another resource. */
static int check_identity(
	const json_t *document, const struct validate_context *context, struct err *err)
{
	const char *name = json_get_str(document, "name", context->group_name);
	const char *own_type = type_of(context);
	const char *type = json_get_str(document, "type", own_type);
	const char *id = json_get_str(document, "id", NULL);
	_cleanup_free_ char *own = xasprintf("/subscriptions/%s/resourceGroups/%s/providers/%s/%s",
		context->subscription_id, context->resource_group, own_type, context->group_name);

	if (!str_eq_nocase(name, context->group_name))
		return FAIL(err, "%s", "name", "InvalidRequestContent",
			"The name '%.80s' in the content doesn't match the name '%s' in the URL.",
			name, context->group_name);
	if (!str_eq_nocase(type, own_type))
		return FAIL(err, "%s", "type", "InvalidRequestContent",
			"The type '%.80s' in the content doesn't match the type '%s' in the URL.",
			type, own_type);
	if (id && !str_eq_nocase(id, own))
		return FAIL(err, "%s", "id", "InvalidRequestContent",
			"The id '%.300s' in the content doesn't match the id '%s' in the URL.", id,
			own);
	return 0;
}

/* Answers carry a provisioningTimeoutInSeconds, so a document that was read may be sent back with
 * it. */
static int check_timeout(
	const json_t *document, const struct validate_context *context, struct err *err)
{
	const json_t *timeout =
		json_object_get(properties_of(document), "provisioningTimeoutInSeconds");

	if (!timeout || json_is_null(timeout) || json_integer_value(timeout) == 1800)
		return 0;
	return FAIL(err, "%s", "properties.provisioningTimeoutInSeconds",
		"CustomProvisioningTimeoutInSecondsNotSuppported",
		"A custom provisioning timeout is not supported for container group '%s'. Leave out "
		"'provisioningTimeoutInSeconds'.",
		context->group_name);
}

/* "West US" and "westus" are one location. */
static bool same_location(const char *a, const char *b)
{
	for (;; a++, b++) {
		while (*a == ' ')
			a++;
		while (*b == ' ')
			b++;
		if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
			return false;
		if (!*a)
			return true;
	}
}

static int check_location(json_t *document, const struct validate_context *context, struct err *err)
{
	const char *location = json_get_str(document, "location", NULL);

	if (!location || !*location)
		location = context->default_location ? context->default_location : context->region;
	if (!same_location(location, context->region))
		return FAIL(err, "%s", "location", "LocationNotAvailableForResourceType",
			"The provided location '%.80s' is not available for resource type '%s'. List of available "
			"regions for the resource type is '%s'.",
			location, type_of(context), context->region);
	json_put_str(document, "location", context->region);
	return 0;
}

/* --- secrets that an answer didn't show --- */

static const json_t *find_by(const json_t *array, const char *key, const char *value)
{
	const json_t *element;
	size_t i;

	json_array_foreach (array, i, element)
		if (str_eq_nocase(json_get_str(element, key, ""), value))
			return element;
	return NULL;
}

/* {"name":"X"} alone is how an answer shows a secure variable: sent back, it means the value that
 * is there. */
static void keep_variables(json_t *container, const json_t *old_container)
{
	json_t *variable;
	size_t i;

	json_array_foreach (
		json_get_arr(properties_of(container), "environmentVariables"), i, variable) {
		const json_t *old =
			find_by(json_get_arr(properties_of(old_container), "environmentVariables"),
				"name", json_get_str(variable, "name", ""));
		json_t *secret = json_object_get(old, "secureValue");

		if (secret && !json_object_get(variable, "value") &&
			!json_object_get(variable, "secureValue"))
			json_object_set(variable, "secureValue", secret);
	}
}

static void keep_secrets(json_t *document, const json_t *old)
{
	const json_t *was = properties_of(old), *is = properties_of(document);
	json_t *element;
	size_t i;

	json_array_foreach (json_get_arr(is, "containers"), i, element)
		keep_variables(element, find_by(json_get_arr(was, "containers"), "name",
						json_get_str(element, "name", "")));
	json_array_foreach (json_get_arr(is, "imageRegistryCredentials"), i, element) {
		const json_t *credential = find_by(json_get_arr(was, "imageRegistryCredentials"),
			"server", json_get_str(element, "server", ""));

		if (!json_object_get(element, "password") && credential &&
			str_eq(json_get_str(credential, "username", ""),
				json_get_str(element, "username", "")))
			json_object_set(
				element, "password", json_object_get(credential, "password"));
	}
}

/* --- containers --- */

static int check_count(const json_t *containers, const char *group, struct err *err)
{
	size_t n = json_array_size(containers);

	if (n == 0)
		return FAIL(err, "%s", "properties.containers", "ContainersNotSpecified",
			"The containers in container group '%s' are not specified. At least one container is required.",
			group);
	if (n > CONTAINERS_MAX)
		return FAIL(err, "%s", "properties.containers", "TooManyContainers",
			"The container group '%s' has %zu containers. At most %d are allowed.",
			group, n, CONTAINERS_MAX);
	return 0;
}

static int check_basics(const json_t *containers, size_t i, const char *group, struct err *err)
{
	const json_t *container = json_array_get(containers, i);
	const char *name = json_get_str(container, "name", "");
	const json_t *variable;
	size_t v;

	for (size_t j = 0; j < i; j++)
		if (str_eq(json_get_str(json_array_get(containers, j), "name", ""), name))
			return FAIL(err, "properties.containers[%zu].name", i,
				"DuplicateContainerName",
				"The container name '%s' is there more than once in container group '%s'. Each container "
				"needs a name of its own.",
				name, group);
	if (!json_get_str(properties_of(container), "image", NULL))
		return FAIL(err, "properties.containers[%zu].properties.image", i,
			"ImageNotSpecified",
			"The image is not specified in container '%s' of container group '%s'.",
			name, group);
	json_array_foreach (
		json_get_arr(properties_of(container), "environmentVariables"), v, variable) {
		if (json_object_get(variable, "value") &&
			json_object_get(variable, "secureValue")) {
			err_set(err, -EINVAL, "InvalidEnvironmentVariable",
				"The environment variable '%s' in container '%s' of container group '%s' has both "
				"'value' and 'secureValue'. Give one of them.",
				json_get_str(variable, "name", ""), name, group);
			err_target(err,
				"properties.containers[%zu].properties.environmentVariables[%zu]",
				i, v);
			return -EINVAL;
		}
	}
	return 0;
}

/* --- CPU and memory --- */

static bool is_multiple(double value, double parts)
{
	return fabs(value * parts - round(value * parts)) < EPSILON * parts;
}

static int check_requests(const json_t *container, size_t i, const char *group, struct err *err)
{
	const char *name = json_get_str(container, "name", "");
	const json_t *requests = json_path(properties_of(container), "resources", "requests", NULL);
	double cpu = json_get_num(requests, "cpu", -1),
	       memory = json_get_num(requests, "memoryInGB", -1);
	bool no_cpu = !json_object_get(requests, "cpu"),
	     no_memory = !json_object_get(requests, "memoryInGB");

	if (no_cpu && no_memory)
		return FAIL(err, "properties.containers[%zu].properties.resources.requests", i,
			"ResourceRequestsNotSpecified",
			"The resource requests are not specified in container '%s' of contain group '%s'. Both memory and "
			"CPU requests are required since API version '2017-07-01-preview'.",
			name, group);
	if (no_cpu || no_memory) {
		err_set(err, -EINVAL, "ResourceSomeRequestsNotSpecified",
			"The '%s' request is not specified in "
			"'Microsoft.Azure.CloudConsole.Providers.Common.Entities.ComputeResources' in container '%s' of "
			"contain group '%s'. It is required since API version '2017-07-01-preview'.",
			no_memory ? "MemoryInGB" : "Cpu", name, group);
		err_target(err, "properties.containers[%zu].properties.resources.requests.%s", i,
			no_memory ? "memoryInGB" : "cpu");
		return -EINVAL;
	}
	if (cpu <= 0 || !is_multiple(cpu, 100))
		return FAIL(err, "properties.containers[%zu].properties.resources.requests.cpu", i,
			"InvalidResourceRequest",
			"The 'Cpu' request '%.15g' in container '%s' of container group '%s' is invalid. It must be greater "
			"than 0 and a multiple of 0.01.",
			cpu, name, group);
	if (memory <= 0 || !is_multiple(memory, 10))
		return FAIL(err,
			"properties.containers[%zu].properties.resources.requests.memoryInGB", i,
			"InvalidResourceRequest",
			"The 'MemoryInGB' request '%.15g' in container '%s' of container group '%s' is invalid. It must be "
			"greater than 0 and a multiple of 0.1.",
			memory, name, group);
	return 0;
}

struct totals {
	double cpu, memory;
};

/* A number as the service's own JSON has it: 4 is 4.0. */
static void add_number(struct buf *buf, const char *key, const json_t *resources)
{
	_cleanup_free_ char *text = NULL;
	const json_t *value = json_object_get(resources, key);

	if (!value)
		return;
	text = xasprintf("%.15g", json_number_value(value));
	buf_printf(buf, "%s\"%s\":%s%s", buf_str(buf)[buf->len - 1] == '{' ? "" : ",", key, text,
		strpbrk(text, ".e") ? "" : ".0");
}

static char *requirement_words(const json_t *resources)
{
	static const char *const parts[] = {"requests", "limits"};
	struct buf buf = BUF_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		buf_printf(&buf, "%s\"%s\":{", i ? "," : "{", parts[i]);
		add_number(&buf, "memoryInGB", json_get_obj(resources, parts[i]));
		add_number(&buf, "cpu", json_get_obj(resources, parts[i]));
		buf_addc(&buf, '}');
	}
	buf_addc(&buf, '}');
	return buf_take(&buf);
}

struct limit_kind {
	const char *key, *words;
	double step; /* parts of a unit */
};

static const struct limit_kind limit_kinds[] = {
	{"cpu", "Cpu", 100}, {"memoryInGB", "MemoryInGB", 10}};

static int check_limit(const json_t *container, size_t i, const struct limit_kind *kind,
	double total, const char *group, struct err *err)
{
	const char *name = json_get_str(container, "name", "");
	const json_t *resources = json_object_get(properties_of(container), "resources");
	const json_t *limits = json_get_obj(resources, "limits");
	double request = json_get_num(json_get_obj(resources, "requests"), kind->key, 0);
	double limit = json_get_num(limits, kind->key, 0);
	_cleanup_free_ char *words = NULL;

	if (!json_object_get(limits, kind->key))
		return 0;
	if (limit < request - EPSILON) {
		words = requirement_words(resources);
		err_set(err, -EINVAL, "ResourceLimitsLessThanRequests",
			"The resource requirement '%s' in container '%s' of contain group '%s' is invalid. The '%s' limit "
			"value must be greater than or equal to the request value.",
			words, name, group, kind->words);
	} else if (!is_multiple(limit, kind->step)) {
		err_set(err, -EINVAL, "InvalidResourceLimit",
			"The '%s' limit '%.15g' in container '%s' of container group '%s' is invalid. It must be a multiple "
			"of %.15g.",
			kind->words, limit, name, group, 1 / kind->step);
	} else if (limit > total + EPSILON) {
		err_set(err, -EINVAL, "ContainerLimitGreaterThanContainerGroupTotalRequest",
			"The '%s' limit '%.15g' in container '%s' is greater than the total request '%.15g' of container "
			"group '%s'.",
			kind->words, limit, name, total, group);
	} else {
		return 0;
	}
	err_target(err, "properties.containers[%zu].properties.resources.limits.%s", i, kind->key);
	return -EINVAL;
}

static struct totals totals_of(const json_t *document)
{
	struct totals totals = {0};
	const json_t *container;
	size_t i;

	json_array_foreach (json_get_arr(properties_of(document), "containers"), i, container) {
		const json_t *requests =
			json_path(properties_of(container), "resources", "requests", NULL);

		totals.cpu += json_get_num(requests, "cpu", 0);
		totals.memory += json_get_num(requests, "memoryInGB", 0);
	}
	return totals;
}

static int check_resources(const json_t *document, const char *group, struct err *err)
{
	const json_t *containers = json_get_arr(properties_of(document), "containers");
	const json_t *container;
	struct totals totals;
	size_t i;
	int r = 0;

	json_array_foreach (containers, i, container) {
		r = check_requests(container, i, group, err);
		if (r < 0)
			return r;
	}
	totals = totals_of(document);
	json_array_foreach (containers, i, container) {
		for (size_t k = 0; k < ARRAY_SIZE(limit_kinds) && r == 0; k++)
			r = check_limit(container, i, &limit_kinds[k],
				k == 0 ? totals.cpu : totals.memory, group, err);
		if (r < 0)
			return r;
	}
	if (totals.cpu > GROUP_CPU_MAX + EPSILON || totals.memory > GROUP_MEMORY_MAX + EPSILON)
		return FAIL(err, "%s", "properties.containers", "InvalidResourceRequest",
			"The containers of container group '%s' request '%.15g' CPU and '%.15g' GB memory together. At most "
			"'%.15g' CPU and '%.15g' GB are allowed.",
			group, totals.cpu, totals.memory, GROUP_CPU_MAX, GROUP_MEMORY_MAX);
	return 0;
}

/* --- ports --- */

static bool is_udp(const json_t *port)
{
	return str_eq_nocase(json_get_str(port, "protocol", "TCP"), "UDP");
}

static bool same_port(const json_t *a, const json_t *b)
{
	return json_get_int(a, "port", 0) == json_get_int(b, "port", 0) && is_udp(a) == is_udp(b);
}

/* Whether one of the first n elements is the same port. */
static bool port_among(const json_t *ports, size_t n, const json_t *port)
{
	for (size_t i = 0; i < n; i++)
		if (same_port(json_array_get(ports, i), port))
			return true;
	return false;
}

/* All containers share one network, so that a port can belong to one of them only. */
static int check_container_ports(
	const json_t *containers, size_t i, const char *group, struct err *err)
{
	const json_t *container = json_array_get(containers, i);
	const json_t *ports = json_get_arr(properties_of(container), "ports");
	const char *name = json_get_str(container, "name", "");
	const json_t *port;
	size_t p;

	json_array_foreach (ports, p, port) {
		long long number = json_get_int(port, "port", 0);
		const char *protocol = is_udp(port) ? "UDP" : "TCP";
		int r = 0;

		if (port_among(ports, p, port))
			r = err_set(err, -EINVAL, "DuplicatePort",
				"The port '%lld' (%s) is there more than once in container '%s' of container group '%s'.",
				number, protocol, name, group);
		for (size_t j = 0; j < i && r == 0; j++) {
			const json_t *other = json_array_get(containers, j);
			const json_t *others = json_get_arr(properties_of(other), "ports");

			if (port_among(others, json_array_size(others), port))
				r = err_set(err, -EINVAL, "DuplicatePorts",
					"The port '%lld' (%s) is used by the containers '%s' and '%s' of container group "
					"'%s'. Containers of a group share one network: each port can belong to one of them.",
					number, protocol, json_get_str(other, "name", ""), name,
					group);
		}
		if (r < 0) {
			err_target(
				err, "properties.containers[%zu].properties.ports[%zu].port", i, p);
			return r;
		}
	}
	return 0;
}

static bool port_used(const json_t *containers, const json_t *port)
{
	const json_t *container;
	size_t i;

	json_array_foreach (containers, i, container) {
		const json_t *ports = json_get_arr(properties_of(container), "ports");

		if (port_among(ports, json_array_size(ports), port))
			return true;
	}
	return false;
}

static int check_address(const json_t *document, const char *group, struct err *err)
{
	const json_t *address = json_get_obj(properties_of(document), "ipAddress");
	const json_t *containers = json_get_arr(properties_of(document), "containers");
	const json_t *ports = json_get_arr(address, "ports"), *port;
	_cleanup_buf_ struct buf unused = BUF_INIT;
	size_t i;

	if (!address)
		return 0;
	if (str_eq(json_get_str(address, "type", ""), "Private"))
		return FAIL(err, "%s", "properties.ipAddress.type", "PrivateIPAddressNotSupported",
			"IP Address type in container group '%s' is invalid. Private IP address is only supported when "
			"network profile is defined.",
			group);
	if (json_array_size(ports) == 0)
		return FAIL(err, "%s", "properties.ipAddress.ports", "MissingIpAddressPorts",
			"The ports in the 'ipAddress' of container group '%s' cannot be empty.",
			group);
	json_array_foreach (ports, i, port) {
		if (port_among(ports, i, port))
			return FAIL(err, "properties.ipAddress.ports[%zu].port", i, "DuplicatePort",
				"The port '%lld' (%s) is there more than once in the 'ipAddress' of container group '%s'.",
				(long long)json_get_int(port, "port", 0),
				is_udp(port) ? "UDP" : "TCP", group);
		if (!port_used(containers, port))
			buf_printf(&unused, "%s%lld", unused.len ? "," : "",
				(long long)json_get_int(port, "port", 0));
	}
	if (unused.len)
		return FAIL(err, "%s", "properties.ipAddress.ports", "PortsNotExposed",
			"Following ports '%s' in the 'ipAddress' are not used by any container in container group '%s'.",
			buf_str(&unused), group);
	return 0;
}

/* --- registries --- */

static int check_registries(const json_t *document, const char *group, struct err *err)
{
	const json_t *credentials =
		json_get_arr(properties_of(document), "imageRegistryCredentials");
	const json_t *credential;
	size_t i;

	json_array_foreach (credentials, i, credential) {
		const char *server = json_get_str(credential, "server", "");

		if (strstr(server, "://"))
			return FAIL(err, "properties.imageRegistryCredentials[%zu].server", i,
				"InvalidImageRegistryCredential",
				"The registry server '%.200s' in container group '%s' is invalid. Give the host alone, "
				"without 'http://' or 'https://'.",
				server, group);
		for (size_t j = 0; j < i; j++)
			if (str_eq_nocase(
				    json_get_str(json_array_get(credentials, j), "server", ""),
				    server))
				return FAIL(err, "properties.imageRegistryCredentials[%zu].server",
					i, "DuplicateImageRegistryServer",
					"The registry server '%.200s' is there more than once in container group '%s'.",
					server, group);
		if (!json_object_get(credential, "username") ||
			!json_object_get(credential, "password"))
			return FAIL(err, "properties.imageRegistryCredentials[%zu]", i,
				"InvalidImageRegistryCredential",
				"The credential for the registry '%.200s' in container group '%s' needs both 'username' and "
				"'password'.",
				server, group);
	}
	return 0;
}

/* --- all of it --- */

static int check_containers(const json_t *document, const char *group, struct err *err)
{
	const json_t *containers = json_get_arr(properties_of(document), "containers");
	size_t n = json_array_size(containers);
	int r;

	r = check_count(containers, group, err);
	for (size_t i = 0; i < n && r == 0; i++)
		r = check_basics(containers, i, group, err);
	if (r == 0)
		r = check_resources(document, group, err);
	for (size_t i = 0; i < n && r == 0; i++)
		r = check_container_ports(containers, i, group, err);
	return r;
}

/* What is the same as leaving it out isn't kept, so that documents that mean the same are equal. */
static void drop_empty(json_t *document)
{
	static const char *const lists[] = {"ports", "command"};
	json_t *properties = json_get_obj(document, "properties");
	json_t *address = json_get_obj(properties, "ipAddress");
	json_t *container;
	size_t i;

	json_object_del(document, "identity"); /* of type None */
	if (!json_object_get(address, "dnsNameLabel"))
		json_object_del(address, "autoGeneratedDomainNameLabelScope");
	if (json_array_size(json_get_arr(properties, "imageRegistryCredentials")) == 0)
		json_object_del(properties, "imageRegistryCredentials");
	json_array_foreach (json_get_arr(properties, "containers"), i, container) {
		json_t *own = json_get_obj(container, "properties");

		for (size_t l = 0; l < ARRAY_SIZE(lists); l++)
			if (json_array_size(json_get_arr(own, lists[l])) == 0)
				json_object_del(own, lists[l]);
		if (json_object_size(json_path(own, "resources", "limits", NULL)) == 0)
			json_object_del(json_get_obj(own, "resources"), "limits");
	}
}

static int content_validate(const struct schema_object *object, json_t *document,
	const struct validate_context *context, struct err *err)
{
	struct schema_context schema = {context->api_version, context->group_name};
	const char *group = context->group_name;
	int r;

	r = check_identity(document, context, err);
	if (r == 0)
		r = schema_validate(object, document, &schema, err);
	if (r == 0)
		r = arm_tags_check(json_object_get(document, "tags"), err);
	if (r == 0)
		r = check_location(document, context, err);
	if (r < 0)
		return r;
	if (!json_get_str(properties_of(document), "osType", NULL))
		return FAIL(err, "%s", "properties.osType", "InvalidOsType",
			"The 'osType' for container group '%s' is invalid. The value must be one of 'Windows,Linux'.",
			"<null>");
	keep_secrets(document, context->old);
	r = check_containers(document, group, err);
	if (r == 0)
		r = check_address(document, group, err);
	if (r == 0)
		r = check_registries(document, group, err);
	if (r == 0)
		drop_empty(document);
	return r;
}

int group_validate(json_t *document, const struct validate_context *context, struct err *err)
{
	int r = check_name(context->group_name, err);

	if (r == 0)
		r = check_timeout(document, context, err);
	return r < 0 ? r : content_validate(&group_schema, document, context, err);
}

bool profile_name_valid(const char *name)
{
	return strlen(name) <= 63 && schema_matches(PROFILE_NAME_RULE, name);
}

int profile_validate(json_t *document, const struct validate_context *context, struct err *err)
{
	if (!profile_name_valid(context->group_name))
		return FAIL(err, "%s", "name", "InvalidContainerGroupProfileName",
			"The container group profile name '%.80s' is invalid. It must have between 1 and 63 "
			"characters and match the regex '" PROFILE_NAME_RULE "'.",
			context->group_name);
	return content_validate(&profile_schema, document, context, err);
}

/* --- updates --- */

static bool differs(const json_t *old, const json_t *new, const char *key)
{
	const json_t *a = json_object_get(properties_of(old), key),
		     *b = json_object_get(properties_of(new), key);

	return !(a == b || (a && b && json_equal(a, b)));
}

/* The path of the first container whose resources changed, or NULL. */
static char *resources_changed(const json_t *old, const json_t *new)
{
	const json_t *was = json_get_arr(properties_of(old), "containers");
	const json_t *is = json_get_arr(properties_of(new), "containers");
	const json_t *container;
	size_t i;

	json_array_foreach (is, i, container) {
		const json_t *before = find_by(was, "name", json_get_str(container, "name", ""));

		if (!before)
			return xasprintf("properties.containers[%zu]", i);
		if (differs(before, container, "resources"))
			return xasprintf("properties.containers[%zu].properties.resources", i);
	}
	return json_array_size(is) == json_array_size(was) ? NULL
							   : xstrdup("properties.containers");
}

int group_validate_update(
	const json_t *old, const json_t *new, const char *group_name, struct err *err)
{
	_cleanup_free_ char *path = NULL;

	if (differs(old, new, "osType"))
		path = xstrdup("properties.osType");
	else if (differs(old, new, "restartPolicy"))
		path = xstrdup("properties.restartPolicy");
	else if (!json_path(old, "properties", "ipAddress", NULL) !=
		 !json_path(new, "properties", "ipAddress", NULL))
		path = xstrdup("properties.ipAddress");
	else
		path = resources_changed(old, new);
	if (!path)
		return 0;
	return FAIL(err, "%s", path, "InvalidContainerGroupUpdate",
		"The updates on container group '%s' are invalid. If you are going to update the os type, restart policy, "
		"network profile, CPU, memory or GPU resources for a container group, you must delete it first and then "
		"create a new one.",
		group_name);
}
