#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "node/runtime/user.h"

#define CODE "ContainerCreateFailed"
#define NAME_BYTES 256
#define FIELDS_MAX 7

/* A piece of a file; not terminated. */
struct span {
	const char *p;
	size_t len;
};

static bool span_eq(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static struct span span_of(const char *s)
{
	return (struct span){s, strlen(s)};
}

/* Cuts the first line off rest. False at the end. */
static bool next_line(struct span *rest, struct span *ret)
{
	const char *end;

	if (rest->len == 0)
		return false;
	end = memchr(rest->p, '\n', rest->len);
	ret->p = rest->p;
	ret->len = end ? (size_t)(end - rest->p) : rest->len;
	rest->p += ret->len + (end ? 1 : 0);
	rest->len -= ret->len + (end ? 1 : 0);
	return true;
}

static struct span cut(struct span *rest, char separator)
{
	const char *end = rest->len ? memchr(rest->p, separator, rest->len) : NULL;
	struct span field = {rest->p, end ? (size_t)(end - rest->p) : rest->len};

	rest->p += field.len + (end ? 1 : 0);
	rest->len -= field.len + (end ? 1 : 0);
	return field;
}

/* Splits a line at colons; fields that are missing are empty. */
static void split(struct span line, struct span fields[FIELDS_MAX])
{
	for (size_t i = 0; i < FIELDS_MAX; i++)
		fields[i] = cut(&line, ':');
}

/* Digits only and at most 2^31-1, as the kernel and every other tool understand it in the same way.
 */
static bool span_id(struct span s, uint32_t *ret)
{
	uint64_t value = 0;

	if (s.len == 0 || s.len > 10)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(s.p[i] - '0');
	}
	if (value > INT_MAX)
		return false;
	*ret = (uint32_t)value;
	return true;
}

static bool all_digits(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return s.len > 0;
}

static void set_home(struct user *user, struct span home)
{
	if (home.len == 0 || home.p[0] != '/' || home.len >= sizeof(user->home) ||
		memchr(home.p, '\0', home.len) || !str_is_utf8(home.p, home.len))
		return;
	memcpy(user->home, home.p, home.len);
	user->home[home.len] = '\0';
}

/* Finds the first passwd line with this name (or, if wanted.len is 0, with this uid); lines whose
 * ids are no numbers don't count. */
static bool find_user(struct span passwd, struct span wanted, uint32_t wanted_uid,
	struct user *user, struct span *ret_name)
{
	struct span line;

	while (next_line(&passwd, &line)) {
		struct span fields[FIELDS_MAX];
		uint32_t uid, gid;

		split(line, fields);
		if (!span_id(fields[2], &uid) || !span_id(fields[3], &gid))
			continue;
		if (wanted.len ? !span_eq(fields[0], wanted) : uid != wanted_uid)
			continue;
		user->uid = uid;
		user->gid = gid;
		set_home(user, fields[5]);
		*ret_name = fields[0];
		return true;
	}
	return false;
}

static bool find_group(struct span group, struct span wanted, uint32_t *ret_gid)
{
	struct span line;

	while (next_line(&group, &line)) {
		struct span fields[FIELDS_MAX];

		split(line, fields);
		if (span_eq(fields[0], wanted) && span_id(fields[2], ret_gid))
			return true;
	}
	return false;
}

static bool is_member(struct span members, struct span name)
{
	while (members.len)
		if (span_eq(cut(&members, ','), name))
			return true;
	return false;
}

/* The process's own group counts as a membership, too: without it, dropping the group by a
 * set-group-id program would also drop what a file denies to that group (CVE-2022-36109). */
static void add_own_group(struct user *user)
{
	for (size_t i = 0; i < user->n_groups; i++)
		if (user->groups[i] == user->gid)
			return;
	if (user->n_groups == USER_GROUPS_MAX)
		user->n_groups--;
	user->groups[user->n_groups++] = user->gid;
}

/* Ids that the user namespace doesn't map would fail the start; a membership in one is worth
 * nothing. */
static void add_memberships(struct span group, struct span name, struct user *user)
{
	struct span line;

	while (name.len && user->n_groups < USER_GROUPS_MAX && next_line(&group, &line)) {
		struct span fields[FIELDS_MAX];
		uint32_t gid;

		split(line, fields);
		if (span_id(fields[2], &gid) && gid < USER_IDS && is_member(fields[3], name))
			user->groups[user->n_groups++] = gid;
	}
}

static int parse_group(struct span wanted, struct span group, struct err *err, struct user *user)
{
	if (span_id(wanted, &user->gid) ||
		(!all_digits(wanted) && find_group(group, wanted, &user->gid)))
		return 0;
	return err_set(
		err, -EINVAL, CODE, "The image has no group \"%.*s\".", (int)wanted.len, wanted.p);
}

int user_parse(const char *user, const char *passwd, size_t passwd_len, const char *group,
	size_t group_len, struct err *err, struct user *ret)
{
	struct user found = {.home = "/"};
	struct span passwd_file = {passwd, passwd_len}, group_file = {group, group_len};
	struct span rest = span_of(user), name, wanted;
	bool has_group = strchr(user, ':');
	int r;

	if (rest.len >= NAME_BYTES)
		return err_set(err, -EINVAL, CODE, "The user's name is longer than %d bytes.",
			NAME_BYTES - 1);
	wanted = cut(&rest, ':');
	name = wanted;
	if (wanted.len == 0) {
		if (!find_user(passwd_file, wanted, 0, &found, &name))
			name = (struct span){0};
	} else if (all_digits(wanted)) {
		uint32_t uid;

		if (!span_id(wanted, &uid))
			return err_set(err, -EINVAL, CODE, "\"%s\" is not a user id.", user);
		if (!find_user(passwd_file, (struct span){0}, uid, &found, &name))
			name = (struct span){0};
		found.uid = uid;
	} else if (!find_user(passwd_file, wanted, 0, &found, &name)) {
		return err_set(err, -EINVAL, CODE, "The image has no user \"%.*s\".",
			(int)wanted.len, wanted.p);
	}
	if (has_group && rest.len)
		r = parse_group(rest, group_file, err, &found);
	else
		r = 0;
	if (r < 0)
		return r;
	if (!(has_group && rest.len))
		add_memberships(group_file, name, &found);
	if (found.uid >= USER_IDS || found.gid >= USER_IDS)
		return err_set(err, -EINVAL, CODE,
			"The user \"%s\" is %u:%u, but a container group has ids from 0 to %u only.",
			user, found.uid, found.gid, USER_IDS - 1);
	add_own_group(&found);
	*ret = found;
	return 0;
}

/* Looks before it opens: opening a device or a fifo of the image has effects of its own. */
static int read_file(int root_fd, const char *path, struct buf *buf)
{
	_cleanup_fd_ int node = fd_open_in_root(root_fd, path, O_PATH, 0);
	_cleanup_fd_ int fd = -EBADF;
	char self[64];
	struct stat st;
	ssize_t n;

	if (node < 0)
		return node == -ENOENT || node == -ENOTDIR ? 0 : node;
	if (fstat(node, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", node);
	fd = open(self, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	do
		n = buf_read(buf, fd, 65536);
	while (n > 0);
	return (int)n;
}

int user_resolve(int root_fd, const char *user, struct err *err, struct user *ret)
{
	_cleanup_buf_ struct buf passwd = BUF_MAX(USER_FILE_MAX);
	_cleanup_buf_ struct buf group = BUF_MAX(USER_FILE_MAX);
	int r;

	r = read_file(root_fd, "etc/passwd", &passwd);
	if (r < 0)
		return err_set(
			err, r, CODE, "The image's /etc/passwd can't be read: %s.", err_str(r));
	r = read_file(root_fd, "etc/group", &group);
	if (r < 0)
		return err_set(
			err, r, CODE, "The image's /etc/group can't be read: %s.", err_str(r));
	return user_parse(user, passwd.data, passwd.len, group.data, group.len, err, ret);
}
