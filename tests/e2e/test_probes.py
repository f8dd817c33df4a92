"""Liveness and readiness probes, over the API, with real servers in the containers."""
import os
import pathlib
import signal
import socket
import time

import pytest

from harness import Berth, busybox_image, eventually, fetch, group_body, remains, run, store_keys, view

SH = ["/bin/sh", "-c"]
# An HTTP server of a few lines: answers what /tmp/answer holds, and writes down what it was asked.
SERVER = """#!/bin/sh
while read -r line; do
  line=$(echo "$line" | tr -d '\\r')
  echo "$line" >> /tmp/asked
  [ -z "$line" ] && break
done
cat /tmp/answer
"""
OK = "printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok' > /tmp/answer"
BAD = "printf 'HTTP/1.1 500 No\\r\\nContent-Length: 2\\r\\n\\r\\nno' > /tmp/answer"
LISTEN = "nc -ll -p 80 -e /bin/answer"


@pytest.fixture(scope="module")
def quick(workdir):
    berth = Berth(workdir / "p", settings={"stop_grace_ms": 500, "restart_backoff_ms": 200, "put_wait_ms": 100})
    berth.up()
    yield berth
    berth.up()
    berth.purge()
    assert not remains(berth.state, berth.config)


@pytest.fixture(scope="module")
def image(workdir, registry):
    script = workdir / "answer"
    script.write_text(SERVER)
    script.chmod(0o755)
    registry.push(busybox_image(workdir, "prober", [script]), "prober:1")
    return registry.ref("prober:1")


@pytest.fixture
def rg(quick):
    name = quick.new_name("rg")
    quick.put(f"/resourcegroups/{name}", {"location": "local"}, version="2021-04-01")
    yield name
    quick.up()
    for item in quick.get(f"/resourceGroups/{name}/providers/Microsoft.ContainerInstance/containerGroups")["value"]:
        quick.call("DELETE", item["id"])


def http(path="/", port=80, scheme="http", headers=None, period=1, failures=1, **more):
    get = {"path": path, "port": port, "scheme": scheme}
    if headers:
        get["httpHeaders"] = [{"name": k, "value": v} for k, v in headers]
    return {"httpGet": get, "periodSeconds": period, "failureThreshold": failures, **more}


def command(*words, period=1, failures=1, **more):
    return {"exec": {"command": list(words)}, "periodSeconds": period, "failureThreshold": failures, **more}


def deploy(berth, rg, image, shell, liveness=None, readiness=None, policy="Always", name="g", ports=(80,), more=(), **properties):
    body = group_body(name, image, [*SH, "mkdir -p /tmp; " + shell], policy=policy, ports=list(ports), cpu=0.1, memory=0.1)
    own = body["properties"]["containers"][0]["properties"]
    if liveness:
        own["livenessProbe"] = liveness
    if readiness:
        own["readinessProbe"] = readiness
    own.update(properties.pop("own", {}))
    body["properties"]["containers"] += list(more)
    body["properties"].update(properties)
    answer = berth.call("PUT", berth.group_id(rg, name), body)
    assert answer.status in (200, 201), answer.text
    return berth.wait(rg, name, lambda g: g["properties"]["provisioningState"] in ("Succeeded", "Failed"))


def enter(berth, rg, shell, name="g", index=0):
    """Runs a command in the container, beside the API."""
    group = berth.show(rg, name)
    part = group["properties"]["containers"][index]["name"]
    for path in (berth.state / "node/crun").iterdir():
        if f"-{part}-" in path.name:
            return run("/usr/bin/crun", "--root", berth.state / "node/crun", "exec", path.name, *SH, shell, check=False)
    raise AssertionError("no such container")


def address(group):
    return group["properties"]["ipAddress"]["ip"]


def reachable(group, port=80):
    try:
        with socket.create_connection((address(group), port), timeout=0.5):
            return True
    except OSError:
        return False


def unhealthy(group, kind, index=0):
    return [e for e in view(group, index).get("events", []) if e["name"] == "Unhealthy" and e["message"].startswith(kind)]


def worker_pid(berth):
    node = berth.pid("berth-node")
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if "(berth-probe)" in text and text.rsplit(")", 1)[1].split()[1] == str(node):
            return int(path.parent.name)
    return None


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
@pytest.mark.parametrize("probe, words", [
    (http("/", failures=2), "Liveness probe failed: HTTP probe failed with statuscode: 500"),
    (command("cat", "/tmp/healthy", failures=2), "Liveness probe failed: cat: can't open '/tmp/healthy': No such file or directory"),
])
def test_a_failed_liveness_restarts_in_place(quick, image, rg, policy, probe, words):
    shell = f"echo run >> /v/runs; {OK}; touch /tmp/healthy; (sleep 2; {BAD}; rm /tmp/healthy) & {LISTEN}"
    made = deploy(quick, rg, image, shell, liveness=probe, policy=policy, volumes=[{"name": "v", "emptyDir": {}}],
                  own={"volumeMounts": [{"name": "v", "mountPath": "/v"}]})
    again = quick.wait(rg, "g", lambda g: view(g)["restartCount"] == 1 and view(g)["currentState"]["state"] == "Running")
    assert address(again) == address(made)
    events = {e["name"]: e for e in view(again)["events"]}
    assert events["Unhealthy"]["message"] == words and events["Unhealthy"]["type"] == "Warning"
    assert events["Unhealthy"]["count"] >= 2
    assert "liveness" in events["Killing"]["message"]
    assert view(again)["previousState"]["state"] == "Terminated"
    assert enter(quick, rg, "cat /v/runs").stdout == "run\nrun\n"


def test_under_never_it_is_not_restarted(quick, image, rg):
    deploy(quick, rg, image, "sleep 1000", liveness=command("false"), policy="Never")
    ended = quick.wait(rg, "g", lambda g: g["properties"]["instanceView"]["state"] == "Failed")
    assert view(ended)["currentState"]["state"] == "Terminated" and view(ended)["currentState"]["exitCode"] == 137
    assert unhealthy(ended, "Liveness")[0]["message"] == "Liveness probe failed: the command ended with exit code 1"
    time.sleep(0.5)
    assert view(quick.show(rg, "g"))["restartCount"] == 0


def test_a_program_that_ends_well_when_asked_is_restarted_all_the_same(quick, image, rg):
    deploy(quick, rg, image, "trap 'exit 0' TERM; while true; do usleep 10000; done", liveness=command("false"), policy="OnFailure")
    again = quick.wait(rg, "g", lambda g: view(g)["restartCount"] >= 1)
    assert view(again)["previousState"]["exitCode"] == 0


def test_what_failed_is_known_after_a_kill_of_the_node(quick, image, rg):
    """It ends well while nobody looks, and is restarted all the same."""
    deploy(quick, rg, image, "trap 'sleep 0.4; exit 0' TERM; while true; do usleep 10000; done", liveness=command("false"),
           policy="OnFailure")
    eventually(lambda: "Killing" in [e["name"] for e in view(quick.show(rg, "g"))["events"]], step=0.01)
    quick.kill("berth-node")
    time.sleep(0.6)
    quick.up()
    again = quick.wait(rg, "g", lambda g: view(g)["restartCount"] >= 1)
    assert again["properties"]["instanceView"]["state"] == "Running"


def test_healthy_is_left_alone(quick, image, rg):
    deploy(quick, rg, image, f"{OK}; {LISTEN}", liveness=http(failures=3), readiness=command("true"))
    time.sleep(4)
    shown = quick.show(rg, "g")
    assert view(shown)["restartCount"] == 0 and not [e for e in view(shown)["events"] if e["name"] == "Killing"]


def test_initial_delay_threshold_and_timeout(quick, image, rg):
    # Nobody listens for the first two seconds; three failures would be too many.
    deploy(quick, rg, image, f"{OK}; sleep 2; {LISTEN}", liveness=http(initialDelaySeconds=3))
    time.sleep(4)
    assert view(quick.show(rg, "g"))["restartCount"] == 0
    begun = time.monotonic()
    deploy(quick, rg, image, "sleep 1000", liveness=command("sleep", "999", timeoutSeconds=2, failures=2), name="slow")
    again = quick.wait(rg, "slow", lambda g: view(g)["restartCount"] == 1)
    assert 4 < time.monotonic() - begun < 10
    assert unhealthy(again, "Liveness")[0]["message"] == "Liveness probe failed: the command did not end within 2 s"
    # What it started is gone with it.
    assert enter(quick, rg, "ps", "slow").stdout.count("sleep 999") <= 1


def test_a_group_gets_no_traffic_until_it_is_ready(quick, image, rg):
    made = deploy(quick, rg, image, f"{BAD}; {LISTEN}", readiness=http(successThreshold=2))
    assert made["properties"]["provisioningState"] == "Succeeded"
    quick.wait(rg, "g", lambda g: unhealthy(g, "Readiness"))
    assert not reachable(made)
    begun = time.monotonic()
    enter(quick, rg, OK)
    eventually(lambda: reachable(made))
    assert time.monotonic() - begun > 0.9  # two in a row
    assert fetch(address(made)) == "ok"
    # A connection that is there stays.
    with socket.create_connection((address(made), 80), timeout=5) as held:
        enter(quick, rg, BAD)
        eventually(lambda: not reachable(made))
        held.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"500" in held.recv(100)
    shown = quick.show(rg, "g")
    assert view(shown)["restartCount"] == 0 and view(shown)["currentState"]["state"] == "Running"
    enter(quick, rg, OK)
    eventually(lambda: reachable(made))


def test_all_of_a_group_have_to_be_ready(quick, image, rg):
    side = {"name": "side", "properties": {"image": image, "command": [*SH, "mkdir /tmp; sleep 1000"],
                                           "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}},
                                           "readinessProbe": command(*SH, "[ -e /tmp/side ]")}}
    made = deploy(quick, rg, image, f"{OK}; {LISTEN}", readiness=http(), more=[side])
    quick.wait(rg, "g", lambda g: unhealthy(g, "Readiness", 1))
    assert not reachable(made)
    enter(quick, rg, "touch /tmp/side", index=1)
    eventually(lambda: reachable(made))


def test_a_crash_closes_until_the_next_run_is_ready(quick, image, rg):
    made = deploy(quick, rg, image, f"{OK}; {LISTEN} & sleep 3; kill %1; exit 1", readiness=http(initialDelaySeconds=1))
    eventually(lambda: reachable(made))
    quick.wait(rg, "g", lambda g: view(g)["restartCount"] == 1)
    assert not reachable(made)
    eventually(lambda: reachable(made))


def test_what_is_asked(quick, image, rg):
    made = deploy(quick, rg, image, f"{OK}; {LISTEN}",
                  readiness=http("/health?a=b", headers=[("Host", "site.example"), ("X-One", "1"), ("X-Two", "a b")]))
    eventually(lambda: reachable(made))
    asked = enter(quick, rg, "head -n 12 /tmp/asked").stdout.splitlines()
    assert asked[0] == "GET /health?a=b HTTP/1.1"
    for line in ("Host: site.example", "X-One: 1", "X-Two: a b", "Accept: */*"):
        assert line in asked
    assert any(line.startswith("User-Agent: berth-probe/") for line in asked)
    assert not any(line.startswith("Host: 1") for line in asked)


def test_a_redirect_is_an_answer(quick, image, rg):
    made = deploy(quick, rg, image, "printf 'HTTP/1.1 302 F\\r\\nLocation: http://127.0.0.1:1/\\r\\nContent-Length: 0\\r\\n\\r\\n'"
                  f" > /tmp/answer; {LISTEN}", readiness=http())
    eventually(lambda: reachable(made))


def test_nobody_listens(quick, image, rg):
    made = deploy(quick, rg, image, "sleep 1000", readiness=http("/x"))
    shown = quick.wait(rg, "g", lambda g: unhealthy(g, "Readiness"))
    assert unhealthy(shown, "Readiness")[0]["message"] == \
        f'Readiness probe failed: Get "http://{address(made)}:80/x": Connection refused'


@pytest.mark.parametrize("answer, words", [
    ("yes 'HTTP/1.1 200 OK'", "what was answered is not HTTP"),
    ("yes garbage", "what was answered is not HTTP"),
    ("sleep 1000", "no answer within 1 s"),
    ("printf 'HTTP/1.1 200 OK\\r\\n'; yes 'X-A: b'", "the headers of the answer are too long"),
    ("printf 'HTTP/1.1 200 OK\\r\\n'; while true; do printf X; sleep 0.3; done", "no answer within 1 s"),
    ("true", None),
])
def test_a_hostile_server_costs_its_own_probe(quick, image, rg, answer, words):
    good = deploy(quick, rg, image, f"{OK}; {LISTEN}", readiness=http(), name="good")
    eventually(lambda: reachable(good))
    worker = worker_pid(quick)
    evil = deploy(quick, rg, image, f"echo '#!/bin/sh' > /bin/evil; cat >> /bin/evil <<'E'\n{answer}\nE\n"
                  "/bin/busybox chmod 755 /bin/evil; nc -ll -p 80 -e /bin/evil", readiness=http(), name="evil")
    shown = quick.wait(rg, "evil", lambda g: unhealthy(g, "Readiness"))
    if words:
        eventually(lambda: any(words in e["message"] for e in unhealthy(quick.show(rg, "evil"), "Readiness")))
    assert not reachable(evil)
    time.sleep(1)
    assert reachable(good) and not unhealthy(quick.show(rg, "good"), "Readiness")[1:]
    assert worker_pid(quick) == worker
    status = pathlib.Path(f"/proc/{worker}/status").read_text()
    assert "CapEff:\t0000000000000000" in status and "Seccomp:\t2" in status and "Uid:\t268435448" in status


def test_the_worker_may_die_and_the_node_be_killed(quick, image, rg):
    made = deploy(quick, rg, image, f"{OK}; {LISTEN}", readiness=http(), liveness=http(failures=3))
    eventually(lambda: reachable(made))
    first = worker_pid(quick)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: worker_pid(quick) not in (None, first))
    assert reachable(made)
    quick.kill("berth-node")
    assert reachable(made)
    quick.up()
    time.sleep(0.2)
    assert reachable(made)  # what was ready stays open
    assert view(quick.show(rg, "g"))["restartCount"] == 0
    enter(quick, rg, BAD)
    again = quick.wait(rg, "g", lambda g: view(g)["restartCount"] == 1)
    eventually(lambda: reachable(again))


def test_https_is_asked_without_checking_the_certificate(quick, image, registry, workdir, rg):
    program = workdir / "tls"
    run("cc", "-static", "-O1", "-o", program, pathlib.Path(__file__).parent / "tls.c", "-lssl", "-lcrypto")
    registry.push(busybox_image(workdir, "tlsprober", [program]), "tlsprober:1")
    made = deploy(quick, rg, registry.ref("tlsprober:1"), "/bin/tls", readiness=http(port=443, scheme="https"), ports=(443,))
    eventually(lambda: reachable(made, 443))
    plain = deploy(quick, rg, image, f"{OK}; {LISTEN}", readiness=http(scheme="https"), name="plain")
    quick.wait(rg, "plain", lambda g: unhealthy(g, "Readiness"))
    assert not reachable(plain)


def test_commands_that_hang_hold_nothing_up(quick, image, rg):
    """More of them than may be under way at once; a stop and the node's end wait for none."""
    def part(i):
        return {"name": f"c{i}", "properties": {"image": image, "command": [*SH, "sleep 1000"],
                                                "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}},
                                                "livenessProbe": command("sleep", "998", timeoutSeconds=900),
                                                "readinessProbe": command("sleep", "998", timeoutSeconds=900)}}

    deploy(quick, rg, image, "sleep 1000", more=[part(i) for i in range(8)])
    other = deploy(quick, rg, image, f"{OK}; {LISTEN}", readiness=command("true"), name="other")
    eventually(lambda: reachable(other))
    begun = time.monotonic()
    quick.down()
    assert time.monotonic() - begun < 5
    quick.up()
    begun = time.monotonic()
    assert quick.call("POST", quick.group_id(rg, "g") + "/stop").status == 204
    quick.wait(rg, "g", lambda g: g["properties"]["instanceView"]["state"] == "Stopped")
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize("probe", [http(timeoutSeconds=900), command("sleep", "997", timeoutSeconds=900)])
def test_a_stop_and_a_delete_wait_for_no_answer(quick, image, rg, probe):
    path = quick.group_id(rg, "g")
    made = deploy(quick, rg, image, "nc -ll -p 80 -e /bin/sleep 997", liveness=probe, readiness=probe)
    time.sleep(1)
    begun = time.monotonic()
    assert quick.call("POST", path + "/stop").status == 204
    quick.wait(rg, "g", lambda g: g["properties"]["instanceView"]["state"] == "Stopped")
    assert time.monotonic() - begun < 3
    assert quick.call("POST", path + "/start").status in (202, 204)
    quick.wait(rg, "g", lambda g: g["properties"]["instanceView"]["state"] == "Running")
    time.sleep(1)
    begun = time.monotonic()
    assert quick.call("DELETE", path).status == 200
    eventually(lambda: not store_keys(quick, "gone/"))
    assert time.monotonic() - begun < 3
    assert not reachable(made)
