/* What handlers see of a request, and the checks that come before them. */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/time.h"
#include "control/arm/internal.h"

/* --- accessors --- */

const struct arm_services *arm_services(const struct arm_request *request)
{
	return &request->arm->services;
}

const struct arm_provider *const *arm_providers(const struct arm_request *request)
{
	return request->arm->providers;
}

const char *arm_param(const struct arm_request *request, const char *name)
{
	const struct arm_leaf *leaf = request->match.leaf;

	for (size_t i = 0; i < leaf->n_names; i++)
		if (str_eq(leaf->names[i], name))
			return request->match.values[i];
	return NULL;
}

const char *arm_query(const struct arm_request *request, const char *name)
{
	return arm_pairs_get(&request->query, name);
}

const char *arm_header(const struct arm_request *request, const char *name)
{
	return request->transport->header(request->exchange, name);
}

const char *arm_api_version(const struct arm_request *request)
{
	return request->api_version;
}

const struct principal *arm_principal(const struct arm_request *request)
{
	return request->has_principal ? &request->principal : NULL;
}

const char *arm_body_raw(const struct arm_request *request, size_t *ret_len)
{
	*ret_len = request->http->body_len;
	return request->http->body;
}

static int content_invalid(struct err *err, const char *why)
{
	return err_set(err, -EINVAL, "InvalidRequestContent",
		"The request content was invalid and could not be deserialized: '%s'.", why);
}

int arm_body(struct arm_request *request, struct err *err, json_t **ret)
{
	const char *type = arm_header(request, "content-type");
	size_t type_len = type ? strcspn(type, "; ") : 0;
	struct err parse = {0};
	json_t *body = NULL;

	if (type && (type_len != 16 || strncasecmp(type, "application/json", 16) != 0))
		return err_set(err, -EINVAL, "UnsupportedMediaType",
			"The content media type '%.64s' is not supported. Only 'application/json' is "
			"supported.",
			type);
	if (!request->body) {
		if (json_parse(request->http->body, request->http->body_len, JSON_DEPTH_MAX, &parse,
			    &body) < 0)
			return content_invalid(err, parse.message);
		if (!json_is_object(body)) {
			json_decref(body);
			return content_invalid(err, "The content must be a JSON object.");
		}
		request->body = body;
	}
	*ret = request->body;
	return 0;
}

void arm_response_header(struct arm_response *response, const char *name, const char *fmt, ...)
{
	size_t i = response->n_headers;
	va_list ap;
	int n;

	assert(i < ARRAY_SIZE(response->headers));
	str_copy(response->headers[i].name, sizeof(response->headers[i].name), name);
	va_start(ap, fmt);
	n = vsnprintf(response->headers[i].value, sizeof(response->headers[i].value), fmt, ap);
	va_end(ap);
	/* A URL cut short would send the client somewhere else: better none. */
	if (n < 0 || (size_t)n >= sizeof(response->headers[i].value)) {
		log_error("header %s is too long", name);
		return;
	}
	for (char *c = response->headers[i].value; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	response->n_headers++;
}

void arm_request_set_state(struct arm_request *request, void *state, void (*free_fn)(void *))
{
	if (request->state && request->state_free)
		request->state_free(request->state);
	request->state = state;
	request->state_free = free_fn;
}

void *arm_request_state(const struct arm_request *request)
{
	return request->state;
}

/* --- paging --- */

int arm_page(struct arm_request *request, struct err *err, size_t *ret_limit, char **ret_after)
{
	const char *top = arm_query(request, "$top"), *token = arm_query(request, "$skiptoken");
	_cleanup_free_ unsigned char *after = NULL;
	uint64_t limit = ARM_PAGE_MAX;
	size_t len = 0;

	if (top && (str_to_u64(top, INT32_MAX, &limit) < 0 || limit < 1))
		return err_set(err, -EINVAL, "InvalidQueryParameterValue",
			"The value '%.64s' of the query parameter '$top' is invalid: it must be a positive "
			"integer.",
			top);
	if (token && *token) {
		if (str_base64_decode(token, strlen(token), true, &after, &len) < 0 || !len ||
			len > STORE_KEY_MAX || memchr(after, 0, len))
			return err_set(err, -EINVAL, "InvalidSkipToken",
				"The skip token '%.64s' isn't one that a nextLink of this service holds.",
				token);
		for (size_t i = 0; i < len; i++)
			if (after[i] < 0x20 || after[i] >= 0x7f)
				return err_set(err, -EINVAL, "InvalidSkipToken",
					"The skip token isn't one that a nextLink of this service holds.");
	}
	*ret_limit = (size_t)MIN(limit, (uint64_t)ARM_PAGE_MAX);
	*ret_after = after ? xstrndup((const char *)after, len) : NULL;
	return 0;
}

/* The request's own URL with another $skiptoken: filters and api-version stay as they were written.
 */
char *arm_page_next(const struct arm_request *request, const char *last_key)
{
	_cleanup_free_ char *copy = xstrdup(request->http->query);
	_cleanup_free_ char *token = str_base64url(last_key, strlen(last_key));
	struct buf url = BUF_INIT;
	char *rest = copy, *pair;
	char separator = '?';

	buf_printf(&url, "%s%s", request->arm->services.endpoint, request->http->path);
	while ((pair = strsep(&rest, "&"))) {
		if (!*pair || strncasecmp(pair, "$skiptoken=", 11) == 0 ||
			strncasecmp(pair, "%24skiptoken=", 13) == 0)
			continue;
		buf_printf(&url, "%c%s", separator, pair);
		separator = '&';
	}
	buf_printf(&url, "%c$skiptoken=%s", separator, token);
	return buf_take(&url);
}

/* --- before the handler --- */

/* What a client sent to find its request again is sent back, but only plain text of a sane length.
 */
static void copy_id(char *dst, size_t size, const char *src)
{
	dst[0] = '\0';
	if (!src)
		return;
	for (const char *c = src; *c; c++)
		if (*c < 0x20 || *c == 0x7f)
			return;
	str_copy(dst, size, src);
}

static void assign_ids(struct arm_request *request)
{
	random_uuid(request->id);
	copy_id(request->correlation_id, sizeof(request->correlation_id),
		arm_header(request, "x-ms-correlation-request-id"));
	if (!request->correlation_id[0])
		str_copy(request->correlation_id, sizeof(request->correlation_id), request->id);
	copy_id(request->client_request_id, sizeof(request->client_request_id),
		arm_header(request, "x-ms-client-request-id"));
}

static int authenticate(struct arm_request *request, struct err *err)
{
	const char *header = arm_header(request, "authorization");
	int r;

	if (!header)
		return err_set(err, -EACCES, "AuthenticationFailed",
			"Authentication failed. The 'Authorization' header is missing.");
	if (strncasecmp(header, "Bearer ", 7) != 0)
		return err_set(err, -EACCES, "AuthenticationFailedInvalidHeader",
			"Authentication failed. The 'Authorization' header is provided in an invalid format.");
	r = auth_token_check(request->arm->services.auth, header + 7 + strspn(header + 7, " "), err,
		&request->principal);
	request->has_principal = r == 0;
	return r;
}

static bool is_uuid(const char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	}
	return n == 36;
}

static int check_subscription(struct arm_request *request, struct err *err)
{
	const char *id;

	if (request->path.n < 2 || !str_eq_nocase(request->path.segments[0], "subscriptions"))
		return 0;
	id = request->path.segments[1];
	if (str_eq_nocase(id, request->arm->services.subscription_id))
		return 0;
	if (!is_uuid(id))
		return err_set(err, -EINVAL, "InvalidSubscriptionId",
			"The provided subscription identifier '%s' is malformed or invalid.", id);
	return err_set(err, -ENOENT, "SubscriptionNotFound",
		"The subscription '%s' could not be found.", id);
}

static bool version_well_formed(const char *v)
{
	size_t n = strlen(v);

	if (n < 10 || n > 32)
		return false;
	for (size_t i = 0; i < 10; i++)
		if (i == 4 || i == 7 ? v[i] != '-' : !isdigit((unsigned char)v[i]))
			return false;
	for (size_t i = 10; i < n; i++)
		if (!isalnum((unsigned char)v[i]) && v[i] != '-' && v[i] != '.')
			return false;
	return n == 10 || v[10] == '-';
}

/* The versions of the provider that have this route. */
static char *supported_versions(
	const struct arm_provider *provider, const struct arm_route *route, const char *separator)
{
	struct buf list = BUF_MAX(1200);

	for (const char *const *v = provider->versions; v && *v; v++)
		if (!route || !route->first_version || strncmp(*v, route->first_version, 10) >= 0)
			buf_printf(&list, "%s%s", list.len ? separator : "", *v);
	return buf_take(&list);
}

static int version_invalid(struct err *err, const char *version, const char *supported)
{
	return err_set(err, -EINVAL, "InvalidApiVersionParameter",
		"The api-version '%.64s' is invalid. The supported versions are '%s'.", version,
		supported);
}

/* ARM's own routes take any date: these are what is listed when something isn't one. */
#define ARM_VERSIONS                                                                               \
	"2024-11-01,2024-07-01,2023-07-01,2022-12-01,2022-09-01,2022-01-01,2021-04-01,2021-01-01," \
	"2020-10-01,2020-06-01,2020-01-01,2019-11-01,2019-10-01,2019-05-01,2018-05-01,2017-05-10," \
	"2016-09-01,2016-06-01,2015-11-01,2015-01-01"

int arm_version_check(struct arm_request *request, struct err *err)
{
	const struct arm_leaf *leaf = request->match.leaf;
	const char *const *versions = leaf->provider->versions;
	const char *version = arm_query(request, "api-version");
	_cleanup_free_ char *supported = NULL;
	char type[128];

	if (!version || !*version)
		return err_set(err, -EINVAL, "MissingApiVersionParameter",
			"The api-version query parameter (?api-version=) is required for all requests.");
	if (!versions) {
		request->api_version = version;
		return version_well_formed(version) ? 0
						    : version_invalid(err, version, ARM_VERSIONS);
	}
	for (; *versions; versions++) {
		if (!str_eq_nocase(*versions, version))
			continue;
		if (leaf->route->first_version &&
			strncmp(version, leaf->route->first_version, 10) < 0)
			break;
		request->api_version = *versions;
		return 0;
	}
	if (!version_well_formed(version)) {
		supported = supported_versions(leaf->provider, leaf->route, ",");
		return version_invalid(err, version, supported);
	}
	supported = supported_versions(leaf->provider, leaf->route, ", ");
	arm_path_type(&request->path, type, sizeof(type));
	return err_set(err, -EINVAL, "NoRegisteredProviderFound",
		"No registered resource provider found for location '%s' and API version '%s' for type '%s'. "
		"The supported api-versions are '%s'. The supported locations are '%s'.",
		request->arm->services.region, version, type, supported,
		request->arm->services.region);
}

static int unknown_route(struct arm_request *request, struct err *err)
{
	const struct arm_provider *const *provider = request->arm->providers;
	_cleanup_free_ char *supported = NULL;
	char type[128];
	const char *name = arm_path_type(&request->path, type, sizeof(type));

	if (!name)
		return err_set(err, -ENOENT, "ResourceNotFound",
			"The requested path '%.512s' was not found.", request->http->path);
	while (*provider && !str_eq_nocase((*provider)->name, name))
		provider++;
	if (!*provider)
		return err_set(err, -ENOENT, "InvalidResourceNamespace",
			"The resource namespace '%.256s' is invalid.", name);
	supported = supported_versions(*provider, NULL, ",");
	return err_set(err, -ENOENT, "InvalidResourceType",
		"The resource type '%s' could not be found in the namespace '%s' for api version '%.64s'. The "
		"supported api-versions are '%s'.",
		type, (*provider)->name,
		arm_query(request, "api-version") ? arm_query(request, "api-version") : "",
		supported);
}

/* Something is made by PUT under providers/NAME only while the subscription is registered there. */
static int check_registration(struct arm_request *request, struct err *err)
{
	const struct arm_leaf *leaf = request->match.leaf;
	char type[128];
	const char *name;

	if (!leaf->in_subscription || !str_eq(request->http->method, "PUT"))
		return 0;
	name = arm_path_type(&request->path, type, sizeof(type));
	if (!name || arm_namespace_registered(&request->arm->services, name))
		return 0;
	return err_set(err, -EPERM, "MissingSubscriptionRegistration",
		"The subscription is not registered to use namespace '%s'. See https://aka.ms/rps-not-found for how to "
		"register subscriptions.",
		leaf->provider->name);
}

/* With a full disk the store's reserve is for what frees space. */
static int check_room(const struct arm_request *request, struct err *err)
{
	const char *method = request->http->method;

	if (!str_eq(method, "PUT") && !str_eq(method, "PATCH"))
		return 0;
	return store_check_room(request->arm->services.store, err);
}

int arm_request_prepare(struct arm_request *request, struct err *err)
{
	const struct http_request *http = request->http;
	int found, r;

	assign_ids(request);
	r = arm_path_parse(http->path, err, &request->path);
	if (r < 0)
		return r;
	r = arm_pairs_parse(http->query, strlen(http->query), ARM_QUERY_MAX, err, &request->query);
	if (r < 0)
		return r;
	found = arm_routes_find(
		request->arm->routes, &request->path, http->method, &request->match);
	/* Who may not come in isn't told what is there. */
	if (found < 0 || !(request->match.leaf->route->flags & ARM_ROUTE_ANONYMOUS)) {
		r = authenticate(request, err);
		if (r < 0)
			return r;
		r = check_subscription(request, err);
		if (r < 0)
			return r;
	}
	if (found == -ENOENT)
		return unknown_route(request, err);
	if (found < 0)
		return err_set(err, -EOPNOTSUPP, "MethodNotAllowed",
			"The HTTP method '%.16s' is not supported on the resource '%.512s'.",
			http->method, http->path);
	if (!(request->match.leaf->route->flags & ARM_ROUTE_NO_VERSION)) {
		r = arm_version_check(request, err);
		if (r < 0)
			return r;
	}
	r = check_registration(request, err);
	if (r < 0)
		return r;
	r = check_room(request, err);
	if (r < 0)
		return r;
	request->next = request->match.leaf->route->handler;
	return 0;
}
