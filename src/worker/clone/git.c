#include "worker/clone/git.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/proc.h"
#include "base/time.h"
#include "worker/clone/cage.h"

enum { OUT_MAX = 4096, LOG_MAX = 16384, LOG_KEPT = 8192 };

#define GIT "/usr/bin/git"
#define CONFIG CAGE_TMP "/config"
#define AUTHORITIES CAGE_TMP "/ca.pem"
#define SYSTEM_AUTHORITIES "/etc/ssl/certs"

/* Nothing of the machine's, and nobody to ask. */
static const char *const environment[] = {"PATH=/usr/bin:/bin", "HOME=" CAGE_TMP, "LC_ALL=C",
	"TERM=dumb", "GIT_CONFIG_NOSYSTEM=1", "GIT_ATTR_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" CONFIG,
	"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false", "SSH_ASKPASS=/bin/false",
	"GIT_ALLOW_PROTOCOL=https", "GIT_LFS_SKIP_SMUDGE=1", "GIT_COMMITTER_NAME=berth",
	"GIT_COMMITTER_EMAIL=berth@localhost", NULL};

/* Stronger than what a repository's own configuration could say, though nothing that a server sends
 * ends up there. Symlinks of the checkout are made as they are: a container opens them below its
 * own root, and so did git, here; nothing on the node ever follows them, since it binds the
 * volume's root and no path beneath it, and removes it as the block of one file. protectNTFS and
 * protectHFS refuse the other spellings of ".git". */
static const char *const options[] = {
	"protocol.allow=never",
	"protocol.https.allow=always",
	"core.hooksPath=/dev/null",
	"core.symlinks=true",
	"core.protectNTFS=true",
	"core.protectHFS=true",
	"core.fsmonitor=false",
	"core.packedGitLimit=256m",
	"core.packedGitWindowSize=32m",
	"core.bigFileThreshold=16m",
	"core.deltaBaseCacheLimit=64m",
	"credential.helper=",
	"fetch.recurseSubmodules=false",
	"submodule.recurse=false",
	"gc.auto=0",
	"maintenance.auto=false",
	"pack.threads=1",
	"advice.detachedHead=false",
	"init.defaultBranch=main",
	"transfer.bundleURI=false",
	"http.followRedirects=false",
	"http.lowSpeedLimit=1",
};

static int write_config(const struct job *job, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_MAX(65536);
	int r = 0;

	buf_printf(&text, "[http]\n\tcurloptResolve = \"%s:%u:127.0.0.1\"\n\tlowSpeedTime = %llu\n",
		job->host, job->port, (unsigned long long)job->limits.idle_seconds);
	/* GnuTLS trusts both: the file, and the machine's folder. */
	if (job->ca)
		buf_adds(&text,
			"\tsslCAInfo = " AUTHORITIES "\n\tsslCAPath = " SYSTEM_AUTHORITIES "\n");
	if (job->authorization)
		buf_printf(&text, "\textraHeader = \"Authorization: %s\"\n", job->authorization);
	if (text.full)
		return err_set(err, -E2BIG, "InvalidRepository", "The password is too long.");
	if (job->ca)
		r = file_write_replace(AT_FDCWD, AUTHORITIES, job->ca, strlen(job->ca), 0600);
	if (r == 0)
		r = file_write_replace(AT_FDCWD, CONFIG, text.data, text.len, 0600);
	explicit_bzero(text.data, text.len);
	return r < 0 ? err_errno(err, r, "The configuration of git could not be written") : 0;
}

int git_open(const struct job *job, struct relay *relay, struct err *err, struct git *ret)
{
	int r = write_config(job, err);

	if (r < 0)
		return r;
	*ret = (struct git){
		.job = job,
		.relay = relay,
		.deadline_ms = time_mono_ms() + (int64_t)(job->limits.seconds * 1000),
		.out = BUF_MAX(OUT_MAX),
		.log = BUF_MAX(LOG_MAX),
	};
	return 0;
}

void git_done(struct git *git)
{
	buf_done(&git->out);
	buf_done(&git->log);
}

/* In git's process. The worker has one thread, so that a fork of it may allocate. */
static int set_up(void *arg)
{
	const struct git *git = arg;

	if (setns(relay_netns(git->relay), CLONE_NEWNET) < 0)
		return -errno;
	umask(0022);
	return cage_git(&git->job->limits);
}

/* Keeps the end. Returns false when there is no more. */
static bool read_some(int fd, struct buf *buf, size_t kept)
{
	char chunk[2048];
	ssize_t n = read(fd, chunk, sizeof(chunk));

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	for (ssize_t i = 0; i < n; i++)
		if (chunk[i] == '\0')
			chunk[i] = '?';
	if (buf->len + (size_t)n > kept)
		buf_consume(buf, MIN(buf->len, (size_t)n));
	buf_add(buf, chunk, (size_t)n);
	return true;
}

/* Until git has ended or its time is over. */
static void serve(struct git *git, struct proc *proc, int out, int log)
{
	enum { PROCESS, OUT, LOG, RELAY, N = RELAY + RELAY_FDS_MAX };
	struct pollfd fds[N];
	bool ended = false;

	while (!ended || out >= 0 || log >= 0) {
		int64_t left = git->deadline_ms - time_mono_ms();
		int timeout = (int)MIN(left, (int64_t)60000);

		if (left <= 0)
			return;
		fds[PROCESS] = (struct pollfd){.fd = ended ? -1 : proc->pidfd, .events = POLLIN};
		fds[OUT] = (struct pollfd){.fd = out, .events = POLLIN};
		fds[LOG] = (struct pollfd){.fd = log, .events = POLLIN};
		relay_prepare(git->relay, fds + RELAY, &timeout);
		if (poll(fds, N, timeout) < 0) {
			if (errno != EINTR)
				return;
			continue;
		}
		ended = ended || fds[PROCESS].revents;
		if (fds[OUT].revents && !read_some(out, &git->out, OUT_MAX))
			out = -1;
		if (fds[LOG].revents && !read_some(log, &git->log, LOG_KEPT))
			log = -1;
		relay_handle(git->relay, fds + RELAY);
	}
}

static int open_pipe(int *ret_read, int *ret_write)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	*ret_read = ends[0];
	*ret_write = ends[1];
	return fd_set_nonblock(ends[0], true);
}

static int start(struct git *git, const char *const *args, struct err *err)
{
	_cleanup_fd_ int out_read = -EBADF, out_write = -EBADF;
	_cleanup_fd_ int log_read = -EBADF, log_write = -EBADF;
	const char *argv[2 * ARRAY_SIZE(options) + GIT_ARGS_MAX + 2];
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc proc;
	size_t n = 0;
	int r;

	argv[n++] = GIT;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		argv[n++] = "-c";
		argv[n++] = options[i];
	}
	for (; *args; args++) {
		assert(n < ARRAY_SIZE(argv) - 1);
		argv[n++] = *args;
	}
	argv[n] = NULL;
	r = open_pipe(&out_read, &out_write);
	if (r == 0)
		r = open_pipe(&log_read, &log_write);
	if (r < 0)
		return err_errno(err, r, "pipe for git");
	spec.argv = argv;
	spec.envp = environment;
	spec.stdout_fd = out_write;
	spec.stderr_fd = log_write;
	spec.new_session = true;
	spec.setup = set_up;
	spec.setup_arg = git;
	r = proc_spawn(&spec, err, &proc);
	if (r == -ENOENT)
		return err_set(err, r, "InternalError",
			"The node has no " GIT ". Install git; the mount is tried again.");
	if (r < 0)
		return r;
	out_write = fd_close(out_write);
	log_write = fd_close(log_write);
	serve(git, &proc, out_read, log_read);
	r = proc_wait(&proc, 0);
	if (r != -ETIMEDOUT)
		return r;
	proc_kill(&proc);
	return err_set(err, -ETIMEDOUT, "Timeout",
		"The repository '%s' could not be cloned within %llu seconds.", git->job->url,
		(unsigned long long)git->job->limits.seconds);
}

int git_run(struct git *git, struct err *err, const char *const *args)
{
	int r;

	buf_clear(&git->out);
	buf_clear(&git->log);
	relay_trouble(git->relay, NULL);
	r = git->status = start(git, args, err);
	if (r <= 0)
		return r;
	r = relay_trouble(git->relay, err);
	return r < 0 ? r : git_explain(git->job, buf_str(&git->log), git->status, err);
}
