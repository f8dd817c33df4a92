/*
 * Digests as images write them (OCI image-spec, descriptor.md): "sha256:" and 64 lower-case hex
 * digits, or "sha512:" and 128. Nothing else is a digest here, so that a valid one may be part of a
 * file name (CVE-2024-3727).
 */
#pragma once

#include "base/base.h"

#define DIGEST_MAX 136 /* "sha512:" + 128 digits + NUL */

bool digest_is_valid(const char *s);
/* The digits of a valid digest; borrowed from it. */
const char *digest_hex(const char *digest);
/* "sha256-…": a valid digest as a file name. */
char *digest_file_name(const char *digest, char ret[DIGEST_MAX]);
/* The first twelve digits, as people read them. */
char *digest_short(const char *digest, char ret[13]);

/* A running hash. */
struct hasher;

/* like: a valid digest, which tells the algorithm; NULL: SHA-256. */
struct hasher *hasher_new(const char *like);
void hasher_free(struct hasher *hasher);
void hasher_add(struct hasher *hasher, const void *data, size_t len);
/* Ends the hash. Nothing may be added afterwards. */
char *hasher_digest(struct hasher *hasher, char ret[DIGEST_MAX]);
DEFINE_CLEANUP(struct hasher *, hasher_free)

/* True when data has this (valid) digest. */
bool digest_matches(const char *digest, const void *data, size_t len);
