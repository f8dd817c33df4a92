/* What the files of this folder share. */
#pragma once

#include "base/json.h"
#include "control/arm/arm.h"
#include "control/arm/schema.h"

#define GROUPS_TYPE "Microsoft.ContainerInstance/containerGroups"
#define CONFIG_MAP_SINCE "2024-05-01-preview"
#define OPERATION_VERSION                                                                          \
	"2018-06-01" /* of operation URLs, whatever version the client uses: as Azure does */

extern const char *const containerinstance_versions[];
extern const struct schema_object group_schema;
extern const struct schema_object event_schema;

/* --- records --- */

struct group {
	char *key;	  /* of the record */
	json_t *record;	  /* NULL: there is none */
	int64_t revision; /* of the record; STORE_ABSENT when there is none */
	json_t *status;	  /* what the node reported last; NULL: nothing yet */
};

void group_done(struct group *group);
/* Key of a record, NULL when no group can have that name. Owned by the caller. */
char *group_key(const char *rg, const char *name);
/* 0 also when there is no such group (record is NULL then). */
int group_find(const struct arm_services *services, const char *rg, const char *name,
	struct err *err, struct group *ret);
/* As above, but -ENOENT with ResourceGroupNotFound or ResourceNotFound. */
int group_load(const struct arm_services *services, const char *rg, const char *name,
	struct err *err, struct group *ret);
/* New reference, NULL when there is none. ret_revision (may be NULL) is left alone then. */
json_t *status_load(const struct arm_services *services, const char *uid, int64_t *ret_revision);

/* Whether the status speaks of what the record wants now. */
bool status_is_current(const json_t *record, const json_t *status);
/* Current, and at an end: deployed, failed to, or stopped. */
bool group_settled(const json_t *record, const json_t *status);
bool status_failed(const json_t *status);
/* Nothing runs and nothing will without a new start: stopped, or all containers ended for good. */
bool group_ended(const json_t *record, const json_t *status);

int err_transitioning(struct err *err, const char *name);

/* --- commits: operations with their strings --- */

#define CHANGE_MAX 16

struct change {
	struct store_op ops[CHANGE_MAX];
	char *owned[CHANGE_MAX * 2];
	size_t n, n_owned;
};

void change_done(struct change *change);
void change_put(struct change *change, int64_t expect, const json_t *value, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void change_delete(struct change *change, int64_t expect, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void change_check(struct change *change, int64_t expect, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* --- documents --- */

struct validate_context {
	const char *group_name, *api_version, *region, *subscription_id, *resource_group;
	const char *default_location; /* of the resource group */
	const json_t *old;	      /* the document that is to be replaced; NULL: none */
	/* What the group has that no request can change: compared when there is an old document. */
	const char *ip, *fqdn; /* NULL: none */
	const char *zone;      /* of names; NULL: names aren't compared */
};

/* Validates a PUT's body and makes it the document that the store keeps. In place. A body whose
 * containers carry only names and config maps becomes the old document with those config maps. */
int group_validate(json_t *document, const struct validate_context *context, struct err *err);
/* The rules over several properties of a document that its schema has accepted: osType, containers,
 * volumes, address … Secrets that answers hide are taken from old (may be NULL); what means the
 * same as leaving it out is dropped. group: its name, for messages. */
int group_check(json_t *document, const json_t *old, const char *group, struct err *err);
/* Code InvalidContainerGroupUpdate when the change needs a delete first. */
int group_validate_update(
	const json_t *old, const json_t *new, const char *group_name, struct err *err);
/* Nothing but config maps differs: files that change below containers that go on. */
bool only_config_maps_differ(const json_t *old, const json_t *new);

/* A valid mount path in its shortest form, "/a//./b/" as "/a/b"; NULL: it isn't valid. Owned. */
char *mount_path(const char *path);
/* Words of a string with blanks or commas between them: dnsConfig's searchDomains and options. New
 * reference. */
json_t *dns_words(const char *text);

/* The group as the API shows it. views: with instanceViews (GET), or without (LIST). New reference.
 */
json_t *group_present(
	const json_t *record, const json_t *status, const char *api_version, bool views);

/* --- addresses --- */

/* A free address of a pool ("100.64.0.0/17") into buf (INET_ADDRSTRLEN). Only the claim in the
 * store makes it one's own: when that conflicts, ask again. Code AddressesExhausted. Thread-safe.
 */
#define ADDRESS_MAX 16
int address_pick(struct store *store, const char *pool, struct err *err, char ret[ADDRESS_MAX]);
/* Forgets what it knows of pools: for tests, where a store may have the address of an older one. */
void address_forget(void);

/* --- operations --- */

/* {"id","uid","generation",…} of something that a client may poll; adds it to the commit. id:
 * UUID_STR_MAX. */
void operation_add(struct change *change, const json_t *record, const char *id);
/* The group's last operation is about to be followed by another change: what became of it is
 * written down, the one before it is forgotten. record: the new one; NULL when the group is
 * deleted, and then nothing of an ended operation stays. */
void operation_close(struct change *change, const struct arm_services *services,
	const struct group *group, json_t *record);
/* Azure-AsyncOperation and Retry-After. */
void operation_headers(
	struct arm_response *response, const struct arm_services *services, const char *id);
/* Location of the same operation's result. */
void operation_location(
	struct arm_response *response, const struct arm_services *services, const char *id);

/* --- handlers --- */

int groups_put(struct arm_request *, struct arm_response *, struct err *);
int groups_get(struct arm_request *, struct arm_response *, struct err *);
int groups_list(struct arm_request *, struct arm_response *, struct err *);
int groups_list_all(struct arm_request *, struct arm_response *, struct err *);
int groups_patch(struct arm_request *, struct arm_response *, struct err *);
int groups_delete(struct arm_request *, struct arm_response *, struct err *);
int groups_start(struct arm_request *, struct arm_response *, struct err *);
int groups_stop(struct arm_request *, struct arm_response *, struct err *);
int groups_restart(struct arm_request *, struct arm_response *, struct err *);
int groups_outbound(struct arm_request *, struct arm_response *, struct err *);
/* The group of a request about a container, which it has. */
int container_find(struct arm_request *, struct err *, struct group *ret);
/* Code ContainerLogNotAvailable for one that never ran. */
int container_check_started(struct arm_request *, const struct group *, struct err *);
int containers_logs(struct arm_request *, struct arm_response *, struct err *);
int containers_exec(struct arm_request *, struct arm_response *, struct err *);
int containers_attach(struct arm_request *, struct arm_response *, struct err *);
int operations_get(struct arm_request *, struct arm_response *, struct err *);
int operations_result(struct arm_request *, struct arm_response *, struct err *);
int operations_list(struct arm_request *, struct arm_response *, struct err *);
int locations_usages(struct arm_request *, struct arm_response *, struct err *);
int locations_capabilities(struct arm_request *, struct arm_response *, struct err *);
int locations_cached_images(struct arm_request *, struct arm_response *, struct err *);

/* Removes a group for good: claims, record, and a tombstone for the node. 0, or -EAGAIN when the
 * record changed. */
int group_remove(const struct arm_services *services, const struct group *group, struct err *err);

/* The node that runs groups, or -EHOSTUNREACH with NodeUnavailable. Owned by the caller. */
int node_pick(const struct arm_services *services, struct err *err, char **ret);

/* --- waiting --- */

enum wait_kind { WAIT_PUT, WAIT_START, WAIT_STOP, WAIT_RESTART };

/* Answers when the node has done what the record wants, or when put_wait_ms are over; parks until
 * then. record: a reference is taken. revision: of the commit that wrote it, or of a read of it.
 * op: the operation that a client may poll; may be NULL. */
int wait_settled(struct arm_request *request, struct arm_response *response, struct err *err,
	enum wait_kind kind, json_t *record, int64_t revision, const char *op, int http_status);
