#include "worker/clone/git.h"

#include <signal.h>

/* Words of git and of the libcurl in it, in the C locale; the first row that fits counts. They only
 * choose among messages of ours, since a server can make git say nearly anything. */
static const struct {
	const char *word;
	int r;
	const char *code;
	const char *message; /* NULL: see git_explain */
} table[] = {
	{"No space left on device", -ENOSPC, "RepositoryTooLarge", NULL},
	{"Disk quota exceeded", -ENOSPC, "RepositoryTooLarge", NULL},
	{"File too large", -ENOSPC, "RepositoryTooLarge", NULL},
	{"ut of memory", -ENOSPC, "RepositoryTooLarge", NULL},
	{"annot allocate memory", -ENOSPC, "RepositoryTooLarge", NULL},
	{"could not read Username", -EACCES, "RepositoryAuthenticationFailed",
		"The repository isn't there, or its server wants a user and a password"},
	{"could not read Password", -EACCES, "RepositoryAuthenticationFailed",
		"The repository isn't there, or its server wants a user and a password"},
	{"Authentication failed", -EACCES, "RepositoryAuthenticationFailed",
		"The repository's server did not accept the user and the password"},
	{"returned error: 401", -EACCES, "RepositoryAuthenticationFailed",
		"The repository's server did not accept the user and the password"},
	{"returned error: 403", -EACCES, "RepositoryAuthenticationFailed",
		"The repository's server refuses access (403)"},
	{"returned error: 404", -ENOENT, "RepositoryNotFound",
		"The repository was not found on its server"},
	{"' not found\n", -ENOENT, "RepositoryNotFound",
		"The repository was not found on its server"},
	{"returned error: 429", -EBUSY, "RepositoryUnreachable",
		"The repository's server has too many requests (429)"},
	{"returned error: 5", -EIO, "RepositoryUnreachable",
		"The repository's server has an error of its own (5xx)"},
	{"returned error: 3", -EINVAL, "RepositoryMoved",
		"The repository's server redirects to another place, which is not followed. Use the new URL"},
	{"certificate verification failed", -EACCES, "RepositoryUntrusted",
		"The certificate of the repository's server is not trusted"},
	{"certificate subject name", -EACCES, "RepositoryUntrusted",
		"The certificate of the repository's server is for another name"},
	{"SSL: no alternative certificate", -EACCES, "RepositoryUntrusted",
		"The certificate of the repository's server is for another name"},
	{"SSL certificate problem", -EACCES, "RepositoryUntrusted",
		"The certificate of the repository's server is not trusted"},
	{"gnutls_handshake() failed", -EIO, "RepositoryUntrusted",
		"The repository's server does not speak TLS as it should"},
	{"Operation too slow", -ETIMEDOUT, "Timeout",
		"The repository's server did not answer in time"},
	{"timed out", -ETIMEDOUT, "Timeout", "The repository's server did not answer in time"},
	{"Remote branch ", -ENODATA, "RevisionNotFound", NULL},
	{"couldn't find remote ref", -ENODATA, "RevisionNotFound", NULL},
	{"not our ref", -ENODATA, "RevisionNotFound", NULL},
	{"Server does not allow request for unadvertised", -ENODATA, "RevisionNotFound", NULL},
	{"invalid reference", -ENODATA, "RevisionNotFound", NULL},
	{"did not match any file", -ENODATA, "RevisionNotFound", NULL},
	{"is not a commit", -ENODATA, "RevisionNotFound", NULL},
	{"is not a tree", -ENODATA, "RevisionNotFound", NULL},
	{"not a tree object", -ENODATA, "RevisionNotFound", NULL},
	{"unable to read tree", -ENODATA, "RevisionNotFound", NULL},
	{"unable to parse object", -ENODATA, "RevisionNotFound", NULL},
	{"does not support shallow", -EOPNOTSUPP, "RepositoryUnusable", NULL},
	{"already exists and is not an empty directory", -EEXIST, "DirectoryTaken",
		"The directory is there already and isn't empty"},
	{"is this a git repository?", -EINVAL, "RepositoryUnusable",
		"The URL does not lead to a git repository"},
	{"protocol error", -EINVAL, "RepositoryUnusable",
		"The URL does not lead to a git repository"},
	{"invalid server response", -EINVAL, "RepositoryUnusable",
		"The URL does not lead to a git repository"},
	{"invalid path", -EINVAL, "RepositoryUnusable",
		"The repository holds a file name that git refuses to write"},
	{"unable to checkout working tree", -EINVAL, "RepositoryUnusable",
		"The repository's files could not be written"},
};

/* The last line of git's that is an error, without control bytes, and cut: a stranger's text. */
static char *last_line(const char *log)
{
	_cleanup_free_ char *clean = NULL;
	const char *at = NULL, *found;
	size_t n;

	for (found = log; (found = strstr(found, "fatal: ")); found++)
		at = found + 7;
	if (!at)
		for (found = log; (found = strstr(found, "error: ")); found++)
			at = found + 7;
	if (!at)
		return NULL;
	n = strcspn(at, "\r\n");
	clean = str_utf8_clean(at, MIN(n, (size_t)300));
	for (char *p = clean; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	return take_ptr(clean);
}

static int say(const struct job *job, size_t i, const char *line, struct err *err)
{
	int r = table[i].r;

	if (r == -ENOSPC)
		return err_set(err, r, table[i].code,
			"The repository is too large: with its files it needs more than the %llu MiB, the number of files or the memory that a gitRepo volume may take.",
			(unsigned long long)(job->limits.bytes >> 20));
	if (r == -ENODATA)
		return err_set(err, r, table[i].code,
			"The revision '%s' was not found in the repository '%s'.",
			job->revision ? job->revision : "HEAD", job->url);
	if (r == -EOPNOTSUPP)
		return err_set(err, r, table[i].code,
			"The repository's server does not support shallow clones.");
	return err_set(err, r, table[i].code, "%s: '%s'%s%s%s.", table[i].message, job->url,
		line ? " (git: " : "", line ? line : "", line ? ")" : "");
}

int git_explain(const struct job *job, const char *log, int status, struct err *err)
{
	_cleanup_free_ char *line = last_line(log);

	if (status == 128 + SIGXFSZ)
		return say(job, 0, NULL, err);
	if (status == 128 + SIGXCPU)
		return err_set(err, -ETIMEDOUT, "Timeout",
			"The repository '%s' needed more than %llu seconds of computing time.",
			job->url, (unsigned long long)job->limits.seconds);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strstr(log, table[i].word))
			return say(job, i, line, err);
	if (line)
		return err_set(err, -EIO, "RepositoryUnusable",
			"The repository '%s' could not be cloned. git says: %s", job->url, line);
	return err_set(err, -EIO, "RepositoryUnusable",
		"The repository '%s' could not be cloned: git ended with status %d.", job->url,
		status);
}
