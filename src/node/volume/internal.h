/* One file each kind. `dir` is the volume's own folder <group>/v/<name>, which is there, empty or
 * as the last call left it; what containers see must be at <dir>/data. Contracts as of volume_up().
 */
#pragma once

#include "node/volume/volume.h"

struct volumes {
	struct volumes_config config; /* strings owned */
};

int emptydir_up(const char *dir, const struct volume_group *group, const struct volume_spec *spec,
	struct err *err);
/* secret and configMap */
int files_up(const char *dir, const struct volume_group *group, const struct volume_spec *spec,
	struct err *err);
int gitrepo_up(const struct volumes *volumes, const char *dir, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err);
int azurefile_up(const struct volumes *volumes, const char *dir, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err);
/* Before dir is removed: ends what serves the mount and detaches it. Mounts of other kinds are
 * detached by volumes_down() itself. */
int azurefile_down(const char *dir, struct err *err);
