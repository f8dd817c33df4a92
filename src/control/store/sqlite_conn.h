/* One connection to the database file: its schema, its prepared statements, and its errors in
 * words. A connection belongs to one thread at a time. */
#pragma once

#include <sqlite3.h>

#include "control/store/store.h"

enum conn_stmt {
	STMT_BEGIN,	  /* for a reader: a snapshot */
	STMT_BEGIN_WRITE, /* takes the write lock at once */
	STMT_COMMIT,
	STMT_ROLLBACK,
	STMT_GET,	    /* (key): revision, value */
	STMT_LIST,	    /* (lower, upper, limit): key, revision, value */
	STMT_REVISION_OF,   /* (key): revision */
	STMT_PUT,	    /* (key, revision, value) */
	STMT_DELETE,	    /* (key) */
	STMT_META_GET,	    /* (name): value */
	STMT_META_SET,	    /* (name, value) */
	STMT_HISTORY_ADD,   /* (id, key, value) */
	STMT_HISTORY_READ,  /* (first id): id, key, value */
	STMT_HISTORY_SIZES, /* (): id, bytes, from the oldest on */
	STMT_HISTORY_BYTES, /* (id): bytes below this id */
	STMT_HISTORY_CUT,   /* (id): drops what is below */
	STMT_COUNT
};

struct conn {
	sqlite3 *db;
	const char *path; /* borrowed */
	sqlite3_stmt *stmts[STMT_COUNT];
	int log_pages; /* of the log, as the writer's last commit left it; 0 once they are folded in
			*/
};

/* The id of a change in history: its revision and its place in the commit. */
#define HISTORY_ID(revision, place) ((revision)*1024 + (place))
#define HISTORY_REVISION(id) ((id) / 1024)
static_assert(STORE_OPS_MAX <= 1024, "a place in a commit fits its part of the id");

/* Opens the file, which must be there. A writer makes or checks the schema. */
int conn_open(const char *path, bool writer, struct err *err, struct conn **ret);
void conn_free(struct conn *conn);
DEFINE_CLEANUP(struct conn *, conn_free)

/* The statement, reset and without bindings; prepared at its first use. NULL on failure: see
 * conn_error(). */
sqlite3_stmt *conn_stmt(struct conn *conn, enum conn_stmt which);

/* Runs a statement that gives no rows, and resets it. 0, or what conn_error() says. */
int conn_run(struct conn *conn, sqlite3_stmt *stmt, struct err *err);
int conn_run_simple(struct conn *conn, enum conn_stmt which, struct err *err);

/* Gives a number back when its statement has one row, else `otherwise`. */
int conn_number(
	struct conn *conn, sqlite3_stmt *stmt, int64_t otherwise, struct err *err, int64_t *ret);

/* Folds the log into the database as far as readers let it, so that the next commits begin the log
 * anew. The writer's; nothing else does it. */
int conn_checkpoint(struct conn *conn, struct err *err);

int conn_meta_get(struct conn *conn, const char *name, struct err *err, int64_t *ret);
int conn_meta_set(struct conn *conn, const char *name, int64_t value, struct err *err);

/* The connection's last error as -ENOSPC or -EIO, code "StoreUnavailable", in words for the
 * operator. */
int conn_error(struct conn *conn, struct err *err);
