/*
 * berth-smb: a share of an SMB server as a file system, for azureFile volumes where the kernel has
 * no cifs. berth-node has opened /dev/fuse (descriptor 3) and mounted it; this process, which owns
 * nothing, serves it over libsmbclient until the mount is gone. One process a mount: the library is
 * not thread-safe, and a server that hangs harms the group that mounted it and no other.
 *
 * Copyright of this folder's source is Berth's and its licence Apache-2.0, as everywhere. The
 * program links libsmbclient, which is GPL-3.0-or-later, and so berth-smb as a whole, as a binary,
 * is distributed under the terms of GPL-3.0-or-later. That is why it is a program of its own, which
 * the others start and never link.
 *
 * One JSON object on standard input, since arguments and environment can be read by others:
 *   {"mode":"mount","host":"acc.file.core.windows.net","port":445,"share":"s","account":"acc",
 *    "key":"…","uid":1000,"gid":1000,"readOnly":false}
 * {"mode":"resolve","host":…,"port":…} only finds out which address answers, for the kernel's cifs.
 * One line on standard output, then it serves, or ends:
 *   {"step":"resolve"|"connect"|"login"|"","errno":0,"address":"192.0.2.1"}
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/json.h"
#include "base/time.h"
#include "worker/smb/fs.h"
#include "worker/smb/lockdown.h"

#define CONFIG_MAX 65536
#define FUSE_FD 3
#define CONNECT_MS 10000
#define REQUEST_MS 15000

static int read_config(json_t **ret, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_MAX(CONFIG_MAX);
	ssize_t n;
	int r;

	do
		n = buf_read(&text, STDIN_FILENO, CONFIG_MAX - text.len);
	while (n > 0 || n == -EINTR);
	if (n < 0)
		return err_errno(err, (int)n, "configuration");
	r = json_parse(buf_str(&text), text.len, JSON_DEPTH_MAX, err, ret);
	if (text.data)
		explicit_bzero(text.data, text.len);
	return r;
}

static void report(const char *step, int r, const char *address)
{
	_cleanup_json_ json_t *json = json_object();
	_cleanup_free_ char *text = NULL, *line = NULL;

	json_put_str(json, "step", step);
	json_object_set_new(json, "errno", json_integer(-r));
	json_put_str(json, "address", address);
	text = json_text(json);
	line = xasprintf("%s\n", text);
	if (fd_write_all(STDOUT_FILENO, line, strlen(line)) < 0)
		_exit(1); /* who started this is gone */
}

static int resolve(const char *host, uint16_t port, struct addrinfo **ret)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	char service[8];
	int r;

	snprintf(service, sizeof(service), "%u", port);
	r = getaddrinfo(host, service, &hints, ret);
	return r == 0 ? 0 : r == EAI_AGAIN ? -EAGAIN : r == EAI_SYSTEM ? -errno : -ENOENT;
}

static int try_address(const struct addrinfo *address, int64_t deadline_ms)
{
	_cleanup_fd_ int fd =
		socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
	int failure = 0;
	socklen_t len = sizeof(failure);

	if (fd < 0)
		return -errno;
	if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	if (poll(&poll_fd, 1, (int)MAX(deadline_ms - time_mono_ms(), 1)) <= 0)
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &len) < 0)
		return -errno;
	return -failure;
}

/* The address that takes connections; the library's own errors are less telling. */
static int find_server(const struct addrinfo *list, char *ret, size_t size)
{
	int64_t deadline_ms = time_mono_ms() + CONNECT_MS;
	int r = -ENOENT;

	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		r = try_address(a, deadline_ms);
		if (r == 0)
			return getnameinfo(a->ai_addr, a->ai_addrlen, ret, (socklen_t)size, NULL, 0,
				       NI_NUMERICHOST) == 0
				       ? 0
				       : -EINVAL;
	}
	return r;
}

static int serve(struct share *share, const json_t *config, const char *address)
{
	struct fs_config fs = {
		.fuse_fd = FUSE_FD,
		.uid = (uint32_t)json_get_int(config, "uid", 65534),
		.gid = (uint32_t)json_get_int(config, "gid", 65534),
		.read_only = json_get_bool(config, "readOnly", false),
	};
	int r = share_connect(share);

	alarm(0);
	report("login", r, address);
	return r < 0 ? 0 : fs_run(share, &fs);
}

/* What the library loads from disk is loaded before the lock-down: after it there is no new code.
 */
static int run(struct err *err)
{
	_cleanup_json_ json_t *config = NULL;
	char address[INET6_ADDRSTRLEN + 16] = "";
	struct addrinfo *list = NULL;
	struct share_config server;
	struct share *share = NULL;
	int r = read_config(&config, err);

	if (r < 0)
		return r;
	server = (struct share_config){.host = json_get_str(config, "host", ""),
		.port = (uint16_t)json_get_int(config, "port", 445),
		.share = json_get_str(config, "share", ""),
		.account = json_get_str(config, "account", ""),
		.key = json_get_str(config, "key", ""),
		.timeout_ms = REQUEST_MS};
	r = share_new(&server, &share);
	if (r < 0)
		return err_errno(err, r, "libsmbclient");
	r = resolve(server.host, server.port, &list);
	if (r < 0) {
		report("resolve", r, NULL);
		return 0;
	}
	r = lockdown();
	if (r < 0)
		return err_errno(err, r, "seccomp");
	r = find_server(list, address, sizeof(address));
	freeaddrinfo(list);
	if (r < 0 || str_eq(json_get_str(config, "mode", ""), "resolve")) {
		report("connect", r, address);
		return 0;
	}
	r = serve(share, config, address);
	return r < 0 ? err_errno(err, r, "serve") : 0;
}

int main(void)
{
	struct err err = {0};

	log_init("berth-smb", LOG_LEVEL_INFO);
	if (run(&err) < 0) {
		log_error("%s", err.message);
		_exit(1);
	}
	/* The library's own end may wait for the server. */
	_exit(0);
}
