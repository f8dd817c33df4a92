/* The bytes of an answer: status line, header fields, body (RFC 9112 §4), in one allocation. */
#pragma once

#include "http/server.h"

/* What becomes of the connection. HTTP/1.0 has to be told when it stays. */
enum persistence { CONNECTION_STAYS, CONNECTION_STAYS_1_0, CONNECTION_CLOSES };

struct response {
	char *data; /* owned */
	size_t len;
	bool close; /* the connection ends with it */
};

/* head_only: the answer to HEAD, which has the length of the body but not the body. Content-Length,
 * Date and, where the connection ends, Connection are added; what the caller gave under the first
 * and the last of these names, and as Transfer-Encoding, is left out. A control character in a
 * field's value becomes a blank. Never fails. */
void response_build(const struct http_response *from, bool head_only, enum persistence then,
	struct response *ret);
/* A refusal by the server itself, with a small JSON body that says why. */
void response_build_refusal(int status, const char *reason, struct response *ret);
void response_done(struct response *response);

/* "Not Found" for 404; "Unknown" for what has no name. */
const char *response_phrase(int status);
