/*
 * What one run of berth-pull shall do, its limits, and how it tells of its progress (PROTOCOL.md).
 * One job a process.
 */
#pragma once

#include <jansson.h>
#include <signal.h>

#include "base/base.h"
#include "worker/pull/digest.h"

/* SECURITY of images: every number that a stranger chooses has a ceiling here. A job may lower or
 * raise those of the first block. */
struct job_limits {
	uint64_t bytes;	  /* unpacked content of one layer, and compressed bytes of one image */
	uint64_t entries; /* of one layer's tar */
	uint64_t seconds; /* for the whole job */
};

enum {
	MANIFEST_BYTES_MAX = 4 << 20,
	CONFIG_BYTES_MAX = 8 << 20,
	LAYERS_MAX = 128,
	INDEX_ENTRIES_MAX = 1024,
	RATIO_MAX = 1100,	     /* gzip's best is 1032 to 1 */
	RATIO_FREE_BYTES = 64 << 20, /* of tar before the ratio counts */
};

struct platform {
	const char *os, *architecture, *variant; /* borrowed; variant NULL when not given */
};

struct job {
	json_t *document; /* owned; the strings below are borrowed from it, and NULL when absent */
	const char *op, *reference, *username, *password, *known_digest, *ca_file;
	json_t *realm_hosts; /* array of strings: token servers that may get the credentials; NULL:
				none */
	bool allow_loopback_http, always;
	struct platform platform;
	struct job_limits limits;
	int64_t deadline_ms; /* time_mono_ms() */
};

int job_read(int fd, struct err *err, struct job *ret);
void job_done(struct job *job);

/* Cancelling: set by a signal handler, looked at by whatever takes long. */
void job_cancel(void);
bool job_cancelled(void);
/* -ECANCELED with the code "Canceled". */
int job_canceled_err(struct err *err);

/* Lines on descriptor 1, from any thread, whole. */
void event_progress(const char *layer, const char *what, uint64_t done, uint64_t total);
void event_done(const char *reference, const char *digest, const char *manifest);
void event_error(const struct err *err);

/* Progress of one layer, at most five lines a second; one thread. */
struct progress {
	char layer[13];
	int64_t last_ms;
};
void progress_step(struct progress *progress, const char *what, uint64_t done, uint64_t total);
