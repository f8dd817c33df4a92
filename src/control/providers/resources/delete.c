/* Deleting a resource group with all that is in it. */
#include "control/providers/resources/internal.h"

/* The operation's id says which group is meant: the key alone won't do, a new group may have the
 * name by then. Nothing is stored for it, so nothing is left over from clients that never come
 * back. */
static char *operation_id(const struct group_record *record)
{
	_cleanup_free_ char *plain =
		xasprintf("%s %s", record->key, json_get_str(record->record, "uid", ""));

	return str_base64url(plain, strlen(plain));
}

/* 0 and the group's name and uid (owned). */
static int operation_parse(const char *id, char **ret_name, char **ret_uid)
{
	_cleanup_free_ unsigned char *plain = NULL;
	const char *blank;
	size_t len = 0;

	if (strlen(id) > STORE_KEY_MAX || str_base64_decode(id, strlen(id), true, &plain, &len) < 0)
		return -EINVAL;
	blank = memchr(plain, ' ', len);
	if (!blank || len < 3 || memcmp(plain, "rg/", 3) != 0 || memchr(plain, 0, len))
		return -EINVAL;
	*ret_name = xstrndup((const char *)plain + 3, (size_t)(blank - (const char *)plain) - 3);
	*ret_uid = xstrndup(blank + 1, len - (size_t)(blank + 1 - (const char *)plain));
	return 0;
}

static void accepted(struct arm_request *request, const char *id, struct arm_response *response)
{
	const struct arm_services *s = arm_services(request);

	response->status = 202;
	arm_response_header(response, "location",
		"%s/subscriptions/%s/operationresults/%s?api-version=%s", s->endpoint,
		s->subscription_id, id, arm_api_version(request));
	arm_response_header(response, "retry-after", "1");
}

/* Every provider has deleted what it holds, and says so. */
static int group_empty(const struct arm_services *services,
	const struct arm_provider *const *providers, const char *rg, struct err *err)
{
	_cleanup_json_ json_t *left = json_array();

	for (; *providers; providers++) {
		int r = (*providers)->list_resources
				? (*providers)->list_resources(services, rg, err, left)
				: 0;

		if (r < 0)
			return r;
	}
	return json_array_size(left) == 0;
}

int group_delete_step(const struct arm_services *services,
	const struct arm_provider *const *providers, const struct group_record *record,
	struct err *err)
{
	const char *rg = json_get_str(record->group, "name", "");
	int r;

	for (const struct arm_provider *const *p = providers; *p; p++) {
		r = (*p)->delete_group ? (*p)->delete_group(services, rg, err) : 0;
		if (r < 0)
			return r;
	}
	r = group_empty(services, providers, rg, err);
	if (r <= 0)
		return r;
	r = store_delete(services->store, record->key, record->revision, err);
	/* Somebody else was faster with the last step: what matters is that it was done. */
	return r < 0 && r != -EAGAIN ? r : 1;
}

/* 0: the record is now marked; sets its revision. */
static int mark(const struct arm_services *services, struct group_record *record, struct err *err)
{
	if (str_eq(group_state(record->group), "Deleting"))
		return 0;
	json_object_set_new(
		record->group, "properties", json_pack("{s:s}", "provisioningState", "Deleting"));
	return group_record_write(services, record, err);
}

HANDLER(resource_groups_delete)
{
	_cleanup_(group_record_done) struct group_record record = {0};
	const struct arm_services *services = arm_services(request);
	_cleanup_free_ char *id = NULL;
	int r = -EAGAIN;

	for (int i = 0; i < 20 && r == -EAGAIN; i++) {
		group_record_done(&record);
		r = group_record_read(services, arm_param(request, "rg"), err, &record);
		if (r == 0)
			r = mark(services, &record, err);
	}
	if (r < 0)
		return r;
	id = operation_id(&record);
	/* Most of the time all is done here, and the first poll finds the group gone. */
	r = group_delete_step(services, arm_providers(request), &record, err);
	if (r < 0)
		log_warn("delete %s: %s", record.key, err ? err->message : "");
	accepted(request, id, response);
	return 0;
}

HANDLER(groups_delete_poll)
{
	_cleanup_(group_record_done) struct group_record record = {0};
	_cleanup_free_ char *name = NULL, *uid = NULL;
	const char *id = arm_param(request, "id");
	int r;

	if (operation_parse(id, &name, &uid) < 0)
		return err_set(err, -ENOENT, "OperationNotFound",
			"The operation '%.256s' was not found.", id);
	r = group_record_read(arm_services(request), name, err, &record);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT || !str_eq(json_get_str(record.record, "uid", ""), uid) ||
		!str_eq(group_state(record.group), "Deleting"))
		return 0;
	r = group_delete_step(arm_services(request), arm_providers(request), &record, err);
	if (r < 0 && err->code[0] && arm_error_status(err->code) < 500) {
		struct err cause = *err;

		return err_set(err, r, "ResourceGroupDeletionBlocked",
			"Deletion of resource group '%s' failed: %.1024s",
			json_get_str(record.group, "name", ""), cause.message);
	}
	if (r == 0)
		accepted(request, id, response);
	return r < 0 ? r : 0;
}

int resources_resume(const struct arm_services *services,
	const struct arm_provider *const *providers, struct err *err)
{
	_cleanup_(store_list_done) struct store_list entries = {0};
	int first = 0, r;

	r = store_list(services->store, "rg/", NULL, 0, err, &entries);
	if (r < 0)
		return r;
	for (size_t i = 0; i < entries.n; i++) {
		_cleanup_(group_record_done) struct group_record record = {0};
		struct err one = {0};

		r = group_record_read(services, entries.entries[i].key + 3, &one, &record);
		if (r == -ENOENT)
			continue;
		if (r == 0 && str_eq(group_state(record.group), "Deleting"))
			r = group_delete_step(services, providers, &record, &one);
		if (r < 0 && first == 0) {
			first = r;
			if (err)
				*err = one;
		}
	}
	return first;
}
