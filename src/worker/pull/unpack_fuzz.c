/*
 * Layers: any bytes, as a blob, decompressed and unpacked into an empty directory. Whatever they
 * are, nothing may appear outside of it; a canary beside it says so. The first component of each
 * name goes through the classifier by itself as well.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/time.h"
#include "worker/pull/inflate.h"
#include "worker/pull/tarname.h"
#include "worker/pull/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left;
};

static ssize_t read_input(void *arg, void *data, size_t n)
{
	struct input *input = arg;

	n = MIN(n, input->left);
	memcpy(data, input->data, n);
	input->data += n;
	input->left -= n;
	return (ssize_t)n;
}

static ssize_t read_inflated(void *arg, void *data, size_t n)
{
	return inflate_read(arg, data, n);
}

static void try_name(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xstrndup((const char *)data, MIN(size, (size_t)8192));
	struct tarname *name = xmalloc(sizeof(*name));
	const char *why = NULL;

	if (tarname_parse(text, name, &why) == 0) {
		assert(name->parent[0] != '/' && !strchr(name->base, '/'));
		assert(!str_eq(name->base, "..") && !str_eq(name->base, "."));
		assert(name->kind == TARNAME_ROOT || name->base[0]);
	} else {
		assert(why);
	}
	free(name);
}

static size_t count_entries(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	size_t n = 0;

	assert(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct unpack_limits limits = {
		.bytes = 1 << 20, .entries = 200, .deadline_ms = time_mono_ms() + 10000};
	char base[] = "/tmp/berth-unpack-XXXXXX";
	struct input input = {data, size};
	_cleanup_(inflate_freep) struct inflate *inflate = inflate_new(read_input, &input);
	_cleanup_fd_ int outer = -EBADF, inner = -EBADF;
	struct err err = {0};
	uint64_t bytes;

	try_name(data, size);
	if (!mkdtemp(base))
		abort();
	outer = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mkdirat(outer, "layer", 0755) < 0)
		abort();
	inner = openat(outer, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)unpack_layer(inner, read_inflated, inflate, &limits, &err, &bytes);
	assert(count_entries(outer) == 1);
	(void)file_remove_tree(AT_FDCWD, base);
	return 0;
}
