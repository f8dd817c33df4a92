"""Init containers, the state of groups of many containers, name servers, updates in place: over the API, with real
containers."""
import time

import pytest

from harness import Berth, eventually, fetch, group_body, remains, store_keys, view

SH = ["/bin/sh", "-c"]


@pytest.fixture(scope="module")
def quick(workdir):
    """A Berth that waits for nothing for long, and may be killed."""
    berth = Berth(workdir / "i", settings={"stop_grace_ms": 500, "restart_backoff_ms": 200, "put_wait_ms": 100})
    berth.up()
    yield berth
    berth.up()
    berth.purge()
    assert not remains(berth.state, berth.config)


@pytest.fixture
def rg(quick):
    name = quick.new_name("rg")
    quick.put(f"/resourcegroups/{name}", {"location": "local"}, version="2021-04-01")
    yield name
    quick.up()
    for item in quick.get(f"/resourceGroups/{name}/providers/Microsoft.ContainerInstance/containerGroups")["value"]:
        quick.call("DELETE", item["id"])


def container(registry, name, command, cpu=0.1, memory=0.1, ports=(), **properties):
    properties = {"image": registry.ref("busybox:1"), "command": [*SH, command],
                  "resources": {"requests": {"cpu": cpu, "memoryInGB": memory}}, **properties}
    if ports:
        properties["ports"] = [{"port": p, "protocol": "TCP"} for p in ports]
    return {"name": name, "properties": properties}


def init(registry, name, command, **properties):
    return {"name": name, "properties": {"image": registry.ref("busybox:1"), "command": [*SH, command], **properties}}


def deploy(berth, rg, name, containers, inits=(), expect=(200, 201), wait=True, policy="Always", ports=None, **properties):
    body = group_body(name, "", policy=policy, containers=containers)
    body["properties"].update(properties)
    if inits:
        body["properties"]["initContainers"] = list(inits)
    if ports:
        body["properties"]["ipAddress"] = {"type": "Public", "ports": [{"port": p, "protocol": "TCP"} for p in ports]}
    answer = berth.call("PUT", berth.group_id(rg, name), body)
    assert answer.status in expect, (answer.status, answer.text)
    if not wait:
        return answer.json
    return berth.wait(rg, name, lambda g: g["properties"]["provisioningState"] in ("Succeeded", "Failed"))


def init_view(group, index=0):
    return group["properties"]["initContainers"][index]["properties"].get("instanceView", {})


def state(group):
    return group["properties"]["instanceView"]["state"]


SHARED = {"volumes": [{"name": "v", "emptyDir": {}}]}
MOUNT = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_they_run_one_after_the_other_before_the_containers(quick, registry, rg, policy):
    note = "echo {} >> /v/order; usleep 200000; echo {} done >> /v/order; echo log of {}"
    made = deploy(quick, rg, "g", [container(registry, "app", "cat /v/order; sleep 1000", **MOUNT)],
                  [init(registry, n, note.format(n, n, n), **MOUNT) for n in ("one", "two", "three")], policy=policy, **SHARED)
    assert state(quick.wait(rg, "g", lambda g: state(g) == "Running")) == "Running"
    eventually(lambda: quick.logs(rg, "g", "app").splitlines() ==
               ["one", "one done", "two", "two done", "three", "three done"])
    for i, name in enumerate(("one", "two", "three")):
        current = init_view(made, i)["currentState"]
        assert (current["state"], current["detailStatus"], current["exitCode"]) == ("Terminated", "Completed", 0)
        assert init_view(made, i)["restartCount"] == 0
        assert "Started" in [e["name"] for e in init_view(made, i)["events"]]
        assert quick.logs(rg, "g", name) == f"log of {name}\n"


def test_while_one_runs_the_group_is_pending_and_a_stop_is_quick(quick, registry, rg):
    deploy(quick, rg, "g", [container(registry, "app", "sleep 1000")], [init(registry, "slow", "sleep 1000")], wait=False)
    running = quick.wait(rg, "g", lambda g: init_view(g).get("currentState", {}).get("state") == "Running")
    assert running["properties"]["provisioningState"] == "Creating" and state(running) == "Pending"
    assert view(running)["currentState"] == {
        "state": "Waiting", "detailStatus": "Initializing: the init container 'slow' has to succeed first"}
    begun = time.monotonic()
    assert quick.call("POST", quick.group_id(rg, "g") + "/stop").status == 204
    quick.wait(rg, "g", lambda g: state(g) == "Stopped")
    assert quick.call("POST", quick.group_id(rg, "g") + "/start").status in (202, 204)
    quick.wait(rg, "g", lambda g: init_view(g).get("currentState", {}).get("state") == "Running")
    assert quick.call("DELETE", quick.group_id(rg, "g")).status == 200
    eventually(lambda: not store_keys(quick, "gone/"), timeout=5)
    assert time.monotonic() - begun < 8


def test_a_failed_one_under_never_fails_the_group(quick, registry, rg):
    made = deploy(quick, rg, "g", [container(registry, "app", "sleep 1000")],
                  [init(registry, "fine", "exit 0"), init(registry, "bad", "echo no; exit 3"), init(registry, "last", "exit 0")],
                  policy="Never")
    assert made["properties"]["provisioningState"] == "Failed" and state(made) == "Failed"
    assert [init_view(made, i).get("currentState", {}).get("exitCode") for i in range(3)] == [0, 3, None]
    assert view(made)["restartCount"] == 0 and "startTime" not in view(made).get("currentState", {})
    assert quick.logs(rg, "g", "bad") == "no\n"
    # Its next start tries it all again.
    assert quick.call("POST", quick.group_id(rg, "g") + "/start").status in (202, 204)
    quick.wait(rg, "g", lambda g: state(g) == "Failed")


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_a_failed_one_is_tried_again_until_it_succeeds(quick, registry, rg, policy):
    deploy(quick, rg, "g", [container(registry, "app", "sleep 1000", **MOUNT)],
           [init(registry, "third", "echo x >> /v/n; [ $(cat /v/n | grep -c x) = 3 ]", **MOUNT)], policy=policy, wait=False, **SHARED)
    running = quick.wait(rg, "g", lambda g: state(g) == "Running")
    assert init_view(running)["restartCount"] == 2
    assert init_view(running)["previousState"]["exitCode"] == 1
    assert running["properties"]["provisioningState"] == "Succeeded"


def test_a_crash_runs_them_not_and_a_restart_does(quick, registry, rg):
    deploy(quick, rg, "g", [container(registry, "app", "[ -e /v/again ] || { touch /v/again; exit 1; }; sleep 1000", **MOUNT)],
           [init(registry, "once", "echo x >> /v/n; cat /v/n", **MOUNT)], **SHARED)
    crashed = quick.wait(rg, "g", lambda g: view(g)["restartCount"] == 1)
    assert init_view(crashed)["restartCount"] == 0 and quick.logs(rg, "g", "once") == "x\n"
    quick.wait(rg, "g", lambda g: view(g)["currentState"]["state"] == "Running")
    assert quick.call("POST", quick.group_id(rg, "g") + "/restart").status == 204
    quick.wait(rg, "g", lambda g: state(g) == "Running" and quick.logs(rg, "g", "once") == "x\nx\n")


def test_the_node_may_be_killed_in_the_middle(quick, registry, rg):
    deploy(quick, rg, "g", [container(registry, "app", "cat /v/n; sleep 1000", **MOUNT)],
           [init(registry, n, f"echo {n} >> /v/n; sleep 1", **MOUNT) for n in ("one", "two")], wait=False, **SHARED)
    quick.wait(rg, "g", lambda g: init_view(g).get("currentState", {}).get("state") == "Running")
    quick.kill("berth-node")
    quick.up()
    quick.wait(rg, "g", lambda g: init_view(g, 1).get("currentState", {}).get("state") == "Running")
    quick.kill("berth-node")
    time.sleep(1.2)
    quick.up()
    quick.wait(rg, "g", lambda g: state(g) == "Running")
    eventually(lambda: quick.logs(rg, "g", "app") == "one\ntwo\n")


def test_an_image_that_is_missing_says_so(quick, registry, rg):
    bad = init(registry, "bad", "true")
    bad["properties"]["image"] = registry.ref("nothing:1")
    made = deploy(quick, rg, "g", [container(registry, "app", "sleep 1000")], [bad])
    assert made["properties"]["provisioningState"] == "Failed"
    assert "Failed" in [e["name"] for e in init_view(made)["events"]]
    assert "ImagePullBackOff" in init_view(made)["currentState"]["detailStatus"]


@pytest.mark.parametrize("policy, codes, expected", [
    ("Never", (0, 0, 0), "Succeeded"),
    ("Never", (0, 3, 0), "Failed"),
    ("Never", (0, None, 1), "Running"),
    ("OnFailure", (0, 0, 0), "Succeeded"),
    ("OnFailure", (0, None, 0), "Running"),
    ("OnFailure", (0, 3, 0), "Running"),
    ("Always", (0, 0, 0), "Running"),
])
def test_the_state_of_a_mix(quick, registry, rg, policy, codes, expected):
    parts = [container(registry, f"c{i}", "sleep 1000" if code is None else f"exit {code}") for i, code in enumerate(codes)]
    deploy(quick, rg, "g", parts, policy=policy)
    if policy != "Always":
        quick.wait(rg, "g", lambda g: all(view(g, i)["currentState"]["state"] == "Terminated"
                                          for i, code in enumerate(codes) if code == 0))
    quick.wait(rg, "g", lambda g: state(g) == expected)
    time.sleep(0.3)
    assert state(quick.show(rg, "g")) == expected


def test_sixty_containers(quick, registry, rg):
    parts = [container(registry, f"c{i}", f"echo I am {i}; sleep 1000", cpu=0.01, memory=0.1) for i in range(60)]
    begun = time.monotonic()
    deploy(quick, rg, "g", parts, wait=False)
    running = quick.wait(rg, "g", lambda g: state(g) == "Running", timeout=90)
    print(f"60 containers ran after {time.monotonic() - begun:.1f} s")
    assert running["properties"]["provisioningState"] == "Succeeded"
    assert all(view(running, i)["currentState"]["state"] == "Running" for i in range(60))
    eventually(lambda: quick.logs(rg, "g", "c59") == "I am 59\n")
    begun = time.monotonic()
    assert quick.call("POST", quick.group_id(rg, "g") + "/stop").status == 204
    quick.wait(rg, "g", lambda g: state(g) == "Stopped", timeout=60)
    print(f"and were stopped after {time.monotonic() - begun:.1f} s")


def test_name_servers_of_its_own(quick, registry, rg):
    deploy(quick, rg, "g", [container(registry, "app", "cat /etc/resolv.conf; sleep 1000")],
           dnsConfig={"nameServers": ["192.0.2.1", "192.0.2.2"], "searchDomains": "one.example two.example",
                      "options": "ndots:2 timeout:1"})
    eventually(lambda: quick.logs(rg, "g", "app").splitlines() == [
        "search one.example two.example", "nameserver 192.0.2.1", "nameserver 192.0.2.2", "options ndots:2 timeout:1"])


# --- updates in place ---

SERVE = "mkdir -p /w; echo {} > /w/index.html; httpd -f -p {} -h /w"


def test_only_what_changed_restarts(quick, registry, rg):
    def parts(word, **more):
        return [container(registry, "web", SERVE.format("same", 80), ports=[80]),
                container(registry, "side", SERVE.format(word, 81), ports=[81], **more)]

    made = deploy(quick, rg, "g", parts("one"), ports=[80, 81])
    address = made["properties"]["ipAddress"]["ip"]
    before = quick.wait(rg, "g", lambda g: state(g) == "Running")
    assert deploy(quick, rg, "g", parts("one"), ports=[80, 81])["properties"]["containers"] == before["properties"]["containers"]
    after = deploy(quick, rg, "g", parts("two"), ports=[80, 81])
    eventually(lambda: fetch(address, 81) == "two\n")
    after = quick.wait(rg, "g", lambda g: state(g) == "Running")
    assert after["properties"]["ipAddress"]["ip"] == address and fetch(address) == "same\n"
    assert view(after, 0) == view(before, 0)
    assert view(after, 1)["currentState"]["startTime"] > view(before, 1)["currentState"]["startTime"]


def test_a_change_of_a_volume_restarts_who_mounts_it(quick, registry, rg):
    def volumes(text):
        return {"volumes": [{"name": "v", "secret": {"k": text}}, {"name": "keep", "emptyDir": {}}]}

    parts = [container(registry, "reads", "cat /v/k; echo; ls /keep; touch /keep/was-here; sleep 1000",
                       volumeMounts=[{"name": "v", "mountPath": "/v"}, {"name": "keep", "mountPath": "/keep"}]),
             container(registry, "other", "sleep 1000")]
    before = deploy(quick, rg, "g", parts, **volumes("b25l"))
    deploy(quick, rg, "g", parts, **volumes("dHdv"))
    eventually(lambda: quick.logs(rg, "g", "reads") == "two\nwas-here\n")
    after = quick.wait(rg, "g", lambda g: state(g) == "Running")
    assert view(after, 1) == view(before, 1)


def test_a_change_of_an_init_container_runs_the_group_anew_in_place(quick, registry, rg):
    parts = [container(registry, "app", "cat /v/n; httpd -f -p 80", ports=[80], **MOUNT)]

    def inits(word):
        return [init(registry, "first", f"echo {word} >> /v/n", **MOUNT)]

    before = deploy(quick, rg, "g", parts, inits("one"), ports=[80], **SHARED)
    deploy(quick, rg, "g", parts, inits("two"), ports=[80], **SHARED)
    # The emptyDir is as it was left.
    eventually(lambda: quick.logs(rg, "g", "app") == "one\ntwo\n")
    after = quick.wait(rg, "g", lambda g: state(g) == "Running")
    assert after["properties"]["ipAddress"]["ip"] == before["properties"]["ipAddress"]["ip"]
    assert view(after)["restartCount"] == 1
