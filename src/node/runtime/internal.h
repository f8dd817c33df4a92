/* What the files of this folder share and nobody else sees. */
#pragma once

#include <jansson.h>

#include "base/base.h"
#include "base/proc.h"
#include "node/runtime/cgroup.h"
#include "node/runtime/runtime.h"

#define RUNTIME_ID_MAX 128
#define RUNTIME_CONFIG_MAX ((size_t)4 << 20)

struct runtime {
	char *crun, *conmon, *state_dir, *cgroup_root;
	uint64_t log_max_bytes;
	struct cgroups cgroups;
	char *seccomp;	       /* the profile as JSON text, made once */
	char *seccomp_program; /* for crun's annotation; NULL with another runtime */
	uint64_t nofile;       /* RLIMIT_NOFILE of the containers */
	int oom_score_adj;     /* of the containers; never below our own */
};

DEFINE_CLEANUP(struct runtime *, runtime_free)

/* bundle.c */

/* Makes what crun will mount on, beneath dir/rootfs, without following a symlink of the image. */
int bundle_prepare_rootfs(const struct runtime_spec *spec, struct err *err);
/* The text of config.json, owned by the caller. Resolves the user within the rootfs. */
int bundle_config(const struct runtime *runtime, const struct runtime_spec *spec, struct err *err,
	char **ret_text);

/* seccomp.c: the profile as compact JSON, owned by the caller. */
char *seccomp_profile(void);
/* The same as a program for the kernel, in base64, owned by the caller. */
int seccomp_program(struct err *err, char **ret_base64);

/* conmon.c */

struct monitor {
	pid_t pid;
	uint64_t start_ticks; /* with the pid it names the process for good; 0: not known */
	char *cgroup;	      /* owned; as in runtime_spec */
};

void monitor_done(struct monitor *monitor);
/* Reads the run folder's "monitor" file, which is there once the container was created. -ENOENT. */
int monitor_read(int run_fd, struct monitor *ret);
/* Opens a pidfd of the monitor if it is still that process: -ESRCH when it has ended (a zombie
 * counts as ended). */
int monitor_open(const struct monitor *monitor);
/* Starts conmon with crun create in the run folder and waits for crun's verdict; writes "monitor".
 */
int conmon_create(const struct runtime *runtime, const struct runtime_spec *spec,
	const char *run_dir, int run_fd, struct err *err);
/* Kills conmon and crun of a create that has no "monitor" file: whoever asked for it died, or gave
 * up, on the way. */
void conmon_kill_strays(const struct runtime *runtime, const char *id);

/* One line of conmon's sync pipe ({"data": N, "message": "…"}), without its newline. Returns the
 * pid of the container (> 0) or a negative errno with crun's sentence. For the fuzz target, too. */
int conmon_sync_parse(const char *line, size_t len, struct err *err);

/* runlog.c */

void log_remove(const char *dir, unsigned run);
/* The logs of the runs before `run`, but for the last one. */
void log_remove_old(const char *dir, unsigned run);

/* crun.c */

int crun_start(const struct runtime *runtime, const char *id, struct err *err);
int crun_kill(const struct runtime *runtime, const char *id, int signal, struct err *err);
/* Forces; an id that crun doesn't know is success. */
int crun_delete(const struct runtime *runtime, const char *id, struct err *err);
/* Whether crun holds a state folder of that id; with fifo: whether it still waits for `crun start`.
 */
bool crun_knows(const struct runtime *runtime, const char *id);
bool crun_waits(const struct runtime *runtime, const char *id);
