#include "worker/clone/clone.h"

#include <stdio.h>

#include "worker/clone/cage.h"

#define GIT_RUN(git, err, ...) git_run(git, err, (const char *const[]){__VA_ARGS__, NULL})

/* No submodules, no template (hooks), no tags but those that were asked for. */
#define CLONE                                                                                      \
	"clone", "--quiet", "--no-recurse-submodules", "--template=", "--single-branch", "--no-tags"

/* The newest commit of HEAD, or of one branch or tag. A server of plain files can't cut history. */
static int clone_one(struct git *git, const char *dir, struct err *err)
{
	const char *url = git->job->url, *revision = git->job->revision;
	int r;

	if (revision)
		return GIT_RUN(git, err, CLONE, "--depth=1", "--branch", revision, "--", url, dir);
	r = GIT_RUN(git, err, CLONE, "--depth=1", "--", url, dir);
	if (r == -EOPNOTSUPP)
		r = GIT_RUN(git, err, CLONE, "--", url, dir);
	return r;
}

static int check_out(struct git *git, const char *dir, struct err *err)
{
	return GIT_RUN(
		git, err, "-C", dir, "checkout", "--quiet", "--detach", git->job->revision, "--");
}

static bool is_commit_id(const char *revision)
{
	size_t n = strlen(revision);

	return (n == 40 || n == 64) && strspn(revision, "0123456789abcdefABCDEF") == n;
}

/* Most servers give a commit by its name; those that don't have it found in the whole history. */
static int clone_commit(struct git *git, const char *dir, struct err *err)
{
	const char *url = git->job->url, *commit = git->job->revision;
	int r = GIT_RUN(git, err, "init", "--quiet", "--template=",
		strlen(commit) == 64 ? "--object-format=sha256" : "--object-format=sha1", "--",
		dir);

	if (r == 0)
		r = GIT_RUN(git, err, "-C", dir, "remote", "add", "origin", url);
	if (r < 0)
		return r;
	r = GIT_RUN(git, err, "-C", dir, "fetch", "--quiet", "--no-tags", "--depth=1", "origin",
		commit);
	if (r == -ENODATA || r == -EOPNOTSUPP)
		r = GIT_RUN(git, err, "-C", dir, "fetch", "--quiet", "--tags", "origin");
	return r < 0 ? r : check_out(git, dir, err);
}

/* A short commit, v1~2, origin/main: what only the whole history can tell. */
static int clone_all(struct git *git, const char *dir, struct err *err)
{
	int r = GIT_RUN(git, err, "clone", "--quiet", "--no-recurse-submodules",
		"--template=", "--no-checkout", "--", git->job->url, dir);

	return r < 0 ? r : check_out(git, dir, err);
}

static void read_commit(struct git *git, const char *dir, char ret_commit[65])
{
	const char *out;
	size_t n;

	ret_commit[0] = '\0';
	if (GIT_RUN(git, NULL, "-C", dir, "rev-parse", "--verify", "--quiet", "HEAD") < 0)
		return;
	out = buf_str(&git->out);
	n = strspn(out, "0123456789abcdef");
	if (n == 40 || n == 64)
		snprintf(ret_commit, 65, "%.*s", (int)n, out);
}

int clone_run(struct git *git, struct err *err, char ret_commit[65])
{
	const char *revision = git->job->revision;
	_cleanup_free_ char *dir = str_eq(git->job->directory, ".")
					   ? xstrdup(CAGE_VOLUME)
					   : xasprintf("%s/%s", CAGE_VOLUME, git->job->directory);
	int r;

	if (revision && is_commit_id(revision)) {
		r = clone_commit(git, dir, err);
	} else {
		r = clone_one(git, dir, err);
		/* git has removed what it had made, down to the directory's parents. */
		if (revision && (r == -ENODATA || r == -EOPNOTSUPP))
			r = clone_all(git, dir, err);
	}
	if (r < 0)
		return r;
	read_commit(git, dir, ret_commit);
	/* To git, any page of a web server that answers everything with 200 is such a repository.
	 */
	if (!ret_commit[0])
		return err_set(err, -ENODATA, "RepositoryUnusable",
			"The repository '%s' is empty, or the URL does not lead to a git repository.",
			git->job->url);
	return 0;
}
