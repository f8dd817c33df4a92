"""What a PUT, a restart and a start change, and what they leave alone: over the API and with the real az."""
import concurrent.futures
import json

import pytest

from harness import BUILD, busybox_image, eventually, fetch, group_body, run, view

SH = ["/bin/sh", "-c"]
SERVE = "mkdir -p /w; echo {} > /w/index.html; httpd -f -p 80 -h /w"


def push(registry, workdir, name, version):
    """The image NAME:1, whose program says which version it is."""
    script = workdir / "version"
    script.write_text(f"#!/bin/sh\necho {version}\n")
    script.chmod(0o755)
    registry.push(busybox_image(workdir, name, [script]), f"{name}:1")
    return registry.ref(f"{name}:1")


def put(berth, rg, name, body):
    answer = berth.call("PUT", berth.group_id(rg, name), body)
    assert answer.status in (200, 201), answer.text
    return berth.wait(rg, name, lambda g: g["properties"]["provisioningState"] in ("Succeeded", "Failed"))


def part(image, name, command):
    return {"name": name, "properties": {"image": image, "command": [*SH, command],
                                         "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}}}}


def test_a_moved_tag_is_taken_by_a_restart_and_a_start_and_by_nothing_else(berth, registry, group, workdir):
    image = push(registry, workdir, "moved", "A")
    body = group_body("tag", "", containers=[part(image, n, f"version; echo {n}; sleep 1000") for n in ("one", "two")])
    path = berth.group_id(group, "tag")

    def logs():
        return [berth.logs(group, "tag", n) for n in ("one", "two")]

    before = put(berth, group, "tag", body)
    eventually(lambda: logs() == ["A\none\n", "A\ntwo\n"])
    push(registry, workdir, "moved", "B")
    for same in (body, {**body, "tags": {"a": "b"}}):
        assert [view(put(berth, group, "tag", same), i) for i in range(2)] == [view(before, i) for i in range(2)]
    # What changed runs anew, with what the registry has now.
    body["properties"]["containers"][1] = part(image, "two", "version; echo three; sleep 1000")
    after = put(berth, group, "tag", body)
    eventually(lambda: logs() == ["A\none\n", "B\nthree\n"])
    assert view(after, 0) == view(before, 0)
    assert berth.call("POST", path + "/restart").status == 204
    eventually(lambda: logs() == ["B\none\n", "B\nthree\n"])
    push(registry, workdir, "moved", "C")
    assert berth.call("POST", path + "/stop").status == 204
    berth.wait(group, "tag", lambda g: g["properties"]["instanceView"]["state"] == "Stopped")
    assert berth.call("POST", path + "/start").status in (202, 204)
    eventually(lambda: logs() == ["C\none\n", "C\nthree\n"])


def test_an_update_that_fails_leaves_alone_what_runs_and_so_does_the_next(berth, registry, group):
    image = registry.ref("busybox:1")

    def body(side):
        made = group_body("part", "", containers=[part(image, "web", "cat /v/kept; echo x >> /v/kept; sleep 1000"),
                                                  part(side, "side", "sleep 1000")])
        made["properties"]["volumes"] = [{"name": "v", "emptyDir": {}}]
        made["properties"]["containers"][0]["properties"]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
        return made

    before = put(berth, group, "part", body(image))
    failed = put(berth, group, "part", body(registry.ref("nothing:1")))
    assert failed["properties"]["provisioningState"] == "Failed" and view(failed, 0) == view(before, 0)
    again = put(berth, group, "part", body(registry.ref("nothing:1")))
    assert again["properties"]["provisioningState"] == "Failed" and view(again, 0) == view(before, 0)
    mended = put(berth, group, "part", body(image))
    assert mended["properties"]["provisioningState"] == "Succeeded" and view(mended, 0) == view(before, 0)
    assert view(mended, 1)["currentState"]["state"] == "Running"


def test_a_crash_does_not_look_for_a_moved_tag(berth, registry, group, workdir):
    image = push(registry, workdir, "crashes", "A")
    put(berth, group, "crash", group_body("crash", image, [
        *SH, "version; trap 'exit 1' USR1; while true; do usleep 20000; done"]))
    push(registry, workdir, "crashes", "B")
    run(BUILD / "berth", "exec", "-g", group, "--state", berth.state, "crash", "--", "kill", "-USR1", "1")
    berth.wait(group, "crash", lambda g: view(g)["restartCount"] == 1 and view(g)["currentState"]["state"] == "Running")
    eventually(lambda: berth.logs(group, "crash") == "A\n")


def test_of_two_puts_at_once_one_wins(berth, registry, group):
    def body(i):
        return group_body("race", registry.ref("busybox:1"), [*SH, f"echo {i}; sleep 1000"], cpu=0.1, memory=0.1)

    put(berth, group, "race", body(0))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for i in range(1, 9, 2):
            answers = list(pool.map(lambda n: berth.call("PUT", berth.group_id(group, "race"), body(n)), (i, i + 1)))
            won = [n for n, a in zip((i, i + 1), answers) if a.status in (200, 201)]
            assert won, [a.text for a in answers]
            for answer in answers:
                assert answer.status in (200, 201) or (answer.status, answer.code, answer.message) == (
                    409, "ContainerGroupTransitioning", "The container group 'race' is still transitioning, please retry later.")
            shown = berth.wait(group, "race", lambda g: g["properties"]["provisioningState"] == "Succeeded")
            said = shown["properties"]["containers"][0]["properties"]["command"][2].split()[1].rstrip(";")
            assert int(said) in won
            eventually(lambda: berth.logs(group, "race") == f"{said}\n")


def dig(berth, name):
    host, port = berth.config["dns_listen"].split(":")
    return run("dig", "+short", "-p", port, f"@{host}", name).stdout.strip()


def test_a_label_changes_in_place(berth, registry, group):
    def body(label):
        return group_body("label", registry.ref("busybox:1"), [*SH, SERVE.format("here")], ports=[80], label=label)

    first, second = (berth.new_name("label") for _ in range(2))
    before = put(berth, group, "label", body(first))
    address, name = (before["properties"]["ipAddress"][k] for k in ("ip", "fqdn"))
    eventually(lambda: dig(berth, name) == address)
    after = put(berth, group, "label", body(second))
    other = after["properties"]["ipAddress"]["fqdn"]
    assert other.split(".")[0] == second and after["properties"]["ipAddress"]["ip"] == address
    eventually(lambda: dig(berth, other) == address)
    assert dig(berth, name) == ""
    assert view(after) == view(before) and fetch(address) == "here\n"
    # The old one is free for others.
    body = group_body("taker", registry.ref("busybox:1"), [*SH, SERVE.format("taken")], ports=[80], label=first)
    taken = put(berth, group, "taker", body)["properties"]["ipAddress"]["ip"]
    eventually(lambda: dig(berth, name) == taken != address)


def test_credentials_change_in_place(berth, private_registry, group):
    def body(password):
        return group_body("creds", private_registry.ref("busybox:1"), [*SH, "sleep 1000"], ports=[80], credentials={
            "server": private_registry.address, "username": private_registry.user[0], "password": password})

    good = private_registry.user[1]
    before = put(berth, group, "creds", body(good))
    assert view(put(berth, group, "creds", body("stale"))) == view(before)
    assert berth.call("POST", berth.group_id(group, "creds") + "/restart").status == 204
    failed = berth.wait(group, "creds", lambda g: g["properties"]["provisioningState"] == "Failed")
    assert "ImagePullBackOff" in view(failed)["currentState"]["detailStatus"]
    mended = put(berth, group, "creds", body(good))
    assert mended["properties"]["provisioningState"] == "Succeeded"
    assert mended["properties"]["ipAddress"]["ip"] == before["properties"]["ipAddress"]["ip"]
    assert view(mended)["currentState"]["state"] == "Running"


def test_az_says_what_cannot_be_changed(berth, registry, group, workdir):
    env = berth.az_env(workdir / "home-updates")

    def create(cpu):
        return run("az", "container", "create", "-g", group, "-n", "web", "--image", registry.ref("hello:1"), "--cpu", cpu,
                   "--memory", "0.5", check=False, env=env, timeout=180)

    made = create("0.5")
    assert made.returncode == 0, made.stderr
    before = view(berth.show(group, "web"))
    refused = create("1")
    assert refused.returncode != 0
    assert refused.stderr.startswith(
        "ERROR: (InvalidContainerGroupUpdate) The updates on container group 'web' are invalid. If you are going to update the "
        "os type, restart policy, network profile, CPU, memory or GPU resources for a container group, you must delete it "
        "first and then create a new one."), refused.stderr
    assert view(berth.show(group, "web")) == before
    assert json.loads(create("0.5").stdout)["provisioningState"] == "Succeeded"
