/*
 * Functions that this project doesn't call. Included before every file by the build, so that a use
 * is a compile error (-Werror=deprecated-declarations) with the name of what to use instead.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <time.h>

#define BANNED(why) __attribute__((deprecated(why)))

/* clang can't mark what glibc defines inline when it optimises (atoi); there gcc is the one that
 * catches a use. */
#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wignored-attributes"
#endif

extern __typeof__(strcpy) strcpy BANNED("use buf_printf or snprintf");
extern __typeof__(strcat) strcat BANNED("use buf_printf");
extern __typeof__(strncpy) strncpy BANNED("use str_copy");
extern __typeof__(sprintf) sprintf BANNED("use snprintf");
extern __typeof__(vsprintf) vsprintf BANNED("use vsnprintf");
extern __typeof__(strtok) strtok BANNED("use strchr or strsep");
extern __typeof__(atoi) atoi BANNED("use str_to_u64");
extern __typeof__(strtol) strtol BANNED("use str_to_u64");
extern __typeof__(system) system BANNED("use proc_spawn, there is no shell");
extern __typeof__(popen) popen BANNED("use proc_spawn, there is no shell");
extern __typeof__(gmtime) gmtime BANNED("use time_format");
extern __typeof__(localtime) localtime BANNED("use time_format");
extern __typeof__(ctime) ctime BANNED("use time_format");
extern __typeof__(signal) signal BANNED("use sigaction or signalfd");
extern __typeof__(rand) rand BANNED("use random_bytes");

#ifdef __clang__
#pragma clang diagnostic pop
#endif

#undef BANNED
