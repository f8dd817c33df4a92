"""azureFile volumes of groups, over the API, against a real smbd."""
import json
import os
import pathlib
import signal
import time

import pytest

from harness import Berth, eventually, leftovers, remains, view
from smb_server import SmbServer, new_key

SH = ["/bin/sh", "-c"]


@pytest.fixture(scope="module")
def server(workdir):
    with SmbServer(workdir / "smb-api", {"storageone": ["data-a", "data-b"]}) as server:
        yield server


@pytest.fixture(scope="module")
def own(workdir, registry, server):
    berth = Berth(workdir / "az", settings={"azure_files_server": server.azure_files, "restart_backoff_ms": 200,
                                            "stop_grace_ms": 500})
    berth.image = registry.ref("busybox:1")
    berth.up()
    berth.put("/resourcegroups/f", {"location": "local"}, version="2021-04-01")
    yield berth
    deploy(berth, "last", "sleep 1000", server.keys["storageone"])
    berth.purge()
    assert not remains(berth.state, berth.config)
    eventually(lambda: not programs(berth))


@pytest.fixture(autouse=True)
def nothing_is_left(own):
    yield
    own.up()
    for item in own.get("/resourceGroups/f/providers/Microsoft.ContainerInstance/containerGroups")["value"]:
        assert own.call("DELETE", item["id"]).status in (200, 204)
    eventually(lambda: not leftovers(own))
    assert not programs(own)


def programs(own):
    """Our berth-smb processes: what they say goes to the node's log."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (path / "comm").read_text() == "berth-smb\n" and str(own.state) in os.readlink(path / "fd/2"):
                found.append(path.name)
        except OSError:
            continue
    return found


def put(own, name, script, key, share="data-a", read_only=False, mount_read_only=False, policy="Always"):
    return own.call("PUT", own.group_id("f", name), {"location": "local", "properties": {
        "osType": "Linux", "restartPolicy": policy,
        "containers": [{"name": "a", "properties": {
            "image": own.image, "command": [*SH, script], "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}},
            "volumeMounts": [{"name": "share", "mountPath": "/share", "readOnly": mount_read_only}]}}],
        "volumes": [{"name": "share", "azureFile": {"shareName": share, "storageAccountName": "storageone",
                                                    "storageAccountKey": key, "readOnly": read_only}}]}})


def deploy(own, name, script, key, **kwargs):
    answer = put(own, name, script, key, **kwargs)
    assert answer.status in (200, 201), answer.text
    return own.wait("f", name, lambda g: g["properties"]["provisioningState"] == "Succeeded")


def logs(own, name, until):
    def text():
        content = own.logs("f", name, "a")
        return content if until in content else None
    return eventually(text)


def events(group):
    return [e for e in view(group).get("events", []) if e["name"] == "FailedMountAzureFileVolume"]


def test_a_container_reads_and_writes_a_share(own, server):
    (server.share("data-a") / "in").write_text("from the share\n")
    made = deploy(own, "rw", "cat /share/in; echo hello > /share/out; stat -c '%u %a' /share/out; mkdir /share/d; ls /share; echo end; sleep 1000",
                  server.keys["storageone"])
    text = logs(own, "rw", "end")
    assert text.splitlines()[:2] == ["from the share", "0 777"]
    assert (server.share("data-a") / "out").read_text() == "hello\n"
    for answer in (made, own.show("f", "rw")):
        assert server.keys["storageone"] not in json.dumps(answer)
    log = "".join(p.read_text(errors="replace") for p in own.state.rglob("*.log"))
    assert server.keys["storageone"] not in log


@pytest.mark.parametrize("how", ["read_only", "mount_read_only"])
def test_a_read_only_share(own, server, how):
    (server.share("data-b") / "in").write_text("from the share\n")
    deploy(own, "ro", "cat /share/in; touch /share/x 2>&1 || echo refused; sleep 1000", server.keys["storageone"], share="data-b",
           **{how: True})
    assert "Read-only file system" in logs(own, "ro", "refused")
    assert [p.name for p in server.share("data-b").iterdir()] == ["in"]


@pytest.mark.parametrize("what, share, words", [
    ("key", "data-a", "Permission denied"), ("share", "not-there", "has no share 'not-there'")])
def test_a_mount_that_fails_says_why_within_seconds(own, server, what, share, words):
    begin = time.monotonic()
    assert put(own, "bad", "sleep 1000", new_key() if what == "key" else server.keys["storageone"], share=share).status in (200, 201)
    group = own.wait("f", "bad", events)
    assert time.monotonic() - begin < 10
    event = events(group)[0]
    assert words in event["message"] and event["type"] == "Warning"
    assert view(group)["currentState"]["state"] == "Waiting"
    # It is tried again, and a PUT with what is right is mounted.
    own.wait("f", "bad", lambda g: events(g)[0]["count"] > 1)
    deploy(own, "bad", "ls /share; echo end; sleep 1000", server.keys["storageone"])
    assert logs(own, "bad", "end")


def test_a_killed_node_and_a_restarted_server_break_no_mount(own, server):
    deploy(own, "kill", "i=0; while :; do echo $i > /share/count && i=$((i+1)); usleep 100000; done", server.keys["storageone"])
    count = server.share("data-a") / "count"

    def goes_on():
        last = int(count.read_text() or 0)
        eventually(lambda: int(count.read_text() or 0) > last + 3, timeout=30)
    eventually(count.exists)
    goes_on()
    served = programs(own)
    assert len(served) == 1
    own.kill("berth-node")
    goes_on()
    own.up()
    own.wait("f", "kill", lambda g: view(g)["currentState"]["state"] == "Running" and view(g)["restartCount"] == 0)
    goes_on()
    assert programs(own) == served
    server.stop()
    time.sleep(1)
    server.start()
    goes_on()
    assert programs(own) == served


def test_a_dead_program_is_replaced_when_the_container_restarts(own, server):
    deploy(own, "dead", "while echo x > /share/alive; do usleep 100000; done; echo lost; exit 1", server.keys["storageone"])
    served = programs(own)
    os.kill(int(served[0]), signal.SIGKILL)
    group = own.wait("f", "dead", lambda g: view(g)["restartCount"] >= 1 and view(g)["currentState"]["state"] == "Running"
                     and programs(own) not in ([], served))
    assert view(group)["restartCount"] < 4


def test_a_dead_program_is_told_to_who_holds_its_mount(own, server):
    deploy(own, "told", "while :; do usleep 100000; done", server.keys["storageone"])
    os.kill(int(programs(own)[0]), signal.SIGKILL)
    # The next round sees it: here that of a daemon that was started anew.
    own.kill("berth-node")
    own.up()
    group = own.wait("f", "told", events)
    assert "is no longer mounted" in events(group)[0]["message"] and view(group)["restartCount"] == 0
    assert own.call("POST", own.group_id("f", "told") + "/restart").status in (202, 204)
    eventually(lambda: programs(own))


def test_a_frozen_server_harms_one_group(own, server):
    deploy(own, "hang", "while :; do ls /share > /dev/null; done", server.keys["storageone"])
    server.freeze()
    try:
        time.sleep(1)
        begin = time.monotonic()
        own.create("f", "other", own.image, ["sleep", "1000"])
        own.wait("f", "other", lambda g: view(g)["currentState"]["state"] == "Running")
        assert own.call("DELETE", own.group_id("f", "other")).status in (200, 204)
        assert time.monotonic() - begin < 10
        assert own.call("DELETE", own.group_id("f", "hang")).status in (200, 202, 204)
        eventually(lambda: not leftovers(own), timeout=60)
        assert time.monotonic() - begin < 60
    finally:
        server.thaw()
