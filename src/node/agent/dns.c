/* A group's own name servers: its /etc/resolv.conf is made of them instead of the node's. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "node/agent/spec.h"

#define WORDS_MAX 32
#define WORD_BYTES_MAX 253

static bool is_address(const char *text)
{
	struct in6_addr address;

	return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1;
}

static bool is_word(const char *text)
{
	size_t n = strlen(text);

	return n > 0 && n <= WORD_BYTES_MAX &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:") ==
		       n;
}

static int check(
	const json_t *dns, const char *key, bool (*is_fine)(const char *text), struct err *err)
{
	const json_t *words = json_get_arr(dns, key), *word;
	size_t i;

	if (json_array_size(words) > WORDS_MAX)
		goto bad;
	json_array_foreach (words, i, word)
		if (!json_is_string(word) || !is_fine(json_string_value(word)))
			goto bad;
	return 0;
bad:
	return err_set(err, -EINVAL, "InvalidGroupSpec",
		"The group's specification has no valid 'dns.%s'.", key);
}

int spec_dns_check(const json_t *dns, struct err *err)
{
	int r = check(dns, "nameServers", is_address, err);

	if (r == 0)
		r = check(dns, "searchDomains", is_word, err);
	return r < 0 ? r : check(dns, "options", is_word, err);
}

static void add_line(struct buf *text, const char *name, const json_t *words)
{
	const json_t *word;
	size_t i;

	if (json_array_size(words) == 0)
		return;
	buf_adds(text, name);
	json_array_foreach (words, i, word)
		buf_printf(text, " %s", json_string_value(word));
	buf_addc(text, '\n');
}

char *spec_dns_text(const json_t *dns)
{
	struct buf text = BUF_INIT;
	const json_t *server;
	size_t i;

	add_line(&text, "search", json_get_arr(dns, "searchDomains"));
	json_array_foreach (json_get_arr(dns, "nameServers"), i, server)
		buf_printf(&text, "nameserver %s\n", json_string_value(server));
	add_line(&text, "options", json_get_arr(dns, "options"));
	return buf_take(&text);
}
