/* What nobody needs goes: leftovers of pulls, manifests without a reference, layers without a
 * manifest or a user. */
#pragma once

#include "node/image/image.h"

/* Empties staging when no worker runs on this machine. Best effort. */
void prune_staging(struct image_store *store);
