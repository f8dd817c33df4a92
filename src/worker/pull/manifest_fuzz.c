/* Manifests, indexes, configs, and the headers beside them: no byte of them breaks anything. The
 * first byte chooses the kind. */
#include "worker/pull/challenge.h"
#include "worker/pull/manifest.h"
#include "worker/pull/trust.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_manifest(const char *data, size_t len, const char *content_type)
{
	const struct platform platform = {.os = "linux", .architecture = "amd64"};
	_cleanup_(manifest_done) struct manifest manifest = {0};
	const struct descriptor *choice;
	struct err err = {0};

	if (manifest_parse(data, len, content_type, &err, &manifest) < 0) {
		assert(err.code[0]);
		return;
	}
	assert(manifest.n_layers <= LAYERS_MAX);
	for (size_t i = 0; i < manifest.n_layers; i++)
		assert(digest_is_valid(manifest.layers[i].digest));
	if (manifest.is_index && manifest_choose(&manifest, &platform, &err, &choice) == 0)
		assert(digest_is_valid(choice->digest));
}

static void try_config(const char *data, size_t len)
{
	const struct platform platform = {.os = "linux", .architecture = "amd64"};
	_cleanup_(image_info_done) struct image_info info = {0};
	struct err err = {0};

	if (image_info_parse(data, len, &platform, &err, &info) < 0)
		return;
	assert(json_is_object(info.config));
	for (size_t i = 0; i < info.n_diff_ids; i++)
		assert(digest_is_valid(info.diff_ids[i]));
}

static void try_headers(const char *text)
{
	_cleanup_(challenge_done) struct challenge challenge = {0};
	_cleanup_free_ char *url = NULL;
	struct origin origin,
		registry = {.scheme = "https", .host = "registry.example", .port = "443"};

	challenge_parse(text, &challenge);
	if (challenge.realm && origin_parse(NULL, challenge.realm, &origin, &url) == 0)
		(void)realm_may_know(&registry, &origin, NULL);
	free(take_ptr(url));
	if (origin_parse("https://registry.example/v2/", text, &origin, &url) == 0)
		assert(str_eq(origin.scheme, "https") || str_eq(origin.scheme, "http"));
	(void)address_class(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = {
		NULL, TYPE_OCI_MANIFEST, TYPE_OCI_INDEX, TYPE_DOCKER_MANIFEST, TYPE_DOCKER_LIST};
	_cleanup_free_ char *text = NULL;

	if (size < 1)
		return 0;
	text = xstrndup((const char *)data + 1, size - 1);
	if (data[0] == 'c')
		try_config(text, strlen(text));
	else if (data[0] == 'h')
		try_headers(text);
	else
		try_manifest(text, strlen(text), types[data[0] % ARRAY_SIZE(types)]);
	return 0;
}
