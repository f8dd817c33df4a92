#include "control/providers/resources/internal.h"

#define SUB "/subscriptions/{sub}"
#define GROUP SUB "/resourceGroups/{rg}"
#define NS "Microsoft.Resources/"

static const struct arm_route routes[] = {
	{"GET", "/subscriptions", NULL, NULL, subscriptions_list, 0},
	{"GET", SUB, NULL, NS "subscriptions/read", subscriptions_get, 0},
	{"GET", "/tenants", NULL, NULL, tenants_list, 0},
	{"GET", SUB "/locations", NULL, NS "subscriptions/locations/read", locations_list, 0},

	{"GET", "/providers", NULL, NULL, providers_list, 0},
	{"GET", "/providers/{namespace}", NULL, NULL, providers_get, 0},
	{"GET", SUB "/providers", NULL, NS "subscriptions/providers/read", providers_list, 0},
	{"GET", SUB "/providers/{namespace}", NULL, NS "subscriptions/providers/read",
		providers_get, 0},
	{"POST", SUB "/providers/{namespace}/register", NULL,
		NS "subscriptions/providers/register/action", providers_register, 0},
	{"POST", SUB "/providers/{namespace}/unregister", NULL,
		NS "subscriptions/providers/unregister/action", providers_unregister, 0},

	{"GET", SUB "/resourceGroups", NULL, NS "subscriptions/resourceGroups/read",
		resource_groups_list, 0},
	{"GET", GROUP, NULL, NS "subscriptions/resourceGroups/read", resource_groups_get, 0},
	{"HEAD", GROUP, NULL, NS "subscriptions/resourceGroups/read", groups_head, 0},
	{"PUT", GROUP, NULL, NS "subscriptions/resourceGroups/write", resource_groups_put, 0},
	{"PATCH", GROUP, NULL, NS "subscriptions/resourceGroups/write", resource_groups_patch, 0},
	{"DELETE", GROUP, NULL, NS "subscriptions/resourceGroups/delete", resource_groups_delete,
		0},
	{"GET", SUB "/operationresults/{id}", NULL, NS "subscriptions/operationresults/read",
		groups_delete_poll, 0},

	{"GET", SUB "/resources", NULL, NS "subscriptions/resources/read", resources_list, 0},
	{"GET", GROUP "/resources", NULL, NS "subscriptions/resourceGroups/resources/read",
		resources_list_group, 0},

	/* Berth has no locks: az asks before it deletes, and an empty list is the truth. */
	{"GET", SUB "/providers/Microsoft.Authorization/locks", NULL,
		"Microsoft.Authorization/locks/read", locks_list, 0},
	{"GET", GROUP "/providers/Microsoft.Authorization/locks", NULL,
		"Microsoft.Authorization/locks/read", locks_list, 0},
	{"GET",
		GROUP
		"/providers/{namespace}/{type}/{name}/providers/Microsoft.Authorization/locks",
		NULL, "Microsoft.Authorization/locks/read", locks_list, 0},
};

static json_t *resource_types(const struct arm_services *services)
{
	static const char *const types[] = {"tenants", "providers", "resourceGroups",
		"subscriptions", "subscriptions/resourceGroups", "subscriptions/providers",
		"subscriptions/locations", "subscriptions/operationresults", "resources"};
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		json_array_append_new(
			list, json_pack("{s:s, s:[s], s:[s, s, s, s, s]}", "resourceType", types[i],
				      "locations", services->region, "apiVersions", "2022-09-01",
				      "2021-04-01", "2020-06-01", "2019-10-01", "2018-05-01"));
	return list;
}

const struct arm_provider resources_provider = {
	.name = "Microsoft.Resources",
	.routes = routes,
	.n_routes = ARRAY_SIZE(routes),
	.resource_types = resource_types,
};
