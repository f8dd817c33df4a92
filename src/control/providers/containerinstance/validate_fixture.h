/* For tests of the rules: documents as text with ' for ", and tables of what is refused. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "control/providers/containerinstance/internal.h"

#define ID                                                                                         \
	"/subscriptions/S/resourceGroups/rg/providers/Microsoft.ContainerInstance/containerGroups/g"
#define RES "'resources':{'requests':{'cpu':1,'memoryInGB':1.5}}"
#define C1 "{'name':'c','properties':{'image':'alpine'," RES "}}"
/* A group with these containers, and more properties after them. */
#define G(containers, more)                                                                        \
	"{'properties':{'containers':[" containers "],'osType':'Linux'" more "}}"
/* A container c with more properties after its image and resources. */
#define C(more) "{'name':'c','properties':{'image':'alpine'," RES more "}}"

/* A row of a table: what is sent, and exactly what comes back. message NULL: any. version NULL:
 * FIXTURE_VERSION. */
struct refusal {
	const char *in, *code, *target, *message, *version;
};

#define FIXTURE_VERSION "2023-05-01"

json_t *fixture_parse(const char *text);
struct validate_context fixture_context(const char *version);
void fixture_refuses(const struct refusal *refusals, size_t n);
/* in becomes out, member for member. */
void fixture_accepts(const char *in, const char *version, const char *out);
