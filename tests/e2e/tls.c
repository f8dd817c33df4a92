/* An HTTPS server with a certificate of its own making: answers every request on port 443 with 200.
 */
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <unistd.h>

static void make_certificate(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_sign(cert, key, EVP_sha256());
	SSL_CTX_use_certificate(ctx, cert);
	SSL_CTX_use_PrivateKey(ctx, key);
}

int main(void)
{
	static const char text[] =
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(443)};
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	make_certificate(ctx);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0)
		return 1;
	for (;;) {
		int peer = accept(fd, NULL, NULL);
		SSL *tls = SSL_new(ctx);
		char in[4096];

		SSL_set_fd(tls, peer);
		if (SSL_accept(tls) == 1 && SSL_read(tls, in, sizeof(in)) > 0)
			SSL_write(tls, text, sizeof(text) - 1);
		SSL_shutdown(tls);
		SSL_free(tls);
		close(peer);
	}
}
