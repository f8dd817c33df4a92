"""A log that is followed: through restarts and updates to the end of its container, and nothing of it lost."""
import pathlib
import subprocess

import pytest

from harness import BUILD, eventually, view

SH = ["/bin/sh", "-c"]


@pytest.fixture
def follow(berth, group, tmp_path):
    """Starts `berth logs -f`; gives the process and a function for what it has written."""
    started = []

    def start(name):
        path = tmp_path / name
        with open(path, "wb") as out:
            process = subprocess.Popen([BUILD / "berth", "logs", "-f", "-g", group, name, "--state", berth.state], stdout=out)
        started.append(process)
        return process, path.read_text

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_it_goes_on_after_a_restart_and_an_update_until_the_stop(berth, registry, group, follow):
    wait = "while :; do i=$((i+1)); echo $i; sleep 0.1; done"
    berth.create(group, "f", registry.ref("busybox:1"), [*SH, f"echo begin; trap 'echo term; exit 0' TERM; i=0; {wait}"])
    process, text = follow("f")
    eventually(lambda: "\n3\n" in text())
    assert berth.call("POST", berth.group_id(group, "f") + "/restart").status == 204
    eventually(lambda: "term\nbegin\n1\n2\n3\n" in text())
    berth.create(group, "f", registry.ref("busybox:1"), [*SH, f"echo other; trap 'echo end; exit 0' TERM; i=0; {wait}"])
    eventually(lambda: "term\nother\n1\n2\n3\n" in text())
    assert process.poll() is None
    assert berth.call("POST", berth.group_id(group, "f") + "/stop").status == 204
    assert process.wait(20) == 0
    assert text().endswith("\nend\n")


def test_nothing_is_lost_between_runs(berth, registry, group, follow):
    berth.create(group, "runs", registry.ref("busybox:1"), [*SH, "echo begin; seq 1 20000; exit 3"], policy="OnFailure")
    _, text = follow("runs")
    run = "begin\n" + "".join(f"{i}\n" for i in range(1, 20001))
    eventually(lambda: len(text()) >= 3 * len(run), timeout=40)
    assert text() == run * 3


def test_it_is_whole_when_the_group_is_deleted(berth, registry, group, follow):
    berth.create(group, "gone", registry.ref("busybox:1"), [*SH, "i=0; while :; do i=$((i+1)); echo $i; done"])
    process, text = follow("gone")
    eventually(lambda: len(text()) > 100000)
    berth.call("DELETE", berth.group_id(group, "gone"))
    assert process.wait(30) == 0
    lines = text().splitlines()
    assert lines == [str(i) for i in range(1, len(lines) + 1)] and text().endswith("\n")


def sleepers(seconds):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"/bin/sleep", seconds.encode()]:
            found.append(path)
    return found


def test_a_killed_node_leaves_no_command_behind(berth, registry, group):
    berth.create(group, "k", registry.ref("busybox:1"), [*SH, "sleep 1000"])
    with subprocess.Popen([BUILD / "berth", "exec", "-g", group, "--state", berth.state, "k", "--", "/bin/sleep", "71170"],
                          stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        eventually(lambda: sleepers("71170"))
        berth.kill("berth-node")
        assert client.wait(30) != 0
    berth.up()
    eventually(lambda: not sleepers("71170"))
    assert view(berth.show(group, "k"))["currentState"]["state"] == "Running"
