#include "control/providers/containerinstance/validate_fixture.h"

json_t *fixture_parse(const char *text)
{
	_cleanup_free_ char *copy = xstrdup(text);
	json_t *value = NULL;
	struct err err = {0};

	for (char *c = copy; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	if (json_parse(copy, strlen(copy), JSON_DEPTH_MAX, &err, &value) < 0)
		fail_msg("%s: %s", copy, err.message);
	return value;
}

struct validate_context fixture_context(const char *version)
{
	return (struct validate_context){.group_name = "g",
		.api_version = version ? version : FIXTURE_VERSION,
		.region = "local",
		.subscription_id = "S",
		.resource_group = "rg",
		.default_location = "local"};
}

void fixture_refuses(const struct refusal *refusals, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct refusal *refusal = &refusals[i];
		struct validate_context context = fixture_context(refusal->version);
		_cleanup_json_ json_t *document = fixture_parse(refusal->in);
		struct err err = {0};

		if (group_validate(document, &context, &err) != -EINVAL)
			fail_msg("accepted: %s", refusal->in);
		if (!str_eq(err.code, refusal->code) || !str_eq(err.target, refusal->target))
			fail_msg(
				"%s: %s at %s: %s", refusal->in, err.code, err.target, err.message);
		if (refusal->message)
			assert_string_equal(err.message, refusal->message);
		assert_true(arm_error_status(err.code) == 400);
	}
}

void fixture_accepts(const char *in, const char *version, const char *out)
{
	struct validate_context context = fixture_context(version);
	_cleanup_json_ json_t *document = fixture_parse(in);
	_cleanup_json_ json_t *expected = fixture_parse(out);
	_cleanup_free_ char *got = NULL;
	_cleanup_free_ char *want = json_text(expected);
	struct err err = {0};

	if (group_validate(document, &context, &err) < 0)
		fail_msg("%s: %s at %s: %s", in, err.code, err.target, err.message);
	got = json_text(document);
	assert_string_equal(got, want);
}
