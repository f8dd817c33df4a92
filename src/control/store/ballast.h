/*
 * The reserve beside a database: a file of real blocks that is given back to the file system, step
 * by step, when a write finds it full, and made anew once there is room. In steps, because whoever
 * filled the disk may still be writing and takes what is given back too: each step is one more race
 * with him.
 *
 * A file system that can't reserve blocks has no reserve, which is logged and no error. From any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BALLAST_BYTES ((uint64_t)8 << 20)
#define BALLAST_STEP ((uint64_t)256 << 10)
/* What must be free beyond the reserve before it is made: else the next write would take it. */
#define BALLAST_MARGIN ((uint64_t)1 << 20)

struct ballast;

/* Takes over what an earlier process left, and makes it whole if there is room. Mode 0600. */
struct ballast *ballast_new(const char *path);
/* The file stays. NULL is fine. */
void ballast_free(struct ballast *ballast);

/* Whether nothing of it is given back; also true where there can't be one. */
bool ballast_whole(struct ballast *ballast);
/* Tries to make it whole when it isn't; cheap. What ballast_whole() says afterwards. */
bool ballast_fill(struct ballast *ballast);
/* Gives one step back. False: there is nothing left to give. */
bool ballast_give(struct ballast *ballast);
/* Whether the file system has less than a step free, as far as it tells. */
bool ballast_disk_full(struct ballast *ballast);
