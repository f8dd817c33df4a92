#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

#include "http/address.h"
#include "worker/clone/relay.h"

static bool is_allowed(const struct job *job, const struct addrinfo *info)
{
	char text[INET6_ADDRSTRLEN + 16];

	if (getnameinfo(info->ai_addr, info->ai_addrlen, text, sizeof(text), NULL, 0,
		    NI_NUMERICHOST) != 0)
		return false;
	switch (address_class(text)) {
	case ADDRESS_PUBLIC:
	case ADDRESS_PRIVATE:
		return true;
	case ADDRESS_LOOPBACK:
		return job->allow_loopback;
	case ADDRESS_FORBIDDEN:
		return false;
	}
	return false;
}

int addresses_find(const struct job *job, struct err *err, struct addresses *ret)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addresses found = {.n = 0};
	struct addrinfo *list = NULL;
	char port[8];
	int r;

	snprintf(port, sizeof(port), "%u", job->port);
	r = getaddrinfo(job->host, port, &hints, &list);
	if (r != 0)
		return err_set(err, -EHOSTUNREACH, "RepositoryUnreachable",
			"The host '%s' of the repository could not be resolved: %s.", job->host,
			gai_strerror(r));
	for (struct addrinfo *info = list; info && found.n < ADDRESSES_MAX; info = info->ai_next) {
		struct address *address = &found.list[found.n];

		if (info->ai_addrlen > sizeof(address->sockaddr) || !is_allowed(job, info))
			continue;
		memcpy(&address->sockaddr, info->ai_addr, info->ai_addrlen);
		address->len = info->ai_addrlen;
		found.n++;
	}
	freeaddrinfo(list);
	if (found.n == 0)
		return err_set(err, -EACCES, "RepositoryForbidden",
			"The host '%s' of the repository has only addresses that a repository may not have: those of the machine itself, and of its link.",
			job->host);
	*ret = found;
	return 0;
}
