#include <arpa/inet.h>
#include <ldns/ldns.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/time.h"
#include "control/dns/dns_store.h"

static struct store *store;
static struct dns_store source;
static struct loop *loop;
static struct dns *dns;

static void put(const char *key, const char *value)
{
	struct err err = {0};

	assert_int_equal(store_put(store, key, value, strlen(value), STORE_ANY, &err, NULL), 0);
}

static int setup(void **state)
{
	struct dns_config config = {.listen = "127.0.0.1:0",
		.region = "local",
		.zone = "berth.internal",
		.lookup = dns_store_lookup,
		.arg = &source};
	struct err err = {0};

	store = store_open_memory();
	source = (struct dns_store){.store = store, .region = "local"};
	loop = loop_new();
	put("label/local/web", "{\"uid\":\"u\",\"ip\":\"100.64.0.5\",\"id\":\"/x\"}");
	put("label/local/early", "{\"uid\":\"u\",\"id\":\"/x\"}");
	put("label/local/broken", "{");
	put("label/local/web.0123456789abcdef", "{\"ip\":\"100.64.0.7\"}");
	put("label/elsewhere/far", "{\"ip\":\"100.64.0.6\"}");
	assert_int_equal(dns_new(loop, &config, &err, &dns), 0);
	return 0;
}

static int teardown(void **state)
{
	dns_free(dns);
	loop_free(loop);
	store_free(store);
	return 0;
}

static int client(int type)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons(dns_port(dns)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* Runs the loop until there is something to read. */
static ssize_t read_answer(int fd, void *data, size_t size)
{
	int64_t end = time_mono_ms() + 2000;

	while (time_mono_ms() < end) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		loop_once(loop, 5);
		if (poll(&p, 1, 0) == 1)
			return recv(fd, data, size, 0);
	}
	return -ETIMEDOUT;
}

static size_t make_query(
	const char *name, ldns_rr_type type, uint16_t edns_size, uint8_t version, uint8_t *ret)
{
	ldns_pkt *pkt =
		ldns_pkt_query_new(ldns_dname_new_frm_str(name), type, LDNS_RR_CLASS_IN, LDNS_RD);
	uint8_t *wire;
	size_t n;

	ldns_pkt_set_id(pkt, 4711);
	if (edns_size > 0) {
		ldns_pkt_set_edns_udp_size(pkt, edns_size);
		ldns_pkt_set_edns_version(pkt, version);
	}
	assert_int_equal(ldns_pkt2wire(&wire, pkt, &n), LDNS_STATUS_OK);
	memcpy(ret, wire, n);
	free(wire);
	ldns_pkt_free(pkt);
	return n;
}

static ldns_pkt *ask_wire(int type, const uint8_t *query, size_t len)
{
	_cleanup_fd_ int fd = client(type);
	uint8_t data[2 + 4096];
	size_t skip = type == SOCK_STREAM ? 2 : 0;
	ldns_pkt *pkt = NULL;
	ssize_t n;

	data[0] = (uint8_t)(len >> 8);
	data[1] = (uint8_t)len;
	memcpy(data + skip, query, len);
	assert_int_equal(send(fd, data, skip + len, 0), skip + len);
	n = read_answer(fd, data, sizeof(data));
	assert_true(n > (ssize_t)skip);
	assert_int_equal(ldns_wire2pkt(&pkt, data + skip, (size_t)n - skip), LDNS_STATUS_OK);
	assert_int_equal(ldns_pkt_id(pkt), (query[0] << 8) | query[1]);
	assert_true(ldns_pkt_qr(pkt));
	return pkt;
}

static ldns_pkt *ask(int type, const char *name, ldns_rr_type rr_type)
{
	uint8_t query[512];
	size_t n = make_query(name, rr_type, 0, 0, query);

	return ask_wire(type, query, n);
}

static void questions_get_their_answers(void **state)
{
	static const struct {
		const char *name;
		ldns_rr_type type;
		ldns_pkt_rcode rcode;
		size_t answers, authority;
		bool aa;
	} table[] = {
		{"web.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NOERROR, 1, 0, true},
		{"wEb.LOCAL.Berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NOERROR, 1, 0, true},
		{"web.local.berth.internal.", LDNS_RR_TYPE_AAAA, LDNS_RCODE_NOERROR, 0, 1, true},
		{"early.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NOERROR, 0, 1, true},
		{"none.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NXDOMAIN, 0, 1, true},
		{"far.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NXDOMAIN, 0, 1, true},
		{"a.web.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NXDOMAIN, 0, 1, true},
		{"Web.0123456789ABCDEF.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NOERROR,
			1, 0, true},
		{"0123456789abcdef.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NOERROR, 0, 1,
			true},
		{"far.0123456789abcdef.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NXDOMAIN,
			0, 1, true},
		{"a.web.0123456789abcdef.local.berth.internal.", LDNS_RR_TYPE_A,
			LDNS_RCODE_NXDOMAIN, 0, 1, true},
		{"\\000.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NXDOMAIN, 0, 1, true},
		{"web\\..local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NXDOMAIN, 0, 1, true},
		{"a/web.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NXDOMAIN, 0, 1, true},
		{"web\\.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_REFUSED, 0, 0, false},
		{"broken.local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_SERVFAIL, 0, 0, true},
		{"local.berth.internal.", LDNS_RR_TYPE_SOA, LDNS_RCODE_NOERROR, 1, 0, true},
		{"local.berth.internal.", LDNS_RR_TYPE_NS, LDNS_RCODE_NOERROR, 1, 0, true},
		{"local.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_NOERROR, 0, 1, true},
		{"web.local.berth.internal.", LDNS_RR_TYPE_ANY, LDNS_RCODE_REFUSED, 0, 0, false},
		{"local.berth.internal.", LDNS_RR_TYPE_AXFR, LDNS_RCODE_REFUSED, 0, 0, false},
		{"far.elsewhere.berth.internal.", LDNS_RR_TYPE_A, LDNS_RCODE_REFUSED, 0, 0, false},
		{"berth.internal.", LDNS_RR_TYPE_SOA, LDNS_RCODE_REFUSED, 0, 0, false},
		{"example.com.", LDNS_RR_TYPE_A, LDNS_RCODE_REFUSED, 0, 0, false},
		{".", LDNS_RR_TYPE_NS, LDNS_RCODE_REFUSED, 0, 0, false},
	};
	static const int types[] = {SOCK_DGRAM, SOCK_STREAM};

	for (size_t i = 0; i < ARRAY_SIZE(table) * 2; i++) {
		size_t row = i / 2;
		ldns_pkt *pkt;

		pkt = ask(types[i % 2], table[row].name, table[row].type);
		if (ldns_pkt_get_rcode(pkt) != table[row].rcode)
			fail_msg("%s: rcode %d", table[row].name, (int)ldns_pkt_get_rcode(pkt));
		assert_int_equal(ldns_pkt_ancount(pkt), table[row].answers);
		assert_int_equal(ldns_pkt_nscount(pkt), table[row].authority);
		assert_int_equal(ldns_pkt_aa(pkt), table[row].aa);
		assert_true(ldns_pkt_rd(pkt));
		assert_false(ldns_pkt_ra(pkt));
		ldns_pkt_free(pkt);
	}
}

static void the_case_of_the_question_comes_back(void **state)
{
	ldns_pkt *pkt = ask(SOCK_DGRAM, "wEB.lOcal.berTH.internal.", LDNS_RR_TYPE_A);
	_cleanup_free_ char *question =
		ldns_rdf2str(ldns_rr_owner(ldns_rr_list_rr(ldns_pkt_question(pkt), 0)));
	const ldns_rr *rr = ldns_rr_list_rr(ldns_pkt_answer(pkt), 0);
	_cleanup_free_ char *owner = ldns_rdf2str(ldns_rr_owner(rr));
	_cleanup_free_ char *ip = ldns_rdf2str(ldns_rr_rdf(rr, 0));

	assert_string_equal(question, "wEB.lOcal.berTH.internal.");
	assert_string_equal(owner, "wEB.lOcal.berTH.internal.");
	assert_string_equal(ip, "100.64.0.5");
	assert_int_equal(ldns_rr_ttl(rr), DNS_TTL_SECONDS);
	ldns_pkt_free(pkt);
}

static void a_change_is_seen_at_once(void **state)
{
	for (int i = 0; i < 20; i++) {
		char value[64];
		ldns_pkt *pkt;

		snprintf(value, sizeof(value), "{\"ip\":\"100.64.1.%d\"}", i);
		put("label/local/moving", value);
		pkt = ask(SOCK_DGRAM, "moving.local.berth.internal.", LDNS_RR_TYPE_A);
		{
			_cleanup_free_ char *ip = ldns_rdf2str(
				ldns_rr_rdf(ldns_rr_list_rr(ldns_pkt_answer(pkt), 0), 0));

			assert_non_null(strstr(value, ip));
		}
		ldns_pkt_free(pkt);
		assert_int_equal(store_delete(store, "label/local/moving", STORE_ANY, NULL), 0);
		pkt = ask(SOCK_DGRAM, "moving.local.berth.internal.", LDNS_RR_TYPE_A);
		assert_int_equal(ldns_pkt_get_rcode(pkt), LDNS_RCODE_NXDOMAIN);
		ldns_pkt_free(pkt);
	}
}

static void edns_is_spoken(void **state)
{
	uint8_t query[512];
	size_t n = make_query("web.local.berth.internal.", LDNS_RR_TYPE_A, 4096, 0, query);
	ldns_pkt *pkt = ask_wire(SOCK_DGRAM, query, n);

	assert_true(ldns_pkt_edns(pkt));
	assert_int_equal(ldns_pkt_edns_udp_size(pkt), DNS_UDP_MAX);
	assert_int_equal(ldns_pkt_ancount(pkt), 1);
	ldns_pkt_free(pkt);

	n = make_query("web.local.berth.internal.", LDNS_RR_TYPE_A, 4096, 1, query);
	pkt = ask_wire(SOCK_DGRAM, query, n);
	assert_int_equal(ldns_pkt_edns_extended_rcode(pkt), 1);
	assert_int_equal(ldns_pkt_ancount(pkt), 0);
	ldns_pkt_free(pkt);
}

static void what_is_not_a_query_is_refused_or_dropped(void **state)
{
	uint8_t query[512], answer[512];
	size_t n = make_query("web.local.berth.internal.", LDNS_RR_TYPE_A, 0, 0, query);
	_cleanup_fd_ int fd = client(SOCK_DGRAM);
	ldns_pkt *pkt;

	query[2] |= 0x80; /* an answer */
	assert_int_equal(send(fd, query, n, 0), n);
	assert_int_equal(send(fd, query, 5, 0), 5);
	query[2] = 0x28; /* UPDATE */
	pkt = ask_wire(SOCK_DGRAM, query, n);
	assert_int_equal(ldns_pkt_get_rcode(pkt), LDNS_RCODE_NOTIMPL);
	ldns_pkt_free(pkt);
	query[2] = 0;
	pkt = ask_wire(SOCK_DGRAM, query, n - 3);
	assert_int_equal(ldns_pkt_get_rcode(pkt), LDNS_RCODE_FORMERR);
	ldns_pkt_free(pkt);
	query[5] = 2; /* two questions */
	pkt = ask_wire(SOCK_DGRAM, query, n);
	assert_int_equal(ldns_pkt_get_rcode(pkt), LDNS_RCODE_FORMERR);
	ldns_pkt_free(pkt);
	assert_true(recv(fd, answer, sizeof(answer), MSG_DONTWAIT) < 0);
}

static void a_long_answer_is_truncated_over_udp_alone(void **state)
{
	char zone_name[200] = "", name[260];
	struct dns_config config = {.region = "local", .lookup = dns_store_lookup, .arg = &source};
	struct dns_zone *zone;
	uint8_t query[600], answer[4096];
	size_t n;

	for (int i = 0; i < 3; i++) {
		memset(zone_name + strlen(zone_name), 'a' + i, 60);
		zone_name[strlen(zone_name)] = i < 2 ? '.' : '\0';
	}
	config.zone = zone_name;
	assert_int_equal(dns_zone_new(&config, NULL, &zone), 0);
	snprintf(name, sizeof(name), "%.55s.local.%s.", zone_name, zone_name);
	n = make_query(name, LDNS_RR_TYPE_A, 0, 0, query);
	n = dns_answer(zone, query, n, true, answer, sizeof(answer));
	assert_true(n > 12 && n <= 512);
	assert_true(n < 500 || (answer[2] & 0x02));
	n = make_query(name, LDNS_RR_TYPE_A, 0, 0, query);
	n = dns_answer(zone, query, n, false, answer, sizeof(answer));
	assert_int_equal(answer[2] & 0x02, 0);
	dns_zone_free(zone);
}

static void one_connection_carries_many_questions(void **state)
{
	_cleanup_fd_ int fd = client(SOCK_STREAM);
	uint8_t query[512], data[4096];
	size_t n = make_query("web.local.berth.internal.", LDNS_RR_TYPE_A, 0, 0, query), got = 0;

	/* Ten in one piece, the last of them byte by byte. */
	for (int i = 0; i < 10; i++) {
		data[0] = (uint8_t)(n >> 8);
		data[1] = (uint8_t)n;
		memcpy(data + 2, query, n);
		for (size_t at = 0; at < n + 2; at += i == 9 ? 1 : n + 2) {
			assert_true(send(fd, data + at, i == 9 ? 1 : n + 2, 0) > 0);
			if (i == 9)
				loop_once(loop, 0);
		}
	}
	while (got < 10 * (2 + n + 16)) {
		ssize_t r = read_answer(fd, data, sizeof(data));

		assert_true(r > 0);
		got += (size_t)r;
	}
	/* A length that no query has ends it. */
	assert_int_equal(send(fd, "\xff\xff", 2, 0), 2);
	assert_int_equal(read_answer(fd, data, sizeof(data)), 0);
}

static void connections_are_bounded(void **state)
{
	int fds[140];
	uint8_t data[16];
	unsigned closed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = client(SOCK_STREAM);
		loop_once(loop, 5);
	}
	for (int i = 0; i < 20; i++)
		loop_once(loop, 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		ssize_t n = recv(fds[i], data, sizeof(data), MSG_DONTWAIT);

		closed += n == 0 || (n < 0 && errno == ECONNRESET);
		fd_close(fds[i]);
	}
	assert_int_equal(closed, ARRAY_SIZE(fds) - 128);
	for (int i = 0; i < 200; i++)
		loop_once(loop, 0);
	questions_get_their_answers(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(questions_get_their_answers),
		cmocka_unit_test(the_case_of_the_question_comes_back),
		cmocka_unit_test(a_change_is_seen_at_once),
		cmocka_unit_test(edns_is_spoken),
		cmocka_unit_test(what_is_not_a_query_is_refused_or_dropped),
		cmocka_unit_test(a_long_answer_is_truncated_over_udp_alone),
		cmocka_unit_test(one_connection_carries_many_questions),
		cmocka_unit_test(connections_are_bounded),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
