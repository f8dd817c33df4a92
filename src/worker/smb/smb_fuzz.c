/* What an SMB server may say: names in a folder, and files that may be symlinks. A name that was
 * taken is one component, and goes back to the server as it came. */
#include "worker/smb/name.h"
#include "worker/smb/symlink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void a_name(const char *text)
{
	_cleanup_free_ char *path = NULL, *url = NULL;
	char name[NAME_BYTES_MAX + 1];

	if (name_from_server(text, name) < 0)
		return;
	assert(name[0] && !strchr(name, '/') && !str_eq(name, ".") && !str_eq(name, ".."));
	path = xasprintf("/%s", name);
	if (name_to_url("", path, &url) == 0)
		for (const char *p = url + 1; *p; p++)
			assert((unsigned char)*p > ' ' && (unsigned char)*p < 0x7f && *p != '/' &&
				*p != '\\');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char file[SYMLINK_FILE_SIZE], target[SYMLINK_TARGET_MAX + 1], *text;

	text = xstrndup((const char *)data, size);
	a_name(text);
	free(text);
	memset(file, ' ', sizeof(file));
	memcpy(file, data, MIN(size, sizeof(file)));
	if (symlink_parse(file, target) == 0)
		assert(target[0] && strlen(target) <= SYMLINK_TARGET_MAX);
	return 0;
}
