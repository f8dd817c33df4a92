/* A stranger's PUT of a group that is made from a profile: completed, then validated. What it asks
 * for comes over a profile with all that can be merged. */
#include "control/providers/containerinstance/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SUBSCRIPTION "22222222-2222-2222-2222-222222222222"

static const char profile[] =
	"{\"name\":\"p\",\"uid\":\"u\",\"revision\":1,\"oldest\":1,\"id\":\"/subscriptions/" SUBSCRIPTION
	"/resourceGroups/rg/providers/Microsoft.ContainerInstance/containerGroupProfiles/p\",\"document\":{"
	"\"properties\":{\"osType\":\"Linux\",\"restartPolicy\":\"Never\",\"volumes\":[{\"name\":\"empty\","
	"\"emptyDir\":{}}],\"ipAddress\":{\"type\":\"Public\",\"ports\":[{\"port\":80}]},\"containers\":[{"
	"\"name\":\"a\",\"properties\":{\"image\":\"i\",\"ports\":[{\"port\":80}],\"environmentVariables\":[{"
	"\"name\":\"S\",\"secureValue\":\"hush\"}],\"resources\":{\"requests\":{\"cpu\":1.0,\"memoryInGB\":1.0}}}},"
	"{\"name\":\"b\",\"properties\":{\"image\":\"i\",\"resources\":{\"requests\":{\"cpu\":1.0,"
	"\"memoryInGB\":1.0}}}}]},\"location\":\"local\",\"tags\":{}}}";

static struct store *store_with_profile(void)
{
	struct store *store = store_open_memory();
	int r = store_put(
		store, "cgprofile/rg/p", profile, strlen(profile), STORE_ABSENT, NULL, NULL);

	assert(r == 0);
	return store;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct arm_services services = {.subscription_id = SUBSCRIPTION, .region = "local"};
	struct validate_context context = {.group_name = "g",
		.api_version = "2025-09-01",
		.region = "local",
		.subscription_id = SUBSCRIPTION,
		.resource_group = "rg",
		.default_location = "local"};
	_cleanup_json_ json_t *document = NULL, *again = NULL;
	struct err err = {0};

	if (!services.store)
		services.store = store_with_profile();
	if (json_parse((const char *)data, size, JSON_DEPTH_MAX, &err, &document) < 0 ||
		!json_is_object(document))
		return 0;
	if (profile_apply(&services, context.api_version, NULL, document, &err) < 0 ||
		group_validate(document, &context, &err) < 0) {
		assert(*err.code && *err.message);
		return 0;
	}
	/* It says what it was made from, and is whole: the profile adds nothing any more. */
	again = json_deep_copy(document);
	assert(profile_apply(&services, context.api_version, document, again, &err) == 0);
	assert(json_equal(document, again));
	context.old = document;
	assert(group_validate(again, &context, &err) == 0);
	return 0;
}
