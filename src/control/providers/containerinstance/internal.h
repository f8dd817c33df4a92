/* What the files of this folder share. */
#pragma once

#include "base/json.h"
#include "control/arm/arm.h"
#include "control/arm/schema.h"
#include "control/providers/containerinstance/containerinstance.h"

#define GROUPS_TYPE "Microsoft.ContainerInstance/containerGroups"
#define PROFILES_TYPE "Microsoft.ContainerInstance/containerGroupProfiles"
#define CONFIG_MAP_SINCE "2024-05-01-preview"
#define OPERATION_VERSION                                                                          \
	"2018-06-01" /* of operation URLs, whatever version the client uses: as Azure does */

extern const char *const containerinstance_versions[];
extern const struct schema_object group_schema;
extern const struct schema_object profile_schema;
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
/* A document that fitted into a request may be too large with what a record has besides: then in
 * words for a client. Returns r. */
int err_too_large(struct err *err, const char *name, int r);

/* --- lists of records, of groups and of profiles --- */

/* err may be NULL. */
int record_parse(const struct store_entry *entry, struct err *err, json_t **ret);
/* A record as a list shows it; new reference. */
typedef json_t *(*record_present_fn)(struct arm_request *request, const json_t *record);
/* Answers with the page of records that the request asks for. */
int records_page(struct arm_request *request, struct arm_response *response, const char *prefix,
	record_present_fn present, struct err *err);
/* Appends what the list of a resource group's resources shows of each. */
int records_list_resources(const struct arm_services *services, const char *prefix,
	const char *type, struct err *err, json_t *ret_array);

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
/* Takes back all but the first n operations. */
void change_cut(struct change *change, size_t n);

/* --- quotas --- */

struct quota_use {
	int64_t groups;
	int64_t centicores;
};

/* What the region's groups use now. */
int quota_used(const struct arm_services *services, struct err *err, struct quota_use *ret);
/* store_commit() of a change that makes the record `before` (NULL: there is none) the record
 * `after` (NULL: it is deleted), with the count that follows from it. -EDQUOT with
 * ContainerGroupQuotaReached when it asks for more than there is left; nothing is written then. */
int quota_commit(const struct arm_services *services, struct change *change, const json_t *before,
	const json_t *after, struct err *err, int64_t *ret_revision);
/* Code ServiceUnavailable when no node has the memory that a document's containers request
 * together. CPU is shared, so that any request for it can run. */
int capacity_check(const struct arm_services *services, const json_t *document, struct err *err);

/* --- documents --- */

struct validate_context {
	const char *type; /* of the resource; NULL: GROUPS_TYPE */
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
/* The same for a profile. Messages call it a container group, as the service's do. */
int profile_validate(json_t *document, const struct validate_context *context, struct err *err);
bool profile_name_valid(const char *name);
/* Completes a PUT's body with the profile that its containerGroupProfile names, if any. old: the
 * group's document; NULL: none. Code ContainerGroupProfileNotFound. */
int profile_apply(const struct arm_services *services, const char *api_version, const json_t *old,
	json_t *document, struct err *err);
/* The tags of a PATCH's body, borrowed; left alone when it has none. Refuses whatever else would
 * change something. what: "container group". */
int patch_tags(json_t *body, const char *what, struct err *err, json_t **ret_tags);
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

/* --- secrets by reference --- */

/* Whether each name that is used is among properties.secretReferences, once. */
int references_check(const json_t *document, const char *group, struct err *err);
/* The document with the values in place of the names; values: of the record's "secrets", or NULL
 * for placeholders. New reference, the document itself when it uses no references. */
json_t *references_filled(const json_t *document, const json_t *values);
/* Looks the values up for record's document and puts them beside it, as "secrets". Codes
 * InvalidSecretReference, and InvalidVolume for what a volume can't have. */
int references_resolve(const struct arm_services *services, json_t *record, struct err *err);

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

/* --- labels --- */

/* The name below the region's zone that a group gets: its DNS name label, followed by the label of
 * a scope if it's unique in that only. What old_record (NULL: none) had stays while label and scope
 * stay. Owned by the caller; NULL without a label. */
char *label_make(const struct arm_services *services, const char *rg, const json_t *document,
	const json_t *old_record);
/* The same of a record that is there. Borrowed. */
const char *label_of_record(const json_t *record);

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
int profiles_put(struct arm_request *, struct arm_response *, struct err *);
int profiles_get(struct arm_request *, struct arm_response *, struct err *);
int profiles_list(struct arm_request *, struct arm_response *, struct err *);
int profiles_list_all(struct arm_request *, struct arm_response *, struct err *);
int profiles_patch(struct arm_request *, struct arm_response *, struct err *);
int profiles_delete(struct arm_request *, struct arm_response *, struct err *);
int profiles_revisions(struct arm_request *, struct arm_response *, struct err *);
int profiles_revision(struct arm_request *, struct arm_response *, struct err *);
int subnets_delete_link(struct arm_request *, struct arm_response *, struct err *);
int locations_usages(struct arm_request *, struct arm_response *, struct err *);
int locations_capabilities(struct arm_request *, struct arm_response *, struct err *);
int locations_cached_images(struct arm_request *, struct arm_response *, struct err *);

/* Removes a group for good: claims, record, and a tombstone for the node. 0, or -EAGAIN when the
 * record changed. */
int group_remove(const struct arm_services *services, const struct group *group, struct err *err);

/* As the slots of struct arm_provider, for profiles. */
int profiles_list_resources(
	const struct arm_services *services, const char *rg, struct err *err, json_t *ret_array);
int profiles_delete_group(const struct arm_services *services, const char *rg, struct err *err);

/* The node that runs groups, or -EHOSTUNREACH with NodeUnavailable. Owned by the caller. */
int node_pick(const struct arm_services *services, struct err *err, char **ret);

/* --- waiting --- */

enum wait_kind { WAIT_PUT, WAIT_START, WAIT_STOP, WAIT_RESTART };

/* Answers when the node has done what the record wants, or when put_wait_ms are over; parks until
 * then. record: a reference is taken. revision: of the commit that wrote it, or of a read of it.
 * op: the operation that a client may poll; may be NULL. */
int wait_settled(struct arm_request *request, struct arm_response *response, struct err *err,
	enum wait_kind kind, json_t *record, int64_t revision, const char *op, int http_status);
