/*
 * link: what berthd and berth-node say to each other. The node dials; berthd accepts. Frames are a
 * 32-bit big-endian length (at most 8 MiB) and one JSON object with a "type". Over a unix socket
 * each side checks the other's uid.
 *
 * Node → control:
 *   hello   {node, version, cpus, memoryBytes}
 *   status  {uid, generation, status}        the whole observed status of a group, see docs/link.md
 *   removed {uid}                            nothing of this group is left on the node
 *   reply   {id, data} or {id, error:{code,message}}
 * Control → node:
 *   group   {uid, generation, spec}          what must run; again at each change
 *   remove  {uid}
 *   synced  {}                               all groups of this node were sent: forget others
 *   request {id, method, args, stream}       stream true: the node dials a second connection, whose
 * first frame is stream {id} or stream {id, error}, and which then carries bytes both ways to its
 * end: raw ones of the node (`logs`), or packets of both (link/stream.h)
 */
#pragma once

#include <jansson.h>

#include "base/base.h"
#include "base/json.h"
#include "base/loop.h"

#define LINK_FRAME_MAX ((size_t)8 << 20)

/* For a stream, at either end, that has no reason to stand still: a read or write that waits for
 * half a minute fails with EAGAIN. Otherwise an exec may be silent for hours. */
void link_stream_bound(int fd);

/* --- control's end --- */
struct link_server;

struct link_server_ops {
	/* On the loop's thread; frames are borrowed. */
	void (*node_up)(const char *node, const json_t *hello, void *arg);
	void (*node_down)(const char *node, void *arg);
	void (*message)(const char *node, const char *type, const json_t *frame, void *arg);
};

/* Listens on a unix socket (mode 0600 of its directory's owner). peer_uid: the only uid that may
 * connect. */
int link_server_new(struct loop *loop, const char *socket_path, uid_t peer_uid,
	const struct link_server_ops *ops, void *arg, struct err *err, struct link_server **ret);
void link_server_free(struct link_server *server);
/* From any thread. Takes over the reference to frame. -ENOTCONN when the node isn't connected. */
int link_server_send(struct link_server *server, const char *node, json_t *frame);
/* Blocking, from any thread but the loop's. *ret_data is a new reference. Code "NodeUnavailable"
 * when the node is away (a node that was there a moment ago is waited for) or silent until the
 * deadline; otherwise the node's own error. */
int link_server_call(struct link_server *server, const char *node, const char *method, json_t *args,
	int timeout_ms, struct err *err, json_t **ret_data);
/* As above, but gives the stream's descriptor: a blocking unix socket, to read and write until end
 * of file, without a bound on how long either waits; the caller closes. */
int link_server_stream(struct link_server *server, const char *node, const char *method,
	json_t *args, int timeout_ms, struct err *err, int *ret_fd);

/* --- the node's end --- */
struct link_client;

struct link_client_ops {
	void (*up)(void *arg);
	void (*down)(void *arg);
	void (*message)(const char *type, const json_t *frame, void *arg);
	/* A request: answer with link_client_reply or link_client_stream, now or later, from any
	 * thread. */
	void (*request)(int64_t id, const char *method, const json_t *args, bool stream, void *arg);
};

/* Dials and redials (every 20 ms at first, up to 200 ms) on the loop's thread. hello is sent at
 * each connection. */
struct link_client *link_client_new(struct loop *loop, const char *socket_path, uid_t peer_uid,
	json_t *hello, const struct link_client_ops *ops, void *arg);
void link_client_free(struct link_client *client);
/* From any thread. Takes over the reference. -ENOTCONN when there is no connection (the frame is
 * dropped). */
int link_client_send(struct link_client *client, json_t *frame);
/* data: new reference or NULL; err: NULL when all went well. */
void link_client_reply(struct link_client *client, int64_t id, json_t *data, const struct err *err);
/* Opens the stream connection of a request; *ret_fd is as that of link_server_stream().
 * With err set, reports it and gives no descriptor. Blocking: not on the loop's thread. */
int link_client_stream(struct link_client *client, int64_t id, const struct err *err, int *ret_fd);
