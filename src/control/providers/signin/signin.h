/*
 * signin: what a client needs before it has a token. The cloud's metadata (az cloud register), the
 * OpenID documents that MSAL reads, the signing keys, and the token endpoint with OAuth's
 * client_credentials grant (RFC 6749 §4.4). All anonymous, none with an api-version to check. Two
 * authorities are served alike: /adfs, whose name keeps MSAL from asking Microsoft about it, and
 * /<tenant id>, which newer SDKs use with instance discovery turned off.
 */
#pragma once

#include "control/arm/arm.h"

extern const struct arm_provider signin_provider;
