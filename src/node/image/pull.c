#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/json.h"
#include "base/random.h"
#include "node/image/worker.h"

/* A removal in another process is short; a pull waits for it. */
#define STORE_WAIT_MS 60000
#define POLL_MS 50

/* A pull that runs in this process. Others that want the same with the same rights wait for it. */
struct flight {
	char key[SHA256_HEX_MAX];
	unsigned users; /* the leader and those who wait */
	bool landed;
	int r;
	struct err err;
	char digest[DIGEST_MAX];
	struct flight *next;
};

struct request {
	const struct image_pull *pull;
	struct reference reference;
	const struct image_credential *credential; /* NULL: none for this registry */
};

static const char *architecture(void)
{
	static const struct {
		const char *machine, *name;
	} names[] = {
		{"x86_64", "amd64"},
		{"aarch64", "arm64"},
		{"armv7l", "arm"},
		{"riscv64", "riscv64"},
		{"ppc64le", "ppc64le"},
		{"s390x", "s390x"},
	};
	struct utsname uts;

	if (uname(&uts) == 0)
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			if (str_eq(uts.machine, names[i].machine))
				return names[i].name;
	return "amd64";
}

static const struct image_credential *find_credential(
	const struct image_pull *pull, const char *server)
{
	for (size_t i = 0; i < pull->n_credentials; i++)
		if (reference_server_matches(pull->credentials[i].server, server))
			return &pull->credentials[i];
	return NULL;
}

/* What may share one transfer: same image, same rights, same question. Lengths keep the parts
 * apart. */
static void flight_key(const struct request *request, char key[SHA256_HEX_MAX])
{
	const struct image_credential *credential = request->credential;
	const char *user = credential ? credential->username : "";
	const char *password = credential ? credential->password : "";
	char *text = xasprintf("%s %d %d %d %zu %s %zu %s", request->reference.full,
		request->pull->always, request->pull->allow_loopback_http, credential != NULL,
		strlen(user), user, strlen(password), password);

	sha256_hex(text, strlen(text), key);
	explicit_bzero(text, strlen(text));
	free(text);
}

static bool is_cancelled(int cancel_fd)
{
	struct pollfd fd = {.fd = cancel_fd, .events = POLLIN};

	return cancel_fd >= 0 && poll(&fd, 1, 0) > 0;
}

static int cancelled(struct err *err, const char *what)
{
	return err_set(err, -ECANCELED, "Canceled", "The pull of '%s' was cancelled.", what);
}

/* An image that anybody may have needs no registry to be used again, an imported one never does. */
static int cached_public(
	struct image_store *store, const struct request *request, struct image **ret)
{
	struct ref_document ref;

	if (store_read_ref(store, request->reference.full, &ref) < 0 || ref.is_private ||
		(request->pull->always && !ref.imported))
		return -ENOENT;
	return store_read_image(store, &request->reference, ref.digest, ret);
}

static char *known_digest(struct image_store *store, const struct reference *reference)
{
	struct ref_document ref;
	struct image *image = NULL;

	if (store_read_ref(store, reference->full, &ref) < 0 ||
		store_read_image(store, reference, ref.digest, &image) < 0)
		return NULL;
	image_free(image);
	return xstrdup(ref.digest);
}

static json_t *pull_job(struct image_store *store, const struct request *request)
{
	const struct image_credential *credential = request->credential;
	_cleanup_free_ char *known = known_digest(store, &request->reference);
	json_t *login = credential ? json_pack("{s:s, s:s}", "username", credential->username,
					     "password", credential->password)
				   : json_null();

	return json_pack("{s:s, s:s, s:{s:s, s:s}, s:o, s:b, s:b, s:s?, s:s?}", "op", "pull",
		"reference", request->reference.full, "platform", "os", "linux", "architecture",
		architecture(), "credentials", login, "allowLoopbackHttp",
		request->pull->allow_loopback_http, "always", request->pull->always, "knownDigest",
		known, "caFile", store->ca_file);
}

/* One transfer of a reference at a time on this machine; others of it find what it left. */
static int lock_reference(struct image_store *store, const struct request *request, struct err *err)
{
	char hex[SHA256_HEX_MAX], path[STORE_PATH_MAX];
	_cleanup_fd_ int fd = -EBADF;

	sha256_hex(request->reference.full, strlen(request->reference.full), hex);
	snprintf(path, sizeof(path), "locks/%s", hex);
	fd = openat(store->fd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, -errno, "lock of '%s'", request->reference.full);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		struct pollfd cancel = {.fd = request->pull->cancel_fd, .events = POLLIN};

		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_errno(err, -errno, "lock of '%s'", request->reference.full);
		if (poll(&cancel, 1, POLL_MS) > 0)
			return cancelled(err, request->reference.full);
	}
	return take_fd(fd);
}

/* The image that a worker says it has made; what it wrote is read again as a stranger's. A
 * reference by digest may name an index, and this is then the digest of the one manifest in it that
 * is for this machine. */
static int result_image(struct image_store *store, const struct reference *reference,
	const char *digest, struct err *err, struct image **ret)
{
	if (store_read_image(store, reference, digest, ret) < 0)
		return err_set(err, -EIO, "InvalidImageLayer",
			"The image '%s' is not complete in this node's cache.", reference->full);
	return 0;
}

static int transfer(struct image_store *store, const struct request *request, struct err *err,
	struct image **ret)
{
	_cleanup_fd_ int shared = -EBADF;
	_cleanup_fd_ int mine = -EBADF;
	_cleanup_json_ json_t *job = NULL;
	struct worker_line line;
	struct worker_run run = {
		.archive_fd = -1,
		.cancel_fd = request->pull->cancel_fd,
		.progress = request->pull->progress,
		.arg = request->pull->arg,
		.what = request->reference.full,
	};
	int r;

	shared = store_lock(store, false, STORE_WAIT_MS);
	if (shared < 0)
		return err_errno(err, shared, "lock the image store");
	mine = lock_reference(store, request, err);
	if (mine < 0)
		return mine;
	/* Another process may have brought it meanwhile. */
	if (cached_public(store, request, ret) == 0)
		return 0;
	job = pull_job(store, request);
	if (!job)
		return err_set(err, -EINVAL, "InvalidImageReference",
			"The credentials for '%s' are not valid UTF-8.", request->reference.domain);
	run.job = job;
	r = worker_run(store, &run, err, &line);
	if (r < 0)
		return r;
	return result_image(store, &request->reference, line.digest, err, ret);
}

/* Joins the flight of this key, or starts it: then *ret_leader. */
static struct flight *flight_join(
	struct image_store *store, const char key[SHA256_HEX_MAX], bool *ret_leader)
{
	struct flight *flight;

	pthread_mutex_lock(&store->lock);
	for (flight = store->flights; flight; flight = flight->next)
		if (!flight->landed && str_eq(flight->key, key))
			break;
	*ret_leader = !flight;
	if (!flight) {
		flight = xnew(struct flight);
		str_copy(flight->key, sizeof(flight->key), key);
		flight->next = store->flights;
		store->flights = flight;
	}
	flight->users++;
	pthread_mutex_unlock(&store->lock);
	return flight;
}

static void flight_land(struct image_store *store, struct flight *flight, int r,
	const struct err *err, const char *digest)
{
	pthread_mutex_lock(&store->lock);
	flight->landed = true;
	flight->r = r;
	flight->err = *err;
	if (digest)
		str_copy(flight->digest, sizeof(flight->digest), digest);
	pthread_cond_broadcast(&store->landed);
	pthread_mutex_unlock(&store->lock);
}

static void flight_leave(struct image_store *store, struct flight *flight)
{
	pthread_mutex_lock(&store->lock);
	if (--flight->users == 0) {
		struct flight **at = &store->flights;

		while (*at != flight)
			at = &(*at)->next;
		*at = flight->next;
		free(flight);
	}
	pthread_mutex_unlock(&store->lock);
}

/* Waits for the leader, or for our own cancel. */
static int flight_wait(struct image_store *store, struct flight *flight, int cancel_fd)
{
	int r = 0;

	pthread_mutex_lock(&store->lock);
	while (r == 0 && !flight->landed) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += POLL_MS * 1000000L;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_nsec -= 1000000000L;
			until.tv_sec++;
		}
		pthread_cond_timedwait(&store->landed, &store->lock, &until);
		if (!flight->landed && is_cancelled(cancel_fd))
			r = -ECANCELED;
	}
	pthread_mutex_unlock(&store->lock);
	return r;
}

static int lead(struct image_store *store, const struct request *request, struct flight *flight,
	struct err *err, struct image **ret)
{
	struct err own = {0};
	struct image *image = NULL;
	int r = transfer(store, request, &own, &image);

	flight_land(store, flight, r, &own, image ? image->digest : NULL);
	if (r < 0 && err)
		*err = own;
	if (r == 0)
		*ret = image;
	return r;
}

/* -EAGAIN when the leader was cancelled, which is none of our business: try again. */
static int follow(struct image_store *store, const struct request *request, struct flight *flight,
	struct err *err, struct image **ret)
{
	if (flight_wait(store, flight, request->pull->cancel_fd) < 0)
		return cancelled(err, request->reference.full);
	if (flight->r == -ECANCELED)
		return -EAGAIN;
	if (flight->r < 0) {
		if (err)
			*err = flight->err;
		return flight->r;
	}
	return result_image(store, &request->reference, flight->digest, err, ret);
}

static int fetch(struct image_store *store, const struct request *request, struct err *err,
	struct image **ret)
{
	char key[SHA256_HEX_MAX];
	int r;

	flight_key(request, key);
	do {
		bool leader;
		struct flight *flight = flight_join(store, key, &leader);

		r = leader ? lead(store, request, flight, err, ret)
			   : follow(store, request, flight, err, ret);
		flight_leave(store, flight);
	} while (r == -EAGAIN);
	return r;
}

int image_pull(struct image_store *store, const struct image_pull *pull, struct err *err,
	struct image **ret)
{
	struct request request = {.pull = pull};
	int r = reference_parse(pull->reference, err, &request.reference);

	if (r < 0)
		return r;
	if (is_cancelled(pull->cancel_fd)) {
		r = cancelled(err, request.reference.full);
	} else if (cached_public(store, &request, ret) < 0) {
		request.credential = find_credential(pull, request.reference.domain);
		r = fetch(store, &request, err, ret);
	}
	reference_done(&request.reference);
	return r;
}

int image_import(struct image_store *store, int archive_fd, const char *text, struct err *err,
	struct image **ret)
{
	struct reference reference = {0};
	_cleanup_fd_ int shared = -EBADF;
	_cleanup_json_ json_t *job = NULL;
	struct worker_line line;
	struct worker_run run = {.archive_fd = archive_fd, .cancel_fd = -1, .what = "the archive"};
	int r = 0;

	if (text) {
		r = reference_parse(text, err, &reference);
		if (r < 0)
			return r;
		run.what = reference.full;
	}
	job = json_pack("{s:s, s:s?, s:{s:s, s:s}}", "op", "import", "reference", reference.full,
		"platform", "os", "linux", "architecture", architecture());
	run.job = job;
	shared = store_lock(store, false, STORE_WAIT_MS);
	if (shared < 0)
		r = err_errno(err, shared, "lock the image store");
	if (r == 0)
		r = worker_run(store, &run, err, &line);
	if (r == 0 && !text)
		r = reference_parse(line.reference, err, &reference);
	if (r == 0)
		r = result_image(store, &reference, line.digest, err, ret);
	reference_done(&reference);
	return r;
}
