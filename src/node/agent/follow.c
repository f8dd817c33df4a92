#include "node/agent/session.h"

void session_follow(struct session *session)
{
	struct err err = {0};

	err_set(&err, -ENOSYS, "NotImplemented", "This node can't follow a log yet.");
	session_refuse(session, &err);
}
