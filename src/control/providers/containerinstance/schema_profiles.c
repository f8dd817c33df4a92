/* Every property of a container group's profile: those of a group that a group can take from it,
 * and its revisions. */
#include "control/providers/containerinstance/internal.h"
#include "control/providers/containerinstance/schema_rows.h"

static const struct schema_property ContainerGroupProfileProperties[] = {
	ROW_SKU,
	ROW_CONTAINERS,
	ROW_INIT_CONTAINERS,
	ROW_REGISTRY_CREDENTIALS,
	ROW_RESTART_POLICY,
	ROW_IP_ADDRESS,
	ROW_OS_TYPE,
	ROW_VOLUMES,
	ROW_DIAGNOSTICS,
	ROW_ENCRYPTION,
	ROW_EXTENSIONS,
	ROW_CONFIDENTIAL,
	ROW_PRIORITY,
	{.name = "securityContext",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-11-01-preview",
		NO_SECURITY},
	{.name = "shutdownGracePeriod",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-11-01-preview",
		.instead = "Leave it out: containers get SIGTERM and, after the grace period that "
			   "the operator has set, SIGKILL."},
	{.name = "timeToLive",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-11-01-preview",
		.instead = "Leave it out and delete groups when they are done: none is deleted by "
			   "itself."},
	{.name = "useKrypton",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-11-01-preview",
		.instead = "Leave it out: groups run in one way only."},
	{.name = "revision", .type = SCHEMA_INT, .flags = SCHEMA_READ_ONLY},
	{.name = "registeredRevisions",
		.type = SCHEMA_ARRAY,
		.items = SCHEMA_INT,
		.flags = SCHEMA_READ_ONLY,
		.since = "2024-11-01-preview"},
};
static SCHEMA_OBJECT_OF(profile_properties, ContainerGroupProfileProperties);

static const struct schema_property ContainerGroupProfile[] = {
	{.name = "properties",
		.type = SCHEMA_OBJECT,
		.object = &profile_properties,
		.flags = SCHEMA_REQUIRED},
	{.name = "id", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "name", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "type", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "apiVersion", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "systemData",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_READ_ONLY,
		.since = "2024-11-01-preview"},
	{.name = "location",
		.type = SCHEMA_STRING,
		.fallback = "\"\""}, /* validate.c fills it in */
	{.name = "zones",
		.type = SCHEMA_ARRAY,
		.items = SCHEMA_STRING,
		.flags = SCHEMA_UNSUPPORTED,
		.instead = "Leave it out: this region has no zones."},
	{.name = "tags", .type = SCHEMA_MAP, .fallback = "{}"},
};
SCHEMA_OBJECT_OF(profile_schema, ContainerGroupProfile);
