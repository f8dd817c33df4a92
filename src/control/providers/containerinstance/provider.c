/* Microsoft.ContainerInstance: the table of its routes, and what the resource groups' provider asks
 * of it. */
#include "control/providers/containerinstance/containerinstance.h"
#include "control/providers/containerinstance/internal.h"

#define NS "Microsoft.ContainerInstance"
#define SUB "/subscriptions/{subscriptionId}"
#define GROUPS SUB "/resourceGroups/{resourceGroupName}/providers/" NS "/containerGroups"
#define GROUP GROUPS "/{containerGroupName}"
#define CONTAINER GROUP "/containers/{containerName}"
#define PROFILES SUB "/resourceGroups/{resourceGroupName}/providers/" NS "/containerGroupProfiles"
#define PROFILE PROFILES "/{containerGroupProfileName}"
#define PROFILES_SINCE "2024-05-01-preview"
#define SUBNET_LINK                                                                                \
	SUB "/resourceGroups/{resourceGroupName}/providers/Microsoft.Network/virtualNetworks/"     \
	    "{virtualNetworkName}/subnets/{subnetName}/providers/" NS                              \
	    "/serviceAssociationLinks/default"
#define LOCATION SUB "/providers/" NS "/locations/{location}"

static const struct arm_route routes[] = {
	{"PUT", GROUP, NULL, NS "/containerGroups/write", groups_put},
	{"GET", GROUP, NULL, NS "/containerGroups/read", groups_get},
	{"PATCH", GROUP, "2018-02-01-preview", NS "/containerGroups/write", groups_patch},
	{"DELETE", GROUP, NULL, NS "/containerGroups/delete", groups_delete},
	{"GET", GROUPS, NULL, NS "/containerGroups/read", groups_list},
	{"GET", SUB "/providers/" NS "/containerGroups", NULL, NS "/containerGroups/read",
		groups_list_all},
	{"POST", GROUP "/start", "2018-10-01", NS "/containerGroups/start/action", groups_start},
	{"POST", GROUP "/stop", "2018-06-01", NS "/containerGroups/stop/action", groups_stop},
	{"POST", GROUP "/restart", "2018-06-01", NS "/containerGroups/restart/action",
		groups_restart},
	{"GET", GROUP "/outboundNetworkDependenciesEndpoints", "2021-07-01",
		NS "/containerGroups/outboundNetworkDependenciesEndpoints/read", groups_outbound},
	{"GET", CONTAINER "/logs", NULL, NS "/containerGroups/containers/logs/read",
		containers_logs},
	{"POST", CONTAINER "/exec", "2018-02-01-preview",
		NS "/containerGroups/containers/exec/action", containers_exec},
	{"POST", CONTAINER "/attach", "2020-11-01", NS "/containerGroups/containers/attach/action",
		containers_attach},
	{"GET", LOCATION "/operations/{operationId}", NULL, NS "/locations/operations/read",
		operations_get},
	{"GET", LOCATION "/operationResults/{operationId}", NULL,
		NS "/locations/operationResults/read", operations_result},
	{"GET", LOCATION "/usages", "2017-12-01-preview", NS "/locations/usages/read",
		locations_usages},
	{"GET", LOCATION "/capabilities", "2018-10-01", NS "/locations/capabilities/read",
		locations_capabilities},
	{"GET", LOCATION "/cachedImages", "2018-10-01", NS "/locations/cachedImages/read",
		locations_cached_images},
	{"DELETE", SUBNET_LINK, "2022-10-01-preview", NS "/serviceassociationlinks/delete",
		subnets_delete_link},
	{"PUT", PROFILE, PROFILES_SINCE, NS "/containerGroupProfiles/write", profiles_put},
	{"GET", PROFILE, PROFILES_SINCE, NS "/containerGroupProfiles/read", profiles_get},
	{"PATCH", PROFILE, PROFILES_SINCE, NS "/containerGroupProfiles/write", profiles_patch},
	{"DELETE", PROFILE, PROFILES_SINCE, NS "/containerGroupProfiles/delete", profiles_delete},
	{"GET", PROFILE "/revisions", PROFILES_SINCE, NS "/containerGroupProfiles/read",
		profiles_revisions},
	{"GET", PROFILE "/revisions/{revisionNumber}", PROFILES_SINCE,
		NS "/containerGroupProfiles/read", profiles_revision},
	{"GET", PROFILES, PROFILES_SINCE, NS "/containerGroupProfiles/read", profiles_list},
	{"GET", SUB "/providers/" NS "/containerGroupProfiles", PROFILES_SINCE,
		NS "/containerGroupProfiles/read", profiles_list_all},
	{"GET", "/providers/" NS "/operations", "2017-10-01-preview", NULL, operations_list},
};

/* --- for resource groups --- */

static char *prefix_of(const char *rg)
{
	_cleanup_free_ char *key = arm_resource_group_key(rg);

	return xasprintf("cg/%s/", key + strlen("rg/"));
}

static int delete_one(
	const struct arm_services *services, const struct store_entry *entry, struct err *err)
{
	struct group group = {.key = xstrdup(entry->key), .revision = entry->revision};
	int r;

	r = record_parse(entry, err, &group.record);
	if (r == 0)
		r = group_remove(services, &group, err);
	group_done(&group);
	return r;
}

static int delete_groups(const struct arm_services *services, const char *rg, struct err *err)
{
	_cleanup_free_ char *prefix = prefix_of(rg);

	for (;;) {
		_cleanup_(store_list_done) struct store_list list = {0};
		int r;

		/* Again until there is nothing: a record may change between the list and its
		 * deletion. */
		r = store_list(services->store, prefix, NULL, 256, err, &list);
		if (r < 0 || list.n == 0)
			return r;
		for (size_t i = 0; i < list.n; i++) {
			r = delete_one(services, &list.entries[i], err);
			if (r < 0 && r != -EAGAIN)
				return r;
		}
	}
}

static int list_resources(
	const struct arm_services *services, const char *rg, struct err *err, json_t *ret_array)
{
	_cleanup_free_ char *prefix = prefix_of(rg);
	int r = records_list_resources(services, prefix, GROUPS_TYPE, err, ret_array);

	return r < 0 ? r : profiles_list_resources(services, rg, err, ret_array);
}

static int delete_group(const struct arm_services *services, const char *rg, struct err *err)
{
	int r = delete_groups(services, rg, err);

	return r < 0 ? r : profiles_delete_group(services, rg, err);
}

static json_t *versions_json(const char *since)
{
	json_t *versions = json_array();
	size_t n = 0;

	while (containerinstance_versions[n])
		n++;
	while (n-- > 0) /* newest first, as ARM lists them */
		if (schema_version_has(since, NULL, containerinstance_versions[n]))
			json_array_append_new(versions, json_string(containerinstance_versions[n]));
	return versions;
}

static json_t *resource_types(const struct arm_services *services)
{
	static const struct {
		const char *name, *since;
	} types[] = {{"containerGroups", NULL}, {"containerGroupProfiles", PROFILES_SINCE},
		{"containerGroupProfiles/revisions", PROFILES_SINCE}, {"locations", NULL},
		{"locations/operations", NULL}, {"locations/operationResults", NULL},
		{"locations/usages", "2017-12-01-preview"},
		{"locations/capabilities", "2018-10-01"}, {"locations/cachedImages", "2018-10-01"},
		{"serviceAssociationLinks", "2022-10-01-preview"},
		{"operations", "2017-10-01-preview"}};
	json_t *array = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		json_array_append_new(array,
			json_pack("{s:s, s:[s], s:o}", "resourceType", types[i].name, "locations",
				services->region, "apiVersions", versions_json(types[i].since)));
	return array;
}

const struct arm_provider containerinstance_provider = {
	.name = NS,
	.routes = routes,
	.n_routes = ARRAY_SIZE(routes),
	.versions = containerinstance_versions,
	.list_resources = list_resources,
	.delete_group = delete_group,
	.resource_types = resource_types,
};
