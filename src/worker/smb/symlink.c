#include <openssl/evp.h>
#include <stdio.h>

#include "worker/smb/symlink.h"

/* "XSym\n", "%04u\n" of the target's length, its MD5 in hex and a newline. */
#define HEADER_BYTES 43
#define MD5_BYTES 16

static int header(const char *target, size_t len, char ret[HEADER_BYTES + 1])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int digest_len;
	char hex[2 * MD5_BYTES + 1];

	if (EVP_Digest(target, len, digest, &digest_len, EVP_md5(), NULL) != 1)
		return -EIO;
	assert(digest_len == MD5_BYTES);
	str_hex(digest, MD5_BYTES, hex);
	snprintf(ret, HEADER_BYTES + 1, "XSym\n%04u\n%s\n", (unsigned)len, hex);
	return 0;
}

int symlink_format(const char *target, char ret[SYMLINK_FILE_SIZE])
{
	size_t len = strlen(target);
	char head[HEADER_BYTES + 1];
	int r;

	if (len == 0 || len > SYMLINK_TARGET_MAX)
		return len ? -ENAMETOOLONG : -EINVAL;
	r = header(target, len, head);
	if (r < 0)
		return r;
	memset(ret, ' ', SYMLINK_FILE_SIZE);
	memcpy(ret, head, HEADER_BYTES);
	memcpy(ret + HEADER_BYTES, target, len);
	if (len < SYMLINK_TARGET_MAX)
		ret[HEADER_BYTES + len] = '\n';
	return 0;
}

int symlink_parse(const char file[SYMLINK_FILE_SIZE], char ret[SYMLINK_TARGET_MAX + 1])
{
	char head[HEADER_BYTES + 1], digits[5];
	uint64_t len;

	if (memcmp(file, "XSym\n", 5) != 0)
		return -EINVAL;
	memcpy(digits, file + 5, 4);
	digits[4] = '\0';
	if (str_to_u64(digits, SYMLINK_TARGET_MAX, &len) < 0 || len == 0 ||
		memchr(file + HEADER_BYTES, '\0', len))
		return -EINVAL;
	if (header(file + HEADER_BYTES, len, head) < 0 || memcmp(file, head, HEADER_BYTES) != 0)
		return -EINVAL;
	memcpy(ret, file + HEADER_BYTES, len);
	ret[len] = '\0';
	return 0;
}
