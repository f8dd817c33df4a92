#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "control/arm/arm.h"
#include "control/arm/id.h"

static void path_is_split_before_it_is_decoded(void **state)
{
	static const struct {
		const char *path;
		const char *joined; /* with '|'; NULL: refused */
	} cases[] = {
		{"/", ""},
		{"/subscriptions/x", "subscriptions|x"},
		{"//subscriptions///x//", "subscriptions|x"},
		{"/a/b%20c", "a|b c"},
		{"/a/%2520", "a|%20"},
		{"/a/b+c", "a|b+c"},
		{"/a/caf%C3%A9", "a|caf\xc3\xa9"},
		{"/a/b%2fc", NULL},
		{"/a/b%2Fc", NULL},
		{"/a/b%5cc", NULL},
		{"/a/%00", NULL},
		{"/a/%0a", NULL},
		{"/a/%7f", NULL},
		{"/a/%ff", NULL},
		{"/a/%c0%af", NULL},
		{"/a/%2", NULL},
		{"/a/%", NULL},
		{"/a/%zz", NULL},
		{"/a/../b", NULL},
		{"/a/%2e%2e/b", NULL},
		{"/a/./b", NULL},
		{"/a/.../b", "a|...|b"},
		{"a/b", NULL},
		{"", NULL},
		{"*", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct arm_path path = {0};
		struct err err = {0};
		struct buf joined = BUF_INIT;
		int r = arm_path_parse(cases[i].path, &err, &path);

		if (!cases[i].joined) {
			if (r != -EINVAL)
				fail_msg("%s was taken", cases[i].path);
			assert_string_equal(err.code, "InvalidRequestUri");
			continue;
		}
		if (r < 0)
			fail_msg("%s: %s", cases[i].path, err.message);
		for (size_t j = 0; j < path.n; j++)
			buf_printf(&joined, "%s%s", j ? "|" : "", path.segments[j]);
		assert_string_equal(buf_str(&joined), cases[i].joined);
		buf_done(&joined);
		arm_path_done(&path);
	}
}

static void path_has_bounds(void **state)
{
	struct arm_path path = {0};
	struct buf text = BUF_INIT;

	for (int i = 0; i < ARM_SEGMENTS_MAX; i++)
		buf_adds(&text, "/a");
	assert_int_equal(arm_path_parse(buf_str(&text), NULL, &path), 0);
	assert_int_equal(path.n, ARM_SEGMENTS_MAX);
	arm_path_done(&path);
	buf_adds(&text, "/a");
	assert_int_equal(arm_path_parse(buf_str(&text), NULL, &path), -EINVAL);
	buf_clear(&text);
	for (int i = 0; i < ARM_PATH_MAX + 1; i++)
		buf_addc(&text, '/');
	assert_int_equal(arm_path_parse(buf_str(&text), NULL, &path), -EINVAL);
	buf_done(&text);
}

static void type_comes_from_the_last_provider(void **state)
{
	static const struct {
		const char *path, *name, *type;
	} cases[] = {
		{"/subscriptions/s/resourceGroups/g", NULL, ""},
		{"/subscriptions/s/providers", NULL, ""},
		{"/subscriptions/s/providers/N", "N", ""},
		{"/subscriptions/s/providers/N/a", "N", "a"},
		{"/subscriptions/s/PROVIDERS/N/a/x/b/y", "N", "a/b"},
		{"/subscriptions/s/providers/N/a/x/providers/M/c/z", "M", "c"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct arm_path path = {0};
		char type[16];
		const char *name;

		assert_int_equal(arm_path_parse(cases[i].path, NULL, &path), 0);
		name = arm_path_type(&path, type, sizeof(type));
		if (cases[i].name)
			assert_string_equal(name, cases[i].name);
		else
			assert_null(name);
		assert_string_equal(type, cases[i].type);
		arm_path_done(&path);
	}
}

static void pairs_are_decoded_once(void **state)
{
	struct arm_pairs pairs = {0};
	static const char text[] =
		"api-version=2021-04-01&$filter=a%20eq+'x'&%24top=5&&flag&t=%253A&e=";

	assert_int_equal(arm_pairs_parse(text, strlen(text), 1000, NULL, &pairs), 0);
	assert_string_equal(arm_pairs_get(&pairs, "API-Version"), "2021-04-01");
	assert_string_equal(arm_pairs_get(&pairs, "$filter"), "a eq 'x'");
	assert_string_equal(arm_pairs_get(&pairs, "$top"), "5");
	assert_string_equal(arm_pairs_get(&pairs, "flag"), "");
	assert_string_equal(arm_pairs_get(&pairs, "t"), "%3A");
	assert_string_equal(arm_pairs_get(&pairs, "e"), "");
	assert_null(arm_pairs_get(&pairs, "x"));
	assert_null(arm_pairs_duplicate(&pairs));
	arm_pairs_done(&pairs);
	assert_int_equal(arm_pairs_parse("a=1&b=2&a=3", 11, 1000, NULL, &pairs), 0);
	assert_string_equal(arm_pairs_duplicate(&pairs), "a");
	arm_pairs_done(&pairs);
}

static void bad_pairs_are_refused(void **state)
{
	static const char *const bad[] = {"a=%", "a=%g1", "%0=1", "a=%00", "%00=a", "a=%ff"};
	struct arm_pairs pairs = {0};
	struct buf many = BUF_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(
			arm_pairs_parse(bad[i], strlen(bad[i]), 1000, NULL, &pairs), -EINVAL);
	assert_int_equal(arm_pairs_parse("a=\0b", 4, 1000, NULL, &pairs), -EINVAL);
	assert_int_equal(arm_pairs_parse("a=12345", 7, 6, NULL, &pairs), -EINVAL);
	for (int i = 0; i <= ARM_PAIRS_MAX; i++)
		buf_printf(&many, "a%d=1&", i);
	assert_int_equal(arm_pairs_parse(many.data, many.len, 10000, NULL, &pairs), -EINVAL);
	buf_done(&many);
}

static void filter_knows_eq_and_and(void **state)
{
	struct arm_filter f = {0};
	static const char *const bad[] = {"", "a", "a eq", "a eq x", "a eq 'x", "a eq 'x''",
		"a ne 'x'", "a eq 'x' or b eq 'y'", "a eq 'x' and", "a eq 'x' b", "(a eq 'x')",
		"a eq '1' and a eq '1' and a eq '1' and a eq '1' and a eq '1'"};

	assert_int_equal(
		arm_filter_parse("resourceGroup eq 'G' and  tagValue EQ 'it''s'", NULL, &f), 0);
	assert_int_equal(f.n, 2);
	assert_string_equal(arm_filter_get(&f, "resourcegroup"), "G");
	assert_string_equal(arm_filter_get(&f, "tagvalue"), "it's");
	assert_null(arm_filter_get(&f, "x"));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err err = {0};

		if (arm_filter_parse(bad[i], &err, &f) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
		assert_string_equal(err.code, "InvalidFilterInQueryString");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(path_is_split_before_it_is_decoded),
		cmocka_unit_test(path_has_bounds),
		cmocka_unit_test(type_comes_from_the_last_provider),
		cmocka_unit_test(pairs_are_decoded_once),
		cmocka_unit_test(bad_pairs_are_refused),
		cmocka_unit_test(filter_knows_eq_and_and),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
