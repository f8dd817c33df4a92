/*
 * The HTTP client, on libcurl: one request, headers back, body to a callback as it comes. Blocking;
 * used in workers and in the command line. It never follows a redirect by itself: the caller
 * decides where credentials may go.
 */
#pragma once

#include "base/base.h"

struct http_client;

struct http_client_config {
	const char *ca_file;	 /* NULL: the system's */
	long connect_timeout_ms; /* 0: 10 s */
	long low_speed_seconds;	 /* give up when under 1 kB/s for this long; 0: 30 */
	const char *user_agent;
	/* Decides on the address that is about to be connected to (IPv4 or IPv6 in numeric form);
	 * false refuses it. NULL: all are fine. */
	bool (*allow_address)(const char *address, void *arg);
	void *arg;
};

struct http_client_request {
	const char *method; /* "GET", "HEAD", "POST", "PUT", "DELETE" */
	const char *url;
	const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
	const char *body;
	size_t body_len;
	long timeout_ms; /* whole transfer; 0: none */
	/* Called with body bytes; a negative errno ends the transfer with it. NULL: the body goes
	 * to response.body. */
	int (*on_body)(const void *data, size_t len, void *arg);
	/* Called once, before the first on_body, with the status. May be NULL. */
	int (*on_status)(int status, void *arg);
	void *arg;
	size_t max_body; /* for response.body; 0: 4 MiB */
};

struct http_client_response {
	int status;
	struct buf headers; /* "Name: value\n" lines of the last response */
	struct buf body;
};

int http_client_new(
	const struct http_client_config *config, struct err *err, struct http_client **ret);
void http_client_free(struct http_client *client);
/* 0 when a response came, whatever its status. Failure: codes "HttpUnreachable", "HttpTls",
 * "HttpTimeout", "HttpRefused" (address not allowed), "HttpTooLarge", "HttpBroken" with a message a
 * user understands. One client is for one thread. */
int http_client_do(struct http_client *client, const struct http_client_request *request,
	struct err *err, struct http_client_response *ret);
void http_client_response_done(struct http_client_response *response);
/* Value of a response header (case-insensitive), NULL when absent; owned by the caller. */
char *http_client_response_header(const struct http_client_response *response, const char *name);
