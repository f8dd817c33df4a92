#include "node/volume/internal.h"

int gitrepo_up(const struct volumes *volumes, const char *dir, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err)
{
	return err_set(err, -ENOTSUP, "FailedMount", "gitRepo volumes are not there yet.");
}
