/* What the forwarder looks at in a message: as a question of a tenant, and as an answer to one. */
#include "base/base.h"
#include "worker/porter/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct message_question question;
	uint8_t suffix[MESSAGE_NAME_MAX], answer[4096];
	int suffix_len = message_name("local.berth.internal", suffix);
	size_t n;

	if (size > sizeof(answer) || message_read_query(data, size, &question) == MESSAGE_DROP)
		return 0;
	assert(question.end <= size && question.name_len <= MESSAGE_NAME_MAX);
	message_name_under(question.name, question.name_len, suffix, (size_t)suffix_len);
	assert(message_name_under(
		question.name, question.name_len, question.name, question.name_len));
	n = message_error(data, &question, 2, answer);
	assert(n == question.end);
	/* An answer of ours is an answer to the question, and no shorter piece of it is. */
	answer[2] &= 0x87;
	assert(message_is_answer(data, &question, answer, n, message_id(data)));
	for (size_t i = 0; i < n; i++)
		assert(!message_is_answer(data, &question, answer, i, message_id(data)));
	return 0;
}
