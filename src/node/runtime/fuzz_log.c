/* A log of any bytes, read whole and from within, and as one line of conmon's sync pipe. */
#include <fcntl.h>
#include <sys/mman.h>

#include "node/runtime/internal.h"
#include "node/runtime/k8slog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int count(const struct k8slog_line *line, void *arg)
{
	size_t *bytes = arg;

	assert(line->time_len > 0 && line->time_len < K8SLOG_TIME_MAX);
	*bytes += line->text_len;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1, null_fd = -1;
	struct k8slog_copy options = {
		.tail = size ? data[0] % 8 : 0, .timestamps = size & 1, .max_bytes = size / 2};
	struct k8slog_source source = {.sizes = {size / 2, size - size / 2}};
	size_t bytes = 0;

	if (fd < 0) {
		fd = memfd_create("log", MFD_CLOEXEC);
		null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	}
	assert(fd >= 0 && null_fd >= 0);
	assert(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	source.fds[0] = source.fds[1] = fd;
	assert(k8slog_read(&source, 0, count, &bytes) == 0 && bytes <= size);
	assert(k8slog_read(&source, size / 3, count, &bytes) == 0);
	assert(k8slog_copy(-EBADF, fd, &options, null_fd) == 0);
	assert(k8slog_copy(fd, fd, &options, null_fd) == 0);
	conmon_sync_parse((const char *)data, size, NULL);
	return 0;
}
