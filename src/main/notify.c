#include <sys/socket.h>
#include <sys/un.h>

#include "base/base.h"
#include "main/notify.h"

void notify_ready(void)
{
	static const char message[] = "READY=1";
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	_cleanup_fd_ int fd = -EBADF;
	socklen_t len;

	if (!path || str_copy(addr.sun_path, sizeof(addr.sun_path), path) < 0)
		return;
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (addr.sun_path[0] == '@')
		addr.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, message, sizeof(message) - 1, MSG_NOSIGNAL,
			      (struct sockaddr *)&addr, len) < 0)
		log_warn("READY=1 can't be sent to %s: %s", path, err_str(-errno));
	/* Children must not find it (crun would wait on it). */
	unsetenv("NOTIFY_SOCKET");
}
