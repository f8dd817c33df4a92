/* What a region has: use, sizes, images. Sizes and images are asked of the node that has them. */
#include <math.h>

#include "control/providers/containerinstance/internal.h"
#include "link/link.h"

#define CALL_TIMEOUT_MS 5000
#define GIB 1073741824.0

static int check_location(struct arm_request *request, struct err *err)
{
	const char *location = arm_param(request, "location");
	const char *region = arm_services(request)->region;

	if (str_eq_nocase(location, region))
		return 0;
	return err_set(err, -EINVAL, "LocationNotAvailableForResourceType",
		"The provided location '%.80s' is not available for resource type '" GROUPS_TYPE
		"'. List of available regions for the resource type is '%s'.",
		location, region);
}

/* schedule keeps `node/<name>` of each node that said hello. */
int node_pick(const struct arm_services *services, struct err *err, char **ret)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	int r;

	r = store_list(services->store, "node/", NULL, 1, err, &list);
	if (r < 0)
		return r;
	if (!services->link || list.n == 0)
		return err_set(err, -EHOSTUNREACH, "NodeUnavailable", "No node is connected.");
	*ret = xstrdup(list.entries[0].key + strlen("node/"));
	return 0;
}

static int node_call(struct arm_request *request, const char *method, struct err *err, json_t **ret)
{
	const struct arm_services *services = arm_services(request);
	_cleanup_free_ char *node = NULL;
	int r;

	r = check_location(request, err);
	if (r == 0)
		r = node_pick(services, err, &node);
	if (r == 0)
		r = link_server_call(
			services->link, node, method, json_object(), CALL_TIMEOUT_MS, err, ret);
	return r;
}

/* --- usages --- */

static json_t *usage(const char *name, const char *words, int64_t used, int64_t limit)
{
	return json_pack("{s:s, s:I, s:I, s:{s:s, s:s}}", "unit", "Count", "currentValue",
		(json_int_t)used, "limit", (json_int_t)limit, "name", "value", name,
		"localizedValue", words);
}

int locations_usages(struct arm_request *request, struct arm_response *response, struct err *err)
{
	const struct arm_services *services = arm_services(request);
	struct quota_use use = {0};
	int r;

	r = check_location(request, err);
	if (r == 0)
		r = quota_used(services, err, &use);
	if (r < 0)
		return r;
	response->body = json_pack("{s:[o, o]}", "value",
		usage("ContainerGroups", "Container Groups", use.groups, services->quota_groups),
		usage("StandardCores", "Standard Cores", (use.centicores + 99) / 100,
			services->quota_cores));
	return 0;
}

/* --- capabilities, images --- */

int locations_capabilities(
	struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_json_ json_t *capacity = NULL;
	double cpus, memory;
	int r;

	r = node_call(request, "capacity", err, &capacity);
	if (r < 0)
		return r;
	cpus = fmin(json_get_num(capacity, "cpus", 0), 31);
	memory = fmin(floor(json_get_num(capacity, "memoryBytes", 0) / GIB * 10) / 10, 240);
	response->body = json_pack("{s:[{s:s, s:s, s:s, s:s, s:s, s:{s:f, s:f, s:f}}]}", "value",
		"resourceType", "containerGroups", "osType", "Linux", "location",
		arm_services(request)->region, "ipAddressType", "Public", "gpu", "None",
		"capabilities", "maxMemoryInGB", memory, "maxCpu", cpus, "maxGpuCount", 0.0);
	return 0;
}

int locations_cached_images(
	struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_json_ json_t *images = NULL;
	json_t *value;
	const json_t *image;
	size_t i;
	int r;

	r = node_call(request, "images", err, &images);
	if (r < 0)
		return r;
	value = json_array();
	json_array_foreach (json_get_arr(images, "images"), i, image)
		json_array_append_new(value, json_pack("{s:s, s:s}", "osType", "Linux", "image",
						     json_get_str(image, "reference", "")));
	response->body = json_pack("{s:o}", "value", value);
	return 0;
}

/* --- subnets --- */

/* No subnet here is tied to container instances: there are no virtual networks. */
int subnets_delete_link(struct arm_request *request, struct arm_response *response, struct err *err)
{
	response->status = 204;
	return arm_resource_group_get(
		arm_services(request), arm_param(request, "resourceGroupName"), err, NULL);
}
