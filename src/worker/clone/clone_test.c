/* What is read without a network: jobs, and git's words. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/json.h"
#include "worker/clone/git.h"

static int parse(const char *repository, const char *revision, const char *directory,
	struct err *err, struct job *job)
{
	json_t *json = json_pack("{s:s, s:s?, s:s?}", "repository", repository, "revision",
		revision, "directory", directory);
	char *text = json_text(json);
	int r = job_parse(text, strlen(text), err, job);

	free(text);
	json_decref(json);
	return r;
}

static void repository_names_a_directory_as_git_does(void **state)
{
	static const struct {
		const char *url, *directory;
	} table[] = {
		{"https://h/a/project.git", "project"},
		{"https://h/project", "project"},
		{"https://h/project.git/", "project"},
		{"https://h/project/.git", "project"},
		{"https://h/project//", "project"},
		{"https://h/a/b.c.git", "b.c"},
		{"https://h/_git/x", "x"},
		{"https://h/project.git?x=/y", "project"},
		{"https://h/", NULL},
		{"https://h", NULL},
		{"https://h/..", NULL},
		{"https://h/.git", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct job job = {0};
		int r = parse(table[i].url, NULL, NULL, NULL, &job);

		if ((r == 0) != (table[i].directory != NULL))
			fail_msg("%s: %d, '%s'", table[i].url, r,
				job.directory ? job.directory : "");
		if (r == 0)
			assert_string_equal(job.directory, table[i].directory);
		job_done(&job);
	}
}

static void user_and_password_leave_the_url(void **state)
{
	struct job job = {0};

	assert_int_equal(
		parse("https://me%40x:p%2Fw@Git.Example:8443/a.git#f", NULL, NULL, NULL, &job), 0);
	assert_string_equal(job.url, "https://git.example:8443/a.git");
	assert_string_equal(job.host, "git.example");
	assert_int_equal(job.port, 8443);
	assert_string_equal(job.authorization, "Basic bWVAeDpwL3c=");
	job_done(&job);

	assert_int_equal(parse("https://h/a.git", NULL, NULL, NULL, &job), 0);
	assert_null(job.authorization);
	assert_int_equal(job.port, 443);
	job_done(&job);
}

static void hosts_are_as_curl_reads_them(void **state)
{
	struct job job = {0};

	assert_int_equal(parse("https://0x7f.1/a", NULL, NULL, NULL, &job), 0);
	assert_string_equal(job.host, "127.0.0.1");
	job_done(&job);
	assert_int_equal(parse("https://%31%32%37.0.0.1/a", NULL, NULL, NULL, &job), 0);
	assert_string_equal(job.host, "127.0.0.1");
	job_done(&job);
}

static void bad_jobs_are_refused(void **state)
{
	static const struct {
		const char *url, *revision, *directory, *code;
	} table[] = {
		{"", NULL, NULL, "InvalidRepository"},
		{"http://h/a", NULL, NULL, "InvalidRepository"},
		{"file:///a", NULL, NULL, "InvalidRepository"},
		{"ext::sh -c x", NULL, NULL, "InvalidRepository"},
		{"--upload-pack=x", NULL, NULL, "InvalidRepository"},
		{"https://h/a b", NULL, NULL, "InvalidRepository"},
		{"https://h/a\x01", NULL, NULL, "InvalidRepository"},
		{"https://h:0/a", NULL, NULL, "InvalidRepository"},
		{"https://[::1]/a", NULL, NULL, "InvalidRepository"},
		{"https://h\"/a", NULL, NULL, "InvalidRepository"},
		{"https://h/a", "-x", NULL, "InvalidRevision"},
		{"https://h/a", "refs/heads/-x", NULL, "InvalidRevision"},
		{"https://h/a", "a..b", NULL, "InvalidRevision"},
		{"https://h/a", "a:b", NULL, "InvalidRevision"},
		{"https://h/a", "@{u}", NULL, "InvalidRevision"},
		{"https://h/a", "a\n", NULL, "InvalidRevision"},
		{"https://h/a", NULL, "..", "InvalidDirectory"},
		{"https://h/a", NULL, "/a", "InvalidDirectory"},
		{"https://h/a", NULL, "a/../b", "InvalidDirectory"},
		{"https://h/a", NULL, "a\nb", "InvalidDirectory"},
		{"https://h/a", NULL, "a//b", "InvalidDirectory"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct job job = {0};
		struct err err = {0};

		if (parse(table[i].url, table[i].revision, table[i].directory, &err, &job) == 0)
			fail_msg("row %zu (%s) was accepted", i, table[i].url);
		assert_string_equal(err.code, table[i].code);
		assert_null(job.url);
	}
}

static void gits_words_become_ours(void **state)
{
	static const struct {
		const char *log, *code;
		int status;
	} table[] = {
		{"fatal: repository 'https://h/a.git/' not found\n", "RepositoryNotFound", 128},
		{"fatal: could not read Username for 'https://h': terminal prompts disabled\n",
			"RepositoryAuthenticationFailed", 128},
		{"fatal: unable to access 'https://h/': server certificate verification failed. "
		 "CAfile: none CRLfile: none\n",
			"RepositoryUntrusted", 128},
		{"error: unable to write file x\nfatal: No space left on device\n",
			"RepositoryTooLarge", 128},
		{"", "RepositoryTooLarge", 128 + SIGXFSZ},
		{"", "Timeout", 128 + SIGXCPU},
		{"warning: x\nfatal: Remote branch v9 not found in upstream origin\n",
			"RevisionNotFound", 128},
		{"fatal: something new\n", "RepositoryUnusable", 128},
		{"", "RepositoryUnusable", 1},
	};
	struct job job = {0};

	assert_int_equal(parse("https://h/a.git", NULL, NULL, NULL, &job), 0);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct err err = {0};

		assert_true(git_explain(&job, table[i].log, table[i].status, &err) < 0);
		assert_string_equal(err.code, table[i].code);
	}
	job_done(&job);
}

static void a_strangers_words_are_cleaned_and_cut(void **state)
{
	_cleanup_buf_ struct buf log = BUF_INIT;
	struct job job = {0};
	struct err err = {0};

	assert_int_equal(parse("https://h/a.git", NULL, NULL, NULL, &job), 0);
	buf_adds(&log, "fatal: remote error: \x1b[31m\xff ");
	for (int i = 0; i < 5000; i++)
		buf_addc(&log, 'x');
	git_explain(&job, buf_str(&log), 128, &err);
	assert_true(strlen(err.message) < 500);
	assert_null(strchr(err.message, '\x1b'));
	assert_true(str_is_utf8(err.message, strlen(err.message)));
	job_done(&job);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(repository_names_a_directory_as_git_does),
		cmocka_unit_test(user_and_password_leave_the_url),
		cmocka_unit_test(hosts_are_as_curl_reads_them),
		cmocka_unit_test(bad_jobs_are_refused),
		cmocka_unit_test(gits_words_become_ours),
		cmocka_unit_test(a_strangers_words_are_cleaned_and_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
