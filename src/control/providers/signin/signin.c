#include "control/providers/signin/internal.h"

#define OPEN (ARM_ROUTE_ANONYMOUS | ARM_ROUTE_NO_VERSION)

static const struct arm_route routes[] = {
	{"GET", "/metadata/endpoints", NULL, NULL, signin_metadata, OPEN},
	{"GET", "/adfs/.well-known/openid-configuration", NULL, NULL, signin_openid, OPEN},
	{"GET", "/adfs/v2.0/.well-known/openid-configuration", NULL, NULL, signin_openid, OPEN},
	{"GET", "/adfs/{tenant}/.well-known/openid-configuration", NULL, NULL, signin_openid, OPEN},
	{"GET", "/adfs/{tenant}/v2.0/.well-known/openid-configuration", NULL, NULL, signin_openid,
		OPEN},
	{"GET", "/{tenant}/.well-known/openid-configuration", NULL, NULL, signin_openid_tenant,
		OPEN},
	{"GET", "/{tenant}/v2.0/.well-known/openid-configuration", NULL, NULL, signin_openid_tenant,
		OPEN},
	{"GET", "/adfs/discovery/keys", NULL, NULL, signin_keys, OPEN},
	{"GET", "/{tenant}/discovery/keys", NULL, NULL, signin_keys, OPEN},
	{"GET", "/{tenant}/discovery/v2.0/keys", NULL, NULL, signin_keys, OPEN},
	{"POST", "/adfs/oauth2/token", NULL, NULL, signin_token, OPEN},
	{"POST", "/adfs/oauth2/v2.0/token", NULL, NULL, signin_token, OPEN},
	{"POST", "/adfs/{tenant}/oauth2/token", NULL, NULL, signin_token, OPEN},
	{"POST", "/{tenant}/oauth2/token", NULL, NULL, signin_token, OPEN},
	{"POST", "/{tenant}/oauth2/v2.0/token", NULL, NULL, signin_token, OPEN},
};

const struct arm_provider signin_provider = {
	.name = "signin",
	.routes = routes,
	.n_routes = ARRAY_SIZE(routes),
};

int signin_tenant_check(const struct arm_request *request, struct err *err)
{
	const struct arm_services *services = arm_services(request);
	const char *tenant = arm_param(request, "tenant");

	if (!tenant || str_eq_nocase(tenant, services->tenant_id) ||
		str_eq_nocase(tenant, "adfs") || str_eq_nocase(tenant, services->zone))
		return 0;
	return err_set(err, -ENOENT, "TenantNotFound",
		"AADSTS90002: Tenant '%.256s' not found. Check to make sure you have the correct tenant ID "
		"and are signing into the correct cloud.",
		tenant);
}
