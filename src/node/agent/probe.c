/* The round's side of probes: what they said becomes events, readiness, and the end of a run. */
#include "base/time.h"
#include "node/agent/prober.h"

#define COUNTED_MAX 100 /* failures that are counted one by one at a time */

static const char *const kinds[PROBE_KINDS] = {
	[PROBE_LIVENESS] = "Liveness", [PROBE_READINESS] = "Readiness"};

static void hear(struct group *group, struct container *c)
{
	struct probe_news news[PROBE_KINDS];

	pthread_mutex_lock(&group->lock);
	memcpy(news, c->news, sizeof(news));
	memset(c->news, 0, sizeof(c->news));
	pthread_mutex_unlock(&group->lock);
	if (c->phase != CONTAINER_RUNNING)
		return;
	for (size_t i = 0; i < PROBE_KINDS; i++)
		for (unsigned n = 0; n < MIN(news[i].failures, COUNTED_MAX); n++)
			events_add(&c->events, "Warning", "Unhealthy", "%s probe failed: %s",
				kinds[i], news[i].words);
	if (news[PROBE_READINESS].turned)
		c->ready = news[PROBE_READINESS].passing;
	if (news[PROBE_LIVENESS].turned && !news[PROBE_LIVENESS].passing && !c->unhealthy)
		container_end_unhealthy(group, c);
}

void probes_hear(struct group *group)
{
	for (size_t i = 0; i < group->n_containers; i++) {
		hear(group, &group->containers[i]);
		container_press(group, &group->containers[i]);
	}
}

static void set_on(struct group *group, struct container *c, const struct container_spec *spec)
{
	if (c->phase != CONTAINER_RUNNING || c->unhealthy || c->probed_run == c->run)
		return;
	for (size_t kind = 0; kind < PROBE_KINDS; kind++)
		if (spec->probes[kind]) {
			prober_add(group, c, (enum probe_kind)kind, spec->probes[kind],
				c->current.start_ms);
			c->probed_run = c->run;
		}
}

void probes_end(struct group *group, struct container *c)
{
	if (c->probed_run)
		prober_remove(group, c->name, c->probed_run);
	c->probed_run = 0;
}

void probes_follow(struct group *group)
{
	for (size_t i = 0; i < group->n_containers; i++) {
		struct container *c = &group->containers[i];

		if (c->phase != CONTAINER_RUNNING || c->probed_run != c->run)
			probes_end(group, c);
		if (!group->spec->stopped)
			set_on(group, c, &group->spec->containers[i]);
	}
}

/* A container that has ended for good has nothing to be ready for. */
bool group_is_ready(const struct group *group)
{
	if (group_init_phase(group, NULL) != INIT_DONE)
		return false;
	for (size_t i = group_first_container(group); i < group->n_containers; i++) {
		const struct container *c = &group->containers[i];

		if (!group->spec->containers[i].probes[PROBE_READINESS] ||
			c->phase == CONTAINER_TERMINATED)
			continue;
		if (c->phase != CONTAINER_RUNNING || !c->ready)
			return false;
	}
	return true;
}
