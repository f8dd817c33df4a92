/* From the store to the node: one thread, so that a node hears of changes in the order in which
 * they were made. */
#include "control/schedule/internal.h"

static void change_free(struct change *change)
{
	free(change->key);
	free(change->value);
	free(change);
}

static void queue(struct schedule *schedule, struct change *change)
{
	*schedule->changes_end = change;
	schedule->changes_end = &change->next;
	pthread_cond_broadcast(&schedule->wake);
}

static void on_change(const struct store_event *event, void *arg)
{
	struct schedule *schedule = arg;
	struct change *change;

	if (!str_starts(event->key, "cg/") && !str_starts(event->key, "gone/"))
		return;
	change = xnew(struct change);
	change->key = xstrdup(event->key);
	change->value = event->value ? xstrndup(event->value, event->value_len) : NULL;
	change->value_len = event->value_len;
	change->revision = event->revision;
	pthread_mutex_lock(&schedule->lock);
	queue(schedule, change);
	pthread_mutex_unlock(&schedule->lock);
}

void sender_queue_sync(struct schedule *schedule)
{
	struct change *change = xnew(struct change);

	change->sync = true;
	queue(schedule, change);
}

/* --- frames --- */

/* A node that isn't there hears everything when it comes: nothing is lost with a frame. */
static void send_frame(struct schedule *schedule, json_t *frame)
{
	char node[sizeof(schedule->node)];

	pthread_mutex_lock(&schedule->lock);
	memcpy(node, schedule->node, sizeof(node));
	pthread_mutex_unlock(&schedule->lock);
	if (!*node || !schedule->link) {
		json_decref(frame);
		return;
	}
	link_server_send(schedule->link, node, frame);
}

static void send_group(struct schedule *schedule, const json_t *record)
{
	send_frame(schedule, json_pack("{s:s, s:s, s:I, s:o}", "type", "group", "uid",
				     json_get_str(record, "uid", ""), "generation",
				     (json_int_t)json_get_int(record, "generation", 0), "spec",
				     schedule->spec(record, schedule->spec_arg)));
}

static void send_remove(struct schedule *schedule, const char *uid)
{
	send_frame(schedule, json_pack("{s:s, s:s}", "type", "remove", "uid", uid));
}

/* --- what groups there are --- */

static void remember(struct schedule *schedule, const char *key, const json_t *record)
{
	const char *uid = json_get_str(record, "uid", "");
	const char *before;

	pthread_mutex_lock(&schedule->lock);
	before = json_get_str(schedule->uids, key, NULL);
	if (before)
		json_object_del(schedule->keys, before);
	if (record) {
		json_object_set_new(schedule->uids, key, json_string(uid));
		json_object_set_new(schedule->keys, uid, json_string(key));
	} else {
		json_object_del(schedule->uids, key);
	}
	pthread_mutex_unlock(&schedule->lock);
}

static json_t *parse_record(const char *key, const char *value, size_t len)
{
	struct err err = {0};
	json_t *record = NULL;

	if (json_parse(value, len, JSON_DEPTH_MAX * 2, &err, &record) < 0)
		log_error("%s in the store can't be read: %s", key, err.message);
	return record;
}

/* --- changes --- */

static void handle_change(struct schedule *schedule, const struct change *change)
{
	_cleanup_json_ json_t *record = NULL;

	if (str_starts(change->key, "gone/")) {
		if (change->value)
			send_remove(schedule, change->key + strlen("gone/"));
		return;
	}
	if (change->value) {
		record = parse_record(change->key, change->value, change->value_len);
		if (!record)
			return;
	}
	remember(schedule, change->key, record);
	/* The node was told of a newer state already. */
	if (record && change->revision > schedule->synced)
		send_group(schedule, record);
}

static int send_all(struct schedule *schedule, struct err *err)
{
	_cleanup_(store_list_done) struct store_list groups = {0};
	_cleanup_(store_list_done) struct store_list gone = {0};
	int r;

	r = store_list(schedule->store, "cg/", NULL, 0, err, &groups);
	if (r == 0)
		r = store_list(schedule->store, "gone/", NULL, 0, err, &gone);
	if (r < 0)
		return r;
	for (size_t i = 0; i < groups.n; i++) {
		const struct store_entry *entry = &groups.entries[i];
		_cleanup_json_ json_t *record =
			parse_record(entry->key, entry->value, entry->value_len);

		if (!record)
			continue;
		remember(schedule, entry->key, record);
		send_group(schedule, record);
	}
	for (size_t i = 0; i < gone.n; i++)
		send_remove(schedule, gone.entries[i].key + strlen("gone/"));
	send_frame(schedule, json_pack("{s:s}", "type", "synced"));
	schedule->synced = groups.revision;
	return 0;
}

static bool wait_a_second(struct schedule *schedule)
{
	struct timespec until;
	bool stop;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1;
	pthread_mutex_lock(&schedule->lock);
	while (!schedule->stop &&
		pthread_cond_timedwait(&schedule->wake, &schedule->lock, &until) == 0)
		;
	stop = schedule->stop;
	pthread_mutex_unlock(&schedule->lock);
	return !stop;
}

static void handle_sync(struct schedule *schedule)
{
	struct err err = {0};

	while (send_all(schedule, &err) < 0) {
		log_error("the node can't be told what to run: %s", err.message);
		if (!wait_a_second(schedule))
			return;
	}
}

void *sender_run(void *arg)
{
	struct schedule *schedule = arg;

	pthread_mutex_lock(&schedule->lock);
	while (!schedule->stop) {
		struct change *change = schedule->changes;

		if (!change) {
			pthread_cond_wait(&schedule->wake, &schedule->lock);
			continue;
		}
		schedule->changes = change->next;
		if (!schedule->changes)
			schedule->changes_end = &schedule->changes;
		pthread_mutex_unlock(&schedule->lock);
		if (change->sync)
			handle_sync(schedule);
		else
			handle_change(schedule, change);
		change_free(change);
		pthread_mutex_lock(&schedule->lock);
	}
	pthread_mutex_unlock(&schedule->lock);
	return NULL;
}

/* What exists is known before a node can report on it. */
int sender_start(struct schedule *schedule, struct err *err)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	int r;

	r = store_list(schedule->store, "cg/", NULL, 0, err, &list);
	if (r < 0)
		return r;
	for (size_t i = 0; i < list.n; i++) {
		const struct store_entry *entry = &list.entries[i];
		_cleanup_json_ json_t *record =
			parse_record(entry->key, entry->value, entry->value_len);

		if (record)
			remember(schedule, entry->key, record);
	}
	/* Everything and not two prefixes: a group's creation and its end must come in order. */
	return store_watch(
		schedule->store, "", list.revision, on_change, schedule, err, &schedule->watch);
}

void sender_drop(struct schedule *schedule)
{
	while (schedule->changes) {
		struct change *change = schedule->changes;

		schedule->changes = change->next;
		change_free(change);
	}
}
