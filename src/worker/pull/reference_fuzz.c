/* Image names: what is accepted has one full spelling, which is accepted again and is its own. */
#include "worker/pull/digest.h"
#include "worker/pull/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xstrndup((const char *)data, size);
	_cleanup_(reference_done) struct reference ref = {0}, again = {0};
	struct err err;

	if (reference_parse(text, &err, &ref) < 0)
		return 0;
	assert(!ref.digest || digest_is_valid(ref.digest));
	assert(!strstr(ref.path, "..") && ref.path[0] != '/');
	assert(strlen(ref.full) < REFERENCE_MAX);
	if (reference_parse(ref.full, &err, &again) < 0)
		abort();
	assert(str_eq(ref.full, again.full) && str_eq(ref.name, again.name));
	assert(reference_server_matches(ref.domain, again.domain));
	(void)reference_server_matches(text, ref.domain);
	return 0;
}
