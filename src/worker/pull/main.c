/* berth-pull: one image into the content store (PROTOCOL.md). Started by berth-node, in a user
 * namespace, without privileges. */
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/base.h"
#include "worker/pull/cage.h"
#include "worker/pull/import.h"
#include "worker/pull/job.h"
#include "worker/pull/pull.h"
#include "worker/pull/store.h"

enum { STORE_FD = 3, ARCHIVE_FD = 4, GRACE_US = 1500000 };

/* SIGTERM ends the work at its next step; what hangs in the network is not waited for. */
static void *wait_for_signals(void *arg)
{
	const sigset_t *set = arg;
	struct err err = {0};
	int got;

	if (sigwait(set, &got) != 0)
		return NULL;
	job_cancel();
	usleep(GRACE_US);
	job_canceled_err(&err);
	event_error(&err);
	_exit(1);
}

static void nothing(int signal_number)
{
}

/* Process 1 of a pid namespace gets no signal that it has no handler for; and only one thread shall
 * take it. */
static void take_signals(sigset_t *set)
{
	const struct sigaction action = {.sa_handler = nothing};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	/* These come from a write, which says so itself. */
	sigaddset(set, SIGPIPE);
	sigaddset(set, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, set, NULL);
	sigdelset(set, SIGPIPE);
	sigdelset(set, SIGXFSZ);
}

static int run(struct err *err)
{
	_cleanup_(store_done) struct store store = STORE_INIT;
	_cleanup_(job_done) struct job job = {0};
	int r;

	r = job_read(STDIN_FILENO, err, &job);
	if (r < 0)
		return r;
	r = cage_enter(&job.limits, err);
	if (r < 0)
		return r;
	r = store_open(STORE_FD, err, &store);
	if (r < 0)
		return r;
	if (str_eq(job.op, "pull"))
		return pull_run(&job, &store, err);
	if (str_eq(job.op, "import"))
		return import_run(&job, &store, ARCHIVE_FD, err);
	return err_set(err, -EINVAL, "InternalError", "The job's op is neither pull nor import.");
}

int main(void)
{
	static sigset_t set;
	pthread_t thread;
	struct err err = {0};

	log_init("berth-pull", LOG_LEVEL_INFO);
	/* Names in pax headers are UTF-8; libarchive converts them to the locale's character set.
	 */
	setlocale(LC_CTYPE, "C.UTF-8");
	umask(0);
	take_signals(&set);
	if (pthread_create(&thread, NULL, wait_for_signals, &set) != 0)
		return 1;
	if (run(&err) < 0) {
		event_error(&err);
		return 1;
	}
	return 0;
}
