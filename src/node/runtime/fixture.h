/* Where the runtime's tests run: real containers, with conmon, crun, control groups and namespaces
 * of this machine, and busybox as the image. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "node/runtime/internal.h"

#define WAIT_MS 15000
#define MEBIBYTE ((uint64_t)1 << 20)

/* Of setup_machine(): the tests' folder, the mount namespace they were started in, the runtime. */
extern char top[sizeof("/tmp/berth-runtime-XXXXXX")];
extern int machine_ns;
extern struct runtime *runtime;

/* Once for a program: a mount namespace, a sandbox's user and network namespace, and a runtime. */
int setup_machine(void **state);
int teardown_machine(void **state);

/* A path below the tests' folder, in one of a few buffers. */
void *path_of(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A container with a folder of its own; the strings live as long as it does. */
struct box {
	char dir[4096], id[64], cgroup[64], net[4096], user[4096];
	const char *args[8];
	struct runtime_spec spec;
	struct err err;
};

/* Has /bin/sh run the script, in a root file system that is made at the first use of the name. */
void box_init(struct box *box, const char *name, const char *script);
/* These fail the test when they fail. */
void box_create(struct box *box);
void box_start(struct box *box);
struct runtime_state box_inspect(struct box *box);
/* Until the monitor has ended. */
struct runtime_state box_wait(struct box *box);
char *box_log(struct box *box, unsigned tail, bool timestamps, uint64_t max_bytes);
/* Deletes, twice, and looks for what may not be left. */
void box_delete(struct box *box);
/* Creates, starts and waits. */
struct runtime_state box_run(struct box *box);

bool anywhere_in_cgroups(const char *path);
void assert_has(const char *text, const char *part);
