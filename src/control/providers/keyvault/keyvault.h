/*
 * keyvault: the part of Azure Key Vault's data plane (7.4) that secrets need, below
 * /vaults/VAULT/secrets, so that a group can name a secret instead of holding it. What it keeps,
 * control/vault knows.
 */
#pragma once

#include "control/arm/arm.h"

extern const struct arm_provider keyvault_provider;
