/*
 * Microsoft.ContainerInstance: container groups, as a table of routes over the store. A handler
 * validates, writes one commit and, where the answer is worth waiting for, parks until the node has
 * reported; it never talks to a node but for logs and what a node alone knows (its images, its
 * size).
 *
 * What the store has of a group: `cg/<rg>/<name>` is the record: what its owner wants, with
 * secrets; `cgstatus/<uid>` what the node sees, written by schedule; `ip/<address>` and
 * `label/<region>/<label>` are claims, so that uniqueness is the store's doing; `quota/<region>`
 * counts what the groups use; `op/<id>` names
 * what a client polls; `gone/<uid>` is what is left of a deleted group until the node has cleaned
 * up, and keeps its address from being given out again.
 */
#pragma once

#include "control/arm/arm.h"

extern const struct arm_provider containerinstance_provider;

/* At start: counts anew what the region's groups use, should a berthd that didn't count have had
 * the store before. */
int quota_resume(const struct arm_services *services, struct err *err);

/* What a node must run for a record: the spec of the link. For schedule_new(). New reference. */
json_t *containerinstance_spec(const json_t *record, void *arg);
