#include "control/store/ballast.h"

#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/base.h"

struct ballast {
	char *path, *folder;
	pthread_mutex_t lock;
	int fd;
	uint64_t bytes;	  /* that are surely there */
	bool impossible;  /* the file system can't */
	bool short_known; /* and in the log */
};

static bool is_full(int error)
{
	return error == ENOSPC || error == EDQUOT;
}

/* UINT64_MAX when it isn't known. */
static uint64_t bytes_free(const struct ballast *ballast)
{
	struct statvfs fs;

	if (statvfs(ballast->folder, &fs) < 0 || fs.f_blocks == 0)
		return UINT64_MAX;
	return (uint64_t)fs.f_bavail * fs.f_frsize;
}

static void give_up(struct ballast *ballast, int error)
{
	log_warn("%s can't be made, so that a full disk will stop all changes: %s", ballast->path,
		err_str(error));
	ballast->impossible = true;
}

/* A file that was copied may have holes: its size alone says nothing. */
static void open_file(struct ballast *ballast)
{
	int fd = open(ballast->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || fchmod(fd, 0600) < 0) {
		if (!is_full(errno))
			give_up(ballast, errno);
		fd_close(fd);
		return;
	}
	ballast->fd = fd;
	ballast->bytes = MIN((uint64_t)st.st_size, (uint64_t)st.st_blocks * 512);
	ballast->bytes = MIN(ballast->bytes, BALLAST_BYTES);
}

/* Lock held. An allocation that fails may have taken all that was free, so it is only tried when it
 * should fit, and undone when it didn't. */
static void fill(struct ballast *ballast)
{
	uint64_t missing = BALLAST_BYTES - ballast->bytes;
	int error;

	if (ballast->impossible || missing == 0 || bytes_free(ballast) < missing + BALLAST_MARGIN)
		return;
	if (ballast->fd < 0)
		open_file(ballast);
	if (ballast->fd < 0)
		return;
	error = posix_fallocate(ballast->fd, 0, (off_t)BALLAST_BYTES);
	if (error == 0 && ftruncate(ballast->fd, (off_t)BALLAST_BYTES) < 0)
		error = errno;
	if (error == 0) {
		if (ballast->short_known)
			log_info("there is space for the store again, and %s is whole",
				ballast->path);
		ballast->bytes = BALLAST_BYTES;
		ballast->short_known = false;
		return;
	}
	if (ftruncate(ballast->fd, (off_t)ballast->bytes) < 0 ||
		(!is_full(error) && error != EINTR))
		give_up(ballast, error);
}

/* Lock held. */
static void note_short(struct ballast *ballast)
{
	if (!ballast->short_known && !ballast->impossible)
		log_warn(
			"the disk of the store is full: what is kept free for it in %s is for deletes, "
			"stops and status until there is space",
			ballast->path);
	ballast->short_known = true;
}

static bool whole(const struct ballast *ballast)
{
	return ballast->impossible || ballast->bytes == BALLAST_BYTES;
}

struct ballast *ballast_new(const char *path)
{
	struct ballast *ballast = xnew(struct ballast);
	_cleanup_free_ char *copy = xstrdup(path);

	ballast->path = xstrdup(path);
	ballast->folder = xstrdup(dirname(copy));
	ballast->fd = -EBADF;
	pthread_mutex_init(&ballast->lock, NULL);
	open_file(ballast);
	fill(ballast);
	if (!whole(ballast))
		note_short(ballast);
	return ballast;
}

void ballast_free(struct ballast *ballast)
{
	if (!ballast)
		return;
	fd_close(ballast->fd);
	pthread_mutex_destroy(&ballast->lock);
	free(ballast->path);
	free(ballast->folder);
	free(ballast);
}

bool ballast_whole(struct ballast *ballast)
{
	bool is;

	pthread_mutex_lock(&ballast->lock);
	is = whole(ballast);
	pthread_mutex_unlock(&ballast->lock);
	return is;
}

bool ballast_fill(struct ballast *ballast)
{
	bool is;

	pthread_mutex_lock(&ballast->lock);
	fill(ballast);
	is = whole(ballast);
	pthread_mutex_unlock(&ballast->lock);
	return is;
}

/* The sync is what makes ext4 and its like hand the blocks out again: they keep them until the
 * truncation is in their journal. */
bool ballast_give(struct ballast *ballast)
{
	bool given = false;

	pthread_mutex_lock(&ballast->lock);
	if (ballast->fd >= 0 && ballast->bytes > 0) {
		uint64_t left = ballast->bytes - MIN(ballast->bytes, BALLAST_STEP);

		note_short(ballast);
		given = ftruncate(ballast->fd, (off_t)left) == 0;
		if (given) {
			ballast->bytes = left;
			(void)!fsync(ballast->fd);
		}
	}
	pthread_mutex_unlock(&ballast->lock);
	return given;
}

bool ballast_disk_full(struct ballast *ballast)
{
	return bytes_free(ballast) < BALLAST_STEP;
}
