/* One line of text taken apart into words as a POSIX shell quotes them (POSIX.1-2017, Shell Command
 * Language, 2.2), and nothing else of a shell: no variables, patterns, pipes or comments. */
#pragma once

#include "base/json.h"

#define WORDS_TEXT_MAX ((size_t)64 << 10)
#define WORDS_MAX 1024

/* An array of strings, at least one; new reference. Code "InvalidCommand" for a quote that isn't
 * closed, an empty text, or one that is too long. */
int words_split(const char *text, struct err *err, json_t **ret);
