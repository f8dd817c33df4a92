/* Requests from the HTTP server. In a file of its own, so that tests link without one. */
#include "control/arm/internal.h"

static const struct http_request *request(void *exchange)
{
	return http_exchange_request(exchange);
}

static const char *header(void *exchange, const char *name)
{
	return http_exchange_header(exchange, name);
}

static void respond(void *exchange, const struct http_response *response)
{
	http_exchange_respond(exchange, response);
}

void arm_handle(struct http_exchange *exchange, void *arg)
{
	static const struct arm_transport transport = {request, header, respond};

	arm_accept(arg, &transport, exchange);
}
