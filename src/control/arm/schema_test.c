#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/json.h"
#include "control/arm/schema.h"

static const char *const policies[] = {"Always", "Never", NULL};
static const char *const systems[] = {"Windows", "Linux", NULL};
static const char *const systems_run[] = {"Linux", NULL};

static const struct schema_property variable_properties[] = {
	{.name = "name",
		.type = SCHEMA_STRING,
		.flags = SCHEMA_REQUIRED,
		.pattern = "[A-Za-z_][A-Za-z0-9_]*",
		.code = "InvalidVariable",
		.message = "The name '{value}' in container '{container}' of '{group}' is bad."},
	{.name = "value", .type = SCHEMA_STRING},
	{.name = "secureValue", .type = SCHEMA_STRING, .flags = SCHEMA_SECRET},
};
static const struct schema_object variable = {
	"Variable", variable_properties, ARRAY_SIZE(variable_properties)};

static const struct schema_property container_properties[] = {
	{.name = "name", .type = SCHEMA_STRING, .flags = SCHEMA_REQUIRED},
	{.name = "cpu", .type = SCHEMA_NUMBER, .min = 0.01, .max = 4},
	{.name = "port", .type = SCHEMA_INT, .min = 1, .max = 65535},
	{.name = "command", .type = SCHEMA_ARRAY, .items = SCHEMA_STRING},
	{.name = "environmentVariables",
		.type = SCHEMA_ARRAY,
		.object = &variable,
		.fallback = "[]"},
	{.name = "probe",
		.type = SCHEMA_ANY,
		.flags = SCHEMA_UNSUPPORTED,
		.instead = "Leave it out."},
};
static const struct schema_object container = {
	"Container", container_properties, ARRAY_SIZE(container_properties), .is_container = true};

static const struct schema_property group_properties[] = {
	{.name = "state", .type = SCHEMA_STRING, .flags = SCHEMA_READ_ONLY},
	{.name = "containers",
		.type = SCHEMA_ARRAY,
		.object = &container,
		.flags = SCHEMA_REQUIRED,
		.min = 1,
		.max = 3},
	{.name = "restartPolicy",
		.type = SCHEMA_STRING,
		.values = policies,
		.fallback = "\"Always\""},
	{.name = "osType", .type = SCHEMA_STRING, .values = systems, .supported = systems_run},
	{.name = "sku", .type = SCHEMA_STRING, .since = "2019-12-01", .fallback = "\"Standard\""},
	{.name = "old", .type = SCHEMA_STRING, .last = "2021-03-01"},
	{.name = "identity",
		.type = SCHEMA_STRING,
		.flags = SCHEMA_UNSUPPORTED,
		.since = "2021-07-01",
		.code = "InvalidType",
		.message = "Identity in '{group}' is not supported."},
	{.name = "secret", .type = SCHEMA_MAP, .flags = SCHEMA_SECRET_MAP},
	{.name = "tags", .type = SCHEMA_MAP, .max = 2},
	{.name = "url", .type = SCHEMA_STRING, .flags = SCHEMA_URL},
	{.name = "enabled", .type = SCHEMA_BOOL},
};
static const struct schema_object group = {"Group", group_properties, ARRAY_SIZE(group_properties)};

static json_t *parse(const char *text)
{
	json_t *value = NULL;
	struct err err = {0};

	assert_int_equal(json_parse(text, strlen(text), JSON_DEPTH_MAX, &err, &value), 0);
	return value;
}

struct good {
	const char *in, *out, *version;
};

static void normalises(void **state)
{
	static const struct good cases[] = {
		{"{'containers':[{'name':'a'}]}",
			"{'containers':[{'name':'a','environmentVariables':[]}],"
			"'restartPolicy':'Always','sku':'Standard'}"},
		/* names and enum values in any case, canonical afterwards, in the table's order */
		{"{'RESTARTPOLICY':'never','Containers':[{'NAME':'a','Cpu':1}],'ostype':'LINUX'}",
			"{'containers':[{'name':'a','cpu':1.0,'environmentVariables':[]}],"
			"'restartPolicy':'Never','osType':'Linux','sku':'Standard'}"},
		/* nulls are absent, read-only members are dropped */
		{"{'state':'Running','containers':[{'name':'a','cpu':null}],'osType':null}",
			"{'containers':[{'name':'a','environmentVariables':[]}],"
			"'restartPolicy':'Always','sku':'Standard'}"},
		/* scalars as Azure's parser takes them */
		{"{'containers':[{'name':1,'cpu':'0.5','port':'80','command':[1,true]}],"
		 "'enabled':'True'}",
			"{'containers':[{'name':'1','cpu':0.5,'port':80,'command':['1','true'],"
			"'environmentVariables':[]}],'restartPolicy':'Always','sku':'Standard',"
			"'enabled':true}"},
		{"{'containers':[{'name':'a','port':80.0,'probe':[]}],'tags':{'B':1,'a':'x'}}",
			"{'containers':[{'name':'a','port':80,'environmentVariables':[]}],"
			"'restartPolicy':'Always','sku':'Standard','tags':{'B':'1','a':'x'}}"},
		/* defaults are filled in for readers of newer versions, too */
		{"{'containers':[{'name':'a'}],'old':'x'}",
			"{'containers':[{'name':'a','environmentVariables':[]}],"
			"'restartPolicy':'Always','sku':'Standard','old':'x'}",
			"2018-10-01"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *in = xstrdup(cases[i].in);
		_cleanup_free_ char *out = xstrdup(cases[i].out);
		_cleanup_free_ char *text = NULL;
		_cleanup_json_ json_t *document = NULL;
		struct err err = {0};
		struct schema_context context = {
			cases[i].version ? cases[i].version : "2023-05-01", "g"};

		for (char *c = in; *c; c++)
			*c = *c == '\'' ? '"' : *c;
		for (char *c = out; *c; c++)
			*c = *c == '\'' ? '"' : *c;
		document = parse(in);
		if (schema_validate(&group, document, &context, &err) < 0)
			fail_msg("%s: %s (%s)", in, err.message, err.target);
		text = json_text(document);
		assert_string_equal(text, out);
	}
}

struct bad {
	const char *in, *code, *target, *message, *version;
};

static void refuses_with_path_and_words(void **state)
{
	static const struct bad cases[] = {
		{"{}", "InvalidRequestContent", "containers",
			"The request content was invalid: the required property 'containers' is "
			"missing."},
		{"{'containers':[]}", "InvalidRequestContent", "containers",
			"The value '[]' of 'containers' is invalid. It must be between 1 and 3 "
			"elements long."},
		{"{'containers':[{'name':'a','bad':1}]}", "InvalidRequestContent",
			"containers[0].bad",
			"The request content was invalid: could not find member 'bad' on object of "
			"type 'Container'."},
		{"{'containers':[{'name':'a','Name':'b'}]}", "InvalidRequestContent",
			"containers[0].Name",
			"The request content was invalid: the property 'name' is there twice, in "
			"different case."},
		{"{'containers':[{'name':'a'},{'name':'b','cpu':'x'}]}", "InvalidRequestContent",
			"containers[1].cpu",
			"The value 'x' of 'containers[1].cpu' is invalid. It must be a number."},
		{"{'containers':[{'name':'b','cpu':9}]}", "InvalidRequestContent",
			"containers[0].cpu",
			"The value '9.0' of 'containers[0].cpu' is invalid. It must be between 0.01 "
			"and 4."},
		{"{'containers':[{'name':'b','port':1.5}]}", "InvalidRequestContent",
			"containers[0].port",
			"The value '1.5' of 'containers[0].port' is invalid. It must be a whole "
			"number."},
		{"{'containers':{}}", "InvalidRequestContent", "containers",
			"The value '{}' of 'containers' is invalid. It must be an array."},
		{"{'containers':[{'name':'c','environmentVariables':[{'name':'A'},{'name':'1'}]}]}",
			"InvalidVariable", "containers[0].environmentVariables[1].name",
			"The name '1' in container 'c' of 'g' is bad."},
		{"{'containers':[{'name':'c','probe':{'a':1}}]}", "PropertyNotSupported",
			"containers[0].probe",
			"The property 'containers[0].probe' is not supported by this version of "
			"Berth. Leave it out."},
		{"{'containers':[{'name':'c'}],'osType':'windows'}", "PropertyNotSupported",
			"osType",
			"The value 'windows' of 'osType' is not supported by this version of Berth. "
			"It must be one of 'Linux'."},
		{"{'containers':[{'name':'c'}],'osType':'BeOS'}", "InvalidRequestContent", "osType",
			"The value 'BeOS' of 'osType' is invalid. It must be one of "
			"'Windows,Linux'."},
		{"{'containers':[{'name':'c'}],'old':'x'}", "InvalidRequestContent", "old",
			"The property 'old' does not exist in api-version '2023-05-01'. The last "
			"api-version that has it is '2021-03-01'."},
		{"{'containers':[{'name':'c'}],'sku':'x'}", "InvalidRequestContent", "sku",
			"The property 'sku' does not exist in api-version '2018-10-01'. It came "
			"with api-version '2019-12-01'.",
			"2018-10-01"},
		{"{'containers':[{'name':'c'}],'identity':'x'}", "InvalidType", "identity",
			"Identity in 'g' is not supported.", "2021-03-01"},
		{"{'containers':[{'name':'c'}],'tags':{'a':[]}}", "InvalidRequestContent", "tags.a",
			"The value '[]' of 'tags.a' is invalid. It must be a string."},
		{"{'containers':[{'name':'c'}],'tags':{'a':'','b':'','c':''}}",
			"InvalidRequestContent", "tags",
			"The value '{\"a\":\"\",\"b\":\"\",\"c\":\"\"}' of 'tags' is invalid. It "
			"must be between 0 and 2 members large."},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *in = xstrdup(cases[i].in);
		_cleanup_json_ json_t *document = NULL;
		struct err err = {0};
		struct schema_context context = {
			cases[i].version ? cases[i].version : "2023-05-01", "g"};

		for (char *c = in; *c; c++)
			*c = *c == '\'' ? '"' : *c;
		document = parse(in);
		assert_int_equal(schema_validate(&group, document, &context, &err), -EINVAL);
		assert_string_equal(err.message, cases[i].message);
		assert_string_equal(err.code, cases[i].code);
		assert_string_equal(err.target, cases[i].target);
	}
}

static void presents_without_secrets_and_newer_properties(void **state)
{
	_cleanup_json_ json_t *document = parse(
		"{\"sku\":\"Standard\",\"new\":1,\"containers\":[{\"environmentVariables\":"
		"[{\"name\":\"A\",\"secureValue\":\"s\"}],\"name\":\"c\"}],\"secret\":{\"k\":\"v\"},"
		"\"state\":\"Running\"}");
	_cleanup_free_ char *text = NULL;
	struct schema_context context = {"2018-10-01", "g"};

	schema_present(&group, document, &context);
	text = json_text(document);
	assert_string_equal(text,
		"{\"state\":\"Running\",\"containers\":[{\"name\":\"c\",\"environmentVariables\":"
		"[{\"name\":\"A\"}]}],\"secret\":{},\"new\":1}");
}

static void presents_urls_without_their_users(void **state)
{
	static const struct {
		const char *is, *shown;
	} rows[] = {
		{"https://h/a", "https://h/a"},
		{"https://user:secret@h:1/a@b?c@d#e@f", "https://h:1/a@b?c@d#e@f"},
		{"https://secret@h", "https://h"},
		{"https://a@b@h/", "https://h/"},
		{"https://h?u@x", "https://h?u@x"},
		{"", ""},
		{"no url", "no url"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *document = json_pack("{s:s}", "url", rows[i].is);
		struct schema_context context = {"2018-10-01", "g"};

		schema_present(&group, document, &context);
		assert_string_equal(json_get_str(document, "url", ""), rows[i].shown);
	}
}

static void versions_compare_by_day(void **state)
{
	assert_true(schema_version_has("2022-10-01-preview", NULL, "2022-10-01-preview"));
	assert_true(schema_version_has("2022-10-01-preview", NULL, "2023-05-01"));
	assert_false(schema_version_has("2022-10-01-preview", NULL, "2022-09-01"));
	assert_true(schema_version_has(NULL, "2021-03-01", "2021-03-01"));
	assert_false(schema_version_has(NULL, "2021-03-01", "2021-07-01"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(normalises),
		cmocka_unit_test(refuses_with_path_and_words),
		cmocka_unit_test(presents_without_secrets_and_newer_properties),
		cmocka_unit_test(presents_urls_without_their_users),
		cmocka_unit_test(versions_compare_by_day),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
