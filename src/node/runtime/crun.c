/* The runtime's commands. Each is a process of its own with a fresh environment and a deadline;
 * `start` opens a fifo and could wait for ever. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "base/json.h"
#include "node/runtime/internal.h"

#define TIMEOUT_MS 30000
#define OUTPUT_MAX ((size_t)64 << 10)
#define ARGS_MAX 8

static int run(
	const struct runtime *runtime, const char *const *args, char **ret_output, struct err *err)
{
	const char *argv[ARGS_MAX + 4] = {runtime->crun, "--root", runtime->state_dir};
	_cleanup_free_ char *output = NULL;
	size_t n = 3;
	int r;

	for (size_t i = 0; args[i]; i++) {
		assert(i < ARGS_MAX);
		argv[n++] = args[i];
	}
	r = proc_run(argv, TIMEOUT_MS, OUTPUT_MAX, &output, err);
	if (r < 0)
		return r;
	if (r > 0) {
		_cleanup_free_ char *clean = str_utf8_clean(output, strlen(output));

		clean[strcspn(clean, "\n")] = '\0';
		return err_set(err, -EIO, "ContainerRuntimeError", "%s %s: %s", runtime->crun,
			args[0], *clean ? clean : "failed without a word");
	}
	if (ret_output)
		*ret_output = take_ptr(output);
	return 0;
}

static bool state_path(
	const struct runtime *runtime, const char *id, const char *file, char ret[static PATH_MAX])
{
	return snprintf(ret, PATH_MAX, "%s/%s/%s", runtime->state_dir, id, file) < PATH_MAX;
}

static bool state_has(const struct runtime *runtime, const char *id, const char *file)
{
	char path[PATH_MAX];

	return state_path(runtime, id, file, path) && access(path, F_OK) == 0;
}

bool crun_knows(const struct runtime *runtime, const char *id)
{
	return state_has(runtime, id, "");
}

bool crun_waits(const struct runtime *runtime, const char *id)
{
	return state_has(runtime, id, "exec.fifo");
}

/* All that `crun start` does for a bundle without hooks is to write a byte into the fifo that the
 * program's process reads before it goes on, and to unlink it; a process for that costs more than
 * everything else of a start but the create. Here the byte comes first: whoever is killed between
 * the two finds, the next time, a fifo without a reader, and knows that the program was let go (or
 * has died, of which the exit code tells). */
static int let_go(const char *fifo)
{
	_cleanup_fd_ int fd = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 && errno != ENXIO)
		return -errno;
	if (fd >= 0 && write(fd, "", 1) < 0 && errno != EPIPE)
		return -errno;
	return unlink(fifo) < 0 && errno != ENOENT ? -errno : 0;
}

/* Other runtimes use a fifo of that name the other way round. */
static bool is_crun(const struct runtime *runtime)
{
	const char *slash = strrchr(runtime->crun, '/');

	return str_eq(slash ? slash + 1 : runtime->crun, "crun");
}

int crun_start(const struct runtime *runtime, const char *id, struct err *err)
{
	char fifo[PATH_MAX];

	if (is_crun(runtime) && state_path(runtime, id, "exec.fifo", fifo) && let_go(fifo) == 0)
		return 0;
	return run(runtime, (const char *const[]){"start", id, NULL}, NULL, err);
}

static bool is_stopped(const struct runtime *runtime, const char *id)
{
	_cleanup_json_ json_t *state = NULL;
	_cleanup_free_ char *text = NULL;

	if (run(runtime, (const char *const[]){"state", id, NULL}, &text, NULL) < 0)
		return !crun_knows(runtime, id);
	if (json_parse(text, strlen(text), JSON_DEPTH_MAX, NULL, &state) < 0)
		return false;
	return str_eq(json_get_str(state, "status", ""), "stopped");
}

int crun_kill(const struct runtime *runtime, const char *id, int signal, struct err *err)
{
	char number[16];
	int r;

	if (!crun_knows(runtime, id))
		return 0;
	snprintf(number, sizeof(number), "%d", signal);
	r = run(runtime, (const char *const[]){"kill", id, number, NULL}, NULL, err);
	if (r < 0 && is_stopped(runtime, id))
		return 0;
	return r;
}

int crun_delete(const struct runtime *runtime, const char *id, struct err *err)
{
	return run(runtime, (const char *const[]){"delete", "--force", id, NULL}, NULL, err);
}
