/*
 * Volumes that wait for a server (azureFile, gitRepo) come up on a thread of their own, one at a
 * time in a group: the round goes on with the containers that don't mount them, notices ends and
 * probes, and answers a stop. The round starts a mounting, is woken at its end, tells the
 * containers that ask how it went, and ends it before it takes up another spec or removes volumes.
 * So what a mounting borrows of the group's spec outlives it.
 */
#include <semaphore.h>
#include <stdatomic.h>

#include "node/agent/volumes.h"

struct mounting {
	struct group *group;
	const struct volume_spec *volume;
	sem_t ended;
	atomic_bool done; /* r and err are valid */
	int r;
	struct err err;
	bool told;	 /* how it failed, to a container */
	bool others_ask; /* a container asked for what has to wait until this is over */
};

static void mounting_job(void *arg)
{
	struct mounting *mounting = arg;
	struct group *group = mounting->group;
	struct volume_group vg = group_volume_group(group);

	mounting->r = volume_up(agent_config(group->agent)->volumes, &vg, mounting->volume,
		group->mount_cancel_fd, &mounting->err);
	atomic_store(&mounting->done, true);
	group_kick(group);
	sem_post(&mounting->ended);
}

static void mounting_free(struct group *group)
{
	struct mounting *mounting = take_ptr(group->mounting);

	while (sem_wait(&mounting->ended) < 0 && errno == EINTR)
		;
	sem_destroy(&mounting->ended);
	free(mounting);
}

/* What was said before is drained first: whoever interrupts from now on is heard. */
static int mounting_start(struct group *group, const struct volume_spec *volume, struct err *err)
{
	struct mounting *mounting;
	uint64_t drained;

	if (read(group->mount_cancel_fd, &drained, sizeof(drained)) < 0)
		drained = 0;
	if (group_is_interrupted(group))
		return err_set(err, -ECANCELED, "Canceled", "The mount was given up.");
	mounting = xnew(struct mounting);
	mounting->group = group;
	mounting->volume = volume;
	sem_init(&mounting->ended, 0, 0);
	group->mounting = mounting;
	agent_submit(group->agent, mounting_job, mounting);
	return -EINPROGRESS;
}

int mounting_up(struct group *group, const struct volume_spec *volume, struct err *err)
{
	struct volume_group vg = group_volume_group(group);
	struct mounting *mounting = group->mounting;

	if (volume_is_up(&vg, volume))
		return 0;
	if (!mounting)
		return mounting_start(group, volume, err);
	if (mounting->volume == volume && !atomic_load(&mounting->done))
		return -EINPROGRESS;
	if (mounting->volume == volume && mounting->r < 0) {
		mounting->told = true;
		*err = mounting->err;
		return mounting->r;
	}
	mounting->others_ask = true;
	return -EINPROGRESS;
}

void mounting_settle(struct group *group)
{
	struct mounting *mounting = group->mounting;
	bool others_ask;

	if (!mounting || !atomic_load(&mounting->done) || (mounting->r < 0 && !mounting->told))
		return;
	others_ask = mounting->others_ask;
	mounting_free(group);
	if (others_ask)
		group_kick(group);
}

void mounting_end(struct group *group)
{
	uint64_t one = 1;

	if (!group->mounting)
		return;
	if (write(group->mount_cancel_fd, &one, sizeof(one)) < 0)
		log_warn("group %s: a mount can't be told to stop", group->uid);
	mounting_free(group);
}
