#include "base/json.h"
#include "base/random.h"
#include "node/image/document.h"

#define STRINGS_MAX 1000
#define STRING_LEN_MAX ((size_t)32 << 10)

static const char *const progress_words[] = {
	"Resolving", "Downloading", "Unpacking", "Complete", "Exists"};

/* RegistryErrorResponse comes first: it stands for a code that isn't known. */
static const struct {
	const char *code;
	int r;
} error_codes[] = {
	{"RegistryErrorResponse", -EIO},
	{"InvalidImageReference", -EINVAL},
	{"InaccessibleImage", -EACCES},
	{"ImageDigestMismatch", -EBADMSG},
	{"InvalidImageLayer", -EBADMSG},
	{"ImageTooLarge", -EFBIG},
	{"NodeStorageFull", -ENOSPC},
	{"Canceled", -ECANCELED},
	{"InternalError", -EIO},
};

static int parse_object(const char *data, size_t len, json_t **ret)
{
	json_t *value;
	int r;

	r = json_parse(data, len, 4, NULL, &value);
	if (r < 0)
		return -EBADMSG;
	if (!json_is_object(value)) {
		json_decref(value);
		return -EBADMSG;
	}
	*ret = value;
	return 0;
}

/* A string member of at most size-1 bytes without control characters. */
static int copy_text(const json_t *obj, const char *key, char *dst, size_t size)
{
	const char *s = json_get_str(obj, key, NULL);

	if (!s || str_copy(dst, size, s) < 0)
		return -EBADMSG;
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return -EBADMSG;
	return 0;
}

bool hex_valid(const char *s, size_t n)
{
	return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

static int copy_digest(const json_t *obj, const char *key, char dst[DIGEST_MAX])
{
	const char *s = json_get_str(obj, key, NULL);

	if (!s || !digest_is_valid(s) || str_copy(dst, DIGEST_MAX, s) < 0)
		return -EBADMSG;
	return 0;
}

static int copy_number(const json_t *obj, const char *key, uint64_t *ret)
{
	int64_t n = json_get_int(obj, key, -1);

	if (n < 0)
		return -EBADMSG;
	*ret = (uint64_t)n;
	return 0;
}

static int parse_progress(const json_t *obj, struct worker_line *line)
{
	const char *what = json_get_str(obj, "what", "");
	size_t n;

	if (copy_text(obj, "layer", line->layer, sizeof(line->layer)) < 0)
		return -EBADMSG;
	n = strlen(line->layer);
	if (!hex_valid(line->layer, n))
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(progress_words); i++)
		if (str_eq(what, progress_words[i]))
			line->what = progress_words[i];
	if (!line->what)
		return -EBADMSG;
	line->done_bytes = (uint64_t)MAX(json_get_int(obj, "done", 0), 0);
	line->total_bytes = (uint64_t)MAX(json_get_int(obj, "total", 0), 0);
	return 0;
}

static int parse_done(const json_t *obj, struct worker_line *line)
{
	struct reference reference = {0};
	bool full;

	if (copy_text(obj, "reference", line->reference, sizeof(line->reference)) < 0 ||
		copy_digest(obj, "digest", line->digest) < 0)
		return -EBADMSG;
	if (reference_parse(line->reference, NULL, &reference) < 0)
		return -EBADMSG;
	full = str_eq(reference.full, line->reference);
	reference_done(&reference);
	return full ? 0 : -EBADMSG;
}

static int parse_error(const json_t *obj, struct worker_line *line)
{
	const char *code = json_get_str(obj, "code", "");
	const char *message = json_get_str(obj, "message", "");
	_cleanup_free_ char *cut = NULL;
	size_t known = 0;

	for (size_t i = 0; i < ARRAY_SIZE(error_codes); i++)
		if (str_eq(code, error_codes[i].code))
			known = i;
	line->code = error_codes[known].code;
	line->r = error_codes[known].r;
	/* A cut within a character leaves bytes that the cleaning replaces, three for one at most.
	 */
	cut = str_utf8_clean(message, strnlen(message, sizeof(line->message) - 16));
	if (str_copy(line->message, sizeof(line->message), cut) < 0)
		return -EBADMSG;
	for (char *p = line->message; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	return 0;
}

int worker_line_parse(const char *data, size_t len, struct worker_line *ret)
{
	_cleanup_json_ json_t *obj = NULL;
	struct worker_line line = {0};
	const char *event;
	int r;

	if (len > WORKER_LINE_MAX || parse_object(data, len, &obj) < 0)
		return -EBADMSG;
	event = json_get_str(obj, "event", "");
	if (str_eq(event, "progress")) {
		line.event = WORKER_PROGRESS;
		r = parse_progress(obj, &line);
	} else if (str_eq(event, "done")) {
		line.event = WORKER_DONE;
		r = parse_done(obj, &line);
	} else if (str_eq(event, "error")) {
		line.event = WORKER_ERROR;
		r = parse_error(obj, &line);
	} else {
		return -EBADMSG;
	}
	if (r == 0)
		*ret = line;
	return r;
}

int ref_document_parse(const char *data, size_t len, struct ref_document *ret)
{
	_cleanup_json_ json_t *obj = NULL;
	struct ref_document ref = {0};

	if (len > REF_FILE_MAX || parse_object(data, len, &obj) < 0)
		return -EBADMSG;
	if (copy_text(obj, "reference", ref.reference, sizeof(ref.reference)) < 0 ||
		copy_digest(obj, "digest", ref.digest) < 0 ||
		copy_text(obj, "pulled", ref.pulled, sizeof(ref.pulled)) < 0)
		return -EBADMSG;
	/* What doesn't say that it is public is not. */
	ref.is_private = !json_is_false(json_object_get(obj, "private"));
	ref.imported = json_is_true(json_object_get(obj, "imported"));
	*ret = ref;
	return 0;
}

/* NULL for null, for a missing and for an empty array. */
static int copy_strings(const json_t *obj, const char *key, bool env, char ***ret)
{
	const json_t *array = json_object_get(obj, key);
	char **list;
	size_t n, kept = 0;

	*ret = NULL;
	if (!array || json_is_null(array))
		return 0;
	if (!json_is_array(array))
		return -EBADMSG;
	n = json_array_size(array);
	if (n > STRINGS_MAX)
		return -EBADMSG;
	if (n == 0)
		return 0;
	list = xcalloc(n + 1, sizeof(*list));
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_array_get(array, i);
		const char *s = json_string_value(item);

		if (!s || json_string_length(item) > STRING_LEN_MAX ||
			strlen(s) != json_string_length(item)) {
			for (size_t k = 0; k < kept; k++)
				free(list[k]);
			free(list);
			return -EBADMSG;
		}
		/* Images exist whose environment has entries without a name or a value. */
		if (env && (s[0] == '=' || !strchr(s, '=')))
			continue;
		list[kept++] = xstrdup(s);
	}
	*ret = list;
	return 0;
}

static int copy_optional(const json_t *obj, const char *key, size_t size, char **ret)
{
	char text[4097];

	assert(size <= sizeof(text));
	if (!json_object_get(obj, key))
		return 0;
	if (copy_text(obj, key, text, size) < 0)
		return -EBADMSG;
	if (text[0] != '\0')
		*ret = xstrdup(text);
	return 0;
}

static int parse_config(const json_t *obj, struct image_config *config)
{
	if (copy_strings(obj, "entrypoint", false, &config->entrypoint) < 0 ||
		copy_strings(obj, "cmd", false, &config->cmd) < 0 ||
		copy_strings(obj, "env", true, &config->env) < 0 ||
		copy_optional(obj, "user", 257, &config->user) < 0 ||
		copy_optional(obj, "workingDir", 4097, &config->working_dir) < 0 ||
		copy_optional(obj, "stopSignal", 33, &config->stop_signal) < 0)
		return -EBADMSG;
	return 0;
}

static int parse_layers(const json_t *array, struct image *image)
{
	size_t n = json_array_size(array);

	if (!json_is_array(array) || n > IMAGE_LAYERS_MAX)
		return -EBADMSG;
	image->layers = xcalloc(n + 1, sizeof(*image->layers));
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_array_get(array, i));

		if (!s || !hex_valid(s, 64))
			return -EBADMSG;
		image->layers[i] = xstrdup(s);
	}
	return 0;
}

DEFINE_CLEANUP(struct image *, image_free)

int manifest_document_parse(const char *data, size_t len, const char *digest, struct image **ret)
{
	_cleanup_json_ json_t *obj = NULL;
	_cleanup_(image_freep) struct image *image = xnew(struct image);
	char named[DIGEST_MAX];
	const json_t *config;

	if (len > MANIFEST_FILE_MAX || parse_object(data, len, &obj) < 0)
		return -EBADMSG;
	if (copy_digest(obj, "digest", named) < 0 || !str_eq(named, digest))
		return -EBADMSG;
	image->digest = xstrdup(named);
	config = json_get_obj(obj, "config");
	if (!config || parse_config(config, &image->config) < 0 ||
		parse_layers(json_object_get(obj, "layers"), image) < 0 ||
		copy_number(obj, "size", &image->size_bytes) < 0)
		return -EBADMSG;
	*ret = take_ptr(image);
	return 0;
}

static void strings_free(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

void image_free(struct image *image)
{
	if (!image)
		return;
	free(image->reference);
	free(image->digest);
	free(image->name_digest);
	strings_free(image->layers);
	strings_free(image->config.entrypoint);
	strings_free(image->config.cmd);
	strings_free(image->config.env);
	free(image->config.user);
	free(image->config.working_dir);
	free(image->config.stop_signal);
	free(image);
}
