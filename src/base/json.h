/*
 * JSON of strangers, on top of jansson: size, depth, duplicate keys and UTF-8 are checked before a
 * tree is made. Getters return borrowed pointers and a default when the key is missing or of
 * another type.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

#define JSON_DEPTH_MAX 32

/* json_decrefp is jansson's own. */
#define _cleanup_json_ _cleanup_(json_decrefp)

/* Refuses input that isn't exactly one JSON value, has a duplicate key, or is nested deeper than
 * max_depth. On failure err has the code "InvalidRequestContent" and the line and column. */
int json_parse(const char *data, size_t len, unsigned max_depth, struct err *err, json_t **ret);

const char *json_get_str(const json_t *obj, const char *key, const char *fallback);
int64_t json_get_int(const json_t *obj, const char *key, int64_t fallback);
double json_get_num(const json_t *obj, const char *key, double fallback);
bool json_get_bool(const json_t *obj, const char *key, bool fallback);
json_t *json_get_obj(const json_t *obj, const char *key); /* NULL unless an object */
json_t *json_get_arr(const json_t *obj, const char *key); /* NULL unless an array */

/* From now on the memory of JSON values is wiped when it is freed, for programs that handle
 * secrets. */
void json_wipe_freed(void);

/* Follows keys: json_path(doc, "properties", "ipAddress", NULL). NULL when a step is missing.
 * Borrowed. */
json_t *json_path(const json_t *obj, ...) __attribute__((sentinel));

/* Compact text, owned by the caller, never NULL. */
char *json_text(const json_t *value);

/* Sets a string member, or removes it when value is NULL. */
void json_put_str(json_t *obj, const char *key, const char *value);
