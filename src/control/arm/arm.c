/* The life of a request: accepted, prepared, handled, perhaps parked and handled again, answered.
 */
#include <stdio.h>

#include "base/time.h"
#include "control/arm/internal.h"

static void request_run(void *arg);

int arm_new(const struct arm_services *services, const struct arm_provider *const *providers,
	unsigned threads, struct loop *loop, struct err *err, struct arm **ret)
{
	struct arm *arm = xnew(struct arm);

	arm->services = *services;
	arm->providers = providers;
	arm->loop = loop;
	arm->routes = arm_routes_new(providers);
	pthread_mutex_init(&arm->lock, NULL);
	arm->pool = pool_new("arm", threads, 0);
	if (!arm->pool) {
		arm_free(arm);
		return err_set(err, -EAGAIN, "InternalError", "can't start %u threads", threads);
	}
	*ret = arm;
	return 0;
}

void arm_accept(struct arm *arm, const struct arm_transport *transport, void *exchange)
{
	struct arm_request *request = xnew(struct arm_request);

	request->arm = arm;
	request->transport = transport;
	request->exchange = exchange;
	request->http = transport->request(exchange);
	request->started_ms = time_mono_ms();
	pool_submit(arm->pool, request_run, request);
}

/* --- answers --- */

/* Twelve of ours beside the response's own. */
#define HEADERS_MAX (ARRAY_SIZE(((struct arm_response *)NULL)->headers) + 16)

struct header_list {
	struct http_header headers[HEADERS_MAX];
	size_t n;
};

/* What the handler set stays: a token endpoint's cache-control differs from ARM's. */
static void add_header(struct header_list *list, const char *name, const char *value)
{
	for (size_t i = 0; i < list->n; i++)
		if (str_eq_nocase(list->headers[i].name, name))
			return;
	assert(list->n < HEADERS_MAX);
	list->headers[list->n++] = (struct http_header){.name = name, .value = value};
}

static void add_standard_headers(
	struct header_list *list, const struct arm_request *request, const char *body)
{
	add_header(list, "cache-control", "no-cache");
	add_header(list, "pragma", "no-cache");
	add_header(list, "expires", "-1");
	add_header(list, "strict-transport-security", "max-age=31536000; includeSubDomains");
	add_header(list, "x-content-type-options", "nosniff");
	add_header(list, "x-ms-request-id", request->id);
	add_header(list, "x-ms-correlation-request-id", request->correlation_id);
	if (request->client_request_id[0])
		add_header(list, "x-ms-client-request-id", request->client_request_id);
	if (body)
		add_header(list, "content-type", "application/json; charset=utf-8");
}

/* The header that tells a client where to sign in (RFC 6750 §3). */
static void challenge(
	const struct arm_request *request, const struct err *err, struct arm_response *response)
{
	arm_response_header(response, "www-authenticate",
		"Bearer authorization_uri=\"%s/adfs\", error=\"invalid_token\", error_description=\"%.400s\"",
		request->arm->services.endpoint, err->message);
}

static void error_response(
	const struct arm_request *request, const struct err *err, struct arm_response *response)
{
	json_decref(response->body);
	*response = (struct arm_response){
		.status = arm_error_status(err->code), .body = arm_error_json(err, NULL)};
	if (response->status == 401)
		challenge(request, err, response);
	if (response->status == 405)
		arm_response_header(response, "allow", "%s", request->match.allow);
	if (response->status == 429 || response->status == 503)
		arm_response_header(response, "retry-after", "1");
	/* Away nodes and a full disk are reported by whoever watches them; this here is a bug or an
	 * I/O error. */
	if (response->status == 500)
		log_error("request %s: %s %s: %s: %s", request->id, request->http->method,
			request->http->path, err->code, err->message);
}

static void request_free(struct arm_request *request)
{
	if (request->state && request->state_free)
		request->state_free(request->state);
	json_decref(request->body);
	arm_path_done(&request->path);
	arm_pairs_done(&request->query);
	free(request->park.key);
	free(request);
}

void arm_request_finish(
	struct arm_request *request, int r, struct arm_response *response, const struct err *err)
{
	struct header_list list = {.n = 0};
	_cleanup_free_ char *body = NULL;
	struct http_response answer = {0};

	if (r < 0)
		error_response(request, err, response);
	if (response->body && !str_eq(request->http->method, "HEAD") && response->status != 204)
		body = json_text(response->body);
	for (size_t i = 0; i < response->n_headers; i++)
		add_header(&list, response->headers[i].name, response->headers[i].value);
	add_standard_headers(&list, request, body);
	answer.status = response->status ? response->status : 200;
	answer.headers = list.headers;
	answer.n_headers = list.n;
	answer.body = body ? body : "";
	answer.body_len = body ? strlen(body) : 0;
	log_debug("%s %s %d in %lld ms", request->http->method, request->http->path, answer.status,
		(long long)(time_mono_ms() - request->started_ms));
	json_decref(response->body);
	request->transport->respond(request->exchange, &answer);
	request_free(request);
}

/* --- parking --- */

int arm_request_park(struct arm_request *request, const char *store_key, int64_t after_revision,
	int64_t deadline_mono_ms, arm_handler again)
{
	free(request->park.key);
	request->park.key = xstrdup(store_key);
	request->park.after_revision = after_revision;
	request->park.deadline_mono_ms = deadline_mono_ms;
	request->next = again;
	return ARM_PARKED;
}

/* Back to the pool, once: whoever sets woken first, a change or the deadline, brings it here. */
static void park_resume(void *arg)
{
	struct arm_request *request = arg;

	loop_cancel(request->park.timer);
	request->park.timer = NULL;
	pool_submit(request->arm->pool, request_run, request);
}

static void park_wake(struct arm_request *request)
{
	if (!atomic_exchange(&request->park.woken, true))
		loop_post(request->arm->loop, park_resume, request);
}

static void park_timeout(void *arg)
{
	struct arm_request *request = arg;

	request->park.timer = NULL;
	if (!atomic_exchange(&request->park.woken, true))
		park_resume(request);
}

static void park_event(const struct store_event *event, void *arg)
{
	struct arm_request *request = arg;

	/* The watch is of a prefix: "cg/a/b" also sees "cg/a/bc". */
	if (str_eq(event->key, request->park.key))
		park_wake(request);
}

static void park_arm_timer(void *arg)
{
	struct arm_request *request = arg;
	int64_t delay = request->park.deadline_mono_ms - time_mono_ms();

	request->park.timer = loop_after(request->arm->loop, MAX(delay, 0), park_timeout, request);
}

/* False when the server is stopping. */
static bool parked_add(struct arm_request *request)
{
	struct arm *arm = request->arm;
	bool ok;

	pthread_mutex_lock(&arm->lock);
	ok = !arm->stopping;
	if (ok) {
		request->parked_next = arm->parked;
		request->parked_prev = &arm->parked;
		if (arm->parked)
			arm->parked->parked_prev = &request->parked_next;
		arm->parked = request;
	}
	pthread_mutex_unlock(&arm->lock);
	return ok;
}

static void parked_remove(struct arm_request *request)
{
	pthread_mutex_lock(&request->arm->lock);
	*request->parked_prev = request->parked_next;
	if (request->parked_next)
		request->parked_next->parked_prev = request->parked_prev;
	request->parked_prev = NULL;
	pthread_mutex_unlock(&request->arm->lock);
}

/* From here on the request belongs to whoever wakes it: this thread touches it only under
 * park.lock, which the next one to run it takes first. */
static void park(struct arm_request *request)
{
	struct err err = {0};
	int r;

	pthread_mutex_init(&request->park.lock, NULL);
	pthread_mutex_lock(&request->park.lock);
	atomic_store(&request->park.woken, false);
	request->park.watch = NULL;
	if (!parked_add(request)) {
		struct arm_response response = {0};

		pthread_mutex_unlock(&request->park.lock);
		err_set(&err, -ESHUTDOWN, "ServerStopping",
			"The service is stopping. Please try again.");
		pthread_mutex_destroy(&request->park.lock);
		arm_request_finish(request, -ESHUTDOWN, &response, &err);
		return;
	}
	/* Posted before anything that can wake: the loop sees the timer first and can cancel it. */
	loop_post(request->arm->loop, park_arm_timer, request);
	r = store_watch(request->arm->services.store, request->park.key,
		request->park.after_revision, park_event, request, &err, &request->park.watch);
	if (r == -ESTALE)
		park_wake(request);
	else if (r < 0)
		log_warn("request %s: watch %s: %s", request->id, request->park.key, err.message);
	pthread_mutex_unlock(&request->park.lock);
}

static void unpark(struct arm_request *request)
{
	if (!request->park.key)
		return;
	pthread_mutex_lock(&request->park.lock);
	pthread_mutex_unlock(&request->park.lock);
	pthread_mutex_destroy(&request->park.lock);
	store_unwatch(request->arm->services.store, request->park.watch);
	request->park.watch = NULL;
	free(request->park.key);
	request->park.key = NULL;
	parked_remove(request);
}

static void request_run(void *arg)
{
	struct arm_request *request = arg;
	struct arm_response response = {0};
	struct err err = {0};
	int r = 0;

	unpark(request);
	if (!request->next)
		r = arm_request_prepare(request, &err);
	if (r == 0)
		r = request->next(request, &response, &err);
	if (r == ARM_PARKED) {
		json_decref(response.body);
		park(request);
		return;
	}
	arm_request_finish(request, r, &response, &err);
}

void arm_free(struct arm *arm)
{
	struct arm_request *request;

	if (!arm)
		return;
	pthread_mutex_lock(&arm->lock);
	arm->stopping = true;
	pthread_mutex_unlock(&arm->lock);
	pool_free(arm->pool);
	/* The loop stands still and the pool is gone: what is parked is ours. */
	while ((request = arm->parked)) {
		struct arm_response response = {0};
		struct err err = {0};

		loop_cancel(request->park.timer);
		unpark(request);
		err_set(&err, -ESHUTDOWN, "ServerStopping",
			"The service is stopping. Please try again.");
		arm_request_finish(request, -ESHUTDOWN, &response, &err);
	}
	arm_routes_free(arm->routes);
	pthread_mutex_destroy(&arm->lock);
	free(arm);
}
