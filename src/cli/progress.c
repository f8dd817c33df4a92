#include "cli/progress.h"

#include "base/time.h"

#define LAYERS_MAX 128

struct layer_view {
	char id[13];
	bool there;
	uint64_t done_bytes, total_bytes;
};

struct progress_view {
	FILE *out;
	bool terminal, drawn;
	int64_t began_ms;
	size_t n;
	struct layer_view layers[LAYERS_MAX];
};

struct progress_view *progress_view_new(FILE *out, bool terminal)
{
	struct progress_view *view = xnew(struct progress_view);

	view->out = out;
	view->terminal = terminal;
	return view;
}

void progress_view_free(struct progress_view *view)
{
	if (view)
		progress_view_end(view);
	free(view);
}

void progress_view_end(struct progress_view *view)
{
	if (view->drawn)
		fputs("\r\033[K", view->out);
	view->drawn = false;
	fflush(view->out);
}

static struct layer_view *find_layer(struct progress_view *view, const char *id)
{
	struct layer_view *layer;

	for (size_t i = 0; i < view->n; i++)
		if (str_eq(view->layers[i].id, id))
			return &view->layers[i];
	if (view->n == LAYERS_MAX)
		return NULL;
	layer = &view->layers[view->n++];
	str_copy(layer->id, sizeof(layer->id), id);
	return layer;
}

/* Under 60 columns, so that it never wraps: what has wrapped can't be taken away again. */
static void draw(struct progress_view *view)
{
	uint64_t done = 0, total = 0;
	int64_t elapsed_ms = time_mono_ms() - view->began_ms;
	size_t there = 0;

	if (!view->terminal)
		return;
	progress_view_end(view);
	for (size_t i = 0; i < view->n; i++) {
		done += view->layers[i].done_bytes;
		total += view->layers[i].total_bytes;
		there += view->layers[i].there;
	}
	if (view->n == 0)
		fputs("asking the registry", view->out);
	else
		fprintf(view->out, "%zu of %zu layers, %.1f of %.1f MB, %.1f MB/s", there, view->n,
			(double)done / 1e6, (double)total / 1e6,
			elapsed_ms > 0 ? (double)done / 1e3 / (double)elapsed_ms : 0);
	fflush(view->out);
	view->drawn = true;
}

void progress_view_show(const struct image_progress *progress, void *arg)
{
	struct progress_view *view = arg;
	struct layer_view *layer = progress->layer[0] ? find_layer(view, progress->layer) : NULL;
	bool exists = str_eq(progress->what, "Exists");

	if (view->began_ms == 0)
		view->began_ms = time_mono_ms();
	if (layer && !layer->there) {
		layer->total_bytes = progress->total_bytes;
		layer->done_bytes = progress->done_bytes;
		/* What was there already is no part of the transfer. */
		if (exists)
			layer->total_bytes = layer->done_bytes = 0;
		layer->there = exists || str_eq(progress->what, "Complete");
		if (layer->there) {
			progress_view_end(view);
			fprintf(view->out, "%-12s  %8.1f MB  %s\n", layer->id,
				(double)progress->total_bytes / 1e6,
				exists ? "was here already" : "pulled");
		}
	}
	draw(view);
}
