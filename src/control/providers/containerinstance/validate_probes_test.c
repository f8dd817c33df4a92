/* Probes, config maps, init containers, environment, dnsConfig, and what stays refused. */
#include "control/providers/containerinstance/validate_fixture.h"

#define WITH(members) G(C(",'" members), "")
#define GROUP(members) G(C1, ",'" members)
#define LIVE(members) WITH("livenessProbe':{" members "}")
#define READY(members) WITH("readinessProbe':{" members "}")
#define GET(members) READY("'httpGet':{" members "}")
#define HEADER(headers) GET("'port':80,'httpHeaders':[" headers "]")
#define MAP(pairs) WITH("configMap':{'keyValuePairs':{" pairs "}}")
#define INITS(containers) GROUP("initContainers':[" containers "]")
#define INIT(members) INITS("{'name':'i','properties':{" members "}}")
#define DNS(members) GROUP("dnsConfig':{" members "}")
#define PORTS(ports)                                                                               \
	G(C(",'ports':[" ports "]"), ",'ipAddress':{'type':'Public','ports':[" ports "]}")

static const struct refusal refusals[] = {
	/* probes */
	{LIVE(""), "InvalidProbe", "properties.containers[0].properties.livenessProbe",
		"The 'livenessProbe' in container 'c' of container group 'g' has neither 'exec' nor 'httpGet'. "
		"Each probe has exactly one of 'exec' and 'httpGet'."},
	{LIVE("'exec':{'command':['true']},'httpGet':{'port':80}"), "InvalidProbe",
		"properties.containers[0].properties.livenessProbe",
		"The 'livenessProbe' in container 'c' of container group 'g' has both 'exec' and 'httpGet'. Each "
		"probe has exactly one of 'exec' and 'httpGet'."},
	{LIVE("'tcpSocket':{'port':80}"), "InvalidRequestContent",
		"properties.containers[0].properties.livenessProbe.tcpSocket",
		"The request content was invalid: could not find member 'tcpSocket' on object of type "
		"'ContainerProbe'."},
	{LIVE("'exec':{'command':['true']},'successThreshold':2"), "InvalidProbe",
		"properties.containers[0].properties.livenessProbe.successThreshold",
		"The 'successThreshold' of the 'livenessProbe' in container 'c' of container group 'g' is 2. It "
		"must be 1 for a liveness probe."},
	{LIVE("'exec':{}"), "InvalidProbe",
		"properties.containers[0].properties.livenessProbe.exec.command",
		"The command of the 'livenessProbe' in container 'c' of container group 'g' is empty. Give the "
		"program and its arguments as an array."},
	{LIVE("'exec':{'command':[]}"), "InvalidProbe",
		"properties.containers[0].properties.livenessProbe.exec.command",
		"The command of the 'livenessProbe' in container 'c' of container group 'g' is empty. Give the "
		"program and its arguments as an array."},
	{LIVE("'exec':{'command':['']}"), "InvalidProbe",
		"properties.containers[0].properties.livenessProbe.exec.command",
		"The command of the 'livenessProbe' in container 'c' of container group 'g' is empty. Give the "
		"program and its arguments as an array."},
	{READY("'exec':{'command':['true']},'initialDelaySeconds':-1"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.initialDelaySeconds",
		"The value '-1' of 'properties.containers[0].properties.readinessProbe.initialDelaySeconds' is "
		"invalid. It must be between 0 and 2147483647."},
	{READY("'exec':{'command':['true']},'periodSeconds':0"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.periodSeconds",
		"The value '0' of 'properties.containers[0].properties.readinessProbe.periodSeconds' is invalid. "
		"It must be between 1 and 2147483647."},
	{READY("'exec':{'command':['true']},'timeoutSeconds':0"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.timeoutSeconds",
		"The value '0' of 'properties.containers[0].properties.readinessProbe.timeoutSeconds' is "
		"invalid. It must be between 1 and 2147483647."},
	{READY("'exec':{'command':['true']},'successThreshold':0"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.successThreshold",
		"The value '0' of 'properties.containers[0].properties.readinessProbe.successThreshold' is "
		"invalid. It must be between 1 and 2147483647."},
	{READY("'exec':{'command':['true']},'failureThreshold':0"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.failureThreshold",
		"The value '0' of 'properties.containers[0].properties.readinessProbe.failureThreshold' is "
		"invalid. It must be between 1 and 2147483647."},
	{READY("'exec':{'command':['true']},'periodSeconds':2147483648"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.periodSeconds",
		"The value '2147483648' of 'properties.containers[0].properties.readinessProbe.periodSeconds' is "
		"invalid. It must be between 1 and 2147483647."},
	{READY("'exec':{'command':['true']},'periodSeconds':'soon'"), "InvalidRequestContent",
		"properties.containers[0].properties.readinessProbe.periodSeconds",
		"The value 'soon' of 'properties.containers[0].properties.readinessProbe.periodSeconds' is "
		"invalid. It must be a whole number."},
	{GET("'path':'/'"), "InvalidRequestContent",
		"properties.containers[0].properties.readinessProbe.httpGet.port",
		"The request content was invalid: the required property 'port' is missing."},
	{GET("'port':0"), "InvalidPort",
		"properties.containers[0].properties.readinessProbe.httpGet.port",
		"The port '0' of a probe in container 'c' of container group 'g' is invalid. A port must be "
		"between 1 and 65535."},
	{GET("'port':65536"), "InvalidPort",
		"properties.containers[0].properties.readinessProbe.httpGet.port",
		"The port '65536' of a probe in container 'c' of container group 'g' is invalid. A port must be "
		"between 1 and 65535."},
	{GET("'port':80,'scheme':'ftp'"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.scheme",
		"The value 'ftp' of 'properties.containers[0].properties.readinessProbe.httpGet.scheme' is "
		"invalid. It must be one of 'http,https'."},
	{GET("'port':80,'host':'169.254.169.254'"), "InvalidRequestContent",
		"properties.containers[0].properties.readinessProbe.httpGet.host",
		"The request content was invalid: could not find member 'host' on object of type "
		"'ContainerHttpGet'."},
	{GET("'port':80,'path':''"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.path",
		"The path '' of the 'readinessProbe' in container 'c' of container group 'g' is invalid. It must "
		"begin with '/' and have no blanks, control characters or unescaped characters outside of ASCII."},
	{GET("'port':80,'path':'x'"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.path",
		"The path 'x' of the 'readinessProbe' in container 'c' of container group 'g' is invalid. It "
		"must begin with '/' and have no blanks, control characters or unescaped characters outside of "
		"ASCII."},
	{GET("'port':80,'path':'http://h/'"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.path",
		"The path 'http://h/' of the 'readinessProbe' in container 'c' of container group 'g' is "
		"invalid. It must begin with '/' and have no blanks, control characters or unescaped characters "
		"outside of ASCII."},
	{GET("'port':80,'path':'/a b'"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.path",
		"The path '/a b' of the 'readinessProbe' in container 'c' of container group 'g' is invalid. It "
		"must begin with '/' and have no blanks, control characters or unescaped characters outside of "
		"ASCII."},
	{GET("'port':80,'path':'/a\\r\\nX: y'"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.path",
		"The path '/a\r\nX: y' of the 'readinessProbe' in container 'c' of container group 'g' is "
		"invalid. It must begin with '/' and have no blanks, control characters or unescaped characters "
		"outside of ASCII."},
	{GET("'port':80,'path':'/ä'"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.path",
		"The path '/ä' of the 'readinessProbe' in container 'c' of container group 'g' is invalid. It "
		"must begin with '/' and have no blanks, control characters or unescaped characters outside of "
		"ASCII."},
	{HEADER("{'value':'x'}"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.httpHeaders[0]",
		"The header '' of the 'readinessProbe' in container 'c' of container group 'g' is invalid. A "
		"name is a token of HTTP, such as 'X-Name', and not one that frames the message."},
	{HEADER("{'name':'A','value':'x'},{'name':'a b','value':'x'}"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.httpHeaders[1]",
		"The header 'a b' of the 'readinessProbe' in container 'c' of container group 'g' is invalid. A "
		"name is a token of HTTP, such as 'X-Name', and not one that frames the message."},
	{HEADER("{'name':'A:','value':'x'}"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.httpHeaders[0]",
		"The header 'A:' of the 'readinessProbe' in container 'c' of container group 'g' is invalid. A "
		"name is a token of HTTP, such as 'X-Name', and not one that frames the message."},
	{HEADER("{'name':'A\\r\\nB','value':'x'}"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.httpHeaders[0]",
		"The header 'A\r\nB' of the 'readinessProbe' in container 'c' of container group 'g' is invalid. "
		"A name is a token of HTTP, such as 'X-Name', and not one that frames the message."},
	{HEADER("{'name':'content-length','value':'9'}"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.httpHeaders[0]",
		"The header 'content-length' of the 'readinessProbe' in container 'c' of container group 'g' is "
		"invalid. A name is a token of HTTP, such as 'X-Name', and not one that frames the message."},
	{HEADER("{'name':'Transfer-Encoding','value':'chunked'}"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.httpHeaders[0]",
		"The header 'Transfer-Encoding' of the 'readinessProbe' in container 'c' of container group 'g' "
		"is invalid. A name is a token of HTTP, such as 'X-Name', and not one that frames the message."},
	{HEADER("{'name':'A','value':'x\\r\\nB: y'}"), "InvalidProbe",
		"properties.containers[0].properties.readinessProbe.httpGet.httpHeaders[0]",
		"The value of the header 'A' of the 'readinessProbe' in container 'c' of container group 'g' is "
		"invalid. It may have up to 4096 bytes, without line breaks and other control characters."},
	{HEADER("{'name':'A','value':'x'}"), "InvalidRequestContent",
		"properties.containers[0].properties.readinessProbe.httpGet.httpHeaders",
		"The property 'properties.containers[0].properties.readinessProbe.httpGet.httpHeaders' does not "
		"exist in api-version '2019-12-01'. It came with api-version '2020-11-01'.",
		"2019-12-01"},
	{READY("'exec':{'command':['true']}"), "InvalidRequestContent",
		"properties.containers[0].properties.readinessProbe",
		"The property 'properties.containers[0].properties.readinessProbe' does not exist in api-version "
		"'2018-04-01'. It came with api-version '2018-06-01'.",
		"2018-04-01"},
	{LIVE("'exec':{'command':['true']}"), "InvalidRequestContent",
		"properties.containers[0].properties.livenessProbe",
		"The property 'properties.containers[0].properties.livenessProbe' does not exist in api-version "
		"'2018-04-01'. It came with api-version '2018-06-01'.",
		"2018-04-01"},
	/* config maps */
	{MAP("'..':'x'"), "InvalidConfigMap",
		"properties.containers[0].properties.configMap.keyValuePairs",
		"The key '..' of the config map in container 'c' of container group 'g' is invalid. A key names "
		"a file: up to 253 letters, digits, '-', '_' and '.', not beginning with '..'.",
		"2025-09-01"},
	{MAP("'a/b':'x'"), "InvalidConfigMap",
		"properties.containers[0].properties.configMap.keyValuePairs",
		"The key 'a/b' of the config map in container 'c' of container group 'g' is invalid. A key names "
		"a file: up to 253 letters, digits, '-', '_' and '.', not beginning with '..'.",
		"2025-09-01"},
	{MAP("'':'x'"), "InvalidConfigMap",
		"properties.containers[0].properties.configMap.keyValuePairs",
		"The key '' of the config map in container 'c' of container group 'g' is invalid. A key names a "
		"file: up to 253 letters, digits, '-', '_' and '.', not beginning with '..'.",
		"2025-09-01"},
	{MAP("'a b':'x'"), "InvalidConfigMap",
		"properties.containers[0].properties.configMap.keyValuePairs",
		"The key 'a b' of the config map in container 'c' of container group 'g' is invalid. A key names "
		"a file: up to 253 letters, digits, '-', '_' and '.', not beginning with '..'.",
		"2025-09-01"},
	{MAP("'a':['x']"), "InvalidRequestContent",
		"properties.containers[0].properties.configMap.keyValuePairs.a",
		"The value '[\"x\"]' of 'properties.containers[0].properties.configMap.keyValuePairs.a' is "
		"invalid. It must be a string.",
		"2025-09-01"},
	{MAP("'a':'x'"), "InvalidRequestContent", "properties.containers[0].properties.configMap",
		"The property 'properties.containers[0].properties.configMap' does not exist in api-version "
		"'2023-05-01'. It came with api-version '2024-05-01-preview'."},
	/* init containers */
	{INIT("'command':['x']"), "ImageNotSpecified",
		"properties.initContainers[0].properties.image",
		"The image is not specified in container 'i' of container group 'g'."},
	{INITS("{'name':'c','properties':{'image':'a'}}"), "DuplicateContainerName",
		"properties.initContainers[0].name",
		"The container name 'c' is there more than once in container group 'g'. Each container needs a "
		"name of its own."},
	{INITS("{'name':'i','properties':{'image':'a'}},{'name':'i','properties':{'image':'a'}}"),
		"DuplicateContainerName", "properties.initContainers[1].name",
		"The container name 'i' is there more than once in container group 'g'. Each container needs a "
		"name of its own."},
	{INITS("{'name':'I','properties':{'image':'a'}}"), "InvalidContainerName",
		"properties.initContainers[0].name",
		"The container name 'I' in container group 'g' is invalid. The container name must contain no "
		"more than 63 characters and must match the regex '[a-z0-9]([-a-z0-9]*[a-z0-9])?' (e.g. "
		"'my-name')."},
	{INITS("{'name':'i'}"), "InvalidRequestContent", "properties.initContainers[0].properties",
		"The request content was invalid: the required property 'properties' is missing."},
	{INIT("'image':'a','ports':[{'port':80}]"), "InvalidRequestContent",
		"properties.initContainers[0].properties.ports",
		"The property 'properties.initContainers[0].properties.ports' does not exist. Init containers "
		"have no ports: they end before the group is open."},
	{INIT("'image':'a','resources':{'requests':{'cpu':1}}"), "InvalidRequestContent",
		"properties.initContainers[0].properties.resources",
		"The property 'properties.initContainers[0].properties.resources' does not exist. Init "
		"containers have no resources of their own: each may use what the group's containers request "
		"together."},
	{INIT("'image':'a','livenessProbe':{'exec':{'command':['true']}}"), "InvalidRequestContent",
		"properties.initContainers[0].properties.livenessProbe",
		"The property 'properties.initContainers[0].properties.livenessProbe' does not exist. Init "
		"containers have no probes: each must end with exit code 0."},
	{INIT("'image':'a','readinessProbe':{'exec':{'command':['true']}}"),
		"InvalidRequestContent", "properties.initContainers[0].properties.readinessProbe",
		"The property 'properties.initContainers[0].properties.readinessProbe' does not exist. Init "
		"containers have no probes: each must end with exit code 0."},
	{INIT("'image':'a','configMap':{'keyValuePairs':{'a':'b'}}"), "InvalidRequestContent",
		"properties.initContainers[0].properties.configMap",
		"The property 'properties.initContainers[0].properties.configMap' does not exist. Init "
		"containers have no config map: use a secret volume or 'environmentVariables'."},
	{INIT("'image':'a','securityContext':{'privileged':true}"), "PropertyNotSupported",
		"properties.initContainers[0].properties.securityContext",
		"The property 'properties.initContainers[0].properties.securityContext' is not supported by this "
		"version of Berth. Leave it out: every container runs confined, without privileges to ask for."},
	{INIT("'image':'a b'"), "InvalidImageName", "properties.initContainers[0].properties.image",
		"The image 'a b' in container 'i' of container group 'g' is invalid. An image is named like "
		"'registry.example/name:tag'."},
	{INIT("'image':'a','environmentVariables':[{'name':'1'}]"),
		"InvalidContainerEnvironmentVariable",
		"properties.initContainers[0].properties.environmentVariables[0].name",
		"The environment variable name in container 'i' of container group 'g' is invalid. A valid "
		"environment variable name must start with alphabetic character or '_', followed by a string of "
		"alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName')."},
	{INIT("'image':'a','environmentVariables':[{'name':'A','value':'x','secureValue':'y'}]"),
		"InvalidEnvironmentVariable",
		"properties.initContainers[0].properties.environmentVariables[0]",
		"The environment variable 'A' in container 'i' of container group 'g' has both 'value' and "
		"'secureValue'. Give one of them."},
	{INIT("'image':'a','volumeMounts':[{'name':'v','mountPath':'/m'}]"), "InvalidVolumeMount",
		"properties.initContainers[0].properties.volumeMounts[0].name",
		"The volume 'v' that container 'i' of container group 'g' mounts is not among the group's "
		"'volumes'."},
	{INIT("'image':'a'"), "InvalidRequestContent", "properties.initContainers",
		"The property 'properties.initContainers' does not exist in api-version '2018-10-01'. It came "
		"with api-version '2019-12-01'.",
		"2018-10-01"},
	/* environment */
	{WITH("environmentVariables':[{'name':'A','secureValueReference':'r'}]"),
		"InvalidSecretReference",
		"properties.containers[0].properties.environmentVariables[0].secureValueReference",
		"The secret reference 'r' in container group 'g' is not among its 'secretReferences'.",
		"2025-09-01"},
	{WITH("environmentVariables':[{'name':'A','secureValue':['hunter2']}]"),
		"InvalidRequestContent",
		"properties.containers[0].properties.environmentVariables[0].secureValue",
		"The value '<secret>' of "
		"'properties.containers[0].properties.environmentVariables[0].secureValue' is invalid. It must "
		"be a string."},
	{WITH("environmentVariables':[{'name':'A','secureValue':'s'}]"), "InvalidRequestContent",
		"properties.containers[0].properties.environmentVariables[0].secureValue",
		"The property 'properties.containers[0].properties.environmentVariables[0].secureValue' does not "
		"exist in api-version '2018-04-01'. It came with api-version '2018-06-01'.",
		"2018-04-01"},
	/* dnsConfig */
	{DNS("'searchDomains':'a'"), "InvalidRequestContent", "properties.dnsConfig.nameServers",
		"The request content was invalid: the required property 'nameServers' is missing."},
	{DNS("'nameServers':[]"), "InvalidDnsConfig", "properties.dnsConfig.nameServers",
		"The 'dnsConfig' of container group 'g' has 0 name servers. Give 1 to 3."},
	{DNS("'nameServers':['1.1.1.1','1.1.1.2','1.1.1.3','1.1.1.4']"), "InvalidDnsConfig",
		"properties.dnsConfig.nameServers",
		"The 'dnsConfig' of container group 'g' has 4 name servers. Give 1 to 3."},
	{DNS("'nameServers':['1.1.1.1','dns.example']"), "InvalidDnsConfig",
		"properties.dnsConfig.nameServers[1]",
		"The name server 'dns.example' in the 'dnsConfig' of container group 'g' is invalid. Give an "
		"IPv4 or IPv6 address."},
	{DNS("'nameServers':['1.1.1.1\\nsearch x']"), "InvalidDnsConfig",
		"properties.dnsConfig.nameServers[0]",
		"The name server '1.1.1.1\nsearch x' in the 'dnsConfig' of container group 'g' is invalid. Give "
		"an IPv4 or IPv6 address."},
	{DNS("'nameServers':['1.1.1.1'],'searchDomains':'a.example b_!'"), "InvalidDnsConfig",
		"properties.dnsConfig.searchDomains",
		"The word 'b_!' in 'searchDomains' of the 'dnsConfig' of container group 'g' is invalid. Give "
		"names of domains with blanks or commas between them."},
	{DNS("'nameServers':['1.1.1.1'],'searchDomains':'a\\nnameserver'"), "InvalidDnsConfig",
		"properties.dnsConfig.searchDomains",
		"The word 'a\nnameserver' in 'searchDomains' of the 'dnsConfig' of container group 'g' is "
		"invalid. Give names of domains with blanks or commas between them."},
	{DNS("'nameServers':['1.1.1.1'],'options':'ndots:x'"), "InvalidDnsConfig",
		"properties.dnsConfig.options",
		"The word 'ndots:x' in 'options' of the 'dnsConfig' of container group 'g' is invalid. Give "
		"options of resolv.conf(5) with blanks between them, such as 'ndots:2'."},
	{DNS("'nameServers':['1.1.1.1']"), "InvalidRequestContent", "properties.dnsConfig",
		"The property 'properties.dnsConfig' does not exist in api-version '2018-09-01'. It came with "
		"api-version '2018-10-01'.",
		"2018-09-01"},
	/* ports */
	{PORTS("{'port':1},{'port':2},{'port':3},{'port':4},{'port':5},{'port':6}"), "TooManyPorts",
		"properties.ipAddress.ports",
		"The 'ipAddress' of container group 'g' has 6 ports. At most 5 are allowed."},
	/* what stays refused */
	{GROUP("subnetIds':[{'id':'x'}]"), "PropertyNotSupported", "properties.subnetIds",
		"The property 'properties.subnetIds' is not supported by this version of Berth. Leave it out: "
		"there are no virtual networks, each group has an address of its own."},
	{GROUP("diagnostics':{'logAnalytics':{}}"), "PropertyNotSupported",
		"properties.diagnostics",
		"The property 'properties.diagnostics' is not supported by this version of Berth. Leave it out "
		"and read the containers' logs: there is no workspace to send them to."},
	{GROUP("encryptionProperties':{'keyName':'k'}"), "PropertyNotSupported",
		"properties.encryptionProperties",
		"The property 'properties.encryptionProperties' is not supported by this version of Berth. Leave "
		"it out: there is no key vault that holds a key of yours."},
	{GROUP("extensions':[{'name':'x'}]"), "PropertyNotSupported", "properties.extensions",
		"The property 'properties.extensions' is not supported by this version of Berth. Leave it out: "
		"there are none. A container of the group can do their work."},
	{GROUP("confidentialComputeProperties':{'ccePolicy':'x'}"), "PropertyNotSupported",
		"properties.confidentialComputeProperties",
		"The property 'properties.confidentialComputeProperties' is not supported by this version of "
		"Berth. Leave it out and use the sku 'Standard': there is no confidential hardware."},
	{GROUP("sku':'Confidential'"), "PropertyNotSupported", "properties.sku",
		"The value 'Confidential' of 'properties.sku' is not supported by this version of Berth. It must "
		"be one of 'Standard'. Use 'Standard': a node has neither reserved machines nor confidential "
		"hardware."},
	{GROUP("priority':'Spot'"), "PropertyNotSupported", "properties.priority",
		"The value 'Spot' of 'properties.priority' is not supported by this version of Berth. It must be "
		"one of 'Regular'. Use 'Regular': no group is ever evicted for another."},
	{GROUP("standbyPoolProfile':{'id':'x'}"), "PropertyNotSupported",
		"properties.standbyPoolProfile",
		"The property 'properties.standbyPoolProfile' is not supported by this version of Berth. Leave "
		"it out: there are no standby pools, groups start at once.",
		"2025-09-01"},
	{GROUP("secretReferences':[{'name':'x'}]"), "InvalidRequestContent",
		"properties.secretReferences[0].secretReferenceUri", NULL, "2025-09-01"},
	{GROUP("identityAcls':{'acls':[{}]}"), "PropertyNotSupported", "properties.identityAcls",
		"The property 'properties.identityAcls' is not supported by this version of Berth. Leave it out: "
		"groups have no identity to guard.",
		"2025-09-01"},
	{WITH("securityContext':{'privileged':true}"), "PropertyNotSupported",
		"properties.containers[0].properties.securityContext",
		"The property 'properties.containers[0].properties.securityContext' is not supported by this "
		"version of Berth. Leave it out: every container runs confined, without privileges to ask for."},
	{GROUP("useKrypton':true"), "InvalidRequestContent", "properties.useKrypton",
		"The request content was invalid: could not find member 'useKrypton' on object of type "
		"'ContainerGroupProperties'.",
		"2025-09-01"},
};

static void refuses_with_code_target_and_message(void **state)
{
	fixture_refuses(refusals, ARRAY_SIZE(refusals));
}

static void add_containers(json_t *document, const char *list, int n)
{
	json_t *containers = json_path(document, "properties", list, NULL);

	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *text = xasprintf(
			"{'name':'%c%d','properties':{'image':'i'%s}}", list[0], i,
			list[0] == 'c' ? ",'resources':{'requests':{'cpu':0.1,'memoryInGB':0.1}}"
				       : "");

		json_array_append_new(containers, fixture_parse(text));
	}
}

static void counts_containers_of_both_kinds(void **state)
{
	static const struct {
		int n, n_init;
		const char *target, *message;
	} cases[] = {
		{60, 0, NULL, NULL},
		{1, 59, NULL, NULL},
		{30, 30, NULL, NULL},
		{61, 0, "properties.containers",
			"The container group 'g' has 61 containers. At most 60 are allowed."},
		{1, 60, "properties.initContainers",
			"The container group 'g' has 60 init containers. At most 59 are allowed."},
		{2, 59, "properties.initContainers",
			"The container group 'g' has 2 containers and 59 init containers. At most 60 together are "
			"allowed."},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct validate_context context = fixture_context(NULL);
		_cleanup_json_ json_t *document = fixture_parse(G("", ",'initContainers':[]"));
		struct err err = {0};

		add_containers(document, "containers", cases[i].n);
		add_containers(document, "initContainers", cases[i].n_init);
		assert_int_equal(
			group_validate(document, &context, &err), cases[i].message ? -EINVAL : 0);
		if (!cases[i].message)
			continue;
		assert_string_equal(err.code, "TooManyContainers");
		assert_string_equal(err.target, cases[i].target);
		assert_string_equal(err.message, cases[i].message);
	}
}

static void bounds_the_size_of_config_maps(void **state)
{
	for (size_t n = (1 << 20) - 1; n <= 1 << 20; n++) {
		struct validate_context context = fixture_context("2025-09-01");
		_cleanup_json_ json_t *document = fixture_parse(MAP("'a':'x'"));
		json_t *container =
			json_array_get(json_path(document, "properties", "containers", NULL), 0);
		_cleanup_free_ char *text = xcalloc(n + 1, 1);
		struct err err = {0};

		memset(text, 'x', n);
		json_put_str(json_path(container, "properties", "configMap", "keyValuePairs", NULL),
			"b", text);
		assert_int_equal(
			group_validate(document, &context, &err), n < 1 << 20 ? 0 : -EINVAL);
		if (n < 1 << 20)
			continue;
		assert_string_equal(err.code, "InvalidConfigMap");
		assert_string_equal(err.message,
			"The values of the config map in container 'c' of container group 'g' have 1048577 bytes "
			"together. At most 1048576 are allowed.");
	}
}

#define KEEPS(version, more, out, group, group_out)                                                         \
	fixture_accepts(G(C(more), group), version,                                                         \
		"{'properties':{'sku':'Standard','containers':[{'name':'c','properties':{'image':'alpine'," \
		"'environmentVariables':[],'resources':{'requests':{'memoryInGB':1.5,'cpu':1.0}}" out       \
		"}}],'restartPolicy':'Always','osType':'Linux'" group_out                                   \
		"},'location':'local','tags':{}}")
#define ECHOED(version, text) KEEPS(version, text, text, "", "")
#define ECHOED_DNS(text) KEEPS(NULL, "", "", ",'dnsConfig':{" text "}", ",'dnsConfig':{" text "}")

/* Defaults are the node's to know: an answer has what was sent. */
static void keeps_what_is_sent(void **state)
{
	ECHOED(NULL, ",'livenessProbe':{'exec':{'command':['sh','-c','true']}}");
	ECHOED("2018-06-01", ",'livenessProbe':{'httpGet':{'port':80}}");
	ECHOED(NULL,
		",'livenessProbe':{'exec':{'command':['true']},'successThreshold':1},'readinessProbe':{'httpGet':{"
		"'path':'/a?b=%20','port':65535,'scheme':'https','httpHeaders':[{'name':'Host','value':'x'},{'name':'X-A',"
		"'value':''}]},'initialDelaySeconds':0,'periodSeconds':1,'failureThreshold':9,'successThreshold':2,"
		"'timeoutSeconds':5}");
	KEEPS(NULL, ",'readinessProbe':{'httpGet':{'scheme':'HTTP','port':'80'}}",
		",'readinessProbe':{'httpGet':{'port':80,'scheme':'http'}}", "", "");
	ECHOED("2024-05-01-preview",
		",'configMap':{'keyValuePairs':{'a.b':'x','c':'line\\nline'}}");
	ECHOED("2025-09-01", ",'configMap':{'keyValuePairs':{}}");
	ECHOED_DNS(
		"'nameServers':['1.1.1.1','fd00::1'],'searchDomains':'a.example, b.example','options':'ndots:2 "
		"rotate'");
}

static void dns_words_are_split(void **state)
{
	_cleanup_json_ json_t *words = dns_words(" a.example,  b.example ,");
	_cleanup_json_ json_t *none = dns_words("");

	assert_int_equal(json_array_size(words), 2);
	assert_string_equal(json_string_value(json_array_get(words, 1)), "b.example");
	assert_int_equal(json_array_size(none), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_with_code_target_and_message),
		cmocka_unit_test(counts_containers_of_both_kinds),
		cmocka_unit_test(bounds_the_size_of_config_maps),
		cmocka_unit_test(keeps_what_is_sent),
		cmocka_unit_test(dns_words_are_split),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
