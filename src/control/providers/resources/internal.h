#pragma once

#include "control/providers/resources/resources.h"

#define HANDLER(name)                                                                              \
	int name(struct arm_request *request, struct arm_response *response, struct err *err)

HANDLER(subscriptions_list);
HANDLER(subscriptions_get);
HANDLER(tenants_list);
HANDLER(locations_list);
HANDLER(locks_list);

HANDLER(providers_list);
HANDLER(providers_get);
HANDLER(providers_register);
HANDLER(providers_unregister);

HANDLER(resource_groups_list);
HANDLER(resource_groups_get);
HANDLER(groups_head);
HANDLER(resource_groups_put);
HANDLER(resource_groups_patch);
HANDLER(resource_groups_delete);
HANDLER(groups_delete_poll);

HANDLER(resources_list);
HANDLER(resources_list_group);

/* A resource group's record, as it is in the store. */
struct group_record {
	char *key;	  /* owned */
	json_t *record;	  /* owned: {"uid","group"} */
	json_t *group;	  /* borrowed from record */
	int64_t revision; /* 0: not in the store */
};

void group_record_done(struct group_record *record);
/* 0, -ENOENT with ResourceGroupNotFound, or another error. */
int group_record_read(const struct arm_services *services, const char *rg, struct err *err,
	struct group_record *ret);
/* Compare and swap: -EAGAIN when the record isn't what it was. */
int group_record_write(
	const struct arm_services *services, struct group_record *record, struct err *err);
const char *group_state(const json_t *group);

/* Does what is left of a deletion of a group that is marked. 1: it is gone; 0: something is still
 * in it. */
int group_delete_step(const struct arm_services *services,
	const struct arm_provider *const *providers, const struct group_record *record,
	struct err *err);

/* Both NULL: any. A tag name alone matches any value. */
bool tags_match(json_t *tags, const char *name, const char *value);
