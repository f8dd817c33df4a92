#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "node/image/document.h"

#define HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define DIGEST "sha256:" HEX

static int parse_line(const char *text, struct worker_line *line)
{
	return worker_line_parse(text, strlen(text), line);
}

static void lines_of_the_worker_are_read(void **state)
{
	struct worker_line line;

	assert_int_equal(parse_line("{\"event\":\"progress\",\"layer\":\"0123456789ab\",\"what\":"
				    "\"Unpacking\",\"done\":5,\"total\":-1}",
				 &line),
		0);
	assert_int_equal(line.event, WORKER_PROGRESS);
	assert_string_equal(line.what, "Unpacking");
	assert_int_equal(line.done_bytes, 5);
	assert_int_equal(line.total_bytes, 0);

	assert_int_equal(parse_line("{\"event\":\"done\",\"reference\":\"docker.io/library/"
				    "x:y\",\"digest\":\"" DIGEST "\"}",
				 &line),
		0);
	assert_int_equal(line.event, WORKER_DONE);
	assert_string_equal(line.digest, DIGEST);

	assert_int_equal(parse_line("{\"event\":\"error\",\"code\":\"Whatever\",\"message\":\"a"
				    "\\u001b[0m\\nb\"}",
				 &line),
		0);
	assert_string_equal(line.code, "RegistryErrorResponse");
	assert_string_equal(line.message, "a [0m b");
}

static void other_lines_are_refused(void **state)
{
	static const char *const cases[] = {"", "{}", "[]", "null", "{\"event\":\"no\"}",
		"{\"event\":\"progress\",\"layer\":\"../../x\",\"what\":\"Complete\"}",
		"{\"event\":\"progress\",\"layer\":\"0123456789abc\",\"what\":\"Complete\"}",
		"{\"event\":\"progress\",\"layer\":\"\",\"what\":\"Else\"}",
		"{\"event\":\"done\",\"reference\":\"x\",\"digest\":\"" DIGEST "\"}",
		"{\"event\":\"done\",\"reference\":\"a.io/x:y\",\"digest\":\"sha256:../x\"}",
		"{\"event\":\"done\",\"event\":\"done\"}", "{\"event\":\"done\"} x"};
	struct worker_line line;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(parse_line(cases[i], &line), -EBADMSG);
}

static void a_long_message_is_cut_between_characters(void **state)
{
	struct buf text = BUF_MAX(WORKER_LINE_MAX);
	struct worker_line line;

	buf_adds(&text, "{\"event\":\"error\",\"code\":\"ImageTooLarge\",\"message\":\"");
	for (int i = 0; i < 2000; i++)
		buf_adds(&text, "\xc3\xbc");
	buf_adds(&text, "\"}");
	assert_int_equal(worker_line_parse(text.data, text.len, &line), 0);
	assert_true(str_is_utf8(line.message, strlen(line.message)));
	assert_int_equal(line.r, -EFBIG);
	buf_done(&text);
}

static void what_does_not_say_public_is_private(void **state)
{
	static const char base[] = "{\"reference\":\"docker.io/library/x:y\",\"digest\":\"" DIGEST
				   "\",\"pulled\":\"2026-01-02T03:04:05Z\"%s}";
	static const struct {
		const char *tail;
		bool is_private;
	} cases[] = {{"", true}, {",\"private\":true", true}, {",\"private\":0", true},
		{",\"private\":false", false}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[512];
		struct ref_document ref;
		struct buf buf = BUF_MAX(sizeof(text));

		buf_add(&buf, base, strlen(base) - 3);
		buf_printf(&buf, "%s}", cases[i].tail);
		assert_int_equal(ref_document_parse(buf.data, buf.len, &ref), 0);
		assert_int_equal(ref.is_private, cases[i].is_private);
		buf_done(&buf);
	}
}

static void manifests_are_read(void **state)
{
	static const char text[] =
		"{\"digest\":\"" DIGEST "\",\"mediaType\":\"x\",\"config\":{\"entrypoint\":[\"/a\","
		"\"b c\"],\"cmd\":null,\"env\":[\"A=b\",\"=x\",\"none\",\"B=\"],\"user\":\"1000\","
		"\"workingDir\":\"\",\"stopSignal\":\"SIGINT\"},\"layers\":[\"" HEX "\",\"" HEX
		"\"],\"size\":42}";
	struct image *image = NULL;

	assert_int_equal(manifest_document_parse(text, strlen(text), DIGEST, &image), 0);
	assert_string_equal(image->config.entrypoint[1], "b c");
	assert_null(image->config.entrypoint[2]);
	assert_null(image->config.cmd);
	assert_string_equal(image->config.env[1], "B=");
	assert_null(image->config.env[2]);
	assert_null(image->config.working_dir);
	assert_string_equal(image->config.user, "1000");
	assert_string_equal(image->layers[1], HEX);
	assert_null(image->layers[2]);
	assert_int_equal(image->size_bytes, 42);
	image_free(image);

	image = NULL;
	assert_int_equal(manifest_document_parse(text, strlen(text), "sha256:0", &image), -EBADMSG);
	assert_null(image);
}

static void hostile_manifests_are_refused(void **state)
{
	static const char *const bodies[] = {
		"\"config\":{},\"layers\":[\"../../etc\"],\"size\":1",
		"\"config\":{},\"layers\":\"x\",\"size\":1",
		"\"config\":{},\"layers\":[],\"size\":-1",
		"\"config\":{},\"layers\":[],\"size\":1.5",
		"\"config\":[],\"layers\":[],\"size\":1",
		"\"config\":{\"env\":[1]},\"layers\":[],\"size\":1",
		"\"config\":{\"cmd\":[\"a\\u0000b\"]},\"layers\":[],\"size\":1",
		"\"config\":{\"user\":\"a\\nb\"},\"layers\":[],\"size\":1",
		"\"config\":{\"user\":7},\"layers\":[],\"size\":1",
		"\"config\":{\"env\":[[[[[]]]]]},\"layers\":[],\"size\":1",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		char text[512];
		struct image *image = NULL;

		snprintf(text, sizeof(text), "{\"digest\":\"" DIGEST "\",%s}", bodies[i]);
		if (manifest_document_parse(text, strlen(text), DIGEST, &image) != -EBADMSG)
			fail_msg("accepted: %s", text);
	}
}

static void too_many_layers_are_refused(void **state)
{
	struct buf text = BUF_INIT;
	struct image *image = NULL;

	buf_adds(&text, "{\"digest\":\"" DIGEST "\",\"config\":{},\"size\":1,\"layers\":[");
	for (int i = 0; i <= IMAGE_LAYERS_MAX; i++)
		buf_printf(&text, "%s\"" HEX "\"", i ? "," : "");
	buf_adds(&text, "]}");
	assert_int_equal(manifest_document_parse(text.data, text.len, DIGEST, &image), -EBADMSG);
	buf_done(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_the_worker_are_read),
		cmocka_unit_test(other_lines_are_refused),
		cmocka_unit_test(a_long_message_is_cut_between_characters),
		cmocka_unit_test(what_does_not_say_public_is_private),
		cmocka_unit_test(manifests_are_read),
		cmocka_unit_test(hostile_manifests_are_refused),
		cmocka_unit_test(too_many_layers_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
