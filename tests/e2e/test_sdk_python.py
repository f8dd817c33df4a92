"""Debian's Python SDK, azure-mgmt-containerinstance, with azure-identity: every operation it has."""
import json
import threading
import time

import pytest
import websocket
from azure.core.exceptions import (ClientAuthenticationError, HttpResponseError, ResourceExistsError,
                                   ResourceNotFoundError)
from azure.identity import ClientSecretCredential
from azure.mgmt.containerinstance import ContainerInstanceManagementClient, models

from harness import eventually, fetch


def connect(berth, secret=None):
    admin = berth.admin
    credential = ClientSecretCredential("adfs", admin["clientId"], secret or admin["clientSecret"],
                                        authority=admin["endpoint"], disable_authority_validation=True)
    return ContainerInstanceManagementClient(credential, admin["subscriptionId"], base_url=admin["endpoint"],
                                             credential_scopes=[admin["endpoint"] + "/.default"])


@pytest.fixture(scope="module", autouse=True)
def trust(berth):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(berth.state / "ca.pem"))
        yield


@pytest.fixture(scope="module")
def client(berth, trust):
    with connect(berth) as client:
        yield client


def container_group(image, name="one", command=None, port=None, label=None, tags=None, policy="Always", env=None):
    container = models.Container(
        name=name, image=image, command=command, environment_variables=env,
        resources=models.ResourceRequirements(requests=models.ResourceRequests(cpu=0.5, memory_in_gb=0.5)),
        ports=[models.ContainerPort(port=port)] if port else None)
    address = models.IpAddress(type="Public", ports=[models.Port(port=port, protocol="TCP")],
                               dns_name_label=label) if port else None
    return models.ContainerGroup(location="local", containers=[container], os_type="Linux", restart_policy=policy,
                                 ip_address=address, tags=tags)


SLEEP = ["/bin/sh", "-c", "echo up; exec sleep 1000"]


def test_a_group_from_create_to_delete(client, registry, group):
    groups = client.container_groups
    wanted = container_group(registry.ref("hello:1"), port=80, label="sdk-python", tags={"a": "1"})
    started = time.monotonic()
    made = groups.begin_create_or_update(group, "web", wanted).result()
    assert time.monotonic() - started < 10, "the poller had nothing to sleep for"
    assert (made.name, made.provisioning_state, made.location) == ("web", "Succeeded", "local")
    assert made.type == "Microsoft.ContainerInstance/containerGroups"
    assert made.ip_address.fqdn == "sdk-python.local.berth.internal"
    assert made.sku == "Standard" and made.tags == {"a": "1"}
    assert "Hello from web" in fetch(made.ip_address.ip)

    shown = groups.get(group, "web")
    assert shown.instance_view.state == "Running"
    view = shown.containers[0].instance_view
    assert (view.restart_count, view.current_state.state) == (0, "Running")
    assert view.current_state.start_time.tzinfo is not None
    assert [e.name for e in view.events][-1] == "Started"
    assert shown.containers[0].resources.requests.memory_in_gb == 0.5

    assert [g.name for g in groups.list_by_resource_group(group)] == ["web"]
    assert made.id in [g.id for g in groups.list()]
    assert list(groups.list_by_resource_group(group))[0].instance_view is None

    tagged = groups.update(group, "web", models.Resource(location="local", tags={"b": "2"}))
    assert tagged.tags == {"b": "2"}
    assert groups.get(group, "web").containers[0].instance_view.current_state.start_time == view.current_state.start_time

    groups.stop(group, "web")
    eventually(lambda: groups.get(group, "web").instance_view.state == "Stopped")
    with pytest.raises(OSError):
        fetch(made.ip_address.ip, timeout=1)
    assert groups.begin_start(group, "web").result() is None
    assert groups.get(group, "web").instance_view.state == "Running"
    assert groups.get(group, "web").ip_address.ip == made.ip_address.ip
    assert "Hello from web" in fetch(made.ip_address.ip)
    before = groups.get(group, "web").containers[0].instance_view.current_state.start_time
    assert groups.begin_restart(group, "web").result() is None
    eventually(lambda: groups.get(group, "web").containers[0].instance_view.current_state.start_time > before)
    assert groups.get_outbound_network_dependencies_endpoints(group, "web") == []

    assert groups.begin_delete(group, "web").result().name == "web"
    with pytest.raises(ResourceNotFoundError) as gone:
        groups.get(group, "web")
    assert gone.value.error.code == "ResourceNotFound"
    assert groups.begin_delete(group, "web").result() is None, "a second delete finds nothing to do"


def test_logs(client, registry, group):
    command = ["/bin/sh", "-c", "for i in 1 2 3; do echo line $i; done; exec sleep 1000"]
    client.container_groups.begin_create_or_update(
        group, "logs", container_group(registry.ref("busybox:1"), command=command)).result()
    logs = client.containers.list_logs
    eventually(lambda: logs(group, "logs", "one").content == "line 1\nline 2\nline 3\n")
    assert logs(group, "logs", "one", tail=1).content == "line 3\n"
    stamped = logs(group, "logs", "one", tail=1, timestamps=True).content
    assert stamped.startswith("20") and stamped.endswith("Z line 3\n")
    with pytest.raises(ResourceNotFoundError) as missing:
        logs(group, "logs", "two")
    assert missing.value.error.code == "ContainerNotFound"


def test_what_is_read_can_be_written_back(client, berth, registry, group):
    """A secure variable isn't in the answer, and yet it stays when the answer is sent back."""
    groups = client.container_groups
    env = [models.EnvironmentVariable(name="OPEN", value="seen"),
           models.EnvironmentVariable(name="SECRET", secure_value="hidden")]
    command = ["/bin/sh", "-c", "echo $OPEN $SECRET; exec sleep 1000"]
    made = groups.begin_create_or_update(
        group, "again", container_group(registry.ref("busybox:1"), command=command, env=env)).result()
    assert made.containers[0].environment_variables[1].secure_value is None
    made.containers[0].environment_variables[0].value = "changed"
    changed = groups.begin_create_or_update(group, "again", made).result()
    assert changed.provisioning_state == "Succeeded"
    eventually(lambda: berth.logs(group, "again", "one").endswith("changed hidden\n"))


def test_a_pull_that_fails_is_raised_with_its_reason(client, registry, group):
    started = time.monotonic()
    with pytest.raises(HttpResponseError) as failed:
        client.container_groups.begin_create_or_update(
            group, "nopull", container_group(registry.ref("nothing:9"))).result()
    assert time.monotonic() - started < 10
    assert failed.value.error.code == "InaccessibleImage"
    assert registry.ref("nothing:9") in failed.value.message
    made = client.container_groups.get(group, "nopull")
    assert made.provisioning_state == "Failed"
    assert any(registry.ref("nothing:9") in e.message for e in made.containers[0].instance_view.events)


def test_a_slow_create_is_polled_to_its_end(client, berth, private_registry, group):
    """A wait of less than the create takes: the operation is what the poller follows."""
    body = container_group(private_registry.ref("busybox:1"), command=SLEEP)
    body.image_registry_credentials = [models.ImageRegistryCredential(server=private_registry.address, username="alice",
                                                                      password="s3cret-pass")]
    made = client.container_groups.begin_create_or_update(group, "slow", body).result()
    assert made.provisioning_state == "Succeeded"
    assert made.image_registry_credentials[0].password is None
    assert "s3cret-pass" not in json.dumps(berth.show(group, "slow"))


def test_the_location(client, berth, registry, group):
    before = {u.name.value: u for u in client.location.list_usage("local")}
    assert before["ContainerGroups"].unit == "Count"
    client.container_groups.begin_create_or_update(
        group, "used", container_group(registry.ref("busybox:1"), command=SLEEP)).result()
    after = {u.name.value: u for u in client.location.list_usage("local")}
    assert after["ContainerGroups"].current_value == before["ContainerGroups"].current_value + 1
    assert after["ContainerGroups"].limit >= 100

    (capability,) = client.location.list_capabilities("local")
    assert (capability.resource_type, capability.os_type, capability.gpu) == ("containerGroups", "Linux", "None")
    assert capability.capabilities.max_cpu >= 1 and capability.capabilities.max_memory_in_gb >= 0.5

    images = [i.image for i in client.location.list_cached_images("local")]
    assert registry.ref("busybox:1") in images, images

    with pytest.raises(HttpResponseError) as elsewhere:
        list(client.location.list_usage("francecentral"))
    assert elsewhere.value.error.code == "LocationNotAvailableForResourceType"


def test_operations(client):
    names = [o.name for o in client.operations.list()]
    assert "Microsoft.ContainerInstance/containerGroups/write" in names
    assert all(o.display.description for o in client.operations.list())


def test_errors_are_of_the_shape_that_the_sdk_reads(client, registry, group):
    groups = client.container_groups
    with pytest.raises(HttpResponseError) as invalid:
        groups.begin_create_or_update(group, "UPPER", container_group(registry.ref("busybox:1"))).result()
    assert (invalid.value.status_code, invalid.value.error.code) == (400, "InvalidContainerGroupName")
    assert invalid.value.error.target == "name"

    with pytest.raises(ResourceNotFoundError) as missing:
        groups.begin_create_or_update("no-such-rg", "web", container_group(registry.ref("busybox:1"))).result()
    assert missing.value.error.code == "ResourceGroupNotFound"
    with pytest.raises(ResourceNotFoundError) as nothing:
        groups.stop(group, "nothing")
    assert nothing.value.error.code == "ResourceNotFound"

    web = container_group(registry.ref("busybox:1"), command=SLEEP, port=80, label="taken-label")
    groups.begin_create_or_update(group, "first", web).result()
    with pytest.raises(ResourceExistsError) as taken:
        groups.begin_create_or_update(group, "second", web).result()
    assert taken.value.error.code == "DnsNameLabelNotAvailable" and "'taken-label'" in taken.value.message

    with pytest.raises(HttpResponseError) as exec_:
        client.containers.execute_command(group, "first", "one", models.ContainerExecRequest(command="echo 'a"))
    assert exec_.value.error.code == "InvalidCommand"


def everything(berth, session, **options):
    """What comes out of the WebSocket of exec or attach, to its end."""
    ws = websocket.create_connection(session.web_socket_uri, sslopt={"ca_certs": str(berth.state / "ca.pem")}, timeout=30,
                                     **options)
    if not options:
        ws.send(session.password)
    text = ""
    try:
        while data := ws.recv():
            text += data
    except websocket.WebSocketConnectionClosedException:
        pass
    return text


def test_exec_and_attach(berth, client, registry, group):
    script = ["/bin/sh", "-c", "until [ -e /go ]; do usleep 20000; done; echo one; sleep 0.2; echo two; sleep 1"]
    made = container_group(registry.ref("busybox:1"), command=script, policy="Never")
    client.container_groups.begin_create_or_update(group, "talk", made).result()
    attached = client.containers.attach(group, "talk", "one")
    follower = threading.Thread(target=lambda: found.append(
        everything(berth, attached, header={"Authorization": attached.password})))
    found = []
    follower.start()
    time.sleep(0.5)
    session = client.containers.execute_command(group, "talk", "one", models.ContainerExecRequest(
        command="sh -c 'echo \"hi  there\"; touch /go'",
        terminal_size=models.ContainerExecRequestTerminalSize(rows=24, cols=80)))
    assert everything(berth, session) == "hi  there\r\n"
    follower.join(30)
    assert found == ["one\ntwo\n"]


def test_a_wrong_secret_is_an_authentication_error(berth):
    with connect(berth, secret="wrong") as client, pytest.raises(ClientAuthenticationError) as wrong:
        list(client.container_groups.list())
    assert "AADSTS7000215" in wrong.value.message
