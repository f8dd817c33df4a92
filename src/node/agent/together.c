/*
 * Several containers of a group at once. Up to sixty are started or stopped together, and most of
 * that time is spent waiting for crun, conmon and the kernel: those steps that touch nothing but
 * one container are done on other threads, all else by the round itself.
 */
#include "base/time.h"
#include "node/agent/group.h"

/* Whether a step with it may wait for the server of a share. */
static bool mounts_share(const struct group *group, const struct container *c)
{
	const struct container_spec *spec = &group->spec->containers[c - group->containers];

	for (size_t i = 0; i < spec->n_mounts; i++)
		if (spec->mounts[i].volume->kind == VOLUME_AZURE_FILE)
			return true;
	return false;
}

/* --- start --- */

struct start {
	struct group *group;
	struct container *c;
	const struct container_spec *spec;
	struct image *image; /* owned until it is made */
	int r;
	struct err err;
};

/* All that a round has begun to start; the first n_made of them are done with. */
struct starts {
	struct group *group;
	struct start *list;
	size_t n, n_made;
};

static void starts_done(struct starts *starts)
{
	for (size_t i = starts->n_made; i < starts->n; i++)
		image_free(starts->list[i].image);
	free(starts->list);
}

/* When it is due; a clock that was put back must not make it wait for longer than was meant. */
static bool is_due(struct group *group, const struct container *c)
{
	int64_t now = time_now_ms();

	if (c->phase == CONTAINER_STARTING)
		return true;
	if (c->phase != CONTAINER_WAITING)
		return false;
	if (c->next_start_ms <= now ||
		c->next_start_ms > now + agent_config(group->agent)->backoff_max_ms)
		return true;
	agent_wake_at(group, c->next_start_ms);
	return false;
}

static void note_failure(struct group *group, struct container *c, const struct err *err)
{
	group->failure = *err;
	/* crun's own sentence doesn't say which container it is about; an image's names the
	 * image. */
	if (str_eq(err->code, "ContainerCreateFailed"))
		err_set(&group->failure, err->r, err->code,
			"The container '%s' could not be started: %s", c->name, err->message);
	if (c->phase == CONTAINER_WAITING)
		agent_wake_at(group, c->next_start_ms);
}

static void make(void *thing)
{
	struct start *start = thing;

	if (start->r == 0)
		start->r = container_make(
			start->group, start->c, start->spec, start->image, &start->err);
}

static void take_note(struct start *start)
{
	struct err *err = &start->err;

	image_free(take_ptr(start->image));
	if (start->r == -ENOENT && str_eq(err->code, "InaccessibleImage")) {
		*err = (struct err){0};
		start->r = container_make_again(start->group, start->c, start->spec, err);
	}
	if (start->r == 0)
		return;
	container_make_failed(start->group, start->c, start->r, err);
	if (start->r != -ECANCELED)
		note_failure(start->group, start->c, err);
}

/* Makes what is prepared. */
static void make_all(struct starts *starts)
{
	struct group *group = starts->group;
	struct start *first = &starts->list[starts->n_made];
	size_t n = starts->n - starts->n_made;
	struct err err = {0};
	bool slow = false;
	int r;

	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++) {
		first[i].r = container_new_run(group, first[i].c, first[i].spec, &first[i].err);
		slow = slow || mounts_share(group, first[i].c);
	}
	r = group_save_state(group, &err);
	for (size_t i = 0; i < n; i++)
		if (r < 0 && first[i].r == 0) {
			first[i].r = r;
			first[i].err = err;
		}
	agent_do_all(group->agent, slow, make, first, sizeof(*first), n);
	starts->n_made = starts->n;
	for (size_t i = 0; i < n; i++)
		take_note(&first[i]);
}

static bool has_image(const struct starts *starts, const char *image)
{
	for (size_t i = 0; i < starts->n; i++)
		if (str_eq(starts->list[i].spec->image, image))
			return true;
	return false;
}

/* Whether preparing it asks others, who may take their time: what is ready isn't kept waiting. */
static bool asks_others(
	const struct starts *starts, const struct container_spec *spec, bool pull_always)
{
	struct image *image = NULL;
	bool asks = pull_always;

	if (!asks && !has_image(starts, spec->image)) {
		asks = image_get(agent_config(starts->group->agent)->images, spec->image, NULL,
			       &image) < 0;
		image_free(image);
	}
	return asks;
}

/* False when something came in between. */
static bool prepare(struct starts *starts, struct container *c, const struct container_spec *spec)
{
	struct group *group = starts->group;
	/* A tag is looked up once for all that begin now: they get the same image. */
	bool pull_always =
		group->spec->always_pull && !c->started_once && !has_image(starts, spec->image);
	struct start *start = &starts->list[starts->n];
	struct err err = {0};
	int r;

	if (asks_others(starts, spec, pull_always))
		make_all(starts);
	*start = (struct start){.group = group, .c = c, .spec = spec};
	r = container_prepare(group, c, spec, pull_always, &err, &start->image);
	if (r == 0)
		starts->n++;
	else if (r != -ECANCELED && r != -EINPROGRESS)
		note_failure(group, c, &err);
	return r != -ECANCELED;
}

bool containers_start(struct group *group, size_t first, size_t end)
{
	_cleanup_(starts_done) struct starts starts = {.group = group};

	starts.list = xcalloc(end - first, sizeof(*starts.list));
	for (size_t i = first; i < end; i++) {
		struct container *c = &group->containers[i];

		if (!is_due(group, c))
			continue;
		if (group_is_interrupted(group) ||
			!prepare(&starts, c, &group->spec->containers[i]))
			return false;
	}
	make_all(&starts);
	return true;
}

/* --- stop --- */

struct stop {
	struct group *group;
	struct container *c;
};

static void end(void *thing)
{
	const struct stop *stop = thing;

	container_end(stop->group, stop->c);
}

static void clean(void *thing)
{
	const struct stop *stop = thing;

	if (stop->c->run > 0)
		container_clean(stop->group, stop->c);
}

void containers_stop(struct group *group, container_test test, const void *arg, const char *why)
{
	_cleanup_free_ struct stop *stops = xcalloc(group->n_containers + 1, sizeof(*stops));
	int64_t deadline = time_mono_ms() + agent_config(group->agent)->stop_grace_ms;
	struct err err = {0};
	bool ran = false, slow = false;
	size_t n = 0;

	for (size_t i = 0; i < group->n_containers; i++)
		if (!test || test(group, i, arg))
			stops[n++] = (struct stop){group, &group->containers[i]};
	for (size_t i = 0; i < n; i++) {
		container_ask_stop(group, stops[i].c, why);
		slow = slow || mounts_share(group, stops[i].c);
	}
	for (size_t i = 0; i < n; i++)
		container_await_end(group, stops[i].c, deadline);
	agent_do_all(group->agent, slow, end, stops, sizeof(*stops), n);
	for (size_t i = 0; i < n; i++)
		ran = ran || stops[i].c->run > 0;
	/* How they ended is known only until the runs are removed. */
	if (ran && group_save_state(group, &err) < 0)
		log_error("group %s: %s", group->uid, err.message);
	agent_do_all(group->agent, slow, clean, stops, sizeof(*stops), n);
}
