#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/file.h"
#include "base/json.h"
#include "node/network/porter_start.h"

#define PORT 53
#define UPSTREAMS_MAX 3
#define PROGRAM_IN_CHILD "/proc/self/fd/7" /* 3 to 6 are the sockets */
#define RESOLV_CONF_MAX ((size_t)64 << 10)

char **porter_upstreams(const char *resolv_conf_text)
{
	char **list = xcalloc(UPSTREAMS_MAX + 1, sizeof(char *));
	_cleanup_free_ char *text = xstrdup(resolv_conf_text);
	char *rest = text, *line;
	size_t n = 0;

	while (n < UPSTREAMS_MAX && (line = strsep(&rest, "\n"))) {
		struct in6_addr address;
		char *word = line + strspn(line, " \t");

		if (!str_starts(word, "nameserver") || !strchr(" \t", word[10]) || !word[10])
			continue;
		word += 10;
		word += strspn(word, " \t");
		word[strcspn(word, " \t\r")] = '\0';
		if (inet_pton(AF_INET, word, &address) == 1)
			list[n++] = xasprintf("%s:%d", word, PORT);
		else if (inet_pton(AF_INET6, word, &address) == 1)
			list[n++] = xasprintf("[%s]:%d", word, PORT);
	}
	return list;
}

void porter_upstreams_free(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

DEFINE_CLEANUP(char **, porter_upstreams_free)

/* "1.2.3.4", "1.2.3.4:5353", "::1" or "[::1]:5353", with a port; NULL when it is none of these. */
static char *with_port(const char *text)
{
	bool bracket = text[0] == '[', v6 = bracket || strchr(text, ':') != strrchr(text, ':');
	const char *end = bracket ? strchr(text, ']') : v6 ? NULL : strchr(text, ':');
	_cleanup_free_ char *host =
		end ? xstrndup(text + bracket, (size_t)(end - text) - bracket) : xstrdup(text);
	const char *rest = end ? end + bracket : "";
	struct in6_addr address;
	uint64_t port = PORT;

	if (inet_pton(v6 ? AF_INET6 : AF_INET, host, &address) != 1)
		return NULL;
	if (rest[0] && (rest[0] != ':' || str_to_u64(rest + 1, 65535, &port) < 0 || port == 0))
		return NULL;
	return xasprintf(v6 ? "[%s]:%u" : "%s:%u", host, (unsigned)port);
}

int porter_upstreams_parse(const char *setting, struct err *err, char ***ret)
{
	_cleanup_(porter_upstreams_freep) char **list = xcalloc(UPSTREAMS_MAX + 1, sizeof(char *));
	_cleanup_free_ char *text = xstrdup(setting);
	char *rest = text, *word;
	size_t n = 0;

	while ((word = strsep(&rest, ", "))) {
		if (!word[0])
			continue;
		if (n == UPSTREAMS_MAX)
			return err_set(err, -EINVAL, "InvalidConfiguration",
				"The setting 'dns_upstreams' takes at most %d name servers.",
				UPSTREAMS_MAX);
		list[n] = with_port(word);
		if (!list[n++])
			return err_set(err, -EINVAL, "InvalidConfiguration",
				"The setting 'dns_upstreams' takes numeric addresses such as "
				"192.0.2.1,192.0.2.2:5353, and '%s' is none.",
				word);
	}
	*ret = take_ptr(list);
	return 0;
}

/* What the setting says, or else resolv.conf. */
static int choose_upstreams(const struct porter_config *config, struct err *err, char ***ret)
{
	const char *path = config->resolv_conf ? config->resolv_conf : "/etc/resolv.conf";
	_cleanup_free_ char *resolv_conf = NULL;

	if (config->upstreams && config->upstreams[0])
		return porter_upstreams_parse(config->upstreams, err, ret);
	if (file_read(AT_FDCWD, path, RESOLV_CONF_MAX, &resolv_conf, NULL) < 0)
		resolv_conf = xstrdup("");
	*ret = porter_upstreams(resolv_conf);
	return 0;
}

static int config_file(const struct porter_config *config, struct err *err)
{
	_cleanup_(porter_upstreams_freep) char **list = NULL;
	_cleanup_json_ json_t *json = json_object();
	_cleanup_free_ char *text = NULL;
	_cleanup_fd_ int fd = -EBADF;
	json_t *upstreams = json_array();
	int r = choose_upstreams(config, err, &list);

	for (size_t i = 0; r == 0 && list[i]; i++)
		json_array_append_new(upstreams, json_string(list[i]));
	json_object_set_new(json, "upstreams", upstreams);
	json_put_str(json, "zone_suffix", config->zone_suffix);
	json_put_str(json, "authority", config->authority);
	if (r < 0)
		return r;
	text = json_text(json);
	fd = memfd_create("porter-config", MFD_CLOEXEC);
	r = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	return r < 0 ? err_errno(err, r, "configuration of berth-porter") : take_fd(fd);
}

static int bind_port(const char *gateway, int type)
{
	_cleanup_fd_ int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int on = 1;

	if (fd < 0)
		return -errno;
	if (inet_pton(AF_INET, gateway, &address.sin_addr) != 1)
		return -EINVAL;
	/* Connections of the last porter may still be closing. Not for UDP, where two could then
	 * share the port. */
	if (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (type == SOCK_STREAM && listen(fd, 128) < 0)
		return -errno;
	return take_fd(fd);
}

/* In the child, before exec. Plain system calls: glibc's wrappers of these coordinate threads that
 * aren't there. */
static int become_nobody(void *arg)
{
	struct rlimit none = {0}, files;

	if (setrlimit(RLIMIT_CORE, &none) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
		return -errno;
	/* As many as questions may be under way, where the limit allows. */
	files.rlim_cur = files.rlim_max = MIN(files.rlim_max, 8192);
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		return -errno;
	if (syscall(SYS_setgroups, 0, NULL) < 0 ||
		syscall(SYS_setresgid, PORTER_UID, PORTER_UID, PORTER_UID) < 0 ||
		syscall(SYS_setresuid, PORTER_UID, PORTER_UID, PORTER_UID) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* Or its own /proc/self/fd would be closed to it, where the program is. */
	return prctl(PR_SET_DUMPABLE, 1) < 0 ? -errno : 0;
}

int porter_start(const struct porter_config *config, struct proc *ret, struct err *err)
{
	/* By descriptor: the way to the program may lead through folders that are open to root
	 * alone. */
	const char *const argv[] = {PROGRAM_IN_CHILD, NULL};
	_cleanup_fd_ int in = config_file(config, err);
	struct proc_spec spec = PROC_SPEC_INIT;
	int fds[5] = {-EBADF, -EBADF, -EBADF, -EBADF, -EBADF};
	int r = MIN(in, 0);

	if (r == 0) {
		fds[4] = open(config->program, O_PATH | O_CLOEXEC);
		if (fds[4] < 0)
			r = err_errno(err, -errno, "%s", config->program);
	}
	for (size_t i = 0; r == 0 && i < 4; i++) {
		const char *gateway = config->gateways[i % 2];

		fds[i] = bind_port(gateway, i < 2 ? SOCK_DGRAM : SOCK_STREAM);
		if (fds[i] < 0)
			r = err_errno(err, fds[i], "port %d of %s", PORT, gateway);
	}
	if (r == 0) {
		spec.argv = argv;
		spec.stdin_fd = in;
		spec.stderr_fd = config->stderr_fd;
		spec.fds = fds;
		spec.n_fds = ARRAY_SIZE(fds);
		spec.new_session = true;
		spec.die_with_parent = true;
		spec.setup = become_nobody;
		r = proc_spawn(&spec, err, ret);
		if (r < 0)
			err_wrap(err, "%s", config->program);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fd_close(fds[i]);
	return r;
}
