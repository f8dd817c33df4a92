/*
 * Who a container's process is: the image's "User" resolved against the image's own passwd and
 * group files. Those are bytes of strangers, parsed by root, so this is small: no allocation that
 * they size, no lookup through the host's name services, numbers strict (SECURITY: "4294967296" is
 * no uid, and a number is never looked up as a name).
 */
#pragma once

#include <stdint.h>

#include "base/base.h"

#define USER_GROUPS_MAX 256 /* further memberships are left out */
#define USER_HOME_MAX 1024
#define USER_FILE_MAX ((size_t)1 << 20)
#define USER_IDS 65536u /* what a group's user namespace maps */

struct user {
	uint32_t uid, gid;
	uint32_t groups[USER_GROUPS_MAX];
	size_t n_groups;
	char home[USER_HOME_MAX]; /* absolute; "/" when the image says nothing */
};

/* user: "", "name", "uid", "name:group", "uid:gid" …  passwd and group need no terminating NUL and
 * may be NULL when their length is 0. Code "ContainerCreateFailed" when a name isn't there or an id
 * isn't mapped. */
int user_parse(const char *user, const char *passwd, size_t passwd_len, const char *group,
	size_t group_len, struct err *err, struct user *ret);

/* Reads etc/passwd and etc/group beneath the root directory (symlinks stay inside it); a missing
 * file is an empty one. */
int user_resolve(int root_fd, const char *user, struct err *err, struct user *ret);
