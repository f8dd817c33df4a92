/*
 * Names of files as a container has them and as an SMB server has them. SMB forbids some characters
 * that Linux allows; they travel as characters of Unicode's private range, the same ones that the
 * kernel's cifs uses (its option mapposix), so that both see the same share alike.
 */
#pragma once

#include "base/base.h"

#define NAME_BYTES_MAX 255
#define URL_BYTES_MAX ((size_t)64 << 10)

/* base and path ("/a/b", from FUSE) as a URL for libsmbclient, every odd byte as %XX; owned by the
 * caller. -EILSEQ: a name that isn't UTF-8. -ENAMETOOLONG. */
int name_to_url(const char *base, const char *path, char **ret);

/* A name from the server's list into a buffer of NAME_BYTES_MAX + 1 bytes. -EINVAL: no name at all
 * ("..", "a/b" …), which is left out. */
int name_from_server(const char *name, char *ret);
