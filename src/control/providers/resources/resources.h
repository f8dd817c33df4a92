/*
 * resources: Microsoft.Resources, what is around the resources of other providers. Subscriptions
 * and tenants (one each), locations (one), providers and their registration, resource groups, and
 * lists over all resources.
 *
 * A resource group is the store record rg/<lower-case name>: {"uid", "group": the document as the
 * API shows it}. Deleting one marks it first (provisioningState Deleting: nothing new is let in),
 * then has every provider delete what it holds, and removes the record when nothing is left. The
 * steps can be repeated: a kill in between is made good by resources_resume() at the next start, by
 * the client's next poll, or by another DELETE.
 */
#pragma once

#include "control/arm/arm.h"

extern const struct arm_provider resources_provider;

/* Goes on with deletions that a stop cut short. Blocking. 0, or the first error (the rest is tried
 * all the same). */
int resources_resume(const struct arm_services *services,
	const struct arm_provider *const *providers, struct err *err);
