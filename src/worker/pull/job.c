#include "worker/pull/job.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/json.h"
#include "base/time.h"

enum { JOB_BYTES_MAX = 1 << 20, PROGRESS_EVERY_MS = 200 };

static atomic_bool cancelled;
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;

#if defined(__x86_64__)
#define HOST_ARCHITECTURE "amd64"
#elif defined(__aarch64__)
#define HOST_ARCHITECTURE "arm64"
#else
#error "an architecture that images are not chosen for yet"
#endif

static uint64_t limit(const json_t *limits, const char *key, uint64_t fallback)
{
	int64_t value = json_get_int(limits, key, 0);

	return value > 0 ? (uint64_t)value : fallback;
}

static void read_fields(struct job *job)
{
	json_t *doc = job->document, *credentials = json_get_obj(doc, "credentials");
	json_t *platform = json_get_obj(doc, "platform"), *limits = json_get_obj(doc, "limits");

	job->op = json_get_str(doc, "op", "");
	job->reference = json_get_str(doc, "reference", NULL);
	job->known_digest = json_get_str(doc, "knownDigest", NULL);
	job->ca_file = json_get_str(doc, "caFile", NULL);
	job->realm_hosts = json_get_arr(doc, "realmHosts");
	job->username = json_get_str(credentials, "username", NULL);
	job->password = json_get_str(credentials, "password", NULL);
	job->allow_loopback_http = json_get_bool(doc, "allowLoopbackHttp", false);
	job->always = json_get_bool(doc, "always", false);
	job->platform.os = json_get_str(platform, "os", "linux");
	job->platform.architecture = json_get_str(platform, "architecture", HOST_ARCHITECTURE);
	job->platform.variant = json_get_str(platform, "variant", NULL);
	job->limits.bytes = limit(limits, "bytes", (uint64_t)15 << 30);
	job->limits.entries = limit(limits, "entries", 1000000);
	job->limits.seconds = limit(limits, "seconds", 3600);
	job->deadline_ms =
		time_mono_ms() + (int64_t)MIN(job->limits.seconds, (uint64_t)INT32_MAX) * 1000;
}

int job_read(int fd, struct err *err, struct job *ret)
{
	_cleanup_buf_ struct buf text = BUF_MAX(JOB_BYTES_MAX);
	struct job job = {0};
	ssize_t n;
	int r;

	do
		n = buf_read(&text, fd, 65536);
	while (n > 0);
	if (n < 0)
		return err_errno(err, (int)n, "The job could not be read");
	r = json_parse(buf_str(&text), text.len, JSON_DEPTH_MAX, err, &job.document);
	explicit_bzero(text.data, text.len);
	if (r < 0)
		return err_wrap(err, "The job");
	read_fields(&job);
	*ret = job;
	return 0;
}

void job_done(struct job *job)
{
	json_decref(job->document);
	*job = (struct job){0};
}

void job_cancel(void)
{
	atomic_store(&cancelled, true);
}

bool job_cancelled(void)
{
	return atomic_load(&cancelled);
}

int job_canceled_err(struct err *err)
{
	return err_set(err, -ECANCELED, "Canceled", "The pull was canceled.");
}

static void emit(json_t *line)
{
	_cleanup_free_ char *text = json_dumps(line, JSON_COMPACT);
	_cleanup_free_ char *whole = NULL;

	json_decref(line);
	if (!text)
		return;
	whole = xasprintf("%s\n", text);
	pthread_mutex_lock(&out_lock);
	/* Nobody listening any more is the node's decision; the work is worth its end. */
	(void)fd_write_all(STDOUT_FILENO, whole, strlen(whole));
	pthread_mutex_unlock(&out_lock);
}

void event_progress(const char *layer, const char *what, uint64_t done, uint64_t total)
{
	emit(json_pack("{s:s, s:s, s:s, s:I, s:I}", "event", "progress", "layer", layer, "what",
		what, "done", (json_int_t)done, "total", (json_int_t)total));
}

void event_done(const char *reference, const char *digest, const char *manifest)
{
	emit(json_pack("{s:s, s:s, s:s, s:s}", "event", "done", "reference", reference, "digest",
		digest, "manifest", manifest));
}

void event_error(const struct err *err)
{
	_cleanup_free_ char *message = str_utf8_clean(err->message, strlen(err->message));

	emit(json_pack("{s:s, s:s, s:s}", "event", "error", "code",
		err->code[0] ? err->code : "InternalError", "message", message));
}

void progress_step(struct progress *progress, const char *what, uint64_t done, uint64_t total)
{
	int64_t now = time_mono_ms();

	if (now - progress->last_ms < PROGRESS_EVERY_MS)
		return;
	progress->last_ms = now;
	event_progress(progress->layer, what, done, total);
}
