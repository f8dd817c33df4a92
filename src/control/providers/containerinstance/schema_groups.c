/*
 * Every property of a container group: its order here is the order in documents and answers, as the
 * service's own answers have it. What this version doesn't run is SCHEMA_UNSUPPORTED and says what
 * to do instead.
 */
#include "control/providers/containerinstance/internal.h"

#define NAME_RULE "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
#define OBJECT(object, table, ...)                                                                 \
	static const struct schema_object object = {#table, table, ARRAY_SIZE(table), ##__VA_ARGS__}

const char *const containerinstance_versions[] = {"2017-08-01-preview", "2017-10-01-preview",
	"2017-12-01-preview", "2018-02-01-preview", "2018-04-01", "2018-06-01", "2018-09-01",
	"2018-10-01", "2019-12-01", "2020-11-01", "2021-03-01", "2021-07-01", "2021-09-01",
	"2021-10-01", "2022-09-01", "2022-10-01-preview", "2023-02-01-preview", "2023-05-01",
	"2024-05-01-preview", "2024-09-01-preview", "2024-10-01-preview", "2024-11-01-preview",
	"2025-09-01", "2026-06-01-preview", "2026-07-01", "2026-08-01-preview", NULL};

static const char *const protocols[] = {"TCP", "UDP", NULL};
static const char *const os_types[] = {"Windows", "Linux", NULL};
static const char *const os_types_run[] = {"Linux", NULL};
static const char *const restart_policies[] = {"Always", "OnFailure", "Never", NULL};
static const char *const skus[] = {"NotSpecified", "Standard", "Dedicated", "Confidential", NULL};
static const char *const skus_run[] = {"Standard", NULL};
static const char *const priorities[] = {"Regular", "Spot", NULL};
static const char *const priorities_run[] = {"Regular", NULL};
static const char *const address_types[] = {"Public", "Private", NULL};
static const char *const label_scopes[] = {
	"Unsecure", "TenantReuse", "SubscriptionReuse", "ResourceGroupReuse", "Noreuse", NULL};
static const char *const label_scopes_run[] = {"Unsecure", NULL};
static const char *const identity_types[] = {
	"SystemAssigned", "UserAssigned", "SystemAssigned, UserAssigned", "None", NULL};
static const char *const identity_types_run[] = {"None", NULL};

static const struct schema_property ContainerPort[] = {
	{.name = "protocol", .type = SCHEMA_STRING, .values = protocols, .code = "InvalidProtocol"},
	{.name = "port",
		.type = SCHEMA_INT,
		.flags = SCHEMA_REQUIRED,
		.min = 1,
		.max = 65535,
		.code = "InvalidPort",
		.message =
			"The port '{value}' in container '{container}' of container group '{group}' is invalid. "
			"A port must be between 1 and 65535."},
};
OBJECT(container_port, ContainerPort);

static const struct schema_property Port[] = {
	{.name = "protocol", .type = SCHEMA_STRING, .values = protocols, .code = "InvalidProtocol"},
	{.name = "port",
		.type = SCHEMA_INT,
		.flags = SCHEMA_REQUIRED,
		.min = 1,
		.max = 65535,
		.code = "InvalidPort",
		.message =
			"The port '{value}' in the 'ipAddress' of container group '{group}' is invalid. A port must be "
			"between 1 and 65535."},
};
OBJECT(address_port, Port);

static const struct schema_property EnvironmentVariable[] = {
	{.name = "name",
		.type = SCHEMA_STRING,
		.flags = SCHEMA_REQUIRED,
		.pattern = "[A-Za-z_][A-Za-z0-9_]*",
		.code = "InvalidContainerEnvironmentVariable",
		.message =
			"The environment variable name in container '{container}' of container group '{group}' is "
			"invalid. A valid environment variable name must start with alphabetic character or '_', "
			"followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or "
			"'MyName')."},
	{.name = "value", .type = SCHEMA_STRING},
	{.name = "secureValue",
		.type = SCHEMA_STRING,
		.flags = SCHEMA_SECRET,
		.since = "2018-06-01"},
	{.name = "secureValueReference",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-10-01-preview",
		.instead = "Give the value as 'secureValue'."},
};
OBJECT(environment_variable, EnvironmentVariable);

static const struct schema_property ResourceRequests[] = {
	{.name = "memoryInGB", .type = SCHEMA_NUMBER},
	{.name = "cpu", .type = SCHEMA_NUMBER},
	{.name = "gpu",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2018-10-01",
		.instead = "Leave it out: there are no GPUs."},
};
OBJECT(resource_requests, ResourceRequests);

static const struct schema_property ResourceRequirements[] = {
	{.name = "requests", .type = SCHEMA_OBJECT, .object = &resource_requests},
	{.name = "limits", .type = SCHEMA_OBJECT, .object = &resource_requests},
};
OBJECT(resource_requirements, ResourceRequirements);

#define NO_VOLUMES .instead = "Leave it out: containers have only their own writable layer."
#define NO_PROBES .instead = "Leave it out: a container counts as healthy while its process runs."
#define NO_SECURITY                                                                                \
	.instead = "Leave it out: every container runs confined, without privileges to ask for."
#define NO_CONFIG_MAP .instead = "Use 'environmentVariables'."

static const struct schema_property ContainerProperties[] = {
	{.name = "image",
		.type = SCHEMA_STRING,
		.pattern = "[^[:space:][:cntrl:]]+",
		.code = "InvalidImageName",
		.message =
			"The image '{value}' in container '{container}' of container group '{group}' is invalid. An "
			"image is named like 'registry.example/name:tag'."},
	{.name = "command", .type = SCHEMA_ARRAY, .items = SCHEMA_STRING},
	{.name = "ports", .type = SCHEMA_ARRAY, .object = &container_port},
	{.name = "environmentVariables",
		.type = SCHEMA_ARRAY,
		.object = &environment_variable,
		.fallback = "[]"},
	{.name = "instanceView", .type = SCHEMA_ANY, .flags = SCHEMA_READ_ONLY},
	{.name = "resources", .type = SCHEMA_OBJECT, .object = &resource_requirements},
	{.name = "volumeMounts", .type = SCHEMA_ANY, .flags = SCHEMA_UNSUPPORTED, NO_VOLUMES},
	{.name = "livenessProbe",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2018-06-01",
		NO_PROBES},
	{.name = "readinessProbe",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2018-06-01",
		NO_PROBES},
	{.name = "securityContext",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2022-10-01-preview",
		NO_SECURITY},
	{.name = "configMap",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-05-01-preview",
		NO_CONFIG_MAP},
};
OBJECT(container_properties, ContainerProperties);

static const struct schema_property Container[] = {
	{.name = "name",
		.type = SCHEMA_STRING,
		.flags = SCHEMA_REQUIRED,
		.pattern = NAME_RULE,
		.min = 1,
		.max = 63,
		.code = "InvalidContainerName",
		.message =
			"The container name '{value}' in container group '{group}' is invalid. The container name must "
			"contain no more than 63 characters and must match the regex '" NAME_RULE
			"' (e.g. 'my-name')."},
	{.name = "properties",
		.type = SCHEMA_OBJECT,
		.object = &container_properties,
		.flags = SCHEMA_REQUIRED},
};
OBJECT(container, Container, .is_container = true);

#define REGISTRY_IDENTITY                                                                                \
	.type = SCHEMA_STRING, .flags = SCHEMA_UNSUPPORTED, .since = "2021-07-01",                       \
	.code = "InvalidImageRegistryCredentialType",                                                    \
	.message =                                                                                       \
		"Identity in 'imageRegistryCredentials' of container group '{group}' is not supported.", \
	.instead = "Give 'username' and 'password'."

static const struct schema_property ImageRegistryCredential[] = {
	{.name = "server", .type = SCHEMA_STRING, .flags = SCHEMA_REQUIRED, .min = 1, .max = 253},
	{.name = "username", .type = SCHEMA_STRING},
	{.name = "password", .type = SCHEMA_STRING, .flags = SCHEMA_SECRET},
	{.name = "passwordReference",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-10-01-preview",
		.instead = "Give 'password'."},
	{.name = "identity", REGISTRY_IDENTITY},
	{.name = "identityUrl", REGISTRY_IDENTITY},
};
OBJECT(registry_credential, ImageRegistryCredential);

static const struct schema_property IpAddress[] = {
	{.name = "ports", .type = SCHEMA_ARRAY, .object = &address_port},
	{.name = "ip",
		.type = SCHEMA_STRING,
		.flags = SCHEMA_READ_ONLY}, /* Azure ignores it in requests */
	{.name = "type",
		.type = SCHEMA_STRING,
		.flags = SCHEMA_REQUIRED,
		.values = address_types,
		.code = "InvalidIpAddressType"},
	{.name = "dnsNameLabel",
		.type = SCHEMA_STRING,
		.since = "2018-02-01-preview",
		.pattern = "[a-z][-a-z0-9]{3,61}[a-z0-9]",
		.code = "InvalidDnsNameLabel",
		.message =
			"The DNS name label '{value}' in container group '{group}' is invalid. It can contain only "
			"lowercase letters, numbers and hyphens. The first character must be a letter. The last "
			"character must be a letter or number. The value must be between 5 and 63 characters long."},
	{.name = "autoGeneratedDomainNameLabelScope",
		.type = SCHEMA_STRING,
		.since = "2021-10-01",
		.values = label_scopes,
		.supported = label_scopes_run},
	{.name = "fqdn",
		.type = SCHEMA_STRING,
		.flags = SCHEMA_READ_ONLY,
		.since = "2018-02-01-preview"},
};
OBJECT(ip_address, IpAddress);

#define NO_VNET .instead = "Leave it out: each group has an address of its own."

static const struct schema_property ContainerGroupProperties[] = {
	{.name = "sku",
		.type = SCHEMA_STRING,
		.since = "2019-12-01",
		.values = skus,
		.supported = skus_run,
		.code = "InvalidSku",
		.fallback = "\"Standard\""},
	{.name = "provisioningState", .type = SCHEMA_ANY, .flags = SCHEMA_READ_ONLY},
	{.name = "provisioningTimeoutInSeconds",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_READ_ONLY,
		.since = "2023-02-01-preview"},
	{.name = "isCustomProvisioningTimeout",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_READ_ONLY,
		.since = "2023-02-01-preview"},
	{.name = "isCreatedFromStandbyPool",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_READ_ONLY,
		.since = "2024-05-01-preview"},
	{.name = "state",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_READ_ONLY,
		.last = "2017-08-01-preview"},
	{.name = "containers", .type = SCHEMA_ARRAY, .object = &container},
	{.name = "initContainers",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2019-12-01",
		.instead = "Do the work at the start of a container."},
	{.name = "imageRegistryCredentials", .type = SCHEMA_ARRAY, .object = &registry_credential},
	{.name = "restartPolicy",
		.type = SCHEMA_STRING,
		.values = restart_policies,
		.code = "InvalidRestartPolicy",
		.fallback = "\"Always\""},
	{.name = "ipAddress", .type = SCHEMA_OBJECT, .object = &ip_address},
	{.name = "osType",
		.type = SCHEMA_STRING,
		.values = os_types,
		.supported = os_types_run,
		.code = "InvalidOsType",
		.message =
			"The 'osType' for container group '<null>' is invalid. The value must be one of "
			"'Windows,Linux'."},
	{.name = "volumes", .type = SCHEMA_ANY, .flags = SCHEMA_UNSUPPORTED, NO_VOLUMES},
	{.name = "diagnostics",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2018-06-01",
		.instead = "Leave it out and read the containers' logs."},
	{.name = "networkProfile",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2018-09-01",
		.last = "2021-03-01",
		NO_VNET},
	{.name = "subnetIds",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2021-07-01",
		NO_VNET},
	{.name = "dnsConfig",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2018-10-01",
		.instead = "Leave it out: containers resolve names as the node does."},
	{.name = "encryptionProperties",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2019-12-01"},
	{.name = "extensions",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2022-09-01"},
	{.name = "confidentialComputeProperties",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2022-10-01-preview",
		.instead = "Use the sku 'Standard'."},
	{.name = "priority",
		.type = SCHEMA_STRING,
		.since = "2022-10-01-preview",
		.values = priorities,
		.supported = priorities_run,
		.code = "PriorityNotSpecified",
		.message =
			"The 'Priority' must be one of 'Regular,Spot' for container group '{group}'."},
	{.name = "containerGroupProfile",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-05-01-preview",
		.instead = "Give 'containers' and the rest in the group itself."},
	{.name = "standbyPoolProfile",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-05-01-preview"},
	{.name = "secretReferences",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-10-01-preview",
		.instead = "Give secrets as 'secureValue'."},
	{.name = "identityAcls",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2024-11-01-preview"},
	{.name = "instanceView",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_READ_ONLY,
		.since = "2017-10-01-preview"},
};
OBJECT(group_properties, ContainerGroupProperties);

static const struct schema_property ContainerGroupIdentity[] = {
	{.name = "principalId", .type = SCHEMA_ANY, .flags = SCHEMA_READ_ONLY},
	{.name = "tenantId", .type = SCHEMA_ANY, .flags = SCHEMA_READ_ONLY},
	{.name = "type",
		.type = SCHEMA_STRING,
		.values = identity_types,
		.supported = identity_types_run,
		.instead = "Give what the containers need as 'secureValue'."},
	{.name = "userAssignedIdentities", .type = SCHEMA_ANY, .flags = SCHEMA_UNSUPPORTED},
};
OBJECT(group_identity, ContainerGroupIdentity);

static const struct schema_property ContainerGroup[] = {
	{.name = "properties",
		.type = SCHEMA_OBJECT,
		.object = &group_properties,
		.flags = SCHEMA_REQUIRED},
	{.name = "identity",
		.type = SCHEMA_OBJECT,
		.object = &group_identity,
		.since = "2018-10-01"},
	{.name = "id", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "name", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "type", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "apiVersion", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "systemData",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_READ_ONLY,
		.since = "2025-09-01"},
	{.name = "location",
		.type = SCHEMA_STRING,
		.fallback = "\"\""}, /* validate.c fills it in */
	{.name = "zones",
		.type = SCHEMA_ARRAY,
		.items = SCHEMA_STRING,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2021-09-01",
		.instead = "Leave it out: this region has no zones."},
	{.name = "tags", .type = SCHEMA_MAP, .fallback = "{}"},
};
const struct schema_object group_schema = {
	"ContainerGroup", ContainerGroup, ARRAY_SIZE(ContainerGroup)};
