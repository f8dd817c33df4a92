/*
 * Names in a layer's tar: cleaned, bounded, and sorted into what OCI's layer.md gives a meaning to.
 * Pure functions.
 */
#pragma once

#include "base/base.h"

enum {
	TARNAME_MAX = 4095,	 /* bytes of a whole name */
	TARNAME_PART_MAX = 255,	 /* bytes of one component */
	TARNAME_DEPTH_MAX = 128, /* components */
};

enum tarname_kind {
	TARNAME_ROOT, /* "./": the layer's own root */
	TARNAME_PLAIN,
	TARNAME_WHITEOUT, /* ".wh.x": base is "x" */
	TARNAME_OPAQUE,	  /* ".wh..wh..opq": hides what is below parent in lower layers */
	TARNAME_IGNORED,  /* AUFS's own files, ".wh..wh.plnk/…" */
};

struct tarname {
	enum tarname_kind kind;
	char path[TARNAME_MAX + 1]; /* clean: no leading '/', no "." and empty components; parent
				       and base cut it in two */
	char *parent;		    /* "" for the root; points into path */
	char *base; /* last component, without the ".wh." of a whiteout; points into path */
};

/* Leading "/" and "./" are dropped. -EINVAL for "..", for ".wh." where nothing normal follows, for
 * a whiteout used as a directory; -ENAMETOOLONG past the bounds. *ret_why gets a phrase. ret is
 * written to also on failure. */
int tarname_parse(const char *name, struct tarname *ret, const char **ret_why);
