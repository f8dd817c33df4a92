#include "worker/pull/registry.h"

#include <stdio.h>

#include "base/json.h"
#include "http/client.h"
#include "worker/pull/challenge.h"
#include "worker/pull/manifest.h"
#include "worker/pull/trust.h"

enum {
	REDIRECTS_MAX = 5,
	ERROR_BYTES_MAX = 64 << 10,
	TOKEN_BYTES_MAX = 256 << 10,
	TOKEN_MAX = 64 << 10,
	REQUEST_TIMEOUT_MS = 60000, /* of everything but blobs */
};

struct registry {
	const struct job *job;
	const struct reference *ref;
	struct http_client *http;
	struct origin origin;
	bool settled;	     /* the scheme is known to work */
	char *authorization; /* "Authorization: …" or NULL */
	bool used_credentials;
	bool direct;		  /* the request under way goes to the registry itself */
	enum address_class class; /* the most inward address that the registry itself had */
};

/* One request, with all its redirects and its 401. */
struct call {
	const char *method;
	bool manifest; /* with the Accept lines of manifests, and their time limit */
	char *url;     /* owned */
	uint64_t from;
	int (*sink)(const void *data, size_t len, void *arg);
	void *arg;
	uint64_t skip; /* bytes to drop: the server doesn't do ranges */
	int sink_r;    /* what the sink ended the transfer with */
	int status;
	bool answered;		     /* some server gave a status */
	struct buf error;	     /* the body of an answer that is an error */
	char *content_type, *digest; /* headers of the last answer, owned; NULL when absent */
};

static void call_done(struct call *call)
{
	free(call->url);
	free(call->content_type);
	free(call->digest);
	buf_done(&call->error);
}

static bool allow_address(const char *address, void *arg)
{
	struct registry *reg = arg;
	enum address_class class = address_class(address);

	if (class == ADDRESS_FORBIDDEN)
		return false;
	if (!reg->direct)
		return class <= reg->class;
	/* A loopback address is for those who wrote one, not for a name that resolves to it. */
	if (class == ADDRESS_LOOPBACK &&
		!(reg->job->allow_loopback_http && host_is_loopback(reg->origin.host)))
		return false;
	reg->class = MAX(reg->class, class);
	return true;
}

static int client_new(struct registry *reg, struct err *err)
{
	const struct http_client_config config = {
		.ca_file = reg->job->ca_file,
		.user_agent = "berth/" BERTH_VERSION,
		.allow_address = allow_address,
		.arg = reg,
	};

	return http_client_new(&config, err, &reg->http);
}

int registry_new(
	const struct job *job, const struct reference *ref, struct err *err, struct registry **ret)
{
	_cleanup_(registry_freep) struct registry *reg = xnew(struct registry);
	_cleanup_free_ char *url = xasprintf("https://%s/", reference_registry(ref));
	int r;

	reg->job = job;
	reg->ref = ref;
	if (origin_parse(NULL, url, &reg->origin, NULL) < 0)
		return err_set(err, -EINVAL, "InvalidImageReference",
			"The registry's name '%s' is not valid.", ref->domain);
	r = client_new(reg, err);
	if (r < 0)
		return r;
	*ret = take_ptr(reg);
	return 0;
}

int registry_dup(const struct registry *from, struct err *err, struct registry **ret)
{
	_cleanup_(registry_freep) struct registry *reg = xnew(struct registry);
	int r;

	*reg = *from;
	reg->http = NULL;
	reg->authorization = from->authorization ? xstrdup(from->authorization) : NULL;
	r = client_new(reg, err);
	if (r < 0)
		return r;
	*ret = take_ptr(reg);
	return 0;
}

static void forget_authorization(struct registry *reg)
{
	if (reg->authorization)
		explicit_bzero(reg->authorization, strlen(reg->authorization));
	free(take_ptr(reg->authorization));
}

void registry_free(struct registry *reg)
{
	if (!reg)
		return;
	forget_authorization(reg);
	http_client_free(reg->http);
	free(reg);
}

/* A transport error in our words: which are about the registry, and whether it is worth another
 * try. */
static int transport_error(int r, struct err *err)
{
	char reason[sizeof(err->message)];
	int kind = -EHOSTUNREACH;

	if (r == -ECANCELED)
		return job_canceled_err(err);
	(void)str_copy(reason, sizeof(reason), err->message);
	if (str_eq(err->code, "HttpBroken"))
		kind = -ECONNRESET;
	else if (str_eq(err->code, "HttpTimeout"))
		kind = -ETIMEDOUT;
	if (str_eq(err->code, "HttpRefused"))
		return err_set(err, -EACCES, "RegistryErrorResponse",
			"its address is one that images are not pulled from: %s", reason);
	return err_set(err, kind, "RegistryErrorResponse", "%s", reason);
}

static int on_status(int status, void *arg)
{
	struct call *call = arg;

	call->status = status;
	call->answered = true;
	call->skip = status == 200 ? call->from : 0;
	return 0;
}

static int on_body(const void *data, size_t len, void *arg)
{
	struct call *call = arg;

	if (job_cancelled())
		return call->sink_r = -ECANCELED;
	if (call->status != 200 && call->status != 206) {
		(void)buf_add(&call->error, data, MIN(len, ERROR_BYTES_MAX - call->error.len));
		return call->error.len >= ERROR_BYTES_MAX ? -EFBIG : 0;
	}
	if (call->skip >= len) {
		call->skip -= len;
		return 0;
	}
	data = (const char *)data + call->skip;
	len -= call->skip;
	call->skip = 0;
	call->sink_r = call->sink(data, len, call->arg);
	return call->sink_r;
}

/* One exchange with one server. */
static int exchange(struct registry *reg, struct call *call, const struct origin *origin,
	struct err *err, struct http_client_response *ret)
{
	/* All four, always: a registry that misses one answers 404. */
	const char *headers[8] = {"Accept: " TYPE_OCI_MANIFEST, "Accept: " TYPE_OCI_INDEX,
		"Accept: " TYPE_DOCKER_MANIFEST, "Accept: " TYPE_DOCKER_LIST};
	size_t n = call->manifest ? 4 : 0;
	char range[48];
	int r;

	reg->direct = origin_same(origin, &reg->origin);
	if (call->from > 0) {
		snprintf(
			range, sizeof(range), "Range: bytes=%llu-", (unsigned long long)call->from);
		headers[n++] = range;
	}
	if (reg->direct && reg->authorization)
		headers[n++] = reg->authorization;
	headers[n] = NULL;
	call->status = 0;
	buf_clear(&call->error);
	r = http_client_do(reg->http,
		&(struct http_client_request){
			.method = call->method,
			.url = call->url,
			.headers = headers,
			.timeout_ms = call->manifest ? REQUEST_TIMEOUT_MS : 0,
			.on_body = on_body,
			.on_status = on_status,
			.arg = call,
		},
		err, ret);
	if (r == 0) {
		call->status = ret->status;
		call->answered = true;
	}
	/* An error page that is too long is an error page all the same. */
	if (r == -EFBIG && call->error.len >= ERROR_BYTES_MAX && call->status >= 300)
		return 0;
	return r;
}

bool registry_used_credentials(const struct registry *reg)
{
	return reg->used_credentials;
}

/* --- authentication --- */

static void percent_encode(struct buf *buf, const char *s)
{
	for (; *s; s++) {
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~",
			    *s))
			buf_addc(buf, *s);
		else
			buf_printf(buf, "%%%02X", (unsigned char)*s);
	}
}

static char *basic_header(const struct job *job)
{
	_cleanup_free_ char *pair =
		xasprintf("%s:%s", job->username, job->password ? job->password : "");
	_cleanup_free_ char *text = str_base64(pair, strlen(pair));

	explicit_bzero(pair, strlen(pair));
	return xasprintf("Authorization: Basic %s", text);
}

static void collect_challenges(const struct http_client_response *response, struct challenge *ret)
{
	_cleanup_free_ char *headers = xstrdup(buf_str(&response->headers));
	char *next = headers, *line;

	while ((line = strsep(&next, "\n")))
		if (!strncasecmp(line, "www-authenticate:", 17)) {
			line[strcspn(line, "\r")] = '\0';
			challenge_parse(line + 17, ret);
		}
}

static int no_access(const struct registry *reg, struct err *err)
{
	if (reg->job->username)
		return err_set(err, -EACCES, "InaccessibleImage",
			"the registry '%s' does not know it, or refuses the credentials for it.",
			reg->ref->domain);
	return err_set(err, -EACCES, "InaccessibleImage",
		"the registry '%s' does not know it, or wants credentials for it.",
		reg->ref->domain);
}

/* The token of a token server's answer as a header. */
static int take_token(struct registry *reg, const struct buf *body, struct err *err)
{
	_cleanup_json_ json_t *doc = NULL;
	const char *token = "";
	size_t len;

	if (json_parse(buf_str(body), body->len, JSON_DEPTH_MAX, NULL, &doc) == 0) {
		token = json_get_str(doc, "token", "");
		if (!token[0])
			token = json_get_str(doc, "access_token", "");
	}
	len = strlen(token);
	if (!len || len > TOKEN_MAX)
		return err_set(
			err, -EPROTO, "RegistryErrorResponse", "its token server gave no token.");
	for (const char *p = token; *p; p++)
		if (*p < 0x21 || *p > 0x7e)
			return err_set(err, -EPROTO, "RegistryErrorResponse",
				"its token server gave a broken token.");
	forget_authorization(reg);
	reg->authorization = xasprintf("Authorization: Bearer %s", token);
	return 0;
}

static char *token_url(
	const struct registry *reg, const struct challenge *challenge, const char *realm)
{
	_cleanup_buf_ struct buf url = BUF_MAX(32 << 10);
	_cleanup_free_ char *scope = challenge->scope
					     ? xstrdup(challenge->scope)
					     : xasprintf("repository:%s:pull", reg->ref->path);

	buf_printf(&url, "%s%c", realm, strchr(realm, '?') ? '&' : '?');
	if (challenge->service) {
		buf_adds(&url, "service=");
		percent_encode(&url, challenge->service);
		buf_addc(&url, '&');
	}
	buf_adds(&url, "scope=");
	percent_encode(&url, scope);
	return buf_take(&url);
}

static int get_token(struct registry *reg, const struct challenge *challenge, struct err *err)
{
	_cleanup_(http_client_response_done) struct http_client_response response = {0};
	_cleanup_free_ char *basic = NULL, *url = NULL, *realm = NULL;
	const char *headers[] = {"Accept: application/json", NULL, NULL};
	struct origin origin;
	int r;

	if (!challenge->realm || origin_parse(NULL, challenge->realm, &origin, &realm) < 0)
		return err_set(
			err, -EPROTO, "RegistryErrorResponse", "it names no valid token server.");
	if (!str_eq(origin.scheme, "https") &&
		!(host_is_loopback(origin.host) && host_is_loopback(reg->origin.host)))
		return err_set(err, -EACCES, "RegistryErrorResponse",
			"its token server '%s' is not https.", origin.host);
	if (reg->job->username) {
		if (!realm_may_know(&reg->origin, &origin, reg->job->realm_hosts))
			return err_set(err, -EACCES, "RegistryErrorResponse",
				"it wants the credentials sent to '%s', which is not known to belong to it.",
				origin.host);
		headers[1] = basic = basic_header(reg->job);
		reg->used_credentials = true;
	}
	url = token_url(reg, challenge, realm);
	reg->direct = origin_same(&origin, &reg->origin);
	r = http_client_do(reg->http,
		&(struct http_client_request){.method = "GET",
			.url = url,
			.headers = headers,
			.timeout_ms = REQUEST_TIMEOUT_MS,
			.max_body = TOKEN_BYTES_MAX},
		err, &response);
	if (r < 0)
		return transport_error(r, err);
	if (response.status == 401 || response.status == 403)
		return no_access(reg, err);
	if (response.status != 200)
		return err_set(err, response.status >= 500 ? -ECONNRESET : -EPROTO,
			"RegistryErrorResponse", "its token server answered with status %d.",
			response.status);
	return take_token(reg, &response.body, err);
}

/* Answers a 401. */
static int authenticate(
	struct registry *reg, const struct http_client_response *response, struct err *err)
{
	_cleanup_(challenge_done) struct challenge challenge = {0};

	collect_challenges(response, &challenge);
	if (challenge.bearer)
		return get_token(reg, &challenge, err);
	if (!challenge.basic || !reg->job->username)
		return no_access(reg, err);
	if (!str_eq(reg->origin.scheme, "https") && !host_is_loopback(reg->origin.host))
		return err_set(err, -EACCES, "RegistryErrorResponse",
			"it wants a password over a connection without TLS.");
	forget_authorization(reg);
	reg->authorization = basic_header(reg->job);
	reg->used_credentials = true;
	return 0;
}

/* --- the way of a call --- */

static bool is_redirect(int status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static int follow(struct registry *reg, struct call *call,
	const struct http_client_response *response, struct origin *origin, struct err *err)
{
	_cleanup_free_ char *location = http_client_response_header(response, "Location");
	char *url = NULL;

	if (!location || origin_parse(call->url, location, origin, &url) < 0)
		return err_set(err, -EPROTO, "RegistryErrorResponse", "it redirects to nowhere.");
	free(call->url);
	call->url = url;
	if (!str_eq(origin->scheme, "https") && !origin_same(origin, &reg->origin))
		return err_set(err, -EACCES, "RegistryErrorResponse",
			"it redirects to '%s', which is not https.", origin->host);
	return 0;
}

/* Sends the call where it is redirected to; a status is no failure. */
static int send_call(struct registry *reg, struct call *call, struct err *err)
{
	struct origin origin = reg->origin;
	bool asked = false;

	for (int hop = 0; hop <= REDIRECTS_MAX;) {
		_cleanup_(http_client_response_done) struct http_client_response response = {0};
		int r = exchange(reg, call, &origin, err, &response);

		if (r < 0)
			return r;
		if (call->status == 401 && origin_same(&origin, &reg->origin) && !asked) {
			asked = true;
			r = authenticate(reg, &response, err);
		} else if (is_redirect(call->status)) {
			hop++;
			r = follow(reg, call, &response, &origin, err);
		} else {
			call->content_type = http_client_response_header(&response, "Content-Type");
			call->digest =
				http_client_response_header(&response, "Docker-Content-Digest");
			return 0;
		}
		if (r < 0)
			return r;
	}
	return err_set(err, -ELOOP, "RegistryErrorResponse", "it redirects more than %d times.",
		REDIRECTS_MAX);
}

static char *url_for(const struct registry *reg, const char *path)
{
	return xasprintf("%s://%s/v2/%s/%s", reg->origin.scheme, reference_registry(reg->ref),
		reg->ref->path, path);
}

static bool may_be_plain(const struct registry *reg, const struct err *err)
{
	/* Without a port in the name, plain HTTP is on another one: nobody on the first is no
	 * answer. */
	const char *name = reference_registry(reg->ref), *bracket = strchr(name, ']');
	bool other_port = !strchr(bracket ? bracket : name, ':');

	return !reg->settled && reg->job->allow_loopback_http &&
	       host_is_loopback(reg->origin.host) &&
	       (str_eq(err->code, "HttpTls") || str_eq(err->code, "HttpBroken") ||
		       (other_port && str_eq(err->code, "HttpUnreachable")));
}

/* The same by plain HTTP. Unless HTTP is what the registry speaks, the first failure is the one to
 * tell; a server of TLS answers plain requests with 400. */
static int try_plain(struct registry *reg, struct call *call, const char *path,
	const struct err *first, struct err *err)
{
	_cleanup_free_ char *url = xasprintf("http://%s/", reference_registry(reg->ref));
	const struct origin secure = reg->origin;
	int r;

	if (origin_parse(NULL, url, &reg->origin, NULL) < 0)
		return -EINVAL;
	free(call->url);
	call->url = url_for(reg, path);
	r = send_call(reg, call, err);
	if (r == -ECANCELED || (call->answered && call->status != 400))
		return r;
	reg->origin = secure;
	*err = *first;
	return first->r;
}

/* What a status that isn't a success means. */
static int status_error(const struct registry *reg, const struct call *call, struct err *err)
{
	_cleanup_json_ json_t *doc = NULL;
	_cleanup_free_ char *words = NULL;
	const char *said = "";

	if (call->error.len &&
		json_parse(buf_str(&call->error), call->error.len, JSON_DEPTH_MAX, NULL, &doc) == 0)
		said = json_get_str(json_array_get(json_get_arr(doc, "errors"), 0), "message", "");
	words = said[0] ? xasprintf(" It says: \"%.200s\".", said) : xstrdup("");
	if (call->status == 401)
		return no_access(reg, err);
	if (call->status == 403)
		return err_set(err, -EACCES, "InaccessibleImage",
			"the registry '%s' denies access to it.%s", reg->ref->domain, words);
	if (call->status == 404)
		return err_set(err, -ENOENT, "InaccessibleImage",
			"the registry '%s' does not have it.%s", reg->ref->domain, words);
	if (call->status == 429)
		return err_set(err, -EBUSY, "RegistryErrorResponse",
			"too many requests (status 429).%s", words);
	return err_set(err, call->status >= 500 ? -ECONNRESET : -EPROTO, "RegistryErrorResponse",
		"status %d.%s", call->status, words);
}

/* path: below the repository, "manifests/latest". */
static int request(struct registry *reg, struct call *call, const char *path, struct err *err)
{
	struct err mine = {0};
	int r;

	if (job_cancelled())
		return job_canceled_err(err);
	call->url = url_for(reg, path);
	r = send_call(reg, call, &mine);
	if (r < 0 && !call->sink_r && may_be_plain(reg, &mine)) {
		struct err first = mine;

		r = try_plain(reg, call, path, &first, &mine);
	}
	if (r == 0) {
		reg->settled = true;
		if (call->status == 200 || call->status == 206)
			return 0;
		return status_error(reg, call, err);
	}
	if (call->sink_r < 0)
		return call->sink_r == -ECANCELED && job_cancelled() ? job_canceled_err(err)
								     : call->sink_r;
	if (str_starts(mine.code, "Http"))
		r = transport_error(r, &mine);
	if (err && err_is_set(&mine))
		*err = mine;
	return r;
}

static int into_buf(const void *data, size_t len, void *arg)
{
	return buf_add(arg, data, len);
}

int registry_get_manifest(struct registry *reg, const char *what, bool head, struct err *err,
	struct registry_manifest *ret)
{
	_cleanup_buf_ struct buf body = BUF_MAX(MANIFEST_BYTES_MAX);
	_cleanup_(call_done) struct call call = {
		.method = head ? "HEAD" : "GET", .manifest = true, .sink = into_buf, .arg = &body};
	_cleanup_free_ char *path = xasprintf("manifests/%s", what);
	int r;

	r = request(reg, &call, path, err);
	if (r == -EFBIG || body.full)
		return err_set(err, -EFBIG, "ImageTooLarge", "its manifest is larger than 4 MiB.");
	if (r < 0)
		return r;
	*ret = (struct registry_manifest){
		.content_type = take_ptr(call.content_type), .body = body};
	if (digest_is_valid(call.digest))
		(void)str_copy(ret->digest, sizeof(ret->digest), call.digest);
	body = BUF_INIT;
	return 0;
}

void registry_manifest_done(struct registry_manifest *manifest)
{
	free(manifest->content_type);
	buf_done(&manifest->body);
	*manifest = (struct registry_manifest){0};
}

int registry_get_blob(struct registry *reg, const char *digest, uint64_t from,
	int (*sink)(const void *data, size_t len, void *arg), void *arg, struct err *err)
{
	_cleanup_(call_done) struct call call = {
		.method = "GET", .from = from, .sink = sink, .arg = arg};
	_cleanup_free_ char *path = xasprintf("blobs/%s", digest);

	return request(reg, &call, path, err);
}
