#include "control/providers/containerinstance/validate_fixture.h"

#define LIMITED(requests, limits)                                                                  \
	"{'name':'c','properties':{'image':'alpine','resources':{'requests':" requests             \
	",'limits':" limits "}}}"
#define REQ(requests)                                                                              \
	"{'name':'c','properties':{'image':'alpine','resources':{'requests':" requests "}}}"

static const struct refusal refusals[] = {
	/* osType, the group itself */
	{"{'properties':{'containers':[" C1 "]}}", "InvalidOsType", "properties.osType",
		"The 'osType' for container group '<null>' is invalid. The value must be one of 'Windows,Linux'."},
	{"{'properties':{'containers':[" C1 "],'osType':'BeOS'}}", "InvalidOsType",
		"properties.osType",
		"The 'osType' for container group '<null>' is invalid. The value must be one of 'Windows,Linux'."},
	{"{'properties':{'containers':[" C1 "],'osType':'windows'}}", "PropertyNotSupported",
		"properties.osType", NULL},
	{"{}", "InvalidRequestContent", "properties", NULL},
	{"{'properties':{'osType':'Linux'}}", "ContainersNotSpecified", "properties.containers",
		NULL},
	{G("", ""), "ContainersNotSpecified", "properties.containers", NULL},
	{"{'name':'h','properties':{}}", "InvalidRequestContent", "name", NULL},
	{"{'id':'" ID "x','properties':{}}", "InvalidRequestContent", "id", NULL},
	{"{'type':'Microsoft.Web/sites','properties':{}}", "InvalidRequestContent", "type", NULL},
	{"{'location':'France Central','properties':{'containers':[" C1 "],'osType':'Linux'}}",
		"LocationNotAvailableForResourceType", "location",
		"The provided location 'France Central' is not available for resource type "
		"'Microsoft.ContainerInstance/containerGroups'. List of available regions for the resource type is 'local'."},
	{G(C1, ",'restartPolicy':'Sometimes'"), "InvalidRestartPolicy", "properties.restartPolicy",
		NULL},
	{G(C1, ",'provisioningTimeoutInSeconds':60"),
		"CustomProvisioningTimeoutInSecondsNotSuppported",
		"properties.provisioningTimeoutInSeconds", NULL},
	{G(C1, ",'colour':'red'"), "InvalidRequestContent", "properties.colour", NULL},
	/* containers */
	{G("{'name':'A','properties':{'image':'i'}}", ""), "InvalidContainerName",
		"properties.containers[0].name",
		"The container name 'A' in container group 'g' is invalid. The container name must contain no more than 63 "
		"characters and must match the regex '[a-z0-9]([-a-z0-9]*[a-z0-9])?' (e.g. 'my-name')."},
	{G("{'name':'a-','properties':{'image':'i'}}", ""), "InvalidContainerName",
		"properties.containers[0].name", NULL},
	{G("{'name':'','properties':{'image':'i'}}", ""), "InvalidContainerName",
		"properties.containers[0].name", NULL},
	{G(C1 "," C1, ""), "DuplicateContainerName", "properties.containers[1].name", NULL},
	{G("{'name':'c','properties':{" RES "}}", ""), "ImageNotSpecified",
		"properties.containers[0].properties.image",
		"The image is not specified in container 'c' of container group 'g'."},
	{G("{'name':'c','properties':{'image':'a b'," RES "}}", ""), "InvalidImageName",
		"properties.containers[0].properties.image", NULL},
	{G(C(",'environmentVariables':[{'name':'A'},{'name':'1A','value':'x'}]"), ""),
		"InvalidContainerEnvironmentVariable",
		"properties.containers[0].properties.environmentVariables[1].name",
		"The environment variable name in container 'c' of container group 'g' is invalid. A valid environment "
		"variable name must start with alphabetic character or '_', followed by a string of alphanumeric characters "
		"or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName')."},
	{G(C(",'environmentVariables':[{'name':'A','value':'x','secureValue':'y'}]"), ""),
		"InvalidEnvironmentVariable",
		"properties.containers[0].properties.environmentVariables[0]", NULL},
	/* resources */
	{G("{'name':'c','properties':{'image':'i'}}", ""), "ResourceRequestsNotSpecified",
		"properties.containers[0].properties.resources.requests",
		"The resource requests are not specified in container 'c' of contain group 'g'. Both memory and CPU requests "
		"are required since API version '2017-07-01-preview'."},
	{G(REQ("{}"), ""), "ResourceRequestsNotSpecified",
		"properties.containers[0].properties.resources.requests", NULL},
	{G(REQ("{'cpu':1}"), ""), "ResourceSomeRequestsNotSpecified",
		"properties.containers[0].properties.resources.requests.memoryInGB",
		"The 'MemoryInGB' request is not specified in "
		"'Microsoft.Azure.CloudConsole.Providers.Common.Entities.ComputeResources' in container 'c' of contain group "
		"'g'. It is required since API version '2017-07-01-preview'."},
	{G(REQ("{'memoryInGB':1}"), ""), "ResourceSomeRequestsNotSpecified",
		"properties.containers[0].properties.resources.requests.cpu",
		"The 'Cpu' request is not specified in "
		"'Microsoft.Azure.CloudConsole.Providers.Common.Entities.ComputeResources' in container 'c' of contain group "
		"'g'. It is required since API version '2017-07-01-preview'."},
	{G(REQ("{'cpu':0,'memoryInGB':1}"), ""), "InvalidResourceRequest",
		"properties.containers[0].properties.resources.requests.cpu", NULL},
	{G(REQ("{'cpu':0.123,'memoryInGB':1}"), ""), "InvalidResourceRequest",
		"properties.containers[0].properties.resources.requests.cpu", NULL},
	{G(REQ("{'cpu':1,'memoryInGB':0.25}"), ""), "InvalidResourceRequest",
		"properties.containers[0].properties.resources.requests.memoryInGB", NULL},
	{G(REQ("{'cpu':1,'memoryInGB':-1}"), ""), "InvalidResourceRequest",
		"properties.containers[0].properties.resources.requests.memoryInGB", NULL},
	{G(REQ("{'cpu':31.5,'memoryInGB':1}"), ""), "InvalidResourceRequest",
		"properties.containers",
		"The containers of container group 'g' request '31.5' CPU and '1' GB memory together. At most '31' CPU and "
		"'240' GB are allowed."},
	{G(REQ("{'cpu':1,'memoryInGB':240.1}"), ""), "InvalidResourceRequest",
		"properties.containers", NULL},
	{G(REQ("{'cpu':1,'memoryInGB':1,'gpu':{'count':1,'sku':'V100'}}"), ""),
		"PropertyNotSupported",
		"properties.containers[0].properties.resources.requests.gpu", NULL},
	{G(LIMITED("{'cpu':2,'memoryInGB':4}", "{'cpu':1,'memoryInGB':1.5}"), ""),
		"ResourceLimitsLessThanRequests",
		"properties.containers[0].properties.resources.limits.cpu",
		"The resource requirement '{\"requests\":{\"memoryInGB\":4.0,\"cpu\":2.0},\"limits\":{\"memoryInGB\":1.5,"
		"\"cpu\":1.0}}' in container 'c' of contain group 'g' is invalid. The 'Cpu' limit value must be greater than or "
		"equal to the request value."},
	{G(LIMITED("{'cpu':1,'memoryInGB':1}", "{'cpu':2}"), ""),
		"ContainerLimitGreaterThanContainerGroupTotalRequest",
		"properties.containers[0].properties.resources.limits.cpu",
		"The 'Cpu' limit '2' in container 'c' is greater than the total request '1' of container group 'g'."},
	{G(LIMITED("{'cpu':1,'memoryInGB':1}", "{'memoryInGB':1.5}"), ""),
		"ContainerLimitGreaterThanContainerGroupTotalRequest",
		"properties.containers[0].properties.resources.limits.memoryInGB",
		"The 'MemoryInGB' limit '1.5' in container 'c' is greater than the total request '1' of container group 'g'."},
	/* ports and addresses */
	{G(C(",'ports':[{'port':0}]"), ""), "InvalidPort",
		"properties.containers[0].properties.ports[0].port", NULL},
	{G(C(",'ports':[{'port':65536}]"), ""), "InvalidPort",
		"properties.containers[0].properties.ports[0].port", NULL},
	{G(C(",'ports':[{'port':80,'protocol':'ICMP'}]"), ""), "InvalidProtocol",
		"properties.containers[0].properties.ports[0].protocol", NULL},
	{G(C(",'ports':[{'port':80},{'port':80,'protocol':'TCP'}]"), ""), "DuplicatePort",
		"properties.containers[0].properties.ports[1].port", NULL},
	{G(C(",'ports':[{'port':80}]") ",{'name':'d','properties':{'image':'i'," RES
				       ",'ports':[{'port':80}]}}",
		 ""),
		"DuplicatePorts", "properties.containers[1].properties.ports[0].port", NULL},
	{G(C1, ",'ipAddress':{'type':'Public','ports':[]}"), "MissingIpAddressPorts",
		"properties.ipAddress.ports",
		"The ports in the 'ipAddress' of container group 'g' cannot be empty."},
	{G(C1, ",'ipAddress':{'type':'Public'}"), "MissingIpAddressPorts",
		"properties.ipAddress.ports", NULL},
	{G(C1, ",'ipAddress':{'ports':[{'port':80}]}"), "InvalidRequestContent",
		"properties.ipAddress.type", NULL},
	{G(C1, ",'ipAddress':{'type':'Loopback','ports':[{'port':80}]}"), "InvalidIpAddressType",
		"properties.ipAddress.type", NULL},
	{G(C(",'ports':[{'port':80}]"),
		 ",'ipAddress':{'type':'Public','ports':[{'port':80},{'port':80}]}"),
		"DuplicatePort", "properties.ipAddress.ports[1].port", NULL},
	{G(C(",'ports':[{'port':80}]"),
		 ",'ipAddress':{'type':'Public','ports':[{'port':80},{'port':4900}]}"),
		"PortsNotExposed", "properties.ipAddress.ports",
		"Following ports '4900' in the 'ipAddress' are not used by any container in container group 'g'."},
	{G(C(",'ports':[{'port':80,'protocol':'TCP'}]"),
		 ",'ipAddress':{'type':'Public','ports':[{'port':80,'protocol':'UDP'}]}"),
		"PortsNotExposed", "properties.ipAddress.ports", NULL},
	{G(C(",'ports':[{'port':80}]"), ",'ipAddress':{'type':'Private','ports':[{'port':80}]}"),
		"PrivateIPAddressNotSupported", "properties.ipAddress.type",
		"IP Address type in container group 'g' is invalid. Private IP address is only supported when network profile "
		"is defined."},
	{G(C(",'ports':[{'port':80}]"),
		 ",'ipAddress':{'type':'Public','ports':[{'port':80}],'dnsNameLabel':'web'}"),
		"InvalidDnsNameLabel", "properties.ipAddress.dnsNameLabel",
		"The DNS name label 'web' in container group 'g' is invalid. It can contain only lowercase letters, numbers "
		"and hyphens. The first character must be a letter. The last character must be a letter or number. The value "
		"must be between 5 and 63 characters long."},
	{G(C(",'ports':[{'port':80}]"),
		 ",'ipAddress':{'type':'Public','ports':[{'port':80}],'dnsNameLabel':'web-1-'}"),
		"InvalidDnsNameLabel", "properties.ipAddress.dnsNameLabel", NULL},
	{G(C(",'ports':[{'port':80}]"),
		 ",'ipAddress':{'type':'Public','ports':[{'port':80}],'autoGeneratedDomainNameLabelScope':'Noreuse'}"),
		"PropertyNotSupported", "properties.ipAddress.autoGeneratedDomainNameLabelScope",
		NULL},
	/* registries */
	{G(C1, ",'imageRegistryCredentials':[{'server':'https://r.example','username':'u','password':'p'}]"),
		"InvalidImageRegistryCredential", "properties.imageRegistryCredentials[0].server",
		NULL},
	{G(C1, ",'imageRegistryCredentials':[{'server':'r.example','username':'u'}]"),
		"InvalidImageRegistryCredential", "properties.imageRegistryCredentials[0]", NULL},
	{G(C1, ",'imageRegistryCredentials':[{'server':'r','username':'u','password':'p'},{'server':'R','username':'u',"
	       "'password':'p'}]"),
		"DuplicateImageRegistryServer", "properties.imageRegistryCredentials[1].server",
		NULL},
	{G(C1, ",'imageRegistryCredentials':[{'server':'r','identity':'x'}]"),
		"PropertyNotSupported", "properties.imageRegistryCredentials[0].identity", NULL},
	{G(C1, ",'imageRegistryCredentials':[{'server':'r','identity':'x'}]"),
		"InvalidImageRegistryCredentialType",
		"properties.imageRegistryCredentials[0].identity",
		"Identity in 'imageRegistryCredentials' of container group 'g' is not supported.",
		"2021-03-01"},
	/* what this version doesn't run */
	{G(C(",'securityContext':{'privileged':true}"), ""), "PropertyNotSupported",
		"properties.containers[0].properties.securityContext", NULL},
	{G(C1, ",'subnetIds':[{'id':'x'}]"), "PropertyNotSupported", "properties.subnetIds", NULL},
	{G(C1, ",'networkProfile':{'id':'x'}"), "PropertyNotSupported", "properties.networkProfile",
		NULL, "2020-11-01"},
	{G(C1, ",'networkProfile':{'id':'x'}"), "InvalidRequestContent",
		"properties.networkProfile", NULL},
	{G(C1, ",'diagnostics':{'logAnalytics':{}}"), "PropertyNotSupported",
		"properties.diagnostics", NULL},
	{G(C1, ",'encryptionProperties':{'keyName':'k'}"), "PropertyNotSupported",
		"properties.encryptionProperties", NULL},
	{G(C1, ",'extensions':[{'name':'x'}]"), "PropertyNotSupported", "properties.extensions",
		NULL},
	{G(C1, ",'sku':'Dedicated'"), "PropertyNotSupported", "properties.sku",
		"The value 'Dedicated' of 'properties.sku' is not supported by this version of Berth. It must be one of "
		"'Standard'. Use 'Standard': a node has neither reserved machines nor confidential hardware."},
	{G(C1, ",'sku':'Gold'"), "InvalidSku", "properties.sku", NULL},
	{G(C1, ",'priority':'Spot'"), "PropertyNotSupported", "properties.priority", NULL},
	{G(C1, ",'priority':'Low'"), "PriorityNotSpecified", "properties.priority",
		"The 'Priority' must be one of 'Regular,Spot' for container group 'g'."},
	{G(C1, ",'confidentialComputeProperties':{'ccePolicy':'x'}"), "PropertyNotSupported",
		"properties.confidentialComputeProperties", NULL},
	{G(C1, ",'containerGroupProfile':{'id':'x'}"), "PropertyNotSupported",
		"properties.containerGroupProfile", NULL, "2025-09-01"},
	{G(C1, ",'standbyPoolProfile':{'id':'x'}"), "PropertyNotSupported",
		"properties.standbyPoolProfile", NULL, "2025-09-01"},
	{"{'identity':{'type':'SystemAssigned'},'properties':{'containers':[" C1
	 "],'osType':'Linux'}}",
		"PropertyNotSupported", "identity.type", NULL},
	{"{'zones':['1'],'properties':{'containers':[" C1 "],'osType':'Linux'}}",
		"PropertyNotSupported", "zones",
		"The property 'zones' is not supported by this version of Berth. Leave it out: this region has no zones."},
	{"{'tags':{'a<b':'x'},'properties':{'containers':[" C1 "],'osType':'Linux'}}",
		"InvalidTagNameCharacters", "tags.a<b", NULL},
};

static void refuses_with_code_target_and_message(void **state)
{
	fixture_refuses(refusals, ARRAY_SIZE(refusals));
}

static void refuses_bad_group_names(void **state)
{
	static const char *const names[] = {"", "-a", "a-", "A", "a_b", "a.b",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct validate_context context = fixture_context(NULL);
		_cleanup_json_ json_t *document = fixture_parse(G(C1, ""));
		struct err err = {0};

		context.group_name = names[i];
		assert_int_equal(group_validate(document, &context, &err), -EINVAL);
		assert_string_equal(err.code, "InvalidContainerGroupName");
		assert_string_equal(err.target, "name");
	}
}

static void counts_containers(void **state)
{
	struct validate_context context = fixture_context(NULL);
	struct err err = {0};

	for (int n = 60; n <= 61; n++) {
		_cleanup_json_ json_t *document = fixture_parse(G("", ""));
		json_t *containers = json_path(document, "properties", "containers", NULL);

		for (int i = 0; i < n; i++) {
			_cleanup_free_ char *text = xasprintf(
				"{'name':'c%d','properties':{'image':'i','resources':{'requests':{'cpu':0.5,'memoryInGB':1}}}}",
				i);

			json_array_append_new(containers, fixture_parse(text));
		}
		assert_int_equal(group_validate(document, &context, &err), n == 60 ? 0 : -EINVAL);
	}
	assert_string_equal(err.code, "TooManyContainers");
	assert_string_equal(
		err.message, "The container group 'g' has 61 containers. At most 60 are allowed.");
}

#define OUT_C                                                                                      \
	"{'name':'c','properties':{'image':'alpine','environmentVariables':[],'resources':{'requests':{'memoryInGB':1.5,'cpu':1.0}}}}"
#define OUT                                                                                        \
	"{'properties':{'sku':'Standard','containers':[" OUT_C                                     \
	"],'restartPolicy':'Always','osType':'Linux'},"                                            \
	"'location':'local','tags':{}}"

static void check_number(void)
{
	struct validate_context context = fixture_context(NULL);
	_cleanup_json_ json_t *document = fixture_parse(G(REQ("{'cpu':0.1,'memoryInGB':1.1}"), ""));
	_cleanup_free_ char *text = NULL;
	struct err err = {0};

	assert_int_equal(group_validate(document, &context, &err), 0);
	text = json_text(document);
	assert_non_null(strstr(text, "\"requests\":{\"memoryInGB\":1.1,\"cpu\":0.1}"));
}

static void accepts_what_clients_send(void **state)
{
	fixture_accepts(G(C1, ""), NULL, OUT);
	fixture_accepts(G(C1, ""), "2017-08-01-preview", OUT);
	/* numbers come back as they were written */
	check_number();
	/* empty lists and nulls of what isn't supported, identity None */
	fixture_accepts(
		"{'location':'Lo cal','tags':null,'zones':[],'identity':{'type':'None'},'properties':{'containers':["
		"{'name':'c','properties':{'image':'alpine','command':[],'ports':[],'volumeMounts':[],"
		"'livenessProbe':null,'securityContext':{},'environmentVariables':null,'resources':{'requests':{"
		"'cpu':1,'memoryInGb':1.5},'limits':{}}}}],'initContainers':[],'volumes':[],'subnetIds':[],"
		"'imageRegistryCredentials':[],'diagnostics':null,'extensions':[],'osType':'linux','sku':'standard'}}",
		NULL, OUT);
	/* a GET's answer, sent back */
	fixture_accepts(
		"{'id':'" ID
		"','name':'g','type':'Microsoft.ContainerInstance/containerGroups','properties':{"
		"'sku':'Standard','provisioningState':'Succeeded','provisioningTimeoutInSeconds':1800,"
		"'isCustomProvisioningTimeout':false,'containers':[{'name':'c','properties':{'image':'alpine',"
		"'environmentVariables':[],'instanceView':{'restartCount':0},'resources':{'requests':{'cpu':1.0,"
		"'memoryInGB':1.5}}}}],'initContainers':[],'restartPolicy':'Always','osType':'Linux',"
		"'instanceView':{'events':[],'state':'Running'}},'location':'local','tags':{}}",
		NULL, OUT);
	/* az's own */
	fixture_accepts(
		G(C(",'ports':[{'protocol':'TCP','port':80}]"),
			",'ipAddress':{'ports':[{'protocol':'TCP','port':'80'}],'type':'public','ip':'1.2.3.4',"
			"'autoGeneratedDomainNameLabelScope':'Unsecure'}"),
		NULL,
		"{'properties':{'sku':'Standard','containers':[{'name':'c','properties':{'image':'alpine','ports':[{"
		"'protocol':'TCP','port':80}],'environmentVariables':[],'resources':{'requests':{'memoryInGB':1.5,'cpu':1.0}}"
		"}}],'restartPolicy':'Always','ipAddress':{'ports':[{'protocol':'TCP','port':80}],'type':'Public'},'osType':"
		"'Linux'},'location':'local','tags':{}}");
}

/* --- presentation --- */

static void check_presented(
	const char *record, const char *status, const char *version, bool views, const char *want)
{
	_cleanup_json_ json_t *r = fixture_parse(record);
	_cleanup_json_ json_t *s = status ? fixture_parse(status) : NULL;
	_cleanup_json_ json_t *got = group_present(r, s, version, views);
	_cleanup_json_ json_t *expected = fixture_parse(want);
	_cleanup_free_ char *got_text = json_text(got);
	_cleanup_free_ char *want_text = json_text(expected);

	assert_string_equal(got_text, want_text);
}

#define RECORD                                                                                                       \
	"{'uid':'u','generation':1,'runs':1,'restarts':0,'name':'g','resourceGroup':'rg','id':'" ID                  \
	"','ip':'100.64.0.5','fqdn':'label.local.berth.internal','document':{'properties':{'sku':'Standard',"        \
	"'containers':[{'name':'c','properties':{'image':'alpine','ports':[{'protocol':'TCP','port':80}],"           \
	"'environmentVariables':[{'name':'A','value':'1'},{'name':'S','secureValue':'x'}],'resources':{'requests':{" \
	"'memoryInGB':1.0,'cpu':1.0}}}}],'imageRegistryCredentials':[{'server':'r','username':'u','password':'p'}]," \
	"'restartPolicy':'Never','ipAddress':{'ports':[{'protocol':'TCP','port':80}],'type':'Public',"               \
	"'dnsNameLabel':'label'},'osType':'Linux'},'location':'local','tags':{'k':'v'}}}"
#define TAIL                                                                                       \
	",'id':'" ID                                                                               \
	"','name':'g','type':'Microsoft.ContainerInstance/containerGroups','location':'local','tags':{'k':'v'}}"
#define VIEW                                                                                                             \
	"{'restartCount':0,'currentState':{'state':'Running','startTime':'2023-05-01T16:47:54.038Z','detailStatus':''}," \
	"'events':[]}"
#define STATUS                                                                                                 \
	"{'generation':1,'runs':1,'restarts':0,'provisioningState':'Succeeded','state':'Running','events':[]," \
	"'containers':[{'name':'c','instanceView':" VIEW "}]}"
#define SHOWN_C(view)                                                                                      \
	"'containers':[{'name':'c','properties':{'image':'alpine','ports':[{'protocol':'TCP','port':80}]," \
	"'environmentVariables':[{'name':'A','value':'1'},{'name':'S'}]," view                             \
	"'resources':{'requests':{'memoryInGB':1.0,'cpu':1.0}}}}]"
#define SHOWN_R "'imageRegistryCredentials':[{'server':'r','username':'u'}],'restartPolicy':'Never'"
#define SHOWN_A(ip)                                                                                \
	"'ipAddress':{'ports':[{'protocol':'TCP','port':80}]," ip                                  \
	"'type':'Public','dnsNameLabel':'label','fqdn':'label.local.berth.internal'},'osType':'Linux'"
#define SHOWN_T "'provisioningTimeoutInSeconds':1800,'isCustomProvisioningTimeout':false"

static void presents_as_recorded(void **state)
{
	/* the answer to a create */
	check_presented(RECORD, NULL, "2023-05-01", true,
		"{'properties':{'sku':'Standard','provisioningState':'Pending'," SHOWN_T
		"," SHOWN_C("") ",'initContainers':[]," SHOWN_R "," SHOWN_A(
			"") ",'instanceView':{'events':[],'state':'Pending'}}" TAIL);
	/* a running group */
	check_presented(RECORD, STATUS, "2023-05-01", true,
		"{'properties':{'sku':'Standard','provisioningState':'Succeeded'," SHOWN_T
		"," SHOWN_C("'instanceView':" VIEW ",") ",'initContainers':[]," SHOWN_R "," SHOWN_A(
			"'ip':'100.64.0.5',") ",'instanceView':{'events':[],'state':'Running'}}" TAIL);
	/* in a list */
	check_presented(RECORD, STATUS, "2023-05-01", false,
		"{'properties':{'sku':'Standard','provisioningState':'Succeeded'," SHOWN_T
		"," SHOWN_C("") ",'initContainers':[]," SHOWN_R
				"," SHOWN_A("'ip':'100.64.0.5',") "}" TAIL);
	/* older versions don't know newer properties */
	check_presented(RECORD, STATUS, "2019-12-01", false,
		"{'properties':{'sku':'Standard','provisioningState':'Succeeded'," SHOWN_C(
			"") ",'initContainers':[]," SHOWN_R
			    "," SHOWN_A("'ip':'100.64.0.5',") "}" TAIL);
	check_presented(RECORD, STATUS, "2018-10-01", false,
		"{'properties':{'provisioningState':'Succeeded'," SHOWN_C(
			"") "," SHOWN_R "," SHOWN_A("'ip':'100.64.0.5',") "}" TAIL);
}

#define WHOLE                                                                                                               \
	"{'generation':1,'name':'g','id':'" ID                                                                              \
	"','ip':'100.64.0.5','document':{'properties':{'sku':'Standard','containers':[{'name':'c','properties':{'image':"   \
	"'a','environmentVariables':[],'resources':{'requests':{'memoryInGB':1.0,'cpu':1.0}},'volumeMounts':[{'name':'s',"  \
	"'mountPath':'/s'}],'livenessProbe':{'httpGet':{'port':80,'httpHeaders':[{'name':'A','value':'x'}]}},'configMap':{" \
	"'keyValuePairs':{'k':'v'}}}}],'initContainers':[{'name':'i','properties':{'image':'b','environmentVariables':[{"   \
	"'name':'S','secureValue':'hunter2'}]}}],'restartPolicy':'Never','osType':'Linux','volumes':[{'name':'s','secret':" \
	"{'k':'hunter2'}},{'name':'f','azureFile':{'shareName':'abc','storageAccountName':'acc','storageAccountKey':"       \
	"'hunter2'}},{'name':'r','gitRepo':{'directory':'.','repository':'https://g/a','revision':'x'}}],'dnsConfig':{"     \
	"'nameServers':['1.1.1.1']}},'location':'local','tags':{}}}"
#define EVENT "{'count':1,'firstTimestamp':'f','lastTimestamp':'l',"
#define ENDED                                                                                      \
	"{'restartCount':0,'currentState':{'state':'Terminated','exitCode':0,'detailStatus':'Completed'},'events':["
#define WHOLE_STATUS                                                                                                                             \
	"{'generation':1,'runs':1,'restarts':1,'provisioningState':'Succeeded','state':'Running','containers':[],'initContainers':[{'name':'i'," \
	"'instanceView':" ENDED EVENT "'name':'Started','message':'m','type':'Normal'}]}}]}"

static void presents_the_whole_group(void **state)
{
	check_presented(WHOLE, WHOLE_STATUS, "2025-09-01", true,
		"{'properties':{'sku':'Standard','provisioningState':'Succeeded'," SHOWN_T
		",'containers':[{'name':'c','properties':{'image':'a','environmentVariables':[],'resources':{'requests':{"
		"'memoryInGB':1.0,'cpu':1.0}},'volumeMounts':[{'name':'s','mountPath':'/s'}],'livenessProbe':{'httpGet':{"
		"'port':80,'httpHeaders':[{'name':'A','value':'x'}]}},'configMap':{'keyValuePairs':{'k':'v'}}}}],"
		"'initContainers':[{'name':'i','properties':{'image':'b','environmentVariables':[{'name':'S'}],"
		"'instanceView':" ENDED EVENT
		"'name':'Started','message':'m','type':'Normal'}]}}}],'restartPolicy':'Never','osType':'Linux','volumes':[{"
		"'name':'s','secret':{}},{'name':'f','azureFile':{'shareName':'abc','storageAccountName':'acc'}},{'name':'r',"
		"'gitRepo':{'directory':'.','repository':'https://g/a','revision':'x'}}],'dnsConfig':{'nameServers':["
		"'1.1.1.1']},'instanceView':{'events':[],'state':'Running'}},'id':'" ID
		"','name':'g','type':'Microsoft.ContainerInstance/containerGroups','location':'local','tags':{}}");
	/* what each older version doesn't know */
	check_presented(WHOLE, WHOLE_STATUS, "2019-12-01", false,
		"{'properties':{'sku':'Standard','provisioningState':'Succeeded','containers':[{'name':'c','properties':{"
		"'image':'a','environmentVariables':[],'resources':{'requests':{'memoryInGB':1.0,'cpu':1.0}},"
		"'volumeMounts':[{'name':'s','mountPath':'/s'}],'livenessProbe':{'httpGet':{'port':80}}}}],"
		"'initContainers':[{'name':'i','properties':{'image':'b','environmentVariables':[{'name':'S'}]}}],"
		"'restartPolicy':'Never','osType':'Linux','volumes':[{'name':'s','secret':{}},{'name':'f','azureFile':{"
		"'shareName':'abc','storageAccountName':'acc'}},{'name':'r','gitRepo':{'directory':'.','repository':"
		"'https://g/a','revision':'x'}}],'dnsConfig':{'nameServers':['1.1.1.1']}},'id':'" ID
		"','name':'g','type':'Microsoft.ContainerInstance/containerGroups','location':'local','tags':{}}");
	check_presented(WHOLE, WHOLE_STATUS, "2017-08-01-preview", true,
		"{'properties':{'provisioningState':'Succeeded','state':'Running','containers':[{'name':'c','properties':{"
		"'image':'a','environmentVariables':[],'resources':{'requests':{'memoryInGB':1.0,'cpu':1.0}},"
		"'volumeMounts':[{'name':'s','mountPath':'/s'}]}}],'restartPolicy':'Never','osType':'Linux','volumes':[{"
		"'name':'s'},{'name':'f','azureFile':{'shareName':'abc','storageAccountName':'acc'}},{'name':'r'}]},'id':'" ID
		"','name':'g','type':'Microsoft.ContainerInstance/containerGroups','location':'local','tags':{}}");
}

/* The oldest version had events without names. */
static void presents_events_as_a_version_has_them(void **state)
{
	_cleanup_json_ json_t *record = fixture_parse(RECORD);
	_cleanup_json_ json_t *status = fixture_parse(
		"{'generation':1,'containers':[{'name':'c','instanceView':" ENDED EVENT
		"'name':'Started','message':'m','type':'Normal'}]}}]}");

	for (int i = 0; i < 2; i++) {
		_cleanup_json_ json_t *shown = group_present(
			record, status, i ? "2017-10-01-preview" : "2017-08-01-preview", true);
		_cleanup_free_ char *text = json_text(shown);

		assert_non_null(strstr(text, "\"message\":\"m\""));
		assert_int_equal(!!strstr(text, "\"name\":\"Started\""), i);
	}
}

static void a_status_of_an_older_wish_is_pending(void **state)
{
	_cleanup_json_ json_t *record = fixture_parse(RECORD);
	_cleanup_json_ json_t *status = fixture_parse(STATUS);
	json_t *shown;

	json_object_set_new(record, "generation", json_integer(2));
	shown = group_present(record, status, "2023-05-01", true);
	assert_string_equal(
		json_string_value(json_path(shown, "properties", "provisioningState", NULL)),
		"Pending");
	assert_string_equal(
		json_string_value(json_path(shown, "properties", "instanceView", "state", NULL)),
		"Running");
	json_decref(shown);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_with_code_target_and_message),
		cmocka_unit_test(refuses_bad_group_names),
		cmocka_unit_test(counts_containers),
		cmocka_unit_test(accepts_what_clients_send),
		cmocka_unit_test(presents_as_recorded),
		cmocka_unit_test(presents_the_whole_group),
		cmocka_unit_test(presents_events_as_a_version_has_them),
		cmocka_unit_test(a_status_of_an_older_wish_is_pending),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
