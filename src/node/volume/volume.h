/*
 * volume: what the containers of a group share on disk: emptyDir, secret, configMap, gitRepo and
 * azureFile. The agent calls it in the node's mount namespace, on the thread of the group's round;
 * calls block, are idempotent and can be cut off by a kill -9 anywhere: what is half made is found
 * and completed, or removed, by the next one.
 *
 * A volume lives below the group's folder, at <group>/v/<name>/, root's and mode 0711 like all
 * folders above it. What containers see of it is the directory that volume_path() names; they get
 * it by a bind mount and own it as the group's root. No name on disk comes from a request but the
 * volume's own, which was checked; keys of secrets are one checked path component.
 *
 * Life: a volume is made before the first container that mounts it starts, survives crashes and
 * restarts of containers, and goes with the group's sandbox when the group stops, ends or is
 * deleted. So an emptyDir survives a crash and not a stop, as in ACI.
 */
#pragma once

#include <jansson.h>

#include "base/base.h"

struct volumes; /* of one node */

struct volumes_config {
	const char *clone_program; /* absolute path of berth-clone */
	const char *smb_program; /* absolute path of berth-smb; used where the kernel has no cifs */
	const char *azure_files; /* where a storage account's server is, "{account}" filled in:
				    "{account}.file.core.windows.net:445" */
	const char *ca_file;	 /* PEM of authorities to trust besides the system's; NULL: none */
	bool allow_loopback;	 /* repositories may be on this machine's loopback */
	uint64_t empty_dir_max_bytes; /* of an emptyDir that doesn't say, and the most for others */
	uint64_t git_repo_max_bytes;  /* what a gitRepo holds, with what containers write to it */
};

int volumes_open(const struct volumes_config *config, struct err *err, struct volumes **ret);
void volumes_close(struct volumes *volumes);

enum volume_kind {
	VOLUME_EMPTY_DIR,
	VOLUME_SECRET,	   /* tmpfs, one file a key, mode 0400 */
	VOLUME_CONFIG_MAP, /* a directory, mode 0444; replaced in place, each file atomically */
	VOLUME_GIT_REPO,
	VOLUME_AZURE_FILE,
};

struct volume_spec {
	const char
		*name; /* a name as spec_name_is_valid() has it, or made by the agent: with a dot */
	enum volume_kind kind;
	uint64_t size_bytes; /* EMPTY_DIR: bound on what it holds; 0: the node's */
	const json_t
		*files; /* SECRET: {"key": "<base64>"}; CONFIG_MAP: {"key": "text"}. Borrowed */
	const char *repository; /* GIT_REPO: https URL */
	const char *revision;	/* or NULL: HEAD */
	const char *directory;	/* or NULL: the repository's name; "." is the volume's root */
	const char *share, *account, *key; /* AZURE_FILE */
	bool read_only;			   /* AZURE_FILE */
};

/* The group that a volume belongs to. */
struct volume_group {
	const char *uid; /* of the group */
	const char *dir; /* the group's folder, absolute */
	uint32_t uid_base;
};

/* Makes the volume, or completes it, or brings a configMap up to date. Done already is success and
 * cheap. One that was made by another definition is removed first, and so no container that mounts
 * it may be running; a configMap's files are no part of the definition. cancel_fd readable: gives
 * up with -ECANCELED; -1: none. On failure nothing half-made is mounted; err->code is ACI's name of
 * the event: "FailedMountAzureFileVolume" or "FailedMount", and the message says what to do. */
int volume_up(struct volumes *volumes, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err);
/* Whether volume_up() would find it done. Asks no server and takes no time; azureFile and gitRepo
 * alone, the others come up as fast. */
bool volume_is_up(const struct volume_group *group, const struct volume_spec *spec);
/* The directory to bind into containers; owned by the caller. */
char *volume_path(const struct volume_group *group, const struct volume_spec *spec);
/* Makes `path` (relative, no "..") within the volume, a directory or an empty file of the group's
 * root, where something else will be mounted on. A link on the way, or something of another kind,
 * is refused with the code "ContainerCreateFailed". */
int volume_make_place(const struct volume_group *group, const struct volume_spec *spec,
	const char *path, bool is_file, struct err *err);
/* Unmounts and removes every volume of the group whose name has no dot (the agent's have one) and
 * is not in names (NULL-terminated). */
int volumes_prune(struct volumes *volumes, const struct volume_group *group,
	const char *const *names, struct err *err);
/* Unmounts every volume of the group and removes <group>/v with all that is in it, what a kill -9
 * left included. A server that hangs doesn't hold it up: its mount is detached. */
int volumes_down(struct volumes *volumes, const struct volume_group *group, struct err *err);
