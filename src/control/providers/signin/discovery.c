/* The documents that tell a client where everything is. */
#include "control/providers/signin/internal.h"

/* --- /metadata/endpoints --- */

static void put_fmt(json_t *object, const char *key, const char *prefix, const char *suffix)
{
	_cleanup_free_ char *value = xasprintf("%s%s", prefix, suffix);

	json_put_str(object, key, value);
}

/* What az cloud register reads. */
static json_t *metadata_2015(const struct arm_services *s)
{
	json_t *cloud = json_object();
	json_t *authentication = json_pack("{s:[s]}", "audiences", s->endpoint);

	put_fmt(cloud, "galleryEndpoint", s->endpoint, "/gallery");
	put_fmt(cloud, "graphEndpoint", s->endpoint, "/graph");
	put_fmt(cloud, "portalEndpoint", s->endpoint, "/portal");
	put_fmt(authentication, "loginEndpoint", s->endpoint, "/adfs");
	json_object_set_new(cloud, "authentication", authentication);
	return cloud;
}

static json_t *suffixes(const struct arm_services *s)
{
	json_t *names = json_object();

	put_fmt(names, "acrLoginServer", "azurecr.", s->zone);
	put_fmt(names, "storage", "core.", s->zone);
	put_fmt(names, "keyVaultDns", "vault.", s->zone);
	put_fmt(names, "sqlServerHostname", "database.", s->zone);
	put_fmt(names, "azureDataLakeStoreFileSystem", "azuredatalakestore.", s->zone);
	put_fmt(names, "azureDataLakeAnalyticsCatalogAndJob", "azuredatalakeanalytics.", s->zone);
	return names;
}

/* What ARM_CLOUD_METADATA_URL and Terraform read. Services that Berth hasn't are named all the
 * same: clients refuse a cloud that lacks one. */
static json_t *metadata_2019(const struct arm_services *s)
{
	static const struct {
		const char *key, *path;
	} urls[] = {
		{"portal", "/portal"},
		{"gallery", "/gallery"},
		{"graph", "/graph"},
		{"graphAudience", "/graph"},
		{"media", "/media"},
		{"batch", "/batch"},
		{"sqlManagement", "/sql"},
		{"activeDirectoryDataLake", "/datalake"},
		{"vmImageAliasDoc", "/aliases.json"},
		{"microsoftGraphResourceId", "/graph"},
		{"logAnalyticsResourceId", "/loganalytics"},
		{"resourceManager", ""},
	};
	json_t *cloud = json_pack("{s:s, s:{s:[s], s:s, s:s}}", "name", "berth", "authentication",
		"audiences", s->endpoint, "tenant", s->tenant_id, "identityProvider", "ADFS");

	put_fmt(json_get_obj(cloud, "authentication"), "loginEndpoint", s->endpoint, "/adfs");
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++)
		put_fmt(cloud, urls[i].key, s->endpoint, urls[i].path);
	json_object_set_new(cloud, "suffixes", suffixes(s));
	return cloud;
}

/* Three shapes by date: an object with few names, a list of clouds, one cloud. */
int signin_metadata(struct arm_request *request, struct arm_response *response, struct err *err)
{
	const struct arm_services *s = arm_services(request);
	const char *version = arm_query(request, "api-version");

	if (!version || strncmp(version, "2019", 4) < 0)
		response->body = metadata_2015(s);
	else if (strncmp(version, "2022-09-01", 10) < 0)
		response->body = json_pack("[o]", metadata_2019(s));
	else
		response->body = metadata_2019(s);
	return 0;
}

/* --- OpenID Connect Discovery 1.0 --- */

/* az takes the tenant's id from the issuer's path; MSAL takes the cache's realm from the token
 * endpoint's, so that one stays beneath the authority that was asked. */
static int openid(struct arm_request *request, const char *authority_path, const char *oauth2,
	struct arm_response *response, struct err *err)
{
	const struct arm_services *s = arm_services(request);
	_cleanup_free_ char *authority = NULL, *issuer = NULL, *authorize = NULL, *token = NULL,
			    *keys = NULL;
	int r = signin_tenant_check(request, err);

	if (r < 0)
		return r;
	authority = xasprintf("%s/%s", s->endpoint, authority_path);
	issuer = xasprintf("%s/%s", s->endpoint, s->tenant_id);
	authorize = xasprintf("%s%s/authorize", authority, oauth2);
	token = xasprintf("%s%s/token", authority, oauth2);
	keys = xasprintf("%s/discovery/keys", authority);
	response->body = json_pack(
		"{s:s, s:s, s:s, s:s, s:[s], s:[s], s:[s], s:[s, s], s:[s], s:s, s:s}", "issuer",
		issuer, "authorization_endpoint", authorize, "token_endpoint", token, "jwks_uri",
		keys, "token_endpoint_auth_methods_supported", "client_secret_post",
		"grant_types_supported", "client_credentials", "response_types_supported", "token",
		"scopes_supported", "openid", ".default", "id_token_signing_alg_values_supported",
		"RS256", "tenant_region_scope", s->region, "cloud_instance_name", "berth");
	return 0;
}

int signin_openid(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return openid(request, "adfs", "/oauth2", response, err);
}

int signin_openid_tenant(
	struct arm_request *request, struct arm_response *response, struct err *err)
{
	return openid(request, arm_param(request, "tenant"), "/oauth2/v2.0", response, err);
}

int signin_keys(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_free_ char *keys = NULL;
	int r = signin_tenant_check(request, err);

	if (r < 0)
		return r;
	keys = auth_jwks(arm_services(request)->auth);
	return json_parse(keys, strlen(keys), JSON_DEPTH_MAX, err, &response->body);
}
