/*
 * get: the HTTP requests of probes, many at a time on one loop, each over a socket that was made
 * for it. The servers are strangers': what one of them sends, in whatever way, ends its own request
 * alone. Redirects are answers; certificates are not checked, as in Kubernetes.
 */
#pragma once

#include "base/base.h"
#include "base/json.h"
#include "base/loop.h"

struct gets;

/* status > 0: what the server answered. Otherwise error says in one sentence, made of no byte of
 * the server's, why there is no answer; NULL when this process lacks what it takes to ask. */
typedef void (*get_done_fn)(int64_t id, int status, const char *error, void *arg);

/* All that needs files or new sockets happens here. */
int gets_new(struct loop *loop, get_done_fn done, void *arg, struct err *err, struct gets **ret);
void gets_free(struct gets *gets);

/* request: {"id","address","port","scheme","path","headers":[{"name","value"}]?,"timeoutMs"}.
 * socket: an unconnected one for TCP over IPv4, owned by this call. done is called in a later turn
 * of the loop, once, whatever happens. */
void gets_start(struct gets *gets, const json_t *request, int socket);
