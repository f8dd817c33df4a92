#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "worker/probe/get.h"

/* As much of a body as Kubernetes reads; more is left unread. */
#define BODY_MAX ((size_t)10 << 10)
#define HEADERS_MAX ((size_t)64 << 10)
#define TIMEOUT_MAX_MS 86400000

struct gets {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer *timer;
	get_done_fn done;
	void *arg;
	struct get *list;
};

struct get {
	struct gets *gets;
	struct get *prev, *next;
	int64_t id, timeout_ms;
	CURL *curl;
	struct curl_slist *headers;
	int socket; /* until libcurl takes it */
	size_t headers_len, body_len;
	bool body_is_enough;
	const char *refused; /* why it never began; NULL: for want of memory or descriptors */
};

static void get_free(struct get *get)
{
	if (get->prev)
		get->prev->next = get->next;
	else
		get->gets->list = get->next;
	if (get->next)
		get->next->prev = get->prev;
	if (get->curl) {
		curl_multi_remove_handle(get->gets->multi, get->curl);
		curl_easy_cleanup(get->curl);
	}
	curl_slist_free_all(get->headers);
	fd_close(get->socket);
	free(get);
}

/* --- libcurl's callbacks --- */

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct get *get = arg;

	if (get->socket < 0 || address->family != AF_INET)
		return CURL_SOCKET_BAD;
	return take_fd(get->socket);
}

static size_t take_header(char *data, size_t size, size_t n, void *arg)
{
	struct get *get = arg;

	get->headers_len += size * n;
	return get->headers_len > HEADERS_MAX ? 0 : size * n;
}

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
	struct get *get = arg;

	get->body_len += size * n;
	get->body_is_enough = get->body_len >= BODY_MAX;
	return get->body_is_enough ? 0 : size * n;
}

/* --- ends --- */

static const char *explain(const struct get *get, CURLcode code, char *text, size_t size)
{
	long number = 0;

	switch ((int)code) {
	case CURLE_OPERATION_TIMEDOUT:
		snprintf(text, size, "no answer within %g s", (double)get->timeout_ms / 1000);
		return text;
	case CURLE_COULDNT_CONNECT:
		curl_easy_getinfo(get->curl, CURLINFO_OS_ERRNO, &number);
		snprintf(text, size, "%s", number ? err_str(-(int)number) : "can't connect");
		return text;
	case CURLE_WRITE_ERROR:
		return "the headers of the answer are too long";
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
		return "what was answered is not HTTP";
	default:
		return curl_easy_strerror(code);
	}
}

static void ended(struct get *get, CURLcode code)
{
	struct gets *gets = get->gets;
	char text[256];
	long status = 0;

	if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && get->body_is_enough))
		curl_easy_getinfo(get->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 100 && status <= 999)
		gets->done(get->id, (int)status, NULL, gets->arg);
	else if (code == CURLE_OK)
		gets->done(get->id, 0, "what was answered is not HTTP", gets->arg);
	else
		gets->done(get->id, 0, explain(get, code, text, sizeof(text)), gets->arg);
	get_free(get);
}

static void collect(struct gets *gets)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(gets->multi, &left))) {
		struct get *get = NULL;
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &get);
		ended(get, code);
	}
}

/* --- the loop's side --- */

static void socket_ready(int fd, uint32_t events, void *arg)
{
	struct gets *gets = arg;
	int flags = (events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
		    (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
		    (events & EPOLLERR ? CURL_CSELECT_ERR : 0);
	int running;

	curl_multi_socket_action(gets->multi, fd, flags, &running);
	collect(gets);
}

static int watch_socket(CURL *curl, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct gets *gets = arg;
	struct loop_source *source = socket_arg;
	uint32_t events = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) |
			  (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);

	if (what == CURL_POLL_REMOVE) {
		loop_remove(source);
		curl_multi_assign(gets->multi, fd, NULL);
	} else if (source) {
		loop_modify(source, events);
	} else {
		source = loop_add(gets->loop, fd, events, socket_ready, gets);
		curl_multi_assign(gets->multi, fd, source);
	}
	return 0;
}

static void time_is_up(void *arg)
{
	struct gets *gets = arg;
	int running;

	gets->timer = NULL;
	curl_multi_socket_action(gets->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(gets);
}

static int set_timer(CURLM *multi, long timeout_ms, void *arg)
{
	struct gets *gets = arg;

	loop_cancel(gets->timer);
	gets->timer = timeout_ms < 0 ? NULL : loop_after(gets->loop, timeout_ms, time_is_up, gets);
	return 0;
}

int gets_new(struct loop *loop, get_done_fn done, void *arg, struct err *err, struct gets **ret)
{
	struct gets *gets;
	SSL_CTX *warm;

	curl_global_init(CURL_GLOBAL_DEFAULT);
	/* OpenSSL reads its configuration and its modules at the first use. */
	warm = SSL_CTX_new(TLS_client_method());
	SSL_CTX_free(warm);
	gets = xnew(struct gets);
	*gets = (struct gets){.loop = loop, .done = done, .arg = arg, .multi = curl_multi_init()};
	if (!gets->multi) {
		free(gets);
		return err_set(err, -ENOMEM, "InternalError", "libcurl can't start.");
	}
	curl_multi_setopt(gets->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(gets->multi, CURLMOPT_SOCKETDATA, gets);
	curl_multi_setopt(gets->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(gets->multi, CURLMOPT_TIMERDATA, gets);
	*ret = gets;
	return 0;
}

void gets_free(struct gets *gets)
{
	if (!gets)
		return;
	while (gets->list)
		get_free(gets->list);
	curl_multi_cleanup(gets->multi);
	loop_cancel(gets->timer);
	free(gets);
}

/* --- a request --- */

/* The names and values were checked where they came from: no byte of them ends a line. */
static void add_headers(struct get *get, const json_t *headers)
{
	const json_t *header;
	size_t i;

	json_array_foreach (headers, i, header) {
		const char *name = json_get_str(header, "name", ""),
			   *value = json_get_str(header, "value", "");
		/* libcurl's way to send a header without a value. */
		_cleanup_free_ char *line =
			value[0] ? xasprintf("%s: %s", name, value) : xasprintf("%s;", name);

		get->headers = curl_slist_append(get->headers, line);
	}
}

static char *make_url(const json_t *request)
{
	const char *address = json_get_str(request, "address", ""),
		   *path = json_get_str(request, "path", "");
	int64_t port = json_get_int(request, "port", 0);
	struct in_addr numeric;

	if (inet_pton(AF_INET, address, &numeric) != 1 || path[0] != '/' || port < 1 ||
		port > 65535)
		return NULL;
	return xasprintf("%s://%s:%d%s",
		str_eq(json_get_str(request, "scheme", ""), "https") ? "https" : "http", address,
		(int)port, path);
}

static void set_options(struct get *get, const char *url)
{
	CURL *curl = get->curl;

	curl_easy_setopt(curl, CURLOPT_PRIVATE, get);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_IPRESOLVE, (long)CURL_IPRESOLVE_V4);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
	curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
	curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 4096L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)get->timeout_ms);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)get->timeout_ms);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
	curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "berth-probe/" BERTH_VERSION);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, get->headers);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, get);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, get);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, get);
}

static void refuse(void *arg)
{
	struct get *get = arg;

	get->gets->done(get->id, 0, get->refused, get->gets->arg);
	get_free(get);
}

void gets_start(struct gets *gets, const json_t *request, int socket)
{
	_cleanup_free_ char *url = make_url(request);
	int64_t timeout_ms = json_get_int(request, "timeoutMs", 1000);
	struct get *get = xnew(struct get);

	*get = (struct get){.gets = gets,
		.id = json_get_int(request, "id", 0),
		.timeout_ms = MIN(MAX(timeout_ms, 1), TIMEOUT_MAX_MS),
		.socket = socket,
		.next = gets->list};
	if (gets->list)
		gets->list->prev = get;
	gets->list = get;
	if (!url || socket < 0) {
		get->refused = url ? NULL : "the request can't be understood";
		loop_post(gets->loop, refuse, get);
		return;
	}
	add_headers(get, json_get_arr(request, "headers"));
	get->curl = curl_easy_init();
	if (get->curl) {
		set_options(get, url);
		if (curl_multi_add_handle(gets->multi, get->curl) == CURLM_OK)
			return;
		curl_easy_cleanup(get->curl);
		get->curl = NULL;
	}
	loop_post(gets->loop, refuse, get);
}
