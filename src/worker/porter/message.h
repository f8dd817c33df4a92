/*
 * The little that a forwarder must know of a DNS message: its header and its one question (RFC 1035
 * §4.1). The rest is passed on as it is and never looked at.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_HEADER 12
#define MESSAGE_NAME_MAX 255

enum message_kind {
	MESSAGE_QUERY,	 /* to be forwarded */
	MESSAGE_REFUSED, /* well-formed, but a zone transfer or not a question at all */
	MESSAGE_DROP,	 /* not worth an answer */
};

struct message_question {
	const uint8_t *name; /* in the message, labels without compression */
	size_t name_len;     /* with the root's zero byte */
	size_t end;	     /* offset of what comes after the question */
};

enum message_kind message_read_query(const uint8_t *data, size_t len, struct message_question *ret);

/* Whether data is the answer to the question that query asked under id. */
bool message_is_answer(const uint8_t *query, const struct message_question *question,
	const uint8_t *data, size_t len, uint16_t id);

/* "local.berth.internal" as a name in a message; its length or -EINVAL. */
int message_name(const char *text, uint8_t ret[MESSAGE_NAME_MAX]);
/* Whether the name is the suffix or below it. Case doesn't matter. */
bool message_name_under(const uint8_t *name, size_t len, const uint8_t *suffix, size_t suffix_len);

uint16_t message_id(const uint8_t *data);
void message_set_id(uint8_t *data, uint16_t id);

/* Header and question with QR and a response code; ret has room for question->end bytes. Returns
 * that length. */
size_t message_error(
	const uint8_t *query, const struct message_question *question, int rcode, uint8_t *ret);
