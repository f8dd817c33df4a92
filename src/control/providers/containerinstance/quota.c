/*
 * How much of the region is used, and how much may be. The count is one document of the store,
 * written in the same commit as the record that changes it, so that it is exact however many
 * requests, and however many berthd, come at once. Within a berthd one such commit waits for the
 * other: they would conflict over the count in any case.
 *
 * A group counts from its PUT to its DELETE; its cores while it isn't stopped.
 */
#include <math.h>
#include <pthread.h>

#include "control/providers/containerinstance/internal.h"

#define GIB 1073741824.0
#define ATTEMPTS_MAX 64 /* against other berthd */

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

/* Cores in hundredths, which is how fine they can be asked for: sums are exact. */
static struct quota_use record_use(const json_t *record)
{
	struct quota_use use = {0};
	const json_t *container;
	size_t i;

	if (!record)
		return use;
	use.groups = 1;
	if (str_eq(json_get_str(record, "desired", ""), "stopped"))
		return use;
	json_array_foreach (
		json_path(record, "document", "properties", "containers", NULL), i, container)
		use.centicores += llround(100 * json_get_num(json_path(container, "properties",
								     "resources", "requests", NULL),
							"cpu", 0));
	return use;
}

static int recount(const struct arm_services *services, struct err *err, struct quota_use *ret)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	int r = store_list(services->store, "cg/", NULL, 0, err, &list);

	*ret = (struct quota_use){0};
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		_cleanup_json_ json_t *record = NULL;
		struct quota_use use;

		if (record_parse(&list.entries[i], NULL, &record) < 0)
			continue;
		use = record_use(record);
		ret->groups += use.groups;
		ret->centicores += use.centicores;
	}
	return r;
}

static char *use_key(const struct arm_services *services)
{
	return xasprintf("quota/%s", services->region);
}

/* Without a count there are the records: those of a berthd that didn't count. */
static int use_read(const struct arm_services *services, struct err *err, struct quota_use *ret,
	int64_t *ret_revision)
{
	_cleanup_(store_entry_done) struct store_entry entry = {0};
	_cleanup_free_ char *key = use_key(services);
	_cleanup_json_ json_t *count = NULL;
	int r;

	r = store_get(services->store, key, err, &entry);
	*ret_revision = r == 0 ? entry.revision : STORE_ABSENT;
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT ||
		json_parse(entry.value, entry.value_len, JSON_DEPTH_MAX, NULL, &count) < 0)
		return recount(services, err, ret);
	ret->groups = json_get_int(count, "groups", 0);
	ret->centicores = json_get_int(count, "centicores", 0);
	return 0;
}

int quota_used(const struct arm_services *services, struct err *err, struct quota_use *ret)
{
	int64_t revision;

	return use_read(services, err, ret, &revision);
}

static void use_put(struct change *change, const struct arm_services *services,
	const struct quota_use *use, int64_t revision)
{
	_cleanup_json_ json_t *count = json_pack("{s:I, s:I}", "groups", (json_int_t)use->groups,
		"centicores", (json_int_t)use->centicores);

	change_put(change, revision, count, "quota/%s", services->region);
}

int quota_resume(const struct arm_services *services, struct err *err)
{
	int r = -EAGAIN;

	for (int i = 0; i < ATTEMPTS_MAX && r == -EAGAIN; i++) {
		_cleanup_(change_done) struct change change = {0};
		struct quota_use use, counted;
		int64_t revision;

		/* The count first: who changes it after this makes the commit fail. */
		r = use_read(services, err, &use, &revision);
		if (r == 0)
			r = recount(services, err, &counted);
		if (r < 0)
			return r;
		if (revision != STORE_ABSENT && counted.groups == use.groups &&
			counted.centicores == use.centicores)
			return 0;
		use_put(&change, services, &counted, revision);
		r = store_commit(services->store, change.ops, change.n, err, NULL);
	}
	return r;
}

/* --- limits --- */

static int check_limit(const struct arm_services *services, const char *quota, double limit,
	double used, double more, struct err *err)
{
	if (more <= 0 || used + more <= limit)
		return 0;
	return err_set(err, -EDQUOT, "ContainerGroupQuotaReached",
		"Resource type '" GROUPS_TYPE
		"' container group quota '%s' exceeded in region '%s'. Limit: '%.15g', Usage: '%.15g' "
		"Requested: '%.15g'.",
		quota, services->region, limit, used, more);
}

static int count_and_commit(const struct arm_services *services, struct change *change,
	const struct quota_use *delta, struct err *err, int64_t *ret_revision)
{
	struct quota_use use;
	int64_t revision;
	int r;

	r = use_read(services, err, &use, &revision);
	if (r == 0)
		r = check_limit(services, "ContainerGroups", (double)services->quota_groups,
			(double)use.groups, (double)delta->groups, err);
	if (r == 0)
		r = check_limit(services, "StandardCores", (double)services->quota_cores,
			(double)use.centicores / 100, (double)delta->centicores / 100, err);
	if (r < 0)
		return r;
	use.groups = MAX(use.groups + delta->groups, 0);
	use.centicores = MAX(use.centicores + delta->centicores, 0);
	use_put(change, services, &use, revision);
	return store_commit(services->store, change->ops, change->n, err, ret_revision);
}

int quota_commit(const struct arm_services *services, struct change *change, const json_t *before,
	const json_t *after, struct err *err, int64_t *ret_revision)
{
	struct quota_use old = record_use(before), new = record_use(after);
	struct quota_use delta = {new.groups - old.groups, new.centicores - old.centicores};
	size_t n = change->n;
	struct err own;
	int r = -EAGAIN;

	if (delta.groups == 0 && delta.centicores == 0)
		return store_commit(services->store, change->ops, change->n, err, ret_revision);
	pthread_mutex_lock(&counting);
	for (int i = 0; i < ATTEMPTS_MAX && r == -EAGAIN; i++) {
		own = (struct err){0};
		change_cut(change, n);
		r = count_and_commit(services, change, &delta, &own, ret_revision);
		if (r == -EAGAIN && !str_starts(own.target, "quota/"))
			break;
	}
	pthread_mutex_unlock(&counting);
	if (r < 0 && err)
		*err = own;
	return r;
}

/* --- what no node could ever run --- */

int capacity_check(const struct arm_services *services, const json_t *document, struct err *err)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	double cpu = 0, memory = 0, most = 0;
	const json_t *container;
	size_t i;
	int r;

	r = store_list(services->store, "node/", NULL, 0, err, &list);
	if (r < 0)
		return r;
	for (i = 0; i < list.n; i++) {
		_cleanup_json_ json_t *node = NULL;

		if (json_parse(list.entries[i].value, list.entries[i].value_len, JSON_DEPTH_MAX,
			    NULL, &node) == 0)
			most = fmax(most, json_get_num(node, "memoryBytes", 0));
	}
	json_array_foreach (json_path(document, "properties", "containers", NULL), i, container) {
		const json_t *requests =
			json_path(container, "properties", "resources", "requests", NULL);

		cpu += json_get_num(requests, "cpu", 0);
		memory += json_get_num(requests, "memoryInGB", 0);
	}
	if (most <= 0 || memory * GIB <= most)
		return 0;
	return err_set(err, -ENOMEM, "ServiceUnavailable",
		"The requested resource is not available in the location '%s' at this moment. Please retry "
		"with a different resource request or in another location. Resource requested: '%.15g' CPU "
		"'%.15g' GB memory 'Linux' OS",
		services->region, cpu, memory);
}
