#include <arpa/inet.h>
#include <ldns/ldns.h>
#include <stdio.h>

#include "base/time.h"
#include "control/dns/dns.h"

#define HEADER_BYTES 12

struct dns_zone {
	ldns_rdf *origin; /* <region>.<zone>. */
	size_t origin_labels;
	ldns_rr *soa, *ns;
	dns_lookup_fn lookup;
	void *arg;
};

static ldns_rr *rr_from(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static ldns_rr *rr_from(const char *fmt, ...)
{
	_cleanup_buf_ struct buf text = BUF_MAX(4096);
	ldns_rr *rr = NULL;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	if (text.full || ldns_rr_new_frm_str(&rr, buf_str(&text), 0, NULL, NULL) != LDNS_STATUS_OK)
		return NULL;
	return rr;
}

static bool name_valid(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n < 200 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == n;
}

int dns_zone_new(const struct dns_config *config, struct err *err, struct dns_zone **ret)
{
	struct dns_zone *zone;
	char origin[420];

	if (!name_valid(config->region) || !name_valid(config->zone))
		return err_set(err, -EINVAL, "InternalError", "bad DNS zone '%.64s.%.64s'",
			config->region, config->zone);
	snprintf(origin, sizeof(origin), "%s.%s.", config->region, config->zone);
	zone = xnew(struct dns_zone);
	zone->lookup = config->lookup;
	zone->arg = config->arg;
	zone->origin = ldns_dname_new_frm_str(origin);
	/* The name server's own name lies outside the zone, where no group's label can take it. The
	 * serial only has to grow: nobody transfers the zone. */
	zone->soa = rr_from("%s %d IN SOA ns.%s. hostmaster.%s. %u 3600 600 86400 %d", origin,
		DNS_TTL_SECONDS, config->zone, config->zone, (unsigned)(time_now_ms() / 1000),
		DNS_TTL_SECONDS);
	zone->ns = rr_from("%s %d IN NS ns.%s.", origin, DNS_TTL_SECONDS, config->zone);
	if (!zone->origin || !zone->soa || !zone->ns) {
		dns_zone_free(zone);
		return err_set(err, -EINVAL, "InternalError", "bad DNS zone '%.128s'", origin);
	}
	zone->origin_labels = ldns_dname_label_count(zone->origin);
	*ret = zone;
	return 0;
}

void dns_zone_free(struct dns_zone *zone)
{
	if (!zone)
		return;
	ldns_rdf_deep_free(zone->origin);
	ldns_rr_free(zone->soa);
	ldns_rr_free(zone->ns);
	free(zone);
}

/* One label of the wire form in lower case; false when it has a byte that no label of a group has.
 */
static bool copy_label(const uint8_t *data, size_t size, char ret[64])
{
	size_t n = size > 0 ? data[0] : 0;

	if (n == 0 || n > 63 || n + 1 > size)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = (char)data[1 + i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
			return false;
		ret[i] = c;
	}
	ret[n] = '\0';
	return true;
}

/* What stands before the zone's origin: "web", or "web.SCOPE" with a scope's label. */
static bool own_labels(const struct dns_zone *zone, const ldns_rdf *name, char ret[DNS_LABEL_MAX])
{
	const uint8_t *data = ldns_rdf_data(name);
	size_t size = ldns_rdf_size(name), count = ldns_dname_label_count(name);
	char first[64], second[64];

	if (!copy_label(data, size, first))
		return false;
	if (count == zone->origin_labels + 1)
		return str_copy(ret, DNS_LABEL_MAX, first) == 0;
	if (count != zone->origin_labels + 2 ||
		!copy_label(data + 1 + data[0], size - 1 - data[0], second))
		return false;
	snprintf(ret, DNS_LABEL_MAX, "%s.%s", first, second);
	return true;
}

static void push(ldns_pkt *answer, ldns_pkt_section section, const ldns_rr *rr)
{
	ldns_pkt_push_rr(answer, section, ldns_rr_clone(rr));
}

/* Owner as it was asked for: resolvers check the case of letters (0x20). */
static int push_address(ldns_pkt *answer, const ldns_rdf *owner, const char *ip)
{
	ldns_rdf *address = ldns_rdf_new_frm_str(LDNS_RDF_TYPE_A, ip);
	ldns_rr *rr;

	if (!address)
		return -EINVAL;
	rr = ldns_rr_new();
	ldns_rr_set_owner(rr, ldns_rdf_clone(owner));
	ldns_rr_set_type(rr, LDNS_RR_TYPE_A);
	ldns_rr_set_class(rr, LDNS_RR_CLASS_IN);
	ldns_rr_set_ttl(rr, DNS_TTL_SECONDS);
	ldns_rr_push_rdf(rr, address);
	ldns_pkt_push_rr(answer, LDNS_SECTION_ANSWER, rr);
	return 0;
}

static ldns_pkt_rcode answer_origin(
	const struct dns_zone *zone, ldns_rr_type type, ldns_pkt *answer)
{
	if (type == LDNS_RR_TYPE_SOA)
		push(answer, LDNS_SECTION_ANSWER, zone->soa);
	else if (type == LDNS_RR_TYPE_NS)
		push(answer, LDNS_SECTION_ANSWER, zone->ns);
	else
		push(answer, LDNS_SECTION_AUTHORITY, zone->soa);
	return LDNS_RCODE_NOERROR;
}

static ldns_pkt_rcode answer_label(
	const struct dns_zone *zone, const ldns_rdf *name, ldns_rr_type type, ldns_pkt *answer)
{
	char label[DNS_LABEL_MAX], ip[16] = "";
	int r = -ENOENT;

	if (own_labels(zone, name, label))
		r = zone->lookup(label, ip, zone->arg);
	if (r < 0 && r != -ENOENT)
		return LDNS_RCODE_SERVFAIL;
	if (r == 0 && ip[0] && type == LDNS_RR_TYPE_A)
		return push_address(answer, name, ip) < 0 ? LDNS_RCODE_SERVFAIL
							  : LDNS_RCODE_NOERROR;
	push(answer, LDNS_SECTION_AUTHORITY, zone->soa);
	return r == 0 ? LDNS_RCODE_NOERROR : LDNS_RCODE_NXDOMAIN;
}

static ldns_pkt_rcode answer_question(
	const struct dns_zone *zone, const ldns_rr *question, ldns_pkt *answer)
{
	const ldns_rdf *name = ldns_rr_owner(question);
	ldns_rr_type type = ldns_rr_get_type(question);
	bool origin = ldns_dname_compare(name, zone->origin) == 0;

	if (ldns_rr_get_class(question) != LDNS_RR_CLASS_IN || type == LDNS_RR_TYPE_ANY ||
		type == LDNS_RR_TYPE_AXFR || type == LDNS_RR_TYPE_IXFR)
		return LDNS_RCODE_REFUSED;
	if (!origin && !ldns_dname_is_subdomain(name, zone->origin))
		return LDNS_RCODE_REFUSED;
	ldns_pkt_set_aa(answer, true);
	return origin ? answer_origin(zone, type, answer) : answer_label(zone, name, type, answer);
}

/* Only the header, for what can't be read or may not be answered with more. */
static size_t answer_header(const uint8_t *query, ldns_pkt_rcode rcode, uint8_t *answer)
{
	memset(answer, 0, HEADER_BYTES);
	memcpy(answer, query, 2);
	answer[2] = (uint8_t)(0x80 | (query[2] & 0x79)); /* QR; opcode and RD as asked */
	answer[3] = (uint8_t)rcode;
	return HEADER_BYTES;
}

static uint16_t field(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* One question and at most an OPT and one more record behind it, before any of it is parsed. */
static bool counts_plausible(const uint8_t *query)
{
	return field(query + 4) == 1 && field(query + 6) == 0 && field(query + 8) == 0 &&
	       field(query + 10) <= 2;
}

static size_t to_wire(const ldns_pkt *pkt, size_t limit, uint8_t *ret)
{
	uint8_t *wire = NULL;
	size_t n = 0;

	if (ldns_pkt2wire(&wire, pkt, &n) != LDNS_STATUS_OK)
		n = 0;
	if (n > 0 && n <= limit)
		memcpy(ret, wire, n);
	free(wire);
	return n;
}

/* The same without records: the asker comes back over TCP. */
static size_t to_wire_truncated(ldns_pkt *pkt, size_t limit, uint8_t *ret)
{
	ldns_rr_list_deep_free(ldns_pkt_answer(pkt));
	ldns_pkt_set_answer(pkt, ldns_rr_list_new());
	ldns_rr_list_deep_free(ldns_pkt_authority(pkt));
	ldns_pkt_set_authority(pkt, ldns_rr_list_new());
	ldns_pkt_set_ancount(pkt, 0);
	ldns_pkt_set_nscount(pkt, 0);
	ldns_pkt_set_tc(pkt, true);
	return to_wire(pkt, limit, ret);
}

static ldns_pkt *answer_packet(const struct dns_zone *zone, const ldns_pkt *query)
{
	const ldns_rr *question = ldns_rr_list_rr(ldns_pkt_question(query), 0);
	ldns_pkt *answer = ldns_pkt_new();
	ldns_pkt_rcode rcode;

	ldns_pkt_set_id(answer, ldns_pkt_id(query));
	ldns_pkt_set_qr(answer, true);
	ldns_pkt_set_rd(answer, ldns_pkt_rd(query));
	push(answer, LDNS_SECTION_QUESTION, question);
	if (ldns_pkt_edns(query))
		ldns_pkt_set_edns_udp_size(answer, DNS_UDP_MAX);
	if (ldns_pkt_edns(query) && ldns_pkt_edns_version(query) > 0) {
		ldns_pkt_set_edns_extended_rcode(answer, 1); /* BADVERS, with a rcode of 0 */
		return answer;
	}
	rcode = answer_question(zone, question, answer);
	ldns_pkt_set_rcode(answer, (uint8_t)rcode);
	return answer;
}

size_t dns_answer(struct dns_zone *zone, const uint8_t *query, size_t len, bool udp,
	uint8_t *answer, size_t size)
{
	ldns_pkt *pkt = NULL, *reply;
	size_t limit = size, n;

	assert(size >= 512);
	/* Never answer an answer: two servers would talk for ever. */
	if (len < HEADER_BYTES || len > DNS_MESSAGE_MAX || (query[2] & 0x80))
		return 0;
	if (query[2] & 0x78)
		return answer_header(query, LDNS_RCODE_NOTIMPL, answer);
	if (!counts_plausible(query) || ldns_wire2pkt(&pkt, query, len) != LDNS_STATUS_OK)
		return answer_header(query, LDNS_RCODE_FORMERR, answer);
	if (ldns_rr_list_rr_count(ldns_pkt_question(pkt)) != 1) {
		ldns_pkt_free(pkt);
		return answer_header(query, LDNS_RCODE_FORMERR, answer);
	}
	if (udp)
		limit = ldns_pkt_edns(pkt) ? MIN(ldns_pkt_edns_udp_size(pkt), DNS_UDP_MAX) : 512;
	limit = MIN(MAX(limit, 512), size);
	reply = answer_packet(zone, pkt);
	n = to_wire(reply, limit, answer);
	if (n > limit)
		n = to_wire_truncated(reply, limit, answer);
	if (n == 0 || n > limit)
		n = answer_header(query, LDNS_RCODE_SERVFAIL, answer);
	ldns_pkt_free(reply);
	ldns_pkt_free(pkt);
	return n;
}
