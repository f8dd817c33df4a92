/*
 * Rows that the tables of container groups and of their profiles have in common, and the objects
 * that they point to. A row begins at the api-version that brought it to groups; a profile, which
 * came later, is bounded by its own object.
 */
#pragma once

#include "control/arm/schema.h"

#define SCHEMA_OBJECT_OF(object, table, ...)                                                       \
	const struct schema_object object = {#table, table, ARRAY_SIZE(table), ##__VA_ARGS__}

#define RESOURCE_NAME_RULE "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

extern const char *const group_os_types[], *const group_os_types_run[];
extern const char *const group_restart_policies[];
extern const char *const group_skus[], *const group_skus_run[];
extern const char *const group_priorities[], *const group_priorities_run[];

extern const struct schema_object container_schema;
extern const struct schema_object init_container_schema;
extern const struct schema_object volume_schema;
extern const struct schema_object registry_credential_schema;
extern const struct schema_object ip_address_schema;

#define NO_SECURITY                                                                                \
	.instead = "Leave it out: every container runs confined, without privileges to ask for."

#define ROW_SKU                                                                                            \
	{                                                                                                  \
		.name = "sku", .type = SCHEMA_STRING, .since = "2019-12-01", .values = group_skus,         \
		.supported = group_skus_run, .code = "InvalidSku", .fallback = "\"Standard\"",             \
		.instead =                                                                                 \
			"Use 'Standard': a node has neither reserved machines nor confidential hardware.", \
	}
#define ROW_CONTAINERS                                                                             \
	{                                                                                          \
		.name = "containers", .type = SCHEMA_ARRAY, .object = &container_schema,           \
	}
#define ROW_INIT_CONTAINERS                                                                        \
	{                                                                                          \
		.name = "initContainers", .type = SCHEMA_ARRAY, .object = &init_container_schema,  \
		.since = "2019-12-01",                                                             \
	}
#define ROW_REGISTRY_CREDENTIALS                                                                   \
	{                                                                                          \
		.name = "imageRegistryCredentials", .type = SCHEMA_ARRAY,                          \
		.object = &registry_credential_schema,                                             \
	}
#define ROW_RESTART_POLICY                                                                         \
	{                                                                                          \
		.name = "restartPolicy", .type = SCHEMA_STRING, .values = group_restart_policies,  \
		.code = "InvalidRestartPolicy", .fallback = "\"Always\"",                          \
	}
#define ROW_IP_ADDRESS                                                                             \
	{                                                                                          \
		.name = "ipAddress", .type = SCHEMA_OBJECT, .object = &ip_address_schema,          \
	}
#define ROW_OS_TYPE                                                                                       \
	{                                                                                                 \
		.name = "osType", .type = SCHEMA_STRING, .values = group_os_types,                        \
		.supported = group_os_types_run, .code = "InvalidOsType",                                 \
		.message =                                                                                \
			"The 'osType' for container group '<null>' is invalid. The value must be one of " \
			"'Windows,Linux'.",                                                               \
		.instead = "Use an image for Linux: nodes run Linux.",                                    \
	}
#define ROW_VOLUMES                                                                                \
	{                                                                                          \
		.name = "volumes", .type = SCHEMA_ARRAY, .object = &volume_schema,                 \
	}
#define ROW_DIAGNOSTICS                                                                            \
	{                                                                                          \
		.name = "diagnostics", .type = SCHEMA_ANY, .flags = SCHEMA_UNSUPPORTED,            \
		.since = "2018-06-01",                                                             \
		.instead = "Leave it out and read the containers' logs: there is no workspace to " \
			   "send them to.",                                                        \
	}
#define ROW_ENCRYPTION                                                                             \
	{                                                                                          \
		.name = "encryptionProperties", .type = SCHEMA_ANY, .flags = SCHEMA_UNSUPPORTED,   \
		.since = "2019-12-01",                                                             \
		.instead = "Leave it out: there is no key vault that holds a key of yours.",       \
	}
#define ROW_EXTENSIONS                                                                             \
	{                                                                                          \
		.name = "extensions", .type = SCHEMA_ANY, .flags = SCHEMA_UNSUPPORTED,             \
		.since = "2022-09-01",                                                             \
		.instead = "Leave it out: there are none. A container of the group can do their "  \
			   "work.",                                                                \
	}
#define ROW_CONFIDENTIAL                                                                           \
	{                                                                                          \
		.name = "confidentialComputeProperties", .type = SCHEMA_ANY,                       \
		.flags = SCHEMA_UNSUPPORTED, .since = "2022-10-01-preview",                        \
		.instead = "Leave it out and use the sku 'Standard': there is no confidential "    \
			   "hardware.",                                                            \
	}
#define ROW_PRIORITY                                                                                   \
	{                                                                                              \
		.name = "priority", .type = SCHEMA_STRING, .since = "2022-10-01-preview",              \
		.values = group_priorities, .supported = group_priorities_run,                         \
		.code = "PriorityNotSpecified",                                                        \
		.message =                                                                             \
			"The 'Priority' must be one of 'Regular,Spot' for container group '{group}'.", \
		.instead = "Use 'Regular': no group is ever evicted for another.",                     \
	}
