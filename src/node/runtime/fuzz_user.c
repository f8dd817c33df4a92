/* Input: user, a newline, passwd, a NUL byte, group. */
#include "node/runtime/user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	const char *line_end = size ? memchr(text, '\n', size) : NULL;
	const char *passwd, *passwd_end, *group;
	struct err err = {0};
	struct user user;
	char *name;

	if (!line_end)
		return 0;
	passwd = line_end + 1;
	passwd_end = memchr(passwd, '\0', size - (size_t)(passwd - text));
	if (!passwd_end)
		return 0;
	group = passwd_end + 1;
	name = xstrndup(text, (size_t)(line_end - text));
	if (user_parse(name, passwd, (size_t)(passwd_end - passwd), group,
		    size - (size_t)(group - text), &err, &user) == 0) {
		assert(user.uid < USER_IDS && user.gid < USER_IDS &&
			user.n_groups <= USER_GROUPS_MAX);
		assert(user.home[0] == '/');
	} else {
		assert(err.r < 0 && err.message[0]);
	}
	free(name);
	return 0;
}
