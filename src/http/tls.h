/* The certificate authority of one Berth and the server certificate that it signs (X.509v3, ECDSA
 * P-256). */
#pragma once

#include "base/base.h"

/* Makes what is missing and renews a server certificate that ends within 30 days or lacks a name.
 * The CA lasts ten years (basicConstraints CA:TRUE critical, keyCertSign); the server certificate
 * 397 days, with a SAN for each of names (numeric addresses become IP, others DNS). Files are PEM;
 * ca_key and key are mode 0600, the certificates 0644. */
int tls_ensure(const char *ca_cert, const char *ca_key, const char *cert, const char *key,
	const char *const *names, size_t n_names, struct err *err);
