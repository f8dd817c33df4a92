/* The group as the API shows it: what was asked for, what the node sees, no secrets, in the
 * service's own order. */
#include "control/providers/containerinstance/internal.h"

/* Until the node has taken up the newest wish, the last operation is pending, whatever it reports
 * of an older one. */
static const char *provisioning_state(const json_t *record, const json_t *status)
{
	if (!status_is_current(record, status))
		return "Pending";
	return json_get_str(status, "provisioningState", "Pending");
}

static const json_t *container_view(const json_t *status, const char *list, const char *name)
{
	const json_t *container;
	size_t i;

	json_array_foreach (json_get_arr(status, list), i, container)
		if (str_eq(json_get_str(container, "name", ""), name))
			return json_get_obj(container, "instanceView");
	return NULL;
}

/* Of containers or initContainers: a status has both under the names of the document. */
static void put_container_views(json_t *properties, const json_t *status, const char *list)
{
	json_t *container;
	size_t i;

	json_array_foreach (json_get_arr(properties, list), i, container) {
		const json_t *view =
			container_view(status, list, json_get_str(container, "name", ""));

		/* A container that nothing has happened to yet has no view. */
		if (json_object_get(view, "currentState") ||
			json_array_size(json_get_arr(view, "events")))
			json_object_set_new(json_get_obj(container, "properties"), "instanceView",
				json_deep_copy(view));
	}
}

static void put_group_view(json_t *properties, const json_t *status)
{
	json_t *events = json_get_arr(status, "events");
	json_t *view = json_object();

	json_object_set_new(view, "events", events ? json_deep_copy(events) : json_array());
	json_put_str(view, "state", json_get_str(status, "state", "Pending"));
	json_object_set_new(properties, "instanceView", view);
	json_put_str(properties, "state",
		json_get_str(status, "state", "Pending")); /* 2017-08-01-preview's */
}

static void put_address(json_t *properties, const json_t *record, const char *provisioning)
{
	json_t *address = json_get_obj(properties, "ipAddress");

	if (!address)
		return;
	if (!str_eq(provisioning, "Pending"))
		json_put_str(address, "ip", json_get_str(record, "ip", NULL));
	json_put_str(address, "fqdn", json_get_str(record, "fqdn", NULL));
}

json_t *group_present(
	const json_t *record, const json_t *status, const char *api_version, bool views)
{
	json_t *document = json_deep_copy(json_object_get(record, "document"));
	json_t *properties = json_get_obj(document, "properties");
	const char *provisioning = provisioning_state(record, status);
	struct schema_context context = {.api_version = api_version};

	json_put_str(properties, "provisioningState", provisioning);
	json_object_set_new(properties, "provisioningTimeoutInSeconds", json_integer(1800));
	json_object_set_new(properties, "isCustomProvisioningTimeout", json_false());
	if (!json_get_arr(properties, "initContainers"))
		json_object_set_new(properties, "initContainers", json_array());
	if (views) {
		put_container_views(properties, status, "containers");
		put_container_views(properties, status, "initContainers");
		put_group_view(properties, status);
	}
	put_address(properties, record, provisioning);
	json_put_str(document, "id", json_get_str(record, "id", ""));
	json_put_str(document, "name", json_get_str(record, "name", ""));
	json_put_str(document, "type", GROUPS_TYPE);
	schema_present(&group_schema, document, &context);
	return document;
}
