/*
 * gitRepo: a file system of its own like that of an emptyDir, which bounds what the clone needs and
 * what containers write afterwards alike, in bytes and in files; berth-clone fills it once
 * (src/worker/clone/PROTOCOL.md). It gets the detached mount and sees nothing else of the node.
 *
 * In the volume's folder: what emptydir.c has there. That the clone is complete is an attribute of
 * the file `image`, so that it goes when the image is made anew; one without it is half made and is
 * thrown away.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "node/spawn/spawn.h"
#include "node/volume/internal.h"

#define CLONED "trusted.berth.cloned"
#define CLONE_SECONDS 600
#define GRACE_SECONDS 60 /* for its resolver, which has limits of its own */
#define ANSWER_MAX 4096
#define CA_MAX ((size_t)1 << 20)

static const int kept_caps[] = {CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_BIND_SERVICE};

static bool is_cloned(int dir)
{
	_cleanup_fd_ int image = fd_open_beneath(dir, "image", O_RDONLY, 0);

	return image >= 0 && fgetxattr(image, CLONED, NULL, 0) >= 0;
}

bool gitrepo_is_up(int dir)
{
	return volume_is_mounted(dir, "data") && is_cloned(dir);
}

/* The clone first, then the word that it is there, both on disk: a machine that loses its power
 * shall not come back with half a repository. */
static int mark_cloned(int dir, int mount_fd, struct err *err)
{
	_cleanup_fd_ int image = fd_open_beneath(dir, "image", O_RDWR, 0);
	_cleanup_fd_ int root = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (image < 0 || root < 0)
		return err_errno(err, image < 0 ? image : -errno, "open the clone");
	if (syncfs(root) < 0 || fsync(image) < 0 || fsetxattr(image, CLONED, "1", 1, 0) < 0 ||
		fsync(image) < 0)
		return err_errno(err, -errno, "complete the clone");
	return 0;
}

static int remove_half(int dir, struct err *err)
{
	int r = volume_unmount(dir, "data");

	if (r == 0 && unlinkat(dir, "image", 0) < 0 && errno != ENOENT)
		r = -errno;
	return r < 0 ? err_errno(err, r, "remove what is left of a clone") : 0;
}

static int new_job(const struct volumes *volumes, const struct volume_spec *spec, struct err *err)
{
	const struct volumes_config *config = &volumes->config;
	_cleanup_json_ json_t *job = NULL;
	_cleanup_free_ char *text = NULL, *ca = NULL;
	_cleanup_fd_ int fd = -EBADF;
	int r = 0;

	if (config->ca_file)
		r = file_read(AT_FDCWD, config->ca_file, CA_MAX, &ca, NULL);
	if (r < 0)
		return err_errno(
			err, r, "%s, which the setting 'repository_ca' names", config->ca_file);
	job = json_pack("{s:s, s:s?, s:s?, s:s?, s:b, s:{s:I, s:I}}", "repository",
		spec->repository, "revision", spec->revision, "directory", spec->directory, "ca",
		ca, "allowLoopback", config->allow_loopback, "limits", "bytes",
		(json_int_t)config->git_repo_max_bytes, "seconds", (json_int_t)CLONE_SECONDS);
	if (!job)
		return err_set(err, -EINVAL, "FailedMount", "The repository is not valid UTF-8.");
	text = json_text(job);
	fd = memfd_create("clone-job", MFD_CLOEXEC);
	r = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
	/* A repository's URL may hold a password. */
	explicit_bzero(text, strlen(text));
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	return r < 0 ? err_errno(err, r, "job of berth-clone") : take_fd(fd);
}

/* What a worker wrote: it is believed in its form alone. */
static int read_answer(int out, int status, struct err *err)
{
	_cleanup_buf_ struct buf buf = BUF_MAX(ANSWER_MAX);
	_cleanup_free_ char *message = NULL;
	_cleanup_json_ json_t *json = NULL;
	const char *text;

	while (buf_read(&buf, out, ANSWER_MAX) > 0)
		;
	if (json_parse(buf_str(&buf), buf.len, 4, NULL, &json) == 0 && !buf.full) {
		if (status == 0 && json_get_bool(json, "done", false))
			return 0;
		text = json_get_str(json_get_obj(json, "error"), "message", NULL);
		message = text ? str_utf8_clean(text, strlen(text)) : NULL;
	}
	for (char *p = message; p && *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	if (message && status == 1)
		return err_set(err, -EIO, "FailedMount", "%s", message);
	if (status == 128 + SIGKILL)
		return err_set(err, -ETIMEDOUT, "FailedMount",
			"The repository could not be cloned within %d seconds.", CLONE_SECONDS);
	return err_set(err, -EIO, "FailedMount",
		"The repository could not be cloned: berth-clone ended with status %d.", status);
}

/* Until it has ended: by itself, cancelled, or because its time is over. */
static int wait_for(struct worker_process *process, int cancel_fd, struct err *err)
{
	struct pollfd fds[] = {
		{.fd = process->pidfd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
	int64_t end = time_mono_ms() + (CLONE_SECONDS + GRACE_SECONDS) * 1000LL;
	int64_t left;
	bool cancelled = false;
	int status;

	while (!fds[0].revents && !cancelled && (left = end - time_mono_ms()) > 0) {
		if (poll(fds, 2, (int)MIN(left, (int64_t)60000)) < 0 && errno != EINTR)
			break;
		cancelled = fds[1].revents;
	}
	/* Process 1 of its pid namespace: git goes with it. */
	kill(process->pid, SIGKILL);
	status = worker_reap(process);
	if (cancelled)
		return err_set(err, -ECANCELED, "Canceled", "The clone was given up.");
	return status;
}

static int run_worker(const struct volumes *volumes, int job, int mount_fd,
	const struct volume_group *group, int cancel_fd, struct err *err)
{
	const char *program = volumes->config.clone_program;
	_cleanup_fd_ int program_fd = open(program, O_PATH | O_CLOEXEC);
	_cleanup_fd_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	_cleanup_fd_ int out = -EBADF, out_write = -EBADF;
	struct worker_process process;
	int ends[2], fds[4], r;

	if (program_fd < 0 || null < 0)
		return err_errno(err, -errno, "open %s", program);
	/* Its one line fits into the pipe. */
	if (pipe2(ends, O_CLOEXEC) < 0 || fd_set_nonblock(ends[0], true) < 0)
		return err_errno(err, -errno, "pipe for berth-clone");
	out = ends[0];
	out_write = ends[1];
	fds[0] = job;
	fds[1] = out_write;
	fds[2] = null;
	fds[3] = mount_fd;
	r = worker_spawn(&(struct worker_spec){.name = "berth-clone",
				 .program_fd = program_fd,
				 .fds = fds,
				 .n_fds = ARRAY_SIZE(fds),
				 .cwd = -1,
				 .uid_base = group->uid_base,
				 .caps = kept_caps,
				 .n_caps = ARRAY_SIZE(kept_caps)},
		err, &process);
	if (r < 0)
		return r;
	out_write = fd_close(out_write);
	r = wait_for(&process, cancel_fd, err);
	return r < 0 ? r : read_answer(out, r, err);
}

static int clone_into(const struct volumes *volumes, int dir, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err)
{
	_cleanup_fd_ int job = new_job(volumes, spec, err);
	_cleanup_fd_ int mount_fd = -EBADF;
	int r;

	if (job < 0)
		return job;
	/* A second mount of the same: the one that containers get is never the worker's. */
	mount_fd =
		open_tree(dir, "data", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
	if (mount_fd < 0)
		return err_errno(err, -errno, "open the volume");
	r = run_worker(volumes, job, mount_fd, group, cancel_fd, err);
	return r < 0 ? r : mark_cloned(dir, mount_fd, err);
}

int gitrepo_up(const struct volumes *volumes, const char *path, const struct volume_group *group,
	const struct volume_spec *spec, int cancel_fd, struct err *err)
{
	_cleanup_fd_ int dir = volume_open_dir(path, err);
	int r;

	if (dir < 0)
		return dir;
	r = is_cloned(dir) ? 0 : remove_half(dir, err);
	if (r == 0)
		r = emptydir_up(volumes, path, group, spec, err);
	/* Also when the image could not be repaired after a crash and was made anew just now. */
	if (r < 0 || is_cloned(dir))
		return r;
	r = clone_into(volumes, dir, group, spec, cancel_fd, err);
	if (r < 0)
		(void)remove_half(dir, NULL);
	return r;
}
