#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/file.h"
#include "base/time.h"
#include "node/agent/group.h"

#define STATE_BYTES_MAX (2 * LINK_FRAME_MAX) /* more than a spec can have */

void events_add(struct events *events, const char *type, const char *name, const char *fmt, ...)
{
	_cleanup_free_ char *message = NULL;
	int64_t now = time_now_ms();
	struct event *event;
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	message = str_utf8_clean(text, strlen(text));
	for (size_t i = 0; i < events->n; i++) {
		event = &events->list[i];
		if (str_eq(event->name, name) && str_eq(event->message, message)) {
			event->count++;
			event->last_ms = now;
			return;
		}
	}
	if (events->n == EVENTS_MAX) {
		free(events->list[0].message);
		memmove(&events->list[0], &events->list[1], (EVENTS_MAX - 1) * sizeof(*event));
		events->n--;
	}
	event = &events->list[events->n++];
	*event = (struct event){
		.count = 1, .first_ms = now, .last_ms = now, .message = take_ptr(message)};
	str_copy(event->name, sizeof(event->name), name);
	str_copy(event->type, sizeof(event->type), type);
}

void events_clear(struct events *events)
{
	for (size_t i = 0; i < events->n; i++)
		free(events->list[i].message);
	events->n = 0;
}

uint32_t group_uid_base(const struct group *group)
{
	return agent_config(group->agent)->uid_first + group->slot * IMAGE_STORE_IDS;
}

struct container *group_find_container(struct group *group, const char *name)
{
	for (size_t i = 0; i < group->n_containers; i++)
		if (str_eq(group->containers[i].name, name))
			return &group->containers[i];
	return NULL;
}

size_t group_first_container(const struct group *group)
{
	return group->spec ? group->spec->n_init : 0;
}

/* Containers keep what is known of them by name; those that the new spec hasn't are the caller's to
 * stop first. */
void group_set_spec(struct group *group, struct group_spec *spec)
{
	size_t n = spec ? spec->n_containers : 0;
	struct container *containers = xcalloc(n + 1, sizeof(*containers));

	for (size_t i = 0; i < n; i++) {
		struct container *old = group_find_container(group, spec->containers[i].name);

		if (old) {
			containers[i] = *old;
			old->events.n = 0;
		} else {
			str_copy(containers[i].name, sizeof(containers[i].name),
				spec->containers[i].name);
		}
		containers[i].init = i < spec->n_init;
	}
	for (size_t i = 0; i < group->n_containers; i++)
		events_clear(&group->containers[i].events);
	free(group->containers);
	group->containers = containers;
	group->n_containers = n;
	if (group->spec != spec)
		group_spec_free(group->spec);
	group->spec = spec;
}

bool group_knows_newer(const struct group *group, int64_t generation)
{
	const struct group_spec *newest = group->next_spec ? group->next_spec : group->spec;

	return group->seen && newest && generation < newest->generation;
}

void group_free(struct group *group)
{
	if (!group)
		return;
	for (size_t i = 0; i < group->n_containers; i++)
		events_clear(&group->containers[i].events);
	events_clear(&group->events);
	free(group->containers);
	group_spec_free(group->spec);
	group_spec_free(group->next_spec);
	fd_close(group->cancel_fd);
	fd_close(group->mount_cancel_fd);
	pthread_mutex_destroy(&group->lock);
	free(group->dir);
	free(group);
}

static json_t *events_json(const struct events *events)
{
	json_t *array = json_array();

	for (size_t i = 0; i < events->n; i++) {
		const struct event *e = &events->list[i];
		json_t *json = json_pack("{s:s, s:s, s:I, s:I, s:I}", "name", e->name, "type",
			e->type, "count", (json_int_t)e->count, "first", (json_int_t)e->first_ms,
			"last", (json_int_t)e->last_ms);

		json_put_str(json, "message", e->message);
		json_array_append_new(array, json);
	}
	return array;
}

static void events_load(struct events *events, const json_t *array)
{
	size_t i;
	json_t *json;

	events_clear(events);
	json_array_foreach (array, i, json) {
		struct event *e = &events->list[events->n];

		if (events->n == EVENTS_MAX)
			break;
		events->n++;
		*e = (struct event){.count = json_get_int(json, "count", 1),
			.first_ms = json_get_int(json, "first", 0),
			.last_ms = json_get_int(json, "last", 0),
			.message = xstrdup(json_get_str(json, "message", ""))};
		str_copy(e->name, sizeof(e->name), json_get_str(json, "name", ""));
		str_copy(e->type, sizeof(e->type), json_get_str(json, "type", ""));
	}
}

static json_t *view_json(const struct container_view *view)
{
	json_t *json;

	if (!view->known)
		return json_null();
	json = json_pack("{s:s, s:I, s:I, s:i}", "state", view->state, "start",
		(json_int_t)view->start_ms, "finish", (json_int_t)view->finish_ms, "exitCode",
		view->exit_code);
	json_put_str(json, "detail", view->detail);
	return json;
}

static void view_load(struct container_view *view, const json_t *json)
{
	*view = (struct container_view){.known = json_is_object(json)};
	if (!view->known)
		return;
	str_copy(view->state, sizeof(view->state), json_get_str(json, "state", ""));
	str_copy(view->detail, sizeof(view->detail), json_get_str(json, "detail", ""));
	view->start_ms = json_get_int(json, "start", 0);
	view->finish_ms = json_get_int(json, "finish", 0);
	view->exit_code = (int)json_get_int(json, "exitCode", 0);
}

static json_t *container_json(const struct container *c)
{
	json_t *json = json_pack("{s:s, s:i, s:i, s:I, s:b, s:I, s:I, s:s}", "name", c->name,
		"phase", (int)c->phase, "run", (int)c->run, "restartCount",
		(json_int_t)c->restart_count, "startedOnce", c->started_once, "nextStart",
		(json_int_t)c->next_start_ms, "backoff", (json_int_t)c->backoff_ms, "hash",
		c->hash);

	json_object_set_new(json, "pullBackoff", json_integer(c->pull_backoff_ms));
	json_object_set_new(json, "mountBackoff", json_integer(c->mount_backoff_ms));
	json_object_set_new(json, "restarted", json_boolean(c->restarted));
	json_object_set_new(json, "ready", json_boolean(c->ready));
	json_object_set_new(json, "unhealthy", json_boolean(c->unhealthy));

	json_object_set_new(json, "current", view_json(&c->current));
	json_object_set_new(json, "previous", view_json(&c->previous));
	json_object_set_new(json, "events", events_json(&c->events));
	return json;
}

static void container_load(struct container *c, const json_t *json)
{
	int64_t phase = json_get_int(json, "phase", CONTAINER_WAITING);

	c->phase = phase >= CONTAINER_WAITING && phase <= CONTAINER_TERMINATED
			   ? (enum container_phase)phase
			   : CONTAINER_WAITING;
	c->run = (unsigned)json_get_int(json, "run", 0);
	c->restart_count = json_get_int(json, "restartCount", 0);
	c->started_once = json_get_bool(json, "startedOnce", false);
	c->next_start_ms = json_get_int(json, "nextStart", 0);
	c->backoff_ms = json_get_int(json, "backoff", 0);
	c->pull_backoff_ms = json_get_int(json, "pullBackoff", 0);
	c->mount_backoff_ms = json_get_int(json, "mountBackoff", 0);
	c->restarted = json_get_bool(json, "restarted", false);
	c->ready = json_get_bool(json, "ready", false);
	c->unhealthy = json_get_bool(json, "unhealthy", false);
	str_copy(c->hash, sizeof(c->hash), json_get_str(json, "hash", ""));
	view_load(&c->current, json_object_get(json, "current"));
	view_load(&c->previous, json_object_get(json, "previous"));
	events_load(&c->events, json_get_arr(json, "events"));
}

static int write_json(
	const struct group *group, const char *name, const json_t *json, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", group->dir, name);
	_cleanup_free_ char *text = json_text(json);
	int r = file_write_replace(AT_FDCWD, path, text, strlen(text), 0600);

	if (r == -ENOSPC)
		return err_set(err, r, "NodeStorageFull",
			"The node's disk is full: the group's state could not be written. Free space and retry.");
	return r < 0 ? err_errno(err, r, "write %s of group %s", name, group->uid) : 0;
}

int group_save_state(struct group *group, struct err *err)
{
	_cleanup_json_ json_t *json =
		json_pack("{s:I, s:I, s:I, s:s, s:s}", "slot", (json_int_t)group->slot, "runs",
			(json_int_t)group->runs, "restarts", (json_int_t)group->restarts,
			"provisioning", group->provisioning, "failureCode", group->failure.code);
	json_t *containers = json_array();

	json_put_str(json, "failureMessage", group->failure.message);
	json_put_str(json, "initHash", group->init_hash);
	for (size_t i = 0; i < group->n_containers; i++)
		json_array_append_new(containers, container_json(&group->containers[i]));
	json_object_set_new(json, "containers", containers);
	json_object_set_new(json, "events", events_json(&group->events));
	return write_json(group, "state.json", json, err);
}

int group_save_spec(struct group *group, struct err *err)
{
	_cleanup_json_ json_t *json =
		json_pack("{s:I, s:I, s:O}", "generation", (json_int_t)group->spec->generation,
			"slot", (json_int_t)group->slot, "spec", group->spec->json);

	return write_json(group, "spec.json", json, err);
}

static int read_json(const struct group *group, const char *name, struct err *err, json_t **ret)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", group->dir, name);
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(AT_FDCWD, path, STATE_BYTES_MAX, &text, &len);

	if (r < 0)
		return r == -ENOENT ? r : err_errno(err, r, "read %s", path);
	r = json_parse(text, len, JSON_DEPTH_MAX, err, ret);
	return r < 0 ? err_wrap(err, "%s", path) : 0;
}

int group_load(struct group *group, struct err *err)
{
	_cleanup_json_ json_t *spec_json = NULL, *state = NULL;
	struct group_spec *spec;
	json_t *json;
	size_t i;
	int r;

	r = read_json(group, "spec.json", err, &spec_json);
	if (r < 0)
		return r;
	r = group_spec_parse(json_get_obj(spec_json, "spec"),
		json_get_int(spec_json, "generation", 0), err, &spec);
	if (r < 0)
		return r;
	group->slot = (uint32_t)json_get_int(spec_json, "slot", 0);
	group_set_spec(group, spec);
	r = read_json(group, "state.json", err, &state);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	group->runs = json_get_int(state, "runs", 0);
	group->restarts = json_get_int(state, "restarts", 0);
	str_copy(group->init_hash, sizeof(group->init_hash), json_get_str(state, "initHash", ""));
	str_copy(group->provisioning, sizeof(group->provisioning),
		json_get_str(state, "provisioning", "Pending"));
	if (json_get_str(state, "failureCode", "")[0])
		err_set(&group->failure, -EIO, json_get_str(state, "failureCode", ""), "%s",
			json_get_str(state, "failureMessage", ""));
	events_load(&group->events, json_get_arr(state, "events"));
	json_array_foreach (json_get_arr(state, "containers"), i, json) {
		struct container *c = group_find_container(group, json_get_str(json, "name", ""));

		if (c)
			container_load(c, json);
	}
	return 0;
}
