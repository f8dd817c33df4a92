/* The settings of one Berth: config.def is the table, STATE/config.json the file. */
#pragma once

#include "base/base.h"

struct config {
	char *state; /* absolute path of the state directory */
#define STRING(key, fallback, words) char *key;
#define NUMBER(key, fallback, min, max, words) int64_t key;
#define BOOL(key, fallback, words) bool key;
#include "main/config.def"
#undef STRING
#undef NUMBER
#undef BOOL
};

/* Defaults; state is copied. */
struct config *config_new(const char *state);
void config_free(struct config *config);
DEFINE_CLEANUP(struct config *, config_free)

/* A path from a command line, made absolute with the working directory; owned by the caller. */
char *config_absolute(const char *path);

/* Reads STATE/config.json over the defaults. -ENOENT when it isn't there: code "NotSetUp". */
int config_load(const char *state, struct err *err, struct config **ret);
int config_merge_file(struct config *config, const char *path, struct err *err);
int config_save(const struct config *config, struct err *err);

/* "KEY=VALUE" of --set. Code "InvalidConfiguration" and words that list the keys or say what is
 * allowed. */
int config_set(struct config *config, const char *assignment, struct err *err);

/* STATE/suffix; owned by the caller. */
char *config_path(const struct config *config, const char *suffix);

/* "127.0.0.1:8443" taken apart. */
int config_host_port(
	const char *text, char *ret_host, size_t host_size, int *ret_port, struct err *err);

/* docs/configuration.md on standard output. */
void config_print_reference(void);
