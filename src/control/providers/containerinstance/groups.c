/* Container groups: create, update, read, list, tag and delete. */
#include "base/random.h"
#include "base/time.h"
#include "control/providers/containerinstance/internal.h"

#define ATTEMPTS_MAX 64 /* for an address that another berthd took first */

/* --- PUT --- */

/* Everything that one attempt at a PUT works with. */
struct put {
	struct arm_request *request;
	const struct arm_services *services;
	const char *rg_name, *name;
	json_t *rg; /* the resource group */
	int64_t rg_revision;
	struct group group;
	json_t *document; /* validated */
	json_t *record;	  /* to be written */
	struct change change;
	char op[UUID_STR_MAX];
};

static void put_done(struct put *put)
{
	json_decref(put->rg);
	group_done(&put->group);
	json_decref(put->document);
	json_decref(put->record);
	change_done(&put->change);
}

static int put_load(struct put *put, struct err *err)
{
	struct validate_context context = {
		.group_name = put->name,
		.api_version = arm_api_version(put->request),
		.region = put->services->region,
		.subscription_id = put->services->subscription_id,
		.resource_group = put->rg_name,
	};
	json_t *body;
	int r;

	r = arm_body(put->request, err, &body);
	if (r < 0)
		return r;
	r = arm_resource_group_for_write(
		put->services, put->rg_name, err, &put->rg, &put->rg_revision);
	if (r < 0)
		return r;
	r = group_find(put->services, put->rg_name, put->name, err, &put->group);
	if (r < 0)
		return r;
	put->document = json_deep_copy(body);
	context.default_location = json_get_str(put->rg, "location", NULL);
	context.old = json_get_obj(put->group.record, "document");
	context.ip = json_get_str(put->group.record, "ip", NULL);
	context.fqdn = json_get_str(put->group.record, "fqdn", NULL);
	context.zone = put->services->zone;
	r = profile_apply(put->services, context.api_version, context.old, put->document, err);
	return r < 0 ? r : group_validate(put->document, &context, err);
}

static char *group_fqdn(const struct put *put)
{
	const char *label = json_get_str(put->record, "label", NULL);

	return label ? xasprintf("%s.%s.%s", label, put->services->region, put->services->zone)
		     : NULL;
}

/* The label that the record had is given up and the new one claimed, in the same commit as
 * everything else. */
static void put_label(struct put *put)
{
	const json_t *old = put->group.record;
	_cleanup_free_ char *label = label_make(put->services, put->rg_name, put->document, old);
	const char *before = old ? label_of_record(old) : NULL;
	const char *region = put->services->region;
	_cleanup_json_ json_t *claim = NULL;

	json_put_str(put->record, "label", label);
	if (label && before && str_eq(label, before))
		return;
	if (before)
		change_delete(&put->change, STORE_ANY, "label/%s/%s", region, before);
	if (!label)
		return;
	claim = json_pack("{s:s, s:s, s:s}", "uid", json_get_str(put->record, "uid", ""), "ip",
		json_get_str(put->record, "ip", ""), "id", json_get_str(put->record, "id", ""));
	change_put(&put->change, STORE_ABSENT, claim, "label/%s/%s", region, label);
}

static int put_new(struct put *put, struct err *err)
{
	bool public = json_path(put->document, "properties", "ipAddress", NULL) != NULL;
	const char *rg = json_get_str(put->rg, "name", put->rg_name);
	char uid[UUID_STR_MAX], ip[ADDRESS_MAX], now[TIME_STR_MAX];
	_cleanup_free_ char *id =
		xasprintf("/subscriptions/%s/resourceGroups/%s/providers/" GROUPS_TYPE "/%s",
			put->services->subscription_id, rg, put->name);
	_cleanup_json_ json_t *claim = NULL;
	int r;

	r = capacity_check(put->services, put->document, err);
	if (r < 0)
		return r;
	r = address_pick(put->services->store,
		public ? put->services->public_pool : put->services->private_pool, err, ip);
	if (r < 0)
		return r;
	put->record = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:s}", "uid",
		random_uuid(uid), "generation", 1, "name", put->name, "resourceGroup", rg, "id", id,
		"ip", ip, "desired", "running", "runs", 1, "restarts", 0, "deploys", 1, "created",
		time_format(time_now_ms(), 3, now));
	claim = json_pack("{s:s, s:s}", "uid", uid, "id", id);
	change_put(&put->change, STORE_ABSENT, claim, "ip/%s", ip);
	put_label(put);
	return 0;
}

static void add_to(json_t *record, const char *counter)
{
	json_object_set_new(record, counter, json_integer(json_get_int(record, counter, 0) + 1));
}

/* Only tags differ: nothing that a node would do. */
static bool only_tags_differ(const json_t *old, const json_t *new)
{
	return json_equal(json_object_get(old, "properties"), json_object_get(new, "properties"));
}

static int put_update(struct put *put, struct err *err)
{
	const json_t *was = put->group.record;
	const json_t *old = json_get_obj(was, "document");
	bool ended = group_ended(was, put->group.status);
	int r;

	r = group_validate_update(old, put->document, put->name, err);
	if (r < 0)
		return r;
	put->record = json_deep_copy(was);
	if (only_tags_differ(old, put->document) && !ended && !status_failed(put->group.status))
		return 0;
	if (!ended && !group_settled(was, put->group.status))
		return err_transitioning(err, put->name);
	add_to(put->record, "generation");
	if (!only_config_maps_differ(old, put->document))
		add_to(put->record, "deploys");
	if (ended)
		add_to(put->record, "runs");
	json_put_str(put->record, "desired", "running");
	put_label(put);
	return 0;
}

/* With new files alone, containers go on with the secrets that they have: others would restart
 * them. */
static int put_secrets(struct put *put, struct err *err)
{
	static const char *const counters[] = {"deploys", "runs"};

	for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
		if (json_get_int(put->record, counters[i], 0) !=
			json_get_int(put->group.record, counters[i], 0))
			return references_resolve(put->services, put->record, err);
	return 0;
}

/* Completes the record and commits. -EAGAIN with StoreConflict when somebody was faster. */
static int put_commit(struct put *put, struct err *err, int64_t *ret_revision)
{
	_cleanup_free_ char *fqdn = group_fqdn(put);
	_cleanup_free_ char *rg_key = arm_resource_group_key(put->rg_name);
	bool deploys = json_get_int(put->record, "generation", 1) !=
		       json_get_int(put->group.record, "generation", 0);

	json_object_set(put->record, "document", put->document);
	json_put_str(put->record, "apiVersion", arm_api_version(put->request));
	json_put_str(put->record, "fqdn", fqdn);
	if (deploys) {
		int r = put_secrets(put, err);

		if (r < 0)
			return r;
		random_uuid(put->op);
		operation_close(&put->change, put->services, &put->group, put->record);
		json_put_str(put->record, "op", put->op);
		operation_add(&put->change, put->record, put->op);
	}
	change_put(&put->change, put->group.revision, put->record, "%s", put->group.key);
	change_check(&put->change, put->rg_revision, "%s", rg_key);
	return quota_commit(
		put->services, &put->change, put->group.record, put->record, err, ret_revision);
}

/* Nothing to write: the same wish again. It still waits for what is under way, as the first request
 * did. */
static bool put_unchanged(const struct put *put)
{
	const json_t *old = json_get_obj(put->group.record, "document");

	return old && json_equal(old, put->document) &&
	       !group_ended(put->group.record, put->group.status) &&
	       !(status_is_current(put->group.record, put->group.status) &&
		       status_failed(put->group.status));
}

static int put_attempt(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(put_done) struct put put = {
		.request = request,
		.services = arm_services(request),
		.rg_name = arm_param(request, "resourceGroupName"),
		.name = arm_param(request, "containerGroupName"),
	};
	int64_t revision = 0;
	int r;

	r = put_load(&put, err);
	if (r < 0)
		return r;
	if (put_unchanged(&put))
		return wait_settled(request, response, err, WAIT_PUT, put.group.record,
			put.group.revision, json_get_str(put.group.record, "op", ""), 200);
	r = put.group.record ? put_update(&put, err) : put_new(&put, err);
	if (r < 0)
		return r;
	r = put_commit(&put, err, &revision);
	if (r < 0)
		return r;
	return wait_settled(request, response, err, WAIT_PUT, put.record, revision,
		json_get_str(put.record, "op", ""), put.group.record ? 200 : 201);
}

/* Which expectation failed says what happened. 0: try again. */
static int put_conflict(struct arm_request *request, struct err *err)
{
	const char *name = arm_param(request, "containerGroupName");

	if (str_starts(err->target, "ip/") || str_starts(err->target, "rg/"))
		return 0;
	if (str_starts(err->target, "label/")) {
		_cleanup_free_ char *label = xstrdup(strrchr(err->target, '/') + 1);

		label[strcspn(label, ".")] = '\0';
		err_set(err, -EEXIST, "DnsNameLabelNotAvailable",
			"The DNS name label '%s' in container group '%s' not available. Try using a different label.",
			label, name);
		err_target(err, "properties.ipAddress.dnsNameLabel");
		return -EEXIST;
	}
	return err_transitioning(err, name);
}

int groups_put(struct arm_request *request, struct arm_response *response, struct err *err)
{
	int r = 0;

	for (int i = 0; i < ATTEMPTS_MAX; i++) {
		r = put_attempt(request, response, err);
		if (r != -EAGAIN || !err || !str_eq(err->code, "StoreConflict"))
			return err_too_large(err, arm_param(request, "containerGroupName"), r);
		r = put_conflict(request, err);
		if (r < 0)
			return r;
	}
	return err_transitioning(err, arm_param(request, "containerGroupName"));
}

/* --- GET, LIST --- */

static int request_group(struct arm_request *request, struct err *err, struct group *ret)
{
	return group_load(arm_services(request), arm_param(request, "resourceGroupName"),
		arm_param(request, "containerGroupName"), err, ret);
}

int groups_get(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(group_done) struct group group = {0};
	int r;

	r = request_group(request, err, &group);
	if (r < 0)
		return r;
	response->body = group_present(group.record, group.status, arm_api_version(request), true);
	return 0;
}

static json_t *list_present(struct arm_request *request, const json_t *record)
{
	_cleanup_json_ json_t *status =
		status_load(arm_services(request), json_get_str(record, "uid", ""), NULL);

	return group_present(record, status, arm_api_version(request), false);
}

int groups_list(struct arm_request *request, struct arm_response *response, struct err *err)
{
	const char *rg = arm_param(request, "resourceGroupName");
	_cleanup_free_ char *key = NULL;
	_cleanup_free_ char *prefix = NULL;
	int r;

	r = arm_resource_group_get(arm_services(request), rg, err, NULL);
	if (r < 0)
		return r;
	key = arm_resource_group_key(rg);
	prefix = xasprintf("cg/%s/", key + strlen("rg/"));
	return records_page(request, response, prefix, list_present, err);
}

int groups_list_all(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return records_page(request, response, "cg/", list_present, err);
}

/* --- PATCH --- */

/* Names of properties have no case, as in the schema tables. Old SDKs send a whole resource, of
 * which only tags may differ. */
int patch_tags(json_t *body, const char *what, struct err *err, json_t **ret_tags)
{
	static const char *const ignored[] = {"tags", "id", "name", "type", "location"};
	json_t *value, *tags = NULL;
	const char *key;
	int r;

	json_object_foreach (body, key, value) {
		bool known = json_is_null(value) ||
			     (json_is_array(value) && json_array_size(value) == 0) ||
			     (json_is_object(value) && json_object_size(value) == 0);

		if (str_eq_nocase(key, "tags"))
			tags = value;
		for (size_t i = 0; i < ARRAY_SIZE(ignored) && !known; i++)
			known = str_eq_nocase(key, ignored[i]);
		if (!known) {
			err_set(err, -EINVAL, "InvalidRequestContent",
				"Only the tags of a %s can be updated with PATCH. To change '%.80s', send the "
				"whole %s with PUT.",
				what, key, what);
			err_target(err, "%.80s", key);
			return -EINVAL;
		}
	}
	r = arm_tags_check(tags, err);
	if (r == 0 && tags)
		*ret_tags = tags;
	return r;
}

static int patch_attempt(
	struct arm_request *request, struct arm_response *response, struct err *err)
{
	const struct arm_services *services = arm_services(request);
	_cleanup_(group_done) struct group group = {0};
	_cleanup_free_ char *text = NULL;
	json_t *body, *tags = NULL;
	int r;

	r = arm_body(request, err, &body);
	if (r == 0)
		r = patch_tags(body, "container group", err, &tags);
	if (r == 0)
		r = request_group(request, err, &group);
	if (r < 0)
		return r;
	if (tags) {
		json_object_set_new(json_get_obj(group.record, "document"), "tags",
			json_is_null(tags) ? json_object() : json_deep_copy(tags));
		text = json_text(group.record);
		r = store_put(
			services->store, group.key, text, strlen(text), group.revision, err, NULL);
		if (r < 0)
			return r;
	}
	response->body = group_present(group.record, group.status, arm_api_version(request), true);
	return 0;
}

int groups_patch(struct arm_request *request, struct arm_response *response, struct err *err)
{
	int r = 0;

	for (int i = 0; i < 8; i++) {
		r = patch_attempt(request, response, err);
		if (r != -EAGAIN)
			return r;
	}
	return err_transitioning(err, arm_param(request, "containerGroupName"));
}

/* --- DELETE --- */

/* The address stays claimed until the node says that nothing uses it any more; schedule frees it
 * then. */
int group_remove(const struct arm_services *services, const struct group *group, struct err *err)
{
	_cleanup_(change_done) struct change change = {0};
	const char *label = label_of_record(group->record);
	const char *uid = json_get_str(group->record, "uid", "");
	char now[TIME_STR_MAX];
	_cleanup_json_ json_t *gone = json_pack("{s:s, s:s, s:s, s:s}", "uid", uid, "ip",
		json_get_str(group->record, "ip", ""), "id", json_get_str(group->record, "id", ""),
		"deleted", time_format(time_now_ms(), 3, now));

	change_delete(&change, group->revision, "%s", group->key);
	if (label)
		change_delete(&change, STORE_ANY, "label/%s/%s", services->region, label);
	change_put(&change, STORE_ANY, gone, "gone/%s", uid);
	operation_close(&change, services, group, NULL);
	return quota_commit(services, &change, group->record, NULL, err, NULL);
}

int groups_delete(struct arm_request *request, struct arm_response *response, struct err *err)
{
	const struct arm_services *services = arm_services(request);
	const char *rg = arm_param(request, "resourceGroupName");
	int r = 0;

	for (int i = 0; i < 8; i++) {
		_cleanup_(group_done) struct group group = {0};

		r = group_find(services, rg, arm_param(request, "containerGroupName"), err, &group);
		if (r < 0)
			return r;
		if (!group.record) {
			r = arm_resource_group_get(services, rg, err, NULL);
			response->status = 204;
			return r;
		}
		r = group_remove(services, &group, err);
		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return r;
		response->body =
			group_present(group.record, group.status, arm_api_version(request), true);
		return 0;
	}
	return err_transitioning(err, arm_param(request, "containerGroupName"));
}
