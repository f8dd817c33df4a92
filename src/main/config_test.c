#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "main/config.h"
#include "main/daemon.h"

static void settings_are_checked_and_kept(void **state)
{
	static const struct {
		const char *assignment;
		int expected;
	} rows[] = {
		{"region=west", 0},
		{"put_wait_ms=100", 0},
		{"put_wait_ms=99999999", -ERANGE},
		{"put_wait_ms=x", -ERANGE},
		{"registry_loopback_http=false", 0},
		{"registry_loopback_http=maybe", -EINVAL},
		{"nothing=1", -EINVAL},
		{"region", -EINVAL},
	};
	char dir[] = "/tmp/config-test-XXXXXX";
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_(config_freep) struct config *loaded = NULL;
	struct err err = {0};

	assert_non_null(mkdtemp(dir));
	config = config_new(dir);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(config_set(config, rows[i].assignment, &err), rows[i].expected);
	assert_int_equal(config_save(config, &err), 0);
	assert_int_equal(config_load(dir, &err, &loaded), 0);
	assert_string_equal(loaded->region, "west");
	assert_int_equal(loaded->put_wait_ms, 100);
	assert_false(loaded->registry_loopback_http);
	file_remove_tree(AT_FDCWD, dir);
}

static void a_state_without_a_berth_says_how_to_start_one(void **state)
{
	struct config *config;
	struct err err = {0};

	assert_true(config_load("/nonexistent", &err, &config) < 0);
	assert_string_equal(err.code, "NotSetUp");
	assert_non_null(strstr(err.message, "sudo berth up --state /nonexistent"));
}

static void addresses_are_numeric_with_a_port(void **state)
{
	static const char *const bad[] = {
		"", "localhost:1", "1.2.3.4", "1.2.3.4:0", "1.2.3.4:65536", ":80"};
	struct err err = {0};
	char host[64];
	int port;

	assert_int_equal(config_host_port("127.0.0.1:8443", host, sizeof(host), &port, &err), 0);
	assert_string_equal(host, "127.0.0.1");
	assert_int_equal(port, 8443);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(
			config_host_port(bad[i], host, sizeof(host), &port, &err), -EINVAL);
}

static void a_pid_file_names_a_process_for_good(void **state)
{
	char dir[] = "/tmp/config-test-XXXXXX";
	_cleanup_free_ char *run = NULL;
	struct err err = {0};

	assert_non_null(mkdtemp(dir));
	run = xasprintf("%s/run", dir);
	assert_int_equal(file_mkdirs(run, 0755), 0);
	assert_int_equal(daemon_pid(dir, "berthd"), -ESRCH);
	assert_int_equal(daemon_write_pid(dir, "berthd", getpid(), &err), 0);
	assert_int_equal(daemon_pid(dir, "berthd"), getpid());
	file_remove_tree(AT_FDCWD, dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settings_are_checked_and_kept),
		cmocka_unit_test(a_state_without_a_berth_says_how_to_start_one),
		cmocka_unit_test(addresses_are_numeric_with_a_port),
		cmocka_unit_test(a_pid_file_names_a_process_for_good),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
