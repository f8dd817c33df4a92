#include "control/arm/bench.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/file.h"

/* A key and a hash cost the better part of a second: the first bench of a process makes them for
 * all. */
static char *shared_key, *shared_hash;

static void shared_free(void)
{
	free(shared_key);
	free(shared_hash);
}

static void auth_make(struct bench *bench)
{
	_cleanup_free_ char *key_file = xasprintf("%s/token.key", bench->dir);
	struct auth_config config = {.store = bench->services.store,
		.key_file = key_file,
		.tenant_id = BENCH_TENANT,
		.issuer = BENCH_ENDPOINT "/" BENCH_TENANT,
		.audience = BENCH_ENDPOINT};
	struct principal principal = {.client_id = BENCH_CLIENT,
		.object_id = "bbbbbbbb-0000-4000-8000-000000000002",
		.name = "admin"};
	int r = 0;

	if (shared_key)
		r = file_write_replace(AT_FDCWD, key_file, shared_key, strlen(shared_key), 0600);
	assert(r == 0);
	r = auth_new(&config, NULL, &bench->services.auth);
	assert(r == 0);
	if (!shared_key) {
		r = file_read(AT_FDCWD, key_file, 65536, &shared_key, NULL);
		assert(r == 0);
		shared_hash = auth_secret_hash(BENCH_SECRET);
		atexit(shared_free);
	}
	r = auth_put_principal(bench->services.auth, &principal, shared_hash, NULL);
	assert(r == 0);
	bench->token = auth_token_new(bench->services.auth, &principal, 3600);
}

struct bench *bench_new(const struct arm_provider *const *providers)
{
	struct bench *bench = xnew(struct bench);

	str_copy(bench->dir, sizeof(bench->dir), "/tmp/arm-bench-XXXXXX");
	if (!mkdtemp(bench->dir))
		abort();
	bench->providers = providers;
	bench->loop = loop_new();
	bench->services = (struct arm_services){
		.store = store_open_memory(),
		.endpoint = BENCH_ENDPOINT,
		.tenant_id = BENCH_TENANT,
		.subscription_id = BENCH_SUBSCRIPTION,
		.region = "local",
		.zone = "berth.internal",
		.public_pool = "100.64.0.0/17",
		.private_pool = "100.64.128.0/17",
		.put_wait_ms = 2000,
	};
	auth_make(bench);
	return bench;
}

void bench_free(struct bench *bench)
{
	arm_free(bench->arm);
	loop_free(bench->loop);
	auth_free(bench->services.auth);
	store_free(bench->services.store);
	file_remove_tree(AT_FDCWD, bench->dir);
	free(bench->token);
	free(bench);
}

/* --- one exchange --- */

struct exchange {
	struct bench *bench;
	struct http_request request;
	const char *const *headers;
	char *authorization; /* the bench's own */

	struct bench_answer *answer;
	atomic_bool done;
};

static const struct http_request *exchange_request(void *arg)
{
	return &((struct exchange *)arg)->request;
}

static const char *exchange_header(void *arg, const char *name)
{
	struct exchange *x = arg;
	size_t n = strlen(name);

	for (size_t i = 0; x->headers && x->headers[i]; i++) {
		const char *h = x->headers[i];

		if (strncasecmp(h, name, n) != 0 || h[n] != ':')
			continue;
		h += n + 1;
		h += strspn(h, " ");
		return *h ? h : NULL;
	}
	if (str_eq_nocase(name, "authorization"))
		return x->authorization;
	if (str_eq_nocase(name, "content-type") && x->request.body_len)
		return "application/json";
	return NULL;
}

static void exchange_wake(void *arg)
{
	(void)arg;
}

static void exchange_respond(void *arg, const struct http_response *response)
{
	struct exchange *x = arg;
	struct bench_answer *answer = x->answer;
	struct loop *loop = x->bench->loop;

	answer->status = response->status;
	answer->body = xstrndup(response->body, response->body_len);
	json_parse(answer->body, response->body_len, JSON_DEPTH_MAX, NULL, &answer->json);
	assert(response->n_headers <= ARRAY_SIZE(answer->headers));
	answer->n_headers = response->n_headers;
	for (size_t i = 0; i < response->n_headers; i++) {
		str_copy(answer->headers[i].name, sizeof(answer->headers[i].name),
			response->headers[i].name);
		str_copy(answer->headers[i].value, sizeof(answer->headers[i].value),
			response->headers[i].value);
	}
	/* x may be gone as soon as done is seen. */
	atomic_store(&x->done, true);
	loop_post(loop, exchange_wake, NULL);
}

static bool has_authorization(const char *const *headers)
{
	for (size_t i = 0; headers && headers[i]; i++)
		if (strncasecmp(headers[i], "authorization:", 14) == 0)
			return true;
	return false;
}

void bench_requests(
	struct bench *bench, size_t n, const struct bench_query *queries, struct bench_answer *ret)
{
	static const struct arm_transport transport = {
		exchange_request, exchange_header, exchange_respond};
	_cleanup_free_ char *authorization = xasprintf("Bearer %s", bench->token);
	struct exchange *x = xcalloc(n, sizeof(*x));
	char **paths = xcalloc(n, sizeof(*paths));

	if (!bench->arm) {
		int r = arm_new(
			&bench->services, bench->providers, 4, bench->loop, NULL, &bench->arm);

		assert(r == 0);
	}
	for (size_t i = 0; i < n; i++) {
		char *query;

		paths[i] = xstrdup(queries[i].target);
		query = strchr(paths[i], '?');
		if (query)
			*query++ = '\0';
		x[i].bench = bench;
		x[i].headers = queries[i].headers;
		x[i].answer = &ret[i];
		x[i].request = (struct http_request){.method = queries[i].method,
			.path = paths[i],
			.query = query ? query : "",
			.body = queries[i].body ? queries[i].body : "",
			.body_len = queries[i].body ? strlen(queries[i].body) : 0,
			.peer = "127.0.0.1:1"};
		if (!has_authorization(queries[i].headers))
			x[i].authorization = authorization;
		ret[i] = (struct bench_answer){0};
	}
	for (size_t i = 0; i < n; i++)
		arm_accept(bench->arm, &transport, &x[i]);
	for (size_t i = 0; i < n; i++) {
		while (!atomic_load(&x[i].done))
			loop_once(bench->loop, 1000);
		free(paths[i]);
	}
	free(paths);
	free(x);
}

void bench_request(struct bench *bench, const char *method, const char *target,
	const char *const *headers, const char *body, struct bench_answer *ret)
{
	const struct bench_query query = {method, target, headers, body};

	bench_requests(bench, 1, &query, ret);
}

void bench_answer_done(struct bench_answer *answer)
{
	free(answer->body);
	json_decref(answer->json);
	*answer = (struct bench_answer){0};
}

const char *bench_answer_header(const struct bench_answer *answer, const char *name)
{
	for (size_t i = 0; i < answer->n_headers; i++)
		if (str_eq_nocase(answer->headers[i].name, name))
			return answer->headers[i].value;
	return NULL;
}
