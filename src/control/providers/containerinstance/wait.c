/* Waiting for a node without a thread that waits. */
#include "base/time.h"
#include "control/providers/containerinstance/internal.h"

struct wait {
	enum wait_kind kind;
	json_t *record; /* as committed */
	int64_t revision;
	int64_t deadline_ms;
	int http_status;
	char op[64];
	bool woken;
};

static void wait_free(void *arg)
{
	struct wait *wait = arg;

	json_decref(wait->record);
	free(wait);
}

static int respond_put(struct arm_request *request, struct arm_response *response,
	const struct wait *wait, const json_t *status)
{
	bool settled = group_settled(wait->record, status);

	response->status = wait->http_status;
	response->body = group_present(wait->record, status, arm_api_version(request), true);
	/* A client that sees a failed provisioningState says nothing of why; one that polls prints
	 * the reason. */
	if (*wait->op && (!settled || status_failed(status)))
		operation_headers(response, arm_services(request), wait->op);
	return 0;
}

static int respond(struct arm_request *request, struct arm_response *response,
	const struct wait *wait, const json_t *status)
{
	bool settled = group_settled(wait->record, status);

	switch (wait->kind) {
	case WAIT_PUT:
		return respond_put(request, response, wait, status);
	case WAIT_START:
		response->status = settled && !status_failed(status) ? 204 : 202;
		if (response->status == 202) {
			operation_headers(response, arm_services(request), wait->op);
			operation_location(response, arm_services(request), wait->op);
		}
		return 0;
	case WAIT_STOP:
	case WAIT_RESTART:
		response->status = 204;
		return 0;
	}
	return 0;
}

/* Whether the group is still the one that was committed: without its status it may have been
 * deleted meanwhile. */
static bool still_there(struct arm_request *request, const struct wait *wait)
{
	_cleanup_(group_done) struct group group = {0};

	if (group_find(arm_services(request), json_get_str(wait->record, "resourceGroup", ""),
		    json_get_str(wait->record, "name", ""), NULL, &group) < 0)
		return true;
	return group.record &&
	       str_eq(json_get_str(group.record, "uid", ""), json_get_str(wait->record, "uid", ""));
}

static int wait_step(struct arm_request *request, struct arm_response *response, struct err *err)
{
	struct wait *wait = arm_request_state(request);
	const char *uid = json_get_str(wait->record, "uid", "");
	_cleanup_free_ char *key = xasprintf("cgstatus/%s", uid);
	int64_t revision = wait->revision;
	_cleanup_json_ json_t *status = status_load(arm_services(request), uid, &revision);

	if (group_settled(wait->record, status) || time_mono_ms() >= wait->deadline_ms)
		return respond(request, response, wait, status);
	if (!status && wait->woken && !still_there(request, wait))
		return err_set(err, -ENOENT, "ResourceNotFound",
			"The Resource '" GROUPS_TYPE
			"/%s' under resource group '%s' was deleted by another request.",
			json_get_str(wait->record, "name", ""),
			json_get_str(wait->record, "resourceGroup", ""));
	wait->woken = true;
	return arm_request_park(
		request, key, MAX(revision, wait->revision), wait->deadline_ms, wait_step);
}

int wait_settled(struct arm_request *request, struct arm_response *response, struct err *err,
	enum wait_kind kind, json_t *record, int64_t revision, const char *op, int http_status)
{
	struct wait *wait = xnew(struct wait);

	wait->kind = kind;
	wait->record = json_incref(record);
	wait->revision = revision;
	wait->deadline_ms = time_mono_ms() + arm_services(request)->put_wait_ms;
	wait->http_status = http_status;
	if (op)
		str_copy(wait->op, sizeof(wait->op), op);
	arm_request_set_state(request, wait, wait_free);
	return wait_step(request, response, err);
}
