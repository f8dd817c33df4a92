/* The path, the query or form, and $filter: what a stranger can write before anybody knows who it
 * is. */
#include "control/arm/arm.h"
#include "control/arm/id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_path(const char *text)
{
	struct arm_path path = {0};
	char type[32];

	if (arm_path_parse(text, NULL, &path) < 0)
		return;
	for (size_t i = 0; i < path.n; i++) {
		assert(path.segments[i][0] != '\0' && !strchr(path.segments[i], '/'));
		assert(str_is_utf8(path.segments[i], strlen(path.segments[i])));
	}
	arm_path_type(&path, type, sizeof(type));
	assert(strlen(type) < sizeof(type));
	arm_path_done(&path);
}

static void fuzz_pairs(const char *text, size_t len)
{
	struct arm_pairs pairs = {0};

	if (arm_pairs_parse(text, len, ARM_QUERY_MAX, NULL, &pairs) < 0)
		return;
	for (size_t i = 0; i < pairs.n; i++) {
		assert(str_is_utf8(pairs.pairs[i].name, strlen(pairs.pairs[i].name)));
		assert(str_is_utf8(pairs.pairs[i].value, strlen(pairs.pairs[i].value)));
		assert(arm_pairs_get(&pairs, pairs.pairs[i].name));
	}
	arm_pairs_duplicate(&pairs);
	arm_pairs_done(&pairs);
}

/* The first byte says which of the three the rest is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = NULL;
	struct arm_filter filter;

	if (!size)
		return 0;
	text = xstrndup((const char *)data + 1, size - 1);
	if (data[0] == 'p')
		fuzz_path(text);
	else if (data[0] == 'q')
		fuzz_pairs((const char *)data + 1, size - 1);
	else
		arm_filter_parse(text, NULL, &filter);
	return 0;
}
