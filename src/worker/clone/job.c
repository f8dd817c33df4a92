#include "worker/clone/job.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include "base/json.h"

enum { JOB_MAX = 4 << 20, URL_MAX = 4096, NAME_BYTES = 255, DIRECTORY_BYTES = 1024 };

#define DEFAULT_BYTES ((uint64_t)2 << 30)

static bool is_plain(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= 0x20 || *text == 0x7f)
			return false;
	return true;
}

/* --- repository --- */

DEFINE_CLEANUP(CURLU *, curl_url_cleanup)

static char *part(CURLU *url, CURLUPart what, unsigned flags)
{
	char *text = NULL, *copy;

	if (curl_url_get(url, what, &text, flags) != CURLUE_OK)
		return NULL;
	copy = xstrdup(text);
	curl_free(text);
	return copy;
}

static void erase(char **secret)
{
	if (*secret)
		explicit_bzero(*secret, strlen(*secret));
	free(*secret);
}

/* User and password leave the URL here: git gets them as a header out of a file, so that neither
 * its arguments, nor its messages, nor the clone's own configuration have them. */
static void take_credentials(CURLU *url, struct job *job)
{
	_cleanup_(erase) char *user = part(url, CURLUPART_USER, CURLU_URLDECODE);
	_cleanup_(erase) char *password = part(url, CURLUPART_PASSWORD, CURLU_URLDECODE);
	_cleanup_(erase) char *both = NULL, *encoded = NULL;

	if (user || password) {
		both = xasprintf("%s:%s", user ? user : "", password ? password : "");
		encoded = str_base64(both, strlen(both));
		job->authorization = xasprintf("Basic %s", encoded);
	}
	curl_url_set(url, CURLUPART_USER, NULL, 0);
	curl_url_set(url, CURLUPART_PASSWORD, NULL, 0);
	curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0);
}

static int bad_repository(struct err *err)
{
	return err_set(err, -EINVAL, "InvalidRepository",
		"The repository must be a URL such as 'https://git.example/project.git'. Only https is allowed.");
}

static int parse_repository(const char *text, struct job *job, struct err *err)
{
	_cleanup_(curl_url_cleanupp) CURLU *url = curl_url();
	_cleanup_free_ char *scheme = NULL, *host = NULL, *port = NULL;
	uint64_t number;

	assert(url);
	if (strlen(text) > URL_MAX || !is_plain(text) ||
		curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK)
		return bad_repository(err);
	scheme = part(url, CURLUPART_SCHEME, 0);
	host = part(url, CURLUPART_HOST, 0);
	port = part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	if (!scheme || !str_eq(scheme, "https") || !host || !host[0] || !port ||
		str_to_u64(port, 65535, &number) < 0 || number == 0)
		return bad_repository(err);
	if (host[0] == '[')
		return err_set(err, -EINVAL, "InvalidRepository",
			"The repository's host is an IPv6 address, which gitRepo volumes don't take. Use its name.");
	str_lower(host);
	if (str_copy(job->host, sizeof(job->host), host) < 0 ||
		curl_url_set(url, CURLUPART_HOST, host, 0) != CURLUE_OK)
		return bad_repository(err);
	job->port = (uint16_t)number;
	take_credentials(url, job);
	job->url = part(url, CURLUPART_URL, 0);
	return job->url ? 0 : bad_repository(err);
}

/* --- revision --- */

/* What git allows in names and what it understands after one (v1~2, main^), but nothing that names
 * a path, a search or an option. */
static int check_revision(const char *revision, struct err *err)
{
	if (revision[0] == '-' || strlen(revision) > NAME_BYTES || !is_plain(revision) ||
		strpbrk(revision, ":?*[\\") || strstr(revision, "..") || strstr(revision, "@{") ||
		strstr(revision, "^{"))
		return err_set(err, -EINVAL, "InvalidRevision",
			"The revision must be a branch, a tag or a commit.");
	return 0;
}

/* --- directory --- */

/* As git names it: the last component of the path, without slashes behind and ".git". */
static char *humanish(const char *repository)
{
	_cleanup_free_ char *path = xstrndup(repository, strcspn(repository, "?#"));
	const char *start = strstr(path, "://");
	size_t len = strlen(path);
	char *name;

	start = start ? start + 3 : path;
	start += strcspn(start, "/");
	while (len > 0 && path[len - 1] == '/')
		path[--len] = '\0';
	if (len > 5 && str_eq(path + len - 5, "/.git"))
		path[len -= 5] = '\0';
	while (len > 0 && path[len - 1] == '/')
		path[--len] = '\0';
	name = start < path + len ? strrchr(start, '/') : NULL;
	if (!name)
		return NULL;
	name = xstrdup(name + 1);
	if (str_ends(name, ".git"))
		name[strlen(name) - 4] = '\0';
	return name;
}

static bool component_is_valid(const char *name)
{
	return name[0] && strlen(name) <= NAME_BYTES && !str_eq(name, "..") && !str_eq(name, ".");
}

static bool directory_is_valid(const char *directory)
{
	_cleanup_free_ char *copy = xstrdup(directory);
	char *rest = copy, *name;

	if (str_eq(directory, "."))
		return true;
	if (strlen(directory) > DIRECTORY_BYTES || strstr(directory, ".."))
		return false;
	for (const char *p = directory; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	while ((name = strsep(&rest, "/")))
		if (!component_is_valid(name))
			return false;
	return true;
}

static int take_directory(const char *text, struct job *job, struct err *err)
{
	size_t len;

	job->directory = text && *text ? xstrdup(text) : humanish(job->url);
	if (!job->directory)
		return err_set(
			err, -EINVAL, "InvalidRepository", "The repository's URL has no path.");
	len = strlen(job->directory);
	if (text && len > 1 && job->directory[len - 1] == '/')
		job->directory[len - 1] = '\0';
	/* A name out of the URL is as it stands there, percent signs included. */
	if (!directory_is_valid(job->directory))
		return err_set(err, -EINVAL, "InvalidDirectory",
			"The directory must be a relative path without '.' and '..', or '.' for the volume itself.");
	return 0;
}

/* --- job --- */

static uint64_t limit(const json_t *limits, const char *key, uint64_t fallback)
{
	int64_t value = json_get_int(limits, key, 0);

	return value > 0 ? (uint64_t)value : fallback;
}

static int fill(const json_t *json, struct job *job, struct err *err)
{
	const char *revision = json_get_str(json, "revision", NULL);
	const char *ca = json_get_str(json, "ca", NULL);
	const json_t *limits = json_get_obj(json, "limits");
	int r = parse_repository(json_get_str(json, "repository", ""), job, err);

	if (r == 0)
		r = take_directory(json_get_str(json, "directory", NULL), job, err);
	if (r == 0 && revision && *revision && !str_eq(revision, "HEAD")) {
		/* The one name that a server's branch has and a clone's branch hasn't. */
		if (str_starts(revision, "refs/heads/"))
			revision += strlen("refs/heads/");
		r = check_revision(revision, err);
		job->revision = *revision ? xstrdup(revision) : NULL;
	}
	job->ca = ca && *ca ? xstrdup(ca) : NULL;
	job->allow_loopback = json_get_bool(json, "allowLoopback", false);
	job->limits = (struct job_limits){
		.bytes = limit(limits, "bytes", DEFAULT_BYTES),
		.seconds = limit(limits, "seconds", 600),
		.idle_seconds = limit(limits, "idleSeconds", 60),
	};
	return r;
}

int job_parse(const char *data, size_t len, struct err *err, struct job *ret)
{
	_cleanup_json_ json_t *json = NULL;
	struct job job = {0};
	int r = json_parse(data, len, 4, err, &json);

	if (r == 0)
		r = fill(json, &job, err);
	if (r == 0)
		*ret = job;
	else
		job_done(&job);
	return r;
}

int job_read(int fd, struct err *err, struct job *ret)
{
	_cleanup_buf_ struct buf buf = BUF_MAX(JOB_MAX);
	ssize_t n;
	int r;

	while ((n = buf_read(&buf, fd, 65536)) > 0)
		;
	if (n < 0)
		return err_errno(err, (int)n, "The job could not be read");
	r = job_parse(buf_str(&buf), buf.len, err, ret);
	if (buf.data)
		explicit_bzero(buf.data, buf.len);
	return r;
}

void job_done(struct job *job)
{
	erase(&job->authorization);
	free(job->url);
	free(job->revision);
	free(job->directory);
	free(job->ca);
	*job = (struct job){0};
}
