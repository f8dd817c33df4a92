#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "control/arm/bench.h"
#include "control/providers/resources/resources.h"

/* --- a provider whose things live in resource groups: thing/<rg>/<name> --- */

static struct {
	bool stuck;   /* deletes nothing, and reports nothing */
	bool failing; /* refuses to delete */
} things;

static char *things_prefix(const char *rg)
{
	_cleanup_free_ char *lower = str_lower_dup(rg);

	return xasprintf("thing/%s/", lower);
}

static int things_list(
	const struct arm_services *s, const char *rg, struct err *err, json_t *ret_array)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	_cleanup_free_ char *prefix = things_prefix(rg);
	int r = store_list(s->store, prefix, NULL, 0, err, &list);

	for (size_t i = 0; r == 0 && i < list.n; i++) {
		const char *name = strrchr(list.entries[i].key, '/') + 1;
		_cleanup_free_ char *id =
			xasprintf(BENCH_SUB "/resourceGroups/%s/providers/Microsoft.Test/things/%s",
				rg, name);

		json_array_append_new(ret_array,
			json_pack("{s:s, s:s, s:s, s:s, s:{s:s}, s:{s:s, s:s}}", "id", id, "name",
				name, "type", "Microsoft.Test/things", "location", "local", "tags",
				"t", list.entries[i].value, "properties", "provisioningState",
				"Succeeded", "password", "secret"));
	}
	return r;
}

static int things_delete(const struct arm_services *s, const char *rg, struct err *err)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	_cleanup_free_ char *prefix = things_prefix(rg);
	int r;

	if (things.failing)
		return err_set(
			err, -EBUSY, "ContainerGroupTransitioning", "The thing is transitioning.");
	r = store_list(s->store, prefix, NULL, 0, err, &list);
	for (size_t i = 0; !things.stuck && r == 0 && i < list.n; i++)
		r = store_delete(s->store, list.entries[i].key, STORE_ANY, err);
	return r;
}

static json_t *things_types(const struct arm_services *s)
{
	return json_pack("[{s:s, s:[s], s:[s]}]", "resourceType", "things", "locations", s->region,
		"apiVersions", "2023-05-01");
}

static int things_put(struct arm_request *request, struct arm_response *response, struct err *err)
{
	return arm_resource_group_for_write(
		arm_services(request), arm_param(request, "rg"), err, NULL, NULL);
}

static const struct arm_route things_routes[] = {
	{"PUT", "/subscriptions/{sub}/resourceGroups/{rg}/providers/Microsoft.Test/things/{name}",
		NULL, NULL, things_put, 0},
};
static const struct arm_provider things_provider = {.name = "Microsoft.Test",
	.routes = things_routes,
	.n_routes = ARRAY_SIZE(things_routes),
	.list_resources = things_list,
	.delete_group = things_delete,
	.resource_types = things_types};
static const struct arm_provider *const providers[] = {&resources_provider, &things_provider, NULL};

static int setup(void **state)
{
	things.stuck = things.failing = false;
	*state = bench_new(providers);
	return 0;
}

static int teardown(void **state)
{
	bench_free(*state);
	return 0;
}

#define V "?api-version=2021-04-01"
#define RG BENCH_SUB "/resourcegroups/"
#define LONG_NAME "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"

struct exchange {
	const char *method, *target, *body;
	int status;
	const char *contains; /* NULL: an empty body */
};

static void run(struct bench *bench, const struct exchange *x, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct bench_answer a;

		bench_request(bench, x[i].method, x[i].target, NULL, x[i].body, &a);
		if (a.status != x[i].status ||
			(x[i].contains ? !strstr(a.body, x[i].contains) : a.body[0]))
			fail_msg("%zu: %s %s: %d %s, not %d %s", i, x[i].method, x[i].target,
				a.status, a.body, x[i].status, x[i].contains ? x[i].contains : "");
		bench_answer_done(&a);
	}
}

static void subscription_and_its_surroundings(void **state)
{
	static const struct exchange x[] = {
		{"GET", "/subscriptions?api-version=2019-11-01", NULL, 200,
			"{\"value\":[{\"id\":\"" BENCH_SUB
			"\",\"subscriptionId\":\"" BENCH_SUBSCRIPTION
			"\",\"tenantId\":\"" BENCH_TENANT
			"\",\"displayName\":\"Berth\",\"state\":\"Enabled\""},
		{"GET", BENCH_SUB V, NULL, 200, "\"managedByTenants\":[]"},
		{"GET", "/subscriptions/33333333-3333-3333-3333-333333333333" V, NULL, 404,
			"SubscriptionNotFound"},
		{"GET", "/tenants" V, NULL, 200,
			"{\"id\":\"/tenants/" BENCH_TENANT "\",\"tenantId\":\"" BENCH_TENANT "\""},
		{"GET", BENCH_SUB "/locations?api-version=2019-11-01", NULL, 200,
			"\"name\":\"local\",\"type\":\"Region\",\"displayName\":\"Local\""},
		{"GET", BENCH_SUB "/providers/Microsoft.Authorization/locks?api-version=2016-09-01",
			NULL, 200, "{\"value\":[]}"},
		{"GET", BENCH_SUB V "x", NULL, 400, "InvalidApiVersionParameter"},
		{"GET", BENCH_SUB, NULL, 400, "MissingApiVersionParameter"},
	};

	run(*state, x, ARRAY_SIZE(x));
}

static void providers_can_be_unregistered(void **state)
{
#define THING RG "g/providers/Microsoft.Test/things/x" V
	static const struct exchange x[] = {
		{"GET", BENCH_SUB "/providers" V, NULL, 200,
			"\"namespace\":\"Microsoft.Test\",\"resourceTypes\":[{\"resourceType\":\"things\",\"locations\":[\"local\"],\"apiVersions\":[\"2023-05-01\"]}],\"registrationState\":\"Registered\""},
		{"GET", BENCH_SUB "/providers/microsoft.test" V, NULL, 200,
			"{\"id\":\"" BENCH_SUB "/providers/Microsoft.Test\""},
		{"GET", BENCH_SUB "/providers/Microsoft.Nope" V, NULL, 404,
			"InvalidResourceNamespace"},
		{"GET", "/providers" V, NULL, 200, "{\"id\":\"/providers/Microsoft.Resources\""},
		{"PUT", RG "g" V, "{\"location\":\"local\"}", 201, ""},
		{"POST", BENCH_SUB "/providers/Microsoft.Test/unregister" V, NULL, 200,
			"\"registrationState\":\"Unregistered\""},
		{"PUT", THING, "{}", 409, "MissingSubscriptionRegistration"},
		{"POST", BENCH_SUB "/providers/Microsoft.Test/register" V, NULL, 200,
			"\"registrationState\":\"Registered\""},
		{"POST", BENCH_SUB "/providers/Microsoft.Test/register" V, NULL, 200,
			"\"registrationState\":\"Registered\""},
		{"PUT", THING, "{}", 200, NULL},
		{"POST", BENCH_SUB "/providers/Microsoft.Resources/unregister" V, NULL, 200,
			"\"registrationState\":\"Registered\""},
	};

	run(*state, x, ARRAY_SIZE(x));
}

static void group_lives_its_life(void **state)
{
	static const struct exchange x[] = {
		{"GET", RG "Gr" V, NULL, 404,
			"{\"error\":{\"code\":\"ResourceGroupNotFound\",\"message\":\"Resource group 'Gr' could not be found.\"}}"},
		{"HEAD", RG "Gr" V, NULL, 404, NULL},
		{"PATCH", RG "Gr" V, "{}", 404, "ResourceGroupNotFound"},
		{"DELETE", RG "Gr" V, NULL, 404, "ResourceGroupNotFound"},
		{"PUT", RG "Gr" V,
			"{\"location\":\"local\",\"tags\":{\"a\":\"b\"},\"properties\":{}}", 201,
			"{\"id\":\"" BENCH_SUB
			"/resourceGroups/Gr\",\"name\":\"Gr\",\"type\":\"Microsoft.Resources/resourceGroups\",\"location\":\"local\","
			"\"properties\":{\"provisioningState\":\"Succeeded\"},\"tags\":{\"a\":\"b\"}}"},
		{"HEAD", RG "gr" V, NULL, 204, NULL},
		{"GET", RG "GR" V, NULL, 200, "\"name\":\"Gr\""},
		/* The same group, in another case; its tags are replaced. */
		{"PUT", RG "gR" V, "{\"Location\":\"Lo cal\",\"tags\":null}", 200,
			"\"provisioningState\":\"Succeeded\"}}"},
		{"PATCH", RG "gr" V, "{\"tags\":{\"c\":\"d\"}}", 200, "\"tags\":{\"c\":\"d\"}"},
		{"PATCH", RG "gr" V, "{}", 200, "\"tags\":{\"c\":\"d\"}"},
		{"PATCH", RG "gr" V, "{\"tags\":{}}", 200, "\"tags\":{}"},
		{"PUT", RG "gr" V, "{\"location\":\"westus\"}", 409,
			"{\"error\":{\"code\":\"InvalidResourceGroupLocation\",\"message\":\"Invalid resource group location 'westus'. The Resource group already exists in location 'local'.\",\"target\":\"location\"}}"},
		{"GET", RG "gr/providers/Microsoft.Authorization/locks" V, NULL, 200,
			"{\"value\":[]}"},
		{"GET", RG "nope/providers/Microsoft.Authorization/locks" V, NULL, 404,
			"ResourceGroupNotFound"},
		{"POST", RG "gr" V, "{}", 405, "MethodNotAllowed"},
	};

	run(*state, x, ARRAY_SIZE(x));
}

static void bad_groups_are_refused(void **state)
{
	static const struct exchange x[] = {
		{"PUT", RG "g" V, "{}", 400, "LocationRequired"},
		{"PUT", RG "g" V, "{\"location\":1}", 400, "LocationRequired"},
		{"PUT", RG "g" V, "{\"location\":\"westus\"}", 400,
			"The provided location 'westus' is not available for resource group. List of available regions is 'local'."},
		{"PUT", RG "g" V, "{\"location\":\"local\",\"colour\":\"red\"}", 400,
			"Could not find member 'colour'"},
		{"PUT", RG "g" V, "{\"location\":\"local\",\"tags\":{\"a\":1}}", 400,
			"InvalidTags"},
		{"PUT", RG "g" V, "{\"location\":\"local\",\"tags\":[]}", 400, "InvalidTags"},
		{"PUT", RG "g" V, "{\"location\":\"local\",\"tags\":{\"a?\":\"b\"}}", 400,
			"InvalidTagNameCharacters"},
		{"PUT", RG "g" V, "nonsense", 400, "InvalidRequestContent"},
		{"PUT", RG "a.b_c-(d)" V, "{\"location\":\"local\"}", 201, ""},
		{"PUT", RG "g." V, "{\"location\":\"local\"}", 400, "InvalidResourceGroup"},
		{"PUT", RG "a%20b!" V, "{\"location\":\"local\"}", 400,
			"has these invalid characters: ' !'. The name can only be a letter, digit, '-', '.', '(', ')' or '_'."},
		{"PUT", RG "caf%C3%A9" V, "{\"location\":\"local\"}", 400, "InvalidResourceGroup"},
		{"PUT", RG LONG_NAME LONG_NAME V, "{\"location\":\"local\"}", 201, ""},
		{"PUT", RG LONG_NAME LONG_NAME "n" V, "{\"location\":\"local\"}", 400,
			"InvalidResourceGroup"},
		{"GET", RG LONG_NAME LONG_NAME LONG_NAME V, NULL, 404, "ResourceGroupNotFound"},
		{"GET", RG "caf%C3%A9" V, NULL, 404, "ResourceGroupNotFound"},
	};

	run(*state, x, ARRAY_SIZE(x));
}

static void groups_are_listed_by_page_and_tag(void **state)
{
	struct bench *bench = *state;
	struct bench_answer a;
	char target[200], body[100], *next = NULL;
	size_t n = 0, pages = 0;
	static const struct exchange x[] = {
		{"GET",
			RG V
			"&$filter=tagName%20eq%20'parity'%20and%20tagValue%20eq%20'odd'&$top=1",
			NULL, 200, "\"name\":\"g001\""},
		{"GET", RG V "&$filter=tagname+eq+'nope'", NULL, 200, "{\"value\":[]}"},
		{"GET", RG V "&$filter=colour%20eq%20'red'", NULL, 400,
			"Invalid $filter 'colour eq 'red'' specified in the query string."},
		{"GET", RG V "&$filter=nonsense", NULL, 400, "InvalidFilterInQueryString"},
	};

	for (int i = 0; i < 300; i++) {
		snprintf(target, sizeof(target), RG "g%03d" V, i);
		snprintf(body, sizeof(body),
			"{\"location\":\"local\",\"tags\":{\"parity\":\"%s\"}}",
			i % 2 ? "odd" : "even");
		bench_request(bench, "PUT", target, NULL, body, &a);
		assert_int_equal(a.status, 201);
		bench_answer_done(&a);
	}
	next = xstrdup(BENCH_ENDPOINT RG V "&$filter=tagValue%20eq%20'odd'&$top=70");
	while (next) {
		bench_request(bench, "GET", next + strlen(BENCH_ENDPOINT), NULL, NULL, &a);
		assert_int_equal(a.status, 200);
		n += json_array_size(json_get_arr(a.json, "value"));
		pages++;
		free(next);
		next = json_get_str(a.json, "nextLink", NULL)
			       ? xstrdup(json_get_str(a.json, "nextLink", NULL))
			       : NULL;
		bench_answer_done(&a);
	}
	assert_int_equal(n, 150);
	assert_int_equal(pages, 3);
	run(bench, x, ARRAY_SIZE(x));
}

static void add_thing(struct bench *bench, const char *key, const char *tag)
{
	assert_int_equal(
		store_put(bench->services.store, key, tag, strlen(tag), STORE_ANY, NULL, NULL), 0);
}

static void resources_are_listed_without_their_properties(void **state)
{
	struct bench *bench = *state;
	struct bench_answer a;
	static const struct exchange make[] = {
		{"PUT", RG "one" V, "{\"location\":\"local\"}", 201, ""},
		{"PUT", RG "two" V, "{\"location\":\"local\"}", 201, ""},
	};
	static const struct exchange x[] = {
		{"GET", BENCH_SUB "/resources" V, NULL, 200, "\"name\":\"a\""},
		{"GET",
			BENCH_SUB
			"/resources" V
			"&$filter=resourceGroup%20eq%20'TWO'&$expand=createdTime,provisioningState",
			NULL, 200,
			"{\"value\":[{\"id\":\"" BENCH_SUB
			"/resourceGroups/TWO/providers/Microsoft.Test/things/c\",\"name\":\"c\","
			"\"type\":\"Microsoft.Test/things\",\"location\":\"local\",\"tags\":{\"t\":\"z\"},\"provisioningState\":\"Succeeded\"}]}"},
		{"GET", BENCH_SUB "/resources" V "&$filter=resourceGroup%20eq%20'three'", NULL, 200,
			"{\"value\":[]}"},
		{"GET",
			BENCH_SUB
			"/resources" V
			"&$filter=resourceType%20eq%20'microsoft.test/THINGS'%20and%20name%20eq%20'b'",
			NULL, 200,
			"{\"value\":[{\"id\":\"" BENCH_SUB
			"/resourceGroups/one/providers/Microsoft.Test/things/b\""},
		{"GET",
			BENCH_SUB "/resources" V
				  "&$filter=resourceType%20eq%20'Microsoft.Other/things'",
			NULL, 200, "{\"value\":[]}"},
		{"GET",
			BENCH_SUB "/resources" V
				  "&$filter=tagname%20eq%20't'%20and%20tagvalue%20eq%20'y'",
			NULL, 200, "\"name\":\"b\""},
		{"GET", BENCH_SUB "/resources" V "&$filter=colour%20eq%20't'", NULL, 400,
			"InvalidFilterInQueryString"},
		{"GET", RG "one/resources" V "&$top=1", NULL, 200, "nextLink"},
		{"GET", RG "three/resources" V, NULL, 404, "ResourceGroupNotFound"},
	};
	_cleanup_free_ char *next = NULL;

	run(bench, make, ARRAY_SIZE(make));
	add_thing(bench, "thing/one/b", "y");
	add_thing(bench, "thing/one/a", "x");
	add_thing(bench, "thing/two/c", "z");
	run(bench, x, ARRAY_SIZE(x));

	bench_request(bench, "GET", BENCH_SUB "/resources" V "&$top=2", NULL, NULL, &a);
	assert_int_equal(json_array_size(json_get_arr(a.json, "value")), 2);
	assert_null(strstr(a.body, "secret"));
	next = xstrdup(json_get_str(a.json, "nextLink", ""));
	bench_answer_done(&a);
	bench_request(bench, "GET", next + strlen(BENCH_ENDPOINT), NULL, NULL, &a);
	assert_int_equal(json_array_size(json_get_arr(a.json, "value")), 1);
	assert_null(json_object_get(a.json, "nextLink"));
	bench_answer_done(&a);
}

/* --- deletion --- */

static char *start_deletion(struct bench *bench, const char *target)
{
	struct bench_answer a;
	const char *location;
	char *copy;

	bench_request(bench, "DELETE", target, NULL, NULL, &a);
	assert_int_equal(a.status, 202);
	assert_string_equal(a.body, "");
	assert_string_equal(bench_answer_header(&a, "retry-after"), "1");
	location = bench_answer_header(&a, "location");
	assert_true(str_starts(location, BENCH_ENDPOINT BENCH_SUB "/operationresults/"));
	assert_true(str_ends(location, V));
	copy = xstrdup(location + strlen(BENCH_ENDPOINT));
	bench_answer_done(&a);
	return copy;
}

static void check_poll(struct bench *bench, const char *target, int status, const char *contains)
{
	struct exchange x = {"GET", target, NULL, status, contains};

	run(bench, &x, 1);
}

static void deletion_takes_what_is_inside(void **state)
{
	struct bench *bench = *state;
	_cleanup_(store_list_done) struct store_list left = {0};
	_cleanup_free_ char *poll = NULL;
	static const struct exchange make[] = {
		{"PUT", RG "G" V, "{\"location\":\"local\"}", 201, ""},
		{"PUT", RG "other" V, "{\"location\":\"local\"}", 201, ""},
	};
	static const struct exchange after[] = {
		{"GET", RG "g" V, NULL, 404, "ResourceGroupNotFound"},
		{"GET", RG "other" V, NULL, 200, "Succeeded"},
		/* A new group with the old name isn't what the operation meant. */
		{"PUT", RG "G" V, "{\"location\":\"local\"}", 201, ""},
	};

	run(bench, make, ARRAY_SIZE(make));
	add_thing(bench, "thing/g/a", "x");
	add_thing(bench, "thing/other/a", "x");
	poll = start_deletion(bench, RG "g" V);
	check_poll(bench, poll, 200, NULL);
	run(bench, after, ARRAY_SIZE(after));
	check_poll(bench, poll, 200, NULL);
	assert_int_equal(store_list(bench->services.store, "thing/", NULL, 0, NULL, &left), 0);
	assert_int_equal(left.n, 1);
}

static void group_in_deletion_takes_nothing_new(void **state)
{
	struct bench *bench = *state;
	_cleanup_free_ char *poll = NULL;
	static const struct exchange make[] = {
		{"PUT", RG "g" V, "{\"location\":\"local\"}", 201, ""}};
	static const struct exchange during[] = {
		{"GET", RG "g" V, NULL, 200, "\"provisioningState\":\"Deleting\""},
		{"PUT", RG "g" V, "{\"location\":\"local\"}", 409,
			"{\"error\":{\"code\":\"ResourceGroupBeingDeleted\",\"message\":\"The resource group 'g' is in deprovisioning state and cannot perform this operation.\"}}"},
		{"PATCH", RG "g" V, "{\"tags\":{}}", 409, "ResourceGroupBeingDeleted"},
		{"PUT", THING, "{}", 409, "ResourceGroupBeingDeleted"},
	};

	run(bench, make, ARRAY_SIZE(make));
	add_thing(bench, "thing/g/a", "x");
	things.stuck = true;
	poll = start_deletion(bench, RG "g" V);
	check_poll(bench, poll, 202, NULL);
	run(bench, during, ARRAY_SIZE(during));
	free(start_deletion(bench, RG "g" V));
	things.stuck = false;
	things.failing = true;
	check_poll(bench, poll, 409,
		"Deletion of resource group 'g' failed: The thing is transitioning.");
	things.failing = false;
	check_poll(bench, poll, 200, NULL);
	check_poll(bench, RG "g" V, 404, "ResourceGroupNotFound");
}

static void deletion_goes_on_after_a_restart(void **state)
{
	struct bench *bench = *state;
	static const struct exchange make[] = {
		{"PUT", RG "g" V, "{\"location\":\"local\"}", 201, ""},
		{"PUT", RG "h" V, "{\"location\":\"local\"}", 201, ""}};
	static const struct exchange after[] = {
		{"GET", RG "g" V, NULL, 404, ""}, {"GET", RG "h" V, NULL, 200, "Succeeded"}};

	run(bench, make, ARRAY_SIZE(make));
	add_thing(bench, "thing/g/a", "x");
	things.stuck = true;
	free(start_deletion(bench, RG "g" V));
	things.stuck = false;
	assert_int_equal(resources_resume(&bench->services, providers, NULL), 0);
	run(bench, after, ARRAY_SIZE(after));
}

static void foreign_operations_are_not_found(void **state)
{
	static const struct exchange x[] = {
		{"GET", BENCH_SUB "/operationresults/nonsense" V, NULL, 404, "OperationNotFound"},
		{"GET", BENCH_SUB "/operationresults/%21" V, NULL, 404, "OperationNotFound"},
		/* "cg/x y", "rg/", "rg/caf\xe9 u" */
		{"GET", BENCH_SUB "/operationresults/Y2cveCB5" V, NULL, 404, "OperationNotFound"},
		{"GET", BENCH_SUB "/operationresults/cmcv" V, NULL, 404, "OperationNotFound"},
		{"GET", BENCH_SUB "/operationresults/cmcvY2Fm6SB1" V, NULL, 200, NULL},
	};

	run(*state, x, ARRAY_SIZE(x));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(subscription_and_its_surroundings),
		T(providers_can_be_unregistered),
		T(group_lives_its_life),
		T(bad_groups_are_refused),
		T(groups_are_listed_by_page_and_tag),
		T(resources_are_listed_without_their_properties),
		T(deletion_takes_what_is_inside),
		T(group_in_deletion_takes_nothing_new),
		T(deletion_goes_on_after_a_restart),
		T(foreign_operations_are_not_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
