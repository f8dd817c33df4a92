"""kill -9 of the daemons at any moment: nothing is restarted, nothing is lost, nothing is left over."""
import contextlib
import os
import pathlib
import random
import subprocess
import threading
import time

import pytest

from harness import BUILD, Berth, eventually, fetch, leftovers, remains, run, store_keys, view

SH = ["/bin/sh", "-c"]
ALL_VICTIMS = [["berthd"], ["berth-node"], ["berthd", "berth-node"]]
# Says when it starts, and ends with a code of its own when it is asked to.
POLITE = "trap 'echo bye; exit 9' TERM; echo begin {0}; while true; do usleep 5000; done"


@pytest.fixture(scope="module")
def own(workdir):
    """A Berth to be killed, apart from the one of the other tests."""
    berth = Berth(workdir / "k", settings={"stop_grace_ms": 1000, "restart_backoff_ms": 200})
    berth.up()
    berth.put("/resourcegroups/k", {"location": "local"}, version="2021-04-01")
    yield berth
    berth.up()
    berth.purge()
    assert not remains(berth.state, berth.config)


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """Each test ends with no group, and then nothing of any group is there."""
    yield
    if "own" not in request.fixturenames:
        return
    own = request.getfixturevalue("own")
    own.up()
    remove_groups(own)
    gone(own)


def groups_path(own):
    return own.sub("/resourceGroups/k/providers/Microsoft.ContainerInstance/containerGroups")


def remove_groups(own):
    for item in own.call("GET", groups_path(own)).json["value"]:
        assert own.call("DELETE", item["id"]).status in (200, 204)


def gone(own):
    deadline = time.monotonic() + 20
    while leftovers(own) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not leftovers(own)


def state_of(group):
    return group["properties"]["instanceView"]["state"]


class Cut:
    """A request in a thread of its own, whose answer may never come."""

    def __init__(self, fn, *args, **kwargs):
        self.answer = None
        self.thread = threading.Thread(target=self._run, args=(fn, args, kwargs))
        self.thread.start()

    def _run(self, fn, args, kwargs):
        with contextlib.suppress(OSError, Exception):
            self.answer = fn(*args, **kwargs)

    def wait(self):
        self.thread.join()
        return self.answer


def cut_off(own, victims, delay, fn, *args, **kwargs):
    """Kills the victims some time after the request was begun, and starts them again."""
    own.token()
    cut = Cut(fn, *args, **kwargs)
    time.sleep(delay)
    own.kill(*victims)
    own.up()
    return cut.wait()


@pytest.mark.parametrize("victims", ALL_VICTIMS)
def test_a_running_group_does_not_notice(own, registry, victims):
    name = own.new_name("steady")
    made = own.create("k", name, registry.ref("busybox:1"),
                      [*SH, "mkdir /w; echo steady > /w/index.html; httpd -p 80 -h /w; "
                            "i=0; while true; do echo $i; i=$((i+1)); usleep 20000; done"], ports=[80])
    address = made["properties"]["ipAddress"]["ip"]
    before = view(made)["currentState"]["startTime"]
    own.kill(*victims)
    time.sleep(0.3)
    assert "steady" in fetch(address), "it serves while the daemons are gone"
    own.up()
    after = own.wait("k", name, lambda g: state_of(g) == "Running")
    assert view(after)["currentState"]["startTime"] == before and view(after)["restartCount"] == 0
    numbers = [int(line) for line in own.logs("k", name).split()]
    assert numbers == list(range(len(numbers))) and len(numbers) > 10, "no line was lost"
    assert "steady" in fetch(address)


def test_an_end_while_the_node_is_away_is_reported_once(own, registry):
    own.create("k", "away", registry.ref("busybox:1"), [*SH, "sleep 1; echo last; exit 7"], policy="Never")
    own.kill("berth-node")
    time.sleep(1.5)
    own.up()
    ended = own.wait("k", "away", lambda g: state_of(g) == "Failed")
    assert view(ended)["currentState"]["exitCode"] == 7
    assert own.logs("k", "away") == "last\n"


@pytest.mark.parametrize("victims", ALL_VICTIMS)
def test_killed_at_any_point_of_a_create(own, registry, victims):
    delays = random.Random(1)
    for _ in range(10):
        name = own.new_name("mid")
        answer = cut_off(own, victims, delays.uniform(0, 0.12), own.create, "k", name, registry.ref("busybox:1"),
                         [*SH, "mkdir /w; echo here > /w/index.html; echo begin; httpd -f -p 80 -h /w"], ports=[80], wait=False)
        if not own.show("k", name):
            assert not answer, "what was answered is there"
            continue
        group = own.wait("k", name, lambda g: state_of(g) == "Running")
        assert group["properties"]["provisioningState"] == "Succeeded"
        assert view(group)["restartCount"] == 0 and "previousState" not in view(group)
        assert [e["count"] for e in view(group)["events"] if e["name"] == "Started"] == [1]
        eventually(lambda: "begin" in own.logs("k", name))
        assert own.logs("k", name) == "begin\n", "its program was started once"
        assert "here" in eventually(lambda: fetch(group["properties"]["ipAddress"]["ip"]))
        if delays.random() < 0.7:
            own.call("DELETE", own.group_id("k", name))


@pytest.mark.parametrize("victims", ALL_VICTIMS)
def test_killed_at_any_point_of_a_delete(own, registry, victims):
    delays = random.Random(2)
    for _ in range(10):
        name = own.new_name("del")
        made = own.create("k", name, registry.ref("hello:1"), ports=[80], label=name + "-label")
        answer = cut_off(own, victims, delays.uniform(0, 0.08), own.call, "DELETE", own.group_id("k", name))
        left = own.show("k", name)
        if left:
            assert answer is None, "what was answered is done"
            assert view(left)["currentState"]["startTime"] == view(made)["currentState"]["startTime"]
            assert "Hello" in fetch(left["properties"]["ipAddress"]["ip"])
            own.call("DELETE", own.group_id("k", name))
    gone(own)


@pytest.mark.parametrize("victims", ALL_VICTIMS)
def test_killed_at_any_point_of_a_stop_and_of_a_start(own, registry, victims):
    delays = random.Random(3)
    name = own.new_name("stop")
    path = own.group_id("k", name)
    own.create("k", name, registry.ref("busybox:1"), [*SH, POLITE.format("x")], ports=[80])
    for _ in range(8):
        eventually(lambda: "begin x\n" == own.logs("k", name))
        answer = cut_off(own, victims, delays.uniform(0, 0.12), own.call, "POST", path + "/stop")
        if not answer:
            time.sleep(0.3)
            if state_of(own.show("k", name)) == "Running":
                assert own.call("POST", path + "/stop").status == 204
        stopped = own.wait("k", name, lambda g: state_of(g) == "Stopped")
        assert view(stopped)["currentState"]["exitCode"] == 9, "how it ended is not lost"
        assert view(stopped)["restartCount"] == 0
        answer = cut_off(own, victims, delays.uniform(0, 0.12), own.call, "POST", path + "/start")
        if not answer:
            own.call("POST", path + "/start")
        running = own.wait("k", name, lambda g: state_of(g) == "Running")
        assert view(running)["restartCount"] == 0


@pytest.mark.parametrize("victims", ALL_VICTIMS)
def test_killed_at_any_point_of_an_update(own, registry, victims):
    delays = random.Random(4)
    name = own.new_name("upd")
    made = own.create("k", name, registry.ref("busybox:1"), [*SH, POLITE.format(0)], ports=[80])
    for i in range(1, 9):
        answer = cut_off(own, victims, delays.uniform(0, 0.15), own.create, "k", name, registry.ref("busybox:1"),
                         [*SH, POLITE.format(i)], ports=[80], wait=False)
        group = own.wait("k", name, lambda g: state_of(g) == "Running" and g["properties"]["provisioningState"] == "Succeeded")
        if not answer and f"begin {i}" not in group["properties"]["containers"][0]["properties"]["command"][2]:
            continue
        eventually(lambda: own.logs("k", name) == f"begin {i}\n")
        group = own.show("k", name)
        assert view(group)["restartCount"] == 0, "an update is no crash"
        assert group["properties"]["ipAddress"]["ip"] == made["properties"]["ipAddress"]["ip"]


@pytest.mark.parametrize("victims", ALL_VICTIMS)
def test_killed_while_a_container_is_restarted_and_backs_off(own, registry, victims):
    delays = random.Random(5)
    name = own.new_name("loop")
    own.create("k", name, registry.ref("busybox:1"), [*SH, "echo run; usleep 30000; exit 3"])
    counts = []
    for _ in range(10):
        time.sleep(delays.uniform(0, 0.4))
        own.kill(*victims)
        time.sleep(delays.uniform(0, 0.3))
        own.up()
        counts.append(view(own.show("k", name))["restartCount"])
    assert counts == sorted(counts) and counts[-1] >= 4
    waiting = own.wait("k", name, lambda g: view(g)["currentState"]["state"] == "Waiting")
    assert view(waiting)["previousState"]["exitCode"] == 3
    assert state_of(waiting) == "Running"
    (folder,) = (own.state / "node/groups").glob(f"*/c/{name}/log")
    logs = sorted(folder.glob("*.log"), key=lambda p: int(p.stem))
    count = view(waiting)["restartCount"]
    assert [int(p.stem) for p in logs] == [count - 1, count], "each end was counted once, and two logs are kept"
    for log in logs:
        assert [line.split()[-1] for line in log.read_text().splitlines()] == ["run"]


def test_down_and_up_find_everything_again(own, registry):
    made = own.create("k", "found", registry.ref("hello:1"), ports=[80], label="found-again")
    own.down()
    assert "Hello" in fetch(made["properties"]["ipAddress"]["ip"]), "containers go on"
    own.down()
    own.up()
    pids = [own.pid("berthd"), own.pid("berth-node")]
    own.up()
    assert pids == [own.pid("berthd"), own.pid("berth-node")], "up is fine where Berth is up"
    found = own.show("k", "found")
    assert view(found) == view(made) and found["properties"]["ipAddress"] == made["properties"]["ipAddress"]
    for name in ("berthd", "berth-node"):
        os.kill(own.pid(name), 9)
        own.up()
        assert view(own.wait("k", "found", lambda g: True)) == view(made)


def test_killed_while_many_containers_start_and_stop(own, registry):
    """Many are made and ended at the same time: each runs once, and how each ended is not lost."""
    delays = random.Random(6)
    parts = [{"name": f"c{i}", "properties": {"image": registry.ref("busybox:1"), "command": [*SH, POLITE.format(i)],
                                              "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}}}} for i in range(12)]
    for _ in range(4):
        name = own.new_name("many")
        path = own.group_id("k", name)
        own.call("PUT", path, {"location": "local", "properties": {"osType": "Linux", "containers": [{
            "name": "first", "properties": {"image": registry.ref("busybox:1"), "command": [*SH, POLITE.format("first")],
                                            "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}}}}, *parts]}})
        own.call("POST", path + "/stop")
        own.wait("k", name, lambda g: state_of(g) == "Stopped")
        cut_off(own, ["berth-node"], delays.uniform(0, 0.4), own.call, "POST", path + "/start")
        group = own.wait("k", name, lambda g: state_of(g) == "Running")
        for i in range(13):
            part = group["properties"]["containers"][i]["name"]
            assert view(group, i)["restartCount"] == 0 and view(group, i)["currentState"]["state"] == "Running"
            counts = {e["name"]: e["count"] for e in view(group, i)["events"] if e["name"] in ("Created", "Started")}
            assert counts == {"Created": 1, "Started": 1}
            eventually(lambda: own.logs("k", name, part) == f"begin {part[1:] if part != 'first' else part}\n")
        cut_off(own, ["berth-node"], delays.uniform(0, 0.3), own.call, "POST", path + "/stop")
        group = own.wait("k", name, lambda g: state_of(g) == "Stopped")
        assert [view(group, i)["currentState"]["exitCode"] for i in range(13)] == [9] * 13
        remove_groups(own)


def start_by_hand(own, name):
    """A daemon as `berth up` starts it, without waiting for the other one."""
    user = {"user": "berth", "group": "berth", "extra_groups": []} if name == "berthd" else {}
    log = open(own.state / "run" / f"{name}.log", "a")
    process = subprocess.Popen([BUILD / name, "--state", str(own.state)], stdout=log, stderr=log, start_new_session=True, **user)
    log.close()
    return process


@pytest.mark.parametrize("order", [["berthd", "berth-node"], ["berth-node", "berthd"]])
def test_either_daemon_may_come_first(own, registry, order):
    made = own.create("k", "order", registry.ref("hello:1"), ports=[80])
    own.down()
    processes = []
    try:
        for name in order:
            processes.append(start_by_hand(own, name))
            time.sleep(0.7)
            assert processes[-1].poll() is None
        assert view(own.wait("k", "order", lambda g: True)) == view(made)
        own.create("k", "order-2", registry.ref("hello:1"))
        assert state_of(own.show("k", "order-2")) == "Running"
    finally:
        for process in processes:
            process.terminate()
            assert process.wait(20) == 0


def test_down_ends_a_berth_in_the_foreground(own):
    own.down()
    up = subprocess.Popen([BUILD / "berth", "up", "--state", str(own.state)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True)
    try:
        before = own.pid("berth-node")
        eventually(lambda: own.pid("berth-node") != before)
        node = own.pid("berth-node")
        eventually(lambda: "Berth is up" in up.stdout.readline())
        os.kill(own.pid("berth-node"), 9)
        eventually(lambda: own.pid("berth-node") != node)
        time.sleep(0.5)
        own.down()
        assert up.wait(20) == 0
        for name in ("berthd", "berth-node"):
            assert not os.path.exists(f"/proc/{own.pid(name)}")
    finally:
        if up.poll() is None:
            up.terminate()
            up.wait(20)


def test_two_side_by_side_and_a_purge_leaves_nothing_of_its_own_only(own, registry, workdir):
    other = Berth(workdir / "k2", settings={"stop_grace_ms": 1000})
    other.up()
    try:
        other.put("/resourcegroups/k", {"location": "local"}, version="2021-04-01")
        mine = own.create("k", "side", registry.ref("hello:1"), ports=[80])
        theirs = other.create("k", "side", registry.ref("hello:1"), ports=[80])
        other.create("k", "busy", registry.ref("busybox:1"), [*SH, "trap '' TERM; while true; do sleep 1; done"])
        other.call("PUT", other.group_id("k", "absent"), {
            "location": "local", "properties": {"osType": "Linux", "containers": [{"name": "absent", "properties": {
                "image": registry.ref("absent:1"), "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}}}}]}})
        addresses = [g["properties"]["ipAddress"]["ip"] for g in (mine, theirs)]
        assert addresses[0] != addresses[1]
        assert all("Hello" in fetch(a) for a in addresses)
        other.kill("berthd", "berth-node")
    finally:
        other.purge()
    assert not remains(other.state, other.config)
    assert "Hello" in fetch(addresses[0]), "the other one does not notice"
    assert own.create("k", "side-2", registry.ref("hello:1"))["properties"]["provisioningState"] == "Succeeded"


# --- a full disk ---

@pytest.fixture
def small(workdir):
    """A Berth whose state directory is a file system of 64 MiB."""
    # A name of its own: another Berth that starts now has a copy of this mount for a while.
    state = workdir / Berth.new_name("small")
    image = state.with_suffix(".img")
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    run("mkfs.ext4", "-q", "-m", "0", image)
    state.mkdir()
    run("mount", "-o", "loop", image, state)
    berth = Berth(state / "s", settings={"stop_grace_ms": 1000, "restart_backoff_ms": 500})
    try:
        berth.up()
        berth.put("/resourcegroups/k", {"location": "local"}, version="2021-04-01")
        yield berth
        berth.purge()
        assert not remains(berth.state, berth.config)
    finally:
        if (berth.state / "config.json").exists():
            (state / "filler").unlink(missing_ok=True)
            berth.purge()
        eventually(lambda: run("umount", state, check=False).returncode == 0, timeout=5)
        image.unlink()


def fill(path, leave=0):
    """Takes all space below path, to the last block."""
    with open(path, "ab", buffering=0) as f:
        with contextlib.suppress(OSError):
            while True:
                f.write(b"x" * (1 << 20))
        with contextlib.suppress(OSError):
            while True:
                f.write(b"x" * 512)
        if leave:
            f.truncate(os.fstat(f.fileno()).st_size - leave)


def reason(group):
    words = [e["message"] for e in view(group).get("events", [])]
    return " ".join(words + [view(group).get("currentState", {}).get("detailStatus", "")])


# How much is left decides who meets the end of the disk first: the image worker, the runtime, the agent, or the store.
@pytest.mark.parametrize("left", [1 << 20, 512 << 10, 320 << 10, 64 << 10, 0])
def test_a_full_disk_is_named_and_a_later_try_succeeds(small, registry, left):
    image = registry.ref("busybox:1")
    before = small.create("k", "before", image, [*SH, "while true; do sleep 1; done"])
    filler = small.state.parent / "filler"
    fill(filler, leave=left)
    begun = time.monotonic()
    answer = small.call("PUT", small.group_id("k", "late"), {
        "location": "local", "properties": {"osType": "Linux", "restartPolicy": "Never", "containers": [{
            "name": "late", "properties": {"image": image, "command": [*SH, "dd if=/dev/zero of=/big bs=1M count=1; echo done"],
                                           "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}}}}]}})
    took = time.monotonic() - begun
    if answer.status >= 400:
        assert "disk" in answer.message.lower() or "space" in answer.message.lower(), answer.text
        assert took < 1.5
    else:
        late = small.wait("k", "late", lambda g: g["properties"]["provisioningState"] in ("Failed", "Succeeded"), timeout=3)
        if late["properties"]["provisioningState"] == "Failed":
            assert "disk is full" in reason(late) or "No space left" in reason(late), late
    assert view(small.show("k", "before"))["currentState"] == view(before)["currentState"]
    filler.unlink()
    if answer.status >= 400:
        small.create("k", "late", image, [*SH, "dd if=/dev/zero of=/big bs=1M count=1; echo done"], policy="Never", cpu=0.1, memory=0.1)
    small.wait("k", "late", lambda g: state_of(g) in ("Succeeded", "Failed"), timeout=15)
    if state_of(small.show("k", "late")) == "Failed":
        small.call("POST", small.group_id("k", "late") + "/start")
    ended = small.wait("k", "late", lambda g: state_of(g) == "Succeeded")
    assert "done\n" in small.logs("k", "late"), ended
    assert small.call("DELETE", small.group_id("k", "before")).status == 200
    assert small.call("DELETE", small.group_id("k", "late")).status == 200
    eventually(lambda: not store_keys(small, "gone/", "ip/"))


def test_with_a_full_disk_groups_can_be_stopped_and_deleted(small, registry):
    for name in ("one", "two"):
        small.create("k", name, registry.ref("busybox:1"), [*SH, POLITE.format(1)])
    filler = small.state.parent / "filler"
    fill(filler, leave=256 << 10)
    small.kill("berth-node")
    small.up()
    assert small.call("POST", small.group_id("k", "one") + "/stop").status == 204
    small.wait("k", "one", lambda g: state_of(g) == "Stopped", timeout=5)
    for name in ("one", "two"):
        assert small.call("DELETE", small.group_id("k", name)).status == 200
    eventually(lambda: not list(pathlib.Path(small.state / "node/groups").iterdir()))
    filler.unlink()


def reserve(berth):
    return (berth.state / "control/berth.db-reserve").stat().st_size


def with_an_empty_log(berth, filler):
    """A full disk, and a store whose next commits need blocks: a log that is there already has room for some of them."""
    berth.berth("down")
    fill(filler, leave=64 << 10)  # `berth up` writes its settings and a pid file
    berth.up()
    fill(filler)


def test_on_a_full_disk_what_frees_space_and_what_is_true_goes_through(small, registry):
    """The store's reserve: status, stop and delete work to the last byte, and nothing new is taken."""
    image = registry.ref("busybox:1")
    whole = reserve(small)
    assert whole >= 4 << 20
    for name in ("one", "two"):
        small.create("k", name, image, [*SH, POLITE.format(1)], cpu=0.1, memory=0.1)
    ends = small.create("k", "ends", image, [*SH, "while ! test -e /tmp/end; do usleep 20000; done; exit 3"], policy="Never",
                        cpu=0.1, memory=0.1)
    pid = int(run("pgrep", "-f", "test -e /tmp/en[d]").stdout.split()[0])
    filler = small.state.parent / "filler"
    with_an_empty_log(small, filler)
    refused = [small.call("PUT", small.group_id("k", "late"), {"location": "local", "properties": ends["properties"]}),
               small.call("PUT", small.sub("/resourcegroups/late"), {"location": "local"}, version="2021-04-01"),
               small.call("PATCH", small.group_id("k", "one"), {"tags": {"a": "b"}}),
               small.call("POST", small.group_id("k", "one") + "/restart")]
    for answer in refused:
        assert (answer.status, answer.code) == (503, "StoreUnavailable"), answer.text
        assert "disk" in answer.message and "deleted" in answer.message, answer.text
    os.kill(pid, 9)
    small.wait("k", "ends", lambda g: state_of(g) == "Failed", timeout=5)
    assert small.call("POST", small.group_id("k", "one") + "/stop").status == 204
    small.wait("k", "one", lambda g: state_of(g) == "Stopped", timeout=5)
    for name in ("two", "ends"):
        assert small.call("DELETE", small.group_id("k", name)).status == 200
    eventually(lambda: not store_keys(small, "gone/"))
    assert 0 < reserve(small) < whole
    assert (small.state / "control/berth.db-wal").stat().st_size < 4 << 20
    filler.unlink()
    small.create("k", "late", image, [*SH, POLITE.format(1)], cpu=0.1, memory=0.1)
    assert reserve(small) == whole
    for name in ("one", "late"):
        assert small.call("DELETE", small.group_id("k", name)).status == 200


def test_the_reserve_is_made_anew_without_anybody_asking(small, registry):
    whole = reserve(small)
    small.create("k", "one", registry.ref("busybox:1"), [*SH, POLITE.format(1)])
    filler = small.state.parent / "filler"
    with_an_empty_log(small, filler)
    assert small.call("DELETE", small.group_id("k", "one")).status == 200
    eventually(lambda: reserve(small) < whole)
    filler.unlink()
    eventually(lambda: reserve(small) == whole)


def test_a_pull_onto_a_full_disk_is_named_and_goes_on_once_there_is_space(small, registry):
    filler = small.state.parent / "filler"
    fill(filler, leave=400 << 10)
    answer = small.create("k", "pulled", registry.ref("busybox:1"), [*SH, POLITE.format(1)])
    assert answer["properties"]["provisioningState"] == "Failed", answer
    assert "no space left for the image" in reason(answer), answer
    for name in ("staging", "partial"):
        assert not list((small.state / "node/images" / name).iterdir()), "nothing half-made stays"
    filler.unlink()
    small.wait("k", "pulled", lambda g: g["properties"]["provisioningState"] == "Succeeded", timeout=10)
    eventually(lambda: small.logs("k", "pulled") == "begin 1\n")
