/*
 * Init containers: one after the other, each to its end, before the containers start; again at each
 * start and restart of the group, not after the crash of a container. They are containers like the
 * others, at the front of the list: what is written here is only the order.
 */
#include "node/agent/group.h"

static bool has_succeeded(const struct container *c)
{
	return c->phase == CONTAINER_TERMINATED && c->current.exit_code == 0;
}

enum init_phase group_init_phase(const struct group *group, size_t *ret_current)
{
	size_t n = group_first_container(group);

	for (size_t i = 0; i < n; i++) {
		const struct container *c = &group->containers[i];

		if (has_succeeded(c))
			continue;
		if (ret_current)
			*ret_current = i;
		return c->phase == CONTAINER_TERMINATED ? INIT_FAILED : INIT_RUNNING;
	}
	return INIT_DONE;
}

void init_describe_failure(const struct group *group, struct err *ret)
{
	const struct container *c;
	size_t i;

	if (group_init_phase(group, &i) != INIT_FAILED)
		return;
	c = &group->containers[i];
	err_set(ret, -EIO, "InitContainerFailed",
		"The init container '%s' ended with exit code %d (%s), so the group's containers were not started. Its log says more; the restart policy 'Never' doesn't try again.",
		c->name, c->current.exit_code, c->current.detail);
}
