#include "worker/pull/reference.h"

#include <stdio.h>

#include "worker/pull/digest.h"

enum {
	TEXT_MAX = 1024,
	NAME_MAX_LEN = 255, /* domain and path, distribution's RepositoryNameTotalLengthMax */
	TAG_MAX = 128,
};

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static bool in_set(char c, const char *set)
{
	return c && strchr(set, c);
}

static int refuse(struct err *err, const char *text, const char *why)
{
	char shown[201];
	size_t n = 0;

	for (; text[n] && n < sizeof(shown) - 1; n++)
		shown[n] = text[n] >= 0x20 && text[n] < 0x7f ? text[n] : '?';
	shown[n] = '\0';
	return err_set(err, -EINVAL, "InvalidImageReference",
		"The image reference '%s' is not valid: %s", shown, why);
}

/* path-component: alphanumerics joined by one '.', one or two '_', or any number of '-'. */
static bool component_is_valid(const char *s, size_t len)
{
	size_t i = 0;

	if (!len)
		return false;
	for (;;) {
		size_t start = i, separators;

		while (i < len && in_set(s[i], LOWER DIGITS))
			i++;
		if (i == start)
			return false;
		if (i == len)
			return true;
		start = i;
		if (s[i] == '-') {
			while (i < len && s[i] == '-')
				i++;
			continue;
		}
		if (s[i] != '.' && s[i] != '_')
			return false;
		while (i < len && s[i] == s[start])
			i++;
		separators = i - start;
		if (separators > (s[start] == '_' ? 2u : 1u))
			return false;
	}
}

static bool path_is_valid(const char *path)
{
	for (;;) {
		size_t len = strcspn(path, "/");

		if (!component_is_valid(path, len))
			return false;
		if (!path[len])
			return true;
		path += len + 1;
	}
}

static bool port_is_valid(const char *s)
{
	uint64_t port;

	return strlen(s) <= 5 && str_to_u64(s, 65535, &port) == 0 && port > 0;
}

static bool label_is_valid(const char *s, size_t len)
{
	if (!len || len > 63 || s[0] == '-' || s[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!in_set(s[i], LOWER DIGITS "-"))
			return false;
	return true;
}

/* domain: labels joined by dots, or an IPv6 address in brackets; a port may follow. Already in
 * lower case. */
static bool domain_is_valid(const char *domain)
{
	size_t len;

	if (domain[0] == '[') {
		const char *end = strchr(domain, ']');

		if (!end || end - domain < 3 ||
			strspn(domain + 1, DIGITS "abcdef:.") != (size_t)(end - domain - 1))
			return false;
		return !end[1] || (end[1] == ':' && port_is_valid(end + 2));
	}
	for (;;) {
		len = strcspn(domain, ".:");
		if (!label_is_valid(domain, len))
			return false;
		if (domain[len] != '.')
			break;
		domain += len + 1;
	}
	return !domain[len] || port_is_valid(domain + len + 1);
}

static bool tag_is_valid(const char *tag)
{
	size_t len = strlen(tag);

	return len && len <= TAG_MAX && in_set(tag[0], LOWER UPPER DIGITS "_") &&
	       strspn(tag, LOWER UPPER DIGITS "_.-") == len;
}

/* In lower case, and Docker Hub under the one name that references use. */
static char *canonical_domain(const char *s, size_t len)
{
	_cleanup_free_ char *domain = xstrndup(s, len);

	str_lower(domain);
	if (str_eq(domain, "index.docker.io") || str_eq(domain, "registry-1.docker.io"))
		return xstrdup("docker.io");
	return take_ptr(domain);
}

/* Takes the domain off the front of name and fills in Docker Hub's short forms. */
static void split_domain(const char *name, char **ret_domain, char **ret_path)
{
	const char *slash = strchr(name, '/');
	size_t first = slash ? (size_t)(slash - name) : 0;
	_cleanup_free_ char *domain = NULL;

	if (slash && (memchr(name, '.', first) || memchr(name, ':', first) || name[0] == '[' ||
			     (first == 9 && !strncasecmp(name, "localhost", 9)))) {
		domain = canonical_domain(name, first);
		name = slash + 1;
	}
	if (!domain || str_eq(domain, "docker.io")) {
		*ret_domain = xstrdup("docker.io");
		*ret_path = strchr(name, '/') ? xstrdup(name) : xasprintf("library/%s", name);
		return;
	}
	*ret_domain = take_ptr(domain);
	*ret_path = xstrdup(name);
}

/* Why a path that isn't valid isn't; a word about upper case helps most. */
static const char *path_fault(const char *path)
{
	if (!path[0])
		return "the repository name is missing.";
	if (path[strcspn(path, UPPER)])
		return "a repository name is in lower case.";
	return "a repository name has lower-case letters, digits and single '.', '_', '__' or '-' between them.";
}

static const char *check(const struct reference *ref)
{
	if (!domain_is_valid(ref->domain))
		return "the registry's name is not a host name with an optional port.";
	if (!path_is_valid(ref->path))
		return path_fault(ref->path);
	if (strlen(ref->domain) + 1 + strlen(ref->path) > NAME_MAX_LEN)
		return "the name is longer than 255 characters.";
	if (ref->tag && !tag_is_valid(ref->tag))
		return "a tag has at most 128 letters, digits, '_', '.' and '-', and begins with none of the last two.";
	if (ref->digest && !digest_is_valid(ref->digest))
		return "a digest is 'sha256:' and 64 lower-case hex digits, or 'sha512:' and 128.";
	if (str_starts(ref->path, "library/") && str_eq(ref->domain, "docker.io") &&
		strlen(ref->path) == 8 + 64 && strspn(ref->path + 8, DIGITS "abcdef") == 64)
		return "64 hex digits are an image id, not a name.";
	return NULL;
}

int reference_parse(const char *text, struct err *err, struct reference *ret)
{
	_cleanup_(reference_done) struct reference ref = {0};
	_cleanup_free_ char *name = NULL;
	char *at, *slash, *colon;
	const char *fault;

	if (!text || !text[0])
		return refuse(err, "", "it is empty.");
	if (strnlen(text, TEXT_MAX + 1) > TEXT_MAX)
		return refuse(err, text, "it is too long.");
	for (const char *p = text; *p; p++)
		if (*p <= 0x20 || *p >= 0x7f)
			return refuse(err, text, "it has a character that is not printable ASCII.");

	name = xstrdup(text);
	at = strchr(name, '@');
	if (at) {
		*at = '\0';
		ref.digest = xstrdup(at + 1);
	}
	slash = strrchr(name, '/');
	colon = strchr(slash ? slash : name, ':');
	if (colon) {
		*colon = '\0';
		ref.tag = xstrdup(colon + 1);
	}
	split_domain(name, &ref.domain, &ref.path);
	fault = check(&ref);
	if (fault)
		return refuse(err, text, fault);
	if (!ref.tag && !ref.digest)
		ref.tag = xstrdup("latest");
	ref.name = xasprintf("%s/%s", ref.domain, ref.path);
	ref.full = ref.digest ? xasprintf("%s@%s", ref.name, ref.digest)
			      : xasprintf("%s:%s", ref.name, ref.tag);
	*ret = ref;
	ref = (struct reference){0};
	return 0;
}

void reference_done(struct reference *ref)
{
	free(ref->full);
	free(ref->name);
	free(ref->domain);
	free(ref->path);
	free(ref->tag);
	free(ref->digest);
	*ref = (struct reference){0};
}

const char *reference_registry(const struct reference *ref)
{
	return str_eq(ref->domain, "docker.io") ? "registry-1.docker.io" : ref->domain;
}

bool reference_server_matches(const char *server, const char *domain)
{
	_cleanup_free_ char *theirs = NULL;
	_cleanup_free_ char *ours = NULL;
	size_t len;

	if (strncasecmp(server, "https://", 8) == 0)
		server += 8;
	else if (strncasecmp(server, "http://", 7) == 0)
		server += 7;
	len = strcspn(server, "/");
	if (len > 4 && memcmp(server + len - 4, ":443", 4) == 0)
		len -= 4;
	theirs = canonical_domain(server, len);

	len = strlen(domain);
	if (str_ends(domain, ":443"))
		len -= 4;
	ours = canonical_domain(domain, len);
	return str_eq(theirs, ours);
}
