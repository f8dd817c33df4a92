#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/json.h"
#include "worker/pull/challenge.h"
#include "worker/pull/manifest.h"
#include "worker/pull/tarname.h"
#include "worker/pull/trust.h"

#define HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define CONFIG                                                                                            \
	"\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:" HEX \
	"\",\"size\":2}"
#define LAYER                                                                                      \
	"{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:" HEX  \
	"\",\"size\":3}"
#define ENTRY(arch, variant, hex)                                                                  \
	"{\"mediaType\":\"" TYPE_OCI_MANIFEST "\",\"digest\":\"sha256:" hex                        \
	"\",\"size\":9,\"platform\":{\"os\":\"linux\","                                            \
	"\"architecture\":\"" arch "\",\"variant\":\"" variant "\"}}"
#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static int parse(const char *text, const char *type, struct manifest *ret)
{
	struct err err = {0};

	return manifest_parse(text, strlen(text), type, &err, ret);
}

static void a_document_has_one_type(void **state)
{
	static const struct {
		const char *text, *type;
		bool good;
	} table[] = {
		{"{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER "]}", TYPE_OCI_MANIFEST,
			true},
		{"{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER "]}",
			TYPE_OCI_MANIFEST "; charset=utf-8", true},
		{"{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER "]}", "application/json",
			true},
		{"{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER "]}", NULL, true},
		{"{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER "]}", TYPE_OCI_INDEX, false},
		{"{\"schemaVersion\":2," CONFIG ",\"layers\":[],\"manifests\":[]}",
			TYPE_OCI_MANIFEST, false},
		{"{\"schemaVersion\":2,\"mediaType\":\"" TYPE_DOCKER_MANIFEST "\"," CONFIG
		 ",\"layers\":[]}",
			TYPE_OCI_MANIFEST, false},
		{"{\"schemaVersion\":2,\"mediaType\":\"" TYPE_OCI_INDEX "\"," CONFIG
		 ",\"layers\":[]}",
			NULL, false},
		{"{\"schemaVersion\":2,\"mediaType\":\"text/html\"," CONFIG ",\"layers\":[]}", NULL,
			false},
		{"{\"schemaVersion\":2,\"mediaType\":7," CONFIG ",\"layers\":[]}", NULL, false},
		{"{\"schemaVersion\":1," CONFIG ",\"layers\":[]}", NULL, false},
		{"{" CONFIG ",\"layers\":[]}", NULL, false},
		{"{\"schemaVersion\":2," CONFIG "}", NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":[" ENTRY("amd64", "", A) "]}", TYPE_OCI_INDEX,
			true},
		{"{\"schemaVersion\":2,\"manifests\":{}}", TYPE_OCI_INDEX, false},
		{"{\"schemaVersion\":2,\"manifests\":[],\"manifests\":[]}", TYPE_OCI_INDEX, false},
		{"[]", NULL, false},
		{"", NULL, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_(manifest_done) struct manifest manifest = {0};

		if ((parse(table[i].text, table[i].type, &manifest) == 0) != table[i].good)
			fail_msg("row %zu", i);
	}
}

static void the_platform_is_chosen_with_its_variant(void **state)
{
	_cleanup_(manifest_done) struct manifest index = {0}, arm = {0};
	struct platform platform = {.os = "linux", .architecture = "amd64"};
	const struct descriptor *choice;
	struct err err = {0};

	assert_int_equal(parse("{\"schemaVersion\":2,\"manifests\":[" ENTRY(
				       "amd64", "v3", A) "," ENTRY("amd64", "", B) "]}",
				 TYPE_OCI_INDEX, &index),
		0);
	assert_int_equal(manifest_choose(&index, &platform, &err, &choice), 0);
	assert_string_equal(choice->digest, "sha256:" B);
	platform.variant = "v3";
	assert_int_equal(manifest_choose(&index, &platform, &err, &choice), 0);
	assert_string_equal(choice->digest, "sha256:" A);
	platform = (struct platform){.os = "linux", .architecture = "arm64"};
	assert_true(manifest_choose(&index, &platform, &err, &choice) < 0);
	assert_string_equal(err.code, "InaccessibleImage");
	assert_non_null(strstr(err.message, "linux/amd64/v3"));
	assert_int_equal(parse("{\"schemaVersion\":2,\"manifests\":[" ENTRY("arm64", "v8", A) "]}",
				 TYPE_OCI_INDEX, &arm),
		0);
	assert_int_equal(manifest_choose(&arm, &platform, &err, &choice), 0);
}

static void a_config_is_reduced_to_what_is_used(void **state)
{
	const struct platform platform = {.os = "linux", .architecture = "amd64"};
	_cleanup_(image_info_done) struct image_info info = {0};
	_cleanup_free_ char *got = NULL;
	struct err err = {0};
	const char *text =
		"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:" HEX
		"\"]},\"config\":{\"Cmd\":\"one\",\"Env\":[\"A=b\",\"=x\",\"y\"],\"Volumes\":{\"/..\":{}},\"Hooks\":1}}";

	assert_int_equal(image_info_parse(text, strlen(text), &platform, &err, &info), 0);
	got = json_text(info.config);
	assert_string_equal(got, "{\"cmd\":[\"one\"],\"env\":[\"A=b\"]}");
	assert_int_equal(info.n_diff_ids, 1);
}

static void bad_configs_are_refused(void **state)
{
	static const char *const table[] = {"{}", "[]",
		"{\"rootfs\":{\"diff_ids\":[\"sha256:x\"]}}", "{\"rootfs\":{\"diff_ids\":[7]}}",
		"{\"rootfs\":{\"type\":\"x\",\"diff_ids\":[]}}",
		"{\"os\":\"windows\",\"rootfs\":{\"diff_ids\":[]}}",
		"{\"architecture\":\"s390x\",\"rootfs\":{\"diff_ids\":[]}}",
		"{\"rootfs\":{\"diff_ids\":[]},\"config\":{\"Cmd\":[1]}}",
		"{\"rootfs\":{\"diff_ids\":[]},\"config\":{\"Env\":{}}}",
		"{\"rootfs\":{\"diff_ids\":[]},\"config\":{\"User\":\"a\\nb\"}}"};
	const struct platform platform = {.os = "linux", .architecture = "amd64"};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_(image_info_done) struct image_info info = {0};
		struct err err = {0};

		if (image_info_parse(table[i], strlen(table[i]), &platform, &err, &info) == 0)
			fail_msg("row %zu", i);
	}
}

static void challenges_are_read(void **state)
{
	static const struct {
		const char *text, *realm, *service, *scope;
		bool bearer, basic;
	} table[] = {
		{"Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull\"",
			"https://a/t", "s", "repository:x:pull", true, false},
		{"bearer realm = \"https://a/t\" , service=s", "https://a/t", "s", NULL, true,
			false},
		{"Basic realm=\"x\"", NULL, NULL, NULL, false, true},
		{"Basic realm=\"x\", Bearer realm=\"https://b\"", "https://b", NULL, NULL, true,
			true},
		{"Bearer realm=\"a\\\"b,c\"", "a\"b,c", NULL, NULL, true, false},
		{"Bearer realm=\"open", NULL, NULL, NULL, true, false},
		{"Negotiate", NULL, NULL, NULL, false, false},
		{"", NULL, NULL, NULL, false, false},
		{"Bearer realm=\"a\x01b\"", NULL, NULL, NULL, true, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_(challenge_done) struct challenge c = {0};

		challenge_parse(table[i].text, &c);
		assert_int_equal(c.bearer, table[i].bearer);
		assert_int_equal(c.basic, table[i].basic);
		assert_string_equal(c.realm ? c.realm : "", table[i].realm ? table[i].realm : "");
		assert_string_equal(
			c.service ? c.service : "", table[i].service ? table[i].service : "");
		assert_string_equal(c.scope ? c.scope : "", table[i].scope ? table[i].scope : "");
	}
}

static void addresses_have_classes(void **state)
{
	static const struct {
		const char *address;
		enum address_class class;
	} table[] = {{"8.8.8.8", ADDRESS_PUBLIC}, {"10.1.2.3", ADDRESS_PRIVATE},
		{"172.31.0.1", ADDRESS_PRIVATE}, {"172.32.0.1", ADDRESS_PUBLIC},
		{"192.168.1.1", ADDRESS_PRIVATE}, {"100.64.0.1", ADDRESS_PRIVATE},
		{"127.0.0.1", ADDRESS_LOOPBACK}, {"127.255.0.1", ADDRESS_LOOPBACK},
		{"0.0.0.0", ADDRESS_FORBIDDEN}, {"169.254.169.254", ADDRESS_FORBIDDEN},
		{"168.63.129.16", ADDRESS_FORBIDDEN}, {"224.0.0.1", ADDRESS_FORBIDDEN},
		{"255.255.255.255", ADDRESS_FORBIDDEN}, {"::1", ADDRESS_LOOPBACK},
		{"::", ADDRESS_FORBIDDEN}, {"fe80::1", ADDRESS_FORBIDDEN},
		{"fe80::1%eth0", ADDRESS_FORBIDDEN}, {"fd00::1", ADDRESS_PRIVATE},
		{"::ffff:127.0.0.1", ADDRESS_LOOPBACK},
		{"::ffff:169.254.169.254", ADDRESS_FORBIDDEN},
		{"64:ff9b::a9fe:a9fe", ADDRESS_FORBIDDEN}, {"2002:7f00:1::", ADDRESS_LOOPBACK},
		{"2606:4700::1", ADDRESS_PUBLIC}, {"ff02::1", ADDRESS_FORBIDDEN},
		{"nonsense", ADDRESS_FORBIDDEN}, {"", ADDRESS_FORBIDDEN}};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (address_class(table[i].address) != table[i].class)
			fail_msg("%s", table[i].address);
}

static void credentials_go_to_few_realms(void **state)
{
	static const struct {
		const char *registry, *realm;
		bool may;
	} table[] = {
		{"https://registry-1.docker.io", "https://auth.docker.io/token", true},
		{"https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true},
		{"https://ghcr.io", "https://ghcr.io/token", true},
		{"https://a.example.co.uk", "https://auth.example.co.uk", true},
		{"https://a.example.co.uk", "https://evil.co.uk", false},
		{"https://mine.azurecr.io", "https://mine.azurecr.io/oauth2/token", true},
		{"https://mine.azurecr.io", "https://evil.azurecr.io/oauth2/token", false},
		{"https://registry.example.com", "https://evil.com/token", false},
		{"https://registry.example.com", "http://registry.example.com/token", false},
		{"https://10.0.0.1", "https://10.0.0.2", false},
		{"https://10.0.0.1:5000", "https://10.0.0.1:5001", true},
		{"http://127.0.0.1:5000", "http://127.0.0.1:5001/token", true},
		{"https://registry.example.com", "http://127.0.0.1/token", false},
		{"https://localhost", "https://evil", false},
		{"https://registry.example.com", "https://extra.test", true},
	};
	_cleanup_json_ json_t *extra = json_pack("[s]", "extra.test");

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct origin registry, realm;

		assert_int_equal(origin_parse(NULL, table[i].registry, &registry, NULL), 0);
		assert_int_equal(origin_parse(NULL, table[i].realm, &realm, NULL), 0);
		if (realm_may_know(&registry, &realm, extra) != table[i].may)
			fail_msg("row %zu", i);
	}
}

static void names_of_a_tar_fall_into_kinds(void **state)
{
	static const struct {
		const char *name;
		int kind; /* -1: refused */
		const char *parent, *base;
	} table[] = {
		{"a", TARNAME_PLAIN, "", "a"},
		{"/a//./b/", TARNAME_PLAIN, "a", "b"},
		{"./", TARNAME_ROOT, "", ""},
		{"", TARNAME_ROOT, "", ""},
		{"/", TARNAME_ROOT, "", ""},
		{"a/..", -1, "", ""},
		{"..", -1, "", ""},
		{"...", TARNAME_PLAIN, "", "..."},
		{"d/.wh.x", TARNAME_WHITEOUT, "d", "x"},
		{".wh..x", TARNAME_WHITEOUT, "", ".x"},
		{".wh...", -1, "", ""},
		{".wh..", -1, "", ""},
		{".wh.", -1, "", ""},
		{".wh.x/y", -1, "", ""},
		{"d/.wh..wh..opq", TARNAME_OPAQUE, "d", ".wh..wh..opq"},
		{".wh..wh..opq/x", TARNAME_IGNORED, ".wh..wh..opq", "x"},
		{".wh..wh.plnk/1", TARNAME_IGNORED, ".wh..wh.plnk", "1"},
		{"a.wh.b", TARNAME_PLAIN, "", "a.wh.b"},
	};
	struct tarname *name = xnew(struct tarname);

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const char *why = NULL;
		int r = tarname_parse(table[i].name, name, &why);

		if ((r < 0) != (table[i].kind < 0))
			fail_msg("'%s'", table[i].name);
		if (r < 0)
			continue;
		assert_int_equal(name->kind, table[i].kind);
		assert_string_equal(name->parent, table[i].parent);
		assert_string_equal(name->base, table[i].base);
	}
	free(name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_document_has_one_type),
		cmocka_unit_test(the_platform_is_chosen_with_its_variant),
		cmocka_unit_test(a_config_is_reduced_to_what_is_used),
		cmocka_unit_test(bad_configs_are_refused),
		cmocka_unit_test(challenges_are_read),
		cmocka_unit_test(addresses_have_classes),
		cmocka_unit_test(credentials_go_to_few_realms),
		cmocka_unit_test(names_of_a_tar_fall_into_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
