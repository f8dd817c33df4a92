#include <limits.h>

#include "base/time.h"
#include "node/agent/volumes.h"

#define CONFIG_MAPS "/mnt/configmap"
#define PATH_BYTES_MAX 1024
#define TEXT_BYTES_MAX 4096
/* Mounts, files of the group, and the configMap. */
#define PLACES_MAX (SPEC_MOUNTS_MAX + 4)

static int bad(struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "InvalidGroupSpec",
		"The group's specification has no valid '%s'.", what);
}

/* --- the spec --- */

/* Text for which a program or the kernel is asked later. */
static bool is_plain(const char *text)
{
	if (strlen(text) > TEXT_BYTES_MAX)
		return false;
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

static int parse_kind(const json_t *json, struct volume_spec *volume, struct err *err)
{
	const json_t *part;
	int64_t size;

	if ((part = json_get_obj(json, "emptyDir"))) {
		size = json_get_int(part, "sizeBytes", 0);
		if (size < 0 || size > SPEC_MEMORY_MAX)
			return bad(err, "volumes[].emptyDir.sizeBytes");
		volume->kind = VOLUME_EMPTY_DIR;
		volume->size_bytes = (uint64_t)size;
	} else if ((part = json_get_obj(json, "secret"))) {
		volume->kind = VOLUME_SECRET;
		volume->files = part;
	} else if ((part = json_get_obj(json, "gitRepo"))) {
		volume->kind = VOLUME_GIT_REPO;
		volume->repository = json_get_str(part, "repository", "");
		volume->revision = json_get_str(part, "revision", NULL);
		volume->directory = json_get_str(part, "directory", NULL);
		if (!volume->repository[0] || !is_plain(volume->repository) ||
			!is_plain(volume->revision ? volume->revision : "") ||
			!is_plain(volume->directory ? volume->directory : ""))
			return bad(err, "volumes[].gitRepo");
	} else if ((part = json_get_obj(json, "azureFile"))) {
		volume->kind = VOLUME_AZURE_FILE;
		volume->share = json_get_str(part, "share", "");
		volume->account = json_get_str(part, "account", "");
		volume->key = json_get_str(part, "key", "");
		volume->read_only = json_get_bool(part, "readOnly", false);
		if (!volume->share[0] || !volume->account[0] || !is_plain(volume->share) ||
			!is_plain(volume->account) || !is_plain(volume->key))
			return bad(err, "volumes[].azureFile");
	} else {
		return bad(err, "volumes[]");
	}
	return 0;
}

int spec_parse_volumes(const json_t *array, struct group_spec *spec, struct err *err)
{
	size_t i, n = json_array_size(array);
	json_t *json;

	if (n > SPEC_VOLUMES_MAX)
		return bad(err, "volumes");
	spec->volumes = xcalloc(n + 1, sizeof(*spec->volumes));
	json_array_foreach (array, i, json) {
		struct volume_spec *volume = &spec->volumes[i];
		int r;

		volume->name = json_get_str(json, "name", "");
		if (!spec_name_is_valid(volume->name))
			return bad(err, "volumes[].name");
		for (size_t k = 0; k < i; k++)
			if (str_eq(spec->volumes[k].name, volume->name))
				return bad(err, "volumes[].name");
		r = parse_kind(json, volume, err);
		if (r < 0)
			return r;
		spec->n_volumes++;
	}
	return 0;
}

/* Absolute, not the root, without "." and ".."; slashes that say nothing are left out. */
static char *plain_path(const char *path)
{
	struct buf plain = BUF_MAX(PATH_BYTES_MAX);

	if (path[0] != '/' || !is_plain(path) || strchr(path, ':'))
		return NULL;
	while (*(path += strspn(path, "/"))) {
		size_t n = strcspn(path, "/");

		if (n > NAME_MAX || (n == 1 && path[0] == '.') ||
			(n == 2 && path[0] == '.' && path[1] == '.')) {
			buf_done(&plain);
			return NULL;
		}
		buf_addc(&plain, '/');
		buf_add(&plain, path, n);
		path += n;
	}
	if (plain.len == 0 || plain.full) {
		buf_done(&plain);
		return NULL;
	}
	return buf_take(&plain);
}

static const struct volume_spec *find_volume(const struct group_spec *spec, const char *name)
{
	for (size_t i = 0; i < spec->n_volumes; i++)
		if (str_eq(spec->volumes[i].name, name))
			return &spec->volumes[i];
	return NULL;
}

static int parse_mount(const json_t *json, const struct group_spec *spec, struct container_spec *c,
	struct err *err)
{
	struct container_mount *mount = &c->mounts[c->n_mounts];

	mount->volume = find_volume(spec, json_get_str(json, "volume", ""));
	if (!mount->volume)
		return bad(err, "containers[].mounts[].volume");
	mount->path = plain_path(json_get_str(json, "path", ""));
	if (!mount->path)
		return bad(err, "containers[].mounts[].path");
	c->n_mounts++;
	mount->read_only = json_get_bool(json, "readOnly", false) || mount->volume->read_only;
	for (size_t i = 0; i + 1 < c->n_mounts; i++)
		if (str_eq(c->mounts[i].path, mount->path))
			return bad(err, "containers[].mounts[].path");
	return 0;
}

/* A volume's definition is hashed once, in the order of the spec, however often it is mounted. */
static void hash_container(
	const json_t *json, const struct group_spec *spec, struct container_spec *c)
{
	_cleanup_json_ json_t *hashed = json_copy((json_t *)(uintptr_t)json);
	json_t *volumes = json_array();
	char *text;

	for (size_t i = 0; i < spec->n_volumes; i++) {
		bool mounted = false;

		for (size_t k = 0; k < c->n_mounts; k++)
			mounted = mounted || c->mounts[k].volume == &spec->volumes[i];
		if (mounted)
			json_array_append(
				volumes, json_array_get(json_get_arr(spec->json, "volumes"), i));
	}
	/* Its files change in place, but that there is one is a mount. */
	if (c->config_map)
		json_object_set_new(hashed, "configMap", json_true());
	if (json_array_size(volumes) > 0)
		json_object_set(hashed, "volumes", volumes);
	json_decref(volumes);
	text = json_text(hashed);
	sha256_hex(text, strlen(text), c->hash);
	explicit_bzero(text, strlen(text));
	free(text);
}

int spec_parse_mounts(const json_t *json, const struct group_spec *spec, struct container_spec *c,
	struct err *err)
{
	const json_t *array = json_get_arr(json, "mounts");
	size_t i;
	json_t *entry;

	if (json_array_size(array) > SPEC_MOUNTS_MAX)
		return bad(err, "containers[].mounts");
	c->mounts = xcalloc(json_array_size(array) + 1, sizeof(*c->mounts));
	json_array_foreach (array, i, entry) {
		int r = parse_mount(entry, spec, c, err);

		if (r < 0)
			return r;
	}
	c->config_map = json_get_obj(json, "configMap");
	hash_container(json, spec, c);
	return 0;
}

void spec_mounts_free(struct container_spec *c)
{
	for (size_t i = 0; i < c->n_mounts; i++)
		free(c->mounts[i].path);
	free(c->mounts);
}

/* --- bringing up and down --- */

struct volume_group group_volume_group(const struct group *group)
{
	return (struct volume_group){
		.uid = group->uid, .dir = group->dir, .uid_base = group_uid_base(group)};
}

/* No name of a request has a dot. The name is the caller's to free. */
static struct volume_spec config_map_of(
	const struct container *c, const struct container_spec *spec, char **ret_name)
{
	*ret_name = xasprintf("configmap.%s", c->name);
	return (struct volume_spec){
		.name = *ret_name, .kind = VOLUME_CONFIG_MAP, .files = spec->config_map};
}

static int config_map_up(struct group *group, const struct container *c,
	const struct container_spec *spec, struct err *err)
{
	struct volume_group vg = group_volume_group(group);
	_cleanup_free_ char *name = NULL;
	struct volume_spec volume = config_map_of(c, spec, &name);

	if (!spec->config_map)
		return 0;
	return volume_up(agent_config(group->agent)->volumes, &vg, &volume, -1, err);
}

int container_volumes_up(struct group *group, const struct container *c,
	const struct container_spec *spec, struct err *err)
{
	struct volume_group vg = group_volume_group(group);

	for (size_t i = 0; i < spec->n_mounts; i++) {
		const struct volume_spec *volume = spec->mounts[i].volume;
		bool slow = volume->kind == VOLUME_GIT_REPO || volume->kind == VOLUME_AZURE_FILE;
		int r = slow ? mounting_up(group, volume, err)
			     : volume_up(agent_config(group->agent)->volumes, &vg, volume, -1, err);

		if (r < 0)
			return r;
	}
	return config_map_up(group, c, spec, err);
}

/* Its containers hold the dead mount until they start again. */
static void note_lost_shares(
	struct group *group, struct container *c, const struct container_spec *spec)
{
	struct volume_group vg = group_volume_group(group);

	for (size_t i = 0; i < spec->n_mounts; i++) {
		const struct volume_spec *volume = spec->mounts[i].volume;

		if (volume->kind == VOLUME_AZURE_FILE && !volume_is_up(&vg, volume))
			events_add(&c->events, "Warning", "FailedMountAzureFileVolume",
				"The volume '%s' is no longer mounted: the process that served the share '%s' has ended. Restart the container.",
				volume->name, volume->share);
	}
}

void group_volumes_refresh(struct group *group)
{
	struct volume_group vg = group_volume_group(group);
	const char *names[SPEC_VOLUMES_MAX + 1] = {NULL};
	struct err err = {0};

	for (size_t i = 0; i < group->spec->n_volumes; i++)
		names[i] = group->spec->volumes[i].name;
	if (volumes_prune(agent_config(group->agent)->volumes, &vg, names, &err) < 0)
		log_warn("group %s: %s", group->uid, err.message);
	for (size_t i = 0; i < group->n_containers; i++) {
		struct container *c = &group->containers[i];

		if (c->phase != CONTAINER_RUNNING)
			continue;
		note_lost_shares(group, c, &group->spec->containers[i]);
		if (config_map_up(group, c, &group->spec->containers[i], &err) == 0)
			continue;
		events_add(&c->events, "Warning", err.code, "%s", err.message);
		agent_wake_at(group, time_now_ms() + agent_config(group->agent)->backoff_ms);
	}
}

int group_volumes_down(struct group *group, struct err *err)
{
	struct volume_group vg = group_volume_group(group);

	mounting_end(group);
	return volumes_down(agent_config(group->agent)->volumes, &vg, err);
}

void group_volumes_drop(struct group *group)
{
	struct err err = {0};

	if (group_volumes_down(group, &err) < 0)
		log_warn("group %s: %s", group->uid, err.message);
}

/* --- binds --- */

/* Something to be mounted. */
struct place {
	struct volume_spec volume; /* without a name for a file of the group */
	const char *path;	   /* as it was asked for */
	char *source, *target;	   /* owned; target: in the image, without links */
	bool read_only;
};

struct places {
	struct place list[PLACES_MAX];
	size_t n;
	char *config_map_name, *config_map_path;
};

static void places_done(struct places *places)
{
	for (size_t i = 0; i < places->n; i++) {
		free(places->list[i].source);
		free(places->list[i].target);
	}
	free(places->config_map_name);
	free(places->config_map_path);
}

static size_t depth(const char *path)
{
	size_t n = 0;

	for (; *path; path++)
		n += *path == '/';
	return n;
}

static bool is_beneath(const char *path, const char *top)
{
	size_t n = strlen(top);

	return str_starts(path, top) && path[n] == '/';
}

/* Stable, by how deep it lies. */
static void insert(struct places *places, const struct place *place, const char *path)
{
	size_t at = places->n++;

	assert(places->n <= PLACES_MAX);
	for (; at > 0; at--) {
		const struct place *before = &places->list[at - 1];

		if (depth(before->target ? before->target : before->path) <= depth(path))
			break;
		places->list[at] = *before;
	}
	places->list[at] = *place;
}

static void list_wanted(const struct group *group, const struct container *c,
	const struct container_spec *spec, struct places *places)
{
	struct volume_group vg = group_volume_group(group);
	struct place place;

	for (size_t i = 0; i < spec->n_mounts; i++) {
		const struct container_mount *mount = &spec->mounts[i];

		place = (struct place){.volume = *mount->volume,
			.path = mount->path,
			.source = volume_path(&vg, mount->volume),
			.read_only = mount->read_only};
		insert(places, &place, place.path);
	}
	if (!spec->config_map)
		return;
	places->config_map_path = xasprintf(CONFIG_MAPS "/%s", c->name);
	place = (struct place){.volume = config_map_of(c, spec, &places->config_map_name),
		.path = places->config_map_path,
		.read_only = true};
	place.source = volume_path(&vg, &place.volume);
	insert(places, &place, place.path);
}

static int resolve(const char *rootfs_dir, uint32_t uid_base, struct place *place,
	const char *const *covered, struct err *err)
{
	_cleanup_free_ char *target = NULL;
	int r = image_rootfs_place(rootfs_dir, uid_base, place->path, covered, err, &target);

	if (r < 0)
		return r;
	for (size_t i = 0; covered[i]; i++)
		if (str_eq(covered[i], target))
			return err_set(err, -EEXIST, "ContainerCreateFailed",
				"Nothing can be mounted at '%s': in the image it is '%s', where another volume is mounted.",
				place->path, target);
	place->target = take_ptr(target);
	return 0;
}

static void add_group_files(const struct group *group, struct places *places)
{
	static const char *const names[] = {"hosts", "hostname", "resolv.conf"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct place place = {.source = xasprintf("%s/%s", group->dir, names[i]),
			.target = xasprintf("/etc/%s", names[i])};

		insert(places, &place, place.target);
	}
}

/* What lies on another volume needs a place there: the image's own is hidden. */
static int make_inner_place(
	const struct group *group, const struct places *places, size_t i, struct err *err)
{
	struct volume_group vg = group_volume_group(group);
	const struct place *place = &places->list[i];

	for (size_t k = i; k-- > 0;) {
		const struct place *outer = &places->list[k];

		if (outer->volume.name && is_beneath(place->target, outer->target))
			return volume_make_place(&vg, &outer->volume,
				place->target + strlen(outer->target) + 1, !place->volume.name,
				err);
	}
	return 0;
}

static int resolve_all(const struct group *group, const struct container *c,
	const struct places *wanted, struct places *ret, struct err *err)
{
	_cleanup_free_ char *dir = container_dir(group, c);
	const char *covered[PLACES_MAX + 1] = {NULL};
	size_t n = 0;

	for (size_t i = 0; i < wanted->n; i++) {
		struct place place = wanted->list[i];
		int r = resolve(dir, group_uid_base(group), &place, covered, err);

		if (r < 0)
			return r;
		place.source = xstrdup(place.source);
		covered[n++] = place.target;
		insert(ret, &place, place.target);
	}
	add_group_files(group, ret);
	return 0;
}

int container_binds_find(const struct group *group, const struct container *c,
	const struct container_spec *spec, struct err *err, struct container_binds *ret)
{
	_cleanup_(places_done) struct places wanted = {.n = 0}, places = {.n = 0};
	int r;

	list_wanted(group, c, spec, &wanted);
	r = resolve_all(group, c, &wanted, &places, err);
	for (size_t i = 0; r == 0 && i < places.n; i++)
		r = make_inner_place(group, &places, i, err);
	if (r < 0)
		return r;
	ret->list = xcalloc(places.n, sizeof(*ret->list));
	for (size_t i = 0; i < places.n; i++) {
		struct place *place = &places.list[i];

		ret->list[ret->n++] = (struct runtime_bind){
			.source = take_ptr(place->source),
			.target = take_ptr(place->target),
			.read_only = place->read_only,
			.no_exec = place->volume.name && place->volume.kind == VOLUME_SECRET,
		};
	}
	return 0;
}

void container_binds_done(struct container_binds *binds)
{
	for (size_t i = 0; i < binds->n; i++) {
		free((void *)(uintptr_t)binds->list[i].source);
		free((void *)(uintptr_t)binds->list[i].target);
	}
	free(binds->list);
}
