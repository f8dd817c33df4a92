/* JSON, base64 and UTF-8: what most of what a stranger sends goes through first. */
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_json(const char *text, size_t size)
{
	_cleanup_json_ json_t *value = NULL, *again = NULL;
	_cleanup_free_ char *first = NULL, *second = NULL;
	struct err err = {0};

	if (json_parse(text, size, 16, &err, &value) < 0) {
		assert(err.code[0] && err.message[0]);
		return;
	}
	first = json_text(value);
	/* What is written is read as the same again; only a number may come out rounded the first
	 * time. */
	assert(json_parse(first, strlen(first), 16, &err, &again) == 0);
	second = json_text(again);
	assert(str_eq(first, second));
}

static void try_base64(const char *text, size_t size, bool url)
{
	_cleanup_free_ unsigned char *bytes = NULL;
	_cleanup_free_ char *again = NULL;
	size_t len = 0;

	if (str_base64_decode(text, size, url, &bytes, &len) < 0)
		return;
	again = url ? str_base64url(bytes, len) : str_base64(bytes, len);
	/* One text for the same bytes, but for the padding. */
	assert(strncmp(again, text, MIN(strcspn(again, "="), size)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	_cleanup_free_ char *clean = str_utf8_clean(text, size);

	assert(str_is_utf8(clean, strlen(clean)));
	try_json(text, size);
	try_base64(text, size, true);
	try_base64(text, size, false);
	return 0;
}
