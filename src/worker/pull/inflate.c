#include "worker/pull/inflate.h"

#include <isa-l.h>
#include <zstd.h>

enum {
	INPUT_BYTES = 256 << 10,
	WINDOW_LOG_MAX = 27 /* 128 MiB, what zstd itself allows by default */
};

enum kind { KIND_UNKNOWN, KIND_PLAIN, KIND_GZIP, KIND_ZSTD };

struct inflate {
	inflate_source_fn source;
	void *arg;
	enum kind kind;
	bool source_end, broken;
	bool in_member; /* gzip, zstd: inside a member or frame, where the input may not end */
	struct inflate_state gzip;
	ZSTD_DStream *zstd;
	size_t start, end; /* input that is not used yet */
	unsigned char input[INPUT_BYTES];
};

struct inflate *inflate_new(inflate_source_fn source, void *arg)
{
	struct inflate *in = xnew(struct inflate);

	in->source = source;
	in->arg = arg;
	return in;
}

void inflate_free(struct inflate *in)
{
	if (!in)
		return;
	ZSTD_freeDStream(in->zstd);
	free(in);
}

bool inflate_broken(const struct inflate *in)
{
	return in->broken;
}

static ssize_t broken(struct inflate *in)
{
	in->broken = true;
	return -EBADMSG;
}

/* Reads more input behind what is left. 0 or a negative errno. */
static int fill(struct inflate *in)
{
	ssize_t n;

	if (in->start > 0) {
		memmove(in->input, in->input + in->start, in->end - in->start);
		in->end -= in->start;
		in->start = 0;
	}
	if (in->source_end || in->end == INPUT_BYTES)
		return 0;
	n = in->source(in->arg, in->input + in->end, INPUT_BYTES - in->end);
	if (n < 0)
		return (int)n;
	if (n == 0)
		in->source_end = true;
	in->end += (size_t)n;
	return 0;
}

static int detect(struct inflate *in)
{
	const unsigned char *p = in->input;
	uint32_t magic;

	while (in->end < 4 && !in->source_end) {
		int r = fill(in);

		if (r < 0)
			return r;
	}
	magic = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	in->kind = KIND_PLAIN;
	if (in->end >= 2 && p[0] == 0x1f && p[1] == 0x8b) {
		in->kind = KIND_GZIP;
	} else if (in->end >= 4 && (magic == 0xfd2fb528 || (magic & 0xfffffff0) == 0x184d2a50)) {
		/* RFC 8878: a frame (§3.1.1), or a skippable one in front (§3.1.2). */
		in->kind = KIND_ZSTD;
		in->zstd = ZSTD_createDStream();
		assert(in->zstd);
		ZSTD_DCtx_setParameter(in->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	}
	return 0;
}

static ssize_t read_plain(struct inflate *in, void *data, size_t n)
{
	n = MIN(n, in->end - in->start);
	memcpy(data, in->input + in->start, n);
	in->start += n;
	return (ssize_t)n;
}

/* One step of a gzip stream; 0 bytes out is no end here. */
static ssize_t step_gzip(struct inflate *in, void *data, size_t n)
{
	struct inflate_state *state = &in->gzip;
	size_t had;
	int r;

	if (!in->in_member) {
		/* RFC 1952 §2.2: members follow each other without a gap; anything else there is
		 * damage. */
		if (in->end - in->start < 2)
			return in->source_end ? broken(in) : 0;
		if (in->input[in->start] != 0x1f || in->input[in->start + 1] != 0x8b)
			return broken(in);
		isal_inflate_init(state);
		state->crc_flag = ISAL_GZIP;
		in->in_member = true;
	}
	had = in->end - in->start;
	state->next_in = in->input + in->start;
	state->avail_in = (uint32_t)had;
	state->next_out = data;
	state->avail_out = (uint32_t)n;
	r = isal_inflate(state);
	in->start += had - state->avail_in;
	if (r != ISAL_DECOMP_OK && r != ISAL_END_INPUT)
		return broken(in);
	if (state->block_state == ISAL_BLOCK_FINISH)
		in->in_member = false;
	else if (state->avail_out == n && had == state->avail_in && in->source_end)
		return broken(in); /* cut off */
	return (ssize_t)(n - state->avail_out);
}

static ssize_t step_zstd(struct inflate *in, void *data, size_t n)
{
	ZSTD_inBuffer from = {.src = in->input + in->start, .size = in->end - in->start};
	ZSTD_outBuffer to = {.dst = data, .size = n};
	size_t r = ZSTD_decompressStream(in->zstd, &to, &from);

	if (ZSTD_isError(r))
		return broken(in);
	in->start += from.pos;
	in->in_member = r != 0;
	if (in->in_member && from.pos == 0 && to.pos == 0 && in->source_end)
		return broken(in);
	return (ssize_t)to.pos;
}

ssize_t inflate_read(struct inflate *in, void *data, size_t n)
{
	n = MIN(n, (size_t)1 << 30);
	if (in->kind == KIND_UNKNOWN) {
		int r = detect(in);

		if (r < 0)
			return r;
	}
	for (;;) {
		size_t before;
		ssize_t got;

		if (in->end - in->start < 2 && !in->source_end) {
			int r = fill(in);

			if (r < 0)
				return r;
		}
		if (in->start == in->end && in->source_end && !in->in_member)
			return 0;
		before = in->end - in->start;
		if (in->kind == KIND_PLAIN)
			got = read_plain(in, data, n);
		else
			got = in->kind == KIND_GZIP ? step_gzip(in, data, n)
						    : step_zstd(in, data, n);
		if (got != 0)
			return got;
		/* A decoder that takes nothing and gives nothing wants more than two bytes at once.
		 */
		if (before == in->end - in->start && before > 1) {
			int r = before < INPUT_BYTES && !in->source_end ? fill(in) : -EBADMSG;

			if (r < 0)
				return r == -EBADMSG ? broken(in) : r;
		}
	}
}
