#include <stdio.h>

#include "base/json.h"
#include "control/dns/dns_store.h"

/* The label of a scope alone isn't any group's, but there may be names below it, so that it must
 * not be said not to exist (RFC 8020). */
static bool is_scope(const char *label)
{
	return strlen(label) == DNS_SCOPE_CHARS &&
	       strspn(label, "0123456789abcdef") == DNS_SCOPE_CHARS;
}

int dns_store_lookup(const char *label, char ret_ip[16], void *arg)
{
	const struct dns_store *source = arg;
	_cleanup_json_ json_t *value = NULL;
	struct store_entry entry = {0};
	char key[STORE_KEY_MAX];
	int r;

	if (snprintf(key, sizeof(key), "label/%s/%s", source->region, label) >= (int)sizeof(key))
		return -ENOENT;
	r = store_get(source->store, key, NULL, &entry);
	if (r == -ENOENT && is_scope(label))
		return str_copy(ret_ip, 16, "");
	if (r < 0)
		return r;
	r = json_parse(entry.value, entry.value_len, JSON_DEPTH_MAX, NULL, &value);
	store_entry_done(&entry);
	if (r < 0)
		return r;
	return str_copy(ret_ip, 16, json_get_str(value, "ip", ""));
}
