/* One file each kind. `dir` is the volume's own folder <group>/v/<name>, which is there, empty or
 * as the last call with the same definition left it (its file `definition` is volume.c's); what
 * containers see must be at <dir>/data. Contracts as of volume_up(), which puts the volume's name
 * before the message and ACI's code in place of err->code.
 */
#pragma once

#include "node/volume/volume.h"

struct volumes {
	struct volumes_config config; /* strings owned */
};

/* Also the place of a gitRepo. */
int emptydir_up(const struct volumes *volumes, const char *dir, const struct volume_group *group,
	const struct volume_spec *spec, struct err *err);
/* secret and configMap */
int files_up(const char *dir, const struct volume_group *group, const struct volume_spec *spec,
	struct err *err);
int gitrepo_up(const struct volumes *volumes, const char *dir, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err);
int azurefile_up(const struct volumes *volumes, const char *dir, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err);
/* Of the volume's folder: volume_is_up(). */
bool gitrepo_is_up(int dir);
bool azurefile_is_up(int dir);
/* Before dir is removed: ends what serves the mount and detaches it. Called for volumes of every
 * kind. Mounts right beneath dir that are left are detached by volumes_down() itself. */
int azurefile_down(const char *dir, struct err *err);

/* --- for all kinds; descriptors are of the volume's folder --- */

int volume_open_dir(const char *dir, struct err *err);
/* Is dir/name the root of a mount? Asks no server. */
bool volume_is_mounted(int dir, const char *name);
/* Detaches all that is mounted on dir/name. Nothing there is success. 0 or -errno. */
int volume_unmount(int dir, const char *name);
/* Attaches a detached mount (fsmount, open_tree) at dir/data. */
int volume_attach(int mount_fd, int dir, struct err *err);
/* The group's root gets the directory (O_PATH will do), with this mode. 0 or -errno. */
int volume_own(int dir, const struct volume_group *group, mode_t mode);
