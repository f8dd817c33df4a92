/* Start, stop and restart; and what a group answers without a node. */
#include "base/random.h"
#include "control/providers/containerinstance/internal.h"

struct action {
	struct group group;
	json_t *record; /* the changed one; NULL: there is nothing to do */
	char op[UUID_STR_MAX];
};

static void action_done(struct action *action)
{
	group_done(&action->group);
	json_decref(action->record);
}

static void add_to(json_t *record, const char *counter)
{
	json_object_set_new(record, counter, json_integer(json_get_int(record, counter, 0) + 1));
}

static bool is_stopped(const json_t *record)
{
	return str_eq(json_get_str(record, "desired", ""), "stopped");
}

/* Fills in what changes. 0, or the group isn't in a state for it. */
typedef int (*action_fn)(struct action *action, struct err *err);

static int start_action(struct action *action, struct err *err)
{
	const struct group *group = &action->group;
	bool current = status_is_current(group->record, group->status);
	bool failed = current && status_failed(group->status);

	if (!group_ended(group->record, group->status) && !failed) {
		if (group_settled(group->record, group->status))
			return 0; /* runs already */
		return err_transitioning(err, json_get_str(group->record, "name", ""));
	}
	action->record = json_deep_copy(group->record);
	json_put_str(action->record, "desired", "running");
	add_to(action->record, "runs");
	return 0;
}

/* Allowed at any time: it is the way out of a deployment that doesn't end. */
static int stop_action(struct action *action, struct err *err)
{
	const struct group *group = &action->group;

	if (is_stopped(group->record))
		return 0;
	if (group_settled(group->record, group->status) &&
		group_ended(group->record, group->status))
		return 0; /* has ended by itself */
	action->record = json_deep_copy(group->record);
	json_put_str(action->record, "desired", "stopped");
	return 0;
}

static int restart_action(struct action *action, struct err *err)
{
	const struct group *group = &action->group;

	if (!is_stopped(group->record) && !group_settled(group->record, group->status))
		return err_transitioning(err, json_get_str(group->record, "name", ""));
	action->record = json_deep_copy(group->record);
	if (group_ended(group->record, group->status)) {
		json_put_str(action->record, "desired", "running");
		add_to(action->record, "runs");
	} else {
		add_to(action->record, "restarts");
	}
	return 0;
}

static int action_attempt(struct arm_request *request, struct arm_response *response,
	enum wait_kind kind, action_fn fn, struct err *err)
{
	const struct arm_services *services = arm_services(request);
	_cleanup_(action_done) struct action action = {0};
	_cleanup_(change_done) struct change change = {0};
	int64_t revision = 0;
	int r;

	r = group_load(services, arm_param(request, "resourceGroupName"),
		arm_param(request, "containerGroupName"), err, &action.group);
	if (r == 0)
		r = fn(&action, err);
	if (r < 0)
		return r;
	if (!action.record)
		return wait_settled(request, response, err, kind, action.group.record,
			action.group.revision, json_get_str(action.group.record, "op", ""), 204);
	if (!is_stopped(action.record)) {
		r = store_check_room(services->store, err);
		if (r == 0)
			r = references_resolve(services, action.record, err);
		if (r < 0)
			return r;
	}
	add_to(action.record, "generation");
	random_uuid(action.op);
	operation_close(&change, services, &action.group, action.record);
	json_put_str(action.record, "op", action.op);
	operation_add(&change, action.record, action.op);
	change_put(&change, action.group.revision, action.record, "%s", action.group.key);
	r = quota_commit(services, &change, action.group.record, action.record, err, &revision);
	if (r < 0)
		return r;
	return wait_settled(request, response, err, kind, action.record, revision, action.op, 204);
}

static int run_action(struct arm_request *request, struct arm_response *response,
	enum wait_kind kind, action_fn fn, struct err *err)
{
	int r = 0;

	for (int i = 0; i < 8; i++) {
		r = action_attempt(request, response, kind, fn, err);
		if (r != -EAGAIN)
			return r;
	}
	return err_transitioning(err, arm_param(request, "containerGroupName"));
}

int groups_start(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return run_action(request, response, WAIT_START, start_action, err);
}

int groups_stop(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return run_action(request, response, WAIT_STOP, stop_action, err);
}

int groups_restart(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return run_action(request, response, WAIT_RESTART, restart_action, err);
}

/* Groups depend on nothing of the platform's. */
int groups_outbound(struct arm_request *request, struct arm_response *response, struct err *err)
{
	_cleanup_(group_done) struct group group = {0};
	int r;

	r = group_load(arm_services(request), arm_param(request, "resourceGroupName"),
		arm_param(request, "containerGroupName"), err, &group);
	if (r == 0)
		response->body = json_array();
	return r;
}
