/* From the node to the store: what waits is written together, and only the newest of each group. */
#include "control/schedule/internal.h"

#define BATCH_MAX 64
#define OPS_MAX (BATCH_MAX * 3 + 8)

/* One commit in the making. */
struct batch {
	json_t *statuses, *removed, *hello; /* taken out of the schedule */
	struct store_op ops[OPS_MAX];
	char *owned[OPS_MAX * 2];
	size_t n, n_owned;
};

static void batch_done(struct batch *batch)
{
	for (size_t i = 0; i < batch->n_owned; i++)
		free(batch->owned[i]);
	json_decref(batch->statuses);
	json_decref(batch->removed);
	json_decref(batch->hello);
}

static struct store_op *batch_add(
	struct batch *batch, int kind, const char *prefix, const char *name)
{
	struct store_op *op;
	char *key = xasprintf("%s%s", prefix, name);

	assert(batch->n < OPS_MAX);
	batch->owned[batch->n_owned++] = key;
	op = &batch->ops[batch->n++];
	*op = (struct store_op){.kind = kind, .key = key, .expect = STORE_ANY};
	return op;
}

static void batch_put(
	struct batch *batch, const char *prefix, const char *name, const json_t *value)
{
	struct store_op *op = batch_add(batch, STORE_PUT, prefix, name);
	char *text = json_text(value);

	batch->owned[batch->n_owned++] = text;
	op->value = text;
	op->value_len = strlen(text);
}

/* Moves at most BATCH_MAX members. */
static json_t *take_some(json_t *from)
{
	json_t *some = json_object();
	const char *key;
	json_t *value;

	json_object_foreach (from, key, value) {
		if (json_object_size(some) == BATCH_MAX)
			break;
		json_object_set(some, key, value);
	}
	json_object_foreach (some, key, value)
		json_object_del(from, key);
	return some;
}

/* Lock held. */
static void batch_take(struct schedule *schedule, struct batch *batch)
{
	batch->statuses = take_some(schedule->statuses);
	batch->removed = take_some(schedule->removed);
	batch->hello = take_ptr(schedule->hello);
}

/* Lock held. What couldn't be written waits again, unless something newer does. */
static void batch_put_back(struct schedule *schedule, const struct batch *batch)
{
	json_object_update_missing(schedule->statuses, batch->statuses);
	json_object_update_missing(schedule->removed, batch->removed);
	if (batch->hello && !schedule->hello)
		schedule->hello = json_incref(batch->hello);
}

static bool is_known(struct schedule *schedule, const char *uid)
{
	bool known;

	pthread_mutex_lock(&schedule->lock);
	known = json_object_get(schedule->keys, uid) != NULL;
	pthread_mutex_unlock(&schedule->lock);
	return known;
}

/* Nothing of the group is left on the node: now its address is free. */
static int add_removed(
	struct schedule *schedule, struct batch *batch, const char *uid, struct err *err)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_json_ json_t *gone = NULL;
	_cleanup_free_ char *key = xasprintf("gone/%s", uid);
	const char *ip;
	int r;

	r = store_get(schedule->store, key, err, &entry);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT && is_known(schedule, uid))
		return 0; /* the node lost it; it will be told again */
	batch_add(batch, STORE_DELETE, "cgstatus/", uid);
	if (r == -ENOENT)
		return 0;
	batch_add(batch, STORE_DELETE, "gone/", uid);
	if (json_parse(entry.value, entry.value_len, JSON_DEPTH_MAX, NULL, &gone) < 0)
		return 0;
	ip = json_get_str(gone, "ip", "");
	if (*ip)
		batch_add(batch, STORE_DELETE, "ip/", ip);
	return 0;
}

/* One machine: a node of another name is this machine before it was renamed. */
static int add_hello(struct schedule *schedule, struct batch *batch, struct err *err)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	const char *node = json_get_str(batch->hello, "node", "");
	int r;

	r = store_list(schedule->store, "node/", NULL, 4, err, &list);
	if (r < 0)
		return r;
	for (size_t i = 0; i < list.n; i++)
		if (!str_eq(list.entries[i].key + strlen("node/"), node))
			batch_add(batch, STORE_DELETE, "", list.entries[i].key);
	batch_put(batch, "node/", node, batch->hello);
	return 0;
}

static int batch_write(struct schedule *schedule, struct batch *batch, struct err *err)
{
	const char *uid;
	json_t *value;
	int r = 0;

	json_object_foreach (batch->removed, uid, value) {
		r = add_removed(schedule, batch, uid, err);
		if (r < 0)
			return r;
	}
	json_object_foreach (batch->statuses, uid, value) {
		if (!json_object_get(batch->removed, uid) && is_known(schedule, uid))
			batch_put(batch, "cgstatus/", uid, value);
	}
	if (batch->hello)
		r = add_hello(schedule, batch, err);
	if (r < 0 || batch->n == 0)
		return r;
	return store_commit(schedule->store, batch->ops, batch->n, err, NULL);
}

static bool anything(const struct schedule *schedule)
{
	return json_object_size(schedule->statuses) || json_object_size(schedule->removed) ||
	       schedule->hello;
}

/* Lock held. False when the store didn't take it. */
static bool write_some(struct schedule *schedule)
{
	_cleanup_(batch_done) struct batch batch = {0};
	struct err err = {0};
	int r;

	batch_take(schedule, &batch);
	pthread_mutex_unlock(&schedule->lock);
	r = batch_write(schedule, &batch, &err);
	if (r < 0)
		log_error("the node's reports can't be written: %s", err.message);
	pthread_mutex_lock(&schedule->lock);
	if (r < 0)
		batch_put_back(schedule, &batch);
	return r == 0;
}

void *reporter_run(void *arg)
{
	struct schedule *schedule = arg;
	struct timespec until;

	pthread_mutex_lock(&schedule->lock);
	while (!schedule->stop || anything(schedule)) {
		if (!anything(schedule)) {
			pthread_cond_wait(&schedule->wake, &schedule->lock);
			continue;
		}
		if (write_some(schedule))
			continue;
		if (schedule->stop)
			break;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += 1;
		while (!schedule->stop &&
			pthread_cond_timedwait(&schedule->wake, &schedule->lock, &until) == 0)
			;
	}
	pthread_mutex_unlock(&schedule->lock);
	return NULL;
}
