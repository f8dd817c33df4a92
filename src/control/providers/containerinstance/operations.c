/* What a client polls while a group deploys, and the list of what this provider can do. */
#include "base/random.h"
#include "base/time.h"
#include "control/providers/containerinstance/internal.h"

void operation_add(struct change *change, const json_t *record, const char *id)
{
	char now[TIME_STR_MAX];
	json_t *operation =
		json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", json_get_str(record, "id", ""), "uid",
			json_get_str(record, "uid", ""), "name", json_get_str(record, "name", ""),
			"resourceGroup", json_get_str(record, "resourceGroup", ""), "startTime",
			time_format(time_now_ms(), 7, now));
	static const char *const counters[] = {"generation", "runs", "restarts"};

	for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
		json_object_set_new(
			operation, counters[i], json_integer(json_get_int(record, counters[i], 0)));
	change_put(change, STORE_ABSENT, operation, "op/%s", id);
	json_decref(operation);
}

void operation_close(struct change *change, const struct arm_services *services,
	const struct group *group, json_t *record)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_json_ json_t *operation = NULL;
	const char *last = json_get_str(group->record, "op", NULL);
	const char *before = json_get_str(group->record, "opBefore", NULL);
	_cleanup_free_ char *key = last ? xasprintf("op/%s", last) : NULL;

	if (before)
		change_delete(change, STORE_ANY, "op/%s", before);
	if (record)
		json_put_str(record, "opBefore", last);
	if (!last || !group_settled(group->record, group->status))
		return;
	if (!record) {
		change_delete(change, STORE_ANY, "%s", key);
		return;
	}
	if (store_get(services->store, key, NULL, &entry) < 0 ||
		json_parse(entry.value, entry.value_len, JSON_DEPTH_MAX, NULL, &operation) < 0)
		return;
	json_put_str(operation, "status", status_failed(group->status) ? "Failed" : "Succeeded");
	if (json_get_obj(group->status, "error"))
		json_object_set(operation, "error", json_get_obj(group->status, "error"));
	change_put(change, STORE_ANY, operation, "%s", key);
}

static char *operation_url(const struct arm_services *services, const char *kind, const char *id)
{
	return xasprintf(
		"%s/subscriptions/%s/providers/Microsoft.ContainerInstance/locations/%s/%s/%s?api-version=" OPERATION_VERSION,
		services->endpoint, services->subscription_id, services->region, kind, id);
}

void operation_headers(
	struct arm_response *response, const struct arm_services *services, const char *id)
{
	_cleanup_free_ char *url = operation_url(services, "operations", id);

	arm_response_header(response, "Azure-AsyncOperation", "%s", url);
	/* Without it az sleeps for 30 s between two polls. */
	arm_response_header(response, "Retry-After", "1");
}

void operation_location(
	struct arm_response *response, const struct arm_services *services, const char *id)
{
	_cleanup_free_ char *url = operation_url(services, "operationResults", id);

	arm_response_header(response, "Location", "%s", url);
}

/* --- state --- */

struct operation {
	json_t *json;
	json_t *status; /* of the group; may be NULL */
	const char *state;
};

static void operation_done(struct operation *operation)
{
	json_decref(operation->json);
	json_decref(operation->status);
}

/* An operation is over when the node has reported what it asked for. A group that was deleted or
 * stopped before that never got there. */
static const char *operation_state(
	const struct arm_services *services, const json_t *operation, const json_t *status)
{
	_cleanup_(group_done) struct group group = {0};
	const char *settled = json_get_str(operation, "status", NULL);

	if (settled)
		return settled; /* written when a later operation took over */
	if (group_find(services, json_get_str(operation, "resourceGroup", ""),
		    json_get_str(operation, "name", ""), NULL, &group) < 0)
		return "Pending";
	if (!group.record ||
		!str_eq(json_get_str(group.record, "uid", ""), json_get_str(operation, "uid", "")))
		return "Canceled";
	if (json_get_int(group.record, "generation", 0) > json_get_int(operation, "generation", 0))
		return "Canceled";
	if (!group_settled(operation, status))
		return "Pending";
	return status_failed(status) ? "Failed" : "Succeeded";
}

static int operation_load(struct arm_request *request, struct err *err, struct operation *ret)
{
	const struct arm_services *services = arm_services(request);
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_free_ char *id = str_lower_dup(arm_param(request, "operationId"));
	_cleanup_free_ char *key = xasprintf("op/%s", id);
	bool plausible =
		strlen(id) == UUID_STR_MAX - 1 && strspn(id, "0123456789abcdef-") == strlen(id);
	json_t *json = NULL;
	int r;

	r = plausible ? store_get(services->store, key, err, &entry) : -ENOENT;
	if (r == -ENOENT)
		return err_set(err, -ENOENT, "OperationNotFound",
			"The operation '%.80s' was not found.", arm_param(request, "operationId"));
	if (r == 0)
		r = json_parse(entry.value, entry.value_len, JSON_DEPTH_MAX, err, &json);
	if (r < 0)
		return r;
	ret->json = json;
	ret->status = status_load(services, json_get_str(json, "uid", ""), NULL);
	ret->state = operation_state(services, json, ret->status);
	return 0;
}

/* Everything that happened to the group and its containers, in the order of the containers. */
static json_t *all_events(const json_t *status)
{
	json_t *events = json_array();
	const json_t *container;
	size_t i;

	if (json_get_arr(status, "events"))
		json_array_extend(events, json_get_arr(status, "events"));
	json_array_foreach (json_get_arr(status, "containers"), i, container) {
		json_t *own = json_get_arr(json_get_obj(container, "instanceView"), "events");

		if (own)
			json_array_extend(events, own);
	}
	return events;
}

static json_t *operation_error(const struct operation *operation)
{
	const json_t *error = json_get_obj(operation->json, "error");

	if (!error)
		error = json_get_obj(operation->status, "error");
	return json_pack("{s:s, s:s}", "code",
		json_get_str(error, "code", "ResourceOperationFailure"), "message",
		json_get_str(error, "message", "The container group could not be deployed."));
}

int operations_get(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(operation_done) struct operation operation = {0};
	int r;

	r = operation_load(request, err, &operation);
	if (r < 0)
		return r;
	response->body = json_pack("{s:s, s:s, s:s, s:{s:o}}", "id",
		json_get_str(operation.json, "id", ""), "status", operation.state, "startTime",
		json_get_str(operation.json, "startTime", ""), "properties", "events",
		all_events(operation.status));
	if (str_eq(operation.state, "Failed"))
		json_object_set_new(response->body, "error", operation_error(&operation));
	else if (str_eq(operation.state, "Canceled"))
		json_object_set_new(response->body, "error",
			json_pack("{s:s, s:s}", "code", "OperationCanceled", "message",
				"The container group was stopped, changed or deleted before the operation had ended."));
	if (str_eq(operation.state, "Pending"))
		arm_response_header(response, "Retry-After", "1");
	return 0;
}

int operations_result(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(operation_done) struct operation operation = {0};
	int r;

	r = operation_load(request, err, &operation);
	if (r < 0)
		return r;
	response->status = 204;
	if (str_eq(operation.state, "Pending")) {
		response->status = 202;
		operation_location(
			response, arm_services(request), arm_param(request, "operationId"));
		arm_response_header(response, "Retry-After", "1");
	}
	return 0;
}

/* --- what can be done --- */

struct action {
	const char *name, *resource, *operation;
};

static const struct action actions[] = {
	{"register/action", "Container Instance", "Register the Subscription"},
	{"containerGroupProfiles/read", "Container Group Profiles", "Get Container Group Profiles"},
	{"containerGroupProfiles/write", "Container Group Profiles",
		"Create or Update Container Group Profiles"},
	{"containerGroupProfiles/delete", "Container Group Profiles",
		"Delete Container Group Profiles"},
	{"containerGroups/read", "Container Groups", "Get Container Groups"},
	{"containerGroups/write", "Container Groups", "Create or Update Container Groups"},
	{"containerGroups/delete", "Container Groups", "Delete Container Groups"},
	{"containerGroups/start/action", "Container Groups", "Start Container Groups"},
	{"containerGroups/stop/action", "Container Groups", "Stop Container Groups"},
	{"containerGroups/restart/action", "Container Groups", "Restart Container Groups"},
	{"containerGroups/outboundNetworkDependenciesEndpoints/read", "Container Groups",
		"Get Outbound Network Dependencies Endpoints"},
	{"containerGroups/containers/logs/read", "Container Logs", "Get Container Logs"},
	{"containerGroups/containers/exec/action", "Containers",
		"Execute a Command in a Container"},
	{"containerGroups/containers/attach/action", "Containers", "Attach to a Container"},
	{"locations/cachedImages/read", "Cached Images", "Get Cached Images"},
	{"locations/capabilities/read", "Capabilities", "Get Capabilities"},
	{"locations/operationResults/read", "Operation Results", "Get Operation Results"},
	{"locations/operations/read", "Operations", "Get Operations"},
	{"locations/usages/read", "Usages", "Get Usages"},
	{"operations/read", "Operations", "List Operations"},
	{"serviceassociationlinks/delete", "Subnets", "Delete Service Association Links"},
};

int operations_list(struct arm_request *request, struct arm_response *response, struct err *err)
{
	json_t *value = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		const struct action *action = &actions[i];
		_cleanup_free_ char *name =
			xasprintf("Microsoft.ContainerInstance/%s", action->name);
		_cleanup_free_ char *description = xasprintf("%s.", action->operation);

		json_array_append_new(
			value, json_pack("{s:s, s:{s:s, s:s, s:s, s:s}, s:s}", "name", name,
				       "display", "provider", "Microsoft Container Instance",
				       "resource", action->resource, "operation", action->operation,
				       "description", description, "origin", "User"));
	}
	response->body = json_pack("{s:o}", "value", value);
	return 0;
}
