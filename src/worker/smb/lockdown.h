#pragma once

/* From here on: no program, no process, no right and no file is gained, and only the internet's
 * sockets. 0 or -errno. */
int lockdown(void);
