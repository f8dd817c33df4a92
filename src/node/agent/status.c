/* The status of a group, shaped as the API shows it (Microsoft.ContainerInstance containerGroups,
 * instanceView). */
#include "base/time.h"
#include "node/agent/group.h"

static void put_time(json_t *json, const char *key, int64_t realtime_ms, int digits)
{
	char text[TIME_STR_MAX];

	if (realtime_ms > 0)
		json_object_set_new(json, key, json_string(time_format(realtime_ms, digits, text)));
}

static json_t *events_status(const struct events *events)
{
	json_t *array = json_array();

	for (size_t i = 0; i < events->n; i++) {
		const struct event *e = &events->list[i];
		json_t *json = json_pack("{s:I}", "count", (json_int_t)e->count);

		put_time(json, "firstTimestamp", e->first_ms, 0);
		put_time(json, "lastTimestamp", e->last_ms, 0);
		json_object_set_new(json, "name", json_string(e->name));
		json_put_str(json, "message", e->message);
		json_object_set_new(json, "type", json_string(e->type));
		json_array_append_new(array, json);
	}
	return array;
}

static json_t *view_status(const struct container_view *view)
{
	json_t *json = json_pack("{s:s}", "state", view->state);

	put_time(json, "startTime", view->start_ms, 3);
	if (str_eq(view->state, "Terminated")) {
		json_object_set_new(json, "exitCode", json_integer(view->exit_code));
		put_time(json, "finishTime", view->finish_ms, 3);
	}
	json_put_str(json, "detailStatus", view->detail);
	return json;
}

static json_t *container_status(const struct container *c)
{
	json_t *view = json_pack("{s:I}", "restartCount", (json_int_t)c->restart_count);

	if (c->current.known)
		json_object_set_new(view, "currentState", view_status(&c->current));
	if (c->previous.known)
		json_object_set_new(view, "previousState", view_status(&c->previous));
	json_object_set_new(view, "events", events_status(&c->events));
	return json_pack("{s:s, s:o}", "name", c->name, "instanceView", view);
}

/* Running until every container has ended for good; then Succeeded, or Failed when one didn't end
 * with 0. */
static const char *group_state(const struct group *group)
{
	enum init_phase init = group_init_phase(group, NULL);
	bool ended = true, failed = false, started = true;

	if (group->spec->stopped)
		return group->sandbox_up ? "Running" : "Stopped";
	if (init != INIT_DONE)
		return init == INIT_FAILED ? "Failed" : "Pending";
	for (size_t i = group_first_container(group); i < group->n_containers; i++) {
		const struct container *c = &group->containers[i];

		/* One that could not be started and isn't tried again leaves the others as they
		 * are. */
		started = started && (c->started_once || c->phase == CONTAINER_TERMINATED);
		ended = ended && c->phase == CONTAINER_TERMINATED;
		failed = failed || (c->phase == CONTAINER_TERMINATED && c->current.exit_code != 0);
	}
	if (ended)
		return failed ? "Failed" : "Succeeded";
	return started ? "Running" : "Pending";
}

json_t *group_status(const struct group *group)
{
	json_t *containers = json_array(), *init = json_array();
	json_t *status;

	for (size_t i = 0; i < group->n_containers; i++)
		json_array_append_new(group->containers[i].init ? init : containers,
			container_status(&group->containers[i]));
	status = json_pack("{s:I, s:I, s:I, s:s, s:s, s:o, s:o, s:o}", "generation",
		(json_int_t)group->spec->generation, "runs", (json_int_t)group->runs, "restarts",
		(json_int_t)group->restarts, "provisioningState", group->provisioning, "state",
		group_state(group), "events", events_status(&group->events), "initContainers", init,
		"containers", containers);
	if (err_is_set(&group->failure)) {
		json_t *error = json_pack("{s:s}", "code", group->failure.code);

		json_put_str(error, "message", group->failure.message);
		json_object_set_new(status, "error", error);
	}
	return status;
}
