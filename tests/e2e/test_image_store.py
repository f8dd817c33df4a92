"""The node's image store with the real worker: registries on loopback, archives made by hand, root file systems."""
import json
import os
import stat
import subprocess

import pytest

import pull_lib as lib

TOOL = os.path.abspath(os.path.join(lib.BUILD, "src/node/image/image_tool"))
BASE = 1000000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Node:
    def __init__(self, folder):
        self.store = os.path.join(folder, "node", "images")
        self.folder = folder
        os.chmod(folder, 0o700)  # nothing above the store lets the worker through

    def call(self, *args):
        result = subprocess.run([TOOL, self.store, lib.WORKER, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                timeout=120, text=True)
        self.stderr = result.stderr
        try:
            answer = json.loads(result.stdout) if result.stdout else None
        except ValueError:
            answer = result.stdout
        return result.returncode, answer

    def ok(self, *args):
        status, answer = self.call(*args)
        assert status == 0, (answer, self.stderr)
        return answer

    def refused(self, *args):
        status, answer = self.call(*args)
        assert status == 1, answer
        return answer

    def run(self, reference, *program):
        folder = os.path.join(self.folder, "container")
        os.makedirs(folder, 0o700, exist_ok=True)
        return self.call("run", folder, reference, str(BASE), *program)


@pytest.fixture
def node(tmp_path):
    return Node(str(tmp_path))


@pytest.fixture
def registry(tmp_path):
    registry = lib.Registry(str(tmp_path / "registry"))
    yield registry
    registry.stop()


@pytest.fixture
def private(tmp_path):
    registry = lib.Registry(str(tmp_path / "private"), users={"user": "secret"})
    yield registry
    registry.stop()


def program_image():
    base = lib.busybox_layer()
    top = lib.tar(lib.entry("etc/"), lib.entry("etc/.wh.passwd"), lib.entry("bin/tool", b"x", mode=0o4755, uid=33, gid=33),
                  lib.entry("home/"), lib.entry("home/.wh..wh..opq"), lib.entry("home/file", b"text\n", uid=1000))
    return lib.Image([base, top], config={"Cmd": ["/bin/sh", "-c", "true"], "Env": ["A=b"], "User": "1000"})


def test_a_pulled_image_runs(node, registry):
    reference = registry.push("team/app", "v1", program_image())
    image = node.ok("pull", reference)
    assert image["reference"] == reference
    assert image["cmd"] == ["/bin/sh", "-c", "true"] and image["env"] == ["A=b"] and image["user"] == "1000"
    status, out = node.run(reference, "/bin/sh", "-c", "echo $(cat /home/file) && test ! -e /etc/passwd && echo x > /new")
    assert (status, out) == (0, "text\n"), (out, node.stderr)
    _, out = node.run(reference, "/bin/busybox", "stat", "-c", "%u %a", "/bin/tool", "/home/file")
    assert out.split() == [str(BASE + 33), "4755", str(BASE + 1000), "644"]
    assert node.run(reference, "/bin/busybox", "test", "-e", "/new")[0] == 1
    assert os.listdir(os.path.join(node.folder, "container")) == []


def test_nothing_in_the_store_belongs_to_root(node, registry):
    node.ok("pull", registry.push("a", "b", program_image()))
    for folder in ("layers", "manifests", "refs"):
        for path, folders, files in os.walk(os.path.join(node.store, folder)):
            for name in folders + files:
                assert os.lstat(os.path.join(path, name)).st_uid >= lib.STORE_UID


def test_a_cached_image_needs_no_registry(node, registry):
    reference = registry.push("a", "b", program_image())
    first = node.ok("pull", reference)
    registry.stop()
    assert node.ok("pull", reference) == first
    assert node.refused("always", reference)["code"] == "RegistryErrorResponse"


def test_a_moved_tag_is_seen_when_asked_for(node, registry):
    reference = registry.push("a", "b", program_image())
    first = node.ok("pull", reference)
    registry.push("a", "b", lib.Image([lib.busybox_layer()]))
    assert node.ok("pull", reference)["digest"] == first["digest"]
    assert node.ok("always", reference)["digest"] != first["digest"]


def test_a_private_image_needs_each_groups_own_credentials(node, private):
    reference = private.push("a", "b", program_image())
    assert node.refused("pull", reference)["code"] == "InaccessibleImage"
    first = node.ok("pull", reference, "user", "secret")
    assert node.refused("pull", reference)["code"] == "InaccessibleImage"
    assert node.refused("pull", reference, "user", "wrong")["code"] == "InaccessibleImage"
    assert node.ok("pull", reference, "user", "secret") == first


def test_an_absent_image_says_so(node, registry):
    answer = node.refused("pull", registry.host + "/no/such:tag")
    assert answer["code"] == "InaccessibleImage" and "no/such" in answer["message"]
    assert node.refused("pull", "127.0.0.1:%d/x" % lib.free_port())["code"] == "RegistryErrorResponse"


def test_skopeo_pushes_and_the_node_pulls(node, registry, tmp_path):
    layout = str(tmp_path / "layout")
    lib.write_layout(layout, program_image(), "v1")
    subprocess.run(["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "oci:" + layout + ":v1",
                    "docker://" + registry.host + "/skopeo:v1"], check=True, timeout=60)
    node.ok("pull", registry.host + "/skopeo:v1")


def test_a_layout_is_imported(node, tmp_path):
    layout = str(tmp_path / "layout")
    image = program_image()
    lib.write_layout(layout, image, "docker.io/my/app:1")
    assert node.ok("import", layout)["reference"] == "docker.io/my/app:1"
    assert node.ok("import", layout, "other")["reference"] == "docker.io/library/other:latest"
    assert node.ok("pull", "other")["digest"] == image.digest
    assert [i["reference"] for i in node.ok("list")] == ["docker.io/library/other:latest", "docker.io/my/app:1"]
    assert node.run("other", "/bin/sh", "-c", "exit 7")[0] == 7


def test_a_pinned_image_is_never_pruned(node, tmp_path):
    layout = str(tmp_path / "layout")
    lib.write_layout(layout, program_image())
    node.ok("import", layout, "one")
    node.ok("import", layout, "two")
    assert node.refused("pin", "three")["code"] == "ImageNotFound"
    node.ok("pin", "one")
    assert [i["pinned"] for i in node.ok("list")] == [True, False]
    assert node.refused("remove", "one")["code"] == "ImagePinned"
    assert node.ok("unused") == ["docker.io/library/two:latest"]
    node.ok("prune")
    assert node.run("one", "/bin/sh", "-c", "exit 7")[0] == 7
    assert node.ok("list")[0]["used"].startswith("20")
    node.ok("unpin", "one")
    assert node.ok("unused") == ["docker.io/library/one:latest"]
    assert node.ok("list") == []


def test_prune_frees_what_nobody_names(node, tmp_path):
    layout = str(tmp_path / "layout")
    lib.write_layout(layout, program_image())
    node.ok("import", layout, "one")
    assert node.ok("prune")["freed"] == 0
    node.ok("remove", "one")
    assert node.ok("prune")["freed"] > 500000
    assert os.listdir(os.path.join(node.store, "layers")) == []
    assert node.refused("remove", "one")["code"] == "ImageNotFound"


def test_links_where_the_runtime_mounts_are_refused(node, tmp_path):
    for i, (name, link) in enumerate([("proc", "/etc"), ("dev", "../../.."), ("etc/hosts", "/etc/passwd"), ("etc", "tmp")]):
        layout = str(tmp_path / ("layout%d" % i))
        parents = [lib.entry("etc/")] if name.startswith("etc/") else []
        entries = [*parents, lib.entry(name, type=lib.tarfile.SYMTYPE, link=link)]
        lib.write_layout(layout, lib.Image([lib.tar(lib.entry("tmp/"), *entries)]))
        node.ok("import", layout, "evil%d" % i)
        status, answer = node.run("evil%d" % i, "/bin/sh")
        assert status == 1 and answer["code"] == "InvalidImageLayer", (name, answer)


def test_modes_of_the_store(node, tmp_path):
    node.ok("list")
    modes = {n: (stat.S_IMODE(os.stat(p).st_mode), os.stat(p).st_uid)
             for n in os.listdir(node.store) for p in [os.path.join(node.store, n)]}
    assert modes["layers"] == (0o700, lib.STORE_UID)
    assert modes["uses"] == (0o700, 0)
    assert os.stat(node.store).st_uid == 0
