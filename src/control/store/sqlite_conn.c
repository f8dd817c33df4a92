#include "control/store/sqlite_conn.h"

/* Of the schema, in user_version. A change of the schema raises it and adds a step to migrate(). */
#define SCHEMA_VERSION 1

/* "Brth": tells a database of ours from any other. */
#define APPLICATION_ID 0x42727468

#define BUSY_MS 5000

/* The value comes last, so that a row's revision is found without walking the pages of a large
 * value. kv is a table with an index and not WITHOUT ROWID: documents of some kilobytes in the
 * inner nodes of one tree would leave it four children a node. */
static const char schema[] =
	"BEGIN IMMEDIATE;"
	"CREATE TABLE kv(key TEXT PRIMARY KEY NOT NULL, revision INTEGER NOT NULL, value BLOB NOT NULL);"
	"CREATE TABLE history(id INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB);"
	"CREATE TABLE meta(name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) WITHOUT ROWID;"
	"INSERT INTO meta VALUES('revision', 0), ('compacted', 0);"
	"PRAGMA application_id = 1114797160;" /* APPLICATION_ID */
	"PRAGMA user_version = 1;"
	"COMMIT;";
static_assert(APPLICATION_ID == 1114797160, "as the schema sets it");

static const char *const stmt_text[STMT_COUNT] = {
	[STMT_BEGIN] = "BEGIN",
	[STMT_BEGIN_WRITE] = "BEGIN IMMEDIATE",
	[STMT_COMMIT] = "COMMIT",
	[STMT_ROLLBACK] = "ROLLBACK",
	[STMT_GET] = "SELECT revision, value FROM kv WHERE key = ?1",
	[STMT_LIST] =
		"SELECT key, revision, value FROM kv WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3",
	[STMT_REVISION_OF] = "SELECT revision FROM kv WHERE key = ?1",
	[STMT_PUT] = ("INSERT INTO kv(key, revision, value) VALUES(?1, ?2, ?3) ON CONFLICT(key)"
		      " DO UPDATE SET revision = excluded.revision, value = excluded.value"),
	[STMT_DELETE] = "DELETE FROM kv WHERE key = ?1",
	[STMT_META_GET] = "SELECT value FROM meta WHERE name = ?1",
	[STMT_META_SET] = "UPDATE meta SET value = ?2 WHERE name = ?1",
	[STMT_HISTORY_ADD] = "INSERT INTO history(id, key, value) VALUES(?1, ?2, ?3)",
	[STMT_HISTORY_READ] = "SELECT id, key, value FROM history WHERE id >= ?1 ORDER BY id",
	[STMT_HISTORY_SIZES] = "SELECT id, length(value) FROM history ORDER BY id",
	[STMT_HISTORY_BYTES] = "SELECT coalesce(sum(length(value)), 0) FROM history WHERE id < ?1",
	[STMT_HISTORY_CUT] = "DELETE FROM history WHERE id < ?1",
};

int conn_error(struct conn *conn, struct err *err)
{
	int code = sqlite3_extended_errcode(conn->db);
	int system = sqlite3_system_errno(conn->db);

	if ((code & 0xff) == SQLITE_FULL ||
		((code & 0xff) == SQLITE_IOERR &&
			(system == ENOSPC || system == EDQUOT || system == EFBIG)))
		return err_set(err, -ENOSPC, "StoreUnavailable",
			"There is no space left for the store %s. Nothing was changed; try again once there is.",
			conn->path);
	if ((code & 0xff) == SQLITE_NOTADB || (code & 0xff) == SQLITE_CORRUPT)
		return err_set(err, -EIO, "StoreUnavailable",
			"The store %s is damaged or no database: %s. Restore it from a backup.",
			conn->path, sqlite3_errmsg(conn->db));
	if ((code & 0xff) == SQLITE_IOERR && system != 0)
		return err_set(err, -EIO, "StoreUnavailable",
			"The store %s can't be used: %s (%s).", conn->path,
			sqlite3_errmsg(conn->db), err_str(system));
	return err_set(err, -EIO, "StoreUnavailable", "The store %s can't be used: %s.", conn->path,
		sqlite3_errmsg(conn->db));
}

sqlite3_stmt *conn_stmt(struct conn *conn, enum conn_stmt which)
{
	sqlite3_stmt **stmt = &conn->stmts[which];

	if (!*stmt && sqlite3_prepare_v3(conn->db, stmt_text[which], -1, SQLITE_PREPARE_PERSISTENT,
			      stmt, NULL) != SQLITE_OK)
		return NULL;
	return *stmt;
}

/* The values that are bound are borrowed from the caller, so no binding stays behind. */
int conn_run(struct conn *conn, sqlite3_stmt *stmt, struct err *err)
{
	int code, r = 0;

	if (!stmt)
		return conn_error(conn, err);
	do
		code = sqlite3_step(stmt);
	while (code == SQLITE_ROW);
	if (code != SQLITE_DONE)
		r = conn_error(conn, err);
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return r;
}

int conn_run_simple(struct conn *conn, enum conn_stmt which, struct err *err)
{
	return conn_run(conn, conn_stmt(conn, which), err);
}

int conn_number(
	struct conn *conn, sqlite3_stmt *stmt, int64_t otherwise, struct err *err, int64_t *ret)
{
	int code, r = 0;

	if (!stmt)
		return conn_error(conn, err);
	code = sqlite3_step(stmt);
	if (code == SQLITE_ROW)
		*ret = sqlite3_column_int64(stmt, 0);
	else if (code == SQLITE_DONE)
		*ret = otherwise;
	else
		r = conn_error(conn, err);
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return r;
}

int conn_meta_get(struct conn *conn, const char *name, struct err *err, int64_t *ret)
{
	sqlite3_stmt *stmt = conn_stmt(conn, STMT_META_GET);

	if (stmt)
		sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
	return conn_number(conn, stmt, 0, err, ret);
}

int conn_meta_set(struct conn *conn, const char *name, int64_t value, struct err *err)
{
	sqlite3_stmt *stmt = conn_stmt(conn, STMT_META_SET);

	if (stmt) {
		sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 2, value);
	}
	return conn_run(conn, stmt, err);
}

int conn_checkpoint(struct conn *conn, struct err *err)
{
	int pages = 0, folded = 0;

	if (sqlite3_wal_checkpoint_v2(conn->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &folded) !=
		SQLITE_OK)
		return conn_error(conn, err);
	if (pages == folded)
		conn->log_pages = 0;
	return 0;
}

/* In place of SQLite's own hook, which would keep it to itself when a checkpoint fails. */
static int note_log_pages(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct conn *conn = arg;

	conn->log_pages = pages;
	return SQLITE_OK;
}

static int exec(struct conn *conn, const char *sql, struct err *err)
{
	return sqlite3_exec(conn->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
									  : conn_error(conn, err);
}

static int query_number(struct conn *conn, const char *sql, struct err *err, int64_t *ret)
{
	sqlite3_stmt *stmt = NULL;
	int r;

	if (sqlite3_prepare_v2(conn->db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return conn_error(conn, err);
	r = conn_number(conn, stmt, 0, err, ret);
	sqlite3_finalize(stmt);
	return r;
}

static int migrate(struct conn *conn, struct err *err)
{
	int64_t version, application, tables;
	int r;

	r = query_number(conn, "PRAGMA user_version", err, &version);
	if (r == 0)
		r = query_number(conn, "PRAGMA application_id", err, &application);
	if (r == 0)
		r = query_number(conn, "SELECT count(*) FROM sqlite_schema", err, &tables);
	if (r < 0)
		return r;
	if (tables > 0 && application != APPLICATION_ID)
		return err_set(err, -EIO, "StoreUnavailable",
			"%s is a database of another program.", conn->path);
	if (version > SCHEMA_VERSION)
		return err_set(err, -ENOTSUP, "StoreTooNew",
			"The store %s has schema version %lld, and Berth " BERTH_VERSION
			" knows versions up to %d. Start the Berth that last used it, or a newer one.",
			conn->path, (long long)version, SCHEMA_VERSION);
	return version == 0 ? exec(conn, schema, err) : 0;
}

/* WAL lets readers go on beside the writer, and FULL syncs it at each commit: what was acknowledged
 * survives a power cut. Memory stays small, for berthd is meant to idle in a few megabytes; the
 * page cache of the kernel does the rest. */
static int set_up(struct conn *conn, bool writer, struct err *err)
{
	int r;

	sqlite3_extended_result_codes(conn->db, 1);
	sqlite3_busy_timeout(conn->db, BUSY_MS);
	sqlite3_db_config(conn->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(conn->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	r = exec(conn,
		"PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON;"
		"PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216;",
		err);
	if (r < 0)
		return r;
	if (!writer)
		return exec(conn, "PRAGMA cache_size = -128; PRAGMA query_only = ON;", err);
	sqlite3_wal_hook(conn->db, note_log_pages, conn);
	/* First the version: a file that isn't ours stays as it is. */
	r = migrate(conn, err);
	if (r < 0)
		return r;
	return exec(conn, "PRAGMA cache_size = -1024; PRAGMA journal_mode = WAL;", err);
}

int conn_open(const char *path, bool writer, struct err *err, struct conn **ret)
{
	_cleanup_(conn_freep) struct conn *conn = xnew(struct conn);
	int r;

	conn->path = path;
	if (sqlite3_open_v2(path, &conn->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
		SQLITE_OK)
		return conn_error(conn, err);
	r = set_up(conn, writer, err);
	if (r < 0)
		return r;
	*ret = take_ptr(conn);
	return 0;
}

void conn_free(struct conn *conn)
{
	for (size_t i = 0; i < STMT_COUNT; i++)
		sqlite3_finalize(conn->stmts[i]);
	sqlite3_close(conn->db);
	free(conn);
}
