#include <stdarg.h>
#include <stdio.h>

#include "base/proc.h"
#include "cli/cli.h"

#define IN_GROUP                                                                                   \
	"  -g, --resource-group GROUP   where the group is (default berth, as with `berth run`)\n"

static const struct command commands[] = {
	{"up", "[--listen HOST:PORT] [--config FILE] [--set KEY=VALUE]… [--detach | --prepare]",
		"start Berth on this machine",
		"Starts both daemons (those that don't run yet) and stays in the foreground; Ctrl-C stops the daemons, containers\n"
		"go on. With --detach it returns once both are ready.\n\n"
		"  --listen HOST:PORT  address of the API (default 127.0.0.1:8443)\n"
		"  --config FILE       settings as a JSON object\n"
		"  --set KEY=VALUE     one setting; they are kept for the next start\n"
		"  --detach            return when ready\n"
		"  --prepare           make what is missing (settings, keys, the user berth) and start nothing\n"
		"  --help-settings     print all settings as docs/configuration.md has them\n",
		command_up},
	{"down", "[--purge]", "stop the daemons",
		"Containers go on and are found again by the next `berth up`.\n\n"
		"  --purge             stop all groups too and remove everything: state directory, bridge, firewall table, cgroups\n",
		command_down},
	{"az", "", "print the lines that point az at this Berth",
		"Use it as: eval \"$(sudo berth az)\"\n"
		"The lines choose an az configuration of their own, so that your az for Azure stays as it is.\n",
		command_az},
	{"image", "pull|import|list|remove|pin|unpin|prune …", "look after the node's image cache",
		"Groups pull what they need by themselves; this is for doing it before, or without a registry.\n\n"
		"  berth image pull REFERENCE [--username NAME --password-stdin]\n"
		"      fetch an image, or what is new of it if its tag has moved\n"
		"  berth image import FILE-OR-FOLDER [--name REFERENCE]\n"
		"      take it from an OCI layout, an OCI archive or a `docker save` archive\n"
		"  berth image list\n"
		"  berth image remove REFERENCE…\n"
		"      forget these names\n"
		"  berth image pin REFERENCE…\n"
		"      keep an image, whatever is pruned; `berth image unpin` ends it\n"
		"  berth image prune [--unused DAYS]\n"
		"      remove the layers that no image and no container needs; with --unused also the\n"
		"      images that no container uses, that aren't pinned, and that were neither pulled nor\n"
		"      used for so many days\n",
		command_image},
	{"run", "-n NAME --image REFERENCE [-p PORT]… [--dns-name-label LABEL] [-e NAME=VALUE]… [--] [COMMAND…]",
		"run a group of one container",
		"  -g, --resource-group GROUP   made if missing (default berth)\n"
		"  -p, --port PORT              open this port on a public address; up to five times\n"
		"  --dns-name-label LABEL       LABEL.<region>.<zone> will be its name\n"
		"  --cpu CORES --memory GB      default 1 and 1\n"
		"  --restart-policy POLICY      Always, OnFailure or Never (default Always)\n"
		"  -e, --env NAME=VALUE         an environment variable; may be repeated\n"
		"  COMMAND…                     instead of the image's own\n"
		"All of a group's settings are there with az, an SDK or a YAML file.\n",
		command_run},
	{"show", "[-g GROUP] NAME", "print a group as JSON", IN_GROUP, command_show},
	{"events", "[-g GROUP] NAME", "print the events of a group",
		IN_GROUP "What happened to the group and its containers, the newest last.\n",
		command_events},
	{"logs", "[-f] [-g GROUP] [--tail N] [--timestamps] [--previous] NAME [CONTAINER]",
		"print a container's log",
		IN_GROUP
		"  CONTAINER                    default: the group's first\n"
		"  -f, --follow                 go on with what comes, until the container ends for good\n"
		"  --tail N                     only the last N lines\n"
		"  --timestamps                 with the time of each line\n"
		"  --previous                   of the run before this one\n",
		command_logs},
	{"secret", "set|list|remove …", "keep secrets that groups refer to",
		"A group names such a secret (`secretReferences`) instead of holding its value; docs/clients.md shows how.\n\n"
		"  berth secret set VAULT NAME < FILE\n"
		"      a new version; a newline at the end isn't part of it\n"
		"  berth secret list VAULT\n"
		"  berth secret remove VAULT NAME\n",
		command_secret},
	{"exec", "[-i] [-t] [-g GROUP] NAME [-c CONTAINER] -- COMMAND [ARGUMENT…]",
		"execute a command in a running container",
		IN_GROUP
		"  -c, --container CONTAINER    needed when the group has several\n"
		"  -i, --stdin                  pass standard input on, to its end\n"
		"  -t, --tty                    with a terminal; needs one\n"
		"Without -t, standard output and standard error stay apart. The command's exit code is that of `berth exec`; 126\n"
		"or 127 when it could not be started or is not there.\n",
		command_exec},
	{"attach", "[-g GROUP] NAME [-c CONTAINER]", "print what a container writes from now on",
		IN_GROUP "  -c, --container CONTAINER    needed when the group has several\n",
		command_attach},
	{"stop", "[-g GROUP] NAME", "stop a group; its address stays", IN_GROUP, command_stop},
	{"start", "[-g GROUP] NAME", "start a stopped group", IN_GROUP, command_start},
	{"restart", "[-g GROUP] NAME", "restart a group's containers in place", IN_GROUP,
		command_restart},
	{"rm", "[-g GROUP] NAME", "delete a group", IN_GROUP, command_rm},
	{"ps", "[-g GROUP] [--json]", "list container groups",
		"  -g, --resource-group GROUP   only those of this resource group\n"
		"  --json                       as the API has them\n",
		command_ps},
};

/* Names that are promised and not there yet: refused as such, not as a typing error. */
static const char *const later[] = {"top"};

static void print_help(FILE *out)
{
	fprintf(out,
		"berth %s: Azure Container Instances on your own machines\n\nUsage: berth COMMAND …\n\n",
		BERTH_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
	fprintf(out,
		"\n`berth COMMAND --help` tells more. `berth az` points Azure's own command line at this Berth.\n");
}

static void print_command_help(const struct command *command)
{
	printf("Usage: berth %s%s%s\n\n%c%s.\n\n%s%s", command->name, command->usage[0] ? " " : "",
		command->usage, command->summary[0] - 'a' + 'A', command->summary + 1,
		command->help, command->help[0] ? "\n" : "");
	printf("With --state DIR it is about the Berth whose state is in DIR (default " DEFAULT_STATE
	       ").\n");
}

void cli_print(FILE *out, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		bool c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f;

		if (c1)
			c++;
		if (c1 || *c == 0x7f || (*c < ' ' && *c != '\n' && *c != '\t'))
			fprintf(out, "\\x%02x", *c);
		else
			fputc(*c, out);
	}
}

int cli_fail(const struct err *err)
{
	fprintf(stderr, "berth: ");
	cli_print(stderr, err->message);
	fprintf(stderr, "\n");
	return 1;
}

int cli_usage(const char *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "berth %s: ", command);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry: berth %s --help\n", command);
	return 2;
}

int cli_wrong_option(const char *command)
{
	fprintf(stderr, "Try: berth %s --help\n", command);
	return 2;
}

int cli_no_more(const char *command, int argc, char **argv, int at)
{
	return at < argc ? cli_usage(command, "there is no argument '%s'.", argv[at]) : 0;
}

char *cli_self(void)
{
	char *self = proc_sibling("berth");

	if (!str_eq(self, "/usr/bin/berth") && !str_eq(self, "/usr/local/bin/berth"))
		return self;
	free(self);
	return xstrdup("berth");
}

int cli_need_root(const char *command)
{
	if (geteuid() == 0)
		return 0;
	fprintf(stderr, "berth %s: this needs root. Try: sudo berth %s …\n", command, command);
	return 1;
}

int main(int argc, char **argv)
{
	_cleanup_free_ char *name = NULL;

	log_init("berth", LOG_LEVEL_WARN);
	if (argc < 2 || str_eq(argv[1], "--help") || str_eq(argv[1], "help")) {
		print_help(argc < 2 ? stderr : stdout);
		return argc < 2 ? 2 : 0;
	}
	if (str_eq(argv[1], "--version")) {
		printf("berth %s\n", BERTH_VERSION);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!str_eq(argv[1], commands[i].name))
			continue;
		for (int j = 2; j < argc && !str_eq(argv[j], "--"); j++)
			if (str_eq(argv[j], "--help")) {
				print_command_help(&commands[i]);
				return 0;
			}
		/* What getopt_long() begins its messages with. */
		name = xasprintf("berth %s", argv[1]);
		argv[1] = name;
		return commands[i].run(argc - 1, argv + 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(later); i++)
		if (str_eq(argv[1], later[i])) {
			fprintf(stderr,
				"berth: '%s' is not there yet in version %s. `berth events` and `berth logs` tell what a group does.\n",
				argv[1], BERTH_VERSION);
			return 2;
		}
	fprintf(stderr, "berth: there is no command '%s'. Try: berth --help\n", argv[1]);
	return 2;
}
