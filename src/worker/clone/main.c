/* berth-clone: one repository into a volume (PROTOCOL.md). Started by berth-node, in a user
 * namespace, as root of the group's ids. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "base/json.h"
#include "worker/clone/cage.h"
#include "worker/clone/clone.h"

enum { VOLUME_FD = 3 };

static int run(struct err *err, char ret_commit[65])
{
	_cleanup_(relay_freep) struct relay *relay = NULL;
	_cleanup_(git_done) struct git git = {.status = 0};
	_cleanup_(job_done) struct job job = {0};
	struct addresses addresses;
	int r;

	/* A sanitizer looks for leaks with ptrace. */
	if ((!SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, -errno, "The worker could not give up privileges");
	r = job_read(STDIN_FILENO, err, &job);
	/* While the machine's resolver and its configuration can still be seen. */
	if (r == 0)
		r = addresses_find(&job, err, &addresses);
	if (r == 0)
		r = relay_new(&job, &addresses, err, &relay);
	if (r == 0)
		r = cage_enter(VOLUME_FD, err);
	if (r == 0)
		r = git_open(&job, relay, err, &git);
	fd_close(VOLUME_FD);
	return r < 0 ? r : clone_run(&git, err, ret_commit);
}

int main(void)
{
	_cleanup_json_ json_t *result = NULL;
	_cleanup_free_ char *text = NULL;
	char commit[65] = "";
	struct err err = {0};
	int r;

	log_init("berth-clone", LOG_LEVEL_INFO);
	r = run(&err, commit);
	result = r == 0 ? json_pack("{s:b, s:s}", "done", 1, "commit", commit)
			: json_pack("{s:{s:s, s:s}}", "error", "code", err.code, "message",
				  err.message);
	text = json_text(result);
	if (fd_write_all(STDOUT_FILENO, text, strlen(text)) < 0 ||
		fd_write_all(STDOUT_FILENO, "\n", 1) < 0)
		return 1;
	return r == 0 ? 0 : 1;
}
