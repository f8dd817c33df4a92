#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/pool.h"
#include "link/stream.h"
#include "node/agent/session.h"

#define TICK_MS 100
#define RECEIVE ((size_t)32 << 10)

struct sessions {
	struct agent *agent;
	struct link_client *link;
	struct pool *pool;
	struct session *list;
	struct loop_timer *timer;
};

/* --- on the session's thread --- */

static void session_thread(void *arg)
{
	struct session *session = arg;

	session->job(session);
	atomic_store(&session->done, true);
}

void session_refuse(const struct session *session, const struct err *err)
{
	int fd;

	link_client_stream(session->link, session->request, err, &fd);
}

int session_status(struct buf *out, int exit_code, const struct err *err)
{
	_cleanup_json_ json_t *status = json_object();
	_cleanup_free_ char *text = NULL;

	if (err_is_set(err)) {
		json_t *error = json_object();

		json_put_str(error, "code", err->code[0] ? err->code : "InternalError");
		json_put_str(error, "message", err->message);
		json_object_set_new(status, "error", error);
	} else {
		json_object_set_new(status, "exitCode", json_integer(exit_code));
	}
	text = json_text(status);
	return stream_pack(out, STREAM_STATUS, text, strlen(text));
}

int session_receive(int fd, struct buf *in)
{
	ssize_t n = buf_read(in, fd, RECEIVE);

	if (n == -EAGAIN)
		return 0;
	return n <= 0 ? -EPIPE : 0;
}

int session_send(int fd, struct buf *out)
{
	ssize_t n = send(fd, out->data, out->len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
	buf_consume(out, (size_t)n);
	return 0;
}

/* --- on the loop's thread --- */

static void session_free(struct session *session)
{
	fd_close(session->wake_fd);
	free(session->dir);
	json_decref(session->args);
	free(session);
}

static void wake(struct session *session)
{
	uint64_t one = 1;

	if (write(session->wake_fd, &one, sizeof(one)) < 0)
		log_warn("a session of group %s can't be woken", session->uid);
}

/* A container that has ended may be about to run again: that is known when no round is under way
 * and none is to come. */
static enum session_view look(struct session *session)
{
	struct group *group = agent_find_group(session->agent, session->uid);
	enum session_view view = SESSION_GOING;
	struct container *c;

	if (!group)
		return SESSION_GONE;
	pthread_mutex_lock(&group->lock);
	c = group_find_container(group, session->container);
	if (!c) {
		view = SESSION_GONE;
	} else {
		if (!group->busy && !group->next_spec && !group->removing &&
			c->phase == CONTAINER_TERMINATED) {
			view = SESSION_ENDED;
			atomic_store(&session->exit_code, c->current.exit_code);
		}
		atomic_store(&session->run, c->run);
	}
	pthread_mutex_unlock(&group->lock);
	return view;
}

static void tick(void *arg)
{
	struct sessions *sessions = arg;

	for (struct session **at = &sessions->list; *at;) {
		struct session *session = *at;
		unsigned run = atomic_load(&session->run);
		enum session_view view;

		if (atomic_load(&session->done)) {
			*at = session->next;
			session_free(session);
			continue;
		}
		view = look(session);
		if (atomic_exchange(&session->view, view) != view ||
			atomic_load(&session->run) != run)
			wake(session);
		at = &session->next;
	}
	sessions->timer = NULL;
	if (sessions->list)
		sessions->timer =
			loop_after(agent_config(sessions->agent)->loop, TICK_MS, tick, sessions);
}

static int check_room(const struct sessions *sessions, const char *uid, struct err *err)
{
	unsigned n = 0, of_group = 0;

	for (const struct session *s = sessions->list; s; s = s->next) {
		if (atomic_load(&s->done))
			continue;
		n++;
		of_group += str_eq(s->uid, uid);
	}
	if (of_group >= SESSIONS_GROUP_MAX)
		return err_set(err, -EBUSY, "TooManyRequests",
			"The container group has %d sessions (exec, attach, logs that are followed) already, which is all that it may have. Close one.",
			SESSIONS_GROUP_MAX);
	if (n >= SESSIONS_NODE_MAX)
		return err_set(err, -EBUSY, "TooManyRequests",
			"The node has %d sessions (exec, attach, logs that are followed) already, which is all that it may have. Retry later.",
			SESSIONS_NODE_MAX);
	return 0;
}

static int find_container(struct sessions *sessions, struct session *session, struct err *err)
{
	struct group *group = agent_find_group(sessions->agent, session->uid);
	struct container *c = NULL;

	if (group) {
		pthread_mutex_lock(&group->lock);
		c = group_find_container(group, session->container);
		if (c) {
			session->dir = container_dir(group, c);
			container_id(group, c, session->run_id, sizeof(session->run_id));
			atomic_store(&session->run, c->run);
		}
		pthread_mutex_unlock(&group->lock);
	}
	if (!c)
		return err_set(err, -ENOENT, "ContainerNotRunning",
			"The node does not have the container '%s' yet.", session->container);
	atomic_store(&session->view, look(session));
	return 0;
}

struct refusal {
	struct link_client *link;
	int64_t request;
	struct err err;
};

static void refuse_job(void *arg)
{
	struct refusal *refusal = arg;
	int fd;

	link_client_stream(refusal->link, refusal->request, &refusal->err, &fd);
	free(refusal);
}

bool sessions_request(struct sessions *sessions, int64_t id, const char *method, const json_t *args)
{
	struct session *session;
	struct err err = {0};

	if (!str_eq(method, "exec") && !str_eq(method, "follow"))
		return false;
	session = xnew(struct session);
	session->sessions = sessions;
	session->agent = sessions->agent;
	session->link = sessions->link;
	session->request = id;
	session->job = str_eq(method, "exec") ? session_exec : session_follow;
	session->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	str_copy(session->uid, sizeof(session->uid), json_get_str(args, "uid", ""));
	str_copy(session->container, sizeof(session->container),
		json_get_str(args, "container", ""));
	if (session->wake_fd < 0)
		err_errno(&err, -errno, "session");
	else if (check_room(sessions, session->uid, &err) == 0)
		find_container(sessions, session, &err);
	if (err_is_set(&err)) {
		struct refusal *refusal = xnew(struct refusal);

		*refusal = (struct refusal){sessions->link, id, err};
		pool_submit(sessions->pool, refuse_job, refusal);
		session_free(session);
		return true;
	}
	/* Of its own: counting references isn't safe between threads. */
	session->args = json_deep_copy(args);
	session->next = sessions->list;
	sessions->list = session;
	pool_submit(sessions->pool, session_thread, session);
	if (!sessions->timer)
		sessions->timer =
			loop_after(agent_config(sessions->agent)->loop, TICK_MS, tick, sessions);
	return true;
}

struct sessions *sessions_new(struct agent *agent, struct link_client *link)
{
	struct sessions *sessions = xnew(struct sessions);

	sessions->agent = agent;
	sessions->link = link;
	/* One more, for refusals. */
	sessions->pool = pool_new_elastic("session", 1, SESSIONS_NODE_MAX + 1, 0);
	return sessions;
}

void sessions_free(struct sessions *sessions)
{
	if (!sessions)
		return;
	for (struct session *session = sessions->list; session; session = session->next)
		wake(session);
	pool_free(sessions->pool);
	loop_cancel(sessions->timer);
	while (sessions->list) {
		struct session *session = sessions->list;

		sessions->list = session->next;
		session_free(session);
	}
	free(sessions);
}
