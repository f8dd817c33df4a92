/*
 * Profiles: what groups have in common, kept under a name, with its revisions.
 *
 * `cgprofile/<rg>/<name>` is the record: who it is, the newest revision's document, and which
 * revisions there are; `cgprofile-rev/<uid>/<revision>` holds each older one. A change of what
 * groups would get makes a revision, a change of tags alone doesn't. A profile keeps its newest
 * PROFILE_REVISIONS_MAX revisions.
 *
 * A group that is made from a profile copies it: what happens to the profile later is nothing to
 * the group.
 */
#pragma once

#include "control/providers/containerinstance/internal.h"

#define PROFILE_REVISIONS_MAX 100

struct profile {
	char *key;
	json_t *record;	  /* NULL: there is none */
	int64_t revision; /* of the record in the store; STORE_ABSENT when there is none */
};

void profile_done(struct profile *profile);
/* 0 also when there is no such profile (record is NULL then). */
int profile_find(const struct arm_services *services, const char *rg, const char *name,
	struct err *err, struct profile *ret);
/* The document of one revision of a record, 0 for the newest: new reference. -ENOENT (err
 * untouched) when the profile doesn't have it. */
int profile_document(const struct arm_services *services, const json_t *record, int64_t revision,
	struct err *err, json_t **ret);
