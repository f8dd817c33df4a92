#include <arpa/inet.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/base.h"
#include "http/client.h"

#define BODY_MAX ((size_t)4 << 20)
#define HEADERS_MAX ((size_t)256 << 10)

struct http_client {
	struct http_client_config config;
	char *ca_file;
	char *user_agent;
	CURL *curl; /* keeps connections open between requests */
};

/* One request on its way. */
struct transfer {
	struct http_client *client;
	const struct http_client_request *request;
	struct http_client_response response;
	bool status_told;
	bool too_large;			/* the body, or its headers */
	int callback_r;			/* what on_body or on_status said */
	char refused[INET6_ADDRSTRLEN]; /* the address that allow_address didn't like, "" when none
					 */
	char text[CURL_ERROR_SIZE];
};

static void curl_start(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

int http_client_new(
	const struct http_client_config *config, struct err *err, struct http_client **ret)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http_client *client;
	CURL *curl;

	pthread_once(&once, curl_start);
	curl = curl_easy_init();
	if (!curl)
		return err_set(err, -ENOMEM, "InternalError", "libcurl can't start.");
	client = xnew(struct http_client);
	client->config = *config;
	client->ca_file = config->ca_file ? xstrdup(config->ca_file) : NULL;
	client->user_agent =
		xstrdup(config->user_agent ? config->user_agent : "berth/" BERTH_VERSION);
	client->curl = curl;
	*ret = client;
	return 0;
}

void http_client_free(struct http_client *client)
{
	if (!client)
		return;
	curl_easy_cleanup(client->curl);
	free(client->ca_file);
	free(client->user_agent);
	free(client);
}

/* Callbacks of libcurl. */

static int tell_status(struct transfer *transfer)
{
	const struct http_client_request *request = transfer->request;
	long status = 0;

	if (transfer->status_told)
		return 0;
	transfer->status_told = true;
	curl_easy_getinfo(transfer->client->curl, CURLINFO_RESPONSE_CODE, &status);
	if (request->on_status)
		transfer->callback_r = request->on_status((int)status, request->arg);
	return transfer->callback_r;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *transfer = arg;
	size_t len = size * n;

	/* A new status line begins the headers of the last response; what came before was 100
	 * Continue or a proxy's. */
	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
		buf_clear(&transfer->response.headers);
		return len;
	}
	while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r'))
		len--;
	if (len > 0 && (buf_add(&transfer->response.headers, data, len) < 0 ||
			       buf_addc(&transfer->response.headers, '\n') < 0)) {
		transfer->too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	return size * n;
}

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *transfer = arg;
	const struct http_client_request *request = transfer->request;

	if (tell_status(transfer) < 0)
		return CURL_WRITEFUNC_ERROR;
	if (request->on_body) {
		transfer->callback_r = request->on_body(data, size * n, request->arg);
		return transfer->callback_r < 0 ? CURL_WRITEFUNC_ERROR : size * n;
	}
	if (buf_add(&transfer->response.body, data, size * n) < 0) {
		transfer->too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	return size * n;
}

/* Runs for each address that is tried, after names were resolved: nothing can change between this
 * look and connect. */
static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct transfer *transfer = arg;
	const struct http_client_config *config = &transfer->client->config;
	char text[INET6_ADDRSTRLEN] = "";
	int fd;

	if (address->family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&address->addr)->sin_addr, text,
			sizeof(text));
	else if (address->family == AF_INET6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&address->addr)->sin6_addr, text,
			sizeof(text));
	if (text[0] == '\0')
		return CURL_SOCKET_BAD;
	if (config->allow_address && !config->allow_address(text, config->arg)) {
		memcpy(transfer->refused, text, sizeof(text));
		return CURL_SOCKET_BAD;
	}
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* Errors. */

/* "registry.example:5000" out of a URL; the whole of it where that fails. */
static char *url_host(const char *url)
{
	CURLU *parts = curl_url();
	char *host = NULL, *port = NULL, *text;

	if (parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
		curl_url_get(parts, CURLUPART_PORT, &port, 0);
		text = port ? xasprintf("%s:%s", host, port) : xstrdup(host);
	} else {
		text = xstrdup(url);
	}
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(parts);
	return text;
}

static int explain_connect(struct transfer *transfer, const char *host, struct err *err)
{
	long os_errno = 0;

	if (transfer->refused[0])
		return err_set(err, -EACCES, "HttpRefused",
			"Connections to %s (address %s) are not allowed.", host, transfer->refused);
	curl_easy_getinfo(transfer->client->curl, CURLINFO_OS_ERRNO, &os_errno);
	if (os_errno == ECONNREFUSED)
		return err_set(
			err, -ECONNREFUSED, "HttpUnreachable", "%s refused the connection.", host);
	if (os_errno == ENETUNREACH || os_errno == EHOSTUNREACH)
		return err_set(
			err, -EHOSTUNREACH, "HttpUnreachable", "There is no route to %s.", host);
	return err_set(err, -EHOSTUNREACH, "HttpUnreachable", "%s can't be reached: %s.", host,
		transfer->text);
}

static int explain_timeout(struct transfer *transfer, const char *host, struct err *err)
{
	curl_off_t connected_us = 0;

	curl_easy_getinfo(transfer->client->curl, CURLINFO_CONNECT_TIME_T, &connected_us);
	if (connected_us == 0)
		return err_set(err, -ETIMEDOUT, "HttpTimeout",
			"%s didn't accept the connection in time.", host);
	return err_set(err, -ETIMEDOUT, "HttpTimeout", "%s was too slow to answer.", host);
}

static int explain(struct transfer *transfer, CURLcode code, struct err *err)
{
	_cleanup_free_ char *host = url_host(transfer->request->url);
	const char *text = transfer->text[0] ? transfer->text : curl_easy_strerror(code);

	if (transfer->callback_r < 0)
		return err_is_set(err) ? transfer->callback_r
				       : err_errno(err, transfer->callback_r,
						 "reading the answer of %s", host);
	if (transfer->too_large)
		return err_set(err, -EFBIG, "HttpTooLarge",
			"%s sent a larger answer than is accepted.", host);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wswitch-enum"
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_set(err, -EHOSTUNREACH, "HttpUnreachable",
			"The host name of %s is unknown.", host);
	case CURLE_COULDNT_RESOLVE_PROXY:
		return err_set(err, -EHOSTUNREACH, "HttpUnreachable",
			"The host name of the proxy is unknown.");
	case CURLE_COULDNT_CONNECT:
		return explain_connect(transfer, host, err);
	case CURLE_OPERATION_TIMEDOUT:
		return explain_timeout(transfer, host, err);
	case CURLE_PEER_FAILED_VERIFICATION:
		return err_set(err, -EKEYREJECTED, "HttpTls",
			"The certificate of %s is not trusted: %s.", host, text);
	case CURLE_SSL_CACERT_BADFILE:
		return err_set(err, -ENOENT, "HttpTls", "The certificates in %s can't be read.",
			transfer->client->ca_file ? transfer->client->ca_file
						  : "the system's store");
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CIPHER:
	case CURLE_USE_SSL_FAILED:
		return err_set(err, -EPROTO, "HttpTls", "%s doesn't speak TLS as expected: %s.",
			host, text);
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return err_set(err, -EINVAL, "HttpRefused", "%s is no https or http URL.",
			transfer->request->url);
	case CURLE_GOT_NOTHING:
		return err_set(err, -ECONNRESET, "HttpBroken",
			"%s closed the connection without an answer.", host);
	case CURLE_PARTIAL_FILE:
		return err_set(err, -ECONNRESET, "HttpBroken",
			"%s closed the connection in the middle.", host);
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		return err_set(err, -ECONNRESET, "HttpBroken", "The connection to %s broke: %s.",
			host, text);
	default:
		return err_set(
			err, -EIO, "HttpBroken", "The exchange with %s failed: %s.", host, text);
	}
#pragma GCC diagnostic pop
}

/* The request. */

static int add_header(struct curl_slist **list, const char *line)
{
	struct curl_slist *more;

	if (strpbrk(line, "\r\n"))
		return -EINVAL;
	more = curl_slist_append(*list, line);
	if (!more)
		abort();
	*list = more;
	return 0;
}

static int make_headers(
	const struct http_client_request *request, struct err *err, struct curl_slist **ret)
{
	struct curl_slist *list = NULL;

	/* No waiting for 100 Continue, and no content type that nobody asked for. */
	add_header(&list, "Expect:");
	add_header(&list, "Content-Type:");
	for (size_t i = 0; request->headers && request->headers[i]; i++)
		if (add_header(&list, request->headers[i]) < 0) {
			curl_slist_free_all(list);
			return err_set(
				err, -EINVAL, "HttpBroken", "A request header has a line break.");
		}
	*ret = list;
	return 0;
}

static void set_method(CURL *curl, const struct http_client_request *request)
{
	bool has_body = request->body || str_eq(request->method, "POST") ||
			str_eq(request->method, "PUT") || str_eq(request->method, "PATCH");

	if (str_eq(request->method, "HEAD")) {
		curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
		return;
	}
	if (has_body) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
			request->body ? request->body : ""); /* not copied */
	}
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
}

static void set_limits(CURL *curl, const struct http_client_config *config,
	const struct http_client_request *request)
{
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https,http");
	curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "https");
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
		config->connect_timeout_ms > 0 ? config->connect_timeout_ms : 10000L);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1000L);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME,
		config->low_speed_seconds > 0 ? config->low_speed_seconds : 30L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, request->timeout_ms);
	curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
}

static void set_all(struct transfer *transfer, struct curl_slist *headers)
{
	struct http_client *client = transfer->client;
	CURL *curl = client->curl;

	curl_easy_reset(curl); /* options only: connections and the session cache stay */
	set_limits(curl, &client->config, transfer->request);
	curl_easy_setopt(curl, CURLOPT_URL, transfer->request->url);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, client->user_agent);
	if (client->ca_file) {
		curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
		curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
	}
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, transfer);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, transfer->text);
	set_method(curl, transfer->request);
}

int http_client_do(struct http_client *client, const struct http_client_request *request,
	struct err *err, struct http_client_response *ret)
{
	struct transfer transfer = {
		.client = client,
		.request = request,
		.response.headers = BUF_MAX(HEADERS_MAX),
		.response.body = BUF_MAX(request->max_body ? request->max_body : BODY_MAX),
	};
	struct curl_slist *headers = NULL;
	CURLcode code;
	long status = 0;
	int r;

	if (err)
		*err = (struct err){0};
	r = make_headers(request, err, &headers);
	if (r < 0)
		return r;
	set_all(&transfer, headers);
	code = curl_easy_perform(client->curl);
	if (code == CURLE_OK)
		r = tell_status(&transfer); /* there was no body to tell it ahead of */
	if (code != CURLE_OK || r < 0)
		r = explain(&transfer, code, err);
	curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
	/* The handle outlives this call, and so does every pointer in it. */
	curl_easy_reset(client->curl);
	curl_slist_free_all(headers);
	if (r < 0) {
		http_client_response_done(&transfer.response);
		return r;
	}
	*ret = transfer.response;
	ret->status = (int)status;
	return 0;
}

void http_client_response_done(struct http_client_response *response)
{
	buf_done(&response->headers);
	buf_done(&response->body);
	response->status = 0;
}

char *http_client_response_header(const struct http_client_response *response, const char *name)
{
	size_t len = strlen(name);
	const char *end;

	for (const char *line = buf_str(&response->headers); *line; line = end + 1) {
		const char *value = line + len + 1;

		end = strchr(line, '\n');
		if (strncasecmp(line, name, len) != 0 || line[len] != ':')
			continue;
		value += strspn(value, " \t");
		return xstrndup(value, value < end ? (size_t)(end - value) : 0);
	}
	return NULL;
}
