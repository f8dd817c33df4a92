/* What the files of arm share. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/pool.h"
#include "base/random.h"
#include "control/arm/arm.h"
#include "control/arm/id.h"

/* --- routes: a trie over path segments --- */

struct arm_leaf {
	const struct arm_route *route;
	const struct arm_provider *provider;
	size_t n_names;
	char *names[ARM_PARAMS_MAX]; /* of the parameters, from the left */
	bool in_subscription;	     /* /subscriptions/{…}/… */
};

struct arm_node;

struct arm_node *arm_routes_new(const struct arm_provider *const *providers);
void arm_routes_free(struct arm_node *root);

struct arm_match {
	const struct arm_leaf *leaf; /* NULL when only other methods have this path */
	const char *values[ARM_PARAMS_MAX];
	char allow[64]; /* "GET, PUT" when leaf is NULL */
};

/* 0; -ENOENT when no template has this path; -EOPNOTSUPP when one has it, but not with this method.
 * Literal segments win over parameters, the leftmost first. */
int arm_routes_find(const struct arm_node *root, const struct arm_path *path, const char *method,
	struct arm_match *ret);

/* --- a request --- */

struct arm {
	struct arm_services services;
	const struct arm_provider *const *providers;
	struct arm_node *routes;
	struct pool *pool;
	struct loop *loop;
	pthread_mutex_t lock; /* over parked and stopping */
	struct arm_request *parked;
	bool stopping;
};

struct arm_park {
	char *key;
	int64_t after_revision;
	int64_t deadline_mono_ms;
	struct store_watch *watch;
	struct loop_timer *timer; /* touched on the loop's thread only */
	atomic_bool woken;
	pthread_mutex_t lock; /* held while the watch is being set up */
};

struct arm_request {
	struct arm *arm;
	const struct arm_transport *transport;
	void *exchange;
	const struct http_request *http;
	struct arm_path path;
	struct arm_pairs query;
	struct arm_match match;
	struct principal principal;
	bool has_principal;
	const char *api_version;
	json_t *body; /* parsed, or NULL */
	void *state;
	void (*state_free)(void *);
	arm_handler next; /* what runs when the pool takes it up */
	struct arm_park park;
	struct arm_request *parked_next, **parked_prev; /* arm->parked; NULL while not in it */
	char id[UUID_STR_MAX];
	char correlation_id[128];
	char client_request_id[128];
	int64_t started_ms;
};

/* Everything that comes before the handler: 0 with request->match and next set, or the error. */
int arm_request_prepare(struct arm_request *request, struct err *err);
/* Checks api-version against the provider and the route. */
int arm_version_check(struct arm_request *request, struct err *err);
/* Answers with the response, or with err when r < 0, and frees the request. Takes over
 * response->body. */
void arm_request_finish(
	struct arm_request *request, int r, struct arm_response *response, const struct err *err);
