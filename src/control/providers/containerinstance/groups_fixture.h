/* Whole requests through the arm core over a memory store, with a node that is a thread of the
 * test. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <fcntl.h>

#include "base/pool.h"
#include "base/time.h"
#include "control/arm/bench.h"
#include "control/providers/containerinstance/containerinstance.h"
#include "control/providers/containerinstance/internal.h"

#define RG BENCH_SUB "/resourceGroups/rg"
#define GROUPS RG "/providers/Microsoft.ContainerInstance/containerGroups"
#define LOCATION BENCH_SUB "/providers/Microsoft.ContainerInstance/locations/local"
#define V "?api-version=2023-05-01"

enum node_does { NODE_NOTHING, NODE_RUNS, NODE_FAILS };

struct world {
	struct bench *bench;
	struct store_watch *watch;
	struct pool *node;
	_Atomic int does;
};

/* What the node reports of a group. */
void write_status(
	struct world *w, const json_t *record, const char *provisioning, const char *state);
/* A record in the store. */
void put(struct world *w, const char *key, const char *value);
/* Of each test, and of the last one. */
int setup(void **state);
int teardown(void **state);
int last_teardown(void **state);
/* Whole requests; a body may have ' for ". Each fails the test when the status is another. */
void request(struct world *w, const char *method, const char *target, const char *body, int status,
	struct bench_answer *ret);
void expect(struct world *w, const char *method, const char *target, const char *body, int status);
void expect_error(struct world *w, const char *method, const char *target, const char *body,
	int status, const char *code, const char *at);
/* A string member by path "a.b.c"; "<none>": it isn't there. */
void expect_member(const json_t *json, const char *path, const char *value);
void expect_shown(struct world *w, const char *target, const char *path, const char *value);
/* The record of a group of rg. Owned. */
json_t *record_of(struct world *w, const char *name);
int64_t counter(struct world *w, const char *name, const char *which);
bool stored(struct world *w, const char *key);

#define CONTAINER(image, more)                                                                     \
	"{'name':'c','properties':{'image':'" image                                                \
	"','resources':{'requests':{'cpu':1,'memoryInGB':1}}" more "}}"
#define BODY(image) "{'properties':{'osType':'Linux','containers':[" CONTAINER(image, "") "]}}"
#define PUBLIC(image, label)                                                                         \
	"{'properties':{'osType':'Linux','containers':[" CONTAINER(image,                            \
		",'ports':[{'port':80}]") "],"                                                       \
					  "'ipAddress':{'type':'Public','ports':[{'port':80}]" label \
					  "}}}"
#define LABEL(label) ",'dnsNameLabel':'" label "'"
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
