/*
 * arm: Azure Resource Manager's conventions, once for all providers: resource ids, the route table,
 * api-versions, the error envelope, request ids, paging, long-running operations. A provider is a
 * table of routes and their handlers; it sees a parsed request and fills in a response, and never
 * touches HTTP.
 *
 * A request runs on a thread of a pool and may block on the store. One that wants to wait for the
 * world (a group that settles) parks itself: no thread waits, and it is called again when the key
 * changes or at the deadline.
 */
#pragma once

#include <jansson.h>

#include "base/base.h"
#include "base/json.h"
#include "base/loop.h"
#include "control/auth/auth.h"
#include "control/store/store.h"
#include "http/server.h"

struct arm;
struct arm_request;

/* What every provider may use. All borrowed, all live as long as the server. */
struct arm_services {
	struct store *store;
	struct auth *auth;
	struct link_server *link;  /* see link/link.h; NULL in tests */
	struct sessions *sessions; /* of exec and attach, see containerinstance/sessions.h; NULL
				      where there are none */
	const char *endpoint;	   /* "https://127.0.0.1:8443", no trailing slash */
	const char *tenant_id;
	const char *subscription_id;
	const char *region;	  /* "local" */
	const char *zone;	  /* "berth.internal" */
	const char *public_pool;  /* "100.64.0.0/17" */
	const char *private_pool; /* "100.64.128.0/17" */
	int put_wait_ms;	  /* 2000 */
};

/* Path parameters of a route template, by name in braces. */
#define ARM_PARAMS_MAX 12

struct arm_response {
	int status;   /* 200 unless set */
	json_t *body; /* owned; NULL: empty body */
	struct {
		char name[48];
		char value[1024];
	} headers[8];
	size_t n_headers;
};

/* 0: response is filled in. Negative: err becomes the envelope with the status of its code
 * (errors.def). ARM_PARKED: arm_request_park() was called, response is ignored. */
#define ARM_PARKED 1
typedef int (*arm_handler)(
	struct arm_request *request, struct arm_response *response, struct err *err);

struct arm_route {
	const char *method; /* "GET" */
	const char *path;   /* "/subscriptions/{sub}/resourceGroups/{rg}"; literals match without
			       regard to case */
	const char *first_version; /* NULL: every version in the provider's list, or none needed
				      (see flags) */
	const char *action; /* "Microsoft.ContainerInstance/containerGroups/read"; for role checks;
			       NULL: anyone signed in */
	arm_handler handler;
	unsigned flags;
};

#define ARM_ROUTE_ANONYMOUS 1u	/* no token */
#define ARM_ROUTE_NO_VERSION 2u /* api-version isn't looked at */
#define ARM_ROUTE_REFUSED                                                                          \
	4u /* Azure has it; this version answers OperationNotSupported. For docs/supported.md */

struct arm_provider {
	const char *name; /* "Microsoft.ContainerInstance" */
	const struct arm_route *routes;
	size_t n_routes;
	const char *const
		*versions; /* api-versions accepted, NULL-terminated; NULL: any well-formed date */
	/* Deletes or lists what a resource group holds of this provider; may be NULL. Called by the
	 * resources provider, with the group's name in any case. delete_group is done when
	 * list_resources adds nothing any more; it is called again until then, also after a
	 * restart. */
	int (*list_resources)(
		const struct arm_services *, const char *rg, struct err *, json_t *ret_array);
	int (*delete_group)(const struct arm_services *, const char *rg, struct err *);
	/* Resource types for GET providers: [{resourceType, locations, apiVersions}]. New
	 * reference. */
	json_t *(*resource_types)(const struct arm_services *);
};

/* Providers are static tables; the array is NULL-terminated and borrowed. */
int arm_new(const struct arm_services *services, const struct arm_provider *const *providers,
	unsigned threads, struct loop *loop, struct err *err, struct arm **ret);
/* Once the loop no longer runs, on its thread, before the loop, the store and the HTTP server are
 * freed. Requests that are under way are answered, parked ones with ServerStopping. */
void arm_free(struct arm *arm);
/* The http_server_config.handle of berthd; arg is the struct arm. */
void arm_handle(struct http_exchange *exchange, void *arm);

/* Where requests come from and answers go: HTTP, or a test without sockets. The slots are as the
 * functions http_exchange_request, http_exchange_header and http_exchange_respond. */
struct arm_transport {
	const struct http_request *(*request)(void *exchange);
	const char *(*header)(void *exchange, const char *name);
	void (*respond)(void *exchange, const struct http_response *response);
};
/* Takes a request over; respond is called once, from any thread. Doesn't block. transport is
 * static. */
void arm_accept(struct arm *arm, const struct arm_transport *transport, void *exchange);

/* --- for handlers --- */
const struct arm_services *arm_services(const struct arm_request *request);
const struct arm_provider *const *arm_providers(const struct arm_request *request);
/* Decoded path parameter, as the client wrote it; never NULL for a name in the route's template. */
const char *arm_param(const struct arm_request *request, const char *name);
/* Decoded query parameter, NULL when absent. */
const char *arm_query(const struct arm_request *request, const char *name);
const char *arm_header(const struct arm_request *request, const char *name);
const char *arm_api_version(const struct arm_request *request);
const struct principal *arm_principal(const struct arm_request *request);
/* The raw body, and the body as a JSON object (parsed once; borrowed). */
const char *arm_body_raw(const struct arm_request *request, size_t *ret_len);
int arm_body(struct arm_request *request, struct err *err, json_t **ret);
void arm_response_header(struct arm_response *response, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Handler state that survives parking; freed with free_fn when the request ends. */
void arm_request_set_state(struct arm_request *request, void *state, void (*free_fn)(void *));
void *arm_request_state(const struct arm_request *request);
/* Call `again` when the store key changes or at the deadline (CLOCK_MONOTONIC ms), whichever comes
 * first. A change between the handler's own read and this call is not lost: after_revision is the
 * store revision of that read. Return what this returns. */
int arm_request_park(struct arm_request *request, const char *store_key, int64_t after_revision,
	int64_t deadline_mono_ms, arm_handler again);

/* Paging: $top / $skipToken of the request → limit and the key to go on after (or NULL); page_next
 * makes the nextLink. */
#define ARM_PAGE_MAX 1000
int arm_page(struct arm_request *request, struct err *err, size_t *ret_limit, char **ret_after);
char *arm_page_next(const struct arm_request *request, const char *last_key);

/* Errors that every provider words alike. */
int arm_err_not_found(
	struct err *err, const char *type, const char *name, const char *rg); /* ResourceNotFound */
int arm_err_group_not_found(struct err *err, const char *rg); /* ResourceGroupNotFound */

/* Resource groups belong to the resources provider; every other one asks through this.
 * 0 and the document, or -ENOENT with ResourceGroupNotFound. ret may be NULL. */
int arm_resource_group_get(
	const struct arm_services *services, const char *rg, struct err *err, json_t **ret);
/* For whoever creates something in the group: as above, but a group that is being deleted is
 * refused with -EBUSY and ResourceGroupBeingDeleted. ret_revision is for a STORE_CHECK of
 * arm_resource_group_key(rg) in the same commit, so that a deletion that begins in between isn't
 * missed. */
int arm_resource_group_for_write(const struct arm_services *services, const char *rg,
	struct err *err, json_t **ret, int64_t *ret_revision);
/* Whether the subscription is registered for a namespace, as it is until somebody unregisters it.
 * PUTs below a namespace that isn't are refused by the dispatch. */
bool arm_namespace_registered(const struct arm_services *services, const char *name);
/* Store key of a resource group: "rg/<lower-case name>". */
char *arm_resource_group_key(const char *rg);

/* {"error":{"code","message","target","details"}} for an answer; details may be NULL, its reference
 * is taken over. Words of errors that aren't for clients (codes that errors.def doesn't have) are
 * replaced. New reference. */
json_t *arm_error_json(const struct err *err, json_t *details);
/* The HTTP status of a code; 500 for one that errors.def doesn't have. */
int arm_error_status(const char *code);

/* 0, or code "InvalidTags" or "InvalidTagNameCharacters": at most 50 tags, names to 512 and values
 * to 256 bytes, strings all. tags may be NULL or JSON null. */
int arm_tags_check(json_t *tags, struct err *err);

/* "field eq 'value' and field eq 'value'", the only $filter that resource lists know. Field names
 * are matched without regard to case. Code "InvalidFilterInQueryString". */
#define ARM_FILTER_MAX 4
struct arm_filter {
	size_t n;
	struct {
		char field[64];
		char value[1024];
	} terms[ARM_FILTER_MAX];
};
int arm_filter_parse(const char *text, struct err *err, struct arm_filter *ret);
/* The value that field must equal, or NULL. */
const char *arm_filter_get(const struct arm_filter *filter, const char *field);
