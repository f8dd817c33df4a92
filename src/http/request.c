#include "http/request.h"

#define CHUNK_LINE_MAX 256 /* size and extensions */
#define TRAILER_MAX 8192

/* RFC 9110 §5.6.2 */
static const bool token_chars[256] = {
	['a' ... 'z'] = true,
	['A' ... 'Z'] = true,
	['0' ... '9'] = true,
	['!'] = true,
	['#' ... '\''] = true,
	['*'] = true,
	['+'] = true,
	['-'] = true,
	['.'] = true,
	['^' ... '`'] = true,
	['|'] = true,
	['~'] = true,
};

static bool is_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!token_chars[(unsigned char)s[i]])
			return false;
	return len > 0;
}

static int fail(struct request *request, int status, const char *reason)
{
	request->state = REQUEST_FAILED;
	request->status = status;
	request->reason = reason;
	return -EBADMSG;
}

void request_init(struct request *request, size_t max_head, size_t max_body)
{
	request->state = REQUEST_HEAD;
	request->status = 0;
	request->reason = NULL;
	request->method = request->path = request->query = NULL;
	request->n_fields =
		0; /* the fields themselves are left as they are: this runs for each request */
	request->keep_alive = request->is_1_0 = request->wants_continue = false;
	request->head = BUF_MAX(max_head + 4);
	request->body = BUF_MAX(MAX(max_body, 1));
	request->line = BUF_MAX(CHUNK_LINE_MAX);
	request->max_body = max_body;
	request->remain = 0;
	request->trailer_room = TRAILER_MAX;
}

void request_done(struct request *request)
{
	buf_done(&request->head);
	buf_done(&request->body);
	buf_done(&request->line);
}

bool request_begun(const struct request *request)
{
	return request->state != REQUEST_HEAD || request->head.len > 0;
}

const char *request_field(const struct request *request, const char *name)
{
	for (size_t i = 0; i < request->n_fields; i++)
		if (str_eq_nocase(request->fields[i].name, name))
			return request->fields[i].value;
	return NULL;
}

/* The head, in place: separators become NUL. */

static int parse_target(struct request *request, char *target)
{
	char *mark;

	if (target[0] == '\0')
		return fail(request, 400, "The request line has no target.");
	for (const char *c = target; *c; c++)
		if (*c <= ' ' || *c > '~' ||
			*c == '#') /* char may be signed: bytes from 0x80 on are out, too */
			return fail(request, 400,
				"The request target has a byte that must be percent-encoded.");

	request->query = "";
	mark = strchr(target, '?');
	if (mark) {
		*mark = '\0';
		request->query = mark + 1;
	}
	if (target[0] == '/') {
		request->path = target;
		return 0;
	}
	/* RFC 9112 §3.2.2: a server must understand the absolute form as well. */
	if (strncasecmp(target, "https://", 8) == 0 || strncasecmp(target, "http://", 7) == 0) {
		request->path = strchr(strchr(target, ':') + 3, '/');
		if (!request->path)
			request->path = "/";
		return 0;
	}
	if (str_eq(target, "*") && str_eq(request->method, "OPTIONS")) {
		request->path = target;
		return 0;
	}
	return fail(request, 400, "The request target must be a path.");
}

static int parse_request_line(struct request *request, char *line)
{
	char *target = strchr(line, ' ');
	char *version = target ? strchr(target + 1, ' ') : NULL;

	if (!version)
		return fail(
			request, 400, "The request line isn't of the form METHOD TARGET HTTP/1.1.");
	*target++ = '\0';
	*version++ = '\0';
	if (!is_token(line, strlen(line)))
		return fail(request, 400, "The method isn't a token.");
	request->method = line;

	request->is_1_0 = str_eq(version, "HTTP/1.0");
	request->keep_alive = str_eq(version, "HTTP/1.1");
	if (!request->is_1_0 && !request->keep_alive)
		return str_starts(version, "HTTP/")
			       ? fail(request, 505, "This server speaks HTTP/1.1.")
			       : fail(request, 400, "The request line has no HTTP version.");
	return parse_target(request, target);
}

static int parse_field(struct request *request, char *line)
{
	char *colon = strchr(line, ':');
	char *value, *end;

	if (!colon || !is_token(line, (size_t)(colon - line)))
		return fail(request, 400, "A header field isn't of the form Name: value.");
	if (request->n_fields == REQUEST_FIELDS_MAX)
		return fail(request, 431, "The request has too many header fields.");
	*colon = '\0';
	value = colon + 1;
	value += strspn(value, " \t");
	end = value + strlen(value);
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	for (const char *c = value; *c; c++)
		if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
			return fail(request, 400, "A header field has a control character.");
	request->fields[request->n_fields++] = (struct request_field){line, value};
	return 0;
}

bool request_list_has(const char *list, const char *token)
{
	size_t len = strlen(token);

	for (;;) {
		size_t n;

		list += strspn(list, " \t,");
		if (!*list)
			return false;
		n = strcspn(list, " \t,;");
		if (n == len && strncasecmp(list, token, len) == 0)
			return true;
		list += strcspn(list, ",");
	}
}

struct framing {
	const char *host;
	const char *length;
	const char *coding;
};

/* A field that may be there only once. */
static int parse_once(struct request *request, const char **slot, const struct request_field *field)
{
	if (*slot)
		return fail(
			request, 400, "Host, Content-Length or Transfer-Encoding is there twice.");
	*slot = field->value;
	return 0;
}

static int parse_field_meaning(
	struct request *request, const struct request_field *field, struct framing *framing)
{
	const char *name = field->name;

	/* Most names are told apart by their first letter. */
	switch (name[0] | 0x20) {
	case 'h':
		return str_eq_nocase(name, "Host") ? parse_once(request, &framing->host, field) : 0;
	case 't':
		return str_eq_nocase(name, "Transfer-Encoding")
			       ? parse_once(request, &framing->coding, field)
			       : 0;
	case 'c':
		if (str_eq_nocase(name, "Content-Length"))
			return parse_once(request, &framing->length, field);
		if (str_eq_nocase(name, "Connection")) {
			if (request_list_has(field->value, "close"))
				request->keep_alive = false;
			else if (request_list_has(field->value, "keep-alive"))
				request->keep_alive = true;
		}
		return 0;
	case 'e':
		if (!str_eq_nocase(name, "Expect"))
			return 0;
		if (!str_eq_nocase(field->value, "100-continue"))
			return fail(request, 417,
				"The only expectation that is known is 100-continue.");
		request->wants_continue = true;
		return 0;
	default:
		return 0;
	}
}

/* RFC 9112 §6.3: where the body ends. */
static int parse_framing(struct request *request, const struct framing *framing)
{
	uint64_t length = 0;
	int r;

	if (!request->is_1_0 && !framing->host)
		return fail(request, 400, "The Host header is missing.");
	if (framing->coding) {
		if (framing->length)
			return fail(request, 400,
				"Content-Length and Transfer-Encoding exclude each other.");
		if (request->is_1_0)
			return fail(request, 400, "HTTP/1.0 has no Transfer-Encoding.");
		if (!str_eq_nocase(framing->coding, "chunked"))
			return fail(request, 501,
				"The only Transfer-Encoding that is known is chunked.");
		request->state = REQUEST_CHUNK_SIZE;
		return 0;
	}
	if (framing->length) {
		r = str_to_u64(framing->length, UINT64_MAX, &length);
		if (r < 0 && r != -ERANGE)
			return fail(request, 400, "Content-Length isn't a number.");
		if (r < 0 || length > request->max_body)
			return fail(request, 413, "The request body is too large.");
	}
	request->remain = length;
	request->state = length > 0 ? REQUEST_BODY : REQUEST_DONE;
	return 0;
}

/* The head is complete in request->head, its empty line included. */
static int parse_head(struct request *request)
{
	struct framing framing = {0};
	char *line = request->head.data;
	char *end = line + request->head.len;
	bool first = true;
	int r;

	if (memchr(line, '\0', request->head.len))
		return fail(request, 400, "The header has a NUL byte.");
	for (char *next; line < end; line = next) {
		char *eol = strchr(line, '\n');

		/* The head ends in CRLF, so there is always one more. */
		if (eol == line || eol[-1] != '\r')
			return fail(request, 400, "A header line doesn't end in CRLF.");
		next = eol + 1;
		eol[-1] = '\0';
		if (line[0] == '\0')
			break;
		if (strchr(line, '\r'))
			return fail(request, 400, "A header line has a stray CR.");
		if (first) {
			r = parse_request_line(request, line);
		} else {
			r = parse_field(request, line);
			if (r == 0)
				r = parse_field_meaning(
					request, &request->fields[request->n_fields - 1], &framing);
		}
		if (r < 0)
			return r;
		first = false;
	}
	return parse_framing(request, &framing);
}

/* A bare LF would only be noticed when the empty line comes, which it may never do. */
static bool has_bare_lf(const struct buf *head, size_t from)
{
	for (const char *lf = head->data + from;
		(lf = memchr(lf, '\n', head->len - (size_t)(lf - head->data))); lf++)
		if (lf == head->data || lf[-1] != '\r')
			return true;
	return false;
}

static size_t feed_head(struct request *request, const char *data, size_t len)
{
	struct buf *head = &request->head;
	size_t old = head->len, skipped = 0, room, searched;
	const char *end;

	/* RFC 9112 §2.2: empty lines ahead of the request line are ignored. */
	if (old == 0)
		while (skipped < len && (data[skipped] == '\r' || data[skipped] == '\n'))
			skipped++;
	data += skipped;
	len -= skipped;
	if (len == 0)
		return skipped;

	room = head->max - old;
	if (buf_add(head, data, MIN(len, room)) < 0) {
		fail(request, 431, "The request header can't be kept.");
		return skipped;
	}
	searched = old > 3 ? old - 3 : 0;
	end = memmem(head->data + searched, head->len - searched, "\r\n\r\n", 4);
	if (!end) {
		if (has_bare_lf(head, old))
			fail(request, 400, "A header line doesn't end in CRLF.");
		else if (head->len == head->max)
			fail(request, 431, "The request header is too large.");
		return skipped + head->len - old;
	}
	head->len = (size_t)(end - head->data) + 4;
	head->data[head->len] = '\0';
	len = head->len - old; /* parsing doesn't change it, but let us not depend on that */
	parse_head(request);
	return skipped + len;
}

/* Bodies. */

static size_t feed_data(
	struct request *request, const char *data, size_t len, enum request_state then)
{
	len = MIN(len, request->remain);
	if (buf_add(&request->body, data, len) < 0) {
		fail(request, 413, "The request body is too large.");
		return len;
	}
	request->remain -= len;
	if (request->remain == 0)
		request->state = then;
	return len;
}

static int parse_chunk_size(struct request *request, const char *line)
{
	size_t digits = strspn(line, "0123456789abcdefABCDEF");
	const char *rest = line + digits + strspn(line + digits, " \t");
	size_t size = 0;

	if (digits == 0 || digits > 16 || (*rest != '\0' && *rest != ';'))
		return fail(request, 400, "The size of a chunk isn't a hexadecimal number.");
	for (size_t i = 0; i < digits; i++) {
		char c = line[i];

		size = size << 4 | (size_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	if (size > request->max_body - request->body.len)
		return fail(request, 413, "The request body is too large.");
	request->remain = size;
	request->state = size > 0 ? REQUEST_CHUNK_DATA : REQUEST_TRAILER;
	return 0;
}

static int parse_chunk_line(struct request *request, const char *line)
{
	switch (request->state) {
	case REQUEST_CHUNK_SIZE:
		return parse_chunk_size(request, line);
	case REQUEST_CHUNK_END:
		if (line[0] != '\0')
			return fail(request, 400, "A chunk is longer than its size says.");
		request->state = REQUEST_CHUNK_SIZE;
		return 0;
	case REQUEST_TRAILER: /* trailers are read and dropped: RFC 9112 §7.1.2 */
		if (line[0] == '\0') {
			request->state = REQUEST_DONE;
			return 0;
		}
		if (strlen(line) > request->trailer_room)
			return fail(request, 431, "The trailers of the request are too large.");
		request->trailer_room -= strlen(line);
		return 0;
	case REQUEST_HEAD:
	case REQUEST_BODY:
	case REQUEST_CHUNK_DATA:
	case REQUEST_DONE:
	case REQUEST_FAILED:
		break;
	}
	abort();
}

static size_t feed_chunk_line(struct request *request, const char *data, size_t len)
{
	struct buf *line = &request->line;
	const char *lf = memchr(data, '\n', len);
	size_t n = lf ? (size_t)(lf - data) + 1 : len;

	if (buf_add(line, data, n) < 0) {
		fail(request, 400, "A line of the chunked body is too long.");
		return n;
	}
	if (!lf)
		return n;
	if (line->len < 2 || line->data[line->len - 2] != '\r' ||
		memchr(line->data, '\0', line->len) ||
		strchr(line->data, '\r') != line->data + line->len - 2) {
		fail(request, 400, "A line of the chunked body doesn't end in CRLF.");
		return n;
	}
	line->data[line->len - 2] = '\0';
	parse_chunk_line(request, line->data);
	buf_clear(line);
	return n;
}

size_t request_feed(struct request *request, const char *data, size_t len)
{
	size_t used = 0;

	while (used < len) {
		const char *at = data + used;
		size_t left = len - used;

		switch (request->state) {
		case REQUEST_HEAD:
			used += feed_head(request, at, left);
			break;
		case REQUEST_BODY:
			used += feed_data(request, at, left, REQUEST_DONE);
			break;
		case REQUEST_CHUNK_DATA:
			used += feed_data(request, at, left, REQUEST_CHUNK_END);
			break;
		case REQUEST_CHUNK_SIZE:
		case REQUEST_CHUNK_END:
		case REQUEST_TRAILER:
			used += feed_chunk_line(request, at, left);
			break;
		case REQUEST_DONE:
		case REQUEST_FAILED:
			return used;
		}
	}
	return used;
}
