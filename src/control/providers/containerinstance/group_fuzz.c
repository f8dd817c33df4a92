/* A stranger's PUT body: validated, presented and made a spec, over a former one of itself. */
#include "control/providers/containerinstance/containerinstance.h"
#include "control/providers/containerinstance/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void present_all(json_t *document)
{
	static const char *const versions[] = {"2017-08-01-preview", "2023-05-01", "2026-07-01"};
	_cleanup_json_ json_t *record =
		json_pack("{s:s, s:i, s:O}", "name", "g", "generation", 1, "document", document);
	json_t *spec = containerinstance_spec(record, NULL);

	json_decref(spec);
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		json_t *shown = group_present(record, NULL, versions[i], true);
		char *text = json_text(shown);

		free(text);
		json_decref(shown);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct validate_context context = {.group_name = "g",
		.api_version = "2026-07-01",
		.region = "local",
		.subscription_id = "S",
		.resource_group = "rg",
		.default_location = "local"};
	_cleanup_json_ json_t *document = NULL;
	_cleanup_json_ json_t *again = NULL;
	struct err err = {0};

	if (json_parse((const char *)data, size, JSON_DEPTH_MAX, &err, &document) < 0 ||
		!json_is_object(document))
		return 0;
	again = json_deep_copy(document);
	if (group_validate(document, &context, &err) < 0) {
		assert(*err.code && *err.message);
		return 0;
	}
	present_all(document);
	/* A document that is valid stays the same when it comes again. */
	context.old = document;
	assert(group_validate(again, &context, &err) == 0);
	assert(json_equal(document, again));
	assert(group_validate_update(document, again, "g", &err) == 0);
	return 0;
}
