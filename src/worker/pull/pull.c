#include "worker/pull/pull.h"

#include "base/json.h"
#include "worker/pull/image.h"
#include "worker/pull/registry.h"

enum { INDEX_DEPTH_MAX = 2, TRIES = 3 };

struct pull {
	const struct job *job;
	struct store *store;
	struct reference ref;
	struct registry *registry;
};

/* --- a registry as a source of layers --- */

static int source_dup(void *source, struct err *err, void **ret)
{
	struct registry *registry;
	int r = registry_dup(source, err, &registry);

	if (r == 0)
		*ret = registry;
	return r;
}

static void source_free(void *source)
{
	registry_free(source);
}

static int source_open(void *source, const struct descriptor *descriptor, struct err *err)
{
	return -ENOSYS;
}

static int source_get(void *source, const struct descriptor *descriptor, uint64_t from,
	int (*sink)(const void *data, size_t len, void *arg), void *arg, struct err *err)
{
	return registry_get_blob(source, descriptor->digest, from, sink, arg, err);
}

static bool source_is_private(const void *source)
{
	return registry_used_credentials(source);
}

static const struct layer_source registry_source = {.dup = source_dup,
	.free = source_free,
	.open = source_open,
	.get = source_get,
	.is_private = source_is_private};

/* --- manifests --- */

static void pause_before(int attempt)
{
	for (int left = attempt * attempt * 300; left > 0 && !job_cancelled(); left -= 50)
		usleep(50000);
}

static int get_manifest(struct pull *pull, const char *what, bool head, struct err *err,
	struct registry_manifest *ret)
{
	int r = -ECONNRESET;

	for (int attempt = 0; attempt < TRIES && r == -ECONNRESET; attempt++) {
		pause_before(attempt);
		r = registry_get_manifest(pull->registry, what, head, err, ret);
	}
	return r;
}

/* Gets and verifies one document. digest: what it must be, or NULL. *ret_digest: what it is. */
static int fetch_manifest(struct pull *pull, const char *what, const char *digest, struct err *err,
	struct manifest *ret, char ret_digest[DIGEST_MAX])
{
	_cleanup_(registry_manifest_done) struct registry_manifest got = {0};
	_cleanup_(hasher_freep) struct hasher *hasher = hasher_new(digest);
	char sum[DIGEST_MAX];
	int r;

	r = get_manifest(pull, what, false, err, &got);
	if (r < 0)
		return r;
	hasher_add(hasher, buf_str(&got.body), got.body.len);
	hasher_digest(hasher, sum);
	if (digest && !str_eq(sum, digest))
		return err_set(err, -EBADMSG, "ImageDigestMismatch",
			"its manifest's digest is %s, and %s was asked for.", sum, digest);
	if (!digest && got.digest[0] &&
		!digest_matches(got.digest, buf_str(&got.body), got.body.len))
		return err_set(err, -EBADMSG, "ImageDigestMismatch",
			"its manifest is %s, and the registry calls it %s.", sum, got.digest);
	r = manifest_parse(buf_str(&got.body), got.body.len, got.content_type, err, ret);
	if (r == 0)
		(void)str_copy(ret_digest, DIGEST_MAX, sum);
	return r;
}

/* From the reference to the manifest of an image for this platform. */
static int resolve(struct pull *pull, struct err *err, struct manifest *ret,
	char ret_top[DIGEST_MAX], char ret_digest[DIGEST_MAX])
{
	_cleanup_(manifest_done) struct manifest manifest = {0};
	const char *digest = pull->ref.digest;
	int r;

	r = fetch_manifest(pull, digest ? digest : pull->ref.tag, digest, err, &manifest, ret_top);
	if (r < 0)
		return r;
	(void)str_copy(ret_digest, DIGEST_MAX, ret_top);
	for (int depth = 0; manifest.is_index; depth++) {
		const struct descriptor *choice;
		struct manifest next = {0};
		char want[DIGEST_MAX];

		if (depth == INDEX_DEPTH_MAX)
			return err_set(err, -ELOOP, "RegistryErrorResponse",
				"its index leads to an index too often.");
		r = manifest_choose(&manifest, &pull->job->platform, err, &choice);
		if (r < 0)
			return r;
		(void)str_copy(want, sizeof(want), choice->digest);
		r = fetch_manifest(pull, want, want, err, &next, ret_digest);
		if (r < 0)
			return r;
		manifest_done(&manifest);
		manifest = next;
	}
	*ret = manifest;
	manifest = (struct manifest){0};
	return 0;
}

static int into_buf(const void *data, size_t len, void *arg)
{
	return buf_add(arg, data, len);
}

static int fetch_config(
	struct pull *pull, const struct descriptor *config, struct err *err, struct buf *ret)
{
	int r = -ECONNRESET;

	for (int attempt = 0; attempt < TRIES && r == -ECONNRESET; attempt++) {
		pause_before(attempt);
		buf_done(ret);
		*ret = BUF_MAX(config->size + 1);
		r = registry_get_blob(pull->registry, config->digest, 0, into_buf, ret, err);
	}
	if (r < 0 && r != -EFBIG)
		return r;
	if (ret->full || ret->len != config->size ||
		!digest_matches(config->digest, buf_str(ret), ret->len))
		return err_set(err, -EBADMSG, "ImageDigestMismatch",
			"its config does not have the digest %s.", config->digest);
	return 0;
}

/* --- what is there already --- */

static bool all_layers_are_there(struct pull *pull, const json_t *record)
{
	json_t *layers = json_get_arr(record, "layers"), *item;
	size_t i;

	if (!layers)
		return false;
	json_array_foreach (layers, i, item) {
		char diff_id[DIGEST_MAX];

		snprintf(diff_id, sizeof(diff_id), "sha256:%.64s",
			json_is_string(item) ? json_string_value(item) : "");
		if (!digest_is_valid(diff_id) || !store_has_layer(pull->store, diff_id))
			return false;
	}
	return true;
}

/* Asks the registry, with this job's credentials, whether the image that is cached is still what
 * the reference means ("always"), or merely whether these credentials may have it. 1: it is, and
 * the records are in place; 0: pull. */
static int use_cached(struct pull *pull, struct err *err)
{
	_cleanup_(registry_manifest_done) struct registry_manifest head = {0};
	_cleanup_free_ char *path = NULL;
	_cleanup_json_ json_t *record = NULL, *ref = NULL;
	const char *known = pull->job->known_digest, *index;
	char name[DIGEST_MAX];
	int r;

	if (!digest_is_valid(known))
		return 0;
	record = store_read_manifest(pull->store, known);
	if (!record || !all_layers_are_there(pull, record))
		return 0;
	r = get_manifest(pull, pull->job->always && !pull->ref.digest ? pull->ref.tag : known, true,
		err, &head);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	ref = store_read_ref(pull->store, pull->ref.full);
	index = json_get_str(ref, "index", known);
	if (!str_eq(json_get_str(ref, "digest", known), known))
		index = known;
	if (!str_eq(head.digest, known) && !str_eq(head.digest, index))
		return 0;
	r = store_write_ref(pull->store, pull->ref.full, known, index,
		registry_used_credentials(pull->registry), false, err);
	if (r < 0)
		return r;
	path = xasprintf("manifests/%s.json", digest_file_name(known, name));
	event_done(pull->ref.full, known, path);
	return 1;
}

static int run(struct pull *pull, struct err *err)
{
	_cleanup_(manifest_done) struct manifest manifest = {0};
	_cleanup_buf_ struct buf config = BUF_INIT;
	char top[DIGEST_MAX], digest[DIGEST_MAX];
	int r;

	r = registry_new(pull->job, &pull->ref, err, &pull->registry);
	if (r < 0)
		return r;
	event_progress("", "Resolving", 0, 0);
	r = use_cached(pull, err);
	if (r != 0)
		return MIN(r, 0);
	r = resolve(pull, err, &manifest, top, digest);
	if (r == 0)
		r = fetch_config(pull, &manifest.config, err, &config);
	if (r < 0)
		return r;
	return image_complete(pull->job, pull->store, &pull->ref, top, digest, &manifest, &config,
		&registry_source, pull->registry, err);
}

int pull_run(const struct job *job, struct store *store, struct err *err)
{
	struct pull pull = {.job = job, .store = store};
	int r;

	r = reference_parse(job->reference, err, &pull.ref);
	if (r < 0)
		return r;
	r = run(&pull, err);
	if (r < 0)
		r = image_sentence(err, pull.ref.full, pull.ref.domain);
	registry_free(pull.registry);
	reference_done(&pull.ref);
	return r;
}
