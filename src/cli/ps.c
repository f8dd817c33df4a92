/* berth ps: the groups of this Berth, a line each. */
#include <getopt.h>
#include <stdio.h>

#include "cli/cli.h"

static const char *resource_group_of(const char *id, char *buf, size_t size)
{
	const char *at = strcasestr(id, "/resourceGroups/");
	size_t n;

	if (!at)
		return "";
	at += strlen("/resourceGroups/");
	n = strcspn(at, "/");
	snprintf(buf, size, "%.*s", (int)n, at);
	return buf;
}

/* Until its deployment has succeeded a group's own state says less than the deployment's. */
static const char *state_words(const json_t *properties)
{
	const char *provisioning = json_get_str(properties, "provisioningState", "-");

	return str_eq(provisioning, "Succeeded")
		       ? json_get_str(json_path(properties, "instanceView", NULL), "state", "-")
		       : provisioning;
}

static void print_row(const json_t *group)
{
	const json_t *properties = json_get_obj(group, "properties");
	const json_t *address = json_get_obj(properties, "ipAddress");
	const json_t *containers = json_get_arr(properties, "containers");
	const json_t *first = json_array_get(containers, 0);
	int64_t restarts = 0;
	char rg[128];
	size_t i;
	json_t *c;

	json_array_foreach (containers, i, c)
		restarts += json_get_int(
			json_path(c, "properties", "instanceView", NULL), "restartCount", 0);
	printf("%-16s %-24s %-10s %-16s %-8lld %s%s\n",
		resource_group_of(json_get_str(group, "id", ""), rg, sizeof(rg)),
		json_get_str(group, "name", ""), state_words(properties),
		json_get_str(address, "ip", "-"), (long long)restarts,
		json_get_str(json_path(first, "properties", NULL), "image", ""),
		json_array_size(containers) > 1 ? " …" : "");
}

/* The list has no instance view, as in Azure: each group is asked for. One that goes away meanwhile
 * is left out. */
static int fill_in(struct api *api, json_t *list, struct err *err, json_t *ret_groups)
{
	size_t i;
	json_t *item;

	json_array_foreach (json_get_arr(list, "value"), i, item) {
		json_t *group = NULL;
		int r = api_call(api, "GET", json_get_str(item, "id", ""), NULL, err, &group);

		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		json_array_append_new(ret_groups, group);
	}
	return 0;
}

static int list_groups(
	struct api *api, const char *resource_group, struct err *err, json_t *ret_groups)
{
	_cleanup_free_ char *path =
		resource_group ? xasprintf("/subscriptions/%s/resourceGroups/%s/providers/"
					   "Microsoft.ContainerInstance/containerGroups",
					 api_subscription(api), resource_group)
			       : xasprintf("/subscriptions/%s/providers/"
					   "Microsoft.ContainerInstance/containerGroups",
					 api_subscription(api));

	for (;;) {
		_cleanup_json_ json_t *list = NULL;
		const char *next;
		int r = api_call(api, "GET", path, NULL, err, &list);

		if (r == 0)
			r = fill_in(api, list, err, ret_groups);
		if (r < 0)
			return r;
		next = json_get_str(list, "nextLink", NULL);
		if (!next)
			return 0;
		free(path);
		path = xstrdup(next);
	}
}

int command_ps(int argc, char **argv)
{
	static const struct option options[] = {{"state", required_argument, NULL, 's'},
		{"resource-group", required_argument, NULL, 'g'}, {"json", no_argument, NULL, 'j'},
		{0}};
	const char *state = DEFAULT_STATE, *resource_group = NULL;
	_cleanup_(api_freep) struct api *api = NULL;
	_cleanup_json_ json_t *groups = json_array();
	struct err err = {0};
	bool as_json = false;
	int option;
	size_t i;
	json_t *group;

	while ((option = getopt_long(argc, argv, "g:", options, NULL)) != -1) {
		if (option == 's')
			state = optarg;
		else if (option == 'g')
			resource_group = optarg;
		else if (option == 'j')
			as_json = true;
		else
			return cli_wrong_option("ps");
	}
	if (cli_no_more("ps", argc, argv, optind))
		return 2;
	if (api_new(state, &err, &api) < 0 || list_groups(api, resource_group, &err, groups) < 0)
		return cli_fail(&err);
	if (as_json) {
		json_dumpf(groups, stdout, JSON_INDENT(2));
		printf("\n");
		return 0;
	}
	printf("%-16s %-24s %-10s %-16s %-8s %s\n", "RESOURCE GROUP", "NAME", "STATE", "ADDRESS",
		"RESTARTS", "IMAGE");
	json_array_foreach (groups, i, group)
		print_row(group);
	return 0;
}
