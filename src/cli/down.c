/* berth down: stops the daemons; with --purge every group too, and all that this Berth made on the
 * machine. */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "base/file.h"
#include "base/proc.h"
#include "cli/cli.h"
#include "main/daemon.h"
#include "node/runtime/runtime.h"

#define STOP_TIMEOUT_MS 15000
#define PURGE_TIMEOUT_MS 60000

static int stop_daemon(const char *state, const char *name, struct err *err)
{
	int pid = daemon_pid(state, name);
	_cleanup_fd_ int pidfd = -EBADF;
	struct pollfd poll_fd;

	if (pid < 0)
		return 0;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 || daemon_pid(state, name) != pid)
		return 0;
	syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
	poll_fd = (struct pollfd){pidfd, POLLIN, 0};
	if (poll(&poll_fd, 1, STOP_TIMEOUT_MS) == 1)
		return 0;
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	if (poll(&poll_fd, 1, 5000) == 1)
		return 0;
	return err_set(err, -ETIMEDOUT, "StopFailed", "%s (pid %d) can't be stopped.", name, pid);
}

/* The node knows what it made: it removes its groups as it would for a DELETE, then what they
 * shared. */
static int purge(const struct config *config, struct err *err)
{
	_cleanup_free_ char *program = proc_sibling("berth-node");
	_cleanup_free_ char *pin = config_path(config, "node/mnt");
	const char *const argv[] = {program, "--state", config->state, "--remove-groups", NULL};
	_cleanup_free_ char *output = NULL;
	int r;

	r = proc_run(argv, PURGE_TIMEOUT_MS, 65536, &output, err);
	if (r < 0)
		return err_wrap(err, "removing the groups");
	if (r != 0)
		return err_set(err, -EIO, "PurgeFailed", "The groups can't be removed: %s", output);
	r = runtime_namespace_purge(pin, err);
	if (r < 0)
		return r;
	setup_release_pool(config->state);
	r = file_remove_tree(AT_FDCWD, config->state);
	return r < 0 ? err_errno(err, r, "remove %s", config->state) : 0;
}

int command_down(int argc, char **argv)
{
	static const struct option options[] = {
		{"state", required_argument, NULL, 's'}, {"purge", no_argument, NULL, 'p'}, {0}};
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_free_ char *state = xstrdup(DEFAULT_STATE);
	_cleanup_fd_ int lock = -EBADF;
	struct err err = {0};
	bool all = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's') {
			free(state);
			state = config_absolute(optarg);
		} else if (option == 'p') {
			all = true;
		} else {
			return cli_wrong_option("down");
		}
	}
	if (cli_no_more("down", argc, argv, optind))
		return 2;
	if (cli_need_root("down"))
		return 1;
	if (config_load(state, &err, &config) < 0)
		return cli_fail(&err);
	lock = setup_lock(state, &err);
	if (lock < 0)
		return cli_fail(&err);
	if (stop_daemon(state, "berth-node", &err) < 0 || stop_daemon(state, "berthd", &err) < 0)
		return cli_fail(&err);
	if (all && purge(config, &err) < 0)
		return cli_fail(&err);
	printf(all ? "Berth is gone from this machine.\n" : "Berth is down; containers go on.\n");
	return 0;
}
