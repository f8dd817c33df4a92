/* Readiness, as systemd's sd_notify(3) has it: "READY=1" to the datagram socket named in
 * NOTIFY_SOCKET. */
#pragma once

void notify_ready(void);
