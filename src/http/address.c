#include "http/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static enum address_class class4(uint32_t a)
{
	static const struct {
		uint32_t net;
		unsigned bits;
		enum address_class class;
	} table[] = {
		{0x00000000, 8, ADDRESS_FORBIDDEN}, /* "this" network: the host itself */
		{0x0a000000, 8, ADDRESS_PRIVATE},
		{0x64400000, 10, ADDRESS_PRIVATE}, /* RFC 6598, where groups live */
		{0x7f000000, 8, ADDRESS_LOOPBACK},
		{0xa83f8110, 32, ADDRESS_FORBIDDEN}, /* 168.63.129.16, Azure's wire server */
		{0xa9fe0000, 16, ADDRESS_FORBIDDEN}, {0xac100000, 12, ADDRESS_PRIVATE},
		{0xc0000000, 24, ADDRESS_FORBIDDEN}, {0xc0a80000, 16, ADDRESS_PRIVATE},
		{0xc6120000, 15, ADDRESS_PRIVATE},  /* RFC 2544 benchmarking */
		{0xe0000000, 3, ADDRESS_FORBIDDEN}, /* multicast, reserved, broadcast */
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if ((a ^ table[i].net) >> (32 - table[i].bits) == 0)
			return table[i].class;
	return ADDRESS_PUBLIC;
}

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static enum address_class class6(const unsigned char a[16])
{
	static const unsigned char zero[16] = {0}, loopback[16] = {[15] = 1};
	static const unsigned char nat64[12] = {0x00, 0x64, 0xff, 0x9b};

	if (!memcmp(a, loopback, 16))
		return ADDRESS_LOOPBACK;
	/* Mapped, compatible, translated and 6to4 addresses are what the IPv4 address in them is.
	 */
	if (!memcmp(a, zero, 10) && a[10] == 0xff && a[11] == 0xff)
		return class4(be32(a + 12));
	if (!memcmp(a, zero, 12) || !memcmp(a, nat64, 12))
		return class4(be32(a + 12));
	if (a[0] == 0x20 && a[1] == 0x02)
		return class4(be32(a + 2));
	if (a[0] == 0xff || (a[0] == 0xfe && (a[1] & 0xc0) == 0x80))
		return ADDRESS_FORBIDDEN;
	if ((a[0] & 0xfe) == 0xfc || (a[0] == 0xfe && (a[1] & 0xc0) == 0xc0))
		return ADDRESS_PRIVATE;
	return ADDRESS_PUBLIC;
}

enum address_class address_class(const char *numeric)
{
	unsigned char raw[16];
	char text[64];

	if (str_copy(text, sizeof(text), numeric) < 0)
		return ADDRESS_FORBIDDEN;
	text[strcspn(text, "%")] = '\0';
	if (inet_pton(AF_INET, text, raw) == 1)
		return class4(be32(raw));
	if (inet_pton(AF_INET6, text, raw) == 1)
		return class6(raw);
	return ADDRESS_FORBIDDEN;
}
