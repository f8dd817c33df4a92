#include <fcntl.h>
#include <poll.h>
#include <stdio.h>

#include "base/pool.h"
#include "base/time.h"
#include "node/agent/prober.h"
#include "node/agent/probe_worker.h"
#include "node/runtime/exec.h"

#define GROUP_GETS_MAX 16 /* of one group under way at once */
#define GROUP_EXECS_MAX 4
#define THREADS_MAX 4096
#define BUSY_WAIT_MS 100
#define BROKEN_WAIT_MS 1000 /* when the node can't ask */
#define TELL_EVERY_MS 10000 /* failures that change nothing */
/* A run that is ending fails its probes as well: its end is to be noticed first. */
#define DOUBT_MS 200
#define OUTPUT_MAX 4096
#define EXEC_POLL_MS 250

enum way { WAY_HTTP, WAY_EXEC };

struct probes {
	struct agent *agent;
	struct probe_worker *worker;
	struct pool *pool;
	struct prober *orphans; /* under way, of runs that are gone */
};

struct prober {
	struct probes *probes;
	struct group *group; /* NULL: an orphan */
	struct prober *next; /* in the group's list, or among the orphans */
	char container[64];
	unsigned run;
	enum probe_kind kind;
	enum way way;
	int64_t start_ms, delay_ms, period_ms, timeout_ms;
	struct probe_count count;
	struct loop_timer *timer;
	bool busy;
	int64_t begun_mono_ms, told_mono_ms;

	json_t *request; /* HTTP */
	char *url;
	char *dir, *id, **args; /* exec */
	/* What came of it. While busy with exec: the thread's. */
	bool known, success;
	char words[PROBE_WORDS_MAX];
};

static struct loop *loop_of(const struct prober *prober)
{
	return agent_config(prober->probes->agent)->loop;
}

static void prober_free(struct prober *prober)
{
	json_decref(prober->request);
	for (char **arg = prober->args; arg && *arg; arg++)
		free(*arg);
	free(prober->args);
	free(prober->url);
	free(prober->dir);
	free(prober->id);
	free(prober);
}

static void unlink_from(struct prober **list, const struct prober *prober)
{
	for (struct prober **at = list; *at; at = &(*at)->next)
		if (*at == prober) {
			*at = prober->next;
			return;
		}
}

/* --- counting --- */

bool probe_count(struct probe_count *count, bool success)
{
	bool was = count->passing;

	if (success) {
		count->failures = 0;
		count->successes = MIN(count->successes + 1, count->success_threshold);
		count->passing = was || count->successes >= count->success_threshold;
	} else {
		count->successes = 0;
		count->failures = MIN(count->failures + 1, count->failure_threshold);
		count->passing = was && count->failures < count->failure_threshold;
	}
	return count->passing != was;
}

void probe_http_words(const char *url, int status, const char *words, char *ret, size_t size)
{
	if (status >= 200 && status < 400)
		snprintf(ret, size, "%s", "");
	else if (status > 0)
		snprintf(ret, size, "HTTP probe failed with statuscode: %d", status);
	else
		snprintf(ret, size, "Get \"%.200s\": %s", url, words);
}

/* --- what came of it --- */

static void due(void *arg);

static void again_after(struct prober *prober, int64_t delay_ms)
{
	prober->timer = loop_after(loop_of(prober), MAX(delay_ms, (int64_t)0), due, prober);
}

/* Tells the round; wakes it for what it has to act on, and for the rest now and then. */
static void tell(struct prober *prober, bool turned)
{
	struct group *group = prober->group;
	bool success = prober->success, first = prober->count.failures == 1, wake = turned;
	int64_t now = time_mono_ms();
	struct probe_news *news;
	struct container *c;

	if (success && !turned)
		return;
	pthread_mutex_lock(&group->lock);
	c = group_find_container(group, prober->container);
	if (c && c->run == prober->run) {
		news = &c->news[prober->kind];
		news->turned = news->turned || turned;
		news->passing = prober->count.passing;
		if (!success) {
			news->failures++;
			str_copy(news->words, sizeof(news->words), prober->words);
		}
	}
	pthread_mutex_unlock(&group->lock);
	if (!success && (first || now >= prober->told_mono_ms + TELL_EVERY_MS))
		wake = true;
	if (!wake)
		return;
	prober->told_mono_ms = now;
	group_kick(group);
}

static void conclude(void *arg)
{
	struct prober *prober = arg;
	bool turned = probe_count(&prober->count, prober->success);

	prober->timer = NULL;
	tell(prober, turned);
	/* A run that is being ended is asked no more. */
	if (prober->kind == PROBE_LIVENESS && !prober->count.passing)
		return;
	again_after(prober, prober->begun_mono_ms + prober->period_ms - time_mono_ms());
}

static void done(struct prober *prober)
{
	prober->busy = false;
	if (!prober->group) {
		unlink_from(&prober->probes->orphans, prober);
		prober_free(prober);
		return;
	}
	prober->group->probes_under_way[prober->way]--;
	if (!prober->known)
		again_after(prober, BROKEN_WAIT_MS);
	else if (prober->success)
		conclude(prober);
	else
		prober->timer = loop_after(loop_of(prober), DOUBT_MS, conclude, prober);
}

/* --- HTTP --- */

static void answered(int status, const char *words, void *arg)
{
	struct prober *prober = arg;

	prober->known = status >= 0;
	prober->success = status >= 200 && status < 400;
	probe_http_words(prober->url, status, words, prober->words, sizeof(prober->words));
	done(prober);
}

static int begin_http(struct prober *prober)
{
	struct network *network = agent_config(prober->probes->agent)->network;
	_cleanup_fd_ int socket = network_sandbox_socket(network, prober->group->uid);
	struct err err = {0};
	int r;

	if (socket < 0)
		return socket;
	r = probe_worker_ask(prober->probes->worker, prober->request, socket,
		(int)prober->timeout_ms, answered, prober, &err);
	if (r < 0 && r != -EAGAIN)
		log_error("group %s: container %s can't be probed: %s", prober->group->uid,
			prober->container, err.message);
	return r;
}

/* --- exec --- */

/* Reads what the command says until it ends: its exit code, -ETIMEDOUT, or -ECANCELED. */
static int await_command(
	struct prober *prober, struct runtime_exec *exec, int64_t deadline_ms, struct buf *output)
{
	int *const outputs[] = {&exec->stdout_fd, &exec->stderr_fd};
	char rest[1024];

	for (;;) {
		struct pollfd fds[] = {{.fd = exec->proc.pidfd, .events = POLLIN},
			{.fd = exec->stdout_fd, .events = POLLIN},
			{.fd = exec->stderr_fd, .events = POLLIN}};
		int64_t left_ms = deadline_ms - time_mono_ms();

		if (left_ms <= 0)
			return -ETIMEDOUT;
		if (agent_is_ending(prober->probes->agent))
			return -ECANCELED;
		if (poll(fds, ARRAY_SIZE(fds), (int)MIN(left_ms, (int64_t)EXEC_POLL_MS)) < 0 &&
			errno != EINTR)
			return -errno;
		for (size_t i = 0; i < ARRAY_SIZE(outputs); i++) {
			ssize_t n = *outputs[i] < 0 ? -1 : read(*outputs[i], rest, sizeof(rest));

			if (n > 0)
				buf_add(output, rest, MIN((size_t)n, output->max - output->len));
			else if (n == 0)
				*outputs[i] = fd_close(*outputs[i]);
		}
		if (fds[0].revents)
			return runtime_exec_wait(exec, 0);
	}
}

/* The first of the command's lines are what the event says. */
static void set_words(struct prober *prober, int r, const struct buf *output, const char *reason)
{
	_cleanup_free_ char *clean = str_utf8_clean(buf_str(output), output->len);
	size_t n = strlen(clean);
	char *words = prober->words;
	size_t size = sizeof(prober->words);

	while (n > 0 && strchr(" \t\r\n", clean[n - 1]))
		clean[--n] = '\0';
	if (r == -ETIMEDOUT)
		snprintf(words, size, "the command did not end within %g s",
			(double)prober->timeout_ms / 1000);
	else if (r < 0)
		snprintf(words, size, "%.*s", (int)size - 1, reason);
	else if (n == 0)
		snprintf(words, size, "the command ended with exit code %d", r);
	else
		snprintf(words, size, "%s", clean);
}

static void exec_done(void *arg)
{
	done(arg);
}

static void exec_job(void *arg)
{
	struct prober *prober = arg;
	struct runtime *runtime = agent_config(prober->probes->agent)->runtime;
	struct runtime_exec exec = RUNTIME_EXEC_INIT;
	struct runtime_exec_spec spec = {
		.dir = prober->dir, .id = prober->id, .args = (const char *const *)prober->args};
	_cleanup_buf_ struct buf output = BUF_MAX(OUTPUT_MAX);
	int64_t deadline_ms = time_mono_ms() + prober->timeout_ms;
	struct err err = {0};
	int r;

	r = agent_is_ending(prober->probes->agent)
		    ? -ECANCELED
		    : runtime_exec_start(runtime, &spec, &err, &exec);
	/* What crun says of the command itself is the container's fault, all else is ours. */
	prober->known = r == 0 || str_eq(err.code, "ContainerExecFailed");
	if (r == 0) {
		r = await_command(prober, &exec, deadline_ms, &output);
		prober->known = r >= 0 || r == -ETIMEDOUT;
		runtime_exec_done(&exec);
	}
	prober->success = r == 0;
	set_words(prober, r, &output, err.message);
	loop_post(loop_of(prober), exec_done, prober);
}

/* --- when --- */

static bool other_command_runs(const struct prober *prober)
{
	for (const struct prober *other = prober->group->probers; other; other = other->next)
		if (other != prober && other->busy && other->way == WAY_EXEC &&
			str_eq(other->container, prober->container))
			return true;
	return false;
}

static void due(void *arg)
{
	struct prober *prober = arg;
	unsigned *under_way = &prober->group->probes_under_way[prober->way];
	int r = 0;

	prober->timer = NULL;
	if (*under_way >= (prober->way == WAY_HTTP ? GROUP_GETS_MAX : GROUP_EXECS_MAX) ||
		(prober->way == WAY_EXEC && other_command_runs(prober))) {
		again_after(prober, BUSY_WAIT_MS);
		return;
	}
	prober->begun_mono_ms = time_mono_ms();
	if (prober->way == WAY_HTTP)
		r = begin_http(prober);
	else
		pool_submit(prober->probes->pool, exec_job, prober);
	if (r < 0) {
		again_after(prober, r == -EAGAIN ? BUSY_WAIT_MS : BROKEN_WAIT_MS);
		return;
	}
	prober->busy = true;
	++*under_way;
}

static void detach(struct prober *prober)
{
	struct group *group = prober->group;

	loop_cancel(take_ptr(prober->timer));
	unlink_from(&group->probers, prober);
	prober->group = NULL;
	if (!prober->busy) {
		prober_free(prober);
		return;
	}
	group->probes_under_way[prober->way]--;
	prober->next = prober->probes->orphans;
	prober->probes->orphans = prober;
}

static void add_on_loop(void *arg)
{
	struct prober *prober = arg;

	prober->next = prober->group->probers;
	prober->group->probers = prober;
	/* A clock that was put back must not make it wait for longer than was meant. */
	again_after(
		prober, MIN(prober->start_ms + prober->delay_ms - time_now_ms(), prober->delay_ms));
}

static char **copy_args(const char *const *args)
{
	size_t n = 0;
	char **copy;

	while (args[n])
		n++;
	copy = xcalloc(n + 1, sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(args[i]);
	return copy;
}

static void set_request(
	struct prober *prober, const struct group *group, const struct probe_spec *spec)
{
	const char *scheme = spec->https ? "https" : "http", *address = group->spec->address;

	prober->url = xasprintf("%s://%s:%u%s", scheme, address, (unsigned)spec->port, spec->path);
	prober->request = json_pack("{s:s, s:s, s:i, s:s, s:I}", "scheme", scheme, "address",
		address, "port", (int)spec->port, "path", spec->path, "timeoutMs",
		(json_int_t)prober->timeout_ms);
	if (spec->headers)
		json_object_set_new(prober->request, "headers", json_deep_copy(spec->headers));
}

void prober_add(struct group *group, const struct container *c, enum probe_kind kind,
	const struct probe_spec *spec, int64_t start_ms)
{
	struct prober *prober = xnew(struct prober);
	char id[160];

	*prober = (struct prober){.probes = agent_probes(group->agent),
		.group = group,
		.run = c->run,
		.kind = kind,
		.way = spec->command ? WAY_EXEC : WAY_HTTP,
		.start_ms = start_ms,
		.delay_ms = (int64_t)spec->initial_delay_s * 1000,
		.period_ms = (int64_t)spec->period_s * 1000,
		.timeout_ms = (int64_t)spec->timeout_s * 1000,
		.told_mono_ms = INT64_MIN / 2,
		.count = {.success_threshold = spec->success_threshold,
			.failure_threshold = spec->failure_threshold,
			.passing = kind == PROBE_LIVENESS || c->ready}};
	str_copy(prober->container, sizeof(prober->container), c->name);
	if (prober->way == WAY_EXEC) {
		container_id(group, c, id, sizeof(id));
		prober->id = xstrdup(id);
		prober->dir = container_dir(group, c);
		prober->args = copy_args((const char *const *)spec->command);
	} else {
		set_request(prober, group, spec);
	}
	loop_post(loop_of(prober), add_on_loop, prober);
}

struct removal {
	struct group *group;
	char container[64];
	unsigned run;
};

static void remove_on_loop(void *arg)
{
	struct removal *removal = arg;
	struct prober *next;

	for (struct prober *prober = removal->group->probers; prober; prober = next) {
		next = prober->next;
		if (prober->run == removal->run && str_eq(prober->container, removal->container))
			detach(prober);
	}
	free(removal);
}

void prober_remove(struct group *group, const char *container, unsigned run)
{
	struct removal *removal = xnew(struct removal);

	*removal = (struct removal){.group = group, .run = run};
	str_copy(removal->container, sizeof(removal->container), container);
	loop_post(agent_config(group->agent)->loop, remove_on_loop, removal);
}

void probes_forget(struct group *group)
{
	while (group->probers)
		detach(group->probers);
}

/* --- all of them --- */

struct probes *probes_new(struct agent *agent)
{
	const struct agent_config *config = agent_config(agent);
	struct probes *probes = xnew(struct probes);
	uint64_t threads = (uint64_t)config->uid_groups * GROUP_EXECS_MAX;

	probes->agent = agent;
	probes->worker = probe_worker_new(config->loop, config->probe_program);
	probes->pool = pool_new_elastic(
		"probe", 1, (unsigned)MIN(MAX(threads, (uint64_t)1), (uint64_t)THREADS_MAX), 0);
	return probes;
}

void probes_free(struct probes *probes)
{
	if (!probes)
		return;
	pool_free(probes->pool);
	probe_worker_free(probes->worker);
	while (probes->orphans) {
		struct prober *prober = probes->orphans;

		probes->orphans = prober->next;
		prober_free(prober);
	}
	free(probes);
}
