/* Runs a fuzz target over every file of a corpus folder: what fuzzing once found stays found. */
#include <dirent.h>
#include <stdio.h>

#include "base/base.h"
#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *entry;
	int n = 0;

	if (!dir) {
		fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
		return 2;
	}
	while ((entry = readdir(dir))) {
		_cleanup_free_ char *data = NULL;
		size_t len = 0;

		if (entry->d_type != DT_REG ||
			file_read(dirfd(dir), entry->d_name, (size_t)16 << 20, &data, &len) < 0)
			continue;
		LLVMFuzzerTestOneInput((const uint8_t *)data, len);
		n++;
	}
	closedir(dir);
	printf("%d inputs\n", n);
	return n > 0 ? 0 : 1;
}
