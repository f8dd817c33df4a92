/* Probes as control sends them. Their words go into an HTTP request and a command line, so they are
 * bounded and checked here. */
#include "node/agent/spec.h"

#define WORDS_MAX 256
#define PATH_BYTES_MAX 2048
#define HEADERS_MAX 64
#define HEADER_BYTES_MAX 2048
#define SECONDS_MAX 86400
#define THRESHOLD_MAX 10000

static int bad(struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "InvalidGroupSpec",
		"The group's specification has no valid '%s' of a probe.", what);
}

/* No byte that could end a line of the request or hide what follows. */
static bool is_line(const char *text, size_t max)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	return n <= max;
}

/* RFC 9110 §5.6.2: token. */
static bool is_token(const char *text)
{
	size_t n = strlen(text);

	return n > 0 && n <= 256 &&
	       strspn(text, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == n;
}

static int parse_headers(const json_t *headers, struct err *err)
{
	const json_t *header;
	size_t i;

	if (json_array_size(headers) > HEADERS_MAX)
		return bad(err, "http.headers");
	json_array_foreach (headers, i, header)
		if (!is_token(json_get_str(header, "name", "")) ||
			!is_line(json_get_str(header, "value", ""), HEADER_BYTES_MAX))
			return bad(err, "http.headers");
	return 0;
}

static bool is_path(const char *path)
{
	return path[0] == '/' && is_line(path, PATH_BYTES_MAX) && !strpbrk(path, " #");
}

static int parse_http(const json_t *http, struct probe_spec *probe, struct err *err)
{
	const char *scheme = json_get_str(http, "scheme", "http");
	int64_t port = json_get_int(http, "port", 0);

	probe->path = json_get_str(http, "path", "/");
	probe->headers = json_get_arr(http, "headers");
	probe->https = str_eq_nocase(scheme, "https");
	if (!probe->https && !str_eq_nocase(scheme, "http"))
		return bad(err, "http.scheme");
	if (!is_path(probe->path))
		return bad(err, "http.path");
	if (port < 1 || port > 65535)
		return bad(err, "http.port");
	probe->port = (uint16_t)port;
	return parse_headers(probe->headers, err);
}

static int parse_exec(const json_t *exec, struct probe_spec *probe, struct err *err)
{
	size_t i, n = json_array_size(exec);
	const json_t *word;

	if (n < 1 || n > WORDS_MAX)
		return bad(err, "exec");
	probe->command = xcalloc(n + 1, sizeof(*probe->command));
	json_array_foreach (exec, i, word) {
		if (!json_is_string(word))
			return bad(err, "exec");
		probe->command[i] = json_string_value(word);
	}
	return 0;
}

static int parse_number(
	const json_t *json, const char *key, int fallback, int min, int max, int *ret)
{
	int64_t value = json_get_int(json, key, fallback);

	if (value < min || value > max)
		return -ERANGE;
	*ret = (int)value;
	return 0;
}

static int parse_numbers(const json_t *json, struct probe_spec *probe, struct err *err)
{
	const struct {
		const char *key;
		int fallback, min, max, *ret;
	} rows[] = {
		{"initialDelaySeconds", 0, 0, SECONDS_MAX, &probe->initial_delay_s},
		{"periodSeconds", 10, 1, SECONDS_MAX, &probe->period_s},
		{"timeoutSeconds", 1, 1, SECONDS_MAX, &probe->timeout_s},
		{"successThreshold", 1, 1, THRESHOLD_MAX, &probe->success_threshold},
		{"failureThreshold", 3, 1, THRESHOLD_MAX, &probe->failure_threshold},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (parse_number(json, rows[i].key, rows[i].fallback, rows[i].min, rows[i].max,
			    rows[i].ret) < 0)
			return bad(err, rows[i].key);
	return 0;
}

int probe_spec_parse(const json_t *json, struct err *err, struct probe_spec **ret)
{
	const json_t *exec = json_get_arr(json, "exec"), *http = json_get_obj(json, "http");
	struct probe_spec *probe;
	int r;

	if (!json || json_is_null(json))
		return 0;
	if (!exec == !http)
		return bad(err, "exec or http");
	probe = xnew(struct probe_spec);
	r = exec ? parse_exec(exec, probe, err) : parse_http(http, probe, err);
	if (r == 0)
		r = parse_numbers(json, probe, err);
	if (r < 0) {
		probe_spec_free(probe);
		return r;
	}
	*ret = probe;
	return 0;
}

void probe_spec_free(struct probe_spec *probe)
{
	if (!probe)
		return;
	free(probe->command);
	free(probe);
}
