/* Volumes of a container group. Rules that the table can't say are in validate_volumes.c. */
#include "control/providers/containerinstance/internal.h"
#include "control/providers/containerinstance/schema_rows.h"

static const struct schema_property AzureFileVolume[] = {
	{.name = "shareName", .type = SCHEMA_STRING, .flags = SCHEMA_REQUIRED},
	{.name = "readOnly", .type = SCHEMA_BOOL},
	{.name = "storageAccountName", .type = SCHEMA_STRING, .flags = SCHEMA_REQUIRED},
	{.name = "storageAccountKey", .type = SCHEMA_STRING, .flags = SCHEMA_SECRET},
	{.name = "storageAccountKeyReference",
		.type = SCHEMA_STRING,
		.since = "2024-10-01-preview"},
	{.name = "userAssignedIdentityClientId",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2026-07-01",
		.instead = "Give 'storageAccountKey': groups have no identity."},
};
static SCHEMA_OBJECT_OF(azure_file_volume, AzureFileVolume);

static const struct schema_object empty_dir_volume = {"EmptyDirVolume", NULL, 0};

static const struct schema_property GitRepoVolume[] = {
	{.name = "directory", .type = SCHEMA_STRING},
	{.name = "repository", .type = SCHEMA_STRING, .flags = SCHEMA_REQUIRED | SCHEMA_URL},
	{.name = "revision", .type = SCHEMA_STRING},
};
static SCHEMA_OBJECT_OF(git_repo_volume, GitRepoVolume);

static const struct schema_property Volume[] = {
	{.name = "name",
		.type = SCHEMA_STRING,
		.flags = SCHEMA_REQUIRED,
		.pattern = RESOURCE_NAME_RULE,
		.min = 1,
		.max = 63,
		.code = "InvalidVolumeName",
		.message =
			"The volume name '{value}' in container group '{group}' is invalid. The volume name must "
			"contain no more than 63 characters and must match the regex '" RESOURCE_NAME_RULE
			"' (e.g. 'my-name')."},
	{.name = "azureFile", .type = SCHEMA_OBJECT, .object = &azure_file_volume},
	{.name = "emptyDir",
		.type = SCHEMA_OBJECT,
		.object = &empty_dir_volume,
		.since = "2017-10-01-preview"},
	{.name = "secret",
		.type = SCHEMA_MAP,
		.flags = SCHEMA_SECRET_MAP,
		.since = "2017-12-01-preview"},
	{.name = "secretReference", .type = SCHEMA_MAP, .since = "2024-10-01-preview"},
	{.name = "gitRepo",
		.type = SCHEMA_OBJECT,
		.object = &git_repo_volume,
		.since = "2017-12-01-preview"},
};
SCHEMA_OBJECT_OF(volume_schema, Volume);
