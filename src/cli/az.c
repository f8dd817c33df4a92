/* berth az: the lines that point az at this Berth (Azure Stack Hub's AD FS mode) and sign it in. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>

#include "base/file.h"
#include "cli/cli.h"

/* In single quotes for a POSIX shell. */
static void print_quoted(const char *value)
{
	putchar('\'');
	for (; *value; value++)
		if (*value == '\'')
			printf("'\\''");
		else
			putchar(*value);
	putchar('\'');
}

static void print_export(const char *name, const char *value)
{
	printf("export %s=", name);
	print_quoted(value);
	printf("\n");
}

static void print_login(const json_t *admin)
{
	const char *endpoint = json_get_str(admin, "endpoint", "");

	printf("az cloud set -n AzureCloud --only-show-errors >/dev/null 2>&1\n");
	printf("az cloud unregister -n berth --only-show-errors >/dev/null 2>&1\n");
	printf("az cloud register -n berth --only-show-errors --endpoint-resource-manager ");
	print_quoted(endpoint);
	printf(" --suffix-acr-login-server-endpoint .azurecr.io --suffix-storage-endpoint core.windows.net");
	printf(" && az cloud set -n berth --only-show-errors && az login --service-principal --only-show-errors --output none");
	printf(" -u ");
	print_quoted(json_get_str(admin, "clientId", ""));
	printf(" -p ");
	print_quoted(json_get_str(admin, "clientSecret", ""));
	printf(" --tenant ");
	print_quoted(json_get_str(admin, "tenantId", ""));
	printf("\n");
}

int command_az(int argc, char **argv)
{
	static const struct option options[] = {{"state", required_argument, NULL, 's'}, {0}};
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_free_ char *admin_path = NULL, *ca = NULL, *text = NULL;
	_cleanup_json_ json_t *admin = NULL;
	const char *state = DEFAULT_STATE;
	struct err err = {0};
	int option, r;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 's')
			return cli_wrong_option("az");
		state = optarg;
	}
	if (cli_no_more("az", argc, argv, optind))
		return 2;
	if (config_load(state, &err, &config) < 0)
		return cli_fail(&err);
	admin_path = config_path(config, "admin.json");
	r = file_read(AT_FDCWD, admin_path, 65536, &text, NULL);
	if (r < 0) {
		err_set(&err, r, "NotAllowed",
			"%s can't be read: %s. It belongs to root: try sudo.", admin_path,
			err_str(r));
		return cli_fail(&err);
	}
	if (json_parse(text, strlen(text), 4, &err, &admin) < 0)
		return cli_fail(&err);
	ca = config_path(config, "ca.pem");
	printf("export AZURE_CONFIG_DIR=\"${HOME:-/root}/.azure-berth-%s\"\n", config->instance);
	print_export("REQUESTS_CA_BUNDLE", ca);
	print_export("WEBSOCKET_CLIENT_CA_BUNDLE", ca);
	print_export("AZURE_CORE_COLLECT_TELEMETRY", "no");
	print_login(admin);
	return 0;
}
