/*
 * One HTTP/1.1 request, read out of bytes as they come (RFC 9112). It knows no socket and no clock:
 * the server feeds it what a connection received, the fuzzer whatever it likes.
 *
 * Strict where leniency has hurt others: lines end in CRLF, no folded fields, no blank before a
 * colon, exactly one Host (RFC 9112 §3.2), at most one Content-Length, never together with
 * Transfer-Encoding (§6.1), no coding but chunked. Path and query stay as they were sent,
 * percent-escapes, empty segments and dots included.
 */
#pragma once

#include "base/base.h"

#define REQUEST_FIELDS_MAX 100

enum request_state {
	REQUEST_HEAD,
	REQUEST_BODY, /* Content-Length says how much */
	REQUEST_CHUNK_SIZE,
	REQUEST_CHUNK_DATA,
	REQUEST_CHUNK_END, /* the CRLF behind the data */
	REQUEST_TRAILER,
	REQUEST_DONE,
	REQUEST_FAILED, /* status and reason say why; the connection can't be used any longer */
};

struct request_field {
	const char *name;
	const char *value;
};

struct request {
	enum request_state state;
	int status;	    /* of the refusal: 400, 413, 417, 431, 501, 505 */
	const char *reason; /* a sentence for the client, static */

	/* From the end of the head on. They live as long as the request. */
	const char *method;
	const char *path;
	const char *query; /* "" when none */
	struct request_field fields[REQUEST_FIELDS_MAX];
	size_t n_fields;
	bool keep_alive;
	bool is_1_0;
	bool wants_continue; /* Expect: 100-continue */

	struct buf body;

	/* Private. */
	struct buf head;
	struct buf line; /* of the chunked coding */
	size_t max_body;
	size_t remain;	     /* bytes of the body or of the chunk */
	size_t trailer_room; /* bytes that trailers may still have */
};

void request_init(struct request *request, size_t max_head, size_t max_body);
void request_done(struct request *request);

/* Takes what belongs to this request off the front and returns how many bytes that were: all,
 * unless the state is REQUEST_DONE or REQUEST_FAILED afterwards. */
size_t request_feed(struct request *request, const char *data, size_t len);

/* True once a byte of the request has come. */
bool request_begun(const struct request *request);

/* Value of the first field of that name (case-insensitive), NULL when absent. Borrowed. */
const char *request_field(const struct request *request, const char *name);
/* Whether token (in any case) is an element of a field's comma-separated value. */
bool request_list_has(const char *list, const char *token);
