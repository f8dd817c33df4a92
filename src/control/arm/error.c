#include <stdio.h>

#include "control/arm/internal.h"

static const struct {
	const char *code;
	int status;
} table[] = {
#define ARM_ERROR(code, status, meaning) {code, status},
#include "control/arm/errors.def"
#undef ARM_ERROR
};

int arm_error_status(const char *code)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (str_eq(table[i].code, code))
			return table[i].status;
	return 500;
}

json_t *arm_error_json(const struct err *err, json_t *details)
{
	/* What isn't in the table was never meant for a client: a path, a line of a library. It is
	 * in the log. */
	bool known = err->code[0] && arm_error_status(err->code) != 500;
	_cleanup_free_ char *message = str_utf8_clean(err->message, strlen(err->message));
	_cleanup_free_ char *target = str_utf8_clean(err->target, strlen(err->target));
	json_t *error = json_pack("{s:s, s:s}", "code", known ? err->code : "InternalServerError",
		"message", known ? message : "Encountered internal server error.");

	if (known && target[0])
		json_object_set_new(error, "target", json_string(target));
	if (details)
		json_object_set_new(error, "details", details);
	return json_pack("{s:o}", "error", error);
}

int arm_err_not_found(struct err *err, const char *type, const char *name, const char *rg)
{
	return err_set(err, -ENOENT, "ResourceNotFound",
		"The Resource '%s/%s' under resource group '%s' was not found. For more details please go to "
		"https://aka.ms/ARMResourceNotFoundFix",
		type, name, rg);
}

int arm_err_group_not_found(struct err *err, const char *rg)
{
	return err_set(err, -ENOENT, "ResourceGroupNotFound",
		"Resource group '%s' could not be found.", rg);
}
