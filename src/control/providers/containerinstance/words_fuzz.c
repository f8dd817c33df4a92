/* Whatever the line: words come out, or the reason why not; and words that were quoted come back.
 */
#include "control/providers/containerinstance/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each word between single quotes, as a shell's user would do it. */
static char *quote(const json_t *words)
{
	struct buf line = BUF_INIT;
	const json_t *word;
	size_t i;

	json_array_foreach (words, i, word) {
		buf_addc(&line, '\'');
		for (const char *c = json_string_value(word); *c; c++)
			buf_adds(&line, *c == '\'' ? "'\\''" : (const char[]){*c, '\0'});
		buf_adds(&line, "' ");
	}
	return buf_take(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xstrndup((const char *)data, size);
	_cleanup_json_ json_t *words = NULL, *again = NULL;
	_cleanup_free_ char *line = NULL;

	if (!str_is_utf8(text, strlen(text)) || words_split(text, NULL, &words) < 0)
		return 0;
	assert(json_array_size(words) > 0 && json_array_size(words) <= WORDS_MAX);
	line = quote(words);
	if (strlen(line) > WORDS_TEXT_MAX)
		return 0;
	if (words_split(line, NULL, &again) < 0)
		abort();
	assert(json_equal(words, again));
	return 0;
}
