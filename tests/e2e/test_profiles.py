"""Profiles and groups made from them; quotas; what a region has; pinned images."""
import concurrent.futures
import json
import math
import os

import pytest

from harness import Berth, eventually, fetch, group_body, run

V = "2025-09-01"
SLEEP = ["/bin/sh", "-c", "echo one; exec sleep 1000"]


@pytest.fixture(scope="module")
def berth(workdir):
    """A Berth of this file's own, with little to give away."""
    berth = Berth(workdir / "p", settings={"quota_groups": 4, "quota_cores": 2, "stop_grace_ms": 0})
    berth.up()
    yield berth
    berth.purge()


@pytest.fixture
def profile(berth, group):
    """The id of a profile in the test's group, and a function that calls it."""
    path = berth.sub(f"/resourceGroups/{group}/providers/Microsoft.ContainerInstance/containerGroupProfiles/Web_1")

    def call(method, body=None, path=path, expect=200, version=V):
        answer = berth.call(method, path, body, version=version)
        assert answer.status == expect, (answer.status, answer.text)
        return answer.json
    call.id = path
    return call


def body(image, **more):
    return group_body("one", image, ports=[80], cpu=0.1, memory=0.1, **more)


def test_revisions(berth, group, profile, registry):
    made = profile("PUT", body(registry.ref("hello:1")), expect=201)
    assert (made["properties"]["revision"], made["name"], made["id"]) == (1, "Web_1", profile.id)
    assert profile("PUT", body(registry.ref("hello:1"))) == made
    changed = profile("PUT", body(registry.ref("busybox:1")))
    assert changed["properties"]["registeredRevisions"] == [1, 2]
    assert profile("GET") == changed
    first = profile("GET", path=profile.id + "/revisions/1")
    assert first["properties"]["containers"][0]["properties"]["image"] == registry.ref("hello:1")
    assert (first["id"], first["type"]) == (made["id"], made["type"])
    assert [p["properties"]["revision"] for p in profile("GET", path=profile.id + "/revisions")["value"]] == [1, 2]
    tagged = profile("PATCH", {"tags": {"a": "b"}})
    assert (tagged["tags"], tagged["properties"]["revision"]) == ({"a": "b"}, 2)
    for listed in profile.id.rsplit("/", 1)[0], berth.sub("/providers/Microsoft.ContainerInstance/containerGroupProfiles"):
        assert [p["id"] for p in profile("GET", path=listed)["value"]] == [made["id"]]
    resources = berth.get(f"/resourceGroups/{group}/resources", version="2021-04-01")["value"]
    assert [r["type"] for r in resources] == ["Microsoft.ContainerInstance/containerGroupProfiles"]
    berth.kill("berthd")
    berth.up()
    assert profile("GET") == tagged
    assert profile("GET", path=profile.id + "/revisions/1") == first
    assert profile("DELETE") is None
    profile("DELETE", expect=204)
    profile("GET", expect=404)
    profile("GET", version="2023-05-01", expect=400)


def test_az_rest(berth, group, profile, workdir, registry):
    env = berth.az_env(workdir / "az-profiles")

    def rest(method, path, payload=None):
        more = ["--body", json.dumps(payload)] if payload else []
        out = run("az", "rest", "--method", method, "--url", f"{path}?api-version={V}", *more, env=env).stdout
        return json.loads(out) if out.strip() else None
    assert rest("put", profile.id, body(registry.ref("hello:1")))["properties"]["revision"] == 1
    made = rest("put", berth.group_id(group, "azure"), {"properties": {"containerGroupProfile": {"id": profile.id}}})
    assert made["properties"]["provisioningState"] in ("Pending", "Succeeded")
    group_now = berth.wait(group, "azure", lambda g: g["properties"]["provisioningState"] == "Succeeded")
    assert "Hello" in fetch(group_now["properties"]["ipAddress"]["ip"])
    shown = json.loads(run("az", "container", "show", "-g", group, "-n", "azure", env=env).stdout)
    assert shown["containers"][0]["image"] == registry.ref("hello:1")
    rest("delete", profile.id)


def test_a_group_from_a_profile(berth, group, profile, registry):
    profile("PUT", body(registry.ref("busybox:1"), command=SLEEP), expect=201)
    payload = {"properties": {"containerGroupProfile": {"id": profile.id, "revision": 1},
                              "containers": [{"name": "one", "properties": {"environmentVariables": [
                                  {"name": "A", "value": "b"}]}}]}}
    answer = berth.call("PUT", berth.group_id(group, "from"), payload, version=V)
    assert answer.status == 201, answer.text
    made = berth.wait(group, "from", lambda g: g["properties"]["provisioningState"] == "Succeeded")
    container = made["properties"]["containers"][0]["properties"]
    assert (container["command"], container["environmentVariables"]) == (SLEEP, [{"name": "A", "value": "b"}])
    eventually(lambda: berth.logs(group, "from", "one") == "one\n")
    started = container["instanceView"]["currentState"]["startTime"]

    # What becomes of the profile is nothing to the group.
    profile("PUT", body(registry.ref("hello:1")))
    answer = berth.call("PUT", berth.group_id(group, "from"), payload, version=V)
    assert answer.status == 200, answer.text
    profile("DELETE")
    read = berth.call("GET", berth.group_id(group, "from"), version=V).json
    assert read["properties"]["containerGroupProfile"] == {"id": profile.id, "revision": 1}
    answer = berth.call("PUT", berth.group_id(group, "from"), read, version=V)
    assert answer.status == 200, answer.text
    now = berth.show(group, "from")["properties"]["containers"][0]["properties"]["instanceView"]["currentState"]
    assert now["startTime"] == started

    answer = berth.call("PUT", berth.group_id(group, "other"), payload, version=V)
    assert (answer.status, answer.code) == (404, "ContainerGroupProfileNotFound")
    payload["properties"]["standbyPoolProfile"] = {"id": "/x"}
    del payload["properties"]["containerGroupProfile"]
    answer = berth.call("PUT", berth.group_id(group, "other"), payload, version=V)
    assert (answer.status, answer.code) == (400, "PropertyNotSupported")


def test_profiles_are_deleted_with_their_group(berth, profile):
    name = berth.new_name("gone")
    berth.put(f"/resourcegroups/{name}", {"location": "local"}, version="2021-04-01")
    path = berth.sub(f"/resourceGroups/{name}/providers/Microsoft.ContainerInstance/containerGroupProfiles/p")
    profile("PUT", body("a"), path=path, expect=201)
    berth.call("DELETE", berth.sub(f"/resourcegroups/{name}"), version="2021-04-01")
    eventually(lambda: berth.call("GET", berth.sub(f"/resourcegroups/{name}"), version="2021-04-01").status == 404)
    berth.put(f"/resourcegroups/{name}", {"location": "local"}, version="2021-04-01")
    profile("GET", path=path, expect=404)
    berth.call("DELETE", berth.sub(f"/resourcegroups/{name}"), version="2021-04-01")


def usages(berth):
    value = berth.get("/providers/Microsoft.ContainerInstance/locations/local/usages")["value"]
    return {u["name"]["value"]: (u["currentValue"], u["limit"]) for u in value}


def test_quotas(berth, group, registry):
    assert usages(berth) == {"ContainerGroups": (0, 4), "StandardCores": (0, 2)}

    def put(i):
        return berth.call("PUT", berth.group_id(group, f"q{i}"),
                          group_body("c", registry.ref("busybox:1"), SLEEP, cpu=0.1, memory=0.1))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(put, range(8)))
    assert sorted(a.status for a in answers) == [201] * 4 + [400] * 4
    refused = next(a for a in answers if a.status == 400)
    assert refused.code == "ContainerGroupQuotaReached"
    assert refused.message == (
        "Resource type 'Microsoft.ContainerInstance/containerGroups' container group quota 'ContainerGroups' exceeded in "
        "region 'local'. Limit: '4', Usage: '4' Requested: '1'.")
    assert usages(berth)["ContainerGroups"] == (4, 4)
    made = [i for i, a in enumerate(answers) if a.status == 201]
    for i in made[:2]:
        assert berth.call("DELETE", berth.group_id(group, f"q{i}")).status == 200

    # 0.2 are in use, so that 1.8 are left: a stopped group gives its own back.
    name = f"q{made[2]}"
    big = group_body("c", registry.ref("busybox:1"), SLEEP, cpu=1.9, memory=0.1)
    answer = berth.call("PUT", berth.group_id(group, "big"), big)
    assert "quota 'StandardCores' exceeded in region 'local'. Limit: '2', Usage: '0.2' Requested: '1.9'." in answer.message
    assert berth.call("POST", berth.group_id(group, name) + "/stop").status == 204
    assert berth.call("PUT", berth.group_id(group, "big"), big).status == 201
    assert usages(berth) == {"ContainerGroups": (3, 4), "StandardCores": (2, 2)}
    answer = berth.call("POST", berth.group_id(group, name) + "/start")
    assert (answer.status, answer.code) == (400, "ContainerGroupQuotaReached")
    berth.wait(group, "big", lambda g: g["properties"]["provisioningState"] == "Succeeded")
    assert berth.call("DELETE", berth.group_id(group, "big")).status == 200
    assert berth.call("POST", berth.group_id(group, name) + "/start").status in (202, 204)


def test_more_memory_than_the_machine_has(berth, group):
    answer = berth.call("PUT", berth.group_id(group, "huge"), group_body("c", "a", memory=200))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if pages < 200 << 30:
        assert (answer.status, answer.code) == (409, "ServiceUnavailable")
        assert "'200' GB memory 'Linux' OS" in answer.message


def test_capabilities_and_images_are_the_nodes(berth, group, registry):
    path = berth.sub("/providers/Microsoft.ContainerInstance/locations/local/")
    [item] = berth.call("GET", path + "capabilities").json["value"]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    assert item["capabilities"]["maxCpu"] == min(os.cpu_count(), 31)
    assert item["capabilities"]["maxMemoryInGB"] == pytest.approx(min(math.floor(memory * 10) / 10, 240), abs=0.2)
    assert (item["osType"], item["gpu"], item["capabilities"]["maxGpuCount"]) == ("Linux", "None", 0)

    # Prefetched, it is listed; a group takes it from there; pinned, it stays.
    reference = registry.ref("hello:1")
    berth.berth("image", "pull", reference)
    listed = berth.call("GET", path + "cachedImages").json["value"]
    assert {"osType": "Linux", "image": reference} in listed
    berth.berth("image", "pin", reference)
    assert "yes" in next(x for x in berth.berth("image", "list").stdout.splitlines() if x.startswith(reference))
    berth.berth("image", "prune", "--unused", "0")
    assert {"osType": "Linux", "image": reference} in berth.call("GET", path + "cachedImages").json["value"]
    refused = berth.berth("image", "remove", reference, check=False)
    assert refused.returncode == 1 and "image unpin" in refused.stderr
    berth.berth("image", "unpin", reference)
    assert f"removed {reference}" in berth.berth("image", "prune", "--unused", "0").stdout
    assert {"osType": "Linux", "image": reference} not in berth.call("GET", path + "cachedImages").json["value"]


def test_the_node_is_away(berth):
    os.kill(berth.pid("berth-node"), 19)
    try:
        answer = berth.call("GET", berth.sub("/providers/Microsoft.ContainerInstance/locations/local/cachedImages"))
    finally:
        os.kill(berth.pid("berth-node"), 18)
    assert (answer.status, answer.code) == (503, "NodeUnavailable")
