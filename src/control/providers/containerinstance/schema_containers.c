/* Containers and init containers. Rules that the tables can't say are in validate.c,
 * validate_probes.c and validate_volumes.c. */
#include "control/providers/containerinstance/internal.h"
#include "control/providers/containerinstance/schema_rows.h"

static const char *const protocols[] = {"TCP", "UDP", NULL};
static const char *const schemes[] = {"http", "https", NULL};

static const struct schema_property ContainerPort[] = {
	{.name = "protocol",
		.type = SCHEMA_STRING,
		.since = "2017-10-01-preview",
		.values = protocols,
		.code = "InvalidProtocol"},
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
static SCHEMA_OBJECT_OF(container_port, ContainerPort);

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
		.instead =
			"Give the value itself as 'secureValue': there is no key vault to take it from."},
};
static SCHEMA_OBJECT_OF(environment_variable, EnvironmentVariable);

#define ROW_GPU                                                                                    \
	{                                                                                          \
		.name = "gpu", .type = SCHEMA_ANY, .flags = SCHEMA_UNSUPPORTED,                    \
		.since = "2018-10-01", .instead = "Leave it out: there are no GPUs.",              \
	}

static const struct schema_property ResourceRequests[] = {
	{.name = "memoryInGB", .type = SCHEMA_NUMBER},
	{.name = "cpu", .type = SCHEMA_NUMBER},
	ROW_GPU,
};
static SCHEMA_OBJECT_OF(resource_requests, ResourceRequests);

static const struct schema_property ResourceLimits[] = {
	{.name = "memoryInGB", .type = SCHEMA_NUMBER},
	{.name = "cpu", .type = SCHEMA_NUMBER},
	ROW_GPU,
};
static SCHEMA_OBJECT_OF(resource_limits, ResourceLimits);

static const struct schema_property ResourceRequirements[] = {
	{.name = "requests", .type = SCHEMA_OBJECT, .object = &resource_requests},
	{.name = "limits", .type = SCHEMA_OBJECT, .object = &resource_limits},
};
static SCHEMA_OBJECT_OF(resource_requirements, ResourceRequirements);

static const struct schema_property VolumeMount[] = {
	{.name = "name", .type = SCHEMA_STRING, .flags = SCHEMA_REQUIRED},
	{.name = "mountPath", .type = SCHEMA_STRING, .flags = SCHEMA_REQUIRED},
	{.name = "readOnly", .type = SCHEMA_BOOL},
};
static SCHEMA_OBJECT_OF(volume_mount, VolumeMount);

/* --- probes --- */

static const struct schema_property ContainerExec[] = {
	{.name = "command", .type = SCHEMA_ARRAY, .items = SCHEMA_STRING},
};
static SCHEMA_OBJECT_OF(container_exec, ContainerExec);

static const struct schema_property HttpHeader[] = {
	{.name = "name", .type = SCHEMA_STRING},
	{.name = "value", .type = SCHEMA_STRING},
};
static SCHEMA_OBJECT_OF(http_header, HttpHeader);

static const struct schema_property ContainerHttpGet[] = {
	{.name = "path", .type = SCHEMA_STRING},
	{.name = "port",
		.type = SCHEMA_INT,
		.flags = SCHEMA_REQUIRED,
		.min = 1,
		.max = 65535,
		.code = "InvalidPort",
		.message =
			"The port '{value}' of a probe in container '{container}' of container group '{group}' is "
			"invalid. A port must be between 1 and 65535."},
	{.name = "scheme", .type = SCHEMA_STRING, .values = schemes, .code = "InvalidProbe"},
	{.name = "httpHeaders",
		.type = SCHEMA_ARRAY,
		.object = &http_header,
		.since = "2020-11-01"},
};
static SCHEMA_OBJECT_OF(container_http_get, ContainerHttpGet);

/* Kubernetes' bounds; its defaults are filled in where a node is told (spec.c), so that an answer
 * echoes what was sent. */
#define TIMING(property, least)                                                                    \
	{                                                                                          \
		.name = property, .type = SCHEMA_INT, .min = (least), .max = INT32_MAX,            \
		.code = "InvalidProbe",                                                            \
	}

static const struct schema_property ContainerProbe[] = {
	{.name = "exec", .type = SCHEMA_OBJECT, .object = &container_exec},
	{.name = "httpGet", .type = SCHEMA_OBJECT, .object = &container_http_get},
	TIMING("initialDelaySeconds", 0),
	TIMING("periodSeconds", 1),
	TIMING("failureThreshold", 1),
	TIMING("successThreshold", 1),
	TIMING("timeoutSeconds", 1),
};
static SCHEMA_OBJECT_OF(container_probe, ContainerProbe);

static const struct schema_property ConfigMap[] = {
	{.name = "keyValuePairs", .type = SCHEMA_MAP},
};
static SCHEMA_OBJECT_OF(config_map, ConfigMap);

/* --- what the node sees --- */

static const struct schema_property ContainerState[] = {
	{.name = "state", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "startTime", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "exitCode", .type = SCHEMA_INT, .flags = SCHEMA_READ_ONLY},
	{.name = "finishTime", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "detailStatus", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
};
static SCHEMA_OBJECT_OF(container_state, ContainerState);

static const struct schema_property Event[] = {
	{.name = "count", .type = SCHEMA_INT, .flags = SCHEMA_READ_ONLY},
	{.name = "firstTimestamp", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "lastTimestamp", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "name",
		.type = SCHEMA_STRING,
		.flags = SCHEMA_READ_ONLY,
		.since = "2017-10-01-preview"},
	{.name = "message", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "type", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
};
SCHEMA_OBJECT_OF(event_schema, Event);

static const struct schema_property ContainerInstanceView[] = {
	{.name = "restartCount", .type = SCHEMA_INT, .flags = SCHEMA_READ_ONLY},
	{.name = "currentState",
		.type = SCHEMA_OBJECT,
		.object = &container_state,
		.flags = SCHEMA_READ_ONLY},
	{.name = "previousState",
		.type = SCHEMA_OBJECT,
		.object = &container_state,
		.flags = SCHEMA_READ_ONLY},
	{.name = "events",
		.type = SCHEMA_ARRAY,
		.object = &event_schema,
		.flags = SCHEMA_READ_ONLY},
};
static SCHEMA_OBJECT_OF(container_instance_view, ContainerInstanceView);

/* --- containers --- */

#define ROW_IMAGE                                                                                                     \
	{                                                                                                             \
		.name = "image", .type = SCHEMA_STRING, .pattern = "[^[:space:][:cntrl:]]+",                          \
		.code = "InvalidImageName",                                                                           \
		.message =                                                                                            \
			"The image '{value}' in container '{container}' of container group '{group}' is invalid. An " \
			"image is named like 'registry.example/name:tag'.",                                           \
	}
#define ROW_COMMAND                                                                                \
	{                                                                                          \
		.name = "command", .type = SCHEMA_ARRAY, .items = SCHEMA_STRING,                   \
	}
#define ROW_ENVIRONMENT                                                                            \
	{                                                                                          \
		.name = "environmentVariables", .type = SCHEMA_ARRAY,                              \
		.object = &environment_variable, .fallback = "[]",                                 \
	}
#define ROW_INSTANCE_VIEW                                                                          \
	{                                                                                          \
		.name = "instanceView", .type = SCHEMA_OBJECT, .object = &container_instance_view, \
		.flags = SCHEMA_READ_ONLY,                                                         \
	}
#define ROW_VOLUME_MOUNTS                                                                          \
	{                                                                                          \
		.name = "volumeMounts", .type = SCHEMA_ARRAY, .object = &volume_mount,             \
	}
#define ROW_SECURITY_CONTEXT                                                                       \
	{                                                                                          \
		.name = "securityContext", .type = SCHEMA_ANY, .flags = SCHEMA_UNSUPPORTED,        \
		.since = "2022-10-01-preview", NO_SECURITY,                                        \
	}

static const struct schema_property ContainerProperties[] = {
	ROW_IMAGE,
	ROW_COMMAND,
	{.name = "ports", .type = SCHEMA_ARRAY, .object = &container_port},
	ROW_ENVIRONMENT,
	ROW_INSTANCE_VIEW,
	{.name = "resources", .type = SCHEMA_OBJECT, .object = &resource_requirements},
	ROW_VOLUME_MOUNTS,
	{.name = "livenessProbe",
		.type = SCHEMA_OBJECT,
		.object = &container_probe,
		.since = "2018-06-01"},
	{.name = "readinessProbe",
		.type = SCHEMA_OBJECT,
		.object = &container_probe,
		.since = "2018-06-01"},
	ROW_SECURITY_CONTEXT,
	{.name = "configMap",
		.type = SCHEMA_OBJECT,
		.object = &config_map,
		.since = CONFIG_MAP_SINCE},
};
static SCHEMA_OBJECT_OF(container_properties, ContainerProperties);

#define ROW_NAME                                                                                                         \
	{                                                                                                                \
		.name = "name", .type = SCHEMA_STRING, .flags = SCHEMA_REQUIRED,                                         \
		.pattern = RESOURCE_NAME_RULE, .min = 1, .max = 63,                                                      \
		.code = "InvalidContainerName",                                                                          \
		.message =                                                                                               \
			"The container name '{value}' in container group '{group}' is invalid. The container name must " \
			"contain no more than 63 characters and must match the regex '" RESOURCE_NAME_RULE               \
			"' (e.g. 'my-name').",                                                                           \
	}

static const struct schema_property Container[] = {
	ROW_NAME,
	{.name = "properties",
		.type = SCHEMA_OBJECT,
		.object = &container_properties,
		.flags = SCHEMA_REQUIRED},
};
SCHEMA_OBJECT_OF(container_schema, Container, .is_container = true);

#define ONLY_CONTAINERS(property, reason)                                                          \
	{                                                                                          \
		.name = property, .type = SCHEMA_ANY, .flags = SCHEMA_MISPLACED,                   \
		.instead = reason,                                                                 \
	}

static const struct schema_property InitContainerPropertiesDefinition[] = {
	ROW_IMAGE,
	ROW_COMMAND,
	ROW_ENVIRONMENT,
	ROW_INSTANCE_VIEW,
	ROW_VOLUME_MOUNTS,
	ROW_SECURITY_CONTEXT,
	ONLY_CONTAINERS(
		"ports", "Init containers have no ports: they end before the group is open."),
	ONLY_CONTAINERS("resources",
		"Init containers have no resources of their own: each may use what the group's containers "
		"request together."),
	ONLY_CONTAINERS(
		"livenessProbe", "Init containers have no probes: each must end with exit code 0."),
	ONLY_CONTAINERS("readinessProbe",
		"Init containers have no probes: each must end with exit code 0."),
	ONLY_CONTAINERS("configMap",
		"Init containers have no config map: use a secret volume or 'environmentVariables'."),
};
static SCHEMA_OBJECT_OF(init_container_properties, InitContainerPropertiesDefinition);

static const struct schema_property InitContainerDefinition[] = {
	ROW_NAME,
	{.name = "properties",
		.type = SCHEMA_OBJECT,
		.object = &init_container_properties,
		.flags = SCHEMA_REQUIRED},
};
SCHEMA_OBJECT_OF(init_container_schema, InitContainerDefinition, .is_container = true);
