/*
 * The progress of a pull, as people watch it. On a terminal: a line for each layer that is there,
 * and below them one line that changes, with layers and bytes of the whole. Elsewhere only the
 * lines that stay.
 */
#pragma once

#include <stdio.h>

#include "node/image/image.h"

struct progress_view;

struct progress_view *progress_view_new(FILE *out, bool terminal);
/* The `progress` of struct image_pull; arg is the view. */
void progress_view_show(const struct image_progress *progress, void *arg);
/* Takes away the line that changes. Idempotent. */
void progress_view_end(struct progress_view *view);
void progress_view_free(struct progress_view *view);
DEFINE_CLEANUP(struct progress_view *, progress_view_free)
