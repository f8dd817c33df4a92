/* Probes and config maps. */
#include "control/providers/containerinstance/validate.h"

#define HEADERS_MAX 32
#define HEADER_NAME_MAX 128
#define HEADER_VALUE_MAX 4096
#define PROBE_PATH_MAX 2048

/* Where a probe is, for messages. */
struct place {
	const char *probe, *container, *group;
	size_t i; /* of the container */
};

#define FAIL_PROBE(err, place, member, ...)                                                        \
	({                                                                                         \
		err_set(err, -EINVAL, "InvalidProbe", __VA_ARGS__);                                \
		FAIL_AT(err, "properties.containers[%zu].properties.%s%s", (place)->i,             \
			(place)->probe, member);                                                   \
	})

/* --- probes --- */

static int exec_check(const struct place *place, const json_t *exec, struct err *err)
{
	const char *program = json_string_value(json_array_get(json_get_arr(exec, "command"), 0));

	if (program && *program)
		return 0;
	return FAIL_PROBE(err, place, ".exec.command",
		"The command of the '%s' in container '%s' of container group '%s' is empty. Give the program and its "
		"arguments as an array.",
		place->probe, place->container, place->group);
}

/* Bytes of RFC 9110's field-content: no line break can end the header early. */
static bool header_value_is_valid(const char *value)
{
	for (const char *c = value; *c; c++)
		if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
			return false;
	return strlen(value) <= HEADER_VALUE_MAX;
}

/* Of a message's framing, which is the prober's own. */
static bool header_is_framing(const char *name)
{
	static const char *const framing[] = {"Connection", "Content-Length", "Expect", "TE",
		"Trailer", "Transfer-Encoding", "Upgrade"};

	for (size_t i = 0; i < ARRAY_SIZE(framing); i++)
		if (str_eq_nocase(framing[i], name))
			return true;
	return false;
}

static int header_check(const struct place *place, const json_t *header, size_t h, struct err *err)
{
	const char *name = json_get_str(header, "name", "");
	_cleanup_free_ char *at = xasprintf(".httpGet.httpHeaders[%zu]", h);

	if (strlen(name) > HEADER_NAME_MAX ||
		!schema_matches("[-!#$%&'*+.^_`|~0-9A-Za-z]+", name) || header_is_framing(name))
		return FAIL_PROBE(err, place, at,
			"The header '%.80s' of the '%s' in container '%s' of container group '%s' is invalid. A name is a "
			"token of HTTP, such as 'X-Name', and not one that frames the message.",
			name, place->probe, place->container, place->group);
	if (!header_value_is_valid(json_get_str(header, "value", "")))
		return FAIL_PROBE(err, place, at,
			"The value of the header '%s' of the '%s' in container '%s' of container group '%s' is invalid. It "
			"may have up to %d bytes, without line breaks and other control characters.",
			name, place->probe, place->container, place->group, HEADER_VALUE_MAX);
	return 0;
}

static int http_check(const struct place *place, const json_t *get, struct err *err)
{
	const char *path = json_get_str(get, "path", "/");
	const json_t *headers = json_get_arr(get, "httpHeaders"), *header;
	size_t h;
	int r;

	if (path[0] != '/' || strlen(path) > PROBE_PATH_MAX || !schema_matches("[!-~]+", path))
		return FAIL_PROBE(err, place, ".httpGet.path",
			"The path '%.200s' of the '%s' in container '%s' of container group '%s' is invalid. It must begin "
			"with '/' and have no blanks, control characters or unescaped characters outside of ASCII.",
			path, place->probe, place->container, place->group);
	if (json_array_size(headers) > HEADERS_MAX)
		return FAIL_PROBE(err, place, ".httpGet.httpHeaders",
			"The '%s' in container '%s' of container group '%s' has %zu headers. At most %d are allowed.",
			place->probe, place->container, place->group, json_array_size(headers),
			HEADERS_MAX);
	json_array_foreach (headers, h, header) {
		r = header_check(place, header, h, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int probe_check(const struct place *place, const json_t *probe, struct err *err)
{
	const json_t *exec = json_get_obj(probe, "exec"), *get = json_get_obj(probe, "httpGet");
	int64_t successes = json_get_int(probe, "successThreshold", 1);

	if (!exec == !get)
		return FAIL_PROBE(err, place, "",
			"The '%s' in container '%s' of container group '%s' has %s. Each probe has exactly one of 'exec' "
			"and 'httpGet'.",
			place->probe, place->container, place->group,
			exec ? "both 'exec' and 'httpGet'" : "neither 'exec' nor 'httpGet'");
	if (str_eq(place->probe, "livenessProbe") && successes != 1)
		return FAIL_PROBE(err, place, ".successThreshold",
			"The 'successThreshold' of the '%s' in container '%s' of container group '%s' is %lld. It must be 1 "
			"for a liveness probe.",
			place->probe, place->container, place->group, (long long)successes);
	return exec ? exec_check(place, exec, err) : http_check(place, get, err);
}

int probes_check(const json_t *document, const char *group, struct err *err)
{
	static const char *const probes[] = {"livenessProbe", "readinessProbe"};
	struct place place = {.group = group};
	const json_t *container;
	int r;

	json_array_foreach (
		json_get_arr(properties_of(document), "containers"), place.i, container) {
		place.container = json_get_str(container, "name", "");
		for (size_t p = 0; p < ARRAY_SIZE(probes); p++) {
			const json_t *probe = json_get_obj(properties_of(container), probes[p]);

			place.probe = probes[p];
			r = probe ? probe_check(&place, probe, err) : 0;
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* --- config maps --- */

static int config_map_check(const json_t *container, size_t i, const char *group, struct err *err)
{
	const json_t *pairs =
		json_path(properties_of(container), "configMap", "keyValuePairs", NULL);
	const char *name = json_get_str(container, "name", ""), *key;
	size_t total = 0;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)pairs, key, value) {
		if (!file_key_is_valid(key))
			return FAIL(err,
				"properties.containers[%zu].properties.configMap.keyValuePairs", i,
				"InvalidConfigMap",
				"The key '%.80s' of the config map in container '%s' of container group '%s' is invalid. " FILE_KEY_WORDS
				".",
				key, name, group);
		total += json_string_length(value);
	}
	if (total > FILES_MAX)
		return FAIL(err, "properties.containers[%zu].properties.configMap.keyValuePairs", i,
			"InvalidConfigMap",
			"The values of the config map in container '%s' of container group '%s' have %zu bytes together. At "
			"most %zu are allowed.",
			name, group, total, FILES_MAX);
	return 0;
}

int config_maps_check(const json_t *document, const char *group, struct err *err)
{
	const json_t *containers = json_get_arr(properties_of(document), "containers");
	int r = 0;

	for (size_t i = 0; i < json_array_size(containers) && r == 0; i++)
		r = config_map_check(json_array_get(containers, i), i, group, err);
	return r;
}
