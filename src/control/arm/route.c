#include "control/arm/internal.h"

/* Built once at start from static tables: what is wrong there is a bug, hence the asserts. */
struct arm_node {
	char *literal; /* NULL: root or parameter */
	struct arm_node *parameter;
	struct arm_node **children;
	size_t n_children;
	struct arm_leaf **leaves;
	size_t n_leaves;
};

static struct arm_node *child_literal(const struct arm_node *node, const char *segment)
{
	for (size_t i = 0; i < node->n_children; i++)
		if (str_eq_nocase(node->children[i]->literal, segment))
			return node->children[i];
	return NULL;
}

static struct arm_node *child_ensure(struct arm_node *node, const char *segment)
{
	struct arm_node *child;

	if (segment[0] == '{') {
		if (!node->parameter)
			node->parameter = xnew(struct arm_node);
		return node->parameter;
	}
	child = child_literal(node, segment);
	if (child)
		return child;
	child = xnew(struct arm_node);
	child->literal = xstrdup(segment);
	node->children =
		xrealloc(node->children, (node->n_children + 1) * sizeof(node->children[0]));
	node->children[node->n_children++] = child;
	return child;
}

static void route_add(
	struct arm_node *root, const struct arm_provider *provider, const struct arm_route *route)
{
	_cleanup_free_ char *copy = xstrdup(route->path);
	struct arm_leaf *leaf = xnew(struct arm_leaf);
	char *rest = copy, *segment;
	struct arm_node *node = root;
	size_t depth = 0;
	bool subscriptions = false;

	assert(route->path[0] == '/' && route->handler);
	leaf->route = route;
	leaf->provider = provider;
	while ((segment = strsep(&rest, "/"))) {
		size_t len = strlen(segment);

		if (!len)
			continue;
		node = child_ensure(node, segment);
		if (segment[0] == '{') {
			assert(segment[len - 1] == '}' && leaf->n_names < ARM_PARAMS_MAX);
			leaf->names[leaf->n_names++] = xstrndup(segment + 1, len - 2);
			leaf->in_subscription |= depth == 1 && subscriptions;
		} else if (depth == 0) {
			subscriptions = str_eq_nocase(segment, "subscriptions");
		}
		depth++;
	}
	for (size_t i = 0; i < node->n_leaves; i++)
		assert(!str_eq(node->leaves[i]->route->method, route->method));
	node->leaves = xrealloc(node->leaves, (node->n_leaves + 1) * sizeof(node->leaves[0]));
	node->leaves[node->n_leaves++] = leaf;
}

struct arm_node *arm_routes_new(const struct arm_provider *const *providers)
{
	struct arm_node *root = xnew(struct arm_node);

	for (; *providers; providers++)
		for (size_t i = 0; i < (*providers)->n_routes; i++)
			route_add(root, *providers, &(*providers)->routes[i]);
	return root;
}

void arm_routes_free(struct arm_node *root)
{
	if (!root)
		return;
	arm_routes_free(root->parameter);
	for (size_t i = 0; i < root->n_children; i++)
		arm_routes_free(root->children[i]);
	for (size_t i = 0; i < root->n_leaves; i++) {
		for (size_t j = 0; j < root->leaves[i]->n_names; j++)
			free(root->leaves[i]->names[j]);
		free(root->leaves[i]);
	}
	free(root->children);
	free(root->leaves);
	free(root->literal);
	free(root);
}

static const struct arm_leaf *leaf_of(const struct arm_node *node, const char *method)
{
	for (size_t i = 0; i < node->n_leaves; i++)
		if (str_eq(node->leaves[i]->route->method, method))
			return node->leaves[i];
	return NULL;
}

/* method NULL: any node with a leaf. n_values counts the parameters on the way down. */
static const struct arm_node *find(const struct arm_node *node, const struct arm_path *path,
	size_t at, const char *method, const char **values, size_t n_values)
{
	const struct arm_node *child, *found = NULL;

	if (at == path->n)
		return method ? (leaf_of(node, method) ? node : NULL)
			      : (node->n_leaves ? node : NULL);
	child = child_literal(node, path->segments[at]);
	if (child)
		found = find(child, path, at + 1, method, values, n_values);
	if (!found && node->parameter && n_values < ARM_PARAMS_MAX) {
		values[n_values] = path->segments[at];
		found = find(node->parameter, path, at + 1, method, values, n_values + 1);
	}
	return found;
}

int arm_routes_find(const struct arm_node *root, const struct arm_path *path, const char *method,
	struct arm_match *ret)
{
	const struct arm_node *node = find(root, path, 0, method, ret->values, 0);
	struct buf allow = BUF_INIT;

	ret->allow[0] = '\0';
	ret->leaf = node ? leaf_of(node, method) : NULL;
	if (node)
		return 0;
	node = find(root, path, 0, NULL, ret->values, 0);
	if (!node)
		return -ENOENT;
	for (size_t i = 0; i < node->n_leaves; i++)
		buf_printf(&allow, "%s%s", i ? ", " : "", node->leaves[i]->route->method);
	str_copy(ret->allow, sizeof(ret->allow), buf_str(&allow));
	buf_done(&allow);
	return -EOPNOTSUPP;
}
