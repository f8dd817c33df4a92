/*
 * The schema engine. One table describes every object of the API: each property with type, bounds,
 * flags, and the api-versions that have it. One walk over a document and the table validates it
 * with Azure's codes, fills in defaults, strips secrets from an answer, or hides what an older
 * api-version didn't have. Nobody writes such checks by hand per property; rules that look at
 * several properties at once are code in the provider.
 */
#pragma once

#include <jansson.h>

#include "base/base.h"

enum schema_type {
	SCHEMA_STRING,
	SCHEMA_INT,
	SCHEMA_NUMBER,
	SCHEMA_BOOL,
	SCHEMA_OBJECT, /* .object */
	SCHEMA_ARRAY,  /* of .object, or of .items when that is a scalar */
	SCHEMA_MAP,    /* of strings: tags */
	SCHEMA_ANY,
};

#define SCHEMA_REQUIRED 1u
#define SCHEMA_READ_ONLY 2u /* accepted on input and dropped */
#define SCHEMA_SECRET 4u    /* never in an answer */
#define SCHEMA_SECRET_MAP                                                                          \
	8u /* values never in an answer; the object stays, empty: secret volumes */
#define SCHEMA_UNSUPPORTED                                                                         \
	16u /* refused with PropertyNotSupported and the path; null, [] and {} are fine and        \
	       dropped */
#define SCHEMA_MISPLACED                                                                           \
	32u /* exists elsewhere, never here: refused with the path and .instead; null, [] and {}   \
	       are fine and dropped */
#define SCHEMA_URL 64u /* a string that answers show without the user and password of a URL */

struct schema_object;

struct schema_property {
	const char *name; /* matched without regard to case on input, written like this on output */
	enum schema_type type;
	enum schema_type items;		    /* of an array whose object is NULL */
	const struct schema_object *object; /* of OBJECT and ARRAY */
	unsigned flags;
	const char *since, *last; /* api-versions; NULL: always */
	double min, max;     /* numbers: value; strings: length; arrays: count. max 0: no bound */
	const char *pattern; /* POSIX extended regular expression over the whole string */
	const char *const
		*values; /* enum, NULL-terminated; compared without case, stored canonical */
	const char *const *supported; /* those of values that this version of Berth runs; NULL: all.
					 PropertyNotSupported */
	const char *instead;	      /* a sentence for PropertyNotSupported: what to do instead */
	const char *fallback;	      /* default, as JSON text: "\"Always\"" */
	/* Azure's own error for a bad value; NULL: InvalidRequestContent and words that say what is
	 * allowed. Of an UNSUPPORTED property: what an api-version that doesn't have it says. */
	const char *code;
	/* {value}, {container} and {group} are filled in. NULL: generic words. */
	const char *message;
};

struct schema_object {
	const char *name;
	const struct schema_property *properties; /* in the order in which documents have them */
	size_t n;				  /* at most 64 */
	bool is_container; /* its "name" is the {container} of messages about what is inside */
};

struct schema_context {
	const char *api_version;
	const char *group_name; /* for Azure's messages */
};

/* Validates and normalises in place: canonical property names, order and enum values, defaults,
 * nulls and read-only members dropped. As Azure's parser does, it takes "80" for a number and 80
 * for a string. Unknown properties are refused with their path. After a failure the document is
 * only good for json_decref(). Thread-safe. */
int schema_validate(const struct schema_object *object, json_t *document,
	const struct schema_context *context, struct err *err);
/* For answers: puts members in the table's order, strips secrets and hides what
 * context->api_version didn't have. In place. Members that the table doesn't know stay, at the end.
 */
void schema_present(
	const struct schema_object *object, json_t *document, const struct schema_context *context);

/* A URL without user and password, as answers show it. Owned by the caller. */
char *schema_url_shown(const char *url);

/* Whether the whole of text matches a POSIX extended regular expression. pattern is a literal: it
 * is compiled once, and known by its address from then on. */
bool schema_matches(const char *pattern, const char *text);

/* Whether a property with these bounds (either may be NULL) exists in an api-version. */
bool schema_version_has(const char *since, const char *last, const char *api_version);
