"""gitRepo volumes through the API: a group that asks for a repository finds it below its mount path."""
import pathlib

import pytest

from git_server import GitServer
from harness import Berth, eventually, view


@pytest.fixture(scope="module")
def server(workdir):
    with GitServer(workdir / "git") as server:
        yield server


@pytest.fixture(scope="module")
def berth(workdir, server):
    """One that trusts the tests' authority, and clones from loopback."""
    berth = Berth(workdir / "g", settings={"repository_ca": server.ca, "repository_loopback": "true", "stop_grace_ms": 0,
                                           "git_repo_max_mib": 32})
    berth.up()
    yield berth
    berth.purge()


def containers(registry, *commands):
    return [{"name": f"c{i}", "properties": {
        "image": registry.ref("busybox:1"), "command": ["/bin/sh", "-c", command],
        "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}},
        "volumeMounts": [{"name": "repo", "mountPath": "/code"}]}} for i, command in enumerate(commands)]


def repository(server, name, **more):
    return [{"name": "repo", "gitRepo": {"repository": server.url(name), **more}}]


def create(berth, group, registry, name, volumes, *commands, **kwargs):
    properties = {"osType": "Linux", "restartPolicy": "Never", "containers": containers(registry, *commands),
                  "volumes": volumes}
    return berth.call("PUT", berth.group_id(group, name), {"location": "local", "properties": properties}, **kwargs)


def cloning(berth):
    """The clone workers of this Berth's node; each is the child of one of its threads."""
    pids = [pid for path in pathlib.Path(f"/proc/{berth.pid('berth-node')}/task").glob("*/children")
            for pid in path.read_text().split()]
    return [pid for pid in pids if b"berth-clone" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]


def done(group):
    return all(view(group, i).get("currentState", {}).get("state") == "Terminated"
               for i in range(len(group["properties"]["containers"])))


def test_containers_share_a_clone_that_they_may_write(berth, group, registry, server):
    repo = server.repo("shared.git")
    first = repo.commit({"file": b"one\n"})
    repo.commit({"file": b"two\n"}, parent=first)
    name = berth.new_name("git")
    answer = create(berth, group, registry, name, repository(server, "shared.git", revision=first, directory="app"),
                    "cat /code/app/file; id -u; stat -c %u /code/app/file; touch /code/app/written /code/other",
                    "while ! test -e /code/other; do sleep 0.1; done; ls /code /code/app")
    assert answer.status in (200, 201), answer.text
    berth.wait(group, name, done)
    assert berth.logs(group, name, "c0") == "one\n0\n0\n"
    assert berth.logs(group, name, "c1").split() == ["/code:", "app", "other", "/code/app:", "file", "written"]
    # As ACI shows it.
    shown = berth.show(group, name)["properties"]["volumes"][0]["gitRepo"]
    assert shown == {"repository": server.url("shared.git"), "revision": first, "directory": "app"}


def test_a_private_repository_is_cloned_and_its_token_is_not_shown(berth, group, registry, server):
    server.repo("private.git").commit({"file": b"private\n"})
    name, token = berth.new_name("git"), "canary-token-4711"
    plain = server.url("private.git")
    secret = plain.replace("https://", f"https://alice:{token}@")
    server.user = ("alice", token)
    try:
        command = "cat /code/private/file; grep -r canary /code; env; sleep 1000"
        answer = create(berth, group, registry, name, [{"name": "repo", "gitRepo": {"repository": secret}}], command)
        assert answer.status in (200, 201) and token not in answer.text, answer.text
        berth.wait(group, name, lambda g: view(g).get("currentState", {}).get("state") == "Running")
        eventually(lambda: "private" in berth.logs(group, name, "c0"))
        shown = berth.call("GET", berth.group_id(group, name))
        assert token not in shown.text + berth.logs(group, name, "c0")
        assert shown.json["properties"]["volumes"][0]["gitRepo"]["repository"] == plain
        # What was read, sent back, keeps the token: nothing restarts, and the next clone has it.
        assert berth.call("PUT", berth.group_id(group, name), shown.json).status == 200
        assert view(berth.show(group, name))["restartCount"] == 0
        assert berth.call("POST", berth.group_id(group, name) + "/stop").status == 204
        assert berth.call("POST", berth.group_id(group, name) + "/start").status in (202, 204)
        berth.wait(group, name, lambda g: view(g).get("currentState", {}).get("state") == "Running")
        # A wrong one: the event says what is wrong, and not with what.
        wrong = berth.new_name("git")
        create(berth, group, registry, wrong,
               [{"name": "repo", "gitRepo": {"repository": plain.replace("https://", "https://alice:canary-wrong@")}}],
               "sleep 1000")
        failed = berth.wait(group, wrong, lambda g: any(e["name"] == "FailedMount" for e in view(g).get("events", [])))
        assert "wants a user and a password" in str(failed) and "canary" not in str(failed)
        for daemon in "berthd", "berth-node":
            assert "canary" not in (berth.state / "run" / f"{daemon}.log").read_text(errors="replace")
    finally:
        server.user = None


def test_clone_stays_through_a_crash_and_is_made_anew_after_a_stop(berth, group, registry, server):
    repo = server.repo("moving.git")
    first = repo.commit({"file": b"one\n"})
    name = berth.new_name("git")
    command = "cat /code/moving/file; ls /code; touch /code/mark; sleep 1000"
    assert create(berth, group, registry, name, repository(server, "moving.git"), command).status in (200, 201)
    berth.wait(group, name, lambda g: view(g).get("currentState", {}).get("state") == "Running")
    repo.commit({"file": b"two\n"}, parent=first)
    before = len(server.requests)
    berth.kill("berth-node")
    berth.up()
    assert berth.show(group, name)["properties"]["instanceView"]["state"] == "Running"
    assert len(server.requests) == before
    for verb in ("stop", "start"):
        assert berth.call("POST", berth.group_id(group, name) + "/" + verb).status in (200, 202, 204)
        wanted = {"stop": "Stopped", "start": "Running"}[verb]
        berth.wait(group, name, lambda g: g["properties"]["instanceView"]["state"] == wanted)
    berth.wait(group, name, lambda g: "two" in berth.logs(group, name, "c0"))
    assert berth.logs(group, name, "c0").split()[-2:] == ["two", "moving"]


def test_clone_that_fails_says_why_in_an_event_and_is_tried_again(berth, group, registry, server):
    name = berth.new_name("git")
    assert create(berth, group, registry, name, repository(server, "later.git"), "cat /code/later/file").status in (200, 201)

    def event(g):
        return next((e for e in view(g).get("events", []) if e["name"] == "FailedMount"), None)
    shown = berth.wait(group, name, event)
    assert event(shown)["type"] == "Warning"
    assert event(shown)["message"].startswith("The volume 'repo' can't be mounted: The repository was not found on its server")
    assert view(shown)["currentState"]["state"] == "Waiting"
    server.repo("later.git").commit({"file": b"here now\n"})
    berth.wait(group, name, done)
    assert berth.logs(group, name, "c0") == "here now\n"


def test_group_can_be_deleted_while_its_server_hangs(berth, group, registry, server):
    name = berth.new_name("git")
    assert create(berth, group, registry, name, repository(server, "hang/x.git"), "true").status in (200, 201)
    eventually(lambda: any(path.startswith("/hang/x.git") for _, path, _ in server.requests))
    assert len(cloning(berth)) == 1
    assert berth.call("DELETE", berth.group_id(group, name)).status in (200, 202, 204)
    eventually(lambda: not cloning(berth))


def test_a_clone_that_hangs_holds_up_only_who_mounts_it(berth, group, registry, server):
    name = berth.new_name("git")
    some = containers(registry, "true", "sleep 0.2; exit 1")
    del some[1]["properties"]["volumeMounts"]
    answer = berth.call("PUT", berth.group_id(group, name), {"location": "local", "properties": {
        "osType": "Linux", "restartPolicy": "Always", "containers": some, "volumes": repository(server, "hang/y.git")}})
    assert answer.status in (200, 201), answer.text
    # The first one waits; the second one starts, and its end is seen to.
    shown = berth.wait(group, name, lambda g: view(g, 1).get("restartCount", 0) >= 1)
    assert view(shown)["currentState"]["state"] == "Waiting"
    assert view(shown)["currentState"]["detailStatus"] == "Mounting: its volumes are being mounted"
    assert shown["properties"]["provisioningState"] == "Creating"
    assert len(cloning(berth)) == 1
    assert berth.call("POST", berth.group_id(group, name) + "/stop").status == 204
    berth.wait(group, name, lambda g: g["properties"]["instanceView"]["state"] == "Stopped", timeout=10)
    assert not cloning(berth)
    assert berth.call("POST", berth.group_id(group, name) + "/start").status in (202, 204)
    eventually(lambda: cloning(berth))
    berth.kill("berth-node")
    berth.up()
    eventually(lambda: len(cloning(berth)) == 1)
    assert berth.call("DELETE", berth.group_id(group, name)).status in (200, 202, 204)
    eventually(lambda: not cloning(berth))


def test_volumes_that_wait_for_servers_come_up_one_after_the_other(berth, group, registry, server):
    for repo in ("one", "two"):
        server.repo(f"{repo}.git").commit({repo: b"x"})
    some = containers(registry, "ls /code /more; sleep 1000", "ls /code /more; sleep 1000", "true")
    for each in some[:2]:
        each["properties"]["volumeMounts"].append({"name": "more", "mountPath": "/more"})
    some[2]["properties"]["volumeMounts"] = [{"name": "absent", "mountPath": "/code"}]
    name = berth.new_name("git")
    volumes = [{"name": n, "gitRepo": {"repository": server.url(f"{r}.git"), "directory": "."}}
               for n, r in (("repo", "one"), ("more", "two"), ("absent", "nowhere"))]
    answer = berth.call("PUT", berth.group_id(group, name), {"location": "local", "properties": {
        "osType": "Linux", "restartPolicy": "Always", "containers": some, "volumes": volumes}})
    assert answer.status in (200, 201), answer.text
    shown = berth.wait(group, name, lambda g: all(view(g, i).get("currentState", {}).get("state") == "Running" for i in (0, 1)) and
                       any(e["name"] == "FailedMount" for e in view(g, 2).get("events", [])))
    assert not any(e["name"] == "FailedMount" for e in view(shown).get("events", []))
    eventually(lambda: berth.logs(group, name, "c1").split() == ["/code:", "one", "/more:", "two"])
    assert berth.call("DELETE", berth.group_id(group, name)).status in (200, 202, 204)


def test_containers_cannot_write_more_than_the_volume_holds(berth, group, registry, server):
    server.repo("small.git").commit({"file": b"x"})
    name = berth.new_name("git")
    assert create(berth, group, registry, name, repository(server, "small.git", directory="."),
                  "dd if=/dev/zero of=/code/big bs=1M count=100; ls /code").status in (200, 201)
    berth.wait(group, name, done)
    log = berth.logs(group, name, "c0")
    assert "No space left on device" in log and "file" in log.split()
