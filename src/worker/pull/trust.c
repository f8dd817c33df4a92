#include "worker/pull/trust.h"

#include <arpa/inet.h>
#include <curl/curl.h>

static int part(CURLU *url, CURLUPart what, unsigned flags, char *dst, size_t size)
{
	char *text = NULL;
	int r = -EINVAL;

	if (curl_url_get(url, what, &text, flags) == CURLUE_OK)
		r = str_copy(dst, size, text) < 0 ? -EINVAL : 0;
	curl_free(text);
	return r;
}

static int whole(CURLU *url, char **ret)
{
	char *text = NULL;

	if (curl_url_get(url, CURLUPART_URL, &text, 0) != CURLUE_OK)
		return -EINVAL;
	*ret = xstrdup(text);
	curl_free(text);
	return 0;
}

int origin_parse(const char *base, const char *url, struct origin *ret, char **ret_url)
{
	struct origin origin = {0};
	CURLU *u = curl_url();
	int r = -EINVAL;

	assert(u);
	if (strlen(url) <= 8192 &&
		(!base || curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK) &&
		curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
		part(u, CURLUPART_SCHEME, 0, origin.scheme, sizeof(origin.scheme)) == 0 &&
		(str_eq(origin.scheme, "https") || str_eq(origin.scheme, "http")) &&
		part(u, CURLUPART_HOST, 0, origin.host, sizeof(origin.host)) == 0 &&
		part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, origin.port, sizeof(origin.port)) == 0)
		r = 0;
	str_lower(origin.host);
	if (r == 0 && ret_url)
		r = whole(u, ret_url);
	curl_url_cleanup(u);
	if (r == 0)
		*ret = origin;
	return r;
}

bool origin_same(const struct origin *a, const struct origin *b)
{
	return str_eq(a->scheme, b->scheme) && str_eq(a->host, b->host) && str_eq(a->port, b->port);
}

static bool is_numeric(const char *host)
{
	unsigned char raw[16];

	return host[0] == '[' || inet_pton(AF_INET, host, raw) == 1;
}

bool host_is_loopback(const char *host)
{
	char text[64];

	if (str_eq(host, "localhost"))
		return true;
	if (!is_numeric(host) || str_copy(text, sizeof(text), host[0] == '[' ? host + 1 : host) < 0)
		return false;
	text[strcspn(text, "]")] = '\0';
	return address_class(text) == ADDRESS_LOOPBACK;
}

/* Suffixes below which every customer has a name of its own: there, only the same host is the same
 * owner. A short excerpt of the public suffix list: the clouds where registries live. */
static bool is_shared_suffix(const char *domain)
{
	static const char *const table[] = {"azurecr.io", "azurewebsites.net", "azurecontainer.io",
		"cloudapp.net", "amazonaws.com", "cloudfront.net", "elasticbeanstalk.com",
		"appspot.com", "run.app", "web.app", "github.io", "gitlab.io", "herokuapp.com",
		"fly.dev", "workers.dev", "pages.dev", "vercel.app", "netlify.app", "ngrok.io",
		"ngrok.app", "trycloudflare.com", "azure.com", "windows.net"};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (str_eq(domain, table[i]))
			return true;
	return false;
}

/* The registrable domain: two labels, three where the second last is as short as those of co.uk; ""
 * when there is none. */
static const char *registrable(const char *host)
{
	const char *dots[3] = {0};
	size_t n = 0, len = strlen(host), second;

	for (size_t i = len; i-- > 0 && n < 3;)
		if (host[i] == '.')
			dots[n++] = host + i;
	if (n == 0)
		return "";
	second = n > 1 ? (size_t)(dots[0] - dots[1]) - 1 : (size_t)(dots[0] - host);
	if (second <= 3 && strlen(dots[0] + 1) <= 2)
		return n < 2 ? "" : n < 3 ? host : dots[2] + 1;
	return n < 2 ? host : dots[1] + 1;
}

static bool is_extra(const json_t *extra, const char *host)
{
	size_t i;
	json_t *item;

	json_array_foreach (extra, i, item)
		if (json_is_string(item) && str_eq_nocase(json_string_value(item), host))
			return true;
	return false;
}

bool realm_may_know(const struct origin *registry, const struct origin *realm, const json_t *extra)
{
	const char *domain = registrable(registry->host);

	if (!str_eq(realm->scheme, "https") &&
		!(host_is_loopback(realm->host) && host_is_loopback(registry->host)))
		return false;
	if (str_eq(registry->host, realm->host) || is_extra(extra, realm->host))
		return true;
	if (is_numeric(registry->host) || is_numeric(realm->host) || !domain[0] ||
		is_shared_suffix(domain))
		return false;
	return str_eq(domain, registrable(realm->host));
}
