/* Commands in one line, as a POSIX shell takes them apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/providers/containerinstance/words.h"

static void test_words(void **state)
{
	static const struct {
		const char *text;
		const char *words; /* JSON; NULL: refused */
	} cases[] = {
		{"ls", "[\"ls\"]"},
		{" ls\t-l \n / ", "[\"ls\",\"-l\",\"/\"]"},
		{"sh -c 'echo \"a  b\"; exit 1' x",
			"[\"sh\",\"-c\",\"echo \\\"a  b\\\"; exit 1\",\"x\"]"},
		{"a'b'\"c\"d", "[\"abcd\"]"},
		{"'' \"\" a", "[\"\",\"\",\"a\"]"},
		{"'a\\b'", "[\"a\\\\b\"]"},
		{"\"a\\b \\\" \\\\ \\$ \\`\"", "[\"a\\\\b \\\" \\\\ $ `\"]"},
		{"a\\ b \\'c \\\\", "[\"a b\",\"'c\",\"\\\\\"]"},
		{"a\\\nb \"c\\\nd\" \\\n e", "[\"ab\",\"cd\",\"e\"]"},
		{"'a\nb'", "[\"a\\nb\"]"},
		{"$HOME ~ * a|b >c #d `e` ${f} $(g) h&",
			"[\"$HOME\",\"~\",\"*\",\"a|b\",\">c\","
			"\"#d\",\"`e`\",\"${f}\",\"$(g)\",\"h&\"]"},
		{"\xc3\xa9 '\xe2\x82\xac'", "[\"\xc3\xa9\",\"\xe2\x82\xac\"]"},
		{"a\\", "[\"a\"]"},
		{"", NULL},
		{" \t\n", NULL},
		{"echo 'a", NULL},
		{"echo \"a", NULL},
		{"echo \"a\\\"", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_json_ json_t *words = NULL;
		_cleanup_free_ char *text = NULL;
		struct err err = {0};
		int r = words_split(cases[i].text, &err, &words);

		if (!cases[i].words) {
			assert_int_equal(r, -EINVAL);
			assert_string_equal(err.code, "InvalidCommand");
			continue;
		}
		assert_int_equal(r, 0);
		text = json_text(words);
		assert_string_equal(text, cases[i].words);
	}
}

static void test_bounds(void **state)
{
	_cleanup_json_ json_t *words = NULL;
	_cleanup_free_ char *text = xmalloc(WORDS_TEXT_MAX + 2);
	struct err err = {0};

	memset(text, 'a', WORDS_TEXT_MAX + 1);
	text[WORDS_TEXT_MAX + 1] = '\0';
	assert_int_equal(words_split(text, &err, &words), -EINVAL);
	text[WORDS_TEXT_MAX] = '\0';
	assert_int_equal(words_split(text, &err, &words), 0);
	for (size_t i = 1; i < WORDS_TEXT_MAX; i += 2)
		text[i] = ' ';
	assert_int_equal(words_split(text, &err, &words), -EINVAL);
	text[2 * WORDS_MAX] = '\0';
	json_decref(words);
	assert_int_equal(words_split(text, &err, &words), 0);
	assert_int_equal(json_array_size(words), WORDS_MAX);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
