/*
 * Symbolic links on a server that has none: a file of a fixed size with a header, a checksum and
 * the target, as the kernel's cifs (mfsymlinks), macOS and Minshall and French's original write it.
 */
#pragma once

#include "base/base.h"

#define SYMLINK_TARGET_MAX 1024
#define SYMLINK_FILE_SIZE 1067

/* -ENAMETOOLONG: the target is too long; -EINVAL: it is empty. */
int symlink_format(const char *target, char ret[SYMLINK_FILE_SIZE]);
/* -EINVAL: this is an ordinary file. */
int symlink_parse(const char file[SYMLINK_FILE_SIZE], char ret[SYMLINK_TARGET_MAX + 1]);
