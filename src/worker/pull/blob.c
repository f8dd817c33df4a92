#include "worker/pull/blob.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "worker/pull/job.h"

struct blob {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct store *store; /* NULL: not a partial file */
	char name[DIGEST_MAX];
	int fd;
	uint64_t size, available, read;
	bool ended, stopped, dropped;
	int end_r;
};

enum { LOCK_EVERY_US = 50000 };

static struct blob *blob_new(int fd, uint64_t size)
{
	struct blob *blob = xnew(struct blob);

	pthread_mutex_init(&blob->lock, NULL);
	pthread_cond_init(&blob->more, NULL);
	blob->fd = fd;
	blob->size = size;
	return blob;
}

/* Opened, locked, and still the file of that name. */
static int open_partial(struct store *store, const char *name, struct err *err, int *ret)
{
	for (;;) {
		_cleanup_fd_ int fd = openat(
			store->partial, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		struct stat st;

		if (fd < 0)
			return err_errno(err, -errno, "The partial file could not be opened");
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			if (fstat(fd, &st) < 0 || st.st_nlink == 0)
				continue;
			*ret = take_fd(fd);
			return 0;
		}
		if (job_cancelled())
			return job_canceled_err(err);
		usleep(LOCK_EVERY_US);
	}
}

int blob_open(
	struct store *store, const char *digest, uint64_t size, struct err *err, struct blob **ret)
{
	char name[DIGEST_MAX];
	struct blob *blob;
	struct stat st;
	int fd = -EBADF, r;

	r = open_partial(store, digest_file_name(digest, name), err, &fd);
	if (r < 0)
		return r;
	blob = blob_new(fd, size);
	blob->store = store;
	(void)str_copy(blob->name, sizeof(blob->name), name);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size <= size)
		blob->available = (uint64_t)st.st_size;
	else if (ftruncate(fd, 0) < 0) {
		r = err_errno(err, -errno, "The partial file could not be emptied");
		blob_free(blob);
		return r;
	}
	*ret = blob;
	return 0;
}

struct blob *blob_from_file(int fd, uint64_t size)
{
	struct blob *blob = blob_new(fd, size);

	blob->available = size;
	blob->ended = true;
	return blob;
}

void blob_free(struct blob *blob)
{
	if (!blob)
		return;
	/* Nothing came: no file to go on from. */
	if (blob->store && blob->available == 0)
		blob_drop(blob);
	fd_close(blob->fd);
	pthread_mutex_destroy(&blob->lock);
	pthread_cond_destroy(&blob->more);
	free(blob);
}

void blob_drop(struct blob *blob)
{
	if (blob->store && !blob->dropped)
		(void)unlinkat(blob->store->partial, blob->name, 0);
	blob->dropped = true;
}

uint64_t blob_available(struct blob *blob)
{
	uint64_t available;

	pthread_mutex_lock(&blob->lock);
	available = blob->available;
	pthread_mutex_unlock(&blob->lock);
	return available;
}

/* Only the writer changes `available`, so it may read it without the lock. */
int blob_append(struct blob *blob, const void *data, size_t len)
{
	const char *p = data;
	bool stopped;

	if (len > blob->size - blob->available)
		return -EFBIG;
	while (len > 0) {
		ssize_t n = pwrite(blob->fd, p, len, (off_t)blob->available);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
		pthread_mutex_lock(&blob->lock);
		blob->available += (uint64_t)n;
		pthread_cond_signal(&blob->more);
		pthread_mutex_unlock(&blob->lock);
	}
	pthread_mutex_lock(&blob->lock);
	stopped = blob->stopped;
	pthread_mutex_unlock(&blob->lock);
	return stopped ? -ECANCELED : 0;
}

void blob_end(struct blob *blob, int r)
{
	pthread_mutex_lock(&blob->lock);
	blob->ended = true;
	blob->end_r = r;
	pthread_cond_signal(&blob->more);
	pthread_mutex_unlock(&blob->lock);
}

void blob_stop(struct blob *blob)
{
	pthread_mutex_lock(&blob->lock);
	blob->stopped = true;
	pthread_mutex_unlock(&blob->lock);
}

ssize_t blob_read(struct blob *blob, void *data, size_t n)
{
	uint64_t available;
	ssize_t got;
	int r;

	pthread_mutex_lock(&blob->lock);
	while (blob->read == blob->available && !blob->ended)
		pthread_cond_wait(&blob->more, &blob->lock);
	available = blob->available;
	r = blob->end_r;
	pthread_mutex_unlock(&blob->lock);
	if (job_cancelled())
		return -ECANCELED;
	if (blob->read == available)
		return r;
	got = pread(blob->fd, data, MIN(n, available - blob->read), (off_t)blob->read);
	if (got == 0)
		return -EIO;
	if (got < 0)
		return -errno;
	blob->read += (uint64_t)got;
	return got;
}
