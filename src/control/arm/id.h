/*
 * id: the path and the query of a request, taken apart. A path is split at '/' first and each
 * segment decoded once, so that an encoded slash can't make a segment more or less; what then holds
 * a slash, a control character or something that isn't UTF-8 is refused. Empty segments are
 * skipped: az sends "//" and trailing slashes.
 */
#pragma once

#include "base/base.h"

#define ARM_SEGMENTS_MAX 48
#define ARM_PAIRS_MAX 32
#define ARM_PATH_MAX 8192
#define ARM_QUERY_MAX 16384

struct arm_path {
	char *text; /* owned; the segments point into it */
	size_t n;
	const char *segments[ARM_SEGMENTS_MAX];
};

/* Code "InvalidRequestUri" on failure; ret is then untouched. */
int arm_path_parse(const char *path, struct err *err, struct arm_path *ret);
void arm_path_done(struct arm_path *path);

/* "Microsoft.X" and "a/b" of ".../providers/Microsoft.X/a/NAME/b/NAME", from the last "providers"
 * segment. Returns the namespace (borrowed) or NULL when there is none; ret_type is cut to fit, ""
 * when there is none. */
const char *arm_path_type(const struct arm_path *path, char *ret_type, size_t size);

struct arm_pair {
	const char *name;
	const char *value;
};

/* application/x-www-form-urlencoded: a query string or the body of a form. */
struct arm_pairs {
	char *text; /* owned */
	size_t n;
	struct arm_pair pairs[ARM_PAIRS_MAX];
};

/* Code "InvalidRequestUri": a bad escape, a NUL byte, not UTF-8, too long (max bytes), too many.
 * '+' is a blank. */
int arm_pairs_parse(
	const char *text, size_t len, size_t max, struct err *err, struct arm_pairs *ret);
void arm_pairs_done(struct arm_pairs *pairs);
/* The first of that name, without regard to case; NULL when absent. */
const char *arm_pairs_get(const struct arm_pairs *pairs, const char *name);
/* A name that is there twice, or NULL. */
const char *arm_pairs_duplicate(const struct arm_pairs *pairs);
