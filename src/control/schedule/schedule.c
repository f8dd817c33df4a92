#include "control/schedule/internal.h"

/* --- what the link says; on the loop's thread, never blocking --- */

static void node_up(const char *node, const json_t *hello, void *arg)
{
	struct schedule *schedule = arg;

	pthread_mutex_lock(&schedule->lock);
	if (*schedule->node && !str_eq(schedule->node, node)) {
		log_error("the node %s is not used: %s runs everything", node, schedule->node);
	} else if (str_copy(schedule->node, sizeof(schedule->node), node) < 0) {
		log_error("the name of the node %.32s… is too long", node);
	} else {
		json_decref(schedule->hello);
		schedule->hello = json_deep_copy(hello);
		json_object_del(schedule->hello, "type");
		json_put_str(schedule->hello, "node", node);
		schedule->connections++;
		sender_queue_sync(schedule);
	}
	pthread_mutex_unlock(&schedule->lock);
}

static void node_down(const char *node, void *arg)
{
	struct schedule *schedule = arg;

	pthread_mutex_lock(&schedule->lock);
	/* A node that redials may be up again before its old connection is known to be dead. */
	if (str_eq(schedule->node, node) && --schedule->connections == 0)
		schedule->node[0] = '\0';
	pthread_mutex_unlock(&schedule->lock);
}

/* A uid becomes part of keys of the store. */
static bool uid_plausible(const char *uid)
{
	size_t n = strlen(uid);

	return n > 0 && n <= 64 && strspn(uid, "0123456789abcdefghijklmnopqrstuvwxyz-") == n;
}

static void message(const char *node, const char *type, const json_t *frame, void *arg)
{
	struct schedule *schedule = arg;
	const char *uid = json_get_str(frame, "uid", "");
	bool status = str_eq(type, "status");

	if ((!status && !str_eq(type, "removed")) || !uid_plausible(uid))
		return;
	pthread_mutex_lock(&schedule->lock);
	if (!str_eq(schedule->node, node)) {
		/* not the one that runs anything */
	} else if (status) {
		json_object_set_new(
			schedule->statuses, uid, json_deep_copy(json_get_obj(frame, "status")));
		json_object_del(schedule->removed, uid);
	} else {
		json_object_set_new(schedule->removed, uid, json_true());
		json_object_del(schedule->statuses, uid);
	}
	pthread_cond_broadcast(&schedule->wake);
	pthread_mutex_unlock(&schedule->lock);
}

const struct link_server_ops schedule_link_ops = {
	.node_up = node_up, .node_down = node_down, .message = message};

/* --- life --- */

static void schedule_release(struct schedule *schedule)
{
	sender_drop(schedule);
	json_decref(schedule->keys);
	json_decref(schedule->uids);
	json_decref(schedule->statuses);
	json_decref(schedule->removed);
	json_decref(schedule->hello);
	pthread_cond_destroy(&schedule->wake);
	pthread_mutex_destroy(&schedule->lock);
	free(schedule);
}

int schedule_new(struct store *store, schedule_spec_fn spec, void *arg, struct err *err,
	struct schedule **ret)
{
	struct schedule *schedule = xnew(struct schedule);
	int r;

	schedule->store = store;
	schedule->spec = spec;
	schedule->spec_arg = arg;
	pthread_mutex_init(&schedule->lock, NULL);
	pthread_cond_init(&schedule->wake, NULL);
	schedule->changes_end = &schedule->changes;
	schedule->keys = json_object();
	schedule->uids = json_object();
	schedule->statuses = json_object();
	schedule->removed = json_object();
	r = sender_start(schedule, err);
	if (r < 0) {
		schedule_release(schedule);
		return r;
	}
	if (pthread_create(&schedule->sender, NULL, sender_run, schedule) != 0 ||
		pthread_create(&schedule->reporter, NULL, reporter_run, schedule) != 0)
		abort();
	*ret = schedule;
	return 0;
}

void schedule_attach(struct schedule *schedule, struct link_server *link)
{
	pthread_mutex_lock(&schedule->lock);
	schedule->link = link;
	pthread_mutex_unlock(&schedule->lock);
}

void schedule_stop(struct schedule *schedule)
{
	store_unwatch(schedule->store, take_ptr(schedule->watch));
	pthread_mutex_lock(&schedule->lock);
	schedule->stop = true;
	pthread_cond_broadcast(&schedule->wake);
	pthread_mutex_unlock(&schedule->lock);
	pthread_join(schedule->sender, NULL);
	pthread_join(schedule->reporter, NULL);
	schedule->stopped = true;
}

void schedule_free(struct schedule *schedule)
{
	if (!schedule)
		return;
	if (!schedule->stopped)
		schedule_stop(schedule);
	schedule_release(schedule);
}
