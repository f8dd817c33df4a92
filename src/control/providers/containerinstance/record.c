/* Records and their status in the store, and the commits that change them. */
#include <stdarg.h>

#include "control/providers/containerinstance/internal.h"

void group_done(struct group *group)
{
	free(group->key);
	json_decref(group->record);
	json_decref(group->status);
	*group = (struct group){0};
}

char *group_key(const char *rg, const char *name)
{
	_cleanup_free_ char *rg_key = arm_resource_group_key(rg);
	_cleanup_free_ char *lower = str_lower_dup(name);

	if (!*lower || strlen(lower) > 63 ||
		strspn(lower, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(lower))
		return NULL;
	return xasprintf("cg/%s/%s", rg_key + strlen("rg/"), lower);
}

int record_parse(const struct store_entry *entry, struct err *err, json_t **ret)
{
	if (json_parse(entry->value, entry->value_len, JSON_DEPTH_MAX * 2, NULL, ret) == 0)
		return 0;
	return err_set(err, -EIO, "InternalError", "%s in the store isn't JSON", entry->key);
}

json_t *status_load(const struct arm_services *services, const char *uid, int64_t *ret_revision)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_free_ char *key = xasprintf("cgstatus/%s", uid);
	json_t *status = NULL;

	if (store_get(services->store, key, NULL, &entry) < 0)
		return NULL;
	if (ret_revision)
		*ret_revision = entry.revision;
	return record_parse(&entry, NULL, &status) < 0 ? NULL : status;
}

int group_find(const struct arm_services *services, const char *rg, const char *name,
	struct err *err, struct group *ret)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_(group_done) struct group group = {.revision = STORE_ABSENT};
	int r;

	group.key = group_key(rg, name);
	r = group.key ? store_get(services->store, group.key, err, &entry) : -ENOENT;
	if (r == 0)
		r = record_parse(&entry, err, &group.record);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0) {
		group.revision = entry.revision;
		group.status = status_load(services, json_get_str(group.record, "uid", ""), NULL);
	}
	*ret = group;
	group = (struct group){0};
	return 0;
}

int group_load(const struct arm_services *services, const char *rg, const char *name,
	struct err *err, struct group *ret)
{
	_cleanup_(group_done) struct group group = {0};
	int r;

	r = group_find(services, rg, name, err, &group);
	if (r < 0)
		return r;
	if (!group.record) {
		r = arm_resource_group_get(services, rg, err, NULL);
		return r < 0 ? r : arm_err_not_found(err, GROUPS_TYPE, name, rg);
	}
	*ret = group;
	group = (struct group){0};
	return 0;
}

bool status_is_current(const json_t *record, const json_t *status)
{
	static const char *const counters[] = {"generation", "runs", "restarts"};

	for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
		if (json_get_int(status, counters[i], -1) < json_get_int(record, counters[i], 0))
			return false;
	return true;
}

static bool state_is(const json_t *status, const char *key, const char *value)
{
	return str_eq(json_get_str(status, key, ""), value);
}

bool status_failed(const json_t *status)
{
	return state_is(status, "provisioningState", "Failed");
}

bool group_settled(const json_t *record, const json_t *status)
{
	if (!status_is_current(record, status))
		return false;
	if (str_eq(json_get_str(record, "desired", ""), "stopped"))
		return !state_is(status, "state", "Running") &&
		       !state_is(status, "state", "Pending");
	return status_failed(status) || state_is(status, "provisioningState", "Succeeded");
}

bool group_ended(const json_t *record, const json_t *status)
{
	return str_eq(json_get_str(record, "desired", ""), "stopped") ||
	       state_is(status, "state", "Stopped") || state_is(status, "state", "Succeeded") ||
	       state_is(status, "state", "Failed");
}

int err_transitioning(struct err *err, const char *name)
{
	return err_set(err, -EBUSY, "ContainerGroupTransitioning",
		"The container group '%s' is still transitioning, please retry later.", name);
}

int err_too_large(struct err *err, const char *name, int r)
{
	if (r >= 0 || !err || !str_eq(err->code, "StoreValueTooLarge"))
		return r;
	return err_set(err, r, "RequestContentTooLarge",
		"'%s' is too large to be kept: all of it can have about 4 MiB. Put large files into an image or a share.",
		name);
}

/* --- lists of records --- */

int records_page(struct arm_request *request, struct arm_response *response, const char *prefix,
	record_present_fn present, struct err *err)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	_cleanup_free_ char *after = NULL;
	_cleanup_free_ char *next = NULL;
	json_t *value;
	size_t limit;
	int r;

	r = arm_page(request, err, &limit, &after);
	if (r == 0)
		r = store_list(arm_services(request)->store, prefix, after, limit + 1, err, &list);
	if (r < 0)
		return r;
	value = json_array();
	for (size_t i = 0; i < MIN(list.n, limit); i++) {
		_cleanup_json_ json_t *record = NULL;

		if (record_parse(&list.entries[i], NULL, &record) == 0)
			json_array_append_new(value, present(request, record));
	}
	response->body = json_pack("{s:o}", "value", value);
	if (list.n > limit && limit > 0) {
		next = arm_page_next(request, list.entries[limit - 1].key);
		json_put_str(response->body, "nextLink", next);
	}
	return 0;
}

int records_list_resources(const struct arm_services *services, const char *prefix,
	const char *type, struct err *err, json_t *ret_array)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	int r = store_list(services->store, prefix, NULL, 0, err, &list);

	for (size_t i = 0; r == 0 && i < list.n; i++) {
		_cleanup_json_ json_t *record = NULL;
		json_t *tags;

		if (record_parse(&list.entries[i], NULL, &record) < 0)
			continue;
		tags = json_path(record, "document", "tags", NULL);
		json_array_append_new(ret_array,
			json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", json_get_str(record, "id", ""),
				"name", json_get_str(record, "name", ""), "type", type, "location",
				services->region, "tags",
				tags ? json_deep_copy(tags) : json_object()));
	}
	return r;
}

/* --- commits --- */

void change_done(struct change *change)
{
	for (size_t i = 0; i < change->n_owned; i++)
		free(change->owned[i]);
	*change = (struct change){0};
}

static char *change_own(struct change *change, char *text)
{
	assert(change->n_owned < ARRAY_SIZE(change->owned));
	change->owned[change->n_owned++] = text;
	return text;
}

static struct store_op *__attribute__((format(printf, 4, 0)))
change_add(struct change *change, int kind, int64_t expect, const char *fmt, va_list ap)
{
	struct buf key = BUF_MAX(STORE_KEY_MAX + 1);
	struct store_op *op;

	assert(change->n < CHANGE_MAX);
	buf_vprintf(&key, fmt, ap);
	op = &change->ops[change->n++];
	*op = (struct store_op){
		.kind = kind, .key = change_own(change, buf_take(&key)), .expect = expect};
	return op;
}

void change_cut(struct change *change, size_t n)
{
	assert(n <= change->n);
	for (; change->n > n; change->n--) {
		const struct store_op *op = &change->ops[change->n - 1];

		for (size_t i = 0; i < change->n_owned; i++)
			if (change->owned[i] == op->key || change->owned[i] == op->value) {
				free(change->owned[i]);
				change->owned[i--] = change->owned[--change->n_owned];
			}
	}
}

void change_put(struct change *change, int64_t expect, const json_t *value, const char *fmt, ...)
{
	struct store_op *op;
	va_list ap;

	va_start(ap, fmt);
	op = change_add(change, STORE_PUT, expect, fmt, ap);
	va_end(ap);
	op->value = change_own(change, json_text(value));
	op->value_len = strlen(op->value);
}

void change_delete(struct change *change, int64_t expect, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	change_add(change, STORE_DELETE, expect, fmt, ap);
	va_end(ap);
}

void change_check(struct change *change, int64_t expect, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	change_add(change, STORE_CHECK, expect, fmt, ap);
	va_end(ap);
}
