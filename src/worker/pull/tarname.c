#include "worker/pull/tarname.h"

/* Copies one component; false when the path is too long. */
static bool add_part(struct tarname *ret, size_t *used, const char *part, size_t len)
{
	size_t at = *used ? *used + 1 : 0;

	if (at + len > TARNAME_MAX)
		return false;
	if (*used)
		ret->path[*used] = '/';
	memcpy(ret->path + at, part, len);
	*used = at + len;
	ret->path[*used] = '\0';
	return true;
}

/* Cleans name into path. */
static int clean(const char *name, struct tarname *ret, const char **ret_why)
{
	size_t used = 0;
	unsigned depth = 0;

	ret->path[0] = '\0';
	while (*name) {
		size_t len = strcspn(name, "/");

		if (len == 2 && name[0] == '.' && name[1] == '.') {
			*ret_why = "it has a '..' in it";
			return -EINVAL;
		}
		if (len > 0 && !(len == 1 && name[0] == '.')) {
			if (len > TARNAME_PART_MAX || ++depth > TARNAME_DEPTH_MAX ||
				!add_part(ret, &used, name, len)) {
				*ret_why = "it is too long or too deep";
				return -ENAMETOOLONG;
			}
		}
		name += len;
		name += strspn(name, "/");
	}
	return 0;
}

/* The kind that the last component has; the others must not look like whiteouts. */
static int classify(struct tarname *ret, const char **ret_why)
{
	char *base = ret->base;

	/* AUFS keeps files of its own under this prefix; one of them has a meaning. */
	if (str_starts(ret->parent, ".wh..wh.") || strstr(ret->parent, "/.wh..wh.")) {
		ret->kind = TARNAME_IGNORED;
		return 0;
	}
	if (str_starts(base, ".wh..wh.")) {
		ret->kind = str_eq(base, ".wh..wh..opq") ? TARNAME_OPAQUE : TARNAME_IGNORED;
		return 0;
	}
	if (str_starts(ret->parent, ".wh.") || strstr(ret->parent, "/.wh.")) {
		*ret_why = "it uses a whiteout as a directory";
		return -EINVAL;
	}
	if (!str_starts(base, ".wh.")) {
		ret->kind = TARNAME_PLAIN;
		return 0;
	}
	base += 4;
	if (!base[0] || str_eq(base, ".") || str_eq(base, "..")) {
		*ret_why = "it is a whiteout of nothing";
		return -EINVAL;
	}
	ret->base = base;
	ret->kind = TARNAME_WHITEOUT;
	return 0;
}

int tarname_parse(const char *name, struct tarname *ret, const char **ret_why)
{
	char *slash;
	int r;

	r = clean(name, ret, ret_why);
	if (r < 0)
		return r;
	slash = strrchr(ret->path, '/');
	if (!ret->path[0]) {
		ret->kind = TARNAME_ROOT;
		ret->parent = ret->base = ret->path;
		return 0;
	}
	ret->base = slash ? slash + 1 : ret->path;
	if (slash) {
		*slash = '\0';
		ret->parent = ret->path;
	} else {
		ret->parent = ret->path + strlen(ret->path);
	}
	return classify(ret, ret_why);
}
