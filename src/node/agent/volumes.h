/*
 * What a group's containers mount: out of the spec, made before a container that needs it starts,
 * bound into it, and gone with the group's sandbox. A configMap, an empty one too, is a mount like
 * the others: its files change in place, but a container's first and last one restart it.
 */
#pragma once

#include "node/agent/group.h"

/* --- spec.c's part; volumes before containers --- */

int spec_parse_volumes(const json_t *array, struct group_spec *spec, struct err *err);
/* Mounts, configMap and hash of a container or init container. */
int spec_parse_mounts(const json_t *json, const struct group_spec *spec, struct container_spec *c,
	struct err *err);
void spec_mounts_free(struct container_spec *c);

/* --- the round's part --- */

/* Brings up what the container mounts. -ECANCELED: given up for what arrived. -EINPROGRESS: under
 * way, the group is woken. Otherwise err->code is the event's name. */
int container_volumes_up(struct group *group, const struct container *c,
	const struct container_spec *spec, struct err *err);
/* Brings the configMaps of running containers up to date, says which of them lost a share, removes
 * volumes that the spec no longer has. After containers that changed were stopped. */
void group_volumes_refresh(struct group *group);
/* Unmounts and removes all. No container runs. */
int group_volumes_down(struct group *group, struct err *err);
/* Likewise; a failure is only logged. */
void group_volumes_drop(struct group *group);

struct volume_group group_volume_group(const struct group *group);

/* mounting.c: like volume_up() for a volume of the group's spec, but doesn't wait for it. */
int mounting_up(struct group *group, const struct volume_spec *volume, struct err *err);
/* When all containers were asked to start: an outcome that they know is forgotten. */
void mounting_settle(struct group *group);
/* Gives up what is under way, and waits for that. */
void mounting_end(struct group *group);

/* What the runtime binds into a container. */
struct container_binds {
	struct runtime_bind *list; /* owned, strings too; in the order in which they are mounted */
	size_t n;
};

/* Resolves the mount paths in the container's root file system, which is mounted, and makes what is
 * missing. Code "ContainerCreateFailed". */
int container_binds_find(const struct group *group, const struct container *c,
	const struct container_spec *spec, struct err *err, struct container_binds *ret);
void container_binds_done(struct container_binds *binds);
