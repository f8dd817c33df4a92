/*
 * Prints a reference page of docs/ from the tables in the code: supported, errors or configuration.
 * tests/docs.py compares them with what is in docs/, or writes them.
 */
#include <ctype.h>
#include <stdio.h>

#include "control/arm/arm.h"
#include "control/arm/schema.h"
#include "control/providers/containerinstance/containerinstance.h"
#include "control/providers/containerinstance/internal.h"
#include "control/providers/resources/resources.h"
#include "control/providers/signin/signin.h"
#include "main/config.h"

#define OBJECTS_MAX 64

/* --- supported.md --- */

static const char *type_words(const struct schema_property *p)
{
	static const char *const words[] = {"string", "whole number", "number", "boolean", "object",
		"array", "map of strings", "any"};

	return words[p->type];
}

/* To the heading that print_object() writes: its name in a link is in lower case. */
static void print_link(const char *before, const char *name)
{
	printf("%s[%s](#", before, name);
	for (; *name; name++)
		putchar(tolower((unsigned char)*name));
	putchar(')');
}

static void print_type(const struct schema_property *p)
{
	if (p->object)
		print_link(p->type == SCHEMA_ARRAY ? "array of " : "", p->object->name);
	else if (p->type == SCHEMA_ARRAY)
		printf("array of %ss", p->items == SCHEMA_STRING ? "string" : "number");
	else if (p->type != SCHEMA_ANY)
		printf("%s", type_words(p));
}

static void print_values(const char *before, const char *const *values)
{
	for (size_t i = 0; values[i]; i++)
		printf("%s`%s`", i ? ", " : before, values[i]);
}

static void print_support(const struct schema_property *p)
{
	if (p->flags & (SCHEMA_UNSUPPORTED | SCHEMA_MISPLACED)) {
		printf("**refused**%s%s", p->instead ? ": " : "", p->instead ? p->instead : "");
		return;
	}
	if (p->flags & SCHEMA_READ_ONLY) {
		printf("read-only");
		return;
	}
	printf("honoured%s", p->flags & SCHEMA_REQUIRED ? ", required" : "");
	if (p->flags & (SCHEMA_SECRET | SCHEMA_SECRET_MAP))
		printf("; secret: never in an answer");
	if (p->supported) {
		print_values("; ", p->supported);
		printf(" only, other values are **refused**");
		if (p->instead)
			printf(": %s", p->instead);
	} else if (p->values) {
		print_values("; ", p->values);
	}
	if (p->type == SCHEMA_INT || p->type == SCHEMA_NUMBER) {
		if (p->max > 0)
			printf("; %.0f to %.0f", p->min, p->max);
	} else if (p->max > 0) {
		printf("; %.0f to %.0f characters", p->min, p->max);
	}
	/* An empty default only says that the member is always there. */
	if (p->fallback && !strchr("[{", p->fallback[0]) && !str_eq(p->fallback, "\"\""))
		printf("; default `%s`", p->fallback);
}

static void print_object(const struct schema_object *object)
{
	if (object->n == 0) {
		printf("\n### %s\n\nIt has no properties.\n", object->name);
		return;
	}
	printf("\n### %s\n\n| property | type | api-versions | supported |\n| --- | --- | --- | --- |\n",
		object->name);
	for (size_t i = 0; i < object->n; i++) {
		const struct schema_property *p = &object->properties[i];

		printf("| `%s` | ", p->name);
		print_type(p);
		if (p->last)
			printf(" | %s%s%s | ", p->since ? p->since : "",
				p->since ? " to " : "up to ", p->last);
		else
			printf(" | %s%s | ", p->since ? p->since : "all", p->since ? " on" : "");
		print_support(p);
		printf(" |\n");
	}
}

/* Breadth first, each object once. */
static void print_objects(const struct schema_object *root)
{
	const struct schema_object *queue[OBJECTS_MAX] = {root};
	size_t n = 1;

	for (size_t at = 0; at < n; at++) {
		print_object(queue[at]);
		for (size_t i = 0; i < queue[at]->n; i++) {
			const struct schema_object *child = queue[at]->properties[i].object;
			size_t known = 0;

			while (known < n && queue[known] != child)
				known++;
			assert(n < OBJECTS_MAX);
			if (child && known == n)
				queue[n++] = child;
		}
	}
}

static void print_routes(const struct arm_provider *provider)
{
	printf("\n### %s\n\n| operation | api-versions | action |\n| --- | --- | --- |\n",
		provider->name);
	for (size_t i = 0; i < provider->n_routes; i++) {
		const struct arm_route *r = &provider->routes[i];

		printf("| `%s %s` | ", r->method, r->path);
		if (r->flags & ARM_ROUTE_NO_VERSION)
			printf("none needed");
		else if (r->first_version)
			printf("%s on", r->first_version);
		else
			printf("%s", provider->versions ? "all" : "any date");
		printf(" | %s%s |\n",
			r->flags & ARM_ROUTE_ANONYMOUS ? "anyone, without a token"
			: r->action		       ? r->action
						       : "anyone signed in",
			r->flags & ARM_ROUTE_REFUSED
				? "; **refused**: 501 `OperationNotSupported` says what else to do"
				: "");
	}
}

static void print_supported(void)
{
	static const struct arm_provider *const providers[] = {
		&containerinstance_provider, &resources_provider, &signin_provider};

	printf("# What is supported\n\n"
	       "Generated from the tables of routes and of the schema (`tests/docs.py --write`).\n\n"
	       "Each property is *honoured*, *read-only* or *refused*. What is refused is refused with `PropertyNotSupported`, the path\n"
	       "of the property, and why or what to do instead; `null`, `[]` and `{}` are let through. A property that no api-version\n"
	       "has is refused with its path. Nothing is silently ignored but read-only properties that a client sends back as it read\n"
	       "them: [groups.md](groups.md) has that rule, those of updates, and those over several properties at once. A property in\n"
	       "a request whose api-version doesn't have it is an error; in an answer it is left out.\n\n"
	       "## Microsoft.ContainerInstance/containerGroups\n\nThe api-versions:");
	for (size_t i = 0; containerinstance_versions[i]; i++)
		printf("%s%s", i == 0 ? "\n" : i % 6 ? ", " : ",\n", containerinstance_versions[i]);
	printf(".\n");
	print_objects(&group_schema);
	printf("\n## Operations\n\nThe action is what a role would have to allow; for now the one principal may do everything.\n");
	for (size_t i = 0; i < ARRAY_SIZE(providers); i++)
		print_routes(providers[i]);
}

/* --- errors.md --- */

static void print_section(const char *title)
{
	printf("\n## %s\n\n| code | status | meaning |\n| --- | --- | --- |\n", title);
}

static void print_errors(void)
{
	printf("# Error codes\n\n"
	       "Generated from `src/control/arm/errors.def` (`tests/docs.py --write`). Every error is Azure's envelope,\n"
	       "`{\"error\": {\"code\", \"message\", \"target\"}}`, with this status; the message has the particulars and `target`, when it\n"
	       "is there, the property. A code that isn't in this list is a mistake of Berth's own, answered as 500\n"
	       "`InternalServerError` with the particulars in berthd's log. Codes of pulls and containers are also found in the events of a\n"
	       "container and in its operation.\n");
#define ARM_SECTION(title) print_section(title);
#define ARM_ERROR(code, status, meaning) printf("| `%s` | %d | %s |\n", code, status, meaning);
#include "control/arm/errors.def"
#undef ARM_ERROR
}

int main(int argc, char **argv)
{
	const char *page = argc == 2 ? argv[1] : "";

	if (str_eq(page, "supported"))
		print_supported();
	else if (str_eq(page, "errors"))
		print_errors();
	else if (str_eq(page, "configuration"))
		config_print_reference();
	else
		return 2;
	return 0;
}
