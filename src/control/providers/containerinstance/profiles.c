/* Profiles of container groups: create, update, read, list, tag and delete. */
#include "base/random.h"
#include "base/time.h"
#include "control/providers/containerinstance/profiles.h"

#define ATTEMPTS_MAX 16

/* --- records --- */

void profile_done(struct profile *profile)
{
	free(profile->key);
	json_decref(profile->record);
	*profile = (struct profile){0};
}

/* NULL when no profile can have that name. */
static char *profile_key(const char *rg, const char *name)
{
	_cleanup_free_ char *rg_key = arm_resource_group_key(rg);
	_cleanup_free_ char *lower = str_lower_dup(name);

	if (!profile_name_valid(name))
		return NULL;
	return xasprintf("cgprofile/%s/%s", rg_key + strlen("rg/"), lower);
}

int profile_find(const struct arm_services *services, const char *rg, const char *name,
	struct err *err, struct profile *ret)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_(profile_done) struct profile profile = {.revision = STORE_ABSENT};
	int r;

	profile.key = profile_key(rg, name);
	r = profile.key ? store_get(services->store, profile.key, err, &entry) : -ENOENT;
	if (r == 0)
		r = record_parse(&entry, err, &profile.record);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0)
		profile.revision = entry.revision;
	*ret = profile;
	profile = (struct profile){0};
	return 0;
}

static int request_profile(struct arm_request *request, struct err *err, struct profile *ret)
{
	const struct arm_services *services = arm_services(request);
	const char *rg = arm_param(request, "resourceGroupName");
	const char *name = arm_param(request, "containerGroupProfileName");
	_cleanup_(profile_done) struct profile profile = {0};
	int r;

	r = profile_find(services, rg, name, err, &profile);
	if (r == 0 && !profile.record) {
		r = arm_resource_group_get(services, rg, err, NULL);
		if (r == 0)
			r = arm_err_not_found(err, PROFILES_TYPE, name, rg);
	}
	if (r < 0)
		return r;
	*ret = profile;
	profile = (struct profile){0};
	return 0;
}

static int64_t newest_of(const json_t *record)
{
	return json_get_int(record, "revision", 1);
}

static int64_t oldest_of(const json_t *record)
{
	return json_get_int(record, "oldest", 1);
}

static char *revision_key(const json_t *record, int64_t revision)
{
	return xasprintf(
		"cgprofile-rev/%s/%010lld", json_get_str(record, "uid", ""), (long long)revision);
}

int profile_document(const struct arm_services *services, const json_t *record, int64_t revision,
	struct err *err, json_t **ret)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_free_ char *key = NULL;
	int r;

	if (revision == 0 || revision == newest_of(record)) {
		*ret = json_incref(json_get_obj(record, "document"));
		return 0;
	}
	if (revision < oldest_of(record) || revision > newest_of(record))
		return -ENOENT;
	key = revision_key(record, revision);
	r = store_get(services->store, key, err, &entry);
	return r < 0 ? r : record_parse(&entry, err, ret);
}

/* --- answers --- */

/* One revision of a profile as the API shows it. New reference. */
static json_t *profile_present(
	const json_t *record, const json_t *document, int64_t revision, const char *api_version)
{
	struct schema_context context = {.api_version = api_version};
	json_t *shown = json_deep_copy(document), *revisions = json_array();
	json_t *properties = json_get_obj(shown, "properties");

	for (int64_t i = oldest_of(record); i <= newest_of(record); i++)
		json_array_append_new(revisions, json_integer(i));
	json_object_set_new(properties, "revision", json_integer(revision));
	json_object_set_new(properties, "registeredRevisions", revisions);
	json_put_str(shown, "id", json_get_str(record, "id", ""));
	json_put_str(shown, "name", json_get_str(record, "name", ""));
	json_put_str(shown, "type", PROFILES_TYPE);
	schema_present(&profile_schema, shown, &context);
	return shown;
}

static json_t *newest_present(const json_t *record, const char *api_version)
{
	return profile_present(
		record, json_get_obj(record, "document"), newest_of(record), api_version);
}

/* --- PUT --- */

struct put {
	const struct arm_services *services;
	struct profile profile;
	json_t *document, *record;
	int64_t rg_revision;
	char *rg; /* as it was created */
	struct change change;
};

static void put_done(struct put *put)
{
	profile_done(&put->profile);
	json_decref(put->document);
	json_decref(put->record);
	free(put->rg);
	change_done(&put->change);
}

static int put_load(struct arm_request *request, struct put *put, struct err *err)
{
	const char *rg_name = arm_param(request, "resourceGroupName");
	const char *name = arm_param(request, "containerGroupProfileName");
	_cleanup_json_ json_t *rg = NULL;
	struct validate_context context = {
		.type = PROFILES_TYPE,
		.group_name = name,
		.api_version = arm_api_version(request),
		.region = put->services->region,
		.subscription_id = put->services->subscription_id,
		.resource_group = rg_name,
	};
	json_t *body;
	int r;

	r = arm_body(request, err, &body);
	if (r == 0)
		r = arm_resource_group_for_write(
			put->services, rg_name, err, &rg, &put->rg_revision);
	if (r == 0)
		r = profile_find(put->services, rg_name, name, err, &put->profile);
	if (r < 0)
		return r;
	put->rg = xstrdup(json_get_str(rg, "name", rg_name));
	put->document = json_deep_copy(body);
	context.default_location = json_get_str(rg, "location", NULL);
	context.old = json_get_obj(put->profile.record, "document");
	return profile_validate(put->document, &context, err);
}

static void put_new(struct put *put, const char *name)
{
	char uid[UUID_STR_MAX], now[TIME_STR_MAX];
	_cleanup_free_ char *id =
		xasprintf("/subscriptions/%s/resourceGroups/%s/providers/" PROFILES_TYPE "/%s",
			put->services->subscription_id, put->rg, name);

	put->record = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:s}", "uid", random_uuid(uid),
		"name", name, "resourceGroup", put->rg, "id", id, "revision", 1, "oldest", 1,
		"created", time_format(time_now_ms(), 3, now));
}

/* What was the newest revision goes where the older ones are. */
static void put_revision(struct put *put)
{
	const json_t *old = put->profile.record;
	int64_t revision = newest_of(old);
	_cleanup_free_ char *key = revision_key(old, revision);
	_cleanup_free_ char *last = revision_key(old, oldest_of(old));

	json_object_set_new(put->record, "revision", json_integer(revision + 1));
	change_put(&put->change, STORE_ABSENT, json_get_obj(old, "document"), "%s", key);
	if (revision + 1 - oldest_of(old) < PROFILE_REVISIONS_MAX)
		return;
	json_object_set_new(put->record, "oldest", json_integer(oldest_of(old) + 1));
	change_delete(&put->change, STORE_ANY, "%s", last);
}

static bool same_properties(const json_t *a, const json_t *b)
{
	return json_equal(json_get_obj(a, "properties"), json_get_obj(b, "properties"));
}

static int put_attempt(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(put_done) struct put put = {.services = arm_services(request)};
	const json_t *old;
	int r;

	r = put_load(request, &put, err);
	if (r < 0)
		return r;
	old = json_get_obj(put.profile.record, "document");
	if (!old)
		put_new(&put, arm_param(request, "containerGroupProfileName"));
	else
		put.record = json_deep_copy(put.profile.record);
	if (old && !same_properties(old, put.document))
		put_revision(&put);
	if (!old || !json_equal(old, put.document)) {
		_cleanup_free_ char *rg_key = arm_resource_group_key(put.rg);

		json_object_set(put.record, "document", put.document);
		change_put(&put.change, put.profile.revision, put.record, "%s", put.profile.key);
		change_check(&put.change, put.rg_revision, "%s", rg_key);
		r = store_commit(put.services->store, put.change.ops, put.change.n, err, NULL);
	}
	if (r < 0)
		return r;
	response->status = old ? 200 : 201;
	response->body = newest_present(put.record, arm_api_version(request));
	return 0;
}

static int again_on_conflict(
	struct arm_request *request, struct arm_response *response, struct err *err, arm_handler fn)
{
	int r = -EAGAIN;

	for (int i = 0; i < ATTEMPTS_MAX && r == -EAGAIN; i++)
		r = fn(request, response, err);
	return err_too_large(err, arm_param(request, "containerGroupProfileName"), r);
}

int profiles_put(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return again_on_conflict(request, response, err, put_attempt);
}

/* --- PATCH --- */

static int patch_attempt(
	struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(profile_done) struct profile profile = {0};
	_cleanup_free_ char *text = NULL;
	json_t *body, *tags = NULL;
	int r;

	r = arm_body(request, err, &body);
	if (r == 0)
		r = patch_tags(body, "container group profile", err, &tags);
	if (r == 0)
		r = request_profile(request, err, &profile);
	if (r < 0)
		return r;
	if (tags) {
		json_object_set_new(json_get_obj(profile.record, "document"), "tags",
			json_is_null(tags) ? json_object() : json_deep_copy(tags));
		text = json_text(profile.record);
		r = store_put(arm_services(request)->store, profile.key, text, strlen(text),
			profile.revision, err, NULL);
		if (r < 0)
			return r;
	}
	response->body = newest_present(profile.record, arm_api_version(request));
	return 0;
}

int profiles_patch(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return again_on_conflict(request, response, err, patch_attempt);
}

/* --- GET, LIST --- */

int profiles_get(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(profile_done) struct profile profile = {0};
	int r;

	r = request_profile(request, err, &profile);
	if (r == 0)
		response->body = newest_present(profile.record, arm_api_version(request));
	return r;
}

static json_t *list_present(struct arm_request *request, const json_t *record)
{
	return newest_present(record, arm_api_version(request));
}

static char *prefix_of(const char *rg)
{
	_cleanup_free_ char *key = arm_resource_group_key(rg);

	return xasprintf("cgprofile/%s/", key + strlen("rg/"));
}

int profiles_list(struct arm_request *request, struct arm_response *response, struct err *err)
{
	const char *rg = arm_param(request, "resourceGroupName");
	_cleanup_free_ char *prefix = NULL;
	int r;

	r = arm_resource_group_get(arm_services(request), rg, err, NULL);
	if (r < 0)
		return r;
	prefix = prefix_of(rg);
	return records_page(request, response, prefix, list_present, err);
}

int profiles_list_all(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return records_page(request, response, "cgprofile/", list_present, err);
}

/* --- revisions --- */

int profiles_revision(struct arm_request *request, struct arm_response *response, struct err *err)
{
	const char *text = arm_param(request, "revisionNumber");
	_cleanup_(profile_done) struct profile profile = {0};
	_cleanup_json_ json_t *document = NULL;
	uint64_t revision = 0;
	int r;

	r = request_profile(request, err, &profile);
	if (r < 0)
		return r;
	r = -ENOENT;
	if (str_to_u64(text, INT32_MAX, &revision) == 0 && revision > 0)
		r = profile_document(
			arm_services(request), profile.record, (int64_t)revision, err, &document);
	if (r == -ENOENT) {
		_cleanup_free_ char *name = xasprintf(
			"%s/revisions/%.80s", json_get_str(profile.record, "name", ""), text);

		return arm_err_not_found(
			err, PROFILES_TYPE, name, arm_param(request, "resourceGroupName"));
	}
	if (r == 0)
		response->body = profile_present(
			profile.record, document, (int64_t)revision, arm_api_version(request));
	return r;
}

int profiles_revisions(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(profile_done) struct profile profile = {0};
	json_t *value;
	int r;

	r = request_profile(request, err, &profile);
	if (r < 0)
		return r;
	value = json_array();
	for (int64_t i = oldest_of(profile.record); i <= newest_of(profile.record); i++) {
		_cleanup_json_ json_t *document = NULL;

		/* One that is gone was the oldest until a moment ago. */
		if (profile_document(arm_services(request), profile.record, i, NULL, &document) ==
			0)
			json_array_append_new(value, profile_present(profile.record, document, i,
							     arm_api_version(request)));
	}
	response->body = json_pack("{s:o}", "value", value);
	return 0;
}

/* --- DELETE --- */

/* The record and all revisions in one commit. -EAGAIN when the record changed. */
static int profile_remove(
	const struct arm_services *services, const struct profile *profile, struct err *err)
{
	struct store_op ops[PROFILE_REVISIONS_MAX + 1];
	char *keys[PROFILE_REVISIONS_MAX + 1];
	size_t n = 0;
	int r;

	ops[0] = (struct store_op){
		.kind = STORE_DELETE, .key = profile->key, .expect = profile->revision};
	for (int64_t i = oldest_of(profile->record);
		i < newest_of(profile->record) && n < PROFILE_REVISIONS_MAX; i++) {
		keys[n] = revision_key(profile->record, i);
		ops[n + 1] = (struct store_op){
			.kind = STORE_DELETE, .key = keys[n], .expect = STORE_ANY};
		n++;
	}
	r = store_commit(services->store, ops, n + 1, err, NULL);
	while (n > 0)
		free(keys[--n]);
	return r;
}

static int delete_attempt(
	struct arm_request *request, struct arm_response *response, struct err *err)
{
	const struct arm_services *services = arm_services(request);
	const char *rg = arm_param(request, "resourceGroupName");
	_cleanup_(profile_done) struct profile profile = {0};
	int r;

	r = profile_find(
		services, rg, arm_param(request, "containerGroupProfileName"), err, &profile);
	if (r < 0)
		return r;
	if (!profile.record) {
		response->status = 204;
		return arm_resource_group_get(services, rg, err, NULL);
	}
	return profile_remove(services, &profile, err);
}

int profiles_delete(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return again_on_conflict(request, response, err, delete_attempt);
}

/* --- for resource groups --- */

int profiles_list_resources(
	const struct arm_services *services, const char *rg, struct err *err, json_t *ret_array)
{
	_cleanup_free_ char *prefix = prefix_of(rg);

	return records_list_resources(services, prefix, PROFILES_TYPE, err, ret_array);
}

int profiles_delete_group(const struct arm_services *services, const char *rg, struct err *err)
{
	_cleanup_free_ char *prefix = prefix_of(rg);

	for (;;) {
		_cleanup_(store_list_done) struct store_list list = {0};
		int r;

		/* Again until there is nothing: a profile may change between the list and its
		 * deletion. */
		r = store_list(services->store, prefix, NULL, 256, err, &list);
		if (r < 0 || list.n == 0)
			return r;
		for (size_t i = 0; i < list.n; i++) {
			_cleanup_(profile_done) struct profile profile = {
				.key = xstrdup(list.entries[i].key),
				.revision = list.entries[i].revision};

			r = record_parse(&list.entries[i], err, &profile.record);
			if (r == 0)
				r = profile_remove(services, &profile, err);
			if (r < 0 && r != -EAGAIN)
				return r;
		}
	}
}
