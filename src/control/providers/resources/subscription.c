/* The one subscription, tenant and location of a Berth, and its providers. */
#include <ctype.h>

#include "control/providers/resources/internal.h"

/* --- subscriptions, tenants, locations --- */

static json_t *subscription(const struct arm_services *s)
{
	_cleanup_free_ char *id = xasprintf("/subscriptions/%s", s->subscription_id);

	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:s, s:s, s:s}, s:s, s:[]}", "id", id,
		"subscriptionId", s->subscription_id, "tenantId", s->tenant_id, "displayName",
		"Berth", "state", "Enabled", "subscriptionPolicies", "locationPlacementId",
		"Internal_2014-09-01", "quotaId", "Internal_2014-09-01", "spendingLimit", "Off",
		"authorizationSource", "RoleBased", "managedByTenants");
}

HANDLER(subscriptions_list)
{
	response->body = json_pack("{s:[o], s:{s:s, s:i}}", "value",
		subscription(arm_services(request)), "count", "type", "Total", "value", 1);
	return 0;
}

HANDLER(subscriptions_get)
{
	response->body = subscription(arm_services(request));
	return 0;
}

HANDLER(tenants_list)
{
	const struct arm_services *s = arm_services(request);
	_cleanup_free_ char *id = xasprintf("/tenants/%s", s->tenant_id);

	response->body = json_pack("{s:[{s:s, s:s, s:s, s:s, s:[s], s:s}]}", "value", "id", id,
		"tenantId", s->tenant_id, "displayName", "Berth", "defaultDomain", s->zone,
		"domains", s->zone, "tenantCategory", "Home");
	return 0;
}

HANDLER(locations_list)
{
	const struct arm_services *s = arm_services(request);
	_cleanup_free_ char *id =
		xasprintf("/subscriptions/%s/locations/%s", s->subscription_id, s->region);
	_cleanup_free_ char *display = xstrdup(s->region);

	display[0] = (char)toupper((unsigned char)display[0]);
	response->body =
		json_pack("{s:[{s:s, s:s, s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s, s:[]}}]}",
			"value", "id", id, "name", s->region, "type", "Region", "displayName",
			display, "regionalDisplayName", display, "metadata", "regionType",
			"Physical", "regionCategory", "Recommended", "geographyGroup", "Berth",
			"latitude", "0", "longitude", "0", "pairedRegion");
	return 0;
}

HANDLER(locks_list)
{
	const char *rg = arm_param(request, "rg");
	int r = rg ? arm_resource_group_get(arm_services(request), rg, err, NULL) : 0;

	if (r < 0)
		return r;
	response->body = json_pack("{s:[]}", "value");
	return 0;
}

/* --- providers --- */

/* Microsoft.Resources itself can't be unregistered. */
static bool always_registered(const struct arm_provider *provider)
{
	return provider == &resources_provider;
}

static json_t *provider_object(
	const struct arm_services *s, const struct arm_provider *provider, const char *sub)
{
	_cleanup_free_ char *id = sub ? xasprintf("/subscriptions/%s/providers/%s",
						s->subscription_id, provider->name)
				      : xasprintf("/providers/%s", provider->name);
	bool registered =
		always_registered(provider) || arm_namespace_registered(s, provider->name);
	json_t *object = json_pack("{s:s, s:s, s:o}", "id", id, "namespace", provider->name,
		"resourceTypes", provider->resource_types(s));

	if (sub) {
		json_put_str(
			object, "registrationState", registered ? "Registered" : "Unregistered");
		json_put_str(object, "registrationPolicy",
			always_registered(provider) ? "RegistrationFree" : "RegistrationRequired");
	}
	return object;
}

HANDLER(providers_list)
{
	const struct arm_provider *const *p = arm_providers(request);
	json_t *list = json_array();

	for (; *p; p++)
		if ((*p)->resource_types)
			json_array_append_new(list, provider_object(arm_services(request), *p,
							    arm_param(request, "sub")));
	response->body = json_pack("{s:o}", "value", list);
	return 0;
}

static int provider_find(
	const struct arm_request *request, struct err *err, const struct arm_provider **ret)
{
	const char *name = arm_param(request, "namespace");
	const struct arm_provider *const *p = arm_providers(request);

	for (; *p; p++)
		if ((*p)->resource_types && str_eq_nocase((*p)->name, name)) {
			*ret = *p;
			return 0;
		}
	return err_set(err, -ENOENT, "InvalidResourceNamespace",
		"The resource namespace '%.256s' is invalid.", name);
}

HANDLER(providers_get)
{
	const struct arm_provider *provider;
	int r = provider_find(request, err, &provider);

	if (r < 0)
		return r;
	response->body =
		provider_object(arm_services(request), provider, arm_param(request, "sub"));
	return 0;
}

/* What is unregistered has a record; a Berth begins with everything registered. */
static int registration_set(struct arm_request *request, bool registered,
	struct arm_response *response, struct err *err)
{
	const struct arm_provider *provider;
	_cleanup_free_ char *lower = NULL, *key = NULL;
	int r = provider_find(request, err, &provider);

	if (r < 0)
		return r;
	lower = str_lower_dup(provider->name);
	key = xasprintf("meta/unregistered/%s", lower);
	if (!always_registered(provider) &&
		registered != arm_namespace_registered(arm_services(request), provider->name)) {
		struct store *store = arm_services(request)->store;

		r = registered ? store_delete(store, key, STORE_ANY, err)
			       : store_put(store, key, "{}", 2, STORE_ANY, err, NULL);
		if (r < 0)
			return r;
	}
	response->body =
		provider_object(arm_services(request), provider, arm_param(request, "sub"));
	return 0;
}

HANDLER(providers_register)
{
	return registration_set(request, true, response, err);
}

HANDLER(providers_unregister)
{
	return registration_set(request, false, response, err);
}
