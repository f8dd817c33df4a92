#include "worker/pull/image.h"

#include "base/json.h"

/* A layer that comes twice is applied where it comes last: everything that it says it says there
 * again, and overlayfs takes a directory once. */
static size_t distinct_layers(
	const struct manifest *manifest, const struct image_info *info, struct layer *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < info->n_diff_ids; i++) {
		bool again = false;

		for (size_t j = i + 1; j < info->n_diff_ids && !again; j++)
			again = str_eq(info->diff_ids[i], info->diff_ids[j]);
		if (!again)
			ret[n++] = (struct layer){&manifest->layers[i], info->diff_ids[i]};
	}
	return n;
}

static json_t *record(const char *digest, const struct manifest *manifest,
	const struct image_info *info, const struct layer *layers, size_t n, uint64_t bytes)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(digest_hex(layers[i].diff_id)));
	return json_pack("{s:s, s:s, s:O, s:o, s:I}", "digest", digest, "mediaType",
		manifest->media_type, "config", info->config, "layers", list, "size",
		(json_int_t)bytes);
}

static int check_sizes(const struct job *job, const struct manifest *manifest,
	const struct image_info *info, struct err *err)
{
	uint64_t total = 0;

	if (info->n_diff_ids != manifest->n_layers)
		return err_set(err, -EBADMSG, "InvalidImageLayer",
			"its config lists %zu layers, and its manifest %zu.", info->n_diff_ids,
			manifest->n_layers);
	for (size_t i = 0; i < manifest->n_layers; i++)
		total += manifest->layers[i].size; /* manifest_parse() has looked for overflow */
	if (total > job->limits.bytes)
		return err_set(err, -EFBIG, "ImageTooLarge", "its layers have more than %llu MiB.",
			(unsigned long long)(job->limits.bytes >> 20));
	return 0;
}

int image_complete(const struct job *job, struct store *store, const struct reference *ref,
	const char *top, const char *digest, const struct manifest *manifest,
	const struct buf *config, const struct layer_source *ops, void *source, struct err *err)
{
	_cleanup_(image_info_done) struct image_info info = {0};
	_cleanup_free_ struct layer *layers = NULL;
	_cleanup_free_ char *path = NULL;
	_cleanup_json_ json_t *doc = NULL;
	char name[DIGEST_MAX];
	uint64_t bytes = 0;
	size_t n;
	int r;

	r = image_info_parse(buf_str(config), config->len, &job->platform, err, &info);
	if (r == 0)
		r = check_sizes(job, manifest, &info, err);
	if (r < 0)
		return r;
	layers = xcalloc(info.n_diff_ids + 1, sizeof(*layers));
	n = distinct_layers(manifest, &info, layers);
	r = layers_fetch(job, store, ops, source, layers, n, err, &bytes);
	if (r < 0)
		return r;
	doc = record(digest, manifest, &info, layers, n, bytes);
	r = store_write_manifest(store, digest, doc, err);
	if (r == 0)
		r = store_write_ref(
			store, ref->full, digest, top, ops->is_private(source), ops->imported, err);
	if (r < 0)
		return r;
	path = xasprintf("manifests/%s.json", digest_file_name(digest, name));
	event_done(ref->full, digest, path);
	return 0;
}

int image_sentence(struct err *err, const char *reference, const char *registry)
{
	char reason[sizeof(err->message)];
	int r = err->r;

	(void)str_copy(reason, sizeof(reason), err->message);
	if (str_eq(err->code, "InaccessibleImage"))
		err_set(err, r, "InaccessibleImage", "The image '%s' is not accessible: %s",
			reference, reason);
	else if (str_eq(err->code, "RegistryErrorResponse"))
		err_set(err, r, "RegistryErrorResponse",
			"The registry '%s' could not give the image '%s': %s", registry, reference,
			reason);
	else if (str_eq(err->code, "InvalidImageLayer") || str_eq(err->code, "ImageDigestMismatch"))
		err_set(err, r,
			str_eq(err->code, "InvalidImageLayer") ? "InvalidImageLayer"
							       : "ImageDigestMismatch",
			"The image '%s' is not valid: %s", reference, reason);
	else if (str_eq(err->code, "ImageTooLarge"))
		err_set(err, r, "ImageTooLarge", "The image '%s' is too large: %s", reference,
			reason);
	else if (!str_eq(err->code, "InvalidImageReference"))
		err_wrap(err, "The image '%s'", reference);
	return r;
}
