/* What the rules of a container group share: schema tables say what each property may be, these say
 * what several of them may be together. Each is 0, or -EINVAL with a code, a message that says what
 * is allowed, and the JSON path at fault. */
#pragma once

#include "control/providers/containerinstance/internal.h"

#define FAIL(err, path_fmt, path_arg, ...)                                                         \
	({                                                                                         \
		int _r = err_set(err, -EINVAL, __VA_ARGS__);                                       \
		err_target(err, path_fmt, path_arg);                                               \
		_r;                                                                                \
	})
/* With a path of several arguments, after err_set(). */
#define FAIL_AT(err, ...)                                                                          \
	({                                                                                         \
		err_target(err, __VA_ARGS__);                                                      \
		-EINVAL;                                                                           \
	})

static inline const json_t *properties_of(const json_t *object)
{
	return json_get_obj(object, "properties");
}

/* The first element whose member has this value, without regard to case; NULL: none. */
const json_t *find_by(const json_t *array, const char *key, const char *value);
/* A member by its name without regard to case, for documents that no schema has walked yet. NULL:
 * none, or null. */
json_t *find_member(const json_t *object, const char *name);
/* Whether a property is the same in both. */
bool property_differs(const json_t *old, const json_t *new, const char *key);
bool ports_equal(const json_t *a, const json_t *b);

/* A key of a secret or a config map becomes the name of a file. */
bool file_key_is_valid(const char *key);
#define FILE_KEY_WORDS                                                                             \
	"A key names a file: up to 253 letters, digits, '-', '_' and '.', not beginning with '..'"
#define FILES_MAX ((size_t)1 << 20)

void secrets_keep(json_t *document, const json_t *old);

int resources_check(const json_t *document, const char *group, struct err *err);
int network_check(const json_t *document, const char *group, struct err *err);
int volumes_check(const json_t *document, const char *group, struct err *err);
int mounts_check(const json_t *document, const char *group, struct err *err);
int probes_check(const json_t *document, const char *group, struct err *err);
int config_maps_check(const json_t *document, const char *group, struct err *err);

/* A PUT whose containers have only names and config maps changes those of `old` and leaves the rest
 * as it is: in place, the document becomes the whole group. */
int config_maps_merge(json_t *document, const struct validate_context *context, struct err *err);
int read_only_check(
	const json_t *document, const struct validate_context *context, struct err *err);
