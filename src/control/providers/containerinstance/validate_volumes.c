/*
 * Volumes and where they are mounted. Everything here reaches a node that is root: each name, path
 * and URL has a grammar of its own, and what the grammar doesn't have is refused.
 */
#include "control/providers/containerinstance/validate.h"

#define VOLUMES_MAX 20
#define MOUNTS_MAX 64 /* of one container */
#define PATH_LENGTH_MAX 1024
#define REPOSITORY_MAX 2048
#define DIRECTORY_MAX 255
#define ACCOUNT_KEY_MAX 255 /* as on the node: what libsmbclient has room for */

#define FAIL_VOLUME(err, i, member, ...)                                                           \
	({                                                                                         \
		err_set(err, -EINVAL, "InvalidVolume", __VA_ARGS__);                               \
		FAIL_AT(err, "properties.volumes[%zu].%s", i, member);                             \
	})

static const char *name_of(const json_t *object)
{
	return json_get_str(object, "name", "");
}

static bool has_control(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

/* --- secret --- */

bool file_key_is_valid(const char *key)
{
	return strlen(key) <= 253 && schema_matches("[-._a-zA-Z0-9]+", key) && !str_eq(key, ".") &&
	       !str_starts(key, "..");
}

/* Padded base64 of the standard alphabet and nothing else. 0 or -EINVAL. */
static int base64_length(const char *text, size_t *ret)
{
	_cleanup_free_ unsigned char *data = NULL;
	size_t n = strlen(text);

	return n % 4 ? -EINVAL : str_base64_decode(text, n, false, &data, ret);
}

static int secret_check(
	const json_t *volume, size_t i, const json_t *secret, const char *group, struct err *err)
{
	size_t total = 0, length;
	const char *key;
	json_t *value;

	if (json_object_size(secret) == 0)
		return FAIL_VOLUME(err, i, "secret",
			"The secret volume '%s' in container group '%s' has no values. Give at least one; an answer "
			"doesn't show them, so what was read can only be sent back to the group that it came from.",
			name_of(volume), group);
	json_object_foreach ((json_t *)(uintptr_t)secret, key, value) {
		if (!file_key_is_valid(key)) {
			err_set(err, -EINVAL, "InvalidVolume",
				"The key '%.80s' of the secret volume '%s' in container group '%s' is invalid. " FILE_KEY_WORDS
				".",
				key, name_of(volume), group);
			return FAIL_AT(err, "properties.volumes[%zu].secret", i);
		}
		if (base64_length(json_string_value(value), &length) < 0) {
			err_set(err, -EINVAL, "InvalidVolume",
				"The value of the key '%s' of the secret volume '%s' in container group '%s' is not valid "
				"base64. Encode it with the standard alphabet and padding, in one line.",
				key, name_of(volume), group);
			return FAIL_AT(err, "properties.volumes[%zu].secret.%s", i, key);
		}
		total += length;
	}
	if (total > FILES_MAX)
		return FAIL_VOLUME(err, i, "secret",
			"The values of the secret volume '%s' in container group '%s' have %zu bytes together. At most "
			"%zu are allowed.",
			name_of(volume), group, total, FILES_MAX);
	return 0;
}

/* --- gitRepo --- */

/* https://[user[:password]@]host[:port]/path of printable ASCII. An @ within user or password is
 * written %40, so that nobody can read the host in another way than we do. */
static bool repository_is_valid(const char *url)
{
	const char *host = url + strlen("https://"), *at;
	size_t n;

	if (strlen(url) > REPOSITORY_MAX || strncasecmp(url, "https://", strlen("https://")) != 0 ||
		!schema_matches("[!-~]+", url) || strchr(url, '\\'))
		return false;
	n = strcspn(host, "/?#");
	at = memchr(host, '@', n);
	if (at == host)
		return false;
	if (at) {
		n -= (size_t)(at + 1 - host);
		host = at + 1;
	}
	return n > 0 && host[0] != ':' && host[0] != '-' && !memchr(host, '@', n);
}

static bool directory_is_valid(const char *directory)
{
	return *directory && strlen(directory) <= DIRECTORY_MAX && directory[0] != '/' &&
	       !strstr(directory, "..") && !has_control(directory) && !strchr(directory, '\\');
}

static int git_check(
	const json_t *volume, size_t i, const json_t *repo, const char *group, struct err *err)
{
	const char *repository = json_get_str(repo, "repository", "");
	const char *revision = json_get_str(repo, "revision", NULL);
	const char *directory = json_get_str(repo, "directory", NULL);

	if (!repository_is_valid(repository))
		return FAIL_VOLUME(err, i, "gitRepo.repository",
			"The repository of the gitRepo volume '%s' in container group '%s' is invalid. It must be an "
			"https:// URL such as 'https://git.example/project.git' or "
			"'https://user:token@git.example/project.git'.",
			name_of(volume), group);
	if (revision && (strlen(revision) > 255 || revision[0] == '-' ||
				!schema_matches("[A-Za-z0-9._/-]+", revision)))
		return FAIL_VOLUME(err, i, "gitRepo.revision",
			"The revision '%.80s' of the gitRepo volume '%s' in container group '%s' is invalid. It must be a "
			"branch, a tag or a commit: up to 255 letters, digits, '.', '_', '/' and '-', not beginning with "
			"'-'.",
			revision, name_of(volume), group);
	if (directory && !directory_is_valid(directory))
		return FAIL_VOLUME(err, i, "gitRepo.directory",
			"The directory '%.80s' of the gitRepo volume '%s' in container group '%s' is invalid. It must be a "
			"relative path without '..', or '.' for the volume itself.",
			directory, name_of(volume), group);
	return 0;
}

/* --- azureFile --- */

static int azure_check(
	const json_t *volume, size_t i, const json_t *file, const char *group, struct err *err)
{
	const char *share = json_get_str(file, "shareName", "");
	const char *account = json_get_str(file, "storageAccountName", "");
	const char *key = json_get_str(file, "storageAccountKey", NULL);
	size_t length;

	if (strlen(share) < 3 || strlen(share) > 63 ||
		!schema_matches("[a-z0-9](-?[a-z0-9])*", share))
		return FAIL_VOLUME(err, i, "azureFile.shareName",
			"The share name '%.80s' of the Azure file volume '%s' in container group '%s' is invalid. It must "
			"be 3 to 63 lowercase letters, numbers and single hyphens, and begin and end with a letter or "
			"number.",
			share, name_of(volume), group);
	if (!schema_matches("[a-z0-9]{3,24}", account))
		return FAIL_VOLUME(err, i, "azureFile.storageAccountName",
			"The storage account name '%.80s' of the Azure file volume '%s' in container group '%s' is "
			"invalid. It must be 3 to 24 lowercase letters and numbers.",
			account, name_of(volume), group);
	if (!key)
		return FAIL_VOLUME(err, i, "azureFile.storageAccountKey",
			"The Azure file volume '%s' in container group '%s' has no 'storageAccountKey'. It is required; "
			"an update of the group may leave it out while the storage account stays the same.",
			name_of(volume), group);
	if (!*key || strlen(key) > ACCOUNT_KEY_MAX || base64_length(key, &length) < 0)
		return FAIL_VOLUME(err, i, "azureFile.storageAccountKey",
			"The storage account key of the Azure file volume '%s' in container group '%s' is not valid "
			"base64 of at most %d characters. Give the key as the storage account shows it, without line breaks.",
			name_of(volume), group, ACCOUNT_KEY_MAX);
	return 0;
}

/* --- volumes --- */

static int kind_check(const json_t *volume, size_t i, const char *group, struct err *err)
{
	/* A secretReference stands there as the secret that it will be, unless there are both. */
	static const char *const kinds[] = {
		"azureFile", "emptyDir", "secret", "gitRepo", "secretReference"};
	size_t n = 0;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
		n += json_object_get(volume, kinds[k]) != NULL;
	if (n == 1)
		return 0;
	err_set(err, -EINVAL, "InvalidVolume",
		"The volume '%s' in container group '%s' has %s. Each volume is exactly one of 'azureFile', 'emptyDir', "
		"'secret' and 'gitRepo'.",
		name_of(volume), group, n ? "several kinds" : "no kind");
	return FAIL_AT(err, "properties.volumes[%zu]", i);
}

static int volume_check(const json_t *volumes, size_t i, const char *group, struct err *err)
{
	static const struct {
		const char *kind;
		int (*check)(const json_t *volume, size_t i, const json_t *own, const char *group,
			struct err *err);
	} kinds[] = {{"secret", secret_check}, {"gitRepo", git_check}, {"azureFile", azure_check}};
	const json_t *volume = json_array_get(volumes, i);
	int r;

	if (strstr(name_of(volume), "--"))
		return FAIL(err, "properties.volumes[%zu].name", i, "InvalidVolumeName",
			"The volume name '%s' in container group '%s' is invalid. It can't have two hyphens in a row.",
			name_of(volume), group);
	for (size_t j = 0; j < i; j++)
		if (str_eq(name_of(json_array_get(volumes, j)), name_of(volume)))
			return FAIL(err, "properties.volumes[%zu].name", i, "DuplicateVolumeName",
				"The volume name '%s' is there more than once in container group '%s'. Each volume needs a "
				"name of its own.",
				name_of(volume), group);
	r = kind_check(volume, i, group, err);
	for (size_t k = 0; k < ARRAY_SIZE(kinds) && r == 0; k++) {
		const json_t *own = json_object_get(volume, kinds[k].kind);

		if (own)
			r = kinds[k].check(volume, i, own, group, err);
	}
	return r;
}

int volumes_check(const json_t *document, const char *group, struct err *err)
{
	const json_t *volumes = json_get_arr(properties_of(document), "volumes");
	int r = 0;

	if (json_array_size(volumes) > VOLUMES_MAX)
		return FAIL(err, "%s", "properties.volumes", "TooManyVolumes",
			"The container group '%s' has %zu volumes. At most %d are allowed.", group,
			json_array_size(volumes), VOLUMES_MAX);
	for (size_t i = 0; i < json_array_size(volumes) && r == 0; i++)
		r = volume_check(volumes, i, group, err);
	return r;
}

/* --- mounts --- */

char *mount_path(const char *path)
{
	struct buf buf = BUF_INIT;
	size_t n;

	if (path[0] != '/' || strlen(path) > PATH_LENGTH_MAX || strchr(path, ':') ||
		has_control(path))
		return NULL;
	for (path += strspn(path, "/"); *path; path += strspn(path, "/")) {
		n = strcspn(path, "/");
		if (n == 2 && str_starts(path, "..")) {
			free(buf_take(&buf));
			return NULL;
		}
		if (!(n == 1 && path[0] == '.'))
			buf_printf(&buf, "/%.*s", (int)n, path);
		path += n;
	}
	if (buf.len == 0)
		buf_addc(&buf, '/');
	return buf_take(&buf);
}

/* Why nothing may be mounted at a path as mount_path() made it; NULL: it may. */
static const char *path_refusal(const char *path)
{
	static const struct {
		const char *path, *why;
	} taken[] = {
		{"/proc", "the system's own files are there"},
		{"/sys", "the system's own files are there"},
		{"/dev", "the container's devices are there"},
		{"/etc/hosts", "the group's own names are there"},
		{"/etc/hostname", "the group's own name is there"},
		{"/etc/resolv.conf", "the group's name servers are there; use 'dnsConfig'"},
		{"/mnt/configmap", "config maps are there"},
	};

	if (str_eq(path, "/"))
		return "the image is there";
	for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
		size_t n = strlen(taken[i].path);

		if (str_starts(path, taken[i].path) && (path[n] == '\0' || path[n] == '/'))
			return taken[i].why;
	}
	return NULL;
}

/* Where a mount is, for messages. */
struct place {
	const char *list, *container, *group;
	size_t i, m; /* of the container, of the mount */
};

#define FAIL_MOUNT(err, place, member, ...)                                                        \
	({                                                                                         \
		err_set(err, -EINVAL, "InvalidVolumeMount", __VA_ARGS__);                          \
		FAIL_AT(err, "properties.%s[%zu].properties.volumeMounts[%zu].%s", (place)->list,  \
			(place)->i, (place)->m, member);                                           \
	})

static int path_check(const struct place *place, const json_t *mounts, struct err *err)
{
	const char *sent = json_get_str(json_array_get(mounts, place->m), "mountPath", "");
	_cleanup_free_ char *path = mount_path(sent);
	const char *why;

	if (!path)
		return FAIL_MOUNT(err, place, "mountPath",
			"The mount path '%.200s' in container '%s' of container group '%s' is invalid. It must be an "
			"absolute path of at most %d bytes without ':', '..' and control characters.",
			sent, place->container, place->group, PATH_LENGTH_MAX);
	why = path_refusal(path);
	if (why)
		return FAIL_MOUNT(err, place, "mountPath",
			"The mount path '%.200s' in container '%s' of container group '%s' is invalid. A volume can't be "
			"mounted there: %s.",
			sent, place->container, place->group, why);
	for (size_t k = 0; k < place->m; k++) {
		_cleanup_free_ char *other =
			mount_path(json_get_str(json_array_get(mounts, k), "mountPath", ""));

		if (other && str_eq(other, path))
			return FAIL_MOUNT(err, place, "mountPath",
				"The mount path '%.200s' is there more than once in container '%s' of container group '%s'. "
				"Mount one volume at each path.",
				sent, place->container, place->group);
	}
	return 0;
}

static int container_mounts_check(
	const json_t *volumes, const json_t *container, struct place *place, struct err *err)
{
	const json_t *mounts = json_get_arr(properties_of(container), "volumeMounts"), *mount;
	int r;

	if (json_array_size(mounts) > MOUNTS_MAX) {
		err_set(err, -EINVAL, "InvalidVolumeMount",
			"The container '%s' of container group '%s' has %zu volume mounts. At most %d are allowed.",
			place->container, place->group, json_array_size(mounts), MOUNTS_MAX);
		return FAIL_AT(
			err, "properties.%s[%zu].properties.volumeMounts", place->list, place->i);
	}
	json_array_foreach (mounts, place->m, mount) {
		if (!find_by(volumes, "name", name_of(mount)))
			return FAIL_MOUNT(err, place, "name",
				"The volume '%.80s' that container '%s' of container group '%s' mounts is not among the "
				"group's 'volumes'.",
				name_of(mount), place->container, place->group);
		r = path_check(place, mounts, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int mounts_check(const json_t *document, const char *group, struct err *err)
{
	static const char *const lists[] = {"containers", "initContainers"};
	const json_t *volumes = json_get_arr(properties_of(document), "volumes"), *container;
	struct place place = {.group = group};
	int r;

	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		place.list = lists[l];
		json_array_foreach (
			json_get_arr(properties_of(document), lists[l]), place.i, container) {
			place.container = name_of(container);
			r = container_mounts_check(volumes, container, &place, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}
