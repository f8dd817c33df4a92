/*
 * What the image worker wrote, read by root: the lines on its standard output and the two kinds of
 * documents in the store. The worker has parsed strangers' bytes and counts as one of them. Each
 * shape is small and fixed; what doesn't fit is refused. Pure functions over bytes
 * (document_fuzz.c).
 */
#pragma once

#include "base/base.h"
#include "node/image/image.h"
#include "worker/pull/digest.h"
#include "worker/pull/reference.h"

#define WORKER_LINE_MAX 8192
#define MANIFEST_FILE_MAX ((size_t)4 << 20)
#define REF_FILE_MAX ((size_t)8 << 10)
#define IMAGE_LAYERS_MAX 128

/* Exactly n lower-case hex digits. */
bool hex_valid(const char *s, size_t n);

enum worker_event { WORKER_PROGRESS, WORKER_DONE, WORKER_ERROR };

struct worker_line {
	enum worker_event event;
	/* progress */
	char layer[13];
	const char *what; /* one of the known words */
	uint64_t done_bytes, total_bytes;
	/* done */
	char reference[REFERENCE_MAX];
	char digest[DIGEST_MAX];
	/* error */
	const char *code;   /* one of image.h's */
	int r;		    /* its errno */
	char message[1024]; /* no control characters */
};

/* One line without its newline. -EBADMSG when it isn't one of the protocol's. */
int worker_line_parse(const char *data, size_t len, struct worker_line *ret);

struct ref_document {
	char reference[REFERENCE_MAX];
	char digest[DIGEST_MAX];
	char pulled[40];
	bool is_private;
	bool imported; /* out of an archive: no registry has it */
};

/* refs/….json; -EBADMSG when it isn't one. */
int ref_document_parse(const char *data, size_t len, struct ref_document *ret);

/* manifests/….json of the given digest: fills all of *ret but reference and name_digest. -EBADMSG
 * as above. */
int manifest_document_parse(const char *data, size_t len, const char *digest, struct image **ret);
