/* CPU and memory: what containers request and may use, with the service's codes and words. */
#include <math.h>

#include "control/providers/containerinstance/validate.h"

#define GROUP_CPU_MAX 31.0
#define GROUP_MEMORY_MAX 240.0
#define EPSILON 1e-6

static bool is_multiple(double value, double parts)
{
	return fabs(value * parts - round(value * parts)) < EPSILON * parts;
}

static int check_requests(const json_t *container, size_t i, const char *group, struct err *err)
{
	const char *name = json_get_str(container, "name", "");
	const json_t *requests = json_path(properties_of(container), "resources", "requests", NULL);
	double cpu = json_get_num(requests, "cpu", -1),
	       memory = json_get_num(requests, "memoryInGB", -1);
	bool no_cpu = !json_object_get(requests, "cpu"),
	     no_memory = !json_object_get(requests, "memoryInGB");

	if (no_cpu && no_memory)
		return FAIL(err, "properties.containers[%zu].properties.resources.requests", i,
			"ResourceRequestsNotSpecified",
			"The resource requests are not specified in container '%s' of contain group '%s'. Both memory and "
			"CPU requests are required since API version '2017-07-01-preview'.",
			name, group);
	if (no_cpu || no_memory) {
		err_set(err, -EINVAL, "ResourceSomeRequestsNotSpecified",
			"The '%s' request is not specified in "
			"'Microsoft.Azure.CloudConsole.Providers.Common.Entities.ComputeResources' in container '%s' of "
			"contain group '%s'. It is required since API version '2017-07-01-preview'.",
			no_memory ? "MemoryInGB" : "Cpu", name, group);
		err_target(err, "properties.containers[%zu].properties.resources.requests.%s", i,
			no_memory ? "memoryInGB" : "cpu");
		return -EINVAL;
	}
	if (cpu <= 0 || !is_multiple(cpu, 100))
		return FAIL(err, "properties.containers[%zu].properties.resources.requests.cpu", i,
			"InvalidResourceRequest",
			"The 'Cpu' request '%.15g' in container '%s' of container group '%s' is invalid. It must be greater "
			"than 0 and a multiple of 0.01.",
			cpu, name, group);
	if (memory <= 0 || !is_multiple(memory, 10))
		return FAIL(err,
			"properties.containers[%zu].properties.resources.requests.memoryInGB", i,
			"InvalidResourceRequest",
			"The 'MemoryInGB' request '%.15g' in container '%s' of container group '%s' is invalid. It must be "
			"greater than 0 and a multiple of 0.1.",
			memory, name, group);
	return 0;
}

struct totals {
	double cpu, memory;
};

/* A number as the service's own JSON has it: 4 is 4.0. */
static void add_number(struct buf *buf, const char *key, const json_t *resources)
{
	_cleanup_free_ char *text = NULL;
	const json_t *value = json_object_get(resources, key);

	if (!value)
		return;
	text = xasprintf("%.15g", json_number_value(value));
	buf_printf(buf, "%s\"%s\":%s%s", buf_str(buf)[buf->len - 1] == '{' ? "" : ",", key, text,
		strpbrk(text, ".e") ? "" : ".0");
}

static char *requirement_words(const json_t *resources)
{
	static const char *const parts[] = {"requests", "limits"};
	struct buf buf = BUF_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		buf_printf(&buf, "%s\"%s\":{", i ? "," : "{", parts[i]);
		add_number(&buf, "memoryInGB", json_get_obj(resources, parts[i]));
		add_number(&buf, "cpu", json_get_obj(resources, parts[i]));
		buf_addc(&buf, '}');
	}
	buf_addc(&buf, '}');
	return buf_take(&buf);
}

struct limit_kind {
	const char *key, *words;
	double step; /* parts of a unit */
};

static const struct limit_kind limit_kinds[] = {
	{"cpu", "Cpu", 100}, {"memoryInGB", "MemoryInGB", 10}};

static int check_limit(const json_t *container, size_t i, const struct limit_kind *kind,
	double total, const char *group, struct err *err)
{
	const char *name = json_get_str(container, "name", "");
	const json_t *resources = json_object_get(properties_of(container), "resources");
	const json_t *limits = json_get_obj(resources, "limits");
	double request = json_get_num(json_get_obj(resources, "requests"), kind->key, 0);
	double limit = json_get_num(limits, kind->key, 0);
	_cleanup_free_ char *words = NULL;

	if (!json_object_get(limits, kind->key))
		return 0;
	if (limit < request - EPSILON) {
		words = requirement_words(resources);
		err_set(err, -EINVAL, "ResourceLimitsLessThanRequests",
			"The resource requirement '%s' in container '%s' of contain group '%s' is invalid. The '%s' limit "
			"value must be greater than or equal to the request value.",
			words, name, group, kind->words);
	} else if (!is_multiple(limit, kind->step)) {
		err_set(err, -EINVAL, "InvalidResourceLimit",
			"The '%s' limit '%.15g' in container '%s' of container group '%s' is invalid. It must be a multiple "
			"of %.15g.",
			kind->words, limit, name, group, 1 / kind->step);
	} else if (limit > total + EPSILON) {
		err_set(err, -EINVAL, "ContainerLimitGreaterThanContainerGroupTotalRequest",
			"The '%s' limit '%.15g' in container '%s' is greater than the total request '%.15g' of container "
			"group '%s'.",
			kind->words, limit, name, total, group);
	} else {
		return 0;
	}
	err_target(err, "properties.containers[%zu].properties.resources.limits.%s", i, kind->key);
	return -EINVAL;
}

static struct totals totals_of(const json_t *document)
{
	struct totals totals = {0};
	const json_t *container;
	size_t i;

	json_array_foreach (json_get_arr(properties_of(document), "containers"), i, container) {
		const json_t *requests =
			json_path(properties_of(container), "resources", "requests", NULL);

		totals.cpu += json_get_num(requests, "cpu", 0);
		totals.memory += json_get_num(requests, "memoryInGB", 0);
	}
	return totals;
}

int resources_check(const json_t *document, const char *group, struct err *err)
{
	const json_t *containers = json_get_arr(properties_of(document), "containers");
	const json_t *container;
	struct totals totals;
	size_t i;
	int r = 0;

	json_array_foreach (containers, i, container) {
		r = check_requests(container, i, group, err);
		if (r < 0)
			return r;
	}
	totals = totals_of(document);
	json_array_foreach (containers, i, container) {
		for (size_t k = 0; k < ARRAY_SIZE(limit_kinds) && r == 0; k++)
			r = check_limit(container, i, &limit_kinds[k],
				k == 0 ? totals.cpu : totals.memory, group, err);
		if (r < 0)
			return r;
	}
	if (totals.cpu > GROUP_CPU_MAX + EPSILON || totals.memory > GROUP_MEMORY_MAX + EPSILON)
		return FAIL(err, "%s", "properties.containers", "InvalidResourceRequest",
			"The containers of container group '%s' request '%.15g' CPU and '%.15g' GB memory together. At most "
			"'%.15g' CPU and '%.15g' GB are allowed.",
			group, totals.cpu, totals.memory, GROUP_CPU_MAX, GROUP_MEMORY_MAX);
	return 0;
}
