#include "worker/pull/layer.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sched.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/time.h"
#include "worker/pull/blob.h"
#include "worker/pull/inflate.h"
#include "worker/pull/unpack.h"

enum {
	THREADS_MAX = 4,
	TRIES = 4, /* of a transfer that breaks without having brought anything */
	DRAIN_MAX = 64 << 20,
};

struct fetch { /* all layers of one image */
	const struct job *job;
	struct store *store;
	const struct layer_source *ops;
	void *source;
	const struct layer *layers;
	size_t n;
	struct staging staging;
	pthread_mutex_t lock;
	size_t next; /* under lock, as what follows */
	uint64_t bytes;
	struct err err;
	atomic_bool failed;
};

struct stream { /* one layer on its way */
	struct fetch *fetch;
	const struct layer *layer;
	void *source;
	struct blob *blob;
	struct hasher *blob_hash, *tar_hash;
	struct inflate *inflate;
	uint64_t blob_bytes, tar_bytes;
	struct progress progress;
	struct err get_err; /* the getter thread's, read after the join */
	int get_r;
	struct err read_err; /* set by the reader when it refuses by itself */
};

static bool must_stop(const struct fetch *fetch)
{
	return atomic_load(&fetch->failed) || job_cancelled() ||
	       time_mono_ms() > fetch->job->deadline_ms;
}

/* --- the getter: a thread that brings the blob --- */

static int sink(const void *data, size_t len, void *arg)
{
	struct stream *s = arg;

	if (must_stop(s->fetch))
		return -ECANCELED;
	return blob_append(s->blob, data, len);
}

/* Waits, unless everything ends. */
static void pause_before(const struct fetch *fetch, int attempt)
{
	static const int wait_ms[] = {0, 300, 1000, 3000};

	for (int left = wait_ms[MIN(attempt, 3)]; left > 0 && !must_stop(fetch); left -= 50)
		usleep(50000);
}

static int get_blob(struct stream *s, struct err *err)
{
	const struct descriptor *d = s->layer->descriptor;
	int attempt = 0, r;

	for (;;) {
		uint64_t before = blob_available(s->blob);

		if (before == d->size)
			return 0;
		r = s->fetch->ops->get(s->source, d, before, sink, s, err);
		if (r == -EFBIG)
			return err_set(err, r, "ImageDigestMismatch",
				"a layer is larger than its manifest says.");
		if (r == -ENOSPC || r == -EDQUOT)
			return err_set(err, r, "NodeStorageFull",
				"there is no space left for the image's layers.");
		/* An end that came too early is a broken connection, whatever the server thinks. */
		if (r == 0 && blob_available(s->blob) < d->size)
			r = err_set(err, -ECONNRESET, "RegistryErrorResponse",
				"the transfer of a layer ended early.");
		if (r != -ECONNRESET && r != -ETIMEDOUT && r != 0)
			return r;
		/* The limit is on tries in vain: a connection that breaks now and then still gets
		 * there. */
		attempt = blob_available(s->blob) > before ? 1 : attempt + 1;
		if (r < 0 && attempt >= TRIES)
			return r;
		pause_before(s->fetch, attempt);
		if (must_stop(s->fetch))
			return -ECANCELED;
	}
}

static void *getter(void *arg)
{
	struct stream *s = arg;

	s->get_r = get_blob(s, &s->get_err);
	blob_end(s->blob, s->get_r);
	return NULL;
}

/* --- the reader: blob, hash, decompress, hash, tar --- */

static ssize_t read_blob(void *arg, void *data, size_t n)
{
	struct stream *s = arg;
	ssize_t got = must_stop(s->fetch) ? -ECANCELED : blob_read(s->blob, data, n);

	if (got > 0) {
		hasher_add(s->blob_hash, data, (size_t)got);
		s->blob_bytes += (uint64_t)got;
		progress_step(
			&s->progress, "Downloading", s->blob_bytes, s->layer->descriptor->size);
	}
	return got;
}

static ssize_t read_tar(void *arg, void *data, size_t n)
{
	struct stream *s = arg;
	ssize_t got = inflate_read(s->inflate, data, n);

	if (got <= 0)
		return got;
	hasher_add(s->tar_hash, data, (size_t)got);
	s->tar_bytes += (uint64_t)got;
	if (s->tar_bytes > RATIO_FREE_BYTES && s->tar_bytes / RATIO_MAX > s->blob_bytes)
		return err_set(&s->read_err, -EFBIG, "ImageTooLarge",
			"a layer unpacks to more than %d times its size.", RATIO_MAX);
	/* Headers and padding come on top of content, at most some blocks an entry. */
	if (s->tar_bytes / 2 >
		s->fetch->job->limits.bytes / 2 + s->fetch->job->limits.entries * 2048)
		return err_set(&s->read_err, -EFBIG, "ImageTooLarge",
			"a layer unpacks to too many bytes.");
	return got;
}

/* Reads what is left of the blob, so that its digest can tell damage on the way from a bad layer.
 */
static void drain_blob(struct stream *s)
{
	char data[16384];
	uint64_t from = s->blob_bytes;
	ssize_t n;

	do
		n = read_blob(s, data, sizeof(data));
	while (n > 0 && s->blob_bytes - from < DRAIN_MAX);
}

static int check_digests(struct stream *s, struct err *err)
{
	char sum[DIGEST_MAX];

	if (!str_eq(hasher_digest(s->blob_hash, sum), s->layer->descriptor->digest))
		return err_set(err, -EBADMSG, "ImageDigestMismatch",
			"a layer's digest is %s, and the manifest says %s.", sum,
			s->layer->descriptor->digest);
	if (!str_eq(hasher_digest(s->tar_hash, sum), s->layer->diff_id))
		return err_set(err, -EBADMSG, "ImageDigestMismatch",
			"a layer unpacks to %s, and its config says %s.", sum, s->layer->diff_id);
	return 0;
}

/* For work that was told to stop. */
static int stopped_err(const struct fetch *fetch, struct err *err)
{
	if (!job_cancelled() && time_mono_ms() > fetch->job->deadline_ms)
		return err_set(err, -ETIMEDOUT, "RegistryErrorResponse",
			"it took longer than %llu seconds.",
			(unsigned long long)fetch->job->limits.seconds);
	return job_canceled_err(err);
}

/* Whose failure it was, once both threads have ended. */
static int failure(struct stream *s, int r, struct err *err, struct err *ret)
{
	char sum[DIGEST_MAX];

	if (s->get_r < 0 && s->get_r != -ECANCELED) {
		*ret = s->get_err;
		return s->get_r;
	}
	if ((job_cancelled() || s->get_r == -ECANCELED || r == -ECANCELED) && !err_is_set(err) &&
		!err_is_set(&s->read_err))
		return stopped_err(s->fetch, ret);
	if (s->blob_bytes == s->layer->descriptor->size &&
		!str_eq(hasher_digest(s->blob_hash, sum), s->layer->descriptor->digest))
		return err_set(ret, -EBADMSG, "ImageDigestMismatch",
			"a layer's digest is %s, and the manifest says %s.", sum,
			s->layer->descriptor->digest);
	if (err_is_set(&s->read_err))
		*ret = s->read_err;
	else if (inflate_broken(s->inflate))
		return err_set(
			ret, -EBADMSG, "InvalidImageLayer", "a layer's compressed data is broken.");
	else if (err_is_set(err))
		*ret = *err;
	else
		return err_errno(ret, r, "a layer could not be read");
	return ret->r;
}

static int unpack_stream(struct stream *s, int dirfd, struct err *err, uint64_t *ret_bytes)
{
	const struct job *job = s->fetch->job;
	const struct unpack_limits limits = {.bytes = job->limits.bytes,
		.entries = job->limits.entries,
		.deadline_ms = job->deadline_ms};
	struct err mine = {0};
	pthread_t thread;
	bool threaded = blob_available(s->blob) < s->layer->descriptor->size;
	int r;

	if (threaded && pthread_create(&thread, NULL, getter, s) != 0)
		return err_set(err, -EAGAIN, "InternalError", "no thread could be started.");
	if (!threaded)
		blob_end(s->blob, 0);
	r = unpack_layer(dirfd, read_tar, s, &limits, &mine, ret_bytes);
	if (r == -EBADMSG)
		drain_blob(s);
	if (r < 0)
		blob_stop(s->blob);
	if (threaded)
		pthread_join(thread, NULL);
	if (r < 0)
		return failure(s, r, &mine, err);
	return check_digests(s, err);
}

static int open_blob(struct stream *s, struct err *err, bool *ret_replayed)
{
	const struct descriptor *d = s->layer->descriptor;
	struct stat st;
	int fd, r;

	*ret_replayed = false;
	fd = s->fetch->ops->open(s->source, d, err);
	if (fd == -ENOSYS) {
		r = blob_open(s->fetch->store, d->digest, d->size, err, &s->blob);
		if (r == 0)
			*ret_replayed = blob_available(s->blob) > 0;
		return r;
	}
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != d->size) {
		fd_close(fd);
		return err_set(err, -EBADMSG, "ImageDigestMismatch",
			"a layer is not of the size that its manifest says.");
	}
	s->blob = blob_from_file(fd, d->size);
	return 0;
}

/* One try. *ret_replayed: it began with bytes that an earlier worker had left. */
static int fetch_once(struct stream *s, const char *name, struct err *err, uint64_t *ret_bytes,
	bool *ret_replayed)
{
	_cleanup_fd_ int dirfd = -EBADF;
	int r;

	r = open_blob(s, err, ret_replayed);
	if (r < 0)
		return r;
	if (mkdirat(s->fetch->staging.fd, name, 0755) < 0)
		return err_errno(err, -errno, "the layer's staging folder could not be made");
	dirfd = openat(s->fetch->staging.fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dirfd < 0)
		return err_errno(err, -errno, "the layer's staging folder could not be opened");
	s->blob_hash = hasher_new(s->layer->descriptor->digest);
	s->tar_hash = hasher_new(s->layer->diff_id);
	s->inflate = inflate_new(read_blob, s);
	r = unpack_stream(s, dirfd, err, ret_bytes);
	/* Complete and in use, or worth nothing; what was cut off stays. */
	if (r == 0 || r == -EBADMSG || r == -EFBIG)
		blob_drop(s->blob);
	return r;
}

static void stream_done(struct stream *s)
{
	blob_free(take_ptr(s->blob));
	hasher_free(take_ptr(s->blob_hash));
	hasher_free(take_ptr(s->tar_hash));
	inflate_free(take_ptr(s->inflate));
}

static int fetch_locked(struct fetch *fetch, void *source, const struct layer *layer,
	struct err *err, uint64_t *ret_bytes)
{
	bool replayed = false;
	char name[DIGEST_MAX];
	int r = 0;

	digest_file_name(layer->diff_id, name);
	for (int attempt = 0; attempt < 2; attempt++) {
		_cleanup_(stream_done) struct stream s = {
			.fetch = fetch, .layer = layer, .source = source};

		digest_short(layer->descriptor->digest, s.progress.layer);
		progress_step(&s.progress, "Downloading", 0, layer->descriptor->size);
		r = fetch_once(&s, name, err, ret_bytes, &replayed);
		if (r == 0) {
			event_progress(s.progress.layer, "Unpacking", layer->descriptor->size,
				layer->descriptor->size);
			r = store_commit_layer(fetch->store, &fetch->staging, name, layer->diff_id,
				*ret_bytes, err);
			if (r == 0)
				event_progress(s.progress.layer, "Complete",
					layer->descriptor->size, layer->descriptor->size);
			return r;
		}
		(void)file_remove_tree(fetch->staging.fd, name);
		/* On a full disk what came so far would keep everybody else from writing a word. */
		if (s.blob && (r == -ENOSPC || r == -EDQUOT))
			blob_drop(s.blob);
		/* What an earlier worker left may be damaged (a power cut): once more without it.
		 */
		if (r != -EBADMSG || !replayed)
			return r;
	}
	return r;
}

static int fetch_layer(struct fetch *fetch, void *source, const struct layer *layer,
	struct err *err, uint64_t *ret_bytes)
{
	char shown[13];
	int lock = -EBADF, r;

	r = store_has_layer(fetch->store, layer->diff_id)
		    ? -EEXIST
		    : store_lock_layer(fetch->store, layer->diff_id, err, &lock);
	/* Again, under the lock: another worker may have brought it. */
	if (r == 0 && store_has_layer(fetch->store, layer->diff_id))
		r = -EEXIST;
	if (r == 0)
		r = fetch_locked(fetch, source, layer, err, ret_bytes);
	store_unlock_layer(fetch->store, layer->diff_id, &lock);
	if (r != -EEXIST)
		return r;
	*ret_bytes = store_layer_size(fetch->store, layer->diff_id);
	event_progress(digest_short(layer->descriptor->digest, shown), "Exists",
		layer->descriptor->size, layer->descriptor->size);
	return 0;
}

/* --- all of them --- */

static void fail(struct fetch *fetch, const struct err *err)
{
	pthread_mutex_lock(&fetch->lock);
	/* What the others say once they were stopped is not the reason. */
	if (!err_is_set(&fetch->err))
		fetch->err = *err;
	atomic_store(&fetch->failed, true);
	pthread_mutex_unlock(&fetch->lock);
}

static const struct layer *take_next(struct fetch *fetch)
{
	const struct layer *layer = NULL;

	pthread_mutex_lock(&fetch->lock);
	if (fetch->next < fetch->n && !must_stop(fetch))
		layer = &fetch->layers[fetch->next++];
	pthread_mutex_unlock(&fetch->lock);
	return layer;
}

static void *worker(void *arg)
{
	struct fetch *fetch = arg;
	const struct layer *layer;
	struct err err = {0};
	void *source;

	if (fetch->ops->dup(fetch->source, &err, &source) < 0) {
		fail(fetch, &err);
		return NULL;
	}
	while ((layer = take_next(fetch))) {
		uint64_t bytes = 0;

		if (fetch_layer(fetch, source, layer, &err, &bytes) < 0) {
			fail(fetch, &err);
			break;
		}
		pthread_mutex_lock(&fetch->lock);
		fetch->bytes += bytes;
		pthread_mutex_unlock(&fetch->lock);
	}
	fetch->ops->free(source);
	return NULL;
}

static size_t thread_count(size_t layers)
{
	cpu_set_t set;
	size_t cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? (size_t)CPU_COUNT(&set) : 1;

	return MIN(layers, MIN((size_t)THREADS_MAX, cores + 2));
}

static int run_threads(struct fetch *fetch, struct err *err)
{
	pthread_t threads[THREADS_MAX];
	size_t n = thread_count(fetch->n), started = 0;

	while (started < n && pthread_create(&threads[started], NULL, worker, fetch) == 0)
		started++;
	if (started == 0 && fetch->n > 0)
		return err_set(err, -EAGAIN, "InternalError", "no thread could be started.");
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	if (err_is_set(&fetch->err)) {
		if (err)
			*err = fetch->err;
		return fetch->err.r;
	}
	if (job_cancelled() || fetch->next < fetch->n)
		return stopped_err(fetch, err);
	return 0;
}

int layers_fetch(const struct job *job, struct store *store, const struct layer_source *ops,
	void *source, const struct layer *layers, size_t n, struct err *err, uint64_t *ret_bytes)
{
	struct fetch fetch = {.job = job,
		.store = store,
		.ops = ops,
		.source = source,
		.layers = layers,
		.n = n,
		.staging = STAGING_INIT};
	int r;

	pthread_mutex_init(&fetch.lock, NULL);
	/* All of them before the first begins, so that whoever watches knows how much there is to
	 * come. */
	for (size_t i = 0; i < n; i++) {
		char shown[13];

		event_progress(digest_short(layers[i].descriptor->digest, shown), "Downloading", 0,
			layers[i].descriptor->size);
	}
	r = staging_new(store, err, &fetch.staging);
	if (r == 0)
		r = run_threads(&fetch, err);
	staging_done(store, &fetch.staging);
	pthread_mutex_destroy(&fetch.lock);
	if (r == 0)
		*ret_bytes = fetch.bytes;
	return r;
}
