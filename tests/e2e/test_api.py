"""The API as plain HTTPS: who may come in, what a request may be, and what each error says."""
import base64
import concurrent.futures
import http.client
import json
import socket
import ssl
import time
import uuid

import jwt
import pytest

from harness import API, eventually, group_body

SLEEP = ["/bin/sh", "-c", "exec sleep 1000"]
NS = "/providers/Microsoft.ContainerInstance"


@pytest.fixture(scope="module")
def rg(berth):
    """One resource group for the tests that create nothing in it."""
    berth.put("/resourcegroups/api", {"location": "local"}, version="2021-04-01")
    yield "api"
    berth.call("DELETE", berth.sub("/resourcegroups/api"), version="2021-04-01")


@pytest.fixture
def silent_registry():
    """A registry that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        yield f"127.0.0.1:{server.getsockname()[1]}"


def is_uuid(text):
    return str(uuid.UUID(text)) == text


# --- who may come in ---

def challenged(answer, code):
    assert (answer.status, answer.code) == (401, code), answer.text
    assert answer.headers["WWW-Authenticate"].startswith('Bearer authorization_uri="https://127.0.0.1:')


def signed(berth, **changed):
    """A token signed with this Berth's own key."""
    header = jwt.get_unverified_header(berth.token())
    claims = jwt.decode(berth.token(), options={"verify_signature": False})
    key = (berth.state / "control" / "token.key").read_text()
    return jwt.encode({**claims, **changed}, key, "RS256", headers={"kid": header["kid"]})


def test_a_request_without_a_token_is_challenged(berth, rg):
    for path in (berth.group_id(rg, "x"), "/subscriptions", "/nowhere"):
        challenged(berth.raw("GET", path + "?api-version=" + API), "AuthenticationFailed")


def test_a_bad_token_is_challenged(berth, rg):
    def ask(header):
        return berth.call("GET", berth.group_id(rg, "x"), headers={"Authorization": header})

    head, body, signature = berth.token().split(".")
    none = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"none"}').decode().rstrip("=")
    for header in ("Basic YTpi", "Bearer", "Bearer ", "x"):
        challenged(ask(header), "AuthenticationFailedInvalidHeader")
    for token in ("x", "a.b.c", f"{none}.{body}.", f"{head}.{body}.", f"{head}.{body}.{signature[::-1]}", "x" * 9000):
        challenged(ask("Bearer " + token), "InvalidAuthenticationToken")
    challenged(ask("Bearer " + signed(berth, exp=int(time.time()) - 1)), "ExpiredAuthenticationToken")
    challenged(ask("Bearer " + signed(berth, nbf=int(time.time()) + 600)), "InvalidAuthenticationToken")
    challenged(ask("Bearer " + signed(berth, aud="https://management.azure.com")), "InvalidAuthenticationToken")
    challenged(ask("Bearer " + signed(berth, appid=str(uuid.uuid4()))), "InvalidAuthenticationToken")
    assert ask("Bearer " + signed(berth)).code == "ResourceNotFound", "what the test signs is right otherwise"


def test_a_wrong_secret(berth):
    def sign_in(**changed):
        form = {"grant_type": "client_credentials", "client_id": berth.admin["clientId"],
                "client_secret": berth.admin["clientSecret"], **changed}
        body = "&".join(f"{k}={v}" for k, v in form.items()).encode()
        return berth.raw("POST", "/adfs/oauth2/token", body, {"Content-Type": "application/x-www-form-urlencoded"})

    assert sign_in().json["expires_in"] == 3600
    for changed in ({"client_secret": "wrong"}, {"client_id": str(uuid.uuid4())}):
        wrong = sign_in(**changed)
        assert (wrong.status, wrong.json["error"]) == (401, "invalid_client")
        assert wrong.json["error_description"].startswith("AADSTS7000215: ")
    assert sign_in(grant_type="password").json["error"] == "unsupported_grant_type"


# --- what a request may be ---

BODIES = [
    (b"", "InvalidRequestContent", ""),
    (b"hello", "InvalidRequestContent", "line 1"),
    (b'{"location":"local"', "InvalidRequestContent", "line 1"),
    (b'{"location":"local"} x', "InvalidRequestContent", ""),
    (b"[]", "InvalidRequestContent", "must be a JSON object"),
    (b'"text"', "InvalidRequestContent", "must be a JSON object"),
    (b'{"location":"local","location":"local"}', "InvalidRequestContent", "location"),
    (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "InvalidRequestContent", "deep"),
    (b'{"a":' * 100000, "InvalidRequestContent", "deep"),
    (b'{"a":"\xff\xfe"}', "InvalidRequestContent", "0xff"),
    (b'{"a":"\\ud800"}', "InvalidRequestContent", ""),
    (b'{"a":"\\u0000"}', "InvalidRequestContent", ""),
    (b'{"a":1e999}', "InvalidRequestContent", ""),
    (b'{"a":NaN}', "InvalidRequestContent", ""),
]


@pytest.mark.parametrize("body, code, words", BODIES, ids=lambda v: repr(v)[:24])
def test_a_body_that_is_not_what_it_should_be(berth, rg, body, code, words):
    answer = berth.call("PUT", berth.group_id(rg, "x"), body)
    assert (answer.status, answer.code) == (400, code), answer.text
    assert words in answer.message, answer.message
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


def test_a_body_of_another_type(berth, rg):
    answer = berth.call("PUT", berth.group_id(rg, "x"), b"{}", headers={"Content-Type": "text/yaml"})
    assert (answer.status, answer.code) == (415, "UnsupportedMediaType")


def test_a_body_that_is_too_large(berth, rg):
    """Also read by a client that sends all of it before it looks at the answer."""
    large = json.dumps({"location": "local", "tags": {"a": "x" * (4 << 20)}}).encode()
    for _ in range(5):
        answer = berth.call("PUT", berth.group_id(rg, "x"), large)
        assert (answer.status, answer.code) == (413, "RequestContentTooLarge"), answer.text
        assert answer.message == "The request content size exceeds the maximum size of 4194304 bytes."
    fits = b'{"a":"' + b"x" * ((4 << 20) - 8) + b'"}'
    assert len(fits) == 4 << 20
    assert berth.call("PUT", berth.group_id(rg, "x"), fits).code == "InvalidRequestContent"
    assert berth.call("GET", berth.group_id(rg, "x")).code == "ResourceNotFound"


def test_a_header_that_is_too_large(berth):
    connection = http.client.HTTPSConnection("127.0.0.1", berth.port, context=berth.tls, timeout=10)
    connection.request("GET", "/subscriptions", headers={"x-long": "x" * 40000})
    assert connection.getresponse().status == 431
    connection.close()


def test_api_versions(berth, rg):
    path = berth.group_id(rg, "x")

    def ask(version, suffix="", method="GET"):
        return berth.call(method, path + suffix, version=version)

    missing = ask(None)
    assert (missing.status, missing.code) == (400, "MissingApiVersionParameter")
    assert missing.message == "The api-version query parameter (?api-version=) is required for all requests."
    for version in ("2023-05-02", "2030-01-01", "2018-01-01"):
        unknown = ask(version)
        assert (unknown.status, unknown.code) == (400, "NoRegisteredProviderFound"), unknown.text
        assert f"API version '{version}' for type 'containerGroups'" in unknown.message and API in unknown.message
    malformed = ask("latest")
    assert (malformed.status, malformed.code) == (400, "InvalidApiVersionParameter")
    for version in ("2017-08-01-preview", "2018-10-01", "2021-10-01", "2022-10-01-preview", "2025-09-01"):
        assert ask(version).code == "ResourceNotFound", version
    too_old = ask("2018-02-01-preview", "/start", "POST")
    assert (too_old.status, too_old.code) == (400, "NoRegisteredProviderFound")


def test_what_is_not_there(berth, rg):
    def ask(method, path, **kwargs):
        answer = berth.call(method, path, **kwargs)
        return answer.status, answer.code, answer.message

    aka = " For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    nothing = (404, "ResourceNotFound", "The Resource 'Microsoft.ContainerInstance/containerGroups/nothing' under "
               f"resource group 'api' was not found.{aka}")
    for method, suffix in (("GET", ""), ("POST", "/start"), ("POST", "/stop"), ("POST", "/restart"),
                           ("GET", "/containers/c/logs"), ("GET", "/outboundNetworkDependenciesEndpoints")):
        assert ask(method, berth.group_id(rg, "nothing") + suffix) == nothing, (method, suffix)
    assert ask("PATCH", berth.group_id(rg, "nothing"), body={"tags": {}}) == nothing
    assert berth.call("DELETE", berth.group_id(rg, "nothing")).status == 204

    no_rg = (404, "ResourceGroupNotFound", "Resource group 'no-rg' could not be found.")
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        body = group_body("x", "image") if method in ("PUT", "PATCH") else None
        if method == "PATCH":
            body = {"tags": {}}
        assert ask(method, berth.group_id("no-rg", "x"), body=body) == no_rg, method
    assert ask("GET", berth.sub("/resourceGroups/no-rg" + NS + "/containerGroups")) == no_rg
    assert ask("GET", berth.sub("/resourceGroups/no-rg"), version="2021-04-01") == no_rg
    head = berth.call("HEAD", berth.sub("/resourceGroups/no-rg"), version="2021-04-01")
    assert (head.status, head.text) == (404, "")

    other = str(uuid.uuid4())
    assert ask("GET", f"/subscriptions/{other}{NS}/containerGroups") == (
        404, "SubscriptionNotFound", f"The subscription '{other}' could not be found.")
    assert ask("GET", f"/subscriptions/x{NS}/containerGroups")[:2] == (400, "InvalidSubscriptionId")
    assert ask("GET", berth.sub("/providers/Microsoft.Nothing/things"))[:2] == (404, "InvalidResourceNamespace")
    assert ask("GET", berth.sub(NS + "/nothings"))[:2] == (404, "InvalidResourceType")
    assert ask("GET", "/nowhere")[:2] == (404, "ResourceNotFound")
    assert ask("GET", berth.sub(NS + f"/locations/local/operations/{other}"))[:2] == (404, "OperationNotFound")
    assert ask("GET", berth.sub(NS + "/locations/local/operations/..%2fx"))[:2] == (400, "InvalidRequestUri")


def test_a_method_that_is_not_there(berth, rg):
    answer = berth.call("POST", berth.group_id(rg, "x"), {})
    assert (answer.status, answer.code) == (405, "MethodNotAllowed")
    assert {"GET", "PUT", "PATCH", "DELETE"} == set(answer.headers["Allow"].replace(" ", "").split(","))


def test_headers(berth, rg):
    correlation, client = str(uuid.uuid4()), str(uuid.uuid4())
    for path in (berth.sub("/resourceGroups/" + rg), berth.group_id(rg, "nothing"), "/nowhere"):
        answer = berth.call("GET", path, headers={"x-ms-client-request-id": client,
                                                  "x-ms-correlation-request-id": correlation})
        assert answer.headers["x-ms-client-request-id"] == client
        assert answer.headers["x-ms-correlation-request-id"] == correlation
        assert is_uuid(answer.headers["x-ms-request-id"])
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    plain = berth.call("GET", berth.sub("/resourceGroups/" + rg))
    assert is_uuid(plain.headers["x-ms-correlation-request-id"])
    assert plain.headers["x-ms-client-request-id"] is None


# --- paths ---

def test_paths_without_regard_to_case_and_with_double_slashes(berth, registry, group):
    image = registry.ref("busybox:1")
    subscription = berth.admin["subscriptionId"]
    doubled = f"/subscriptions/{subscription}//resourcegroups/{group}/providers/Microsoft.ContainerInstance//containerGroups/web"
    made = berth.call("PUT", doubled, group_body("web", image, SLEEP, cpu=0.1, memory=0.1))
    assert made.status == 201, made.text
    assert made.json["id"] == berth.group_id(group, "web")
    for path in (made.json["id"], made.json["id"].upper(), made.json["id"].lower(), doubled,
                 made.json["id"].replace("web", "%77eb"), made.json["id"] + "/"):
        shown = berth.call("GET", path)
        assert shown.status == 200 and shown.json["id"] == made.json["id"], (path, shown.text)
    again = berth.call("PUT", made.json["id"].upper().replace("/WEB", "/web"),
                       group_body("web", image, SLEEP, cpu=0.1, memory=0.1))
    assert (again.status, again.json["id"]) == (200, made.json["id"])
    assert berth.call("GET", made.json["id"] + "/containers/WEB/logs").status == 200
    assert berth.call("GET", made.json["id"] + "?API-Version=2023-05-01", version=None).status == 200
    for bad in ("%zz", "%00", "%c0%af", "a%2fb%2fc", "..", "x" * 3000):
        answer = berth.call("GET", berth.group_id(group, bad))
        assert answer.status in (400, 404) and answer.code, (bad, answer.text)


# --- validation over the wire: the rules themselves are validate_test.c's ---

def one(more=None, name="c", image="alpine", requests=None, limits=None):
    resources = {"requests": {"cpu": 1, "memoryInGB": 1.5} if requests is None else requests}
    if limits:
        resources["limits"] = limits
    return {"name": name, "properties": {"image": image, "resources": resources, **(more or {})}}


def body(*containers, **more):
    return {"location": "local", "properties": {"osType": "Linux", "containers": list(containers) or [one()], **more}}


def public(ports, container_ports=(80,), **more):
    return body(one({"ports": [{"port": p} for p in container_ports]}),
                ipAddress={"type": "Public", "ports": [{"port": p} for p in ports], **more})


P = "properties."
C = "properties.containers[0].properties."
RULES = [
    ({"location": "local", "properties": {"containers": [one()]}}, "InvalidOsType", P + "osType",
     "The 'osType' for container group '<null>' is invalid. The value must be one of 'Windows,Linux'."),
    (body(osType="BeOS"), "InvalidOsType", P + "osType", "must be one of 'Windows,Linux'."),
    (body(osType="Windows"), "PropertyNotSupported", P + "osType", "not supported by this version of Berth"),
    ({"location": "local"}, "InvalidRequestContent", "properties", "'properties'"),
    ({"location": "local", "properties": {"osType": "Linux", "containers": []}}, "ContainersNotSpecified",
     P + "containers", "At least one container is required."),
    ({**body(), "location": "France Central"}, "LocationNotAvailableForResourceType", "location",
     "The provided location 'France Central' is not available for resource type "
     "'Microsoft.ContainerInstance/containerGroups'. List of available regions for the resource type is 'local'."),
    ({**body(), "name": "other"}, "InvalidRequestContent", "name", "doesn't match the name 'g' in the URL."),
    (body(restartPolicy="Sometimes"), "InvalidRestartPolicy", P + "restartPolicy", "Always,OnFailure,Never"),
    (body(provisioningTimeoutInSeconds=60), "CustomProvisioningTimeoutInSecondsNotSuppported",
     P + "provisioningTimeoutInSeconds", ""),
    (body(colour="red"), "InvalidRequestContent", P + "colour", "could not find member 'colour'"),
    # wrong types
    (body(containers="one"), "InvalidRequestContent", P + "containers", "It must be an array."),
    (body("one"), "InvalidRequestContent", P + "containers[0]", "It must be an object."),
    (body(one(image=["a"])), "InvalidRequestContent", C + "image", "It must be a string."),
    (body(one({"command": "ls"})), "InvalidRequestContent", C + "command", "It must be an array."),
    (body(one({"command": [{}]})), "InvalidRequestContent", C + "command[0]", "It must be a string."),
    (body(one({"ports": [{"port": "http"}]})), "InvalidRequestContent", C + "ports[0].port", "a whole number"),
    (body(one(requests={"cpu": "much", "memoryInGB": 1})), "InvalidRequestContent", C + "resources.requests.cpu",
     "It must be a number."),
    ({**body(), "tags": ["a"]}, "InvalidRequestContent", "tags", "an object of strings"),
    ({**body(), "tags": {f"t{i}": "x" for i in range(51)}}, "InvalidTags", "", "at most 50"),
    # containers
    (body(one(name="A")), "InvalidContainerName", "properties.containers[0].name",
     "The container name 'A' in container group 'g' is invalid. The container name must contain no more than 63 "
     "characters and must match the regex '[a-z0-9]([-a-z0-9]*[a-z0-9])?' (e.g. 'my-name')."),
    (body(one(name="a" * 64)), "InvalidContainerName", "properties.containers[0].name", "no more than 63"),
    (body(one(), one()), "DuplicateContainerName", "properties.containers[1].name", "'c'"),
    (body(*[one(name=f"c{i}", requests={"cpu": 0.1, "memoryInGB": 0.1}) for i in range(61)]), "TooManyContainers",
     P + "containers", "The container group 'g' has 61 containers. At most 60 are allowed."),
    (body({"name": "c", "properties": {"resources": {"requests": {"cpu": 1, "memoryInGB": 1}}}}), "ImageNotSpecified",
     C + "image", "The image is not specified in container 'c' of container group 'g'."),
    (body(one(image="a b")), "InvalidImageName", C + "image", "a b"),
    (body(one({"environmentVariables": [{"name": "1A", "value": "x"}]})), "InvalidContainerEnvironmentVariable",
     C + "environmentVariables[0].name",
     "The environment variable name in container 'c' of container group 'g' is invalid. A valid environment variable "
     "name must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. "
     "'my_name',  or 'MY_NAME',  or 'MyName')."),
    # resources
    (body({"name": "c", "properties": {"image": "i"}}), "ResourceRequestsNotSpecified", C + "resources.requests",
     "The resource requests are not specified in container 'c' of contain group 'g'. Both memory and CPU requests are "
     "required since API version '2017-07-01-preview'."),
    (body(one(requests={"cpu": 1})), "ResourceSomeRequestsNotSpecified", C + "resources.requests.memoryInGB",
     "The 'MemoryInGB' request is not specified in "
     "'Microsoft.Azure.CloudConsole.Providers.Common.Entities.ComputeResources' in container 'c' of contain group 'g'. "
     "It is required since API version '2017-07-01-preview'."),
    (body(one(requests={"cpu": 0.123, "memoryInGB": 1})), "InvalidResourceRequest", C + "resources.requests.cpu",
     "multiple of 0.01"),
    (body(one(requests={"cpu": 1, "memoryInGB": 0.25})), "InvalidResourceRequest", C + "resources.requests.memoryInGB",
     "multiple of 0.1"),
    (body(one(requests={"cpu": 31.5, "memoryInGB": 1})), "InvalidResourceRequest", P + "containers", "At most '31' CPU"),
    (body(one(requests={"cpu": 2, "memoryInGB": 4}, limits={"cpu": 1, "memoryInGB": 1.5})),
     "ResourceLimitsLessThanRequests", C + "resources.limits.cpu",
     'The resource requirement \'{"requests":{"memoryInGB":4.0,"cpu":2.0},"limits":{"memoryInGB":1.5,"cpu":1.0}}\' in '
     "container 'c' of contain group 'g' is invalid. The 'Cpu' limit value must be greater than or equal to the request "
     "value."),
    (body(one(requests={"cpu": 1, "memoryInGB": 1}, limits={"cpu": 2})),
     "ContainerLimitGreaterThanContainerGroupTotalRequest", C + "resources.limits.cpu",
     "The 'Cpu' limit '2' in container 'c' is greater than the total request '1' of container group 'g'."),
    # ports, addresses, labels
    (public([0], (0,)), "InvalidPort", C + "ports[0].port", "65535"),
    (public([65536], (65536,)), "InvalidPort", C + "ports[0].port", "65535"),
    (public([]), "MissingIpAddressPorts", P + "ipAddress.ports",
     "The ports in the 'ipAddress' of container group 'g' cannot be empty."),
    (public([80, 4900]), "PortsNotExposed", P + "ipAddress.ports",
     "Following ports '4900' in the 'ipAddress' are not used by any container in container group 'g'."),
    (public([80], (80, 80)), "DuplicatePort", C + "ports[1].port", "'80' (TCP)"),
    (body(one({"ports": [{"port": 80}]}), one({"ports": [{"port": 80}]}, name="d")), "DuplicatePorts",
     "properties.containers[1].properties.ports[0].port", "'c' and 'd'"),
    (public([80], type="Private"), "PrivateIPAddressNotSupported", P + "ipAddress.type",
     "IP Address type in container group 'g' is invalid. Private IP address is only supported when network profile is "
     "defined."),
    *[(public([80], dnsNameLabel=label), "InvalidDnsNameLabel", P + "ipAddress.dnsNameLabel",
       f"The DNS name label '{label}' in container group 'g' is invalid. It can contain only lowercase letters, numbers "
       "and hyphens. The first character must be a letter. The last character must be a letter or number. The value must "
       "be between 5 and 63 characters long.") for label in ("web", "Upper", "1digit", "ends-", "a.b.c", "a" * 64)],
    # registries
    (body(imageRegistryCredentials=[{"server": "https://r.example", "username": "u", "password": "p"}]),
     "InvalidImageRegistryCredential", P + "imageRegistryCredentials[0].server", "without 'http://' or 'https://'"),
    (body(imageRegistryCredentials=[{"server": "r.example", "username": "u"}]), "InvalidImageRegistryCredential",
     P + "imageRegistryCredentials[0]", "needs both"),
    (public(range(1, 7), range(1, 7)), "TooManyPorts", P + "ipAddress.ports", "At most 5 are allowed."),
    # volumes and mounts
    (body(volumes=[{"name": "A", "emptyDir": {}}]), "InvalidVolumeName", P + "volumes[0].name", "(e.g. 'my-name')"),
    (body(volumes=[{"name": f"v{i}", "emptyDir": {}} for i in range(21)]), "TooManyVolumes", P + "volumes",
     "The container group 'g' has 21 volumes. At most 20 are allowed."),
    (body(volumes=[{"name": "v"}]), "InvalidVolume", P + "volumes[0]", "has no kind"),
    (body(volumes=[{"name": "v", "secret": {"../x": "eA=="}}]), "InvalidVolume", P + "volumes[0].secret", "'../x'"),
    (body(volumes=[{"name": "v", "secret": {"x": "not base64"}}]), "InvalidVolume", P + "volumes[0].secret.x",
     "is not valid base64"),
    (body(volumes=[{"name": "v", "gitRepo": {"repository": "ext::sh -c id"}}]), "InvalidVolume",
     P + "volumes[0].gitRepo.repository", "It must be an https:// URL such as"),
    (body(volumes=[{"name": "v", "azureFile": {"shareName": "a,uid=0", "storageAccountName": "acc",
                                               "storageAccountKey": "a2V5"}}]), "InvalidVolume",
     P + "volumes[0].azureFile.shareName", "3 to 63 lowercase letters"),
    (body(one({"volumeMounts": [{"name": "v", "mountPath": "/m"}]})), "InvalidVolumeMount",
     C + "volumeMounts[0].name", "is not among the group's 'volumes'"),
    (body(one({"volumeMounts": [{"name": "v", "mountPath": "/proc/sys"}]}), volumes=[{"name": "v", "emptyDir": {}}]),
     "InvalidVolumeMount", C + "volumeMounts[0].mountPath", "A volume can't be mounted there"),
    # probes, init containers, name servers
    (body(one({"livenessProbe": {"exec": {"command": ["true"]}, "httpGet": {"port": 80}}})), "InvalidProbe",
     C + "livenessProbe", "exactly one of 'exec' and 'httpGet'"),
    (body(one({"readinessProbe": {"httpGet": {"port": 80, "path": "/a\r\nX: y"}}})), "InvalidProbe",
     C + "readinessProbe.httpGet.path", "must begin with '/'"),
    (body(initContainers=[{"name": "i", "properties": {"image": "i", "ports": [{"port": 80}]}}]),
     "InvalidRequestContent", P + "initContainers[0].properties.ports", "Init containers have no ports"),
    (body(initContainers=[{"name": f"i{n}", "properties": {"image": "i"}} for n in range(60)]), "TooManyContainers",
     P + "initContainers", "At most 59 are allowed."),
    (body(dnsConfig={"nameServers": ["dns.example"]}), "InvalidDnsConfig", P + "dnsConfig.nameServers[0]",
     "Give an IPv4 or IPv6 address."),
    # what isn't run is refused, not ignored
    (body(subnetIds=[{"id": "/subscriptions/x"}]), "PropertyNotSupported", P + "subnetIds", "not supported"),
    (body(sku="Confidential"), "PropertyNotSupported", P + "sku", "It must be one of 'Standard'."),
    ({**body(), "zones": ["1"]}, "PropertyNotSupported", "zones", "this region has no zones"),
    ({**body(), "identity": {"type": "SystemAssigned"}}, "PropertyNotSupported", "identity.type", "not supported"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r[1])
def test_a_rule(berth, rg, rule):
    sent, code, target, words = rule
    answer = berth.call("PUT", berth.group_id(rg, "g"), sent)
    assert (answer.status, answer.code) == (400, code), answer.text
    assert answer.json["error"].get("target", "").startswith(target), answer.text
    assert words in answer.message, answer.message
    assert answer.headers["Azure-AsyncOperation"] is None
    assert berth.call("GET", berth.group_id(rg, "g")).status == 404, "nothing was made"


@pytest.mark.parametrize("name", ["UPPER", "a_b", "-a", "a-", "a.b", "a" * 64])
def test_names_of_groups(berth, rg, name):
    answer = berth.call("PUT", berth.group_id(rg, name), body())
    assert (answer.status, answer.code) == (400, "InvalidContainerGroupName"), answer.text
    assert f"'{name}'" in answer.message


def test_updates_that_need_a_new_group(berth, registry, group):
    def wanted(**changed):
        return group_body("web", registry.ref("busybox:1"), SLEEP, **{"cpu": 0.1, "memory": 0.1, **changed})

    assert berth.call("PUT", berth.group_id(group, "web"), wanted()).status == 201
    for changed in ({"cpu": 0.2}, {"memory": 0.2}, {"policy": "Never"}, {"ports": [80]}):
        answer = berth.call("PUT", berth.group_id(group, "web"), wanted(**changed))
        assert (answer.status, answer.code) == (400, "InvalidContainerGroupUpdate"), (changed, answer.text)
        assert answer.message == (
            "The updates on container group 'web' are invalid. If you are going to update the os type, restart policy, "
            "network profile, CPU, memory or GPU resources for a container group, you must delete it first and then "
            "create a new one.")
    assert berth.call("PATCH", berth.group_id(group, "web"), {"Tags": {"a": "b"}}).json["tags"] == {"a": "b"}
    wrong = berth.call("PATCH", berth.group_id(group, "web"), {"properties": {"restartPolicy": "Never"}})
    assert (wrong.status, wrong.code) == (400, "InvalidRequestContent") and "PUT" in wrong.message


# --- what is taken, what is under way ---

def test_a_taken_label(berth, registry, group):
    def put(name, label):
        return berth.call("PUT", berth.group_id(group, name), group_body(
            name, registry.ref("busybox:1"), SLEEP, ports=[80], label=label, cpu=0.1, memory=0.1))

    assert put("one", "api-label").status == 201
    taken = put("two", "api-label")
    assert (taken.status, taken.code) == (409, "DnsNameLabelNotAvailable")
    assert taken.message == ("The DNS name label 'api-label' in container group 'two' not available. Try using a different "
                             "label.")
    assert taken.json["error"]["target"] == "properties.ipAddress.dnsNameLabel"
    assert put("one", "api-other").json["properties"]["ipAddress"]["fqdn"] == "api-other.local.berth.internal"
    assert put("two", "api-label").status == 201, "a label that was given up is free"
    assert berth.call("DELETE", berth.group_id(group, "one")).status == 200
    assert put("three", "api-other").status == 201, "and so is that of a deleted group"


def test_a_label_that_many_want_at_once(berth, registry, group):
    def put(i):
        return berth.call("PUT", berth.group_id(group, f"g{i}"), group_body(
            f"g{i}", registry.ref("busybox:1"), SLEEP, ports=[80], label="wanted-by-all", cpu=0.1, memory=0.1))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(put, range(8)))
    assert sorted(a.status for a in answers) == [201] + [409] * 7
    assert {a.code for a in answers if a.status == 409} == {"DnsNameLabelNotAvailable"}
    made = berth.get(f"/resourceGroups/{group}{NS}/containerGroups")["value"]
    assert len(made) == 1, "whoever didn't get it made nothing"


def test_a_group_that_two_create_at_once(berth, registry, group):
    def put(i):
        return berth.call("PUT", berth.group_id(group, "same"), group_body(
            "same", registry.ref("busybox:1"), ["/bin/sh", "-c", f"echo {i}; exec sleep 1000"], cpu=0.1, memory=0.1))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(put, range(4)))
    assert [a.status for a in answers].count(201) == 1, [a.text for a in answers]
    for answer in answers:
        assert answer.status in (200, 201) or answer.code == "ContainerGroupTransitioning", answer.text


def test_a_group_in_transition(berth, group, silent_registry):
    """A pull that doesn't end: what may be done meanwhile, and what the operation says."""
    path = berth.group_id(group, "slow")
    wanted = group_body("slow", silent_registry + "/never:1", SLEEP)
    started = time.monotonic()
    made = berth.call("PUT", path, wanted)
    assert 1.5 < time.monotonic() - started < 4, "a create is waited for, but not for long"
    assert made.status == 201 and made.json["properties"]["provisioningState"] in ("Pending", "Creating")
    assert made.json["properties"]["instanceView"]["state"] == "Pending"
    assert made.headers["Retry-After"] == "1"
    operation = made.headers["Azure-AsyncOperation"]
    assert operation.startswith(berth.endpoint + berth.sub(NS + "/locations/local/operations/"))
    polled = berth.call("GET", operation)
    assert (polled.status, polled.json["status"], polled.json["id"]) == (200, "Pending", path)
    assert polled.headers["Retry-After"] == "1"
    assert "startTime" in polled.json and isinstance(polled.json["properties"]["events"], list)

    changed = group_body("slow", silent_registry + "/never:2", SLEEP)
    transitioning = (409, "ContainerGroupTransitioning",
                     "The container group 'slow' is still transitioning, please retry later.")
    for method, suffix, sent in (("PUT", "", changed), ("POST", "/start", None), ("POST", "/restart", None)):
        answer = berth.call(method, path + suffix, sent)
        assert (answer.status, answer.code, answer.message) == transitioning, answer.text
    logs = berth.call("GET", path + "/containers/slow/logs")
    assert (logs.status, logs.code) == (409, "ContainerLogNotAvailable")
    assert berth.call("PATCH", path, {"tags": {"a": "b"}}).status == 200
    assert berth.call("PUT", path, {**wanted, "tags": {"a": "b"}}).status == 200, "the same wish again waits with the first"

    assert berth.call("DELETE", path).status == 200, "a delete is the way out"
    assert berth.call("GET", path).status == 404
    gone = berth.call("GET", operation)
    assert gone.status in (200, 404) and (gone.json.get("status") in ("Canceled", None)), gone.text


def test_a_group_that_is_stopped_before_it_ran(berth, group, silent_registry):
    path = berth.group_id(group, "halted")
    made = berth.call("PUT", path, group_body("halted", silent_registry + "/never:1", SLEEP))
    operation = made.headers["Azure-AsyncOperation"]
    assert berth.call("POST", path + "/stop").status == 204
    assert berth.call("GET", operation).json["status"] == "Canceled"
    berth.wait(group, "halted", lambda g: g["properties"]["instanceView"]["state"] == "Stopped")


def test_a_put_that_settles_has_no_operation_and_a_failed_one_has(berth, registry, group):
    made = berth.call("PUT", berth.group_id(group, "quick"), group_body("quick", registry.ref("busybox:1"), SLEEP))
    assert (made.status, made.json["properties"]["provisioningState"]) == (201, "Succeeded")
    assert made.json["properties"]["instanceView"]["state"] == "Running"
    for header in ("Azure-AsyncOperation", "Location", "Retry-After"):
        assert made.headers[header] is None, header
    failed = berth.call("PUT", berth.group_id(group, "fails"), group_body("fails", registry.ref("nothing:9"), SLEEP))
    assert (failed.status, failed.json["properties"]["provisioningState"]) == (201, "Failed")
    polled = berth.call("GET", failed.headers["Azure-AsyncOperation"]).json
    assert polled["status"] == "Failed" and polled["error"]["code"] == "InaccessibleImage"
    assert registry.ref("nothing:9") in polled["error"]["message"]
    assert any(e["type"] == "Warning" and registry.ref("nothing:9") in e["message"] for e in polled["properties"]["events"])
    logs = berth.call("GET", berth.group_id(group, "fails") + "/containers/fails/logs")
    assert (logs.status, logs.code) == (409, "ContainerLogNotAvailable"), "what never ran has no log"
    started = berth.call("POST", berth.group_id(group, "fails") + "/start")
    assert started.status == 202
    assert "/operationResults/" in started.headers["Location"] and started.headers["Azure-AsyncOperation"]
    eventually(lambda: berth.call("GET", started.headers["Location"]).status == 204)
    assert berth.call("GET", started.headers["Azure-AsyncOperation"]).json["status"] == "Failed"


# --- lists ---

def test_paging(berth, registry, group):
    for i in range(5):
        berth.create(group, f"g{i}", registry.ref("busybox:1"), SLEEP, cpu=0.01, memory=0.1)
    path = berth.sub(f"/resourceGroups/{group}{NS}/containerGroups")
    names, url = [], path + "?$top=2&api-version=" + API
    while url:
        page = berth.call("GET", url, version=None)
        assert page.status == 200 and len(page.json["value"]) <= 2, page.text
        names += [g["name"] for g in page.json["value"]]
        url = page.json.get("nextLink")
        assert not url or url.startswith(berth.endpoint + "/")
    assert names == [f"g{i}" for i in range(5)]
    assert len(berth.get(NS + "/containerGroups")["value"]) >= 5
    for query, code in (("$top=0", "InvalidQueryParameterValue"), ("$top=x", "InvalidQueryParameterValue"),
                        ("$skiptoken=%21", "InvalidSkipToken")):
        answer = berth.call("GET", f"{path}?{query}")
        assert (answer.status, answer.code) == (400, code), answer.text
    # A token is a place in the list, not a way into others.
    foreign = base64.urlsafe_b64encode(b"cg/").decode().rstrip("=")
    assert all(f"/resourceGroups/{group}/" in g["id"]
               for g in berth.call("GET", f"{path}?$skiptoken={foreign}").json["value"])


def test_secrets_are_never_shown(berth, registry, group):
    wanted = group_body("secret", registry.ref("busybox:1"), SLEEP, cpu=0.1, memory=0.1, tags={"a": "b"}, credentials={
        "server": "r.example", "username": "u", "password": "pass-w0rd"})
    wanted["properties"]["containers"][0]["properties"]["environmentVariables"] = [
        {"name": "OPEN", "value": "1"}, {"name": "HIDDEN", "secureValue": "pass-w0rd"}]
    path = berth.group_id(group, "secret")
    listed = berth.sub(f"/resourceGroups/{group}{NS}/containerGroups")
    answers = [berth.call("PUT", path, wanted), berth.call("GET", path), berth.call("PATCH", path, {"tags": {"c": "d"}}),
               berth.call("GET", listed), berth.call("GET", berth.sub("/resources"), version="2021-04-01"),
               berth.call("DELETE", path)]
    for answer in answers:
        assert answer.status < 300 and "pass-w0rd" not in answer.text
    shown = answers[1].json["properties"]["containers"][0]["properties"]["environmentVariables"]
    assert shown == [{"name": "OPEN", "value": "1"}, {"name": "HIDDEN"}]


def test_a_resource_group_goes_with_all_that_is_in_it(berth, registry):
    name = berth.new_name("whole")
    berth.put(f"/resourcegroups/{name}", {"location": "local"}, version="2021-04-01")
    for i in range(2):
        berth.create(name, f"g{i}", registry.ref("busybox:1"), SLEEP, cpu=0.1, memory=0.1)
    gone = berth.call("DELETE", berth.sub(f"/resourcegroups/{name}"), version="2021-04-01")
    assert gone.status in (200, 202), gone.text
    eventually(lambda: berth.call("HEAD", berth.sub(f"/resourcegroups/{name}"), version="2021-04-01").status == 404)
    assert berth.call("GET", berth.group_id(name, "g0")).code == "ResourceGroupNotFound"


# --- the server itself ---

def test_plain_http_and_old_tls_are_refused(berth):
    with socket.create_connection(("127.0.0.1", berth.port), timeout=10) as plain:
        plain.sendall(b"GET /subscriptions HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert b"200" not in plain.recv(4096)
        except ConnectionResetError:
            pass
    context = ssl.create_default_context(cafile=str(berth.state / "ca.pem"))
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", berth.port), timeout=10) as old, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(old, server_hostname="127.0.0.1")


def test_requests_that_stay_open_dont_stop_others(berth, rg):
    """A client that sends half a request holds nothing but its connection."""
    held = []
    for _ in range(20):
        stuck = berth.tls.wrap_socket(socket.create_connection(("127.0.0.1", berth.port)), server_hostname="127.0.0.1")
        stuck.sendall(b"PUT /subscriptions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        held.append(stuck)
    started = time.monotonic()
    assert berth.call("GET", berth.group_id(rg, "x")).status == 404
    assert time.monotonic() - started < 1
    for stuck in held:
        stuck.close()
