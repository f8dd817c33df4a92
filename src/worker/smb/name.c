#include "worker/smb/name.h"

/* U+F020 and what follows it, in the kernel's order (fs/smb/client/cifs_unicode.h); U+F001 to
 * U+F01F are the control characters. In UTF-8 all of them are EF 80 and a third byte. */
static const char forbidden[] = {'"', '*', ':', '<', '>', '?', '\\', '|', ' ', '.'};
#define N_ANYWHERE 8 /* blank and dot are forbidden at the end alone */

static void add_byte(struct buf *url, unsigned char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		c == '-' || c == '_' || c == '.')
		buf_addc(url, (char)c);
	else
		buf_printf(url, "%%%02X", c);
}

static void add_mapped(struct buf *url, unsigned index)
{
	buf_printf(url, "%%EF%%80%%%02X", 0x80 + index);
}

static void add_char(struct buf *url, unsigned char c, bool last)
{
	size_t n = last ? ARRAY_SIZE(forbidden) : N_ANYWHERE;

	if (c < 0x20) {
		add_mapped(url, c);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)forbidden[i] == c) {
			add_mapped(url, 0x20 + (unsigned)i);
			return;
		}
	}
	add_byte(url, c);
}

int name_to_url(const char *base, const char *path, char **ret)
{
	_cleanup_buf_ struct buf url = BUF_MAX(URL_BYTES_MAX);

	if (!str_is_utf8(path, strlen(path)))
		return -EILSEQ;
	buf_adds(&url, base);
	while (*(path += strspn(path, "/"))) {
		size_t n = strcspn(path, "/");

		if (n > NAME_BYTES_MAX)
			return -ENAMETOOLONG;
		buf_addc(&url, '/');
		for (size_t i = 0; i < n; i++)
			add_char(&url, (unsigned char)path[i], i + 1 == n);
		path += n;
	}
	if (url.full)
		return -ENAMETOOLONG;
	*ret = buf_take(&url);
	return 0;
}

/* What the mapped character at p stands for; 0 when it is none. */
static char unmapped(const unsigned char *p)
{
	unsigned index;

	if (p[0] != 0xef || p[1] != 0x80 || p[2] < 0x81)
		return 0;
	index = p[2] - 0x80u;
	if (index < 0x20)
		return (char)index;
	index -= 0x20;
	if (index >= ARRAY_SIZE(forbidden) || (index >= N_ANYWHERE && p[3]))
		return 0;
	return forbidden[index];
}

int name_from_server(const char *name, char *ret)
{
	const unsigned char *p = (const unsigned char *)name;
	char plain[NAME_BYTES_MAX + 1];
	size_t n = 0;

	while (*p) {
		char c = unmapped(p);

		if (n == NAME_BYTES_MAX || *p == '/')
			return -EINVAL;
		plain[n++] = c ? c : (char)*p;
		p += c ? 3 : 1;
	}
	plain[n] = '\0';
	if (n == 0 || str_eq(plain, ".") || str_eq(plain, ".."))
		return -EINVAL;
	memcpy(ret, plain, n + 1);
	return 0;
}
