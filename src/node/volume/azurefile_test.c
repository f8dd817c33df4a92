#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first. */
#include <cmocka.h>

#include "node/volume/azurefile.h"

#define CIFS_KEYS                                                                                  \
	"ip=192.0.2.1,port=445,vers=3.1.1,seal,username=acc,password=a+/=,uid=65536,gid=65536,"    \
	"dir_mode=0777,file_mode=0777,soft,serverino,nosharesock,mfsymlinks,actimeo=30"

static const struct volume_spec good = {
	.kind = VOLUME_AZURE_FILE, .share = "a-share", .account = "acc", .key = "a+/="};

static void names_are_what_azure_gives(void **state)
{
	static const struct {
		const char *share, *account, *key;
		int r;
	} table[] = {
		{"a-share", "acc", "a+/=", 0},
		{"abc", "abcdefghijklmnopqrstuvwx", "k", 0},
		{"ab", "acc", "k", -EINVAL},
		{"a--b", "acc", "k", -EINVAL},
		{"-ab", "acc", "k", -EINVAL},
		{"ab-", "acc", "k", -EINVAL},
		{"abc,uid=0", "acc", "k", -EINVAL},
		{"abc/..", "acc", "k", -EINVAL},
		{"a\\..\\b", "acc", "k", -EINVAL},
		{"Abc", "acc", "k", -EINVAL},
		{NULL, "acc", "k", -EINVAL},
		{"abc", "ac", "k", -EINVAL},
		{"abc", "abcdefghijklmnopqrstuvwxy", "k", -EINVAL},
		{"abc", "evil.example", "k", -EINVAL},
		{"abc", "acc:1@x", "k", -EINVAL},
		{"abc", NULL, "k", -EINVAL},
		{"abc", "acc", "", -EINVAL},
		{"abc", "acc", "k,exec", -EINVAL},
		{"abc", "acc", "k\n", -EINVAL},
		{"abc", "acc", NULL, -EINVAL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct volume_spec spec = {
			.share = table[i].share, .account = table[i].account, .key = table[i].key};
		struct err err = {0};

		assert_int_equal(azurefile_check(&spec, &err), table[i].r);
		if (table[i].r < 0)
			assert_string_equal(err.code, "FailedMountAzureFileVolume");
	}
}

static void the_server_is_the_templates(void **state)
{
	static const struct {
		const char *template, *host;
		int port;
	} table[] = {
		{"{account}.file.core.windows.net:445", "acc.file.core.windows.net", 445},
		{"files.example", "files.example", 445},
		{"127.0.0.1:10445", "127.0.0.1", 10445},
		{"x.{account}:0", NULL, 0},
		{"x:65536", NULL, 0},
		{"", NULL, 0},
		{"//x", NULL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_(azure_server_done) struct azure_server server = {0};

		if (!table[i].host) {
			assert_int_equal(
				azure_server_init(&server, table[i].template, &good), -EINVAL);
			continue;
		}
		assert_int_equal(azure_server_init(&server, table[i].template, &good), 0);
		assert_string_equal(server.host, table[i].host);
		assert_int_equal(server.port, table[i].port);
	}
}

static void the_kernel_gets_encryption_and_a_group_of_its_own(void **state)
{
	_cleanup_(azure_server_done) struct azure_server server = {0};
	_cleanup_(cifs_options_done) struct cifs_options options = {0};
	_cleanup_free_ char *text = NULL;

	assert_int_equal(azure_server_init(&server, "{account}.x:445", &good), 0);
	server.uid_base = 65536;
	azurefile_cifs_options(&server, "192.0.2.1", &options);
	assert_string_equal(options.list[0].key, "source");
	assert_string_equal(options.list[0].value, "//acc.x/a-share");
	text = azurefile_cifs_text(&options);
	assert_string_equal(text, CIFS_KEYS);
}

/* CVE class of joined mount options: no value may become an option of its own. */
static void a_comma_is_never_joined(void **state)
{
	const struct cifs_options comma = {.list = {{"password", "k,uid=0"}}, .n = 1};
	const struct cifs_options backslash = {.list = {{"password", "k\\054uid=0"}}, .n = 1};

	assert_null(azurefile_cifs_text(&comma));
	assert_null(azurefile_cifs_text(&backslash));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_what_azure_gives),
		cmocka_unit_test(the_server_is_the_templates),
		cmocka_unit_test(the_kernel_gets_encryption_and_a_group_of_its_own),
		cmocka_unit_test(a_comma_is_never_joined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
