/* berth image: the node's image cache, worked on directly: it is on disk, and node and command line
 * share it under locks. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>

#include "base/file.h"
#include "base/proc.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "node/image/image.h"
#include "worker/pull/reference.h"

struct options {
	const char *state, *name, *username;
	bool password_stdin;
	int64_t unused_days; /* -1: not asked for */
	char password[4096];
};

static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = {{"state", required_argument, NULL, 's'},
		{"name", required_argument, NULL, 'n'}, {"username", required_argument, NULL, 'u'},
		{"password-stdin", no_argument, NULL, 'p'},
		{"unused", required_argument, NULL, 'd'}, {0}};
	uint64_t days;
	int option;

	*options = (struct options){.state = DEFAULT_STATE, .unused_days = -1};
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 's')
			options->state = optarg;
		else if (option == 'n')
			options->name = optarg;
		else if (option == 'u')
			options->username = optarg;
		else if (option == 'p')
			options->password_stdin = true;
		else if (option == 'd' && str_to_u64(optarg, 36500, &days) == 0)
			options->unused_days = (int64_t)days;
		else if (option == 'd')
			return cli_usage(
				"image", "--unused takes a number of days from 0 to 36500.");
		else
			return cli_wrong_option("image");
	}
	if (!options->username != !options->password_stdin)
		return cli_usage("image",
			"--username and --password-stdin go together: the password is read from standard input.");
	if (options->password_stdin) {
		if (!fgets(options->password, sizeof(options->password), stdin))
			return cli_usage("image", "no password came on standard input.");
		options->password[strcspn(options->password, "\r\n")] = 0;
	}
	return 0;
}

static int open_store(const struct config *config, struct err *err, struct image_store **ret)
{
	_cleanup_free_ char *dir = config_path(config, "node/images");
	_cleanup_free_ char *worker = proc_sibling("berth-pull");

	return image_store_open(
		&(struct image_store_config){.dir = dir,
			.worker = worker,
			.ca_file = config->registry_ca[0] ? config->registry_ca : NULL},
		err, ret);
}

static void print_image(const struct image *image)
{
	printf("%s\n", image->name_digest);
}

/* The credential is for the registry that the reference names, whichever way it does. */
static int credential_for(const struct options *options, const char *text, struct err *err,
	struct reference *reference, struct image_credential *ret)
{
	int r = reference_parse(text, err, reference);

	*ret = (struct image_credential){reference->domain, options->username, options->password};
	return r;
}

static int image_command_pull(struct image_store *store, const struct config *config,
	const struct options *options, int argc, char **argv, struct err *err)
{
	_cleanup_(progress_view_freep) struct progress_view *view =
		progress_view_new(stderr, isatty(STDERR_FILENO));
	_cleanup_(reference_done) struct reference reference = {0};
	struct image_credential credential;
	struct image_pull pull = {.always = true,
		.allow_loopback_http = config->registry_loopback_http,
		.cancel_fd = -1,
		.credentials = &credential,
		.n_credentials = options->username ? 1 : 0,
		.progress = progress_view_show,
		.arg = view};
	struct image *image;
	int r;

	if (argc != 1)
		return cli_usage("image",
			"pull takes one reference, such as docker.io/library/nginx:alpine.");
	pull.reference = argv[0];
	r = credential_for(options, argv[0], err, &reference, &credential);
	if (r == 0)
		r = image_pull(store, &pull, err, &image);
	progress_view_end(view);
	if (r < 0) {
		cli_fail(err);
		if (str_eq(err->code, "InaccessibleImage") && !options->username)
			fprintf(stderr,
				"If it is private: berth image pull %s --username NAME --password-stdin\n",
				argv[0]);
		return 1;
	}
	print_image(image);
	image_free(image);
	return 0;
}

static int image_command_import(struct image_store *store, const struct config *config,
	const struct options *options, int argc, char **argv, struct err *err)
{
	_cleanup_fd_ int fd = -EBADF;
	struct image *image;

	if (argc != 1)
		return cli_usage("image",
			"import takes one file or folder: an OCI layout, an OCI archive or a `docker save` archive.");
	fd = open(argv[0], O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		err_errno(err, -errno, "%s", argv[0]);
		return cli_fail(err);
	}
	if (image_import(store, fd, options->name, err, &image) < 0) {
		cli_fail(err);
		if (str_eq(err->code, "InvalidImageReference") && !options->name)
			fprintf(stderr, "Try: berth image import %s --name REFERENCE\n", argv[0]);
		return 1;
	}
	print_image(image);
	image_free(image);
	return 0;
}

static int image_command_list(struct image_store *store, const struct config *config,
	const struct options *options, int argc, char **argv, struct err *err)
{
	_cleanup_json_ json_t *images = NULL;
	json_t *image;
	int width = 5;
	size_t i;

	if (cli_no_more("image", argc, argv, 0))
		return 2;
	if (image_list(store, err, &images) < 0)
		return cli_fail(err);
	json_array_foreach (images, i, image)
		width = MAX(width, (int)strlen(json_get_str(image, "reference", "")));
	printf("%-*s  %-19s  %10s  %-20s  %-20s  %s\n", width, "IMAGE", "DIGEST", "SIZE", "PULLED",
		"LAST USED", "PINNED");
	json_array_foreach (images, i, image)
		printf("%-*s  %-19.19s  %7.1f MB  %-20s  %-20s  %s\n", width,
			json_get_str(image, "reference", ""), json_get_str(image, "digest", ""),
			(double)json_get_int(image, "sizeBytes", 0) / 1e6,
			json_get_str(image, "pulled", ""), json_get_str(image, "used", "never"),
			json_get_bool(image, "pinned", false) ? "yes" : "no");
	return 0;
}

static int image_command_remove(struct image_store *store, const struct config *config,
	const struct options *options, int argc, char **argv, struct err *err)
{
	if (argc < 1)
		return cli_usage(
			"image", "remove takes references, as `berth image list` shows them.");
	for (int i = 0; i < argc; i++)
		if (image_remove(store, argv[i], err) < 0) {
			cli_fail(err);
			if (str_eq(err->code, "ImageNotFound"))
				fprintf(stderr, "What is: berth image list\n");
			if (str_eq(err->code, "ImagePinned"))
				fprintf(stderr, "To unpin it: berth image unpin %s\n", argv[i]);
			return 1;
		}
	return 0;
}

static int pin_all(struct image_store *store, bool pin, int argc, char **argv, struct err *err)
{
	if (argc < 1)
		return cli_usage(
			"image", pin ? "pin takes references, as `berth image list` shows them."
				     : "unpin takes references, as `berth image list` shows them.");
	for (int i = 0; i < argc; i++)
		if (image_pin(store, argv[i], pin, err) < 0) {
			cli_fail(err);
			if (str_eq(err->code, "ImageNotFound"))
				fprintf(stderr, "Fetch it first: berth image pull %s\n", argv[i]);
			return 1;
		}
	return 0;
}

static int image_command_pin(struct image_store *store, const struct config *config,
	const struct options *options, int argc, char **argv, struct err *err)
{
	return pin_all(store, true, argc, argv, err);
}

static int image_command_unpin(struct image_store *store, const struct config *config,
	const struct options *options, int argc, char **argv, struct err *err)
{
	return pin_all(store, false, argc, argv, err);
}

static int remove_unused(struct image_store *store, int64_t days, struct err *err)
{
	_cleanup_json_ json_t *removed = NULL;
	json_t *reference;
	size_t i;

	if (image_remove_unused(store, days * 86400 * 1000, err, &removed) < 0)
		return cli_fail(err);
	json_array_foreach (removed, i, reference)
		printf("removed %s\n", json_string_value(reference));
	return 0;
}

static int image_command_prune(struct image_store *store, const struct config *config,
	const struct options *options, int argc, char **argv, struct err *err)
{
	uint64_t freed;

	if (cli_no_more("image", argc, argv, 0))
		return 2;
	if (options->unused_days >= 0 && remove_unused(store, options->unused_days, err) != 0)
		return 1;
	if (image_prune(store, err, &freed) < 0)
		return cli_fail(err);
	printf("%.1f MB freed\n", (double)freed / 1e6);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct image_store *store, const struct config *config,
		const struct options *options, int argc, char **argv, struct err *err);
} verbs[] = {
	{"pull", image_command_pull},
	{"import", image_command_import},
	{"list", image_command_list},
	{"remove", image_command_remove},
	{"pin", image_command_pin},
	{"unpin", image_command_unpin},
	{"prune", image_command_prune},
};

int command_image(int argc, char **argv)
{
	_cleanup_(config_freep) struct config *config = NULL;
	struct image_store *store;
	struct options options;
	struct err err = {0};
	size_t verb = 0;
	int r;

	while (argc > 1 && verb < ARRAY_SIZE(verbs) && !str_eq(argv[1], verbs[verb].name))
		verb++;
	if (argc < 2 || verb == ARRAY_SIZE(verbs))
		return cli_usage("image",
			"name what to do: pull, import, list, remove, pin, unpin or prune.");
	r = parse_options(argc - 1, argv + 1, &options);
	if (r != 0)
		return r;
	if (cli_need_root("image"))
		return 1;
	if (config_load(options.state, &err, &config) < 0 || open_store(config, &err, &store) < 0)
		return cli_fail(&err);
	r = verbs[verb].run(store, config, &options, argc - 1 - optind, argv + 1 + optind, &err);
	image_store_close(store);
	explicit_bzero(options.password, sizeof(options.password));
	return r;
}
