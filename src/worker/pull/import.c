#include "worker/pull/import.h"

#include <sys/stat.h>

#include "base/json.h"
#include "worker/pull/savefile.h"
#include "worker/pull/image.h"

enum { DOCUMENT_BYTES_MAX = 4 << 20, INDEX_DEPTH_MAX = 3 };

struct import {
	const struct job *job;
	struct store *store;
	struct savefile *files;
	struct reference ref;
	bool named;
	/* docker-save keeps layers under names of their own: by the order of the manifest made for
	 * them. */
	const json_t *save_layers;
	const struct manifest *save_manifest;
};

static int invalid(struct err *err, const char *why)
{
	return err_set(err, -EBADMSG, "InvalidImageLayer", "%s", why);
}

/* --- an archive as a source of layers --- */

static int source_dup(void *source, struct err *err, void **ret)
{
	*ret = source;
	return 0;
}

static void source_free(void *source)
{
}

static char *blob_name(const char *digest)
{
	return xasprintf("blobs/%.6s/%s", digest, digest_hex(digest));
}

static int source_open(void *source, const struct descriptor *descriptor, struct err *err)
{
	const struct import *import = source;
	_cleanup_free_ char *name = blob_name(descriptor->digest);
	const char *path = name;
	int fd;

	for (size_t i = 0; import->save_manifest && i < import->save_manifest->n_layers; i++)
		if (str_eq(import->save_manifest->layers[i].digest, descriptor->digest))
			path = json_string_value(json_array_get(import->save_layers, i));
	fd = savefile_get(import->files, path);
	return fd < 0 ? err_set(err, -EBADMSG, "InvalidImageLayer",
				"the archive has no usable layer %s.", descriptor->digest)
		      : fd;
}

static int source_get(void *source, const struct descriptor *descriptor, uint64_t from,
	int (*sink)(const void *data, size_t len, void *arg), void *arg, struct err *err)
{
	return err_set(err, -ENOSYS, "InternalError", "an archive's blobs are files.");
}

/* Who may import may also let all use it. */
static bool source_is_private(const void *source)
{
	return false;
}

static const struct layer_source archive_source = {.dup = source_dup,
	.free = source_free,
	.open = source_open,
	.get = source_get,
	.is_private = source_is_private,
	.imported = true};

/* --- names --- */

static int take_name(struct import *import, const char *name, struct err *err)
{
	int r;

	if (import->named)
		return 0;
	r = reference_parse(name, err, &import->ref);
	import->named = r == 0;
	return r;
}

/* The name that an entry of index.json carries: containerd's, or the OCI one when it is more than a
 * tag. */
static const char *entry_name(const json_t *entry)
{
	json_t *annotations = json_get_obj(entry, "annotations");
	const char *name = json_get_str(annotations, "io.containerd.image.name", "");

	if (!name[0])
		name = json_get_str(annotations, "org.opencontainers.image.ref.name", "");
	return name;
}

static bool is_wanted(const struct import *import, const char *name)
{
	_cleanup_(reference_done) struct reference ref = {0};

	if (!name[0] || !import->named)
		return false;
	if (import->ref.tag && str_eq(import->ref.tag, name))
		return true;
	return reference_parse(name, NULL, &ref) == 0 && str_eq(import->ref.full, ref.full);
}

/* --- OCI layouts --- */

static int read_blob(struct import *import, const struct descriptor *d, size_t max, struct err *err,
	struct buf *ret)
{
	_cleanup_free_ char *name = blob_name(d->digest);
	_cleanup_buf_ struct buf buf = BUF_INIT;

	if (d->size > max || savefile_read(import->files, name, max, &buf) < 0)
		return err_set(err, -EBADMSG, "InvalidImageLayer",
			"the archive has no usable blob %s.", d->digest);
	if (buf.len != d->size || !digest_matches(d->digest, buf_str(&buf), buf.len))
		return err_set(err, -EBADMSG, "ImageDigestMismatch",
			"the blob %s is not what its name says.", d->digest);
	*ret = buf;
	buf = BUF_INIT;
	return 0;
}

static int read_manifest(
	struct import *import, const struct descriptor *d, struct err *err, struct manifest *ret)
{
	_cleanup_buf_ struct buf body = BUF_INIT;
	int r = read_blob(import, d, MANIFEST_BYTES_MAX, err, &body);

	return r < 0 ? r : manifest_parse(buf_str(&body), body.len, d->media_type, err, ret);
}

/* Which entry of index.json is meant: the only one, the one of the wanted name, or the one for this
 * platform. */
static int choose_entry(struct import *import, const struct buf *text, const struct manifest *index,
	struct err *err, struct descriptor *ret)
{
	_cleanup_json_ json_t *doc = NULL;
	const struct descriptor *choice;
	const char *name = "";
	json_t *list;
	size_t i, n, found = SIZE_MAX;
	int r;

	r = json_parse(buf_str(text), text->len, JSON_DEPTH_MAX, err, &doc);
	if (r < 0)
		return r;
	list = json_get_arr(doc, "manifests");
	n = json_array_size(list);
	for (i = 0; i < n && found == SIZE_MAX; i++)
		if (n == 1 || is_wanted(import, entry_name(json_array_get(list, i))))
			found = i;
	if (found != SIZE_MAX) {
		json_t *entry = json_array_get(list, found);

		name = entry_name(entry);
		if (str_copy(ret->digest, sizeof(ret->digest), json_get_str(entry, "digest", "")) <
				0 ||
			!digest_is_valid(ret->digest))
			return invalid(err, "its index has no valid digest.");
		(void)str_copy(ret->media_type, sizeof(ret->media_type),
			json_get_str(entry, "mediaType", ""));
		ret->size = (uint64_t)MAX(json_get_int(entry, "size", 0), 0);
	} else {
		r = manifest_choose(index, &import->job->platform, err, &choice);
		if (r < 0)
			return r;
		*ret = *choice;
	}
	if (import->named || name[strcspn(name, "/:")])
		return take_name(import, name, err);
	return err_set(err, -EINVAL, "InvalidImageReference",
		"The archive does not name its image: give a name.");
}

static int import_layout(struct import *import, const struct buf *text, struct err *err)
{
	_cleanup_(manifest_done) struct manifest manifest = {0};
	_cleanup_buf_ struct buf config = BUF_INIT;
	struct descriptor at = {0};
	char top[DIGEST_MAX];
	int r;

	r = manifest_parse(buf_str(text), text->len, TYPE_OCI_INDEX, err, &manifest);
	if (r == 0)
		r = choose_entry(import, text, &manifest, err, &at);
	(void)str_copy(top, sizeof(top), at.digest);
	for (int depth = 0; r == 0 && manifest.is_index; depth++) {
		const struct descriptor *choice;

		if (depth == INDEX_DEPTH_MAX)
			return invalid(err, "its index leads to an index too often.");
		if (depth > 0) {
			r = manifest_choose(&manifest, &import->job->platform, err, &choice);
			if (r < 0)
				return r;
			at = *choice;
		}
		manifest_done(&manifest);
		r = read_manifest(import, &at, err, &manifest);
	}
	if (r == 0)
		r = read_blob(import, &manifest.config, CONFIG_BYTES_MAX, err, &config);
	if (r < 0)
		return r;
	return image_complete(import->job, import->store, &import->ref, top, at.digest, &manifest,
		&config, &archive_source, import, err);
}

/* --- docker save, before it wrote OCI layouts --- */

static int describe_file(struct import *import, const char *path, const char *type, struct err *err,
	struct descriptor *ret)
{
	_cleanup_(hasher_freep) struct hasher *hasher = hasher_new(NULL);
	_cleanup_fd_ int fd = path ? savefile_get(import->files, path) : -ENOENT;
	char data[65536];
	ssize_t n;

	if (fd < 0)
		return invalid(err, "a file that its manifest names is missing.");
	while ((n = read(fd, data, sizeof(data))) > 0 && !job_cancelled()) {
		hasher_add(hasher, data, (size_t)n);
		ret->size += (uint64_t)n;
	}
	if (n != 0)
		return job_cancelled() ? job_canceled_err(err)
				       : invalid(err, "a file can't be read.");
	hasher_digest(hasher, ret->digest);
	(void)str_copy(ret->media_type, sizeof(ret->media_type), type);
	return 0;
}

static json_t *descriptor_json(const struct descriptor *d)
{
	return json_pack("{s:s, s:I, s:s}", "mediaType", d->media_type, "size", (json_int_t)d->size,
		"digest", d->digest);
}

/* The image that is meant: the only one, or the one of the wanted name. */
static json_t *choose_saved(struct import *import, const json_t *doc)
{
	json_t *item, *tag;
	size_t i, j;

	if (json_array_size(doc) == 1)
		return json_array_get(doc, 0);
	json_array_foreach (doc, i, item)
		json_array_foreach (json_get_arr(item, "RepoTags"), j, tag)
			if (json_is_string(tag) && is_wanted(import, json_string_value(tag)))
				return item;
	return NULL;
}

/* docker save has no manifest: one is made of what it has, always the same one for the same image.
 */
static int make_manifest(struct import *import, const char *config_name, json_t *layers,
	struct err *err, struct manifest *ret, char ret_digest[DIGEST_MAX])
{
	_cleanup_(hasher_freep) struct hasher *hasher = hasher_new(NULL);
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ json_t *doc = NULL;
	json_t *list = json_array();
	int r;

	r = describe_file(
		import, config_name, "application/vnd.oci.image.config.v1+json", err, &ret->config);
	doc = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", TYPE_OCI_MANIFEST,
		"config", descriptor_json(&ret->config), "layers", list);
	(void)str_copy(ret->media_type, sizeof(ret->media_type), TYPE_OCI_MANIFEST);
	ret->layers = xcalloc(json_array_size(layers) + 1, sizeof(*ret->layers));
	for (size_t i = 0; i < json_array_size(layers) && r == 0; i++) {
		r = describe_file(import, json_string_value(json_array_get(layers, i)),
			"application/vnd.oci.image.layer.v1.tar", err, &ret->layers[i]);
		ret->n_layers = i + 1;
		json_array_append_new(list, descriptor_json(&ret->layers[i]));
	}
	if (r < 0)
		return r;
	text = json_text(doc);
	hasher_add(hasher, text, strlen(text));
	hasher_digest(hasher, ret_digest);
	return 0;
}

static int import_saved(struct import *import, const struct buf *text, struct err *err)
{
	_cleanup_(manifest_done) struct manifest manifest = {0};
	_cleanup_buf_ struct buf config = BUF_INIT;
	_cleanup_json_ json_t *doc = NULL;
	json_t *image, *layers;
	const char *name, *config_name;
	char digest[DIGEST_MAX];
	int r;

	r = json_parse(buf_str(text), text->len, JSON_DEPTH_MAX, err, &doc);
	if (r < 0)
		return invalid(err, "its manifest.json is not JSON.");
	image = choose_saved(import, doc);
	if (!image)
		return err_set(err, -ENOENT, "InvalidImageReference",
			"The archive has several images: give the name of one.");
	name = json_string_value(json_array_get(json_get_arr(image, "RepoTags"), 0));
	if (!import->named && !name)
		return err_set(err, -EINVAL, "InvalidImageReference",
			"The archive does not name its image: give a name.");
	r = take_name(import, name, err);
	if (r < 0)
		return r;
	layers = json_get_arr(image, "Layers");
	config_name = json_get_str(image, "Config", "");
	if (!layers || json_array_size(layers) > LAYERS_MAX)
		return invalid(err, "it has no list of layers, or too long a one.");
	r = make_manifest(import, config_name, layers, err, &manifest, digest);
	if (r < 0)
		return r;
	if (savefile_read(import->files, config_name, CONFIG_BYTES_MAX, &config) < 0)
		return invalid(err, "its config is missing or too large.");
	import->save_layers = layers;
	import->save_manifest = &manifest;
	return image_complete(import->job, import->store, &import->ref, digest, digest, &manifest,
		&config, &archive_source, import, err);
}

static int run(struct import *import, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	if (savefile_read(import->files, "index.json", DOCUMENT_BYTES_MAX, &text) == 0)
		return import_layout(import, &text, err);
	if (savefile_read(import->files, "manifest.json", DOCUMENT_BYTES_MAX, &text) == 0)
		return import_saved(import, &text, err);
	return invalid(err, "it has neither an index.json nor a manifest.json.");
}

int import_run(const struct job *job, struct store *store, int fd, struct err *err)
{
	struct import import = {.job = job, .store = store};
	struct staging staging = STAGING_INIT;
	int r = 0;

	if (job->reference)
		r = take_name(&import, job->reference, err);
	if (r == 0)
		r = staging_new(store, err, &staging);
	if (r == 0)
		r = savefile_open(job, &staging, fd, err, &import.files);
	if (r == 0)
		r = run(&import, err);
	if (r < 0 && !str_eq(err->code, "InvalidImageReference"))
		err_wrap(err, "The archive can't be imported");
	savefile_free(import.files);
	staging_done(store, &staging);
	reference_done(&import.ref);
	return r;
}
