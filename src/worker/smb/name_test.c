#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first. */
#include <cmocka.h>

#include "worker/smb/name.h"
#include "worker/smb/symlink.h"

static void names_become_urls(void **state)
{
	static const struct {
		const char *path, *url;
	} table[] = {
		{"/", "smb://h/s"},
		{"/a/b.txt", "smb://h/s/a/b.txt"},
		{"/a b", "smb://h/s/a%20b"},
		{"/100%", "smb://h/s/100%25"},
		{"/gr\xc3\xbc\xc3\x9f"
		 "e",
			"smb://h/s/gr%C3%BC%C3%9Fe"},
		{"/12:30", "smb://h/s/12%EF%80%A230"},
		{"/\\..\\x", "smb://h/s/%EF%80%A6..%EF%80%A6x"},
		{"/x. ", "smb://h/s/x.%EF%80%A8"},
		{"/x.", "smb://h/s/x%EF%80%A9"},
		{"/\n", "smb://h/s/%EF%80%8A"},
		{"/?#@;", "smb://h/s/%EF%80%A5%23%40%3B"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_free_ char *url = NULL;

		assert_int_equal(name_to_url("smb://h/s", table[i].path, &url), 0);
		assert_string_equal(url, table[i].url);
	}
}

static void what_is_no_name_is_refused(void **state)
{
	char name[300] = "/", *url = NULL, plain[NAME_BYTES_MAX + 1];

	assert_int_equal(name_to_url("smb://h/s", "/\xff", &url), -EILSEQ);
	memset(name + 1, 'n', 256);
	name[257] = '\0';
	assert_int_equal(name_to_url("smb://h/s", name, &url), -ENAMETOOLONG);
	assert_int_equal(name_from_server("..", plain), -EINVAL);
	assert_int_equal(name_from_server(".", plain), -EINVAL);
	assert_int_equal(name_from_server("", plain), -EINVAL);
	assert_int_equal(name_from_server("a/b", plain), -EINVAL);
	assert_int_equal(name_from_server(name + 1, plain), -EINVAL);
	/* ".." as the server's mapped characters spell it */
	assert_int_equal(name_from_server(".\xef\x80\xa9", plain), -EINVAL);
}

static void names_come_back(void **state)
{
	char plain[NAME_BYTES_MAX + 1];

	assert_int_equal(name_from_server("12\xef\x80\xa2"
					  "30",
				 plain),
		0);
	assert_string_equal(plain, "12:30");
	assert_int_equal(name_from_server("x\xef\x80\xa9", plain), 0);
	assert_string_equal(plain, "x.");
	assert_int_equal(name_from_server("\xef\x80\xa9y\xef\x80\xbf", plain), 0);
	assert_string_equal(plain, "\xef\x80\xa9y\xef\x80\xbf");
}

static void symlinks_are_files(void **state)
{
	static const char known[] = "XSym\n0005\n1a79a4d60de6718e8e5b326e338ae533\nexamp";
	char file[SYMLINK_FILE_SIZE], target[SYMLINK_TARGET_MAX + 1], long_target[1100];

	assert_int_equal(symlink_format("../a/b", file), 0);
	assert_memory_equal(file, "XSym\n0006\n", 10);
	assert_int_equal(symlink_parse(file, target), 0);
	assert_string_equal(target, "../a/b");
	file[45] = 'x'; /* no longer what the checksum says */
	assert_int_equal(symlink_parse(file, target), -EINVAL);
	memset(file, ' ', sizeof(file));
	memcpy(file, known, sizeof(known) - 1);
	/* the MD5 of "example" and not of "examp" */
	assert_int_equal(symlink_parse(file, target), -EINVAL);
	memcpy(file, "XSym\n0007\n1a79a4d60de6718e8e5b326e338ae533\nexample\n", 51);
	assert_int_equal(symlink_parse(file, target), 0);
	assert_string_equal(target, "example");

	memset(long_target, 't', sizeof(long_target));
	long_target[1024] = '\0';
	assert_int_equal(symlink_format(long_target, file), 0);
	assert_int_equal(symlink_parse(file, target), 0);
	assert_string_equal(target, long_target);
	long_target[1024] = 't';
	long_target[1025] = '\0';
	assert_int_equal(symlink_format(long_target, file), -ENAMETOOLONG);
	assert_int_equal(symlink_format("", file), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_become_urls),
		cmocka_unit_test(what_is_no_name_is_refused),
		cmocka_unit_test(names_come_back),
		cmocka_unit_test(symlinks_are_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
