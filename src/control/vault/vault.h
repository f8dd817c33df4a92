/*
 * vault: secrets by name, for whoever puts a reference into a group instead of a value. A vault is
 * a name that secrets are kept under; it is there as soon as it has one. Each change of a secret is
 * a new version with an id of its own; the newest VAULT_VERSIONS_MAX are kept.
 *
 * The shapes are those of Azure Key Vault (data plane, 7.4): names, limits, the URLs of secrets.
 * Names are compared without regard to case. Calls block on the store.
 */
#pragma once

#include <jansson.h>

#include "control/store/store.h"

#define VAULT_VALUE_MAX 25600 /* bytes of a secret's value, as Key Vault has it */
#define VAULT_VERSIONS_MAX 16
#define VAULT_VERSION_STR_MAX 33 /* 32 hex digits and a NUL */

/* A secret as the store has it:
 * {"name","versions":[{"version","value","contentType"?,"tags"?,"enabled","created"}]}, the newest
 * first. created: seconds since 1970. */

/* Letters, digits and hyphens; a vault's begins with a letter and has 3 to 24, a secret's 1 to 127.
 * Code "BadParameter". */
int vault_check_names(const char *vault, const char *name, struct err *err);

/* Adds a version. properties: {"contentType"?, "tags"?, "enabled"?} or NULL, borrowed.
 * *ret_version: the new one, new reference. */
int vault_put(struct store *store, const char *vault, const char *name, const char *value,
	const json_t *properties, struct err *err, json_t **ret_version);
/* The whole secret, new reference. -ENOENT with code "SecretNotFound". */
int vault_get(
	struct store *store, const char *vault, const char *name, struct err *err, json_t **ret);
/* One version of it (NULL or "": the newest). Borrowed from secret. */
const json_t *vault_version(const json_t *secret, const char *version);
int vault_delete(struct store *store, const char *vault, const char *name, struct err *err);
/* All secrets of a vault, by name; new reference to an array. */
int vault_list(struct store *store, const char *vault, struct err *err, json_t **ret);

/* The value that a reference means. uri: "https://VAULT.vault.azure.net/secrets/NAME[/VERSION]"
 * with any domain after the vault's name, so that what was written for Azure stays as it is; or
 * "ENDPOINT/vaults/VAULT/secrets/NAME[/VERSION]" of this Berth. Codes "InvalidSecretReference",
 * "SecretNotFound". *ret_value is owned by the caller. */
int vault_resolve(struct store *store, const char *endpoint, const char *uri, struct err *err,
	char **ret_value);
