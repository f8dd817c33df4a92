/*
 * Stands in for berth-pull in tests: what it does is in the path of the reference. It also checks
 * the cage that it was started in, since only something inside can.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/file.h"
#include "base/json.h"
#include "base/random.h"

#define LAYER "1111111111111111111111111111111111111111111111111111111111111111"
#define DIGEST "sha256:2222222222222222222222222222222222222222222222222222222222222222"

static _Noreturn void say_error(const char *code, const char *message)
{
	printf("{\"event\":\"error\",\"code\":\"%s\",\"message\":\"%s\"}\n", code, message);
	exit(1);
}

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			say_error("InternalError", "not true in the worker: " #condition);         \
	} while (0)

static bool status_has(const char *line)
{
	_cleanup_free_ char *text = NULL;

	return file_read(AT_FDCWD, "/proc/self/status", 65536, &text, NULL) == 0 &&
	       strstr(text, line);
}

static void check_cage(void)
{
	struct stat st;

	CHECK(getuid() == 0 && geteuid() == 0 && getgid() == 0);
	CHECK(getpid() == 1);
	CHECK(status_has("NoNewPrivs:\t1"));
	CHECK(status_has("CapEff:\t000000008000001b"));
	CHECK(status_has("CapBnd:\t000000008000001b"));
	CHECK(open("/tmp/berth-fake-worker", O_CREAT | O_WRONLY | O_CLOEXEC, 0600) < 0);
	CHECK(open("/etc/shadow", O_RDONLY | O_CLOEXEC) < 0);
	CHECK(mkdirat(3, "mine", 0700) < 0 && errno == EACCES);
	CHECK(openat(3, "uses", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
	CHECK(fstat(5, &st) < 0 && errno == EBADF);
	CHECK(stat(".", &st) == 0 && mkdir("staging/x", 0700) == 0 && rmdir("staging/x") == 0);
}

static void write_store(const char *full, bool is_private)
{
	static const char manifest[] =
		"{\"digest\":\"" DIGEST "\",\"mediaType\":\"m\",\"config\":{\"entrypoint\":null,"
		"\"cmd\":[\"/bin/tool\"],\"env\":null,\"user\":\"\",\"workingDir\":\"\","
		"\"stopSignal\":\"\"},\"layers\":[\"" LAYER "\"],\"size\":3}";
	char hex[SHA256_HEX_MAX], path[128];
	char *ref = xasprintf("{\"reference\":\"%s\",\"digest\":\"" DIGEST
			      "\",\"pulled\":\"2026-01-02T03:04:05Z\",\"private\":%s}",
		full, is_private ? "true" : "false");

	mkdir("staging/l", 0755);
	CHECK(file_write_replace(3, "staging/l/file", "abc", 3, 0644) == 0);
	CHECK(chmod("staging/l", 0755) == 0);
	CHECK(rename("staging/l", "layers/" LAYER) == 0 || access("layers/" LAYER, F_OK) == 0);
	CHECK(file_write_replace(3,
		      "manifests/sha256-2222222222222222222222222222222222222222222222222222222222222222.json",
		      manifest, strlen(manifest), 0644) == 0);
	sha256_hex(full, strlen(full), hex);
	snprintf(path, sizeof(path), "refs/%s.json", hex);
	CHECK(file_write_replace(3, path, ref, strlen(ref), 0644) == 0);
	free(ref);
}

/* Every start leaves a mark, so that a test can count transfers. */
static void count_start(void)
{
	char path[64], id[UUID_STR_MAX];

	snprintf(path, sizeof(path), "partial/start-%s", random_uuid(id));
	CHECK(file_write_replace(3, path, "", 0, 0644) == 0);
}

static void obey(const char *full, const json_t *job)
{
	if (strstr(full, "/absent"))
		say_error("InaccessibleImage", "there is no such image");
	if (strstr(full, "/garbage"))
		printf("this is not JSON\n");
	if (strstr(full, "/flood"))
		for (int i = 0; i < 100000; i++)
			printf("xxxxxxxxxxxxxxxx");
	if (strstr(full, "/crash")) {
		fprintf(stderr, "something broke\n");
		_exit(3);
	}
	if (strstr(full, "/hang")) {
		fflush(stdout);
		for (;;)
			pause();
	}
	if (strstr(full, "/slow"))
		usleep(300000);
	if (strstr(full, "/private") && !json_get_obj(job, "credentials"))
		say_error("InaccessibleImage", "authentication required");
	if (strstr(full, "/link")) {
		unlink("manifests/sha256-2222222222222222222222222222222222222222222222222222222222222222.json");
		CHECK(symlink("/etc/passwd",
			      "manifests/sha256-2222222222222222222222222222222222222222222222222222222222222222.json") ==
			0);
	} else {
		write_store(full, strstr(full, "/private") != NULL);
	}
}

int main(void)
{
	_cleanup_json_ json_t *job = json_loadf(stdin, 0, NULL);
	const char *full = json_get_str(job, "reference", "docker.io/library/named:latest");

	setvbuf(stdout, NULL, _IOLBF, 0);
	check_cage();
	count_start();
	printf("{\"event\":\"progress\",\"layer\":\"111111111111\",\"what\":\"Downloading\",\"done\":1,\"total\":3}\n");
	obey(full, job);
	printf("{\"event\":\"done\",\"reference\":\"%s\",\"digest\":\"" DIGEST
	       "\",\"manifest\":\"manifests/x\"}\n",
		full);
	return 0;
}
