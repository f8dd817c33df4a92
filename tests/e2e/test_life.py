"""States, events and restart policies of container groups, logs, updates: over the API, with real containers."""
import socket
import time

import pytest

from harness import eventually, fetch, store_keys, view

SH = ["/bin/sh", "-c"]


@pytest.mark.parametrize("policy, code, state, detail", [
    ("Never", 0, "Succeeded", "Completed"),
    ("Never", 3, "Failed", "Error"),
    ("OnFailure", 0, "Succeeded", "Completed"),
])
def test_a_group_that_ends(berth, registry, group, policy, code, state, detail):
    berth.create(group, "job", registry.ref("busybox:1"), [*SH, f"echo done; exit {code}"], policy=policy)
    ended = berth.wait(group, "job", lambda g: g["properties"]["instanceView"]["state"] == state)
    current = view(ended)["currentState"]
    assert (current["state"], current["exitCode"], current["detailStatus"]) == ("Terminated", code, detail)
    assert current["startTime"] <= current["finishTime"]
    assert view(ended)["restartCount"] == 0
    assert ended["properties"]["provisioningState"] == "Succeeded"
    assert berth.logs(group, "job") == "done\n"
    time.sleep(0.5)
    assert view(berth.show(group, "job"))["restartCount"] == 0


@pytest.mark.parametrize("policy, code", [("Always", 0), ("Always", 1), ("OnFailure", 1)])
def test_a_container_that_ends_is_restarted_and_backs_off(berth, registry, group, policy, code):
    berth.create(group, "loop", registry.ref("busybox:1"), [*SH, f"exit {code}"], policy=policy)
    waiting = berth.wait(group, "loop", lambda g: view(g).get("currentState", {}).get("state") == "Waiting")
    assert view(waiting)["currentState"]["detailStatus"] == "CrashLoopBackOff: Back-off 10s restarting failed"
    assert view(waiting)["previousState"]["exitCode"] == code
    assert waiting["properties"]["instanceView"]["state"] == "Running"
    events = {e["name"]: e for e in view(waiting)["events"]}
    assert events["BackOff"]["type"] == "Warning"
    assert events["Started"]["count"] == 2
    assert view(waiting)["restartCount"] == 2
    berth.wait(group, "loop", lambda g: view(g)["restartCount"] == 3, timeout=25)
    again = berth.wait(group, "loop", lambda g: "20s" in view(g)["currentState"].get("detailStatus", ""))
    assert view(again)["restartCount"] == 3


def test_a_program_that_is_missing_says_so_at_once(berth, registry, group):
    made = berth.create(group, "nothing", registry.ref("busybox:1"), ["/bin/nothing"], policy="Never")
    assert made["properties"]["provisioningState"] == "Failed"
    assert "/bin/nothing" in view(made)["events"][-1]["message"]
    assert view(made)["currentState"]["exitCode"] == 128


def test_too_much_memory_is_told(berth, registry, group):
    berth.create(group, "hog", registry.ref("busybox:1"), [*SH, "dd if=/dev/zero of=/dev/null bs=700M count=1"],
                 policy="Never", memory=0.1)
    ended = berth.wait(group, "hog", lambda g: g["properties"]["instanceView"]["state"] == "Failed")
    assert view(ended)["currentState"]["exitCode"] == 137 or "Cannot allocate" in berth.logs(group, "hog")


def test_logs(berth, registry, group):
    berth.create(group, "logs", registry.ref("busybox:1"),
                 [*SH, "for i in $(seq 1 1000); do echo out $i; done; echo err >&2; sleep 1000"])
    eventually(lambda: "err\n" in berth.logs(group, "logs"))
    lines = berth.logs(group, "logs").splitlines()
    assert lines[:1000] == [f"out {i}" for i in range(1, 1001)]
    assert berth.logs(group, "logs", query="?tail=2").splitlines() == ["out 1000", "err"]
    stamped = berth.logs(group, "logs", query="?tail=1&timestamps=true")
    assert stamped.startswith("20") and stamped.endswith(" err\n")
    missing = berth.call("GET", berth.group_id(group, "logs") + "/containers/other/logs")
    assert missing.status == 404
    wrong = berth.call("GET", berth.group_id(group, "logs") + "/containers/logs/logs?tail=x")
    assert wrong.status == 400


def test_environment_command_and_user(berth, registry, group):
    berth.create(group, "env", registry.ref("busybox:1"), [*SH, 'echo "$A $HOSTNAME"; id; hostname; cat /etc/resolv.conf'],
                 policy="Never", env={"A": "b c"})
    eventually(lambda: "nameserver" in berth.logs(group, "env"))
    log = berth.logs(group, "env")
    assert log.splitlines()[0] == "b c env"
    assert "uid=0(root)" in log
    assert "search local.berth.internal" in log


def test_stop_start_and_restart_keep_the_address(berth, registry, group):
    made = berth.create(group, "web", registry.ref("hello:1"), ports=[80])
    address = made["properties"]["ipAddress"]["ip"]
    path = berth.group_id(group, "web")
    assert "Hello" in fetch(address)
    assert berth.call("POST", path + "/stop").status == 204
    stopped = berth.wait(group, "web", lambda g: g["properties"]["instanceView"]["state"] == "Stopped")
    assert stopped["properties"]["ipAddress"]["ip"] == address
    assert berth.call("POST", path + "/start").status in (202, 204)
    berth.wait(group, "web", lambda g: g["properties"]["instanceView"]["state"] == "Running")
    assert "Hello" in fetch(address)
    before = view(berth.show(group, "web"))["currentState"]["startTime"]
    assert berth.call("POST", path + "/restart").status == 204
    after = berth.wait(group, "web", lambda g: view(g).get("currentState", {}).get("startTime", before) > before)
    assert after["properties"]["ipAddress"]["ip"] == address
    assert "Hello" in fetch(address)


def test_an_unchanged_put_changes_nothing_and_an_update_keeps_the_address(berth, registry, group):
    made = berth.create(group, "up", registry.ref("busybox:1"), [*SH, "echo one; sleep 1000"], ports=[80])
    same = berth.create(group, "up", registry.ref("busybox:1"), [*SH, "echo one; sleep 1000"], ports=[80])
    assert view(same) == view(made)
    berth.create(group, "up", registry.ref("busybox:1"), [*SH, "echo two; sleep 1000"], ports=[80])
    eventually(lambda: "two\n" in berth.logs(group, "up"))
    changed = berth.show(group, "up")
    assert changed["properties"]["ipAddress"]["ip"] == made["properties"]["ipAddress"]["ip"]
    refused = berth.create(group, "up", registry.ref("busybox:1"), [*SH, "echo one; sleep 1000"], ports=[80], cpu=1,
                           expect=(400,))
    assert refused["error"]["code"] == "InvalidContainerGroupUpdate"


def test_tags_are_patched_without_a_restart(berth, registry, group):
    berth.create(group, "tags", registry.ref("busybox:1"), [*SH, "sleep 1000"], tags={"a": "1"})
    before = view(berth.show(group, "tags"))
    answer = berth.call("PATCH", berth.group_id(group, "tags"), {"location": "local", "tags": {"b": "2"}})
    assert answer.status == 200 and answer.json["tags"] == {"b": "2"}
    assert view(berth.show(group, "tags")) == before


def test_two_containers_share_the_network_and_reach_each_other(berth, registry, group):
    def container(name, command, port=None):
        properties = {"image": registry.ref("busybox:1"), "command": [*SH, command],
                      "resources": {"requests": {"cpu": 0.2, "memoryInGB": 0.2}}}
        if port:
            properties["ports"] = [{"port": port, "protocol": "TCP"}]
        return {"name": name, "properties": properties}

    containers = [container("server", "mkdir /w; echo shared > /w/index.html; httpd -f -p 8080 -h /w", 8080),
                  container("client", "sleep 0.5; wget -qO- http://localhost:8080/; sleep 1000")]
    berth.create(group, "pair", "", containers=containers)
    eventually(lambda: "shared" in berth.logs(group, "pair", "client"))


def test_the_list_pages_and_has_no_instance_view(berth, registry, group):
    for i in range(3):
        berth.create(group, f"g{i}", registry.ref("busybox:1"), [*SH, "sleep 1000"], cpu=0.1, memory=0.1)
    path = f"/resourceGroups/{group}/providers/Microsoft.ContainerInstance/containerGroups"
    first = berth.get(path + "?$top=2")
    assert [g["name"] for g in first["value"]] == ["g0", "g1"]
    assert "instanceView" not in first["value"][0]["properties"]
    second = berth.call("GET", first["nextLink"], version=None).json
    assert [g["name"] for g in second["value"]] == ["g2"] and "nextLink" not in second


@pytest.fixture
def silent():
    """A registry that takes connections and says nothing."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(64)
        yield f"127.0.0.1:{s.getsockname()[1]}/silent:1"


def test_a_pull_that_hangs_holds_nothing_up(berth, registry, group, silent):
    def quick(method, path, body=None):
        begun = time.monotonic()
        answer = berth.call(method, path, body)
        assert time.monotonic() - begun < 2.5
        return answer

    path = berth.group_id(group, "hangs")
    made = berth.create(group, "hangs", silent, wait=False)
    assert made["properties"]["provisioningState"] in ("Pending", "Creating")
    assert [e["name"] for e in view(berth.show(group, "hangs"))["events"]] == ["Pulling"]
    assert quick("POST", path + "/restart").code == "ContainerGroupTransitioning"
    assert quick("POST", path + "/stop").status == 204
    berth.wait(group, "hangs", lambda g: g["properties"]["instanceView"]["state"] == "Stopped", timeout=1)
    assert quick("POST", path + "/start").status in (202, 204)
    begun = time.monotonic()
    assert quick("DELETE", path).status == 200
    eventually(lambda: not store_keys(berth, "gone/"), timeout=2)
    assert time.monotonic() - begun < 2
    # What a pull was told then, the next one doesn't hear.
    berth.create(group, "hangs", silent, wait=False)
    assert quick("POST", path + "/stop").status == 204
    berth.create(group, "hangs", registry.ref("busybox:1"), [*SH, "sleep 1000"])
    berth.wait(group, "hangs", lambda g: g["properties"]["instanceView"]["state"] == "Running", timeout=3)


def test_containers_that_wait_are_each_started_at_their_own_time(berth, registry, group):
    def container(name, command):
        return {"name": name, "properties": {"image": registry.ref("busybox:1"), "command": [*SH, command],
                                             "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}}}}

    berth.create(group, "pair", "", containers=[container("soon", "exit 1"), container("later", "sleep 3; exit 1")])
    # 'soon' is due after its 10 s although 'later' began to wait after it, and for longer.
    waiting = berth.wait(group, "pair", lambda g: view(g)["restartCount"] == 2)
    begun = time.monotonic()
    assert "10s" in view(waiting)["currentState"]["detailStatus"]
    berth.wait(group, "pair", lambda g: view(g)["restartCount"] == 3, timeout=12)
    assert 8 < time.monotonic() - begun < 12


def test_an_image_that_vanished_is_pulled_again(berth, registry, group):
    image = registry.ref("busybox:1")
    berth.create(group, "van", image, [*SH, "sleep 1000"])
    assert berth.call("POST", berth.group_id(group, "van") + "/stop").status == 204
    berth.wait(group, "van", lambda g: g["properties"]["instanceView"]["state"] == "Stopped")
    for i, layer in enumerate(list((berth.state / "node/images/layers").iterdir())):
        layer.rename(layer.with_name(f"{i:064x}"))
    try:
        assert berth.call("POST", berth.group_id(group, "van") + "/start").status in (202, 204)
        running = berth.wait(group, "van", lambda g: g["properties"]["instanceView"]["state"] == "Running")
        assert "Pulling" in [e["name"] for e in view(running)["events"]]
    finally:
        berth.berth("image", "prune")
