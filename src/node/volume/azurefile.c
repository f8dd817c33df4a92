#include "node/volume/internal.h"

int azurefile_up(const struct volumes *volumes, const char *dir, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err)
{
	return err_set(err, -ENOTSUP, "FailedMountAzureFileVolume",
		"azureFile volumes are not there yet.");
}

int azurefile_down(const char *dir, struct err *err)
{
	return 0;
}
