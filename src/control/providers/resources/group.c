/* Resource groups: read, made, changed, listed. */
#include "base/random.h"
#include "control/providers/resources/internal.h"

#define GROUP_TYPE "Microsoft.Resources/resourceGroups"
#define NAME_MAX_CHARS 90
#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._()"
/* Writers of one group that meet: each round one of them wins. */
#define WRITE_ROUNDS 20

/* --- the record --- */

void group_record_done(struct group_record *record)
{
	free(record->key);
	json_decref(record->record);
	*record = (struct group_record){0};
}

static int record_parse(const struct store_entry *entry, struct err *err, struct group_record *ret)
{
	json_t *record = NULL;
	int r = json_parse(entry->value, entry->value_len, JSON_DEPTH_MAX, NULL, &record);

	if (r < 0 || !json_get_obj(record, "group")) {
		json_decref(record);
		return err_set(err, -EIO, "InternalError", "%s isn't a resource group", entry->key);
	}
	*ret = (struct group_record){.key = xstrdup(entry->key),
		.record = record,
		.group = json_get_obj(record, "group"),
		.revision = entry->revision};
	return 0;
}

int group_record_read(const struct arm_services *services, const char *rg, struct err *err,
	struct group_record *ret)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_free_ char *key = NULL;
	size_t n = strlen(rg);
	int r;

	/* A name that no group can have isn't looked up: the store's keys are bounded. */
	if (n > NAME_MAX_CHARS || strspn(rg, NAME_CHARS) != n)
		return arm_err_group_not_found(err, rg);
	key = arm_resource_group_key(rg);
	r = store_get(services->store, key, err, &entry);
	if (r == -ENOENT)
		return arm_err_group_not_found(err, rg);
	return r < 0 ? r : record_parse(&entry, err, ret);
}

int group_record_write(
	const struct arm_services *services, struct group_record *record, struct err *err)
{
	_cleanup_free_ char *text = json_text(record->record);

	return store_put(services->store, record->key, text, strlen(text),
		record->revision ? record->revision : STORE_ABSENT, err, &record->revision);
}

const char *group_state(const json_t *group)
{
	return json_get_str(json_get_obj(group, "properties"), "provisioningState", "");
}

static int refuse_deleting(const json_t *group, struct err *err)
{
	if (!str_eq(group_state(group), "Deleting"))
		return 0;
	return err_set(err, -EBUSY, "ResourceGroupBeingDeleted",
		"The resource group '%s' is in deprovisioning state and cannot perform this operation.",
		json_get_str(group, "name", ""));
}

/* --- what a body may say --- */

static int check_name(const char *name, struct err *err)
{
	size_t n = strlen(name), good = strspn(name, NAME_CHARS);

	if (n > NAME_MAX_CHARS)
		return err_set(err, -EINVAL, "InvalidResourceGroup",
			"The provided resource group name '%.128s' has a length of '%zu', which exceeds the maximum "
			"length of '%d'.",
			name, n, NAME_MAX_CHARS);
	if (good < n) {
		struct buf bad = BUF_MAX(256);

		for (const char *c = name; *c; c++)
			if (!strchr(NAME_CHARS, *c) && !(bad.len && strchr(bad.data, *c)))
				buf_addc(&bad, *c);
		err_set(err, -EINVAL, "InvalidResourceGroup",
			"The provided resource group name '%s' has these invalid characters: '%s'. The name can only "
			"be a letter, digit, '-', '.', '(', ')' or '_'.",
			name, buf_str(&bad));
		buf_done(&bad);
		return -EINVAL;
	}
	if (name[n - 1] == '.')
		return err_set(err, -EINVAL, "InvalidResourceGroup",
			"The provided resource group name '%s' ends with a period, which a name can't.",
			name);
	return 0;
}

/* "West US" is "westus". */
static bool same_location(const char *a, const char *b)
{
	for (;; a++, b++) {
		a += strspn(a, " ");
		b += strspn(b, " ");
		if (!*a || !*b)
			return *a == *b;
		if (strncasecmp(a, b, 1) != 0)
			return false;
	}
}

static int check_members(json_t *body, const char *const *known, size_t n, struct err *err)
{
	const char *key;
	json_t *value;

	json_object_foreach (body, key, value) {
		size_t i = 0;

		while (i < n && !str_eq_nocase(known[i], key))
			i++;
		if (i == n) {
			err_set(err, -EINVAL, "InvalidRequestContent",
				"The request content was invalid and could not be deserialized: 'Could not find member "
				"'%.128s' on object of type 'ResourceGroupDefinition'. Path '%.128s'.'.",
				key, key);
			err_target(err, "%.128s", key);
			return -EINVAL;
		}
	}
	return 0;
}

/* Members of a body are matched without regard to case. */
static json_t *member(json_t *body, const char *name)
{
	const char *key;
	json_t *value;

	json_object_foreach (body, key, value)
		if (str_eq_nocase(key, name))
			return json_is_null(value) ? NULL : value;
	return NULL;
}

static int check_location(
	const struct arm_services *services, json_t *body, const json_t *existing, struct err *err)
{
	const char *location = json_string_value(member(body, "location"));
	const char *current = json_get_str(existing, "location", NULL);
	int r = 0;

	if (!location || !*location)
		r = err_set(err, -EINVAL, "LocationRequired",
			"The location property is required for this definition.");
	else if (current && !same_location(location, current))
		r = err_set(err, -EEXIST, "InvalidResourceGroupLocation",
			"Invalid resource group location '%.128s'. The Resource group already exists in location '%s'.",
			location, current);
	else if (!current && !same_location(location, services->region))
		r = err_set(err, -EINVAL, "LocationNotAvailableForResourceGroup",
			"The provided location '%.128s' is not available for resource group. List of available regions "
			"is '%s'.",
			location, services->region);
	if (r < 0)
		err_target(err, "location");
	return r;
}

/* --- handlers --- */

HANDLER(resource_groups_get)
{
	_cleanup_(group_record_done) struct group_record record = {0};
	int r = group_record_read(arm_services(request), arm_param(request, "rg"), err, &record);

	if (r < 0)
		return r;
	response->body = json_incref(record.group);
	return 0;
}

HANDLER(groups_head)
{
	_cleanup_(group_record_done) struct group_record record = {0};
	int r = group_record_read(arm_services(request), arm_param(request, "rg"), err, &record);

	if (r == 0)
		response->status = 204;
	return r;
}

static void record_new(
	const struct arm_services *services, const char *name, struct group_record *ret)
{
	_cleanup_free_ char *id =
		xasprintf("/subscriptions/%s/resourceGroups/%s", services->subscription_id, name);
	char uid[UUID_STR_MAX];

	*ret = (struct group_record){.key = arm_resource_group_key(name)};
	ret->record = json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:{s:s}}}", "uid", random_uuid(uid),
		"group", "id", id, "name", name, "type", GROUP_TYPE, "location", services->region,
		"properties", "provisioningState", "Succeeded");
	ret->group = json_get_obj(ret->record, "group");
}

static void record_apply(struct group_record *record, json_t *body)
{
	json_t *tags = member(body, "tags"), *managed_by = member(body, "managedBy");

	if (tags)
		json_object_set_new(record->group, "tags", json_deep_copy(tags));
	if (json_is_string(managed_by))
		json_object_set(record->group, "managedBy", managed_by);
}

static int put_once(
	struct arm_request *request, json_t *body, struct arm_response *response, struct err *err)
{
	_cleanup_(group_record_done) struct group_record record = {0};
	const struct arm_services *services = arm_services(request);
	const char *name = arm_param(request, "rg");
	int r = group_record_read(services, name, err, &record);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0)
		r = refuse_deleting(record.group, err);
	else
		r = 0;
	if (r == 0)
		r = check_location(services, body, record.group, err);
	if (r < 0)
		return r;
	response->status = record.revision ? 200 : 201;
	if (!record.revision)
		record_new(services, name, &record);
	/* A PUT replaces: tags that it doesn't name are gone. */
	json_object_del(record.group, "tags");
	record_apply(&record, body);
	r = group_record_write(services, &record, err);
	if (r == 0)
		response->body = json_incref(record.group);
	return r;
}

static int write_rounds(struct arm_request *request, json_t *body, struct arm_response *response,
	struct err *err,
	int (*once)(struct arm_request *, json_t *, struct arm_response *, struct err *))
{
	int r = -EAGAIN;

	for (int i = 0; i < WRITE_ROUNDS && r == -EAGAIN; i++)
		r = once(request, body, response, err);
	return r;
}

HANDLER(resource_groups_put)
{
	static const char *const known[] = {
		"location", "tags", "properties", "managedBy", "id", "name", "type"};
	json_t *body = NULL;
	int r;

	r = check_name(arm_param(request, "rg"), err);
	if (r < 0)
		return r;
	r = arm_body(request, err, &body);
	if (r < 0)
		return r;
	r = check_members(body, known, ARRAY_SIZE(known), err);
	if (r < 0)
		return r;
	r = arm_tags_check(member(body, "tags"), err);
	return r < 0 ? r : write_rounds(request, body, response, err, put_once);
}

static int patch_once(
	struct arm_request *request, json_t *body, struct arm_response *response, struct err *err)
{
	_cleanup_(group_record_done) struct group_record record = {0};
	int r = group_record_read(arm_services(request), arm_param(request, "rg"), err, &record);

	if (r == 0)
		r = refuse_deleting(record.group, err);
	if (r < 0)
		return r;
	record_apply(&record, body);
	r = group_record_write(arm_services(request), &record, err);
	if (r == 0)
		response->body = json_incref(record.group);
	return r;
}

HANDLER(resource_groups_patch)
{
	static const char *const known[] = {"tags", "properties", "managedBy", "name"};
	json_t *body = NULL;
	int r = arm_body(request, err, &body);

	if (r < 0)
		return r;
	r = check_members(body, known, ARRAY_SIZE(known), err);
	if (r < 0)
		return r;
	r = arm_tags_check(member(body, "tags"), err);
	return r < 0 ? r : write_rounds(request, body, response, err, patch_once);
}

bool tags_match(json_t *tags, const char *name, const char *value)
{
	const char *key;
	json_t *v;

	if (!name && !value)
		return true;
	json_object_foreach (tags, key, v)
		if ((!name || str_eq_nocase(key, name)) &&
			(!value || str_eq(json_string_value(v), value)))
			return true;
	return false;
}

/* Adds the page's groups to list. 1: there are more, to be
 * had after *after; 0: that was all. */
static int collect(struct arm_request *request, const struct arm_filter *filter, size_t limit,
	char **after, struct err *err, json_t *list)
{
	const char *name = arm_filter_get(filter, "tagName"),
		   *value = arm_filter_get(filter, "tagValue");
	bool more = true;

	while (more) {
		_cleanup_(store_list_done) struct store_list entries = {0};
		int r = store_list(arm_services(request)->store, "rg/", *after, 256, err, &entries);

		if (r < 0)
			return r;
		for (size_t i = 0; i < entries.n; i++) {
			_cleanup_(group_record_done) struct group_record record = {0};

			r = record_parse(&entries.entries[i], err, &record);
			if (r < 0)
				return r;
			if (tags_match(json_get_obj(record.group, "tags"), name, value)) {
				/* One more than fits: the page ends before it. */
				if (json_array_size(list) == limit)
					return 1;
				json_array_append(list, record.group);
			}
			free(*after);
			*after = xstrdup(entries.entries[i].key);
		}
		more = entries.n == 256;
	}
	return 0;
}

static int check_filter(const char *text, struct err *err, struct arm_filter *ret)
{
	int r = text && *text ? arm_filter_parse(text, err, ret) : 0;

	for (size_t i = 0; r == 0 && i < ret->n; i++)
		if (!str_eq_nocase(ret->terms[i].field, "tagName") &&
			!str_eq_nocase(ret->terms[i].field, "tagValue"))
			r = err_set(err, -EINVAL, "InvalidFilterInQueryString",
				"Invalid $filter '%s' specified in the query string.", text);
	return r;
}

HANDLER(resource_groups_list)
{
	_cleanup_free_ char *after = NULL, *next = NULL;
	_cleanup_json_ json_t *list = json_array();
	struct arm_filter filter = {0};
	size_t limit = 0;
	int r;

	r = check_filter(arm_query(request, "$filter"), err, &filter);
	if (r < 0)
		return r;
	r = arm_page(request, err, &limit, &after);
	if (r < 0)
		return r;
	r = collect(request, &filter, limit, &after, err, list);
	if (r < 0)
		return r;
	response->body = json_pack("{s:O}", "value", list);
	if (r == 1) {
		next = arm_page_next(request, after);
		json_put_str(response->body, "nextLink", next);
	}
	return 0;
}
