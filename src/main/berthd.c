/*
 * berthd: the control plane. It faces the network and never runs as root.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "control/arm/arm.h"
#include "control/auth/auth.h"
#include "control/dns/dns_store.h"
#include "control/providers/containerinstance/containerinstance.h"
#include "control/providers/containerinstance/sessions.h"
#include "control/providers/resources/resources.h"
#include "control/providers/signin/signin.h"
#include "control/schedule/schedule.h"
#include "control/store/store.h"
#include "http/server.h"
#include "link/link.h"
#include "main/confine.h"
#include "main/daemon.h"
#include "main/notify.h"

#define NODE_UID 0 /* berth-node is root */
#define REQUEST_THREADS 16
#define BODY_MAX ((size_t)4 << 20)
#define CONNECTIONS_MAX 1024
#define STREAM_OPEN_MS 10000

struct control {
	struct config *config;
	struct loop *loop;
	struct store *store;
	struct auth *auth;
	struct schedule *schedule;
	struct link_server *link;
	struct dns *dns;
	struct dns_store labels;
	struct sessions *sessions;
	struct arm *arm;
	struct http_server *http;
	struct arm_services services;
	char *endpoint, *issuer;
};

static const struct arm_provider *const providers[] = {
	&signin_provider, &resources_provider, &containerinstance_provider, NULL};

static int open_store(struct control *control, struct err *err)
{
	_cleanup_free_ char *path = config_path(control->config, "control/berth.db");

	return store_open_sqlite(path, err, &control->store);
}

static int open_auth(struct control *control, struct err *err)
{
	_cleanup_free_ char *key = config_path(control->config, "control/token.key");
	_cleanup_free_ char *bootstrap = config_path(control->config, "control/bootstrap.json");
	int r;

	control->issuer = xasprintf("%s/%s", control->endpoint, control->config->tenant_id);
	r = auth_new(&(struct auth_config){.store = control->store,
			     .key_file = key,
			     .tenant_id = control->config->tenant_id,
			     .issuer = control->issuer,
			     .audience = control->endpoint},
		err, &control->auth);
	if (r == 0)
		r = auth_import_bootstrap(control->auth, bootstrap, err);
	return r == -ENOENT ? 0 : r;
}

static int open_schedule(struct control *control, struct err *err)
{
	_cleanup_free_ char *socket = config_path(control->config, "run/link/node.sock");
	int r;

	r = schedule_new(control->store, containerinstance_spec, NULL, err, &control->schedule);
	if (r == 0)
		r = link_server_new(control->loop, socket, NODE_UID, &schedule_link_ops,
			control->schedule, err, &control->link);
	if (r == 0)
		schedule_attach(control->schedule, control->link);
	return r;
}

/* Adds what to do about a port that another program has. */
static int port_taken(int r, const char *instead, struct err *err)
{
	_cleanup_free_ char *words = r == -EADDRINUSE ? xstrdup(err->message) : NULL;

	return words ? err_set(err, r, "PortTaken",
			       "%s. Another program or Berth has that port: choose another with %s",
			       words, instead)
		     : r;
}

static int open_dns(struct control *control, struct err *err)
{
	int r;

	control->labels =
		(struct dns_store){.store = control->store, .region = control->config->region};
	r = dns_new(control->loop,
		&(struct dns_config){.listen = control->config->dns_listen,
			.region = control->config->region,
			.zone = control->config->zone,
			.lookup = dns_store_lookup,
			.arg = &control->labels},
		err, &control->dns);
	return port_taken(r,
		"`berth up --listen HOST:PORT` (DNS is at its port + 10) or `--set dns_listen=HOST:PORT`",
		err);
}

static int open_stream(
	void *arg, const char *node, const char *method, json_t *args, struct err *err, int *ret_fd)
{
	struct control *control = arg;

	return link_server_stream(control->link, node, method, args, STREAM_OPEN_MS, err, ret_fd);
}

static int open_sessions(struct control *control, struct err *err)
{
	control->sessions = sessions_new(&(struct sessions_config){.loop = control->loop,
						 .authority = control->config->listen,
						 .open = open_stream,
						 .arg = control},
		err);
	return control->sessions ? 0 : err->r;
}

static void handle(struct http_exchange *exchange, void *arg)
{
	struct control *control = arg;

	if (!sessions_handle(control->sessions, exchange))
		arm_handle(exchange, control->arm);
}

static int open_api(struct control *control, struct err *err)
{
	const struct config *config = control->config;
	_cleanup_free_ char *cert = config_path(config, "control/server.pem");
	_cleanup_free_ char *key = config_path(config, "control/server.key");
	char host[64];
	int port;
	int r;

	control->services = (struct arm_services){.store = control->store,
		.auth = control->auth,
		.link = control->link,
		.sessions = control->sessions,
		.endpoint = control->endpoint,
		.tenant_id = config->tenant_id,
		.subscription_id = config->subscription_id,
		.region = config->region,
		.zone = config->zone,
		.public_pool = config->public_pool,
		.private_pool = config->private_pool,
		.put_wait_ms = (int)config->put_wait_ms};
	r = resources_resume(&control->services, providers, err);
	if (r < 0)
		log_warn("a resource group's deletion can't go on yet: %s", err->message);
	r = arm_new(
		&control->services, providers, REQUEST_THREADS, control->loop, err, &control->arm);
	if (r < 0)
		return r;
	r = config_host_port(config->listen, host, sizeof(host), &port, err);
	if (r < 0)
		return err_wrap(err, "listen");
	r = http_server_new(control->loop,
		&(struct http_server_config){.host = host,
			.port = port,
			.cert_file = cert,
			.key_file = key,
			.max_body = BODY_MAX,
			.max_connections = CONNECTIONS_MAX,
			.handle = handle,
			.arg = control},
		err, &control->http);
	return port_taken(r, "`berth up --listen HOST:PORT`", err);
}

static int control_start(struct control *control, struct err *err)
{
	int r;

	control->endpoint = xasprintf("https://%s", control->config->listen);
	r = open_store(control, err);
	if (r == 0)
		r = open_auth(control, err);
	if (r == 0)
		r = open_schedule(control, err);
	if (r == 0)
		r = open_dns(control, err);
	if (r == 0)
		r = open_sessions(control, err);
	if (r == 0)
		r = open_api(control, err);
	return r;
}

static void control_stop(struct control *control)
{
	arm_free(control->arm);
	http_server_free(control->http);
	sessions_free(control->sessions);
	dns_free(control->dns);
	schedule_stop(control->schedule);
	link_server_free(control->link);
	schedule_free(control->schedule);
	auth_free(control->auth);
	store_free(control->store);
	loop_free(control->loop);
	free(control->endpoint);
	free(control->issuer);
	config_free(control->config);
}

int main(int argc, char **argv)
{
	struct control control = {0};
	struct err err = {0};
	int r;

	r = daemon_start(argc, argv, "berthd",
		"The control plane: API, store, DNS. `berth up` starts it.", &control.config);
	if (r != 0)
		return r < 0 ? 2 : 0;
	if (geteuid() == 0) {
		fprintf(stderr,
			"berthd faces the network and never runs as root. `berth up` starts it as user 'berth'.\n");
		return 2;
	}
	umask(0077);
	control.loop = loop_new();
	r = daemon_signals(control.loop, &err);
	if (r == 0)
		r = confine(&err);
	if (r == 0)
		r = control_start(&control, &err);
	if (r < 0) {
		log_error("%s", err.message);
		return 1;
	}
	log_info("serving %s", control.endpoint);
	notify_ready();
	http_server_run(control.http);
	control_stop(&control);
	return 0;
}
