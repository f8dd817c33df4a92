/*
 * The node's side of berth-probe: starts it at the first request, asks it, and starts it again when
 * it dies. Only the loop's thread calls this. What comes back is a number, or a sentence that is
 * cleaned and cut here, because who says it has talked to strangers.
 */
#pragma once

#include "base/json.h"
#include "base/loop.h"

#define PROBE_UID ((1U << 28) - 8) /* below all ranges that groups get */
#define PROBE_REQUESTS_MAX 8192	   /* under way at once */

struct probe_worker;

/* status > 0: the answer's; 0: words say why there is none; -ECANCELED: nothing is
 * known, because the worker died or lacked what it takes to ask. Called in a later turn of the loop
 * than the asking. */
typedef void (*probe_answer_fn)(int status, const char *words, void *arg);

/* program: absolute path of berth-probe, borrowed as is loop. */
struct probe_worker *probe_worker_new(struct loop *loop, const char *program);
void probe_worker_free(struct probe_worker *worker); /* answers nobody any more; NULL is fine */

/* request: as src/worker/probe/get.h has it, without the id, which is set here. socket: borrowed.
 * -EAGAIN: not now, ask again a little later. */
int probe_worker_ask(struct probe_worker *worker, json_t *request, int socket, int timeout_ms,
	probe_answer_fn fn, void *arg, struct err *err);
/* For tests: 0 when it doesn't run. */
int probe_worker_pid(const struct probe_worker *worker);
