/*
 * node/volume at the command line, for tests and for a look by hand:
 *   volume_tool GROUP-DIR up [JSON]   {"name", "uidBase", "cloneProgram"?, "smbProgram"?,
 * "azureFiles"?, "ca"?, "allowLoopback"?, "maxBytes"?, "gitRepo": {"repository", "revision"?,
 * "directory"?} or "azureFile": {"share", "account", "key", "readOnly"?}} volume_tool GROUP-DIR
 * down Without JSON it is read from standard input. Mounts are made in the caller's mount
 * namespace. A failure is {"code","message"} and exit 1. SIGTERM cancels.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>

#include "base/json.h"
#include "node/volume/volume.h"

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int up(const char *dir, const json_t *request, struct err *err)
{
	const json_t *repo = json_get_obj(request, "gitRepo"),
		     *file = json_get_obj(request, "azureFile");
	const struct volumes_config config = {
		.clone_program = json_get_str(request, "cloneProgram", "/nonexistent"),
		.smb_program = json_get_str(request, "smbProgram", "/nonexistent"),
		.azure_files = json_get_str(request, "azureFiles", "127.0.0.1:1"),
		.ca_file = json_get_str(request, "ca", NULL),
		.allow_loopback = json_get_bool(request, "allowLoopback", false),
		.empty_dir_max_bytes = 64 << 20,
		.git_repo_max_bytes = (uint64_t)json_get_int(request, "maxBytes", 256 << 20)};
	const struct volume_group group = {.uid = "g",
		.dir = dir,
		.uid_base = (uint32_t)json_get_int(request, "uidBase", 1000000)};
	const struct volume_spec spec = {.name = json_get_str(request, "name", "repo"),
		.kind = file ? VOLUME_AZURE_FILE : VOLUME_GIT_REPO,
		.repository = json_get_str(repo, "repository", ""),
		.revision = json_get_str(repo, "revision", NULL),
		.directory = json_get_str(repo, "directory", NULL),
		.share = json_get_str(file, "share", ""),
		.account = json_get_str(file, "account", ""),
		.key = json_get_str(file, "key", ""),
		.read_only = json_get_bool(file, "readOnly", false)};
	_cleanup_fd_ int cancel = open_signals();
	_cleanup_free_ char *path = volume_path(&group, &spec);
	struct volumes *volumes;
	int r = volumes_open(&config, err, &volumes);

	if (r < 0)
		return r;
	r = volume_up(volumes, &group, &spec, cancel, err);
	volumes_close(volumes);
	if (r == 0)
		puts(path);
	return r;
}

static int read_request(const char *argument, struct err *err, json_t **ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	if (argument)
		return json_parse(argument, strlen(argument), 4, err, ret);
	while (buf_read(&text, STDIN_FILENO, 4096) > 0)
		;
	return json_parse(buf_str(&text), text.len, 4, err, ret);
}

int main(int argc, char **argv)
{
	_cleanup_json_ json_t *request = NULL;
	_cleanup_json_ json_t *answer = NULL;
	_cleanup_free_ char *text = NULL;
	struct err err = {0};
	int r;

	log_init("volume_tool", LOG_LEVEL_INFO);
	if (argc == 3 && str_eq(argv[2], "down")) {
		r = volumes_down(NULL, &(struct volume_group){.uid = "g", .dir = argv[1]}, &err);
	} else if ((argc == 3 || argc == 4) && str_eq(argv[2], "up")) {
		r = read_request(argc == 4 ? argv[3] : NULL, &err, &request);
		if (r == 0)
			r = up(argv[1], request, &err);
	} else {
		fprintf(stderr, "usage: volume_tool GROUP-DIR up [JSON] | down\n");
		return 2;
	}
	if (r == 0)
		return 0;
	answer = json_pack("{s:s, s:s}", "code", err.code, "message", err.message);
	text = json_text(answer);
	puts(text);
	return 1;
}
