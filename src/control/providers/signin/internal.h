#pragma once

#include "control/providers/signin/signin.h"

int signin_metadata(struct arm_request *request, struct arm_response *response, struct err *err);
int signin_openid(struct arm_request *request, struct arm_response *response, struct err *err);
int signin_openid_tenant(
	struct arm_request *request, struct arm_response *response, struct err *err);
int signin_keys(struct arm_request *request, struct arm_response *response, struct err *err);
int signin_token(struct arm_request *request, struct arm_response *response, struct err *err);

/* 0 when the {tenant} of the path, if it has one, is ours: its id, "adfs" or the zone; else
 * TenantNotFound. */
int signin_tenant_check(const struct arm_request *request, struct err *err);
