/* Ports, the address and name servers. */
#include <arpa/inet.h>

#include "control/providers/containerinstance/validate.h"

#define ADDRESS_PORTS_MAX 5
#define NAME_SERVERS_MAX 3
#define DNS_WORDS_MAX 32

/* --- ports --- */

static bool is_udp(const json_t *port)
{
	return str_eq_nocase(json_get_str(port, "protocol", "TCP"), "UDP");
}

static bool same_port(const json_t *a, const json_t *b)
{
	return json_get_int(a, "port", 0) == json_get_int(b, "port", 0) && is_udp(a) == is_udp(b);
}

/* Whether one of the first n elements is the same port. */
static bool port_among(const json_t *ports, size_t n, const json_t *port)
{
	for (size_t i = 0; i < n; i++)
		if (same_port(json_array_get(ports, i), port))
			return true;
	return false;
}

bool ports_equal(const json_t *a, const json_t *b)
{
	const json_t *port;
	size_t i;

	if (json_array_size(a) != json_array_size(b))
		return false;
	json_array_foreach (a, i, port)
		if (!port_among(b, json_array_size(b), port))
			return false;
	return true;
}

/* All containers share one network, so that a port can belong to one of them only. */
static int check_container_ports(
	const json_t *containers, size_t i, const char *group, struct err *err)
{
	const json_t *container = json_array_get(containers, i);
	const json_t *ports = json_get_arr(properties_of(container), "ports");
	const char *name = json_get_str(container, "name", "");
	const json_t *port;
	size_t p;

	json_array_foreach (ports, p, port) {
		long long number = json_get_int(port, "port", 0);
		const char *protocol = is_udp(port) ? "UDP" : "TCP";
		int r = 0;

		if (port_among(ports, p, port))
			r = err_set(err, -EINVAL, "DuplicatePort",
				"The port '%lld' (%s) is there more than once in container '%s' of container group '%s'.",
				number, protocol, name, group);
		for (size_t j = 0; j < i && r == 0; j++) {
			const json_t *other = json_array_get(containers, j);
			const json_t *others = json_get_arr(properties_of(other), "ports");

			if (port_among(others, json_array_size(others), port))
				r = err_set(err, -EINVAL, "DuplicatePorts",
					"The port '%lld' (%s) is used by the containers '%s' and '%s' of container group "
					"'%s'. Containers of a group share one network: each port can belong to one of them.",
					number, protocol, json_get_str(other, "name", ""), name,
					group);
		}
		if (r < 0) {
			err_target(
				err, "properties.containers[%zu].properties.ports[%zu].port", i, p);
			return r;
		}
	}
	return 0;
}

static bool port_used(const json_t *containers, const json_t *port)
{
	const json_t *container;
	size_t i;

	json_array_foreach (containers, i, container) {
		const json_t *ports = json_get_arr(properties_of(container), "ports");

		if (port_among(ports, json_array_size(ports), port))
			return true;
	}
	return false;
}

static int check_address(const json_t *document, const char *group, struct err *err)
{
	const json_t *address = json_get_obj(properties_of(document), "ipAddress");
	const json_t *containers = json_get_arr(properties_of(document), "containers");
	const json_t *ports = json_get_arr(address, "ports"), *port;
	_cleanup_buf_ struct buf unused = BUF_INIT;
	size_t i;

	if (!address)
		return 0;
	if (str_eq(json_get_str(address, "type", ""), "Private"))
		return FAIL(err, "%s", "properties.ipAddress.type", "PrivateIPAddressNotSupported",
			"IP Address type in container group '%s' is invalid. Private IP address is only supported when "
			"network profile is defined.",
			group);
	if (json_array_size(ports) == 0)
		return FAIL(err, "%s", "properties.ipAddress.ports", "MissingIpAddressPorts",
			"The ports in the 'ipAddress' of container group '%s' cannot be empty.",
			group);
	if (json_array_size(ports) > ADDRESS_PORTS_MAX)
		return FAIL(err, "%s", "properties.ipAddress.ports", "TooManyPorts",
			"The 'ipAddress' of container group '%s' has %zu ports. At most %d are allowed.",
			group, json_array_size(ports), ADDRESS_PORTS_MAX);
	json_array_foreach (ports, i, port) {
		if (port_among(ports, i, port))
			return FAIL(err, "properties.ipAddress.ports[%zu].port", i, "DuplicatePort",
				"The port '%lld' (%s) is there more than once in the 'ipAddress' of container group '%s'.",
				(long long)json_get_int(port, "port", 0),
				is_udp(port) ? "UDP" : "TCP", group);
		if (!port_used(containers, port))
			buf_printf(&unused, "%s%lld", unused.len ? "," : "",
				(long long)json_get_int(port, "port", 0));
	}
	if (unused.len)
		return FAIL(err, "%s", "properties.ipAddress.ports", "PortsNotExposed",
			"Following ports '%s' in the 'ipAddress' are not used by any container in container group '%s'.",
			buf_str(&unused), group);
	return 0;
}

/* --- dnsConfig --- */

static bool is_address(const char *text)
{
	unsigned char address[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

static int name_servers_check(const json_t *servers, const char *group, struct err *err)
{
	const json_t *server;
	size_t i;

	if (json_array_size(servers) < 1 || json_array_size(servers) > NAME_SERVERS_MAX)
		return FAIL(err, "%s", "properties.dnsConfig.nameServers", "InvalidDnsConfig",
			"The 'dnsConfig' of container group '%s' has %zu name servers. Give 1 to %d.",
			group, json_array_size(servers), NAME_SERVERS_MAX);
	json_array_foreach (servers, i, server)
		if (!is_address(json_string_value(server)))
			return FAIL(err, "properties.dnsConfig.nameServers[%zu]", i,
				"InvalidDnsConfig",
				"The name server '%.80s' in the 'dnsConfig' of container group '%s' is invalid. Give an "
				"IPv4 or IPv6 address.",
				json_string_value(server), group);
	return 0;
}

/* Words of searchDomains or options, which the API has as one string. New reference. */
json_t *dns_words(const char *text)
{
	json_t *words = json_array();
	size_t n;

	for (text += strspn(text, " ,"); *text; text += strspn(text, " ,")) {
		n = strcspn(text, " ,");
		json_array_append_new(words, json_stringn_nocheck(text, n));
		text += n;
	}
	return words;
}

#define DOMAIN_LABEL "[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?"
#define DOMAIN_RULE DOMAIN_LABEL "(\\." DOMAIN_LABEL ")*\\.?"
#define DNS_OPTION_RULE "[a-z][-a-z0-9]*(:[0-9]+)?"

static int dns_words_check(const json_t *config, const char *key, const char *rule,
	const char *words, const char *group, struct err *err)
{
	_cleanup_json_ json_t *list = dns_words(json_get_str(config, key, ""));
	const json_t *word;
	size_t i;

	if (json_array_size(list) > DNS_WORDS_MAX)
		return FAIL(err, "properties.dnsConfig.%s", key, "InvalidDnsConfig",
			"The '%s' in the 'dnsConfig' of container group '%s' has %zu words. At most %d are allowed.",
			key, group, json_array_size(list), DNS_WORDS_MAX);
	json_array_foreach (list, i, word)
		if (json_string_length(word) > 253 ||
			!schema_matches(rule, json_string_value(word)))
			return FAIL(err, "properties.dnsConfig.%s", key, "InvalidDnsConfig",
				"The word '%.80s' in '%s' of the 'dnsConfig' of container group '%s' is invalid. Give %s.",
				json_string_value(word), key, group, words);
	return 0;
}

static int dns_check(const json_t *document, const char *group, struct err *err)
{
	const json_t *config = json_get_obj(properties_of(document), "dnsConfig");
	int r;

	if (!config)
		return 0;
	r = name_servers_check(json_get_arr(config, "nameServers"), group, err);
	if (r == 0)
		r = dns_words_check(config, "searchDomains", DOMAIN_RULE,
			"names of domains with blanks or commas between them", group, err);
	if (r == 0)
		r = dns_words_check(config, "options", DNS_OPTION_RULE,
			"options of resolv.conf(5) with blanks between them, such as 'ndots:2'",
			group, err);
	return r;
}

int network_check(const json_t *document, const char *group, struct err *err)
{
	const json_t *containers = json_get_arr(properties_of(document), "containers");
	int r = 0;

	for (size_t i = 0; i < json_array_size(containers) && r == 0; i++)
		r = check_container_ports(containers, i, group, err);
	if (r == 0)
		r = check_address(document, group, err);
	if (r == 0)
		r = dns_check(document, group, err);
	return r;
}
