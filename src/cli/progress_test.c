#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/progress.h"

static void show(struct progress_view *view, const char *layer, const char *what, uint64_t done,
	uint64_t total)
{
	progress_view_show(&(struct image_progress){layer, what, done, total}, view);
}

static char *shown(bool terminal)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	struct progress_view *view = progress_view_new(out, terminal);

	show(view, "", "Resolving", 0, 0);
	show(view, "aaaaaaaaaaaa", "Downloading", 0, 4000000);
	show(view, "bbbbbbbbbbbb", "Downloading", 0, 6000000);
	show(view, "bbbbbbbbbbbb", "Downloading", 1500000, 6000000);
	show(view, "aaaaaaaaaaaa", "Exists", 4000000, 4000000);
	show(view, "bbbbbbbbbbbb", "Unpacking", 6000000, 6000000);
	show(view, "bbbbbbbbbbbb", "Complete", 6000000, 6000000);
	show(view, "bbbbbbbbbbbb", "Complete", 6000000, 6000000);
	progress_view_free(view);
	fclose(out);
	return text;
}

static void lines_that_stay(void **state)
{
	_cleanup_free_ char *text = shown(false);

	assert_string_equal(text, "aaaaaaaaaaaa       4.0 MB  was here already\n"
				  "bbbbbbbbbbbb       6.0 MB  pulled\n");
}

static void a_terminal_has_one_line_that_changes(void **state)
{
	_cleanup_free_ char *text = shown(true);

	assert_non_null(strstr(text, "asking the registry\r\033[K0 of 1 layers, 0.0 of 4.0 MB"));
	assert_non_null(strstr(text, "\r\033[K0 of 2 layers, 1.5 of 10.0 MB"));
	assert_non_null(strstr(text,
		"\r\033[Kaaaaaaaaaaaa       4.0 MB  was here already\n1 of 2 layers, 1.5 of 6.0 MB"));
	assert_true(str_ends(text, "\r\033[K"));
}

static void more_layers_than_there_may_be(void **state)
{
	struct progress_view *view = progress_view_new(stderr, false);
	char id[13];

	for (int i = 0; i < 300; i++) {
		snprintf(id, sizeof(id), "%012x", (unsigned)i);
		show(view, id, "Downloading", 1, 2);
	}
	progress_view_free(view);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_that_stay),
		cmocka_unit_test(a_terminal_has_one_line_that_changes),
		cmocka_unit_test(more_layers_than_there_may_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
