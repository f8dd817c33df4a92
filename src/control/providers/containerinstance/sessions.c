#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>

#include "base/pool.h"
#include "base/time.h"
#include "control/providers/containerinstance/session.h"

#define EXPIRE_MS 60000
#define SESSIONS_MAX 256
#define PER_CONTAINER_MAX 32
#define OPENERS_MAX 16
#define PASSWORD_BYTES 32
#define PASSWORD_END "[[EOM]]"

struct sessions {
	struct sessions_config config;
	struct pool *pool;
	pthread_mutex_t lock; /* over the list, and see struct session */
	struct session *first;
};

/* The table. */

static void session_free(struct session *session)
{
	loop_cancel(session->timer);
	relay_done(&session->relay);
	fd_close(session->opened_fd);
	explicit_bzero(session->password, sizeof(session->password));
	free(session->node);
	free(session->container);
	free(session->method);
	json_decref(session->args);
	free(session);
}

/* With the lock held. */
static void unlink_locked(struct sessions *sessions, struct session *session)
{
	struct session **at = &sessions->first;

	while (*at != session)
		at = &(*at)->next;
	*at = session->next;
}

static void session_remove(struct session *session)
{
	struct sessions *sessions = session->sessions;

	pthread_mutex_lock(&sessions->lock);
	unlink_locked(sessions, session);
	pthread_mutex_unlock(&sessions->lock);
	session_free(session);
}

/* With the lock held. Nobody waits for an unused session to expire; it is gone when one looks. */
static void drop_expired_locked(struct sessions *sessions)
{
	int64_t now_ms = time_mono_ms();
	struct session *next;

	for (struct session *session = sessions->first; session; session = next) {
		next = session->next;
		if (session->waiting && session->expires_ms <= now_ms) {
			unlink_locked(sessions, session);
			session_free(session);
		}
	}
}

static int check_bounds_locked(
	const struct sessions *sessions, const char *container, struct err *err)
{
	unsigned n = 0, n_container = 0;

	for (const struct session *session = sessions->first; session; session = session->next) {
		n++;
		n_container += str_eq(session->container, container);
	}
	if (n_container >= sessions->config.max_per_container)
		return err_set(err, -EBUSY, "TooManyRequests",
			"The container has %u exec and attach sessions, which is the most. End one, or wait a minute for unused ones.",
			n_container);
	if (n >= sessions->config.max)
		return err_set(err, -EBUSY, "TooManyRequests",
			"There are %u exec and attach sessions, which is the most. Please try again later.",
			n);
	return 0;
}

static struct session *session_new(struct sessions *sessions, const struct session_spec *spec)
{
	struct session *session = xnew(struct session);
	unsigned char secret[PASSWORD_BYTES];
	_cleanup_free_ char *text = NULL;

	random_bytes(secret, sizeof(secret));
	text = str_base64url(secret, sizeof(secret));
	explicit_bzero(secret, sizeof(secret));
	snprintf(session->password, sizeof(session->password), "%s" PASSWORD_END, text);
	explicit_bzero(text, strlen(text));
	random_uuid(session->id);
	session->sessions = sessions;
	session->waiting = true;
	session->protocol = spec->protocol;
	session->node = xstrdup(spec->node);
	session->container = xstrdup(spec->container);
	session->method = xstrdup(spec->method);
	session->args = json_incref(spec->args);
	session->expires_ms = time_mono_ms() + sessions->config.expire_ms;
	session->opened_fd = -EBADF;
	session->relay.fd = -EBADF;
	return session;
}

int sessions_create(struct sessions *sessions, const struct session_spec *spec, struct err *err,
	char ret_id[UUID_STR_MAX], char ret_password[SESSION_PASSWORD_MAX])
{
	struct session *session;
	int r;

	pthread_mutex_lock(&sessions->lock);
	drop_expired_locked(sessions);
	r = check_bounds_locked(sessions, spec->container, err);
	if (r == 0) {
		session = session_new(sessions, spec);
		session->next = sessions->first;
		sessions->first = session;
		memcpy(ret_id, session->id, UUID_STR_MAX);
		memcpy(ret_password, session->password, SESSION_PASSWORD_MAX);
	}
	pthread_mutex_unlock(&sessions->lock);
	return r;
}

struct sessions *sessions_new(const struct sessions_config *config, struct err *err)
{
	struct sessions *sessions = xnew(struct sessions);

	sessions->config = *config;
	if (!sessions->config.expire_ms)
		sessions->config.expire_ms = EXPIRE_MS;
	if (!sessions->config.max)
		sessions->config.max = SESSIONS_MAX;
	if (!sessions->config.max_per_container)
		sessions->config.max_per_container = PER_CONTAINER_MAX;
	pthread_mutex_init(&sessions->lock, NULL);
	sessions->pool = pool_new_elastic("streams", 1, OPENERS_MAX, 0);
	if (!sessions->pool) {
		sessions_free(sessions);
		err_set(err, -EAGAIN, "InternalError", "can't start a thread for streams");
		return NULL;
	}
	return sessions;
}

void sessions_free(struct sessions *sessions)
{
	struct session *session;

	if (!sessions)
		return;
	/* What the pool still opens is left in the sessions; nobody runs the posts any more. */
	pool_free(sessions->pool);
	while ((session = sessions->first)) {
		sessions->first = session->next;
		session_free(session);
	}
	pthread_mutex_destroy(&sessions->lock);
	free(sessions);
}

/* From the password to the stream. */

static void session_opened(void *arg)
{
	struct session *session = arg;

	if (!session->relay.websocket) {
		session_remove(session);
		return;
	}
	session->state = SESSION_RELAYING;
	if (session->opened_fd >= 0)
		relay_start(&session->relay, take_fd(session->opened_fd));
	else
		relay_refuse(&session->relay, &session->opened_err);
}

static void session_open(void *arg)
{
	struct session *session = arg;
	const struct sessions_config *config = &session->sessions->config;
	int r = config->open(config->arg, session->node, session->method, take_ptr(session->args),
		&session->opened_err, &session->opened_fd);

	if (r < 0 && !err_is_set(&session->opened_err))
		err_errno(&session->opened_err, r, "opening a stream to the node");
	loop_post(config->loop, session_opened, session);
}

static bool password_is(const struct session *session, const char *data, size_t len)
{
	size_t want = strlen(session->password);

	return len == want && CRYPTO_memcmp(data, session->password, want) == 0;
}

static void session_authenticate(struct session *session, const char *data, size_t len)
{
	struct websocket *websocket = session->relay.websocket;
	bool right = password_is(session, data, len);

	loop_cancel(take_ptr(session->timer));
	explicit_bzero(session->password, sizeof(session->password));
	if (!right) {
		session->state = SESSION_ENDED;
		websocket_close(websocket, WEBSOCKET_CLOSE_POLICY,
			"The password is wrong. Ask for a new session.");
		return;
	}
	session->state = SESSION_OPENING;
	websocket_pause(websocket, true);
	pool_submit(session->sessions->pool, session_open, session);
}

static void session_too_late(void *arg)
{
	struct session *session = arg;

	session->timer = NULL;
	session->state = SESSION_ENDED;
	websocket_close(session->relay.websocket, WEBSOCKET_CLOSE_POLICY,
		"The password didn't come in time. Ask for a new session.");
}

/* The WebSocket. */

static void on_message(
	struct websocket *websocket, bool text, const char *data, size_t len, void *arg)
{
	struct session *session = arg;

	if (session->state == SESSION_GREETING)
		session_authenticate(session, data, len);
	else if (session->state == SESSION_RELAYING)
		relay_message(&session->relay, text, data, len);
}

static void on_drained(struct websocket *websocket, void *arg)
{
	struct session *session = arg;

	relay_drained(&session->relay);
}

static void on_closed(struct websocket *websocket, int code, void *arg)
{
	struct session *session = arg;

	relay_done(&session->relay);
	/* One that is being opened is the other thread's until session_opened(). */
	if (session->state != SESSION_OPENING)
		session_remove(session);
}

static struct session *claim(struct sessions *sessions, const char *id)
{
	struct session *session;

	pthread_mutex_lock(&sessions->lock);
	drop_expired_locked(sessions);
	session = sessions->first;
	while (session && !(session->waiting && str_eq(session->id, id)))
		session = session->next;
	if (session)
		session->waiting = false;
	pthread_mutex_unlock(&sessions->lock);
	return session;
}

static void unclaim(struct session *session)
{
	pthread_mutex_lock(&session->sessions->lock);
	session->waiting = true;
	pthread_mutex_unlock(&session->sessions->lock);
}

static void respond_unknown(struct http_exchange *exchange)
{
	static const struct http_header json = {"Content-Type", "application/json; charset=utf-8"};
	static const char body[] =
		"{\"error\":{\"code\":\"SessionNotFound\",\"message\":\"There is no such session: it was used, or it has expired. "
		"Ask for a new one with exec or attach.\"}}";

	http_exchange_respond(exchange, &(struct http_response){.status = 404,
						.headers = &json,
						.n_headers = 1,
						.body = body,
						.body_len = sizeof(body) - 1});
}

/* attach has its password in this field, bare or behind a scheme's name. Anything else in it is
 * none of ours: the first message is the password then. */
static char *header_password(const struct http_exchange *exchange)
{
	const char *value = http_exchange_header(exchange, "Authorization");

	if (!value || !str_ends(value, PASSWORD_END))
		return NULL;
	return xstrdup(strrchr(value, ' ') ? strrchr(value, ' ') + 1 : value);
}

static void session_accept(struct session *session, struct http_exchange *exchange)
{
	static const struct websocket_ops ops = {on_message, on_drained, on_closed};
	const struct sessions_config *config = &session->sessions->config;
	_cleanup_free_ char *password = header_password(exchange);
	struct websocket *websocket =
		websocket_accept(exchange, &(struct websocket_config){.ops = &ops,
						   .arg = session,
						   .max_message = STREAM_PAYLOAD_MAX,
						   .authority = config->authority,
						   .protocol = SESSION_SUBPROTOCOL});

	if (!websocket) {
		unclaim(session);
		return;
	}
	relay_init(&session->relay, config->loop, websocket,
		websocket_has_protocol(websocket) ? SESSION_CHANNELS : session->protocol);
	session->relay.output_only = session->protocol == SESSION_OUTPUT;
	session->timer = loop_after(
		config->loop, session->expires_ms - time_mono_ms(), session_too_late, session);
	if (password) {
		session_authenticate(session, password, strlen(password));
		explicit_bzero(password, strlen(password));
	}
}

bool sessions_handle(struct sessions *sessions, struct http_exchange *exchange)
{
	const char *path = http_exchange_request(exchange)->path;
	struct session *session;

	if (!str_starts(path, SESSION_PATH))
		return false;
	session = claim(sessions, path + strlen(SESSION_PATH));
	if (session)
		session_accept(session, exchange);
	else
		respond_unknown(exchange);
	return true;
}
