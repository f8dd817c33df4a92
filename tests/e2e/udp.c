/*
 * What busybox lacks, for test_network.py inside containers:
 *   udp serve PORT                      sends back what comes, with the sender's address before it
 *   udp ask ADDRESS PORT TEXT           prints the answer, or "no answer" after a second
 *   udp forge SOURCE ADDRESS PORT TEXT  sends a datagram with another source address (CAP_NET_RAW)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static struct sockaddr_in address_of(const char *host, const char *port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
		exit(2);
	return address;
}

static int fail(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	return 1;
}

static int serve(const char *port)
{
	struct sockaddr_in self = address_of("0.0.0.0", port), from;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	char text[512], answer[600];

	if (bind(fd, (struct sockaddr *)&self, sizeof(self)) < 0)
		return fail("bind");
	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, text, sizeof(text) - 1, 0, (struct sockaddr *)&from, &len);

		if (n < 0)
			return fail("recvfrom");
		text[n] = 0;
		n = snprintf(answer, sizeof(answer), "%s %s", inet_ntoa(from.sin_addr), text);
		sendto(fd, answer, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}

static int ask(const char *host, const char *port, const char *text)
{
	struct sockaddr_in to = address_of(host, port);
	struct timeval patience = {.tv_sec = 1};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	char answer[600];
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
		send(fd, text, strlen(text), 0) < 0)
		return fail("no answer");
	n = recv(fd, answer, sizeof(answer) - 1, 0);
	if (n < 0)
		return fail("no answer");
	answer[n] = 0;
	printf("%s\n", answer);
	return 0;
}

static int forge(const char *source, const char *host, const char *port, const char *text)
{
	struct sockaddr_in from = address_of(source, "9"), to = address_of(host, port);
	struct {
		struct iphdr ip;
		struct udphdr udp;
		char text[64];
	} packet = {0};
	size_t len = sizeof(packet.ip) + sizeof(packet.udp) + strlen(text);
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

	if (fd < 0)
		return fail("socket");
	packet.ip = (struct iphdr){.version = 4,
		.ihl = 5,
		.ttl = 64,
		.protocol = IPPROTO_UDP,
		.tot_len = htons((uint16_t)len),
		.saddr = from.sin_addr.s_addr,
		.daddr = to.sin_addr.s_addr};
	packet.udp.source = from.sin_port;
	packet.udp.dest = to.sin_port;
	packet.udp.len = htons((uint16_t)(sizeof(packet.udp) + strlen(text)));
	memcpy(packet.text, text, strlen(text) < sizeof(packet.text) ? strlen(text) : 0);
	to.sin_port = 0;
	if (sendto(fd, &packet, len, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return fail("sendto");
	printf("sent\n");
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve(argv[2]);
	if (argc == 5 && strcmp(argv[1], "ask") == 0)
		return ask(argv[2], argv[3], argv[4]);
	if (argc == 6 && strcmp(argv[1], "forge") == 0)
		return forge(argv[2], argv[3], argv[4], argv[5]);
	return 2;
}
