/* A tenant's repository, revision and directory, and a server's words that git passes on. The first
 * byte says which. */
#include "worker/clone/git.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct job *job)
{
	assert(str_starts(job->url, "https://") && job->host[0] && job->port);
	assert(!strpbrk(job->host, "\"\\\n ") && !strstr(job->directory, ".."));
	assert(job->directory[0] && job->directory[0] != '/');
	assert(!job->revision || (job->revision[0] && job->revision[0] != '-'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char url[] = "https://h/a", directory[] = "a";
	struct job job = {.url = url, .directory = directory};
	_cleanup_free_ char *text = NULL;
	struct err err = {0};

	if (size == 0)
		return 0;
	text = xstrndup((const char *)data + 1, size - 1);
	if (data[0] & 1) {
		assert(git_explain(&job, text, 128, &err) < 0);
		assert(str_is_utf8(err.message, strlen(err.message)));
		return 0;
	}
	if (job_parse(text, strlen(text), &err, &job) == 0) {
		check(&job);
		job_done(&job);
	}
	return 0;
}
