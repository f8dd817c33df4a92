#include <stdio.h>
#include <time.h>

#include "http/response.h"

static const struct {
	int status;
	const char *phrase;
} phrases[] = {
	{100, "Continue"},
	{101, "Switching Protocols"},
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{204, "No Content"},
	{206, "Partial Content"},
	{301, "Moved Permanently"},
	{302, "Found"},
	{303, "See Other"},
	{304, "Not Modified"},
	{307, "Temporary Redirect"},
	{308, "Permanent Redirect"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{406, "Not Acceptable"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{410, "Gone"},
	{412, "Precondition Failed"},
	{413, "Content Too Large"},
	{415, "Unsupported Media Type"},
	{417, "Expectation Failed"},
	{422, "Unprocessable Content"},
	{428, "Precondition Required"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
	{505, "HTTP Version Not Supported"},
	{507, "Insufficient Storage"},
};

const char *response_phrase(int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(phrases); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Unknown";
}

/* IMF-fixdate (RFC 9110 §5.6.7), made once a second on each thread. strftime would follow the
 * locale. */
static const char *date_now(void)
{
	static _Thread_local time_t made_at = -1;
	static _Thread_local char text[64];
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t now = time(NULL);
	struct tm tm;

	if (now == made_at || !gmtime_r(&now, &tm))
		return text;
	snprintf(text, sizeof(text), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
		days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900,
		tm.tm_hour, tm.tm_min, tm.tm_sec);
	made_at = now;
	return text;
}

static char *put(char *to, const char *from, size_t len)
{
	memcpy(to, from, len);
	return to + len;
}

/* A value may carry what a tenant wrote: without its line breaks it can't become a header of its
 * own. */
static char *put_value(char *to, const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		*to++ = (unsigned char)value[i] < ' ' || value[i] == 0x7f ? ' ' : value[i];
	return to;
}

static bool is_ours(const char *name)
{
	return str_eq_nocase(name, "Content-Length") || str_eq_nocase(name, "Transfer-Encoding") ||
	       str_eq_nocase(name, "Connection");
}

/* RFC 9110 §8.6: these statuses have neither a body nor its length. */
static bool has_no_body(int status)
{
	return status < 200 || status == 204 || status == 304;
}

static const char *const connection_field[] = {
	[CONNECTION_STAYS] = "",
	[CONNECTION_STAYS_1_0] = "Connection: keep-alive\r\n",
	[CONNECTION_CLOSES] = "Connection: close\r\n",
};

void response_build(const struct http_response *from, bool head_only, enum persistence then,
	struct response *ret)
{
	char top[160], bottom[160];
	int n_top, n_bottom = 0;
	bool has_date = false;
	size_t body_len = head_only || has_no_body(from->status) ? 0 : from->body_len;
	size_t size;
	char *at;

	n_top = snprintf(top, sizeof(top), "HTTP/1.1 %03d %s\r\n", from->status,
		response_phrase(from->status));
	size = (size_t)n_top + sizeof(bottom) + body_len;
	for (size_t i = 0; i < from->n_headers; i++) {
		size += strlen(from->headers[i].name) + strlen(from->headers[i].value) + 4;
		has_date |= str_eq_nocase(from->headers[i].name, "Date");
	}

	at = ret->data = xmalloc(size);
	at = put(at, top, (size_t)n_top);
	for (size_t i = 0; i < from->n_headers; i++) {
		const struct http_header *header = &from->headers[i];

		if (is_ours(header->name))
			continue;
		at = put_value(at, header->name, strlen(header->name));
		at = put(at, ": ", 2);
		at = put_value(at, header->value, strlen(header->value));
		at = put(at, "\r\n", 2);
	}
	if (!has_no_body(from->status))
		n_bottom =
			snprintf(bottom, sizeof(bottom), "Content-Length: %zu\r\n", from->body_len);
	n_bottom += snprintf(bottom + n_bottom, sizeof(bottom) - (size_t)n_bottom, "%s%s%s%s\r\n",
		has_date ? "" : "Date: ", has_date ? "" : date_now(), has_date ? "" : "\r\n",
		connection_field[then]);
	at = put(at, bottom, (size_t)n_bottom);
	if (body_len)
		at = put(at, from->body, body_len);
	ret->len = (size_t)(at - ret->data);
	ret->close = then == CONNECTION_CLOSES;
	assert(ret->len <= size);
}

void response_build_refusal(int status, const char *reason, struct response *ret)
{
	static const struct http_header json = {"Content-Type", "application/json; charset=utf-8"};
	/* The one that a client may look for has the name that it has in Azure. */
	const char *phrase = status == 413 ? "RequestContentTooLarge" : response_phrase(status);
	char code[64], body[512];
	size_t n = 0;

	/* "Bad Request" as a code is "BadRequest". Reasons are texts of our own: nothing to escape.
	 */
	for (const char *c = phrase; *c && n < sizeof(code) - 1; c++)
		if (*c != ' ')
			code[n++] = *c;
	code[n] = '\0';
	snprintf(body, sizeof(body), "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}", code,
		reason);
	response_build(&(struct http_response){.status = status,
			       .headers = &json,
			       .n_headers = 1,
			       .body = body,
			       .body_len = strlen(body)},
		false, CONNECTION_CLOSES, ret);
}

void response_done(struct response *response)
{
	free(response->data);
	*response = (struct response){0};
}
