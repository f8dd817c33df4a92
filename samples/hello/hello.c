/*
 * The sample image's one program: a static web server that greets, logs each request, and ends at
 * once on SIGTERM.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_term(int number)
{
	(void)number;
	_exit(0);
}

static int listen_on(unsigned short port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 128) < 0)
		return -1;
	return fd;
}

static void answer(int fd, const char *host)
{
	struct timeval patience = {.tv_sec = 5};
	char request[4096], body[512], response[1024], peer[INET_ADDRSTRLEN] = "?";
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);
	ssize_t n;
	int size;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	n = read(fd, request, sizeof(request) - 1);
	if (n <= 0)
		return;
	request[n] = 0;
	request[strcspn(request, "\r\n")] = 0;
	if (getpeername(fd, (struct sockaddr *)&addr, &len) == 0)
		inet_ntop(AF_INET, &addr.sin_addr, peer, sizeof(peer));
	dprintf(STDOUT_FILENO, "%s %s\n", peer, request);
	size = snprintf(body, sizeof(body), "Hello from %s, a container group on Berth.\n", host);
	size = snprintf(response, sizeof(response),
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		size, body);
	if (write(fd, response, (size_t)size) < 0)
		dprintf(STDERR_FILENO, "the peer went away\n");
}

int main(void)
{
	struct sigaction term = {.sa_handler = on_term};
	const char *host = getenv("HOSTNAME");
	int fd;

	sigaction(SIGTERM, &term, NULL);
	fd = listen_on(80);
	if (fd < 0) {
		dprintf(STDERR_FILENO, "port 80 can't be listened on\n");
		return 1;
	}
	dprintf(STDOUT_FILENO, "listening on port 80\n");
	for (;;) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0)
			continue;
		answer(client, host ? host : "?");
		close(client);
	}
}
