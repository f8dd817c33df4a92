#include "worker/pull/manifest.h"

#include <stdio.h>

#include "base/json.h"

static int refuse(struct err *err, const char *why)
{
	return err_set(
		err, -EBADMSG, "RegistryErrorResponse", "the manifest is not valid: %s", why);
}

static bool type_is_known(const char *type)
{
	return str_eq(type, TYPE_OCI_MANIFEST) || str_eq(type, TYPE_OCI_INDEX) ||
	       str_eq(type, TYPE_DOCKER_MANIFEST) || str_eq(type, TYPE_DOCKER_LIST);
}

/* "type/subtype; parameters" in lower case, or "" when there is none or it is too long. */
static void bare_type(const char *content_type, char *dst, size_t size)
{
	_cleanup_free_ char *copy = NULL;

	dst[0] = '\0';
	if (!content_type)
		return;
	copy = xstrndup(content_type, strcspn(content_type, "; \t"));
	str_lower(copy);
	(void)str_copy(dst, size, copy);
}

static int descriptor_parse(const json_t *value, struct err *err, struct descriptor *ret)
{
	int64_t size = json_get_int(value, "size", -1);
	const char *digest = json_get_str(value, "digest", "");

	*ret = (struct descriptor){0};
	if (!json_is_object(value) || !digest_is_valid(digest))
		return refuse(err, "a descriptor has no valid digest.");
	if (size < 0)
		return refuse(err, "a descriptor has no size.");
	if (str_copy(ret->media_type, sizeof(ret->media_type),
		    json_get_str(value, "mediaType", "")) < 0)
		return refuse(err, "a media type is too long.");
	(void)str_copy(ret->digest, sizeof(ret->digest), digest);
	ret->size = (uint64_t)size;
	return 0;
}

static bool layer_type_is_known(const char *type)
{
	static const char *const types[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.v1.tar+gzip",
		"application/vnd.oci.image.layer.v1.tar+zstd",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd",
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_eq(type, types[i]))
			return true;
	return false;
}

static int parse_image(const json_t *doc, struct err *err, struct manifest *ret)
{
	json_t *layers = json_get_arr(doc, "layers");
	size_t n = json_array_size(layers);
	uint64_t total = 0;
	int r;

	r = descriptor_parse(json_object_get(doc, "config"), err, &ret->config);
	if (r < 0)
		return r;
	if (!str_eq(ret->config.media_type, "application/vnd.oci.image.config.v1+json") &&
		!str_eq(ret->config.media_type, "application/vnd.docker.container.image.v1+json"))
		return err_set(err, -EBADMSG, "InaccessibleImage",
			"it is not a container image but an artifact of type '%.100s'.",
			ret->config.media_type);
	if (ret->config.size > CONFIG_BYTES_MAX)
		return err_set(err, -EFBIG, "ImageTooLarge", "its config is larger than 8 MiB.");
	if (!layers)
		return refuse(err, "it has no list of layers.");
	if (n > LAYERS_MAX)
		return err_set(
			err, -EFBIG, "ImageTooLarge", "it has more than %d layers.", LAYERS_MAX);
	ret->layers = xcalloc(n + 1, sizeof(*ret->layers));
	for (size_t i = 0; i < n; i++) {
		struct descriptor *layer = &ret->layers[i];

		r = descriptor_parse(json_array_get(layers, i), err, layer);
		if (r < 0)
			return r;
		if (!layer_type_is_known(layer->media_type))
			return err_set(err, -EBADMSG, "InvalidImageLayer",
				"it has a layer of the unknown type '%.100s'.", layer->media_type);
		if (__builtin_add_overflow(total, layer->size, &total))
			return refuse(err, "its sizes overflow.");
	}
	ret->n_layers = n;
	return 0;
}

static int parse_index(const json_t *doc, struct err *err, struct manifest *ret)
{
	json_t *list = json_get_arr(doc, "manifests");
	size_t n = json_array_size(list);

	if (!list)
		return refuse(err, "it has no list of manifests.");
	if (n > INDEX_ENTRIES_MAX)
		return refuse(err, "its list of manifests is too long.");
	ret->choices = xcalloc(n + 1, sizeof(*ret->choices));
	for (size_t i = 0; i < n; i++) {
		struct manifest_choice *choice = &ret->choices[ret->n_choices];
		json_t *item = json_array_get(list, i), *platform = json_get_obj(item, "platform");
		int r = descriptor_parse(item, err, &choice->descriptor);

		if (r < 0)
			return r;
		/* Without a platform, or with one that doesn't fit, it can't be ours. */
		if (str_copy(choice->os, sizeof(choice->os), json_get_str(platform, "os", "")) <
				0 ||
			str_copy(choice->architecture, sizeof(choice->architecture),
				json_get_str(platform, "architecture", "")) < 0 ||
			str_copy(choice->variant, sizeof(choice->variant),
				json_get_str(platform, "variant", "")) < 0)
			continue;
		ret->n_choices++;
	}
	ret->is_index = true;
	return 0;
}

/* Which of the four the document is. */
static int type_of(
	const json_t *doc, const char *content_type, struct err *err, char *ret, size_t size)
{
	bool image = json_object_get(doc, "layers") || json_object_get(doc, "config") ||
		     json_object_get(doc, "fsLayers");
	bool index = json_object_get(doc, "manifests") != NULL;
	const char *body = json_get_str(doc, "mediaType", "");
	char header[128];

	if (json_get_int(doc, "schemaVersion", 0) == 1)
		return refuse(err, "it is of Docker's schema 1, which is not supported any more.");
	if (json_get_int(doc, "schemaVersion", 0) != 2)
		return refuse(err, "it has no schemaVersion 2.");
	if (image == index)
		return refuse(err, "it is neither clearly an image nor clearly an index.");
	if (json_object_get(doc, "mediaType") && !type_is_known(body))
		return refuse(err, "its mediaType is not one of an image.");
	bare_type(content_type, header, sizeof(header));
	if (type_is_known(header) && body[0] && !str_eq(header, body))
		return refuse(err, "its mediaType is not that of the Content-Type.");
	if (!body[0] && type_is_known(header))
		body = header;
	if (!body[0])
		body = index ? TYPE_OCI_INDEX
			     : TYPE_OCI_MANIFEST; /* the only ones that may come without */
	if (index != (str_eq(body, TYPE_OCI_INDEX) || str_eq(body, TYPE_DOCKER_LIST)))
		return refuse(err, "its content is not that of its mediaType.");
	return str_copy(ret, size, body);
}

int manifest_parse(const char *data, size_t len, const char *content_type, struct err *err,
	struct manifest *ret)
{
	_cleanup_(manifest_done) struct manifest manifest = {0};
	_cleanup_json_ json_t *doc = NULL;
	char type[128] = "";
	int r;

	if (len > MANIFEST_BYTES_MAX)
		return err_set(err, -EFBIG, "ImageTooLarge", "its manifest is larger than 4 MiB.");
	if (json_parse(data, len, JSON_DEPTH_MAX, NULL, &doc) < 0 || !json_is_object(doc))
		return refuse(err, "it is not a JSON object.");
	r = type_of(doc, content_type, err, type, sizeof(type));
	if (r < 0)
		return r;
	memcpy(manifest.media_type, type, sizeof(type));
	if (str_eq(type, TYPE_OCI_INDEX) || str_eq(type, TYPE_DOCKER_LIST))
		r = parse_index(doc, err, &manifest);
	else
		r = parse_image(doc, err, &manifest);
	if (r < 0)
		return r;
	*ret = manifest;
	manifest = (struct manifest){0};
	return 0;
}

void manifest_done(struct manifest *manifest)
{
	free(manifest->layers);
	free(manifest->choices);
	*manifest = (struct manifest){0};
}

/* How well a variant fits: 0 not at all. Without a wish, the one that every machine of the
 * architecture runs. */
static int variant_rank(const struct platform *platform, const char *variant)
{
	if (platform->variant)
		return str_eq(variant, platform->variant) ? 3 : !variant[0] ? 1 : 0;
	if (str_eq(platform->architecture, "amd64"))
		return !variant[0] ? 3 : str_eq(variant, "v1") ? 2 : 0;
	if (str_eq(platform->architecture, "arm64"))
		return str_eq(variant, "v8") ? 3 : !variant[0] ? 2 : 0;
	return !variant[0] ? 3 : 1;
}

/* Image text as part of a message. */
static const char *plain(char *text)
{
	for (char *p = text; *p; p++)
		if (*p < 0x21 || *p > 0x7e)
			*p = '?';
	return text;
}

static int no_choice(const struct manifest *index, const struct platform *platform, struct err *err)
{
	_cleanup_buf_ struct buf list = BUF_MAX(400);

	for (size_t i = 0; i < index->n_choices; i++) {
		struct manifest_choice c = index->choices[i];

		if (!c.os[0] || str_eq(c.os, "unknown"))
			continue;
		if (buf_printf(&list, "%s%s/%s%s%s", list.len ? ", " : "", plain(c.os),
			    plain(c.architecture), c.variant[0] ? "/" : "", plain(c.variant)) < 0)
			break;
	}
	return err_set(err, -ENOENT, "InaccessibleImage",
		"it has no variant for %s/%s; it has: %s.", platform->os, platform->architecture,
		list.len ? buf_str(&list) : "none");
}

int manifest_choose(const struct manifest *index, const struct platform *platform, struct err *err,
	const struct descriptor **ret)
{
	const struct manifest_choice *best = NULL;
	int best_rank = 0;

	for (size_t i = 0; i < index->n_choices; i++) {
		const struct manifest_choice *choice = &index->choices[i];
		int rank;

		if (!str_eq(choice->os, platform->os) ||
			!str_eq(choice->architecture, platform->architecture))
			continue;
		rank = variant_rank(platform, choice->variant);
		if (rank > best_rank) {
			best = choice;
			best_rank = rank;
		}
	}
	if (!best)
		return no_choice(index, platform, err);
	if (best->descriptor.size > MANIFEST_BYTES_MAX)
		return err_set(err, -EFBIG, "ImageTooLarge", "its manifest is larger than 4 MiB.");
	*ret = &best->descriptor;
	return 0;
}
