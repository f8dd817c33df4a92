/* The token endpoint: OAuth 2.0 (RFC 6749), in the words of Azure's own. */
#include <stdatomic.h>

#include "base/random.h"
#include "base/time.h"
#include "control/arm/id.h"
#include "control/providers/signin/internal.h"

#define TOKEN_LIFETIME_S 3600
#define FORM_MAX ((size_t)16 << 10)

/* Each check of a secret costs 16 MiB and 50 ms, and anybody may ask for one: only so many at a
 * time, so that strangers can't keep the other threads from those who are signed in. */
#define CHECKS_MAX 4
static atomic_int checks;

/* {"error","error_description",…}: §5.2 and what Azure adds. */
static int oauth_error(
	struct arm_response *response, int status, const char *error, const char *description)
{
	char id[UUID_STR_MAX], now[TIME_STR_MAX];
	uint64_t number = 0;
	_cleanup_free_ char *digits = NULL,
			    *words = str_utf8_clean(description, strlen(description));

	if (str_starts(description, "AADSTS")) {
		digits = xstrndup(description + 6, strspn(description + 6, "0123456789"));
		str_to_u64(digits, UINT32_MAX, &number);
	}
	response->status = status;
	response->body = json_pack("{s:s, s:s, s:[I], s:s, s:s, s:s}", "error", error,
		"error_description", words, "error_codes", (json_int_t)number, "timestamp",
		time_format(time_now_ms(), 0, now), "trace_id", random_uuid(id), "correlation_id",
		id);
	return 0;
}

static int missing(struct arm_response *response, const char *name)
{
	_cleanup_free_ char *text = xasprintf(
		"AADSTS900144: The request body must contain the following parameter: '%s'.", name);

	return oauth_error(response, 400, "invalid_request", text);
}

static bool is_form(const char *type)
{
	static const char form[] = "application/x-www-form-urlencoded";

	return type && strcspn(type, "; ") == sizeof(form) - 1 &&
	       strncasecmp(type, form, sizeof(form) - 1) == 0;
}

/* 1: there is a grant to look at; 0: the response says what is wrong. */
static int form_check(const struct arm_pairs *form, struct arm_response *response)
{
	const char *grant = arm_pairs_get(form, "grant_type");
	_cleanup_free_ char *text = NULL;

	if (arm_pairs_duplicate(form))
		return oauth_error(response, 400, "invalid_request",
			"AADSTS9000411: The request is not properly formatted. A parameter is duplicated.");
	if (!grant || !*grant)
		return missing(response, "grant_type");
	if (!str_eq(grant, "client_credentials")) {
		text = xasprintf(
			"AADSTS70003: The app requested an unsupported grant type '%.128s'.",
			grant);
		return oauth_error(response, 400, "unsupported_grant_type", text);
	}
	if (!arm_pairs_get(form, "client_id"))
		return missing(response, "client_id");
	if (!arm_pairs_get(form, "client_secret"))
		return oauth_error(response, 401, "invalid_client",
			"AADSTS7000216: 'client_secret' is required for the 'client_credentials' grant type.");
	return 1;
}

static int grant(struct arm_request *request, const struct arm_pairs *form,
	struct arm_response *response, struct err *err)
{
	struct auth *auth = arm_services(request)->auth;
	_cleanup_free_ char *token = NULL;
	struct principal principal;
	int r;

	if (atomic_fetch_add(&checks, 1) >= CHECKS_MAX) {
		atomic_fetch_sub(&checks, 1);
		arm_response_header(response, "retry-after", "1");
		return oauth_error(response, 429, "temporarily_unavailable",
			"AADSTS90055: Too many sign-ins at the same time. Please try again.");
	}
	r = auth_check_secret(auth, arm_pairs_get(form, "client_id"),
		arm_pairs_get(form, "client_secret"), err, &principal);
	atomic_fetch_sub(&checks, 1);
	if (r == -EACCES)
		return oauth_error(response, 401, "invalid_client", err->message);
	if (r < 0)
		return r;
	token = auth_token_new(auth, &principal, TOKEN_LIFETIME_S);
	/* expires_in must be a number: az adds to it. */
	response->body = json_pack("{s:s, s:i, s:i, s:s}", "token_type", "Bearer", "expires_in",
		TOKEN_LIFETIME_S, "ext_expires_in", TOKEN_LIFETIME_S, "access_token", token);
	return 0;
}

int signin_token(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(arm_pairs_done) struct arm_pairs form = {0};
	size_t len = 0;
	const char *body = arm_body_raw(request, &len);
	int r;

	/* §5.1: no cache may keep a token. */
	arm_response_header(response, "cache-control", "no-store, no-cache");
	r = signin_tenant_check(request, err);
	if (r < 0)
		return oauth_error(response, 400, "invalid_request", err->message);
	if (!is_form(arm_header(request, "content-type")))
		return oauth_error(response, 400, "invalid_request",
			"AADSTS900561: The content type must be application/x-www-form-urlencoded.");
	if (arm_pairs_parse(body, len, FORM_MAX, err, &form) < 0)
		return oauth_error(response, 400, "invalid_request",
			"AADSTS9000410: Malformed form in the body of the request.");
	r = form_check(&form, response);
	return r == 1 ? grant(request, &form, response, err) : r;
}
