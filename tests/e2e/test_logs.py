"""Logs of containers: whole, bounded, of the run before, and there after the end."""
import contextlib
import hashlib
import time

import pytest

from harness import Berth, eventually, view

SH = ["/bin/sh", "-c"]
PAGE = "1234567890123456789012345678901234567890123456789"  # with its newline fifty bytes


@pytest.fixture(scope="module")
def small(workdir):
    """A Berth that keeps one MiB of each container's logs, and restarts at once."""
    berth = Berth(workdir / "logs", settings={"log_max_mib": 1, "restart_backoff_ms": 10})
    berth.up()
    name = berth.new_name("rg")
    berth.put(f"/resourcegroups/{name}", {"location": "local"}, version="2021-04-01")
    berth.rg = name
    yield berth
    berth.purge()


def log_files(berth):
    found = {}
    for path in (berth.state / "node" / "groups").glob("*/c/*/log/*"):
        with contextlib.suppress(FileNotFoundError):  # removed since, for the log's bound
            found[path] = path.stat()
    return found


def on_disk(berth):
    return sum({s.st_ino: s.st_size for s in log_files(berth).values()}.values())


def ended(berth, group, name, state="Succeeded"):
    return berth.wait(group, name, lambda g: g["properties"]["instanceView"]["state"] == state, timeout=60)


def test_twenty_megabytes_are_whole(berth, registry, group):
    berth.create(group, "much", registry.ref("busybox:1"), [*SH, f"yes {PAGE} | head -n 400000"], policy="Never")
    ended(berth, group, "much")
    log = berth.logs(group, "much")
    assert len(log) == 400000 * 50
    assert hashlib.sha256(log.encode()).digest() == hashlib.sha256(f"{PAGE}\n".encode() * 400000).digest()
    assert berth.logs(group, "much", query="?tail=3") == f"{PAGE}\n" * 3


def test_a_line_without_end_stays_one_line(berth, registry, group):
    berth.create(group, "line", registry.ref("busybox:1"),
                 [*SH, "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; printf end"], policy="Never")
    ended(berth, group, "line")
    line = "x" * 3000000
    assert berth.logs(group, "line") == f"first\n{line}\nend"
    assert berth.logs(group, "line", query="?tail=2") == f"{line}\nend"


def test_tail_timestamps_and_previous_together(berth, registry, group):
    berth.create(group, "twice", registry.ref("busybox:1"),
                 [*SH, "cat /proc/uptime; echo out; echo err >&2; exit 1"], policy="OnFailure")
    berth.wait(group, "twice", lambda g: view(g)["restartCount"] == 2)
    now, before = berth.logs(group, "twice"), berth.logs(group, "twice", query="?previous=true")
    assert now.endswith("\nout\nerr\n") and before.endswith("\nout\nerr\n")
    assert float(before.split()[0]) < float(now.split()[0])
    stamped = berth.logs(group, "twice", query="?previous=true&tail=3&timestamps=true").splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == before.splitlines()
    at = view(berth.show(group, "twice"))["previousState"]["startTime"]
    assert all(line[:10] == at[:10] and line.split(" ")[0].endswith("Z") for line in stamped)
    assert berth.logs(group, "twice", query="?previous=true&tail=1") == "err\n"


def test_no_run_before_is_said(berth, registry, group):
    berth.create(group, "once", registry.ref("busybox:1"), [*SH, "echo one; sleep 1000"])
    eventually(lambda: berth.logs(group, "once") == "one\n")
    answer = berth.call("GET", berth.group_id(group, "once") + "/containers/once/logs?previous=true")
    assert (answer.status, answer.code) == (409, "ContainerLogNotAvailable")


@pytest.mark.parametrize("how", ["trap 'echo last; exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i; usleep 500; done",
                                 "i=0; while :; do i=$((i+1)); echo $i; done"])
def test_nothing_is_lost_on_stop(berth, registry, group, how):
    berth.create(group, "stopped", registry.ref("busybox:1"), [*SH, how])
    eventually(lambda: "\n100\n" in berth.logs(group, "stopped"))
    assert berth.call("POST", berth.group_id(group, "stopped") + "/stop").status == 204
    berth.wait(group, "stopped", lambda g: g["properties"]["instanceView"]["state"] == "Stopped")
    lines = berth.logs(group, "stopped").splitlines()
    if "trap" in how:
        assert lines.pop() == "last"
    assert lines == [str(i) for i in range(1, len(lines) + 1)]
    # A start is a new run: the one that was stopped is the one before.
    berth.call("POST", berth.group_id(group, "stopped") + "/start")
    berth.wait(group, "stopped", lambda g: g["properties"]["instanceView"]["state"] == "Running")
    before = berth.logs(group, "stopped", query="?previous=true").splitlines()
    assert before[:len(lines)] == lines


def test_the_end_is_there_when_the_group_has_ended(berth, registry, group):
    for code in (0, 3):
        name = f"end{code}"
        berth.create(group, name, registry.ref("busybox:1"), [*SH, f"seq 1 20000; exit {code}"], policy="Never")
        ended(berth, group, name, "Failed" if code else "Succeeded")
        assert berth.logs(group, name).splitlines() == [str(i) for i in range(1, 20001)]


def test_one_that_writes_without_end_has_a_bound(small, registry):
    small.create(small.rg, "endless", registry.ref("busybox:1"), [*SH, "seq 1 9999999; sleep 1000"])
    eventually(lambda: small.logs(small.rg, "endless", query="?tail=1") == "9999999\n", timeout=120, step=0.5)
    assert on_disk(small) <= 1 << 20
    lines = small.logs(small.rg, "endless").splitlines()
    assert len(lines) > 1000
    small.call("DELETE", small.group_id(small.rg, "endless"))


def test_one_that_restarts_for_ever_has_a_bound(small, registry):
    small.create(small.rg, "again", registry.ref("busybox:1"), [*SH, "seq 1 30000; exit 1"], policy="OnFailure")
    most = 0
    deadline = time.monotonic() + 60
    while (view(small.show(small.rg, "again")).get("restartCount") or 0) < 6 and time.monotonic() < deadline:
        most = max(most, on_disk(small))
        time.sleep(0.01)
    assert view(small.show(small.rg, "again"))["restartCount"] >= 6
    runs = {int(p.name.split(".")[0]) for p in log_files(small)}
    assert 0 < most <= 1 << 20
    assert len(runs) <= 3, runs  # while one is being removed
    small.call("DELETE", small.group_id(small.rg, "again"))
    eventually(lambda: not log_files(small))
