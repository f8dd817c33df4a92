/*
 * The store in one SQLite file. Commits queue up for one thread, which runs all that wait in one
 * transaction: the more threads commit, the more of them share the one fsync. Readers have
 * connections of their own and, thanks to WAL, never wait for the writer.
 */
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/pool.h"
#include "control/store/ballast.h"
#include "control/store/internal.h"
#include "control/store/sqlite_conn.h"
#include "control/store/watch.h"

#define READERS_MAX 4
#define READ_CHANGES 256
#define READ_BYTES ((size_t)1 << 20)
#define INDEX_BYTES (128 << 10) /* of a log of 64 MiB */
#define CHECKPOINT_PAGES 1000
#define FILL_S 5 /* how often a reserve that isn't whole is looked after */

/* A commit that waits. It lives on the stack of its caller. */
struct request {
	struct request *next;
	const struct store_op *ops;
	size_t n;
	struct err err;
	int r;
	int64_t revision;
	bool done;
	pthread_cond_t wake;
};

/* What a transaction has changed so far; the store takes it over when the transaction is through.
 */
struct batch {
	int64_t revision;
	int64_t history_bytes;
	int64_t compacted;
};

struct sqlite {
	struct store store;
	char *path;
	int lock_fd;
	int index_fd; /* see keep_index() */
	struct ballast *ballast;

	pthread_mutex_t lock; /* the queue */
	pthread_cond_t queued;
	struct request *head;
	struct request **tail;
	bool stop;
	struct pool *committer;

	/* The committer's own. */
	struct conn *writer; /* NULL after a failure: opened again by the next commit */
	struct batch last;

	pthread_mutex_t readers_lock;
	pthread_cond_t reader_back;
	struct conn *readers[READERS_MAX]; /* the idle ones, the last used on top */
	unsigned n_idle;
	unsigned n_readers;

	struct watch_hub *hub;
};

static struct sqlite *sqlite_of(struct store *store)
{
	return (struct sqlite *)store;
}

/* ---- reading ---- */

static int reader_get(struct sqlite *sqlite, struct err *err, struct conn **ret)
{
	struct conn *conn = NULL;
	int r = 0;

	pthread_mutex_lock(&sqlite->readers_lock);
	while (sqlite->n_idle == 0 && sqlite->n_readers == READERS_MAX)
		pthread_cond_wait(&sqlite->reader_back, &sqlite->readers_lock);
	if (sqlite->n_idle > 0)
		conn = sqlite->readers[--sqlite->n_idle];
	else
		sqlite->n_readers++;
	pthread_mutex_unlock(&sqlite->readers_lock);
	if (!conn)
		r = conn_open(sqlite->path, false, err, &conn);
	if (r == 0) {
		*ret = conn;
		return 0;
	}
	pthread_mutex_lock(&sqlite->readers_lock);
	sqlite->n_readers--;
	pthread_cond_signal(&sqlite->reader_back);
	pthread_mutex_unlock(&sqlite->readers_lock);
	return r;
}

/* A connection that failed is closed, for a new one may do better. */
static void reader_put(struct sqlite *sqlite, struct conn *conn, bool failed)
{
	if (failed)
		conn_free(conn);
	pthread_mutex_lock(&sqlite->readers_lock);
	if (failed)
		sqlite->n_readers--;
	else
		sqlite->readers[sqlite->n_idle++] = conn;
	pthread_cond_signal(&sqlite->reader_back);
	pthread_mutex_unlock(&sqlite->readers_lock);
}

static int no_memory(struct err *err)
{
	return err_set(err, -EIO, "StoreUnavailable", "There is no memory left to read the store.");
}

/* The value in a column, "" and not NULL when it is empty; NULL for SQL's NULL, or when out of
 * memory. */
static const char *column_value(sqlite3_stmt *stmt, int column, size_t *ret_len)
{
	const char *value;

	*ret_len = 0;
	if (sqlite3_column_type(stmt, column) == SQLITE_NULL)
		return NULL;
	value = sqlite3_column_blob(stmt, column);
	*ret_len = (size_t)sqlite3_column_bytes(stmt, column);
	return *ret_len == 0 ? "" : value;
}

static int read_entry(struct conn *conn, const char *key, struct err *err, struct store_entry *ret)
{
	sqlite3_stmt *stmt = conn_stmt(conn, STMT_GET);
	const char *value;
	size_t len;
	int code, r;

	if (!stmt)
		return conn_error(conn, err);
	sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC);
	code = sqlite3_step(stmt);
	if (code == SQLITE_ROW) {
		value = column_value(stmt, 1, &len);
		r = value ? entry_init(ret, key, value, len, sqlite3_column_int64(stmt, 0))
			  : -ENOMEM;
		if (r < 0)
			r = no_memory(err);
	} else {
		r = code == SQLITE_DONE ? -ENOENT : conn_error(conn, err);
	}
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return r;
}

static int sqlite_get(
	struct store *store, const char *key, struct err *err, struct store_entry *ret)
{
	struct sqlite *sqlite = sqlite_of(store);
	struct conn *conn;
	int r;

	r = reader_get(sqlite, err, &conn);
	if (r < 0)
		return r;
	r = read_entry(conn, key, err, ret);
	reader_put(sqlite, conn, r < 0 && r != -ENOENT);
	return r;
}

static int read_list(
	sqlite3_stmt *stmt, struct conn *conn, struct err *err, struct store_list *list)
{
	int code;

	while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *key = (const char *)sqlite3_column_text(stmt, 0);
		size_t len;
		const char *value = column_value(stmt, 2, &len);

		if (!key || !value ||
			list_add(list, key, value, len, sqlite3_column_int64(stmt, 1)) < 0)
			return no_memory(err);
	}
	return code == SQLITE_DONE ? 0 : conn_error(conn, err);
}

/* The list and its revision are of one snapshot, which the first read takes. */
static int list_snapshot(struct conn *conn, const char *lower, const char *upper, size_t limit,
	struct err *err, struct store_list *list)
{
	sqlite3_stmt *stmt = conn_stmt(conn, STMT_LIST);
	int r;

	if (!stmt)
		return conn_error(conn, err);
	r = conn_run_simple(conn, STMT_BEGIN, err);
	if (r < 0)
		return r;
	r = conn_meta_get(conn, "revision", err, &list->revision);
	if (r == 0) {
		sqlite3_bind_text(stmt, 1, lower, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, upper, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 3, limit > 0 && limit < INT64_MAX ? (int64_t)limit : -1);
		r = read_list(stmt, conn, err, list);
		sqlite3_reset(stmt);
		sqlite3_clear_bindings(stmt);
	}
	/* After a failure the connection is closed, and its transaction with it. */
	return r < 0 ? r : conn_run_simple(conn, STMT_COMMIT, err);
}

static int sqlite_list(struct store *store, const char *prefix, const char *after, size_t limit,
	struct err *err, struct store_list *ret)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	_cleanup_free_ char *lower = range_lower(prefix, after);
	_cleanup_free_ char *upper = range_upper(prefix);
	struct sqlite *sqlite = sqlite_of(store);
	struct conn *conn;
	int r;

	r = reader_get(sqlite, err, &conn);
	if (r < 0)
		return r;
	r = list_snapshot(conn, lower, upper, limit, err, &list);
	reader_put(sqlite, conn, r < 0);
	if (r < 0)
		return r;
	*ret = list;
	list = (struct store_list){0};
	return 0;
}

/* ---- history ---- */

static int read_changes(
	struct conn *conn, sqlite3_stmt *stmt, struct err *err, struct store_list *list)
{
	size_t bytes = 0;
	int code;

	while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
		int64_t revision = HISTORY_REVISION(sqlite3_column_int64(stmt, 0));
		const char *key = (const char *)sqlite3_column_text(stmt, 1);
		size_t len;
		const char *value = column_value(stmt, 2, &len);

		if ((list->n >= READ_CHANGES || bytes >= READ_BYTES) &&
			revision != list->entries[list->n - 1].revision)
			return 0;
		if (!key || list_add(list, key, value, len, revision) < 0)
			return no_memory(err);
		bytes += len;
	}
	return code == SQLITE_DONE ? 0 : conn_error(conn, err);
}

static int sqlite_read(void *arg, int64_t after, struct err *err, struct store_list *ret)
{
	struct sqlite *sqlite = arg;
	struct conn *conn;
	sqlite3_stmt *stmt;
	int r;

	r = reader_get(sqlite, err, &conn);
	if (r < 0)
		return r;
	stmt = conn_stmt(conn, STMT_HISTORY_READ);
	if (stmt) {
		sqlite3_bind_int64(stmt, 1, HISTORY_ID(after + 1, 0));
		r = read_changes(conn, stmt, err, ret);
		sqlite3_reset(stmt);
	} else {
		r = conn_error(conn, err);
	}
	reader_put(sqlite, conn, r < 0);
	return r;
}

/* The revision up to which history is more than is to be kept. */
static int find_cut(
	struct conn *conn, const struct batch *batch, struct err *err, int64_t *ret_revision)
{
	sqlite3_stmt *stmt = conn_stmt(conn, STMT_HISTORY_SIZES);
	int64_t oldest = batch->revision - HISTORY_REVISIONS, bytes = batch->history_bytes;
	int code;

	if (!stmt)
		return conn_error(conn, err);
	*ret_revision = batch->compacted;
	while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
		int64_t revision = HISTORY_REVISION(sqlite3_column_int64(stmt, 0));

		if (revision > oldest && bytes <= HISTORY_BYTES)
			break;
		bytes -= sqlite3_column_int64(stmt, 1);
		*ret_revision = revision;
	}
	sqlite3_reset(stmt);
	return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : conn_error(conn, err);
}

static int compact(struct sqlite *sqlite, struct conn *conn, struct batch *batch, struct err *err)
{
	int64_t cut = 0, bytes = 0;
	sqlite3_stmt *stmt;
	int r;

	if (batch->revision - batch->compacted <= HISTORY_REVISIONS + HISTORY_SLACK_REVISIONS &&
		batch->history_bytes <= HISTORY_BYTES + HISTORY_SLACK_BYTES)
		return 0;
	r = find_cut(conn, batch, err, &cut);
	if (r < 0)
		return r;
	cut = watch_hub_compact(sqlite->hub, cut);
	if (cut <= batch->compacted)
		return 0;
	stmt = conn_stmt(conn, STMT_HISTORY_BYTES);
	if (stmt)
		sqlite3_bind_int64(stmt, 1, HISTORY_ID(cut + 1, 0));
	r = conn_number(conn, stmt, 0, err, &bytes);
	if (r < 0)
		return r;
	stmt = conn_stmt(conn, STMT_HISTORY_CUT);
	if (stmt)
		sqlite3_bind_int64(stmt, 1, HISTORY_ID(cut + 1, 0));
	r = conn_run(conn, stmt, err);
	if (r < 0)
		return r;
	batch->compacted = cut;
	batch->history_bytes -= bytes;
	return conn_meta_set(conn, "compacted", cut, err);
}

/* ---- writing ---- */

static int load(struct sqlite *sqlite, struct err *err)
{
	sqlite3_stmt *stmt;
	int r;

	r = conn_meta_get(sqlite->writer, "revision", err, &sqlite->last.revision);
	if (r == 0)
		r = conn_meta_get(sqlite->writer, "compacted", err, &sqlite->last.compacted);
	if (r < 0)
		return r;
	stmt = conn_stmt(sqlite->writer, STMT_HISTORY_BYTES);
	if (stmt)
		sqlite3_bind_int64(stmt, 1, INT64_MAX);
	return conn_number(sqlite->writer, stmt, 0, err, &sqlite->last.history_bytes);
}

static int revision_of(struct conn *conn, const char *key, struct err *err, int64_t *ret)
{
	sqlite3_stmt *stmt = conn_stmt(conn, STMT_REVISION_OF);

	if (stmt)
		sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC);
	return conn_number(conn, stmt, 0, err, ret);
}

static void bind_value(sqlite3_stmt *stmt, int at, const struct store_op *op)
{
	/* A NULL pointer would be SQL's NULL, which in history is a deletion. */
	if (op->kind == STORE_PUT)
		sqlite3_bind_blob(stmt, at, op->value_len ? op->value : "", (int)op->value_len,
			SQLITE_STATIC);
}

static int write_op(struct conn *conn, const struct store_op *op, int64_t revision, size_t place,
	struct err *err)
{
	sqlite3_stmt *stmt = conn_stmt(conn, op->kind == STORE_PUT ? STMT_PUT : STMT_DELETE);
	int r;

	if (stmt) {
		sqlite3_bind_text(stmt, 1, op->key, -1, SQLITE_STATIC);
		if (op->kind == STORE_PUT)
			sqlite3_bind_int64(stmt, 2, revision);
		bind_value(stmt, 3, op);
	}
	r = conn_run(conn, stmt, err);
	if (r < 0)
		return r;
	stmt = conn_stmt(conn, STMT_HISTORY_ADD);
	if (stmt) {
		sqlite3_bind_int64(stmt, 1, HISTORY_ID(revision, (int64_t)place));
		sqlite3_bind_text(stmt, 2, op->key, -1, SQLITE_STATIC);
		bind_value(stmt, 3, op);
	}
	return conn_run(conn, stmt, err);
}

/* All expectations are looked at before the first write, so a commit that fails one has nothing to
 * undo. A failure of the database is returned; what the caller has to hear goes to request->r. */
static int run_request(
	struct conn *conn, struct request *request, struct batch *batch, struct err *err)
{
	_cleanup_free_ int64_t *found = xcalloc(request->n, sizeof(*found));
	int64_t revision = batch->revision + 1;
	int r;

	request->r = 0;
	for (size_t i = 0; i < request->n; i++) {
		r = revision_of(conn, request->ops[i].key, err, &found[i]);
		if (r < 0)
			return r;
		if (!expect_holds(&request->ops[i], found[i])) {
			request->r = conflict(&request->err, &request->ops[i], found[i]);
			return 0;
		}
	}
	for (size_t i = 0; i < request->n; i++) {
		const struct store_op *op = &request->ops[i];

		if (op->kind == STORE_CHECK || (op->kind == STORE_DELETE && found[i] == 0))
			continue;
		r = write_op(conn, op, revision, i, err);
		if (r < 0)
			return r;
		batch->revision = revision;
		if (op->kind == STORE_PUT)
			batch->history_bytes += (int64_t)op->value_len;
	}
	request->revision = batch->revision;
	return 0;
}

static int run_transaction(
	struct sqlite *sqlite, struct request *requests, struct batch *batch, struct err *err)
{
	struct conn *conn = sqlite->writer;
	int r;

	r = conn_run_simple(conn, STMT_BEGIN_WRITE, err);
	for (struct request *q = requests; q && r == 0; q = q->next)
		r = run_request(conn, q, batch, err);
	if (r == 0 && batch->revision > sqlite->last.revision) {
		r = conn_meta_set(conn, "revision", batch->revision, err);
		if (r == 0)
			r = compact(sqlite, conn, batch, err);
	}
	return r < 0 ? r : conn_run_simple(conn, STMT_COMMIT, err);
}

/* The connection is kept where it can be: only it knows for sure that a commit whose sync failed is
 * not in the log. Some failures have rolled back by themselves. */
static void roll_back(struct sqlite *sqlite)
{
	struct conn *conn = sqlite->writer;

	if (sqlite3_get_autocommit(conn->db) || conn_run_simple(conn, STMT_ROLLBACK, NULL) == 0)
		return;
	conn_free(take_ptr(sqlite->writer));
}

/* The log's index is a file that SQLite writes through memory. A page of it that has no block yet
 * is SIGBUS once the disk is full, so all that it can grow to gets its blocks while that is an
 * error like any other. The descriptor stays open as long as SQLite's own: to close it would end
 * SQLite's locks on the file, and another process that reads the database would take the index for
 * stale. */
static int keep_index(struct sqlite *sqlite, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s-shm", sqlite->path);
	struct stat st;
	int r = 0;

	if (sqlite->index_fd >= 0 && (fstat(sqlite->index_fd, &st) < 0 || st.st_nlink == 0))
		sqlite->index_fd = fd_close(sqlite->index_fd); /* of connections that are gone */
	if (sqlite->index_fd < 0)
		sqlite->index_fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (sqlite->index_fd < 0 || fallocate(sqlite->index_fd, 0, 0, INDEX_BYTES) < 0 ||
		fdatasync(sqlite->index_fd) < 0)
		r = -errno;
	if (r == 0 || r == -EOPNOTSUPP)
		return 0;
	return err_set(
		err, r, "StoreUnavailable", "Can't reserve space for %s: %s.", path, err_str(r));
}

static int reopen_writer(struct sqlite *sqlite, struct err *err)
{
	int r = conn_open(sqlite->path, true, err, &sqlite->writer);

	if (r < 0)
		return r;
	r = load(sqlite, err);
	if (r == 0)
		r = keep_index(sqlite, err);
	if (r < 0)
		conn_free(take_ptr(sqlite->writer));
	return r;
}

/* All of the requests or, when the database fails, none. */
static int try_batch(struct sqlite *sqlite, struct request *requests, struct err *err)
{
	struct batch batch;
	int r = 0;

	if (!sqlite->writer)
		r = reopen_writer(sqlite, err);
	if (r < 0)
		return r;
	batch = sqlite->last;
	r = run_transaction(sqlite, requests, &batch, err);
	if (r == 0)
		sqlite->last = batch;
	else
		roll_back(sqlite);
	return r;
}

static void answer(struct sqlite *sqlite, struct request *requests)
{
	struct request *next;

	/* Once a request is done its caller may return, and the request is gone. */
	pthread_mutex_lock(&sqlite->lock);
	for (struct request *q = requests; q; q = next) {
		next = q->next;
		q->done = true;
		pthread_cond_signal(&q->wake);
	}
	pthread_mutex_unlock(&sqlite->lock);
}

/* True: there is more room than when this failed, so try again. Not every layer below says what is
 * wrong when there is no space: a full disk behind a loop device is an I/O error. */
static bool give_room(struct sqlite *sqlite, int r)
{
	if (r != -ENOSPC && !(r == -EIO && ballast_disk_full(sqlite->ballast)))
		return false;
	return ballast_give(sqlite->ballast);
}

static bool may_use_reserve(const struct request *request)
{
	size_t bytes = 0;

	for (size_t i = 0; i < request->n; i++)
		bytes += request->ops[i].value_len;
	return bytes <= STORE_RESERVED_MAX;
}

/* With a full disk it is done at once, so that the log begins anew with each commit, in the blocks
 * that it has, and doesn't use up the reserve. What fails now is tried again by the next commit. */
static void checkpoint(struct sqlite *sqlite)
{
	int pages = ballast_whole(sqlite->ballast) ? CHECKPOINT_PAGES : 1;

	if (!sqlite->writer || sqlite->writer->log_pages < pages)
		return;
	while (give_room(sqlite, conn_checkpoint(sqlite->writer, NULL)))
		;
}

/* When a batch of several fails they are tried one by one: what is too large for the disk that is
 * left, or lies on a bad block, must not take the others with it. */
static void run_batch(struct sqlite *sqlite, struct request *requests)
{
	struct request *next;
	struct err err = {0};
	int r;

	r = try_batch(sqlite, requests, &err);
	for (struct request *q = r < 0 ? requests : NULL; q; q = next) {
		next = take_ptr(q->next);
		if (q != requests || next)
			r = try_batch(sqlite, q, &err);
		while (may_use_reserve(q) && give_room(sqlite, r))
			r = try_batch(sqlite, q, &err);
		if (r < 0) {
			q->r = r;
			q->err = err;
		}
		q->next = next;
	}
	watch_hub_advance(sqlite->hub, sqlite->last.revision);
	answer(sqlite, requests);
}

/* Lock held; it is let go meanwhile. */
static void wait_for_requests(struct sqlite *sqlite)
{
	struct timespec until;

	while (!sqlite->head && !sqlite->stop) {
		if (ballast_whole(sqlite->ballast)) {
			pthread_cond_wait(&sqlite->queued, &sqlite->lock);
			continue;
		}
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += FILL_S;
		if (pthread_cond_timedwait(&sqlite->queued, &sqlite->lock, &until) == ETIMEDOUT)
			ballast_fill(sqlite->ballast);
	}
}

static void committer_thread(void *arg)
{
	struct sqlite *sqlite = arg;
	struct request *requests;

	for (;;) {
		pthread_mutex_lock(&sqlite->lock);
		wait_for_requests(sqlite);
		requests = take_ptr(sqlite->head);
		sqlite->tail = &sqlite->head;
		pthread_mutex_unlock(&sqlite->lock);
		if (!requests)
			return;
		run_batch(sqlite, requests);
		checkpoint(sqlite);
	}
}

static int sqlite_commit(struct store *store, const struct store_op *ops, size_t n, struct err *err,
	int64_t *ret_revision)
{
	struct sqlite *sqlite = sqlite_of(store);
	struct request request = {.ops = ops, .n = n};

	pthread_cond_init(&request.wake, NULL);
	pthread_mutex_lock(&sqlite->lock);
	*sqlite->tail = &request;
	sqlite->tail = &request.next;
	pthread_cond_signal(&sqlite->queued);
	while (!request.done)
		pthread_cond_wait(&request.wake, &sqlite->lock);
	pthread_mutex_unlock(&sqlite->lock);
	pthread_cond_destroy(&request.wake);
	if (request.r < 0) {
		if (err)
			*err = request.err;
		return request.r;
	}
	*ret_revision = request.revision;
	return 0;
}

static int sqlite_check_room(struct store *store, struct err *err)
{
	struct sqlite *sqlite = sqlite_of(store);

	if (ballast_fill(sqlite->ballast) && !ballast_disk_full(sqlite->ballast))
		return 0;
	return err_set(err, -ENOSPC, "StoreUnavailable",
		"The disk of the store %s is full. Until there is space nothing new is taken; groups "
		"can be stopped and deleted, and are shown as they are.",
		sqlite->path);
}

static int sqlite_watch(struct store *store, const char *prefix, int64_t after, store_watch_fn fn,
	void *arg, struct err *err, struct store_watch **ret)
{
	return watch_hub_add(sqlite_of(store)->hub, prefix, after, fn, arg, err, ret);
}

static void sqlite_unwatch(struct store *store, struct store_watch *watch)
{
	watch_hub_remove(sqlite_of(store)->hub, watch);
}

/* ---- opening and closing ---- */

static void sqlite_free(struct store *store)
{
	struct sqlite *sqlite = sqlite_of(store);

	if (sqlite->committer) {
		pthread_mutex_lock(&sqlite->lock);
		sqlite->stop = true;
		pthread_cond_signal(&sqlite->queued);
		pthread_mutex_unlock(&sqlite->lock);
		pool_free(sqlite->committer);
	}
	watch_hub_free(sqlite->hub);
	for (unsigned i = 0; i < sqlite->n_idle; i++)
		conn_free(sqlite->readers[i]);
	/* Last, for the last one to close folds the log into the database. */
	if (sqlite->writer)
		conn_free(sqlite->writer);
	ballast_free(sqlite->ballast);
	fd_close(sqlite->index_fd);
	fd_close(sqlite->lock_fd);
	pthread_cond_destroy(&sqlite->reader_back);
	pthread_mutex_destroy(&sqlite->readers_lock);
	pthread_cond_destroy(&sqlite->queued);
	pthread_mutex_destroy(&sqlite->lock);
	free(sqlite->path);
	free(sqlite);
}

static void sqlite_freep(struct sqlite **sqlite)
{
	if (*sqlite)
		sqlite_free(&(*sqlite)->store);
}

static const struct store_ops sqlite_ops = {.get = sqlite_get,
	.list = sqlite_list,
	.commit = sqlite_commit,
	.check_room = sqlite_check_room,
	.watch = sqlite_watch,
	.unwatch = sqlite_unwatch,
	.free = sqlite_free};

/* One process at a time: revisions and watches are counted in memory. The lock is on a file of its
 * own, because SQLite's locks on the database end when any descriptor of it is closed. */
static int lock_store(struct sqlite *sqlite, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s-lock", sqlite->path);

	sqlite->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (sqlite->lock_fd < 0)
		return err_set(err, -errno, "StoreUnavailable", "Can't open %s: %s.", path,
			err_str(errno));
	if (flock(sqlite->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY, "StoreUnavailable",
			"Another process is using the store %s.", sqlite->path);
	return 0;
}

static int sync_parent(const char *path)
{
	_cleanup_free_ char *copy = xstrdup(path);
	_cleanup_fd_ int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* SQLite gives the files beside the database the mode of the database. */
static int make_file(const char *path, struct err *err)
{
	_cleanup_fd_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0 || fchmod(fd, 0600) < 0)
		r = -errno;
	else
		r = sync_parent(path);
	return r < 0 ? err_set(err, r, "StoreUnavailable", "Can't open the store %s: %s.", path,
			       err_str(r))
		     : 0;
}

/* A reserve that an earlier process kept helps to start on a full disk, too. */
static int open_writer(struct sqlite *sqlite, struct err *err)
{
	_cleanup_free_ char *reserve = xasprintf("%s-reserve", sqlite->path);
	int r;

	sqlite->ballast = ballast_new(reserve);
	do
		r = reopen_writer(sqlite, err);
	while (give_room(sqlite, r));
	return r;
}

int store_open_sqlite(const char *path, struct err *err, struct store **ret)
{
	_cleanup_(sqlite_freep) struct sqlite *sqlite = xnew(struct sqlite);
	int r;

	sqlite->store.ops = &sqlite_ops;
	sqlite->path = xstrdup(path);
	sqlite->lock_fd = sqlite->index_fd = -EBADF;
	sqlite->tail = &sqlite->head;
	pthread_mutex_init(&sqlite->lock, NULL);
	pthread_cond_init(&sqlite->queued, NULL);
	pthread_mutex_init(&sqlite->readers_lock, NULL);
	pthread_cond_init(&sqlite->reader_back, NULL);

	r = lock_store(sqlite, err);
	if (r == 0)
		r = make_file(path, err);
	if (r == 0)
		r = open_writer(sqlite, err);
	if (r < 0)
		return r;
	sqlite->hub =
		watch_hub_new(sqlite_read, sqlite, sqlite->last.revision, sqlite->last.compacted);
	sqlite->committer = pool_new("store-commit", 1, 0);
	pool_submit(sqlite->committer, committer_thread, sqlite);
	*ret = &take_ptr(sqlite)->store;
	return 0;
}
