/*
 * The volumes of one group by hand, for tests:
 *   volume_tool GROUP-DIR UID-BASE SMB-PROGRAM AZURE-FILES up|down
 * `up` reads one volume of kind azureFile as JSON on standard input: {"name","share","account",
 * "key","readOnly"}, and prints its path. On failure it prints the error's code and message, and
 * ends with 1.
 */
#include <stdio.h>

#include "base/json.h"
#include "node/volume/volume.h"

static int up(struct volumes *volumes, const struct volume_group *group, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_free_ char *path = NULL;
	_cleanup_json_ json_t *json = NULL;
	struct volume_spec spec;
	int r;

	while (buf_read(&text, STDIN_FILENO, 4096) > 0)
		;
	r = json_parse(buf_str(&text), text.len, JSON_DEPTH_MAX, err, &json);
	if (r < 0)
		return r;
	spec = (struct volume_spec){.name = json_get_str(json, "name", ""),
		.kind = VOLUME_AZURE_FILE,
		.share = json_get_str(json, "share", ""),
		.account = json_get_str(json, "account", ""),
		.key = json_get_str(json, "key", ""),
		.read_only = json_get_bool(json, "readOnly", false)};
	r = volume_up(volumes, group, &spec, -1, err);
	if (r < 0)
		return r;
	path = volume_path(group, &spec);
	printf("%s\n", path);
	return 0;
}

int main(int argc, char **argv)
{
	struct volumes *volumes;
	struct err err = {0};
	uint64_t uid;
	int r;

	if (argc != 6 || str_to_u64(argv[2], UINT32_MAX, &uid) < 0)
		return 2;
	r = volumes_open(&(struct volumes_config){.clone_program = "/nonexistent",
				 .smb_program = argv[3],
				 .azure_files = argv[4]},
		&err, &volumes);
	if (r == 0) {
		struct volume_group group = {
			.uid = "test", .dir = argv[1], .uid_base = (uint32_t)uid};

		r = str_eq(argv[5], "up") ? up(volumes, &group, &err)
					  : volumes_down(volumes, &group, &err);
		volumes_close(volumes);
	}
	if (r < 0)
		printf("%s: %s\n", err.code, err.message);
	return r < 0;
}
