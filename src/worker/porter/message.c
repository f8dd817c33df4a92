#include "base/base.h"
#include "worker/porter/message.h"

#define TYPE_IXFR 251
#define TYPE_AXFR 252

static uint16_t field(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

/* Length bytes are below 64 and so untouched by lower(). */
static bool names_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (lower(a[i]) != lower(b[i]))
			return false;
	return true;
}

/* A question's name is the first one of its message: there is nothing that it could point back to,
 * so a compressed one is no honest one. */
static bool read_question(const uint8_t *data, size_t len, struct message_question *ret)
{
	size_t at = MESSAGE_HEADER;

	while (at < len && data[at] != 0) {
		if (data[at] > 63)
			return false;
		at += 1 + data[at];
		if (at - MESSAGE_HEADER >= MESSAGE_NAME_MAX)
			return false;
	}
	if (at >= len || len - at < 1 + 4)
		return false;
	ret->name = data + MESSAGE_HEADER;
	ret->name_len = at + 1 - MESSAGE_HEADER;
	ret->end = at + 1 + 4;
	return true;
}

enum message_kind message_read_query(const uint8_t *data, size_t len, struct message_question *ret)
{
	struct message_question question;
	uint16_t type;

	if (len < MESSAGE_HEADER || (data[2] & 0x80) || field(data + 4) != 1 ||
		!read_question(data, len, &question))
		return MESSAGE_DROP;
	*ret = question;
	type = field(data + question.end - 4);
	if ((data[2] & 0x78) || field(data + 6) || field(data + 8) || type == TYPE_AXFR ||
		type == TYPE_IXFR)
		return MESSAGE_REFUSED;
	return MESSAGE_QUERY;
}

bool message_is_answer(const uint8_t *query, const struct message_question *question,
	const uint8_t *data, size_t len, uint16_t id)
{
	struct message_question theirs;

	return len >= MESSAGE_HEADER && (data[2] & 0x80) && !(data[2] & 0x78) &&
	       message_id(data) == id && field(data + 4) == 1 &&
	       read_question(data, len, &theirs) && theirs.name_len == question->name_len &&
	       names_equal(theirs.name, question->name, question->name_len) &&
	       memcmp(data + theirs.end - 4, query + question->end - 4, 4) == 0;
}

int message_name(const char *text, uint8_t ret[MESSAGE_NAME_MAX])
{
	uint8_t name[MESSAGE_NAME_MAX];
	size_t at = 0;

	while (*text) {
		size_t n = strcspn(text, ".");

		if (n == 0 || n > 63 || at + n + 2 > sizeof(name))
			return -EINVAL;
		name[at++] = (uint8_t)n;
		memcpy(name + at, text, n);
		at += n;
		text += n;
		if (*text == '.')
			text++;
	}
	if (at == 0)
		return -EINVAL;
	name[at++] = 0;
	memcpy(ret, name, at);
	return (int)at;
}

bool message_name_under(const uint8_t *name, size_t len, const uint8_t *suffix, size_t suffix_len)
{
	while (len > suffix_len && *name) {
		size_t step = 1 + (size_t)*name;

		if (step >= len)
			return false;
		name += step;
		len -= step;
	}
	return len == suffix_len && names_equal(name, suffix, len);
}

uint16_t message_id(const uint8_t *data)
{
	return field(data);
}

void message_set_id(uint8_t *data, uint16_t id)
{
	data[0] = (uint8_t)(id >> 8);
	data[1] = (uint8_t)id;
}

size_t message_error(
	const uint8_t *query, const struct message_question *question, int rcode, uint8_t *ret)
{
	memcpy(ret, query, question->end);
	ret[2] = (uint8_t)(0x80 | (query[2] & 0x79)); /* opcode and RD as asked */
	ret[3] = (uint8_t)(0x80 | rcode);	      /* recursion is available */
	memset(ret + 4, 0, 8);
	ret[5] = 1;
	return question->end;
}
