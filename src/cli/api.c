#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "cli/cli.h"
#include "http/client.h"

#define API_VERSION "2023-05-01"

struct api {
	struct http_client *client;
	json_t *admin;
	char *authorization;
	char *ca_file;
};

static int read_admin(const char *state, struct err *err, json_t **ret)
{
	_cleanup_free_ char *path = xasprintf("%s/admin.json", state);
	_cleanup_free_ char *text = NULL;
	int r = file_read(AT_FDCWD, path, 65536, &text, NULL);

	if (r == -ENOENT)
		return err_set(err, r, "NotSetUp",
			"There is no Berth in %s. Start one with: sudo berth up --state %s", state,
			state);
	if (r < 0)
		return err_set(err, r, "NotAllowed",
			"%s can't be read: %s. It belongs to root: try sudo.", path, err_str(r));
	return json_parse(text, strlen(text), 4, err, ret);
}

static int sign_in(struct api *api, struct err *err)
{
	_cleanup_free_ char *url =
		xasprintf("%s/adfs/oauth2/token", json_get_str(api->admin, "endpoint", ""));
	_cleanup_free_ char *body =
		xasprintf("grant_type=client_credentials&client_id=%s&client_secret=%s",
			json_get_str(api->admin, "clientId", ""),
			json_get_str(api->admin, "clientSecret", ""));
	static const char *const headers[] = {
		"Content-Type: application/x-www-form-urlencoded", NULL};
	struct http_client_response response = {0};
	_cleanup_json_ json_t *json = NULL;
	int r;

	r = http_client_do(api->client,
		&(struct http_client_request){.method = "POST",
			.url = url,
			.headers = headers,
			.body = body,
			.body_len = strlen(body),
			.timeout_ms = 30000},
		err, &response);
	if (r < 0)
		return err_wrap(err, "Berth's API does not answer. Is it up? (sudo berth up)");
	r = json_parse(buf_str(&response.body), response.body.len, 8, err, &json);
	if (r == 0 && response.status != 200)
		r = err_set(err, -EACCES, "NotAllowed", "Sign-in failed: %s",
			json_get_str(json, "error_description", "no reason was given"));
	if (r == 0)
		api->authorization = xasprintf(
			"Authorization: Bearer %s", json_get_str(json, "access_token", ""));
	http_client_response_done(&response);
	return r;
}

int api_new(const char *state, struct err *err, struct api **ret)
{
	_cleanup_(api_freep) struct api *api = xnew(struct api);
	int r;

	api->ca_file = xasprintf("%s/ca.pem", state);
	r = read_admin(state, err, &api->admin);
	if (r == 0)
		r = http_client_new(&(struct http_client_config){.ca_file = api->ca_file,
					    .user_agent = "berth/" BERTH_VERSION},
			err, &api->client);
	if (r == 0)
		r = sign_in(api, err);
	if (r < 0)
		return r;
	*ret = take_ptr(api);
	return 0;
}

void api_free(struct api *api)
{
	if (!api)
		return;
	http_client_free(api->client);
	json_decref(api->admin);
	free(api->authorization);
	free(api->ca_file);
	free(api);
}

const char *api_subscription(const struct api *api)
{
	return json_get_str(api->admin, "subscriptionId", "");
}

const char *api_ca_file(const struct api *api)
{
	return api->ca_file;
}

static int read_answer(const struct http_client_response *response, struct err *err, json_t **ret)
{
	_cleanup_json_ json_t *json = NULL;
	json_t *error;
	int r;

	if (response->body.len > 0) {
		r = json_parse(buf_str(&response->body), response->body.len, 2 * JSON_DEPTH_MAX,
			err, &json);
		if (r < 0)
			return r;
	}
	if (response->status >= 400) {
		error = json_get_obj(json, "error");
		return err_set(err, response->status == 404 ? -ENOENT : -EIO,
			json_get_str(error, "code", "HttpBroken"), "(%s) %s",
			json_get_str(error, "code", "no code"),
			json_get_str(error, "message", "no message"));
	}
	*ret = take_ptr(json);
	return 0;
}

int api_call(struct api *api, const char *method, const char *path, const json_t *body,
	struct err *err, json_t **ret)
{
	_cleanup_free_ char *url = strstr(path, "://")
					   ? xstrdup(path)
					   : xasprintf("%s%s%sapi-version=" API_VERSION,
						     json_get_str(api->admin, "endpoint", ""), path,
						     strchr(path, '?') ? "&" : "?");
	const char *const headers[] = {api->authorization, "Content-Type: application/json", NULL};
	_cleanup_free_ char *text = body ? json_text(body) : NULL;
	struct http_client_response response = {0};
	int r;

	r = http_client_do(api->client,
		&(struct http_client_request){.method = method,
			.url = url,
			.headers = headers,
			.body = text,
			.body_len = text ? strlen(text) : 0,
			.timeout_ms = 60000,
			.max_body = (size_t)64 << 20},
		err, &response);
	if (r < 0)
		return err_wrap(err, "Berth's API does not answer. Is it up? (sudo berth up)");
	r = read_answer(&response, err, ret);
	http_client_response_done(&response);
	return r;
}
