/* Updates of groups that are there, and what a node is told. */
#include "control/providers/containerinstance/groups_fixture.h"

/* Whoever commits first wins; the others are told to wait, and nothing of theirs is kept. */
static void of_puts_at_once_one_wins(void **state)
{
	struct world *w = *state;

	w->does = NODE_NOTHING;
	w->bench->services.put_wait_ms = 0;
	for (int round = 0; round < 8; round++) {
		_cleanup_free_ char *name = xasprintf("g%d", round);
		_cleanup_free_ char *target = xasprintf(GROUPS "/%s" V, name);
		_cleanup_json_ json_t *first = NULL, *last = NULL;
		struct bench_query queries[4];
		struct bench_answer answers[4];
		char *bodies[4];
		int winner = -1;

		expect(w, "PUT", target, BODY("a"), 201);
		first = record_of(w, name);
		write_status(w, first, "Succeeded", "Running");
		for (int i = 0; i < 4; i++) {
			bodies[i] = xasprintf(BODY("image-%d"), i);
			for (char *c = bodies[i]; *c; c++)
				*c = *c == '\'' ? '"' : *c;
			queries[i] = (struct bench_query){"PUT", target, NULL, bodies[i]};
		}
		bench_requests(w->bench, 4, queries, answers);
		last = record_of(w, name);
		for (int i = 0; i < 4; i++) {
			_cleanup_free_ char *image = xasprintf("\"image-%d\"", i);
			_cleanup_free_ char *text = json_text(last);

			if (answers[i].status == 200) {
				assert_int_equal(winner, -1);
				winner = i;
				assert_non_null(strstr(text, image));
			} else {
				assert_int_equal(answers[i].status, 409);
				expect_member(answers[i].json, "error.code",
					"ContainerGroupTransitioning");
				assert_null(strstr(text, image));
			}
			bench_answer_done(&answers[i]);
			free(bodies[i]);
		}
		assert_true(winner >= 0);
		assert_int_equal(json_get_int(last, "generation", 0), 2);
	}
}

#define CONFIG_MAP(pairs) ",'configMap':{'keyValuePairs':{" pairs "}}"
#define NEW_V "?api-version=2025-09-01"

static void config_maps_alone_change_in_place(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *record = NULL, *spec = NULL;
	const json_t *container;

	expect(w, "PUT", GROUPS "/g" NEW_V,
		"{'properties':{'osType':'Linux','containers':[" CONTAINER(
			"a", CONFIG_MAP("'k':'1'")) "]}}",
		201);
	expect(w, "PUT", GROUPS "/g" NEW_V,
		"{'properties':{'containers':[{'name':'c','properties':{'configMap':{'keyValuePairs':{'k':'2'}}}}]}}",
		200);
	assert_int_equal(counter(w, "g", "generation"), 2);
	assert_int_equal(counter(w, "g", "runs"), 1);
	record = record_of(w, "g");
	spec = containerinstance_spec(record, NULL);
	container = json_array_get(json_get_arr(spec, "containers"), 0);
	assert_string_equal(json_get_str(json_get_obj(container, "configMap"), "k", ""), "2");
	assert_string_equal(json_get_str(container, "image", ""), "a");
	/* nothing is pulled for it */
	assert_false(json_get_bool(spec, "alwaysPull", true));
	expect_error(w, "PUT", GROUPS "/none" NEW_V,
		"{'properties':{'osType':'Linux','containers':[{'name':'c','properties':{'configMap':{'keyValuePairs':{'k':'2'}"
		"}}}]}}",
		400, "ImageNotSpecified", NULL);
}

static void a_changed_address_is_refused(void **state)
{
	struct world *w = *state;
	struct bench_answer answer;

	expect(w, "PUT", GROUPS "/g" V, PUBLIC("a", LABEL("label")), 201);
	request(w, "GET", GROUPS "/g" V, NULL, 200, &answer);
	expect(w, "PUT", GROUPS "/g" V, answer.body, 200);
	bench_answer_done(&answer);
	expect_error(w, "PUT", GROUPS "/g" V, PUBLIC("a", LABEL("label") ",'ip':'100.64.0.9'"), 400,
		"ReadOnlyPropertyChanged", "properties.ipAddress.ip");
	expect_error(w, "PUT", GROUPS "/g" V, PUBLIC("a", LABEL("label") ",'fqdn':'www.example'"),
		400, "ReadOnlyPropertyChanged", "properties.ipAddress.fqdn");
	assert_int_equal(counter(w, "g", "generation"), 1);
	/* what another group had is no wish of this one */
	expect(w, "PUT", GROUPS "/h" V, PUBLIC("a", ",'ip':'100.64.0.9'"), 201);
	expect_shown(w, GROUPS "/h" V, "properties.ipAddress.ip", "100.64.0.3");
}

static void a_group_that_is_too_large_is_refused(void **state)
{
	struct world *w = *state;
	size_t size = (4 << 20) - 300;
	_cleanup_free_ char *value = xcalloc(size + 1, 1);
	_cleanup_free_ char *body = NULL;

	memset(value, 'x', size);
	body = xasprintf("{'properties':{'osType':'Linux','containers':[" CONTAINER(
				 "a", ",'environmentVariables':[{'name':'A','value':'%s'}]") "]}}",
		value);
	expect_error(w, "PUT", GROUPS "/g" V, body, 413, "RequestContentTooLarge", NULL);
	assert_false(stored(w, "cg/rg/g"));
}

#define WHOLE_C                                                                                                        \
	CONTAINER("a",                                                                                                 \
		",'volumeMounts':[{'name':'e','mountPath':'//data/'},{'name':'s','mountPath':'/s','readOnly':true}],"  \
		"'livenessProbe':{'exec':{'command':['true']},'periodSeconds':5},'readinessProbe':{'httpGet':{'port':" \
		"80,'httpHeaders':[{'name':'A'}]}}" CONFIG_MAP("'k':'1'"))
#define WHOLE                                                                                                       \
	"{'properties':{'osType':'Linux','containers':[" WHOLE_C                                                    \
	"],'initContainers':[{'name':'i','properties':{'image':'b','command':['x'],'environmentVariables':[{'name'" \
	":'A','secureValue':'1'}],'volumeMounts':[{'name':'f','mountPath':'/f'}]}}],'volumes':[{'name':'e',"        \
	"'emptyDir':{}},{'name':'s','secret':{'k':'dg=='}},{'name':'r','gitRepo':{'repository':'https://g/a',"      \
	"'directory':'.'}},{'name':'f','azureFile':{'shareName':'abc','storageAccountName':'acc',"                  \
	"'storageAccountKey':'a2V5'}}],'dnsConfig':{'nameServers':['1.1.1.1'],'searchDomains':'a b','options':"     \
	"'ndots:2'}}}"

static void a_spec_has_the_whole_group(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *record = NULL, *spec = NULL;
	_cleanup_free_ char *text = NULL;

	expect(w, "PUT", GROUPS "/g" NEW_V, WHOLE, 201);
	record = record_of(w, "g");
	spec = containerinstance_spec(record, NULL);
	text = json_text(spec);
	for (char *c = text; *c; c++)
		*c = *c == '"' ? '\'' : *c;
	assert_non_null(strstr(text,
		"'initContainers':[{'name':'i','image':'b','command':['x'],'env':[{'name':'A','value':'1'}],"
		"'mounts':[{'volume':'f','path':'/f','readOnly':false}]}],'containers':[{'name':'c','image':'a',"));
	assert_non_null(strstr(text,
		"'ports':[],'mounts':[{'volume':'e','path':'/data','readOnly':false},{'volume':'s','path':'/s',"
		"'readOnly':true}],'configMap':{'k':'1'},'livenessProbe':{'exec':['true'],'initialDelaySeconds':0,"
		"'periodSeconds':5,'timeoutSeconds':1,'successThreshold':1,'failureThreshold':3},'readinessProbe':{"
		"'http':{'scheme':'http','path':'/','port':80,'headers':[{'name':'A','value':''}]},"
		"'initialDelaySeconds':0,'periodSeconds':10,'timeoutSeconds':1,'successThreshold':1,"
		"'failureThreshold':3}}],'volumes':[{'name':'e','emptyDir':{'sizeBytes':53687091200}},{'name':'s',"
		"'secret':{'k':'dg=='}},{'name':'r','gitRepo':{'repository':'https://g/a','directory':'.'}},{'name':'f',"
		"'azureFile':{'share':'abc','account':'acc','key':'a2V5','readOnly':false}}],'dns':{'nameServers':["
		"'1.1.1.1'],'searchDomains':['a','b'],'options':['ndots:2']}}"));
}

static void a_spec_has_resolved_values(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *record = NULL;
	_cleanup_json_ json_t *spec = NULL;
	_cleanup_free_ char *text = NULL;

	expect(w, "PUT", GROUPS "/g" V,
		"{'properties':{'osType':'Linux','restartPolicy':'never','containers':[{'name':'c','properties':{'image':'a',"
		"'command':['x','y'],'ports':[{'port':80}],'environmentVariables':[{'name':'A','value':'1'},{'name':'S',"
		"'secureValue':'2'}],'resources':{'requests':{'cpu':0.5,'memoryInGB':1.5},'limits':{'memoryInGB':1.5}}}}],"
		"'imageRegistryCredentials':[{'server':'r','username':'u','password':'p'}],'ipAddress':{'type':'Public','ports':"
		"[{'port':80,'protocol':'tcp'}]}}}",
		201);
	record = record_of(w, "g");
	spec = containerinstance_spec(record, NULL);
	text = json_text(spec);
	assert_string_equal(text,
		"{\"name\":\"g\",\"resourceGroup\":\"rg\",\"desired\":\"running\",\"runs\":1,\"restarts\":0,\"address\":"
		"\"100.64.0.2\",\"public\":true,\"ports\":[{\"port\":80,\"protocol\":\"TCP\"}],\"hostname\":\"g\","
		"\"restartPolicy\":\"Never\",\"registries\":[{\"server\":\"r\",\"username\":\"u\",\"password\":\"p\"}],"
		"\"alwaysPull\":false,\"containers\":[{\"name\":\"c\",\"image\":\"a\",\"command\":[\"x\",\"y\"],\"env\":[{"
		"\"name\":\"A\",\"value\":\"1\"},{\"name\":\"S\",\"value\":\"2\"}],\"cpu\":0.5,\"memoryBytes\":1610612736,"
		"\"cpuLimit\":0.5,\"memoryLimitBytes\":1610612736,\"ports\":[{\"port\":80,\"protocol\":\"TCP\"}]}]}");
}

/* A name is made again for whoever makes the group again in the scope, and for nobody else. */
static void labels_are_unique_in_their_scope(void **state)
{
	struct world *w = *state;
	static const char *const scopes[] = {
		"TenantReuse", "SubscriptionReuse", "ResourceGroupReuse", "Noreuse"};
	const char *plain = PUBLIC("a", LABEL("label"));

	expect(w, "PUT", GROUPS "/plain" V, plain, 201);
	for (size_t i = 0; i < ARRAY_SIZE(scopes); i++) {
		_cleanup_free_ char *body = xasprintf(
			PUBLIC("a", LABEL("label") ",'autoGeneratedDomainNameLabelScope':'%s'"),
			scopes[i]);
		_cleanup_json_ json_t *first = NULL, *updated = NULL, *again = NULL;
		const char *fqdn;

		expect(w, "PUT", GROUPS "/g" V, body, 201);
		first = record_of(w, "g");
		fqdn = json_get_str(first, "fqdn", "");
		assert_int_equal(
			strlen(fqdn), strlen("label.0123456789abcdef.local.berth.internal"));
		write_status(w, first, "Succeeded", "Running");
		for (char *c = strstr(body, "'a'"); c && *c == '\''; c = NULL)
			c[1] = 'b';
		expect(w, "PUT", GROUPS "/g" V, body, 200);
		updated = record_of(w, "g");
		assert_string_equal(json_get_str(updated, "fqdn", ""), fqdn);
		if (!str_eq(scopes[i], "Noreuse"))
			expect_error(w, "PUT", GROUPS "/h" V, body, 409, "DnsNameLabelNotAvailable",
				"properties.ipAddress.dnsNameLabel");
		expect(w, "DELETE", GROUPS "/g" V, NULL, 200);
		expect(w, "PUT", GROUPS "/g" V, body, 201);
		again = record_of(w, "g");
		assert_int_equal(str_eq(json_get_str(again, "fqdn", ""), fqdn),
			!str_eq(scopes[i], "Noreuse"));
		expect(w, "DELETE", GROUPS "/g" V, NULL, 200);
	}
	assert_true(stored(w, "label/local/label"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(labels_are_unique_in_their_scope),
		TEST(of_puts_at_once_one_wins),
		TEST(config_maps_alone_change_in_place),
		TEST(a_changed_address_is_refused),
		TEST(a_group_that_is_too_large_is_refused),
		TEST(a_spec_has_resolved_values),
		TEST(a_spec_has_the_whole_group),
	};

	return cmocka_run_group_tests(tests, NULL, last_teardown);
}
