/* The first byte says in which pieces the rest is fed: however a request is cut, the outcome is the
 * same. */
#include "http/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	enum request_state state;
	int status;
	size_t used;
	size_t body_len;
	size_t n_fields;
};

static struct outcome feed(const char *data, size_t size, size_t piece)
{
	struct request request;
	struct outcome outcome = {0};

	request_init(&request, 1024, 4096);
	for (size_t n; outcome.used < size; outcome.used += n) {
		size_t len = MIN(piece, size - outcome.used);

		n = request_feed(&request, data + outcome.used, len);
		assert(n <= len);
		if (request.state == REQUEST_DONE || request.state == REQUEST_FAILED) {
			outcome.used += n;
			break;
		}
		assert(n == len);
	}
	outcome.state = request.state;
	outcome.status = request.status;
	outcome.body_len = request.body.len;
	outcome.n_fields = request.n_fields;
	assert((request.state == REQUEST_FAILED) ==
		(request.status != 0 && request.reason != NULL));
	if (request.state == REQUEST_DONE) {
		assert(request.method[0] && request.path[0] && request.query);
		assert(request.body.len <= 4096);
		for (size_t i = 0; i < request.n_fields; i++)
			assert(request.fields[i].name[0] &&
				!strpbrk(request.fields[i].value, "\r\n"));
	}
	request_done(&request);
	return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, pieces;
	const char *text = (const char *)data + 1;

	if (size < 1)
		return 0;
	whole = feed(text, size - 1, size);
	pieces = feed(text, size - 1, (size_t)data[0] % 64 + 1);
	/* Of two faults, which one is seen first may depend on the pieces. */
	assert(whole.state == pieces.state);
	if (whole.state == REQUEST_DONE)
		assert(whole.used == pieces.used && whole.body_len == pieces.body_len &&
			whole.n_fields == pieces.n_fields);
	return 0;
}
