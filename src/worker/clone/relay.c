#include "worker/clone/relay.h"

#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "base/time.h"

enum {
	PAIRS_MAX = 8,
	CHUNK = 65536,
	CONNECT_MS = 10000,
	FIRST_BYTE_MS = 20000, /* a TLS server answers the first message at once */
};

/* Bytes on their way in one direction. */
struct flow {
	char *data; /* owned, CHUNK bytes */
	size_t from, to;
	bool ended; /* the source has nothing more */
	bool shut;  /* and the sink was told */
};

struct pair {
	int git, server; /* -EBADF: a free place */
	size_t address;	 /* that is being tried, or is connected */
	bool connected, answered;
	int64_t deadline_ms; /* until it is connected, then until the server's first byte */
	struct flow up, down;
};

struct relay {
	const struct job *job;
	const struct addresses *addresses;
	int listener, netns;
	struct pair pairs[PAIRS_MAX];
	uint64_t received;
	struct err trouble;
};

/* --- the namespace --- */

struct place {
	uint16_t port;
	int listener, netns;
	const char *what; /* that failed */
};

static int enter(struct place *place)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_port = htons(place->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	place->what = "A network namespace for git could not be made";
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	place->what = "git's own network could not be set up";
	place->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (place->listener < 0 || ioctl(place->listener, SIOCSIFFLAGS, &lo) < 0 ||
		bind(place->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(place->listener, PAIRS_MAX) < 0)
		return -errno;
	place->netns = ioctl(place->listener, SIOCGSKNS);
	return place->netns < 0 ? -errno : 0;
}

/* A thread of its own has the new namespace; the caller keeps the machine's. */
static void *enter_thread(void *arg)
{
	return (void *)(intptr_t)enter(arg);
}

int relay_new(const struct job *job, const struct addresses *addresses, struct err *err,
	struct relay **ret)
{
	struct place place = {.port = job->port, .listener = -EBADF, .netns = -EBADF};
	struct relay *relay;
	pthread_t thread;
	void *result;
	int r;

	r = -pthread_create(&thread, NULL, enter_thread, &place);
	if (r == 0)
		r = -pthread_join(thread, &result);
	if (r == 0)
		r = (int)(intptr_t)result;
	if (r < 0) {
		fd_close(place.listener);
		fd_close(place.netns);
		return err_errno(err, r, "%s", place.what ? place.what : "thread");
	}
	relay = xnew(struct relay);
	relay->job = job;
	relay->addresses = addresses;
	relay->listener = place.listener;
	relay->netns = place.netns;
	for (size_t i = 0; i < PAIRS_MAX; i++)
		relay->pairs[i].git = relay->pairs[i].server = -EBADF;
	*ret = relay;
	return 0;
}

int relay_netns(const struct relay *relay)
{
	return relay->netns;
}

/* --- connections --- */

static void pair_close(struct pair *pair)
{
	pair->git = fd_close(pair->git);
	pair->server = fd_close(pair->server);
	free(pair->up.data);
	free(pair->down.data);
	*pair = (struct pair){.git = -EBADF, .server = -EBADF};
}

void relay_free(struct relay *relay)
{
	for (size_t i = 0; i < PAIRS_MAX; i++)
		pair_close(&relay->pairs[i]);
	fd_close(relay->listener);
	fd_close(relay->netns);
	free(relay);
}

static void fail_pair(struct relay *relay, struct pair *pair, int r, const char *what)
{
	err_set(&relay->trouble, r, r == -ETIMEDOUT ? "Timeout" : "RepositoryUnreachable",
		"The repository's server %s:%u %s.", relay->job->host, relay->job->port, what);
	pair_close(pair);
}

/* Tries addresses from pair->address on, until one is being connected to. */
static void connect_next(struct relay *relay, struct pair *pair, int r)
{
	for (; pair->address < relay->addresses->n; pair->address++) {
		const struct address *address = &relay->addresses->list[pair->address];

		pair->server = fd_close(pair->server);
		pair->server = socket(
			address->sockaddr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		pair->deadline_ms = time_mono_ms() + CONNECT_MS;
		if (pair->server >= 0 &&
			(connect(pair->server, (const struct sockaddr *)&address->sockaddr,
				 address->len) == 0 ||
				errno == EINPROGRESS))
			return;
		r = -errno;
	}
	fail_pair(relay, pair, r,
		r == -ECONNREFUSED ? "refused the connection"
		: r == -ETIMEDOUT  ? "did not answer in time"
				   : "can't be reached");
}

static void accept_one(struct relay *relay)
{
	int fd = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	for (size_t i = 0; fd >= 0 && i < PAIRS_MAX; i++) {
		struct pair *pair = &relay->pairs[i];

		if (pair->git >= 0)
			continue;
		pair->git = fd;
		pair->up.data = xmalloc(CHUNK);
		pair->down.data = xmalloc(CHUNK);
		connect_next(relay, pair, -EHOSTUNREACH);
		return;
	}
	fd_close(fd);
}

static void check_connected(struct relay *relay, struct pair *pair)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(pair->server, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == 0) {
		pair->connected = true;
		pair->deadline_ms = time_mono_ms() + FIRST_BYTE_MS;
		return;
	}
	pair->address++;
	connect_next(relay, pair, -error);
}

/* --- bytes --- */

/* Moves what can be moved. Returns the bytes that were read, or -errno of a broken connection. */
static ssize_t flow_move(struct flow *flow, int source, int sink)
{
	ssize_t got = 0, n;

	if (flow->from == flow->to && !flow->ended) {
		n = recv(source, flow->data, CHUNK, MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		flow->ended = n == 0;
		flow->from = 0;
		flow->to = n > 0 ? (size_t)n : 0;
		got = MAX(n, 0);
	}
	if (flow->from < flow->to) {
		n = send(sink, flow->data + flow->from, flow->to - flow->from,
			MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		flow->from += (size_t)MAX(n, 0);
	}
	if (flow->ended && !flow->shut && flow->from == flow->to) {
		shutdown(sink, SHUT_WR);
		flow->shut = true;
	}
	return got;
}

static void pump(struct relay *relay, struct pair *pair)
{
	ssize_t up = flow_move(&pair->up, pair->git, pair->server);
	ssize_t down = up < 0 ? up : flow_move(&pair->down, pair->server, pair->git);

	if (down > 0) {
		pair->answered = true;
		relay->received += (uint64_t)down;
	}
	if (relay->received > relay->job->limits.bytes) {
		err_set(&relay->trouble, -EFBIG, "RepositoryTooLarge",
			"The repository is too large: its server sent more than the %llu MiB that a gitRepo volume may take.",
			(unsigned long long)(relay->job->limits.bytes >> 20));
		pair_close(pair);
	} else if (down < 0 || (pair->up.shut && pair->down.shut)) {
		pair_close(pair);
	}
}

static short events_of(const struct flow *in, const struct flow *out)
{
	return (short)((in->from == in->to && !in->ended ? POLLIN : 0) |
		       (out->from < out->to ? POLLOUT : 0));
}

size_t relay_prepare(struct relay *relay, struct pollfd *fds, int *timeout_ms)
{
	int64_t now = time_mono_ms();

	fds[0] = (struct pollfd){.fd = relay->listener, .events = POLLIN};
	for (size_t i = 0; i < PAIRS_MAX; i++) {
		struct pair *pair = &relay->pairs[i];
		struct pollfd *git = &fds[1 + 2 * i], *server = &fds[2 + 2 * i];

		*git = *server = (struct pollfd){.fd = -1};
		if (pair->git < 0)
			continue;
		if (!pair->answered)
			*timeout_ms = (int)MAX(0, MIN(*timeout_ms, pair->deadline_ms - now));
		server->fd = pair->server;
		server->events = POLLOUT;
		if (!pair->connected)
			continue;
		git->events = events_of(&pair->up, &pair->down);
		server->events = events_of(&pair->down, &pair->up);
		/* One that waits for nothing would only say again and again that it was hung up. */
		git->fd = git->events ? pair->git : -1;
		server->fd = server->events ? pair->server : -1;
	}
	return RELAY_FDS_MAX;
}

void relay_handle(struct relay *relay, const struct pollfd *fds)
{
	int64_t now = time_mono_ms();

	for (size_t i = 0; i < PAIRS_MAX; i++) {
		struct pair *pair = &relay->pairs[i];
		bool ready = fds[1 + 2 * i].revents || fds[2 + 2 * i].revents;

		if (pair->git < 0)
			continue;
		if (ready && pair->connected) {
			pump(relay, pair);
		} else if (ready) {
			check_connected(relay, pair);
		} else if (!pair->connected && now >= pair->deadline_ms) {
			pair->address++;
			connect_next(relay, pair, -ETIMEDOUT);
		} else if (!pair->answered && now >= pair->deadline_ms) {
			fail_pair(relay, pair, -ETIMEDOUT, "did not answer in time");
		}
	}
	if (fds[0].revents)
		accept_one(relay);
}

int relay_trouble(struct relay *relay, struct err *err)
{
	int r = relay->trouble.r;

	if (r < 0 && err)
		*err = relay->trouble;
	relay->trouble = (struct err){0};
	return r;
}
