"""emptyDir, secret and configMap volumes, and where they are mounted, over the API with real containers."""
import base64
import json
import time

import pytest

from harness import ROOT, Berth, eventually, leftovers, remains, run, view

SH = ["/bin/sh", "-c"]
CONFIG_MAP_API = "2025-09-01"
APPLETS = ("sh", "sleep", "echo", "cat", "ls", "dd", "touch", "rm", "mkdir", "stat", "usleep", "grep", "readlink", "wc", "id", "cut", "mv",
           "seq", "mknod", "chmod", "cp")


@pytest.fixture(scope="module")
def image(workdir, registry):
    """A busybox as images of distributions are, with links on the way to where things are mounted, and worse ones."""
    out = workdir / "links.tar"
    links = [f"--link=/bin/{a}=busybox" for a in APPLETS]
    links += [f"--link={path}={target}" for path, target in (
        ("/var/run", "/run"), ("/up", "../../../../etc"), ("/out", "/proc/1/root"), ("/kernel", "/proc"), ("/all", "/"),
        ("/nowhere", "/not/there"), ("/loop", "loop"), ("/data/trap", "/etc"))]
    empty = workdir / "empty"
    empty.write_text("")
    run("/usr/bin/python3", ROOT / "tools/oci_image.py", out, "--ref", "links:1", "--file=/bin/busybox=/bin/busybox",
        f"--file=/run/keep={empty}", f"--file=/file={empty}", f"--file=/etc/motd={empty}", *links, "--cmd", "sh")
    registry.push(out, "links:1")
    return registry.ref("links:1")


@pytest.fixture(scope="module")
def own(workdir):
    """A Berth with small volumes and short waits."""
    berth = Berth(workdir / "v", settings={"empty_dir_max_mib": 16, "restart_backoff_ms": 200, "stop_grace_ms": 500})
    berth.up()
    berth.put("/resourcegroups/v", {"location": "local"}, version="2021-04-01")
    yield berth
    # With a group in it: what its volumes are made of must go, too.
    berth.call("PUT", berth.group_id("v", "last"), body([container("a", berth.image, "sleep 1000", {"e": "/e", "s": "/s"})],
                                                        {"e": {"emptyDir": {}}, "s": {"secret": {"k": b64("x")}}}))
    berth.wait("v", "last", lambda g: g["properties"]["provisioningState"] == "Succeeded")
    berth.purge()
    assert not remains(berth.state, berth.config)


@pytest.fixture(autouse=True)
def nothing_is_left(own, image):
    own.image = image
    yield
    own.up()
    for item in own.get("/resourceGroups/v/providers/Microsoft.ContainerInstance/containerGroups")["value"]:
        assert own.call("DELETE", item["id"]).status in (200, 204)
    eventually(lambda: not leftovers(own))


def b64(text):
    return base64.b64encode(text.encode()).decode()


def container(name, image, script, mounts=(), config=None, read_only=()):
    properties = {"image": image, "command": [*SH, script], "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}},
                  "volumeMounts": [{"name": v, "mountPath": p, "readOnly": v in read_only} for v, p in dict(mounts).items()]}
    if config is not None:
        properties["configMap"] = {"keyValuePairs": config}
    return {"name": name, "properties": properties}


def body(containers, volumes=None, policy="Always"):
    return {"location": "local", "properties": {
        "osType": "Linux", "restartPolicy": policy, "containers": containers,
        "volumes": [{"name": n, **v} for n, v in (volumes or {}).items()]}}


def deploy(own, name, containers, volumes=None, policy="Always", version="2023-05-01", expect="Succeeded"):
    answer = own.call("PUT", own.group_id("v", name), body(containers, volumes, policy), version=version)
    assert answer.status in (200, 201), answer.text
    group = own.wait("v", name, lambda g: g["properties"]["provisioningState"] in ("Succeeded", "Failed"))
    assert group["properties"]["provisioningState"] == expect, json.dumps(group, indent=1)
    return group


def logs(own, name, container="a", until=""):
    def text():
        content = own.logs("v", name, container)
        return content if until in content else None
    return eventually(text) if until else own.logs("v", name, container)


def ended(own, name):
    return own.wait("v", name, lambda g: g["properties"]["instanceView"]["state"] in ("Succeeded", "Failed"))


SCRATCH = {"scratch": {"emptyDir": {}}}


def test_an_empty_dir_is_shared_by_containers(own, image):
    deploy(own, "shared", [
        container("a", image, "stat -c '%a %u' /in; ls -A /in | wc -l; echo hello > /in/f; sleep 1000", {"scratch": "/in"}),
        container("b", image, "while ! [ -e /out2/f ]; do usleep 10000; done; cat /out2/f; sleep 1000", {"scratch": "/out2"}),
    ], SCRATCH)
    assert logs(own, "shared", "a", "0\n").split() == ["777", "0", "0"]
    assert logs(own, "shared", "b", "hello") == "hello\n"


def test_an_empty_dir_survives_a_crash_and_a_restart_but_not_a_stop(own, image):
    script = "echo run >> /d/runs; wc -l < /d/runs; [ $(wc -l < /d/runs) -lt 3 ] && exit 1; sleep 1000"
    deploy(own, "crash", [container("a", image, script, {"scratch": "/d"})], SCRATCH)
    assert logs(own, "crash", until="3").strip() == "3"
    assert own.call("POST", own.group_id("v", "crash") + "/restart").status in (202, 204)
    assert logs(own, "crash", until="4").strip() == "4"
    assert own.call("POST", own.group_id("v", "crash") + "/stop").status == 204
    own.wait("v", "crash", lambda g: g["properties"]["instanceView"]["state"] == "Stopped")
    assert own.call("POST", own.group_id("v", "crash") + "/start").status in (202, 204)
    group = own.wait("v", "crash", lambda g: view(g)["restartCount"] == 2 and view(g)["currentState"]["state"] == "Running")
    assert logs(own, "crash", until="3").strip() == "3", group


def test_a_full_empty_dir_harms_only_its_group(own, image):
    script = ("dd if=/dev/zero of=/d/big bs=64k 2>&1 | grep -i space; rm /d/big; i=0; "
              "while [ $i -lt 3000 ] && touch /d/$i 2>/d/err; do i=$((i+1)); done; echo files $i; touch /tmp-is-fine && echo fine; sleep 1000")
    deploy(own, "full", [container("a", image, script, {"scratch": "/d"})], SCRATCH)
    deploy(own, "other", [container("a", image, "echo x > /d/x && echo written; sleep 1000", {"scratch": "/d"})], SCRATCH)
    assert logs(own, "other", until="written")
    words = logs(own, "full", until="fine")
    assert "No space left" in words
    assert 500 < int(words.split("files ")[1].split()[0]) < 2000, "inodes have a bound, too"


def test_a_secret_is_in_memory_and_never_shown(own, image):
    value = "s3cret-" + own.new_name("x")
    made = deploy(own, "creds", [
        container("a", image, "stat -c '%a %u %g %n' /etc/creds/*; cat /etc/creds/pass; echo; grep ' /etc/creds ' /proc/mounts | cut -d' ' -f3,4;"
                              "touch /etc/creds/x 2>/dev/null || echo refused; sleep 1000", {"creds": "/etc/creds"}, read_only=("creds",)),
    ], {"creds": {"secret": {"pass": b64(value), "raw.bin": base64.b64encode(bytes(range(256))).decode()}}})
    lines = logs(own, "creds", until="refused").splitlines()
    assert lines[:3] == ["400 0 0 /etc/creds/pass", "400 0 0 /etc/creds/raw.bin", value]
    assert lines[3].startswith("tmpfs ro,") and all(f in lines[3] for f in ("nosuid", "nodev", "noexec"))
    for text in (json.dumps(made), json.dumps(own.show("v", "creds"))):
        assert value not in text and b64(value) not in text


def test_a_changed_secret_restarts_who_mounts_it(own, image):
    script = "cat /s/k; echo; sleep 1000"
    containers = [container("a", image, script, {"s": "/s"}), container("b", image, "echo b; sleep 1000", {"scratch": "/d"})]
    deploy(own, "change", containers, {"s": {"secret": {"k": b64("old")}}, **SCRATCH})
    assert logs(own, "change", until="old")
    before = view(own.show("v", "change"), 1)["currentState"]["startTime"]
    deploy(own, "change", containers, {"s": {"secret": {"k": b64("new")}}, **SCRATCH})
    assert logs(own, "change", until="new") == "new\n"
    assert view(own.show("v", "change"), 1)["currentState"]["startTime"] == before


def test_a_config_map_changes_in_place(own, image):
    def put(config):
        return deploy(own, "conf", [container("a", image, script, config=config)], version=CONFIG_MAP_API)

    script = ("cd /mnt/configmap/a; touch x 2>/dev/null || echo refused; while true; do for f in *; do echo \"$f=$(cat $f)\"; done; "
              "echo .; usleep 50000; done")
    group = put({"mode": "one", "level": "3"})
    first = view(group)["currentState"]["startTime"]
    assert "refused" in logs(own, "conf", until="level=3\nmode=one\n.")
    group = put({"mode": "two", "new": "x"})
    assert logs(own, "conf", until=".\nmode=two\nnew=x\n.")
    assert "=\n" not in logs(own, "conf"), "no file was ever seen half written"
    assert view(own.show("v", "conf"))["currentState"]["startTime"] == first
    assert view(own.show("v", "conf"))["restartCount"] == 0


def test_the_first_config_map_restarts_its_container_alone(own, image):
    def put(config):
        answer = own.call("PUT", own.group_id("v", "late"), {"location": "local", "properties": {"osType": "Linux", "containers": [
            {"name": "a", "properties": {"configMap": {"keyValuePairs": config}}}]}}, version=CONFIG_MAP_API)
        assert answer.status in (200, 201), answer.text

    script = "ls /mnt/configmap/a || echo none; while ! cat /mnt/configmap/a/k 2>/dev/null; do usleep 20000; done; sleep 1000"
    group = deploy(own, "late", [container("a", image, script), container("b", image, "sleep 1000")], version=CONFIG_MAP_API)
    assert "none" in logs(own, "late", until="none")
    put({})
    first = view(own.wait("v", "late", lambda g: view(g)["restartCount"] == 0 and view(g)["currentState"]["state"] == "Running" and
                          view(g)["currentState"]["startTime"] != view(group)["currentState"]["startTime"]))["currentState"]["startTime"]
    put({"k": "arrived"})
    assert logs(own, "late", until="arrived") == "arrived", "no longer a restart"
    after = own.show("v", "late")
    assert view(after)["currentState"]["startTime"] == first
    assert view(after, 1)["currentState"]["startTime"] == view(group, 1)["currentState"]["startTime"]


def test_read_only_and_writable_mounts_of_one_volume(own, image):
    deploy(own, "ro", [
        container("a", image, "echo x > /d/x; sleep 1000", {"scratch": "/d"}),
        container("b", image, "while ! cat /d/x 2>/dev/null; do usleep 10000; done; touch /d/y 2>&1; grep ' /d ' /proc/mounts; echo end; sleep 1000",
                  {"scratch": "/d"}, read_only=("scratch",)),
    ], SCRATCH)
    words = logs(own, "ro", "b", "end")
    assert "x\n" in words and "Read-only file system" in words and "ext4 ro,nosuid,nodev" in words


def test_mounts_through_links_of_the_image(own, image):
    deploy(own, "links", [container(
        "a", image, "readlink /var/run; grep -c ' /run/app ' /proc/mounts; grep -c ' /etc/in ' /proc/mounts; ls /run; echo end; sleep 1000",
        {"one": "/var/run/app", "two": "/up/in"})], {"one": {"emptyDir": {}}, "two": {"emptyDir": {}}})
    assert logs(own, "links", until="end").split() == ["/run", "1", "1", "app", "keep", "end"]


def test_mounts_on_mounts(own, image):
    deploy(own, "deep", [container(
        "a", image, "cat /data/trap/k; echo; ls -A /data /data/sub/er; touch /data/sub/er/f /data/g && echo end; sleep 1000",
        {"inner": "/data/sub/er", "secret": "/data/trap", "outer": "/data"})],
        {"inner": {"emptyDir": {}}, "secret": {"secret": {"k": b64("found")}}, "outer": {"emptyDir": {}}})
    assert logs(own, "deep", until="end").split() == ["found", "/data:", "sub", "trap", "/data/sub/er:", "end"]


@pytest.mark.parametrize("path, words", [
    ("/file", "is not a directory"), ("/file/x", "is not a directory"), ("/nowhere", "leads nowhere"), ("/nowhere/x", "leads nowhere"),
    ("/loop/x", "leads in circles"), ("/kernel/sys", "the runtime's own"), ("/all", "the runtime's own"), ("/out", "leads nowhere")])
def test_images_that_lead_a_mount_astray_are_refused(own, image, path, words):
    group = deploy(own, "astray", [container("a", image, "sleep 1000", {"scratch": path})], SCRATCH, policy="Never", expect="Failed")
    message = view(group)["currentState"]["detailStatus"]
    assert words in message and path in message
    assert view(group)["currentState"]["exitCode"] == 128


def test_a_tenant_cant_lead_a_later_mount_astray(own, image):
    """One container makes a link where a volume on its volume is to be mounted in another one."""
    containers = [
        container("a", image, "/bin/busybox ln -s /etc /d/in; echo done; sleep 1000", {"scratch": "/d"}),
        container("b", image, "sleep 1000", {"scratch": "/d"})]
    volumes = {**SCRATCH, "inner": {"emptyDir": {}}}
    deploy(own, "turned", containers, volumes)
    logs(own, "turned", until="done")
    containers[1] = container("b", image, "sleep 1000", {"scratch": "/d", "inner": "/d/in"})
    answer = own.call("PUT", own.group_id("v", "turned"), body(containers, volumes))
    assert answer.status in (200, 201), answer.text
    own.wait("v", "turned", lambda g: "Nothing can be mounted at 'in' within the volume 'scratch'" in json.dumps(view(g, 1)["events"]))


def test_a_volume_that_cant_be_had_holds_up_only_who_mounts_it(own, image):
    group = deploy(own, "half", [
        container("a", image, "sleep 1000", {"code": "/code", "scratch": "/d"}),
        container("b", image, "echo up; sleep 1000", {"scratch": "/d"}),
    ], {"code": {"gitRepo": {"repository": "https://127.0.0.1:9/x.git"}}, **SCRATCH}, expect="Failed")
    assert view(group, 1)["currentState"]["state"] == "Running"
    assert view(group)["currentState"]["state"] == "Waiting"
    assert view(group)["currentState"]["detailStatus"].startswith("FailedMount: The volume 'code' can't be mounted: ")
    again = own.wait("v", "half", lambda g: any(e["name"] == "FailedMount" and e["count"] > 2 and e["type"] == "Warning"
                                                for e in view(g)["events"]))
    assert any(e["name"] == "FailedMount" for e in again["properties"]["instanceView"]["events"])


def test_volumes_go_when_a_group_ends(own, image):
    deploy(own, "job", [container("a", image, "echo x > /d/x; cat /s/k", {"scratch": "/d", "s": "/s"})],
           {**SCRATCH, "s": {"secret": {"k": b64("v")}}}, policy="Never")
    ended(own, "job")
    folder = own.state / "node" / "groups"
    eventually(lambda: not [m for m in leftovers(own) if m.startswith("loop") or f"{folder}/" in m and "/v/" in m.split(f"{folder}/")[1]])
    assert not list(folder.glob("*/v"))
    assert own.call("POST", own.group_id("v", "job") + "/start").status in (202, 204)
    own.wait("v", "job", lambda g: g["properties"]["instanceView"]["state"] == "Succeeded")


@pytest.mark.parametrize("delay", [0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2])
def test_kill_of_the_node_at_any_moment(own, image, delay):
    name = own.new_name("killed")
    answer = own.call("PUT", own.group_id("v", name), body([
        container("a", image, "echo run >> /d/runs; cat /s/k; echo; wc -l < /d/runs; while ! [ -e /d/end ]; do usleep 10000; done",
                  {"scratch": "/d", "s": "/s"}),
        container("b", image, "while ! [ -e /d/runs ]; do usleep 10000; done; sleep 1; touch /d/end; sleep 1000", {"scratch": "/d"})],
        {**SCRATCH, "s": {"secret": {"k": b64("value")}}}), headers={"Prefer": "respond-async"})
    assert answer.status in (200, 201), answer.text
    time.sleep(delay)
    own.kill("berth-node")
    own.up()
    assert logs(own, name, until="2\n").split() == ["value", "2"], "the second run sees what the first one wrote"
