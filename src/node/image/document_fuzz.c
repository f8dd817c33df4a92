/* The first byte chooses the parser: the worker's lines, the store's documents, references, servers
 * of credentials. */
#include <stdio.h>

#include "node/image/document.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_manifest(const char *text, size_t n)
{
	static const char digest[] =
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	struct image *image = NULL;

	if (manifest_document_parse(text, n, digest, &image) < 0)
		return;
	assert(str_eq(image->digest, digest) && image->layers);
	for (char **layer = image->layers; *layer; layer++)
		assert(hex_valid(*layer, 64));
	image_free(image);
}

/* The full form of a reference is a fixed point. */
static void fuzz_reference(const char *text)
{
	struct reference once = {0}, twice = {0};

	reference_server_matches(text, "docker.io");
	if (reference_parse(text, NULL, &once) < 0)
		return;
	assert(reference_parse(once.full, NULL, &twice) == 0);
	assert(str_eq(once.full, twice.full) && str_eq(once.name, twice.name));
	assert(reference_server_matches(once.domain, twice.domain));
	reference_done(&once);
	reference_done(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct worker_line line;
	struct ref_document ref;
	char *text;

	if (size == 0)
		return 0;
	text = xstrndup((const char *)data + 1, size - 1);
	switch (data[0]) {
	case 'l':
		worker_line_parse((const char *)data + 1, size - 1, &line);
		break;
	case 'r':
		ref_document_parse((const char *)data + 1, size - 1, &ref);
		break;
	case 'm':
		fuzz_manifest((const char *)data + 1, size - 1);
		break;
	default:
		fuzz_reference(text);
	}
	free(text);
	return 0;
}
