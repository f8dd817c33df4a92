/* What holds, makes, checks and writes text: alloc, buf, err, json, log, str and time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>

#include "base/base.h"
#include "base/json.h"
#include "base/time.h"

/* base.h, alloc.c */

static void take_ptr_leaves_null(void **state)
{
	char *p = xstrdup("x");
	char *q = take_ptr(p);

	assert_null(p);
	assert_string_equal(q, "x");
	free(q);
}

static void allocations_of_nothing_are_not_null(void **state)
{
	void *p = xmalloc(0), *q = xcalloc(0, 0);

	p = xrealloc(p, 0);
	assert_non_null(p);
	assert_non_null(q);
	free(p);
	free(q);
}

static void strings_are_copied_and_printed(void **state)
{
	_cleanup_free_ char *cut = xstrndup("abcdef", 3);
	_cleanup_free_ char *whole = xstrndup("ab", 10);
	_cleanup_free_ char *text = xasprintf("%s-%d", "a", 7);

	assert_string_equal(cut, "abc");
	assert_string_equal(whole, "ab");
	assert_string_equal(text, "a-7");
}

/* buf */

static void buf_gathers_and_terminates(void **state)
{
	_cleanup_buf_ struct buf buf = BUF_INIT;

	assert_string_equal(buf_str(&buf), "");
	assert_int_equal(buf_adds(&buf, "ab"), 0);
	assert_int_equal(buf_addc(&buf, 'c'), 0);
	assert_int_equal(buf_printf(&buf, "%03d", 7), 0);
	assert_int_equal(buf_add(&buf, "x\0y", 3), 0);
	assert_int_equal(buf.len, 9);
	assert_memory_equal(buf.data, "abc007x\0y", 10);
	buf_consume(&buf, 6);
	assert_memory_equal(buf.data, "x\0y", 4);
	buf_consume(&buf, 3);
	assert_int_equal(buf.len, 0);
	assert_string_equal(buf_str(&buf), "");
}

static void buf_refuses_more_than_its_maximum(void **state)
{
	_cleanup_buf_ struct buf buf = BUF_MAX(4);

	assert_int_equal(buf_adds(&buf, "abc"), 0);
	assert_int_equal(buf_adds(&buf, "de"), -EFBIG);
	assert_true(buf.full);
	assert_string_equal(buf_str(&buf), "abc");
	assert_int_equal(buf_addc(&buf, 'd'), -EFBIG);
	assert_int_equal(buf_printf(&buf, "%s", "d"), -EFBIG);
	buf_clear(&buf);
	assert_false(buf.full);
	assert_int_equal(buf_adds(&buf, "wxyz"), 0);
	assert_int_equal(buf_printf(&buf, "%d", 1), -EFBIG);
	assert_string_equal(buf_str(&buf), "wxyz");
}

static void buf_grows_over_many_adds(void **state)
{
	_cleanup_buf_ struct buf buf = BUF_MAX(100000);

	for (int i = 0; i < 100000; i++)
		assert_int_equal(buf_addc(&buf, (char)('a' + i % 26)), 0);
	assert_int_equal(buf_addc(&buf, '!'), -EFBIG);
	for (size_t i = 0; i < 100000; i++)
		assert_int_equal(buf.data[i], 'a' + (int)(i % 26));
}

static void buf_take_never_gives_null(void **state)
{
	struct buf buf = BUF_INIT;
	_cleanup_free_ char *empty = buf_take(&buf);
	_cleanup_free_ char *text = NULL;

	assert_string_equal(empty, "");
	assert_int_equal(buf_adds(&buf, "t"), 0);
	text = buf_take(&buf);
	assert_string_equal(text, "t");
	assert_int_equal(buf.len, 0);
	assert_null(buf.data);
}

static void buf_read_stops_at_the_maximum(void **state)
{
	_cleanup_buf_ struct buf buf = BUF_MAX(4);
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(buf_read(&buf, ends[0], 10), -EAGAIN);
	assert_int_equal(fd_write_all(ends[1], "abcdef", 6), 0);
	assert_int_equal(buf_read(&buf, ends[0], 3), 3);
	assert_int_equal(buf_read(&buf, ends[0], 10), 1);
	assert_string_equal(buf_str(&buf), "abcd");
	assert_int_equal(buf_read(&buf, ends[0], 10), -EFBIG);
	buf_consume(&buf, 4);
	assert_int_equal(buf_read(&buf, ends[0], 10), 2);
	fd_close(ends[1]);
	assert_int_equal(buf_read(&buf, ends[0], 10), 0);
	assert_string_equal(buf_str(&buf), "ef");
	fd_close(ends[0]);
}

/* err */

static void err_gathers_context(void **state)
{
	struct err err = {0};

	assert_false(err_is_set(&err));
	assert_int_equal(err_set(&err, -EINVAL, "BadName", "The name '%s' is bad.", "x"), -EINVAL);
	err_target(&err, "properties.containers[%d]", 1);
	assert_int_equal(err_wrap(&err, "group %s", "g"), -EINVAL);
	assert_true(err_is_set(&err));
	assert_string_equal(err.code, "BadName");
	assert_string_equal(err.target, "properties.containers[1]");
	assert_string_equal(err.message, "group g: The name 'x' is bad.");
	err_set(&err, -EIO, "Other", "again: %s", err.message);
	assert_string_equal(err.message, "again: group g: The name 'x' is bad.");
	assert_string_equal(err.target, "");
}

static void err_may_be_null(void **state)
{
	assert_int_equal(err_set(NULL, -ENOENT, "X", "y"), -ENOENT);
	assert_int_equal(err_errno(NULL, -ENOENT, "y"), -ENOENT);
	assert_int_equal(err_wrap(NULL, "y"), -EIO);
	err_target(NULL, "t");
	assert_false(err_is_set(NULL));
}

static void err_wrap_of_an_unset_error_sets_it(void **state)
{
	struct err err = {0};

	assert_int_equal(err_wrap(&err, "context"), -EIO);
	assert_true(err_is_set(&err));
	assert_string_equal(err.message, "context");
}

static void err_errno_says_what_the_system_said(void **state)
{
	struct err err = {0};

	assert_int_equal(err_errno(&err, -ENOENT, "open %s", "/x"), -ENOENT);
	assert_string_equal(err.code, "InternalError");
	assert_string_equal(err.message, "open /x: No such file or directory");
	assert_string_equal(err_str(99999), "Unknown error");
	assert_string_equal(err_str(ENOENT), err_str(-ENOENT));
}

static void err_cuts_long_messages_between_characters(void **state)
{
	static const char *const units[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};

	for (size_t u = 0; u < ARRAY_SIZE(units); u++) {
		for (int shift = 0; shift < 4; shift++) {
			_cleanup_buf_ struct buf text = BUF_INIT;
			struct err err = {0};

			buf_add(&text, "___", (size_t)shift);
			for (int i = 0; i < 3000; i++)
				buf_adds(&text, units[u]);
			err_set(&err, -EINVAL, "X", "%s", buf_str(&text));
			assert_in_range(strlen(err.message), sizeof(err.message) - 4,
				sizeof(err.message) - 1);
			assert_true(str_is_utf8(err.message, strlen(err.message)));
		}
	}
}

/* json */

static void json_parse_accepts_exactly_one_value(void **state)
{
	static const struct {
		const char *text;
		bool ok;
	} cases[] = {
		{"{}", true},
		{" [1, 2.5, \"x\"] \n", true},
		{"\"text\"", true},
		{"12", true},
		{"null", true},
		{"true", true},
		{"{\"a\":{\"b\":1},\"c\":{\"b\":2}}", true},
		{"{\"a\":\"[[[[[[[[\\\"{{{{{{\"}", true},
		{"\"\\u00e9 \xc3\xa9\"", true},
		{"", false},
		{" ", false},
		{"{} {}", false},
		{"{}x", false},
		{"{\"a\":1,}", false},
		{"{\"a\":1,\"a\":2}", false},
		{"{\"x\":{\"a\":1,\"a\":1}}", false},
		{"{\"a\":1,\"\\u0061\":2}", false},
		{"[", false},
		{"]", false},
		{"\"\xff\"", false},
		{"\"\xc0\xaf\"", false},
		{"\"\xed\xa0\x80\"", false},
		{"\"\\ud800\"", false},
		{"\"a\\u0000b\"", false},
		{"\"unterminated \\", false},
		{"NaN", false},
		{"99999999999999999999999", false},
		{"1e999", false},
		{"'x'", false},
		{"\xef\xbb\xbf{}", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_json_ json_t *value = NULL;
		struct err err = {0};
		int r = json_parse(cases[i].text, strlen(cases[i].text), 4, &err, &value);

		if ((r == 0) != cases[i].ok)
			fail_msg("%s: %d %s", cases[i].text, r, err.message);
		assert_int_equal(value != NULL, cases[i].ok);
		if (!cases[i].ok) {
			assert_int_equal(r, -EINVAL);
			assert_string_equal(err.code, "InvalidRequestContent");
			assert_non_null(strstr(err.message, "line "));
			assert_non_null(strstr(err.message, "column "));
			assert_true(str_is_utf8(err.message, strlen(err.message)));
		}
	}
}

static void json_parse_refuses_bytes_after_a_nul(void **state)
{
	json_t *value = NULL;

	assert_int_equal(json_parse("{}\0{}", 5, 4, NULL, &value), -EINVAL);
	assert_int_equal(json_parse(NULL, 0, 4, NULL, &value), -EINVAL);
	assert_null(value);
}

static void json_parse_counts_depth(void **state)
{
	static const struct {
		const char *text;
		unsigned max;
		bool ok;
	} cases[] = {
		{"1", 0, true},
		{"[]", 0, false},
		{"[[]]", 2, true},
		{"[[[]]]", 2, false},
		{"[{},{},[],{}]", 2, true},
		{"{\"a\":\n [{}]}", 2, false},
		{"[\"\\\\\",[[]]]", 2, false},
	};
	_cleanup_buf_ struct buf deep = BUF_INIT;
	json_t *none = NULL;
	struct err err = {0};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_json_ json_t *value = NULL;
		const char *text = cases[i].text;
		int r = json_parse(text, strlen(text), cases[i].max, NULL, &value);

		assert_int_equal(r, cases[i].ok ? 0 : -EINVAL);
	}
	for (int i = 0; i < 1000000; i++)
		buf_addc(&deep, '[');
	assert_int_equal(json_parse(deep.data, deep.len, JSON_DEPTH_MAX, &err, &none), -EINVAL);
	assert_string_equal(err.code, "InvalidRequestContent");
	assert_string_equal(
		err.message, "The content is nested deeper than 32 levels (line 1, column 33).");
}

static void json_getters_fall_back(void **state)
{
	static const char text[] = "{\"s\":\"x\",\"i\":7,\"n\":1.5,\"t\":true,\"f\":false,"
				   "\"o\":{\"p\":{\"q\":\"deep\"}},\"a\":[1],\"z\":null}";
	_cleanup_json_ json_t *doc = NULL;

	assert_int_equal(json_parse(text, strlen(text), 8, NULL, &doc), 0);
	assert_string_equal(json_get_str(doc, "s", "-"), "x");
	assert_string_equal(json_get_str(doc, "i", "-"), "-");
	assert_null(json_get_str(NULL, "s", NULL));
	assert_int_equal(json_get_int(doc, "i", 1), 7);
	assert_int_equal(json_get_int(doc, "n", 1), 1);
	assert_int_equal(json_get_int(doc, "missing", -3), -3);
	assert_true(json_get_num(doc, "n", 0) > 1.4 && json_get_num(doc, "n", 0) < 1.6);
	assert_true(json_get_num(doc, "i", 0) > 6.9);
	assert_true(json_get_num(doc, "s", 2) > 1.9);
	assert_true(json_get_bool(doc, "t", false));
	assert_false(json_get_bool(doc, "f", true));
	assert_true(json_get_bool(doc, "z", true));
	assert_non_null(json_get_obj(doc, "o"));
	assert_null(json_get_obj(doc, "a"));
	assert_non_null(json_get_arr(doc, "a"));
	assert_null(json_get_arr(doc, "o"));
	assert_string_equal(json_string_value(json_path(doc, "o", "p", "q", NULL)), "deep");
	assert_null(json_path(doc, "o", "x", "q", NULL));
	assert_null(json_path(doc, "s", "x", NULL));
	assert_ptr_equal(json_path(doc, NULL), doc);
}

static void json_put_str_sets_and_removes(void **state)
{
	_cleanup_json_ json_t *obj = json_object();
	_cleanup_free_ char *with = NULL;
	_cleanup_free_ char *without = NULL;
	_cleanup_free_ char *scalar = NULL;

	json_put_str(obj, "k", "old");
	json_put_str(obj, "k", "v\xff");
	with = json_text(obj);
	assert_string_equal(with, "{\"k\":\"v\xef\xbf\xbd\"}");
	json_put_str(obj, "k", NULL);
	json_put_str(obj, "k", NULL);
	without = json_text(obj);
	assert_string_equal(without, "{}");
	scalar = json_text(json_true());
	assert_string_equal(scalar, "true");
}

/* log */

/* What log_write puts on standard error, as one string. */
static char *logged(enum log_level threshold, enum log_level level, const char *message)
{
	char text[65536];
	int saved = dup(STDERR_FILENO);
	ssize_t n;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
	log_init("tester", threshold);
	errno = EXDEV;
	log_write(level, "%s", message);
	assert_int_equal(errno, EXDEV);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	n = read(ends[0], text, sizeof(text));
	fd_close(saved);
	fd_close(ends[0]);
	fd_close(ends[1]);
	return xstrndup(text, n < 0 ? 0 : (size_t)n);
}

static void log_lines_cannot_be_forged(void **state)
{
	static const struct {
		const char *message;
		const char *read_back;
	} cases[] = {
		{"plain", "plain"},
		{"", ""},
		{"a\n{\"level\":\"error\"}", "a\n{\"level\":\"error\"}"},
		{"quote \" back \\ tab \t esc \x1b[31m del \x7f", NULL},
		{"c1 \xc2\x9b euro \xe2\x82\xac", NULL},
		{"bad \xff\xc3 end", "bad \xef\xbf\xbd\xef\xbf\xbd end"},
		{"cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *line =
			logged(LOG_LEVEL_INFO, LOG_LEVEL_WARN, cases[i].message);
		_cleanup_json_ json_t *doc = NULL;
		const char *expected = cases[i].read_back ? cases[i].read_back : cases[i].message;
		size_t len = strlen(line);

		assert_true(len > 0 && line[len - 1] == '\n');
		for (size_t k = 0; k + 1 < len; k++)
			assert_true((unsigned char)line[k] >= 0x20 && line[k] != 0x7f);
		assert_null(strstr(line, "\xc2\x9b"));
		assert_int_equal(json_parse(line, len, 1, NULL, &doc), 0);
		assert_string_equal(json_get_str(doc, "message", NULL), expected);
		assert_string_equal(json_get_str(doc, "level", NULL), "warn");
		assert_string_equal(json_get_str(doc, "program", NULL), "tester");
		assert_int_equal(strlen(json_get_str(doc, "time", "")), 24);
	}
}

static void log_drops_what_is_below_its_level(void **state)
{
	_cleanup_free_ char *below = logged(LOG_LEVEL_WARN, LOG_LEVEL_INFO, "x");
	_cleanup_free_ char *at = logged(LOG_LEVEL_ERROR, LOG_LEVEL_ERROR, "x");

	assert_string_equal(below, "");
	assert_non_null(strstr(at, "\"error\""));
}

static void log_cuts_endless_messages(void **state)
{
	_cleanup_free_ char *message = xmalloc(30001);
	_cleanup_free_ char *line = NULL;
	_cleanup_json_ json_t *doc = NULL;

	memset(message, '"', 30000);
	message[30000] = '\0';
	line = logged(LOG_LEVEL_INFO, LOG_LEVEL_INFO, message);
	assert_int_equal(json_parse(line, strlen(line), 1, NULL, &doc), 0);
	assert_in_range(strlen(json_get_str(doc, "message", "")), 1000, 10000);
}

/* str */

static void prefixes_and_suffixes_are_found(void **state)
{
	assert_true(str_starts("abc", "ab"));
	assert_true(str_starts("abc", ""));
	assert_false(str_starts("ab", "abc"));
	assert_true(str_ends("abc", "bc"));
	assert_true(str_ends("abc", ""));
	assert_false(str_ends("bc", "abc"));
	assert_true(str_eq_nocase("AbC", "aBc"));
}

static void str_copy_fits_or_gives_nothing(void **state)
{
	char dst[4] = "zzz";

	assert_int_equal(str_copy(dst, sizeof(dst), "abc"), 0);
	assert_string_equal(dst, "abc");
	assert_int_equal(str_copy(dst, sizeof(dst), "abcd"), -E2BIG);
	assert_string_equal(dst, "");
}

static void str_lower_touches_ascii_only(void **state)
{
	_cleanup_free_ char *lower = str_lower_dup("AZ[@az\xc3\x89");

	assert_string_equal(lower, "az[@az\xc3\x89");
}

static void numbers_are_checked(void **state)
{
	static const struct {
		const char *text;
		uint64_t max;
		int r;
		uint64_t value;
	} cases[] = {
		{"0", 0, 0, 0},
		{"007", 10, 0, 7},
		{"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
		{"18446744073709551616", UINT64_MAX, -ERANGE, 0},
		{"99999999999999999999999", UINT64_MAX, -ERANGE, 0},
		{"99999999999999999999999x", UINT64_MAX, -EINVAL, 0},
		{"11", 10, -ERANGE, 0},
		{"", 10, -EINVAL, 0},
		{"-1", 10, -EINVAL, 0},
		{"+1", 10, -EINVAL, 0},
		{" 1", 10, -EINVAL, 0},
		{"1 ", 10, -EINVAL, 0},
		{"0x1", 10, -EINVAL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t value = 4711;

		assert_int_equal(str_to_u64(cases[i].text, cases[i].max, &value), cases[i].r);
		assert_int_equal(value, cases[i].r < 0 ? 4711 : cases[i].value);
	}
}

static void hex_goes_both_ways(void **state)
{
	unsigned char data[3] = {1, 2, 3};
	char hex[7];

	str_hex("\x00\xab\xff", 3, hex);
	assert_string_equal(hex, "00abff");
	assert_int_equal(str_unhex("00abff", data, 3), 0);
	assert_memory_equal(data, "\x00\xab\xff", 3);
	assert_int_equal(str_unhex("00ABfF", data, 3), 0);
	assert_int_equal(str_unhex("11223", data, 3), -EINVAL);
	assert_int_equal(str_unhex("11223344", data, 3), -EINVAL);
	assert_int_equal(str_unhex("11223g", data, 3), -EINVAL);
	assert_memory_equal(data, "\x00\xab\xff", 3);
	assert_int_equal(str_unhex("", data, 0), 0);
}

static void base64_goes_both_ways(void **state)
{
	static const struct {
		const char *text;
		const char *standard;
		const char *url;
	} cases[] = {
		{"", "", ""},
		{"f", "Zg==", "Zg"},
		{"fo", "Zm8=", "Zm8"},
		{"foo", "Zm9v", "Zm9v"},
		{"foobar", "Zm9vYmFy", "Zm9vYmFy"},
		{"\xfb\xff\xfe?", "+//+Pw==", "-__-Pw"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t len = strlen(cases[i].text), n = 99;
		_cleanup_free_ char *standard = str_base64(cases[i].text, len);
		_cleanup_free_ char *url = str_base64url(cases[i].text, len);

		assert_string_equal(standard, cases[i].standard);
		assert_string_equal(url, cases[i].url);
		for (int k = 0; k < 2; k++) {
			_cleanup_free_ unsigned char *data = NULL;
			const char *text = k ? url : standard;

			assert_int_equal(str_base64_decode(text, strlen(text), k, &data, &n), 0);
			assert_int_equal(n, len);
			assert_memory_equal(data, cases[i].text, len);
		}
	}
}

static void base64_accepts_padding_or_none_and_nothing_else(void **state)
{
	static const struct {
		const char *text;
		bool url;
		int r;
	} cases[] = {
		{"Zg", false, 0},
		{"Zg==", true, 0},
		{"Zm8", false, 0},
		{"Zg=", false, -EINVAL},
		{"Z", false, -EINVAL},
		{"Z===", false, -EINVAL},
		{"====", false, -EINVAL},
		{"=", false, -EINVAL},
		{"Zm9v====", false, -EINVAL},
		{"Zg==Zg==", false, -EINVAL},
		{"Zm9v\n", false, -EINVAL},
		{"Zm 9v", false, -EINVAL},
		{"-_", false, -EINVAL},
		{"+/", true, -EINVAL},
		{"Zh==", false, -EINVAL},
		{"\xc3\xa9\xc3\xa9", false, -EINVAL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ unsigned char *data = NULL;
		const char *text = cases[i].text;
		size_t n;

		assert_int_equal(
			str_base64_decode(text, strlen(text), cases[i].url, &data, &n), cases[i].r);
		assert_int_equal(data != NULL, cases[i].r == 0);
	}
}

static void utf8_in_pieces(void **state)
{
	static const struct {
		const char *text;
		size_t partial;
	} cases[] = {{"", 0}, {"a", 0}, {"\xc3\xa9", 0}, {"a\xc3", 1}, {"\xe2", 1},
		{"a\xe2\x82", 2}, {"\xe2\x82\xac", 0}, {"\xf0\x9f\x98", 3}, {"\xf0\x9f\x98\x80", 0},
		{"\xf0", 1},
		/* What can't become a character any more isn't waited for. */
		{"\x82", 0}, {"\xff", 0}, {"\xc1", 0}, {"\xe0\x80", 0}, {"\xed\xa0", 0},
		{"\xf4\x90", 0}, {"\xf5", 0}, {"\xe2\x82\xff", 0}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t len = strlen(cases[i].text);
		_cleanup_free_ char *clean = str_utf8_clean(cases[i].text, len);
		_cleanup_buf_ struct buf added = BUF_INIT;

		assert_int_equal(str_utf8_partial(cases[i].text, len), cases[i].partial);
		assert_int_equal(str_utf8_add(&added, cases[i].text, len), 0);
		assert_string_equal(buf_str(&added), clean);
	}
}

static void utf8_is_checked_and_cleaned(void **state)
{
	static const struct {
		const char *text;
		const char *clean; /* NULL: valid as it is */
	} cases[] = {
		{"", NULL},
		{"abc", NULL},
		{"\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80", NULL},
		{"\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf", NULL},
		{"\x80", "\xef\xbf\xbd"},
		{"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
		{"a\xc3", "a\xef\xbf\xbd"},
		{"\xe0\x9f\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xf5", "\xef\xbf\xbd"},
		{"\xe2\x82z", "\xef\xbf\xbd\xef\xbf\xbdz"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *text = cases[i].text;
		_cleanup_free_ char *clean = str_utf8_clean(text, strlen(text));

		assert_int_equal(str_is_utf8(text, strlen(text)), cases[i].clean == NULL);
		assert_string_equal(clean, cases[i].clean ? cases[i].clean : text);
	}
	/* The length given counts, not the NUL. */
	assert_false(str_is_utf8("\xe2\x82\xac", 2));
	assert_true(str_is_utf8("a\0b", 3));
}

/* time */

static void time_is_written_as_rfc_3339(void **state)
{
	static const struct {
		int64_t ms;
		int digits;
		const char *text;
	} cases[] = {
		{0, 0, "1970-01-01T00:00:00Z"},
		{1795459851333, 3, "2026-11-23T18:50:51.333Z"},
		{1795459851333, 7, "2026-11-23T18:50:51.3330000Z"},
		{1795459851333, 9, "2026-11-23T18:50:51.333000000Z"},
		{1795459851333, 1, "2026-11-23T18:50:51.3Z"},
		{-1, 3, "1969-12-31T23:59:59.999Z"},
		{951782400000, 0, "2000-02-29T00:00:00Z"},
		{INT64_MAX, 9, "9999-12-31T23:59:59.999000000Z"},
		{INT64_MIN, 0, "0000-01-01T00:00:00Z"},
	};
	char buf[TIME_STR_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(time_format(cases[i].ms, cases[i].digits, buf), cases[i].text);
}

static void clocks_advance(void **state)
{
	int64_t ns = time_mono_ns(), ms = time_mono_ms();

	assert_true(time_mono_ns() >= ns);
	assert_true(ms >= ns / 1000000);
	assert_true(time_now_ms() > INT64_C(1700000000000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(take_ptr_leaves_null),
		cmocka_unit_test(allocations_of_nothing_are_not_null),
		cmocka_unit_test(strings_are_copied_and_printed),
		cmocka_unit_test(buf_gathers_and_terminates),
		cmocka_unit_test(buf_refuses_more_than_its_maximum),
		cmocka_unit_test(buf_grows_over_many_adds),
		cmocka_unit_test(buf_take_never_gives_null),
		cmocka_unit_test(buf_read_stops_at_the_maximum),
		cmocka_unit_test(err_gathers_context),
		cmocka_unit_test(err_may_be_null),
		cmocka_unit_test(err_wrap_of_an_unset_error_sets_it),
		cmocka_unit_test(err_errno_says_what_the_system_said),
		cmocka_unit_test(err_cuts_long_messages_between_characters),
		cmocka_unit_test(json_parse_accepts_exactly_one_value),
		cmocka_unit_test(json_parse_refuses_bytes_after_a_nul),
		cmocka_unit_test(json_parse_counts_depth),
		cmocka_unit_test(json_getters_fall_back),
		cmocka_unit_test(json_put_str_sets_and_removes),
		cmocka_unit_test(log_lines_cannot_be_forged),
		cmocka_unit_test(log_drops_what_is_below_its_level),
		cmocka_unit_test(log_cuts_endless_messages),
		cmocka_unit_test(prefixes_and_suffixes_are_found),
		cmocka_unit_test(str_copy_fits_or_gives_nothing),
		cmocka_unit_test(str_lower_touches_ascii_only),
		cmocka_unit_test(numbers_are_checked),
		cmocka_unit_test(hex_goes_both_ways),
		cmocka_unit_test(base64_goes_both_ways),
		cmocka_unit_test(base64_accepts_padding_or_none_and_nothing_else),
		cmocka_unit_test(utf8_is_checked_and_cleaned),
		cmocka_unit_test(utf8_in_pieces),
		cmocka_unit_test(time_is_written_as_rfc_3339),
		cmocka_unit_test(clocks_advance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
