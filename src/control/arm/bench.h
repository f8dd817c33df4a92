/*
 * For tests: a server without sockets. A bench holds a memory store, a principal with a token, a
 * loop and an arm over the given providers; bench_request() sends one request through the whole
 * dispatch and waits for its answer.
 */
#pragma once

#include "control/arm/arm.h"

#define BENCH_ENDPOINT "https://127.0.0.1:8443"
#define BENCH_TENANT "11111111-1111-1111-1111-111111111111"
#define BENCH_SUBSCRIPTION "22222222-2222-2222-2222-222222222222"
#define BENCH_CLIENT "aaaaaaaa-0000-4000-8000-000000000001"
#define BENCH_SECRET "s3cret"
#define BENCH_SUB "/subscriptions/" BENCH_SUBSCRIPTION

struct bench {
	struct arm_services services; /* may be changed before the first request */
	const struct arm_provider *const *providers;
	struct arm *arm;
	struct loop *loop;
	char *token;
	char dir[32]; /* of the signing key; removed at the end */
};

struct bench_answer {
	int status;
	char *body;   /* owned; "" when empty */
	json_t *json; /* owned; NULL when the body isn't JSON */
	size_t n_headers;
	struct {
		char name[64];
		char value[1100];
	} headers[32];
};

/* Region "local", zone "berth.internal". providers is NULL-terminated and borrowed. */
struct bench *bench_new(const struct arm_provider *const *providers);
void bench_free(struct bench *bench);

/* target is path and query as on the wire. headers: "Name: value" lines, NULL-terminated, or NULL;
 * without an Authorization among them the bench's token is sent, with an empty one
 * ("Authorization:") none. body may be NULL. A JSON body has its content type unless headers give
 * one. */
void bench_request(struct bench *bench, const char *method, const char *target,
	const char *const *headers, const char *body, struct bench_answer *ret);

struct bench_query {
	const char *method, *target;
	const char *const *headers;
	const char *body;
};

/* The same for n requests at once, whose handlers run beside each other. */
void bench_requests(
	struct bench *bench, size_t n, const struct bench_query *queries, struct bench_answer *ret);
void bench_answer_done(struct bench_answer *answer);
/* NULL when absent. */
const char *bench_answer_header(const struct bench_answer *answer, const char *name);
