/*
 * Runs the image worker once: in namespaces and ids of its own, with a job on its standard input,
 * until it has said "done" or "error" (src/worker/pull/PROTOCOL.md). Nothing that it says is
 * believed beyond its form.
 */
#pragma once

#include "node/image/store.h"

struct worker_run {
	const json_t *job;
	int archive_fd;							    /* -1: none */
	int cancel_fd;							    /* -1: none */
	void (*progress)(const struct image_progress *progress, void *arg); /* may be NULL */
	void *arg;
	const char *what; /* for messages: the reference, or "the archive" */
};

/* Blocking. The worker dies with the calling thread. *ret is the "done" line. */
int worker_run(struct image_store *store, const struct worker_run *run, struct err *err,
	struct worker_line *ret);
