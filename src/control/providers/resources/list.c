/* Lists over the resources of all providers. */
#include <stdlib.h>

#include "control/providers/resources/internal.h"

/* What a list shows of a resource: never its properties, which may hold what only its own provider
 * may show. */
static json_t *list_item(const json_t *resource, const char *expand)
{
	static const char *const shown[] = {"id", "name", "type", "kind", "location", "tags", "sku",
		"zones", "identity", "managedBy", "plan"};
	static const char *const expanded[] = {"createdTime", "changedTime", "provisioningState"};
	json_t *item = json_object(), *value;

	for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
		value = json_object_get(resource, shown[i]);
		if (value)
			json_object_set(item, shown[i], value);
	}
	for (size_t i = 0; expand && i < ARRAY_SIZE(expanded); i++) {
		value = json_object_get(resource, expanded[i]);
		if (!value)
			value = json_object_get(json_get_obj(resource, "properties"), expanded[i]);
		if (value && strcasestr(expand, expanded[i]))
			json_object_set(item, expanded[i], value);
	}
	return item;
}

static int add_group(struct arm_request *request, const char *rg, struct err *err, json_t *list)
{
	const struct arm_provider *const *p = arm_providers(request);

	for (; *p; p++) {
		int r = (*p)->list_resources
				? (*p)->list_resources(arm_services(request), rg, err, list)
				: 0;

		if (r < 0)
			return r;
	}
	return 0;
}

static int add_all_groups(struct arm_request *request, struct err *err, json_t *list)
{
	_cleanup_(store_list_done) struct store_list groups = {0};
	int r = store_list(arm_services(request)->store, "rg/", NULL, 0, err, &groups);

	for (size_t i = 0; r == 0 && i < groups.n; i++)
		r = add_group(request, groups.entries[i].key + 3, err, list);
	return r;
}

static bool equals(const char *wanted, const char *value)
{
	return !wanted || str_eq_nocase(wanted, value);
}

static bool matches(json_t *resource, const struct arm_filter *filter)
{
	return equals(arm_filter_get(filter, "resourceType"), json_get_str(resource, "type", "")) &&
	       equals(arm_filter_get(filter, "name"), json_get_str(resource, "name", "")) &&
	       equals(arm_filter_get(filter, "location"), json_get_str(resource, "location", "")) &&
	       tags_match(json_get_obj(resource, "tags"), arm_filter_get(filter, "tagName"),
		       arm_filter_get(filter, "tagValue"));
}

static int check_filter(const char *text, struct err *err, struct arm_filter *ret)
{
	static const char *const known[] = {
		"resourceGroup", "resourceType", "name", "location", "tagName", "tagValue"};
	int r = text && *text ? arm_filter_parse(text, err, ret) : 0;

	for (size_t i = 0; r == 0 && i < ret->n; i++) {
		size_t k = 0;

		while (k < ARRAY_SIZE(known) && !str_eq_nocase(ret->terms[i].field, known[k]))
			k++;
		if (k == ARRAY_SIZE(known))
			r = err_set(err, -EINVAL, "InvalidFilterInQueryString",
				"Invalid $filter '%s' specified in the query string.", text);
	}
	return r;
}

/* --- one page, by id --- */

struct sortable {
	char *key; /* the id in lower case */
	json_t *resource;
};

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct sortable *)a)->key, ((const struct sortable *)b)->key);
}

static void paginate(struct arm_request *request, json_t *all, const struct arm_filter *filter,
	size_t limit, const char *after, struct arm_response *response)
{
	size_t n = json_array_size(all), kept = 0, added = 0;
	struct sortable *items = xcalloc(n + 1, sizeof(*items));
	_cleanup_free_ char *next = NULL;
	json_t *list = json_array(), *resource;
	size_t i;

	json_array_foreach (all, i, resource) {
		_cleanup_free_ char *key = str_lower_dup(json_get_str(resource, "id", ""));

		if (matches(resource, filter) && (!after || strcmp(key, after) > 0))
			items[kept++] =
				(struct sortable){.key = take_ptr(key), .resource = resource};
	}
	qsort(items, kept, sizeof(*items), by_key);
	for (; added < kept && added < limit; added++)
		json_array_append_new(
			list, list_item(items[added].resource, arm_query(request, "$expand")));
	response->body = json_pack("{s:o}", "value", list);
	if (added < kept) {
		next = arm_page_next(request, items[added - 1].key);
		json_put_str(response->body, "nextLink", next);
	}
	for (i = 0; i < kept; i++)
		free(items[i].key);
	free(items);
}

/* rg NULL: of all groups. One that doesn't exist holds nothing. */
static int collect(struct arm_request *request, const char *rg, struct err *err, json_t *list)
{
	int r;

	if (!rg)
		return add_all_groups(request, err, list);
	r = arm_resource_group_get(arm_services(request), rg, err, NULL);
	if (r == 0)
		r = add_group(request, rg, err, list);
	return r == -ENOENT ? 0 : r;
}

static int list_resources(
	struct arm_request *request, const char *rg, struct arm_response *response, struct err *err)
{
	_cleanup_json_ json_t *all = json_array();
	_cleanup_free_ char *after = NULL;
	struct arm_filter filter = {0};
	size_t limit = 0;
	int r;

	r = check_filter(arm_query(request, "$filter"), err, &filter);
	if (r < 0)
		return r;
	r = arm_page(request, err, &limit, &after);
	if (r < 0)
		return r;
	r = collect(request, rg ? rg : arm_filter_get(&filter, "resourceGroup"), err, all);
	if (r < 0)
		return r;
	paginate(request, all, &filter, limit, after, response);
	return 0;
}

HANDLER(resources_list)
{
	return list_resources(request, NULL, response, err);
}

HANDLER(resources_list_group)
{
	const char *rg = arm_param(request, "rg");
	int r = arm_resource_group_get(arm_services(request), rg, err, NULL);

	return r < 0 ? r : list_resources(request, rg, response, err);
}
