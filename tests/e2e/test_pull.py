"""berth-pull against a real docker-registry and a fake one, in the user namespace that berth-node gives it. Needs root."""
import gzip
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from pull_lib import *  # noqa: E402,F403

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def folder(workdir):
    """Open to everybody, as the worker has no other rights. pytest's own folders are closed again by each run of it."""
    path = str(workdir / "pull")
    os.mkdir(path, 0o755)
    yield path
    remove_tree(path)


@pytest.fixture(scope="module")
def registry(folder):
    registry = Registry(folder + "/plain")
    yield registry
    registry.stop()


@pytest.fixture(scope="module")
def tls(folder):
    os.makedirs(folder + "/tls")
    return make_certificate(folder + "/tls")


@pytest.fixture(scope="module")
def private(folder, tls):
    registry = Registry(folder + "/private", tls=tls, users={"me": "s3cret:word"})
    yield registry
    registry.stop()


@pytest.fixture
def store(folder, request):
    store = Store(f"{folder}/store-{request.node.name[:60].replace('/', '_')}")
    yield store
    store.assert_clean()
    remove_tree(store.path)


@pytest.fixture
def fake():
    fake = Fake()
    yield fake
    fake.stop()


SMALL = tar(entry("a/"), entry("a/b", b"content"))
LOGIN = {"username": "me", "password": "s3cret:word"}


# --- what works --------------------------------------------------------------------------------------------------------

def test_an_image_is_pulled_and_its_record_written(registry, store):
    image = Image([busybox_layer(), SMALL], config={"Entrypoint": ["/bin/sh"], "Cmd": None, "Env": ["A=1", "broken"],
                                                    "User": "7:8", "WorkingDir": "/a", "StopSignal": "SIGINT",
                                                    "Volumes": {"/../x": {}}})
    ref = registry.push("happy", "v1", image)
    result = store.pull(ref)
    assert result.status == 0, result
    assert result.done["reference"] == ref
    assert result.done["digest"] == image.digest
    record = store.record(result)
    assert record["digest"] == image.digest
    assert record["layers"] == [d[7:] for d in image.diff_ids]
    assert record["config"] == {"entrypoint": ["/bin/sh"], "env": ["A=1"], "user": "7:8", "workingDir": "/a",
                                "stopSignal": "SIGINT"}
    assert record["size"] > 1000000
    with open(os.path.join(store.path, "refs", hashlib.sha256(ref.encode()).hexdigest() + ".json")) as f:
        saved = json.load(f)
    assert saved["digest"] == image.digest and saved["private"] is False
    assert os.stat(store.layer(image.diff_ids[0], "bin/busybox")).st_uid == STORE_UID
    assert store.list("partial") == []
    assert set(result.whats().values()) == {"Resolving", "Complete"}
    again = store.pull(ref)
    assert again.status == 0 and set(again.whats().values()) == {"Resolving", "Exists"}
    assert store.record(again)["size"] == record["size"]


def test_every_compression_and_media_type(registry, store):
    layers = [tar(entry(f"f{i}", b"x" * 100000 + bytes([i]))) for i in range(5)]
    forms = [(layers[0], layers[0], OCI_LAYER), (layers[1], gzip.compress(layers[1]), OCI_LAYER + "+gzip"),
             (layers[2], zstd(layers[2]), OCI_LAYER + "+zstd"),
             # members one after the other, and frames
             (layers[3], gzip.compress(layers[3][:5000]) + gzip.compress(layers[3][5000:]), OCI_LAYER + "+gzip"),
             (layers[4], zstd(layers[4][:5000]) + zstd(layers[4][5000:]), OCI_LAYER + "+zstd")]
    image = Image(forms)
    result = store.pull(registry.push("forms", "v1", image))
    assert result.status == 0, result
    for i, d in enumerate(image.diff_ids):
        with open(store.layer(d, f"f{i}"), "rb") as f:
            assert f.read() == b"x" * 100000 + bytes([i])


def test_docker_manifests_and_manifests_without_media_type(registry, store):
    docker = Image([SMALL], docker=True)
    assert store.pull(registry.push("docker", "v1", docker)).status == 0
    bare = Image([tar(entry("q", b"q"))], media_type=False)
    assert store.pull(registry.push("bare", "v1", bare)).status == 0


def test_an_index_is_resolved_to_this_platform(registry, store):
    other = "arm64" if ARCH == "amd64" else "amd64"
    mine = Image([SMALL])
    theirs = Image([tar(entry("other", b"1"))], arch=other)
    index = index_of((theirs, {"os": "linux", "architecture": other}), (mine, {"os": "linux", "architecture": ARCH}))
    registry.push("multi", "theirs", theirs)
    registry.push("multi", "mine", mine)
    registry.call("PUT", "/v2/multi/manifests/all", index, OCI_INDEX)
    result = store.pull(f"{registry.host}/multi:all")
    assert result.status == 0 and result.done["digest"] == mine.digest
    by_digest = store.pull(f"{registry.host}/multi@{digest(index)}")
    assert by_digest.status == 0 and by_digest.done["reference"] == f"{registry.host}/multi@{digest(index)}"
    # The cached one is still what the tag of the index means.
    cached = store.pull(f"{registry.host}/multi:all", knownDigest=mine.digest, always=True)
    assert cached.status == 0 and cached.whats() == {"": "Resolving"}
    wrong = store.pull(f"{registry.host}/multi:theirs")
    assert wrong.code == "InaccessibleImage" and other in wrong.message


def test_a_tag_that_moved_is_pulled_again(registry, store):
    first, second = Image([SMALL]), Image([tar(entry("new", b"2"))])
    ref = registry.push("moving", "v1", first)
    known = store.pull(ref).done["digest"]
    registry.push("moving", "v1", second)
    assert store.pull(ref, knownDigest=known).done["digest"] == first.digest
    assert store.pull(ref, knownDigest=known, always=True).done["digest"] == second.digest


def test_what_skopeo_pushes(registry, store, folder):
    image = Image([busybox_layer()])
    write_layout(folder + "/skopeo-layout", image, "v1")
    ref = f"{registry.host}/skopeo:v1"
    subprocess.run(["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false",
                    f"oci:{folder}/skopeo-layout:v1", f"docker://{ref}"], check=True)
    assert store.pull(ref).status == 0
    assert store.list("layers") == [image.diff_ids[0][7:]]


def test_a_layer_that_comes_twice_is_listed_once_where_it_comes_last(registry, store):
    empty, other = tar(entry("e/")), tar(entry("o", b"o"))
    image = Image([empty, other, empty])
    result = store.pull(registry.push("twice", "v1", image))
    assert store.record(result)["layers"] == [digest(other)[7:], digest(empty)[7:]]


def test_tls_with_a_private_authority_and_a_password(private, store, tls):
    image = Image([SMALL])
    ref = private.push("secret", "v1", image)
    ok = store.pull(ref, caFile=tls[0], credentials=LOGIN)
    assert ok.status == 0, ok
    with open(os.path.join(store.path, "refs", store.list("refs")[0])) as f:
        assert json.load(f)["private"] is True
    assert store.pull(ref, caFile=tls[0], credentials=LOGIN, knownDigest=image.digest).status == 0
    for bad in ({"username": "me", "password": "wrong"}, None):
        result = store.pull(ref, caFile=tls[0], credentials=bad)
        assert result.status == 1 and result.code == "InaccessibleImage"
        # neither does a cached copy help those who may not have it
        assert store.pull(ref, caFile=tls[0], credentials=bad, knownDigest=image.digest).code == "InaccessibleImage"
    untrusted = store.pull(ref, credentials=LOGIN)
    assert untrusted.code == "RegistryErrorResponse" and "certificate" in untrusted.message


def test_two_workers_share_one_layer(registry, folder, store):
    layer = tar(entry("big", os.urandom(20 << 20)))
    ref = registry.push("shared", "v1", Image([layer]))
    workers = [start_worker(store.job(ref), store.path) for _ in range(3)]
    results = [finish_worker(*w) for w in workers]
    assert [r.status for r in results] == [0, 0, 0]
    ends = sorted(v for r in results for l, v in r.whats().items() if l)
    assert ends == ["Complete", "Exists", "Exists"]


# --- interruptions -----------------------------------------------------------------------------------------------------

def slow_blob(data, log, step=65536, delay=0.02, cut_at=None, ranges=True):
    def route(handler):
        start = 0
        wanted = handler.headers.get("Range")
        log.append(wanted)
        if wanted and ranges:
            start = int(wanted[6:-1])
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        end = len(data)
        if cut_at and len(log) <= len(cut_at):
            end = cut_at[len(log) - 1]
        for i in range(start, end, step):
            handler.wfile.write(data[i:min(i + step, end)])
            time.sleep(delay)
        if end < len(data):
            handler.close_connection = True
            handler.connection.close()
    return route


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_off_transfer_goes_on(fake, store, ranges):
    layer = tar(entry("big", os.urandom(1 << 20)))
    image, log = Image([layer]), []
    ref = fake.serve("cut", "v1", image)
    fake.routes[f"/v2/cut/blobs/{image.layers[0]}"] = slow_blob(
        image.blobs[image.layers[0]], log, delay=0, cut_at=[300000, 700000], ranges=ranges)
    result = store.pull(ref)
    assert result.status == 0, result
    assert len(log) == 3 and log[0] is None and log[1].startswith("bytes=") and log[2].startswith("bytes=")


def test_a_killed_worker_leaves_what_the_next_one_goes_on_from(fake, store):
    layer = tar(entry("big", os.urandom(4 << 20)))
    image, log = Image([layer]), []
    ref = fake.serve("killed", "v1", image)
    fake.routes[f"/v2/killed/blobs/{image.layers[0]}"] = slow_blob(image.blobs[image.layers[0]], log)
    pid, out = start_worker(store.job(ref), store.path)
    time.sleep(0.8)
    os.kill(pid, signal.SIGKILL)
    assert finish_worker(pid, out).status == -signal.SIGKILL
    assert len(store.list("partial")) == 1 and store.list("layers") == []
    result = store.pull(ref)
    assert result.status == 0, result
    assert log[1].startswith("bytes=") and int(log[1][6:-1]) > 100000
    assert store.list("partial") == [] and store.list("layers") == [image.diff_ids[0][7:]]


def test_a_damaged_partial_file_is_fetched_again(fake, store):
    image = Image([tar(entry("big", os.urandom(1 << 20)))])
    ref = fake.serve("damaged", "v1", image)
    data = image.blobs[image.layers[0]]
    os.makedirs(store.path + "/partial")
    path = store.path + "/partial/" + image.layers[0].replace(":", "-")
    with open(path, "wb") as f:
        f.write(b"\0" * len(data))
    for at in (store.path + "/partial", path):
        os.chown(at, STORE_UID, STORE_UID)
    result = store.pull(ref)
    assert result.status == 0, result


def test_sigterm_cancels(fake, store):
    image, log = Image([tar(entry("big", os.urandom(4 << 20)))]), []
    ref = fake.serve("cancel", "v1", image)
    fake.routes[f"/v2/cancel/blobs/{image.layers[0]}"] = slow_blob(image.blobs[image.layers[0]], log)
    pid, out = start_worker(store.job(ref), store.path)
    time.sleep(0.5)
    os.kill(pid, signal.SIGTERM)
    began = time.time()
    result = finish_worker(pid, out)
    assert time.time() - began < 3
    assert result.status == 1 and result.code == "Canceled"


@pytest.fixture
def small_disk(folder):
    """A store on a disk of 12 MiB and 1000 files."""
    path = folder + "/small"
    store = Store(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=12m,nr_inodes=1000,mode=755,uid={STORE_UID},gid={STORE_UID}", "none", path], check=True)
    yield store
    subprocess.run(["umount", path], check=True)
    os.rmdir(path)


@pytest.mark.parametrize("layer", [
    tar(entry("big", os.urandom(16 << 20))),  # the blob doesn't fit
    tar(entry("big", b"\0" * (16 << 20))),  # it does, and its content doesn't
    tar(*[entry(f"f{i}") for i in range(2000)]),
], ids=["blob", "content", "files"])
def test_a_full_disk_is_told_and_a_larger_one_is_enough(fake, small_disk, layer):
    image = Image([SMALL, layer])
    ref = fake.serve("full", "v1", image)
    result = small_disk.pull(ref)
    assert result.code == "NodeStorageFull" and ref in result.message, result
    small_disk.assert_clean()
    assert image.diff_ids[1][7:] not in small_disk.list("layers")
    subprocess.run(["mount", "-o", "remount,size=64m,nr_inodes=50000", small_disk.path], check=True)
    result = small_disk.pull(ref)
    assert result.status == 0, result


# --- honest errors -----------------------------------------------------------------------------------------------------

def test_errors_name_registry_image_and_reason(registry, store):
    result = store.pull(f"{registry.host}/nothing:here")
    assert result.code == "InaccessibleImage" and f"{registry.host}/nothing:here" in result.message
    refused = store.pull(f"127.0.0.1:{free_port()}/x:y")
    assert refused.code == "RegistryErrorResponse" and "refused" in refused.message
    assert store.pull("UPPER/case").code == "InvalidImageReference"
    unknown = store.pull("registry.invalid/x")
    assert unknown.code == "RegistryErrorResponse" and "registry.invalid" in unknown.message
    assert store.pull(f"{registry.host}/x", allowLoopbackHttp=False).code == "RegistryErrorResponse"


@pytest.mark.parametrize("status,code", [(500, "RegistryErrorResponse"), (403, "InaccessibleImage"),
                                         (429, "RegistryErrorResponse"), (404, "InaccessibleImage")])
def test_statuses(fake, store, status, code):
    fake.routes["/v2/s/manifests/v1"] = lambda h: h.answer(status, b'{"errors":[{"message":"because\\u001b[31m"}]}')
    result = store.pull(f"{fake.host}/s:v1")
    assert result.code == code
    assert "because" in result.message


# --- registries that mean harm -----------------------------------------------------------------------------------------

def test_wrong_bytes_are_refused(fake, store):
    image = Image([SMALL])
    ref = fake.serve("wrong", "v1", image)
    other = Image([tar(entry("evil", b"1"))])
    fake.routes[f"/v2/wrong/blobs/{image.layers[0]}"] = other.blobs[other.layers[0]].ljust(len(image.blobs[image.layers[0]]),
                                                                                        b"\0")
    result = store.pull(ref)
    assert result.code == "ImageDigestMismatch", result
    fake.routes[f"/v2/wrong/blobs/{image.layers[0]}"] = image.blobs[image.layers[0]] + b"x"
    assert store.pull(ref).code == "ImageDigestMismatch"
    fake.routes[f"/v2/wrong/blobs/{image.layers[0]}"] = image.blobs[image.layers[0]]
    fake.routes[f"/v2/wrong/blobs/{digest(image.config)}"] = image.config.replace(b"linux", b"linus")
    assert store.pull(ref).code == "ImageDigestMismatch"
    by_digest = f"{fake.host}/wrong@{digest(b'else')}"
    fake.routes[f"/v2/wrong/manifests/{digest(b'else')}"] = lambda h: h.answer(200, image.manifest, Content_Type=OCI_MANIFEST)
    assert store.pull(by_digest).code == "ImageDigestMismatch"
    assert store.list("layers") == [] and store.list("partial") == []


def test_a_wrong_diff_id_is_refused(fake, store):
    image = Image([SMALL], diff_ids=[digest(b"something else")])
    assert store.pull(fake.serve("diff", "v1", image)).code == "ImageDigestMismatch"
    assert store.list("layers") == []


@pytest.mark.parametrize("name,change,type", [
    ("both", lambda d: d.update(manifests=[]), None),
    ("type-not-header", lambda d: d.update(mediaType=DOCKER_MANIFEST), OCI_MANIFEST),
    ("index-as-image", lambda d: d.update(mediaType=OCI_INDEX), OCI_INDEX),
    ("digest-is-a-path", lambda d: d["config"].update(digest="sha256:../../../etc/passwd"), None),
    ("artifact", lambda d: d["config"].update(mediaType="application/vnd.cncf.helm.config.v1+json"), None),
    ("config-as-layer", lambda d: d["layers"][0].update(mediaType=OCI_CONFIG), None),
    ("too-many-layers", lambda d: d.update(layers=d["layers"] * 129), None),
    ("negative-size", lambda d: d["layers"][0].update(size=-1), None),
    ("huge-size", lambda d: d["layers"][0].update(size=1 << 62), None),
    ("schema-1", lambda d: d.update(schemaVersion=1), None),
])
def test_confused_manifests_are_refused(fake, store, name, change, type):
    image = Image([SMALL])
    change(image.document)
    image.seal()
    result = store.pull(fake.serve(name, "v1", image, type))
    assert result.status == 1 and result.code in ("RegistryErrorResponse", "InaccessibleImage", "InvalidImageLayer",
                                                  "ImageTooLarge"), result
    assert store.list("layers") == []


def test_endless_answers_are_cut(fake, store):
    def endless(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", OCI_MANIFEST)
        handler.send_header("Connection", "close")
        handler.end_headers()
        try:
            for _ in range(64):
                handler.wfile.write(b" " * (1 << 20))
        except OSError:
            pass
        handler.close_connection = True
    fake.routes["/v2/e/manifests/v1"] = endless
    assert store.pull(f"{fake.host}/e:v1").code == "ImageTooLarge"
    fake.routes["/v2/d/manifests/v1"] = lambda h: h.answer(200, b"[" * 100000, Content_Type=OCI_MANIFEST)
    assert store.pull(f"{fake.host}/d:v1").code == "RegistryErrorResponse"


def test_redirects_carry_no_credentials_and_stay_outside(store, tls):
    image = Image([SMALL])
    front, back, plain = Fake(tls), Fake(tls), Fake()
    try:
        ref = front.serve("r", "v1", image)
        blob = f"/v2/r/blobs/{image.layers[0]}"
        for fake in (back, plain):
            fake.routes["/there"] = image.blobs[image.layers[0]]

        def guarded(body):
            return lambda h: (h.answer(200, body, Content_Type=OCI_MANIFEST) if h.headers.get("Authorization") else
                              h.answer(401, WWW_Authenticate='Basic realm="x"'))
        front.routes["/v2/r/manifests/v1"] = guarded(image.manifest)
        go = dict(caFile=tls[0], credentials=LOGIN)

        front.routes[blob] = lambda h: h.answer(307, Location=f"https://{back.host}/there")
        result = store.pull(ref, **go)
        assert result.status == 0, result
        assert back.requests and all("Authorization" not in r[2] for r in back.requests)
        assert any("Authorization" in r[2] for r in front.requests)
        remove_tree(store.path + "/layers")
        remove_tree(store.path + "/manifests")

        for where, reason in ((f"http://{plain.host}/there", "https"), ("https://169.254.169.254/there", "address"),
                              (f"https://user:pw@{back.host}/there", "nowhere"), ("file:///etc/passwd", "nowhere"),
                              (blob, "more than")):
            front.routes[blob] = lambda h, where=where: h.answer(302, Location=where)
            result = store.pull(ref, **go)
            assert result.code == "RegistryErrorResponse" and reason in result.message, (where, result)
        assert plain.requests == []
    finally:
        for fake in (front, back, plain):
            fake.stop()


def test_tokens_and_who_may_get_the_password(store, tls, fake):
    image = Image([SMALL])
    registry, realm = Fake(tls), Fake(tls)
    try:
        ref = registry.serve("t", "v1", image)
        for path, body in list(registry.routes.items()):
            def route(h, body=body):
                if h.headers.get("Authorization") != "Bearer good.token":
                    return h.answer(401, WWW_Authenticate=f'Bearer realm="{challenge[0]}",service="svc, x",'
                                                          'scope="repository:t:pull"')
                return body(h) if callable(body) else h.answer(200, body)
            registry.routes[path] = route
        realm.routes["/token"] = b'{"token": "good.token"}'
        challenge = [f"https://{realm.host}/token"]
        assert store.pull(ref, caFile=tls[0]).status == 0
        assert realm.requests[0][1] == "/token?service=svc%2C%20x&scope=repository%3At%3Apull"
        assert "Authorization" not in realm.requests[0][2]
        assert store.pull(ref, caFile=tls[0], credentials=LOGIN).status == 0
        assert realm.requests[-1][2]["Authorization"].startswith("Basic ")

        realm.requests.clear()
        challenge[0] = f"https://localhost:{realm.port}/token"
        strange = store.pull(ref, caFile=tls[0], credentials=LOGIN)
        assert strange.code == "RegistryErrorResponse" and "localhost" in strange.message and realm.requests == []
        assert store.pull(ref, caFile=tls[0], credentials=LOGIN, realmHosts=["localhost"]).status == 0
        realm.routes["/token"] = b'{"token": "good\\r\\nX-Evil: 1"}'
        assert store.pull(ref, caFile=tls[0], credentials=LOGIN, realmHosts=["localhost"]).code == "RegistryErrorResponse"
        for bad in ("http://169.254.169.254/token", "https://169.254.169.254/token", "file:///etc/passwd", ""):
            challenge[0] = bad
            assert store.pull(ref, caFile=tls[0], credentials=LOGIN).code == "RegistryErrorResponse", bad
    finally:
        registry.stop()
        realm.stop()


# --- layers that mean harm ---------------------------------------------------------------------------------------------

def pull_layer(fake, store, data, compressed=None, **more):
    image = Image([(data, compressed or gzip.compress(data, 1), OCI_LAYER + "+gzip")])
    return image, store.pull(fake.serve("l", "v1", image), **more)


SYM, LNK, CHR, BLK, FIFO, DIR = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
                                 tarfile.DIRTYPE)


@pytest.mark.parametrize("name,entries", [
    ("dotdot", [entry("../../escape", b"x")]),
    ("dotdot-inside", [entry("a/"), entry("a/../../escape", b"x")]),
    ("through-symlink", [entry("d", type=SYM, link="/tmp"), entry("d/escape", b"x")]),
    ("through-relative-symlink", [entry("d", type=SYM, link="../../.."), entry("d/escape", b"x")]),
    ("through-symlink-parent", [entry("d", type=SYM, link="/"), entry("d/tmp/deeper/escape", b"x")]),
    ("whiteout-through-symlink", [entry("d", type=SYM, link="/tmp"), entry("d/.wh.escape")]),
    ("hardlink-outside", [entry("l", type=LNK, link="../../../../etc/passwd")]),
    ("hardlink-absolute", [entry("l", type=LNK, link="/etc/passwd")]),
    ("hardlink-through-symlink", [entry("d", type=SYM, link="/etc"), entry("l", type=LNK, link="d/passwd")]),
    ("hardlink-other-layer", [entry("l", type=LNK, link="not/here")]),
    ("hardlink-to-dir", [entry("d/"), entry("l", type=LNK, link="d")]),
    ("hardlink-to-itself", [entry("l", b"x"), entry("l", type=LNK, link="l")]),
    ("hardlink-to-whiteout", [entry(".wh.w"), entry("l", type=LNK, link="w")]),
    ("whiteout-dotdot", [entry(".wh...")]),
    ("whiteout-empty", [entry(".wh.")]),
    ("whiteout-dot", [entry(".wh..")]),
    ("whiteout-dir", [entry(".wh.d/")]),
    ("opaque-dir", [entry(".wh..wh..opq/")]),
    ("below-whiteout", [entry(".wh.d/x", b"1")]),
    ("owner", [entry("o", b"x", uid=65536)]),
    ("group", [entry("o", b"x", gid=1 << 30)]),
    ("depth", [entry("/".join(["d"] * 129), b"x")]),
    ("long-part", [entry("n" * 256, b"x")]),
    ("root-as-file", [entry(".", b"x")]),
    ("parent-is-file", [entry("f", b"x"), entry("f/g", b"y")]),
])
def test_hostile_entries_are_refused(fake, store, name, entries):
    _, result = pull_layer(fake, store, tar(*entries))
    assert result.status == 1 and result.code == "InvalidImageLayer", result
    assert store.list("layers") == []
    for at in ("/tmp/escape", "/escape", store.path + "/escape", os.path.dirname(store.path) + "/escape"):
        assert not os.path.lexists(at)


def test_whiteouts_devices_and_attributes(fake, store):
    cap = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    data = tar(
        entry("./", mode=0o750, mtime=1234567890),
        entry("/abs", b"absolute"), entry("./d/"), entry("d/.wh.gone"), entry("o/"), entry("o/.wh..wh..opq"),
        entry(".wh..wh.plnk/"), entry(".wh..wh.plnk/1.2", b"aufs"), entry(".wh..wh.aufs", b""),
        entry("dev/null", type=CHR, dev=(1, 3)), entry("dev/sda", type=BLK, dev=(8, 0)),
        entry("dev/zero", type=CHR, dev=(0, 0)), entry("pipe", type=FIFO, mode=0o640),
        entry("suid", b"#!", mode=0o4755, uid=12, gid=34), entry("h", type=LNK, link="suid"),
        entry("x", b"x", pax={"SCHILY.xattr.security.capability": cap.decode("latin1") if False else "",
                              "SCHILY.xattr.user.mine": "1", "SCHILY.xattr.user.overlay.opaque": "y",
                              "SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.security.selinux": "z"}),
        entry("twice", b"first"), entry("twice", b"second"), entry("was-dir/"), entry("was-dir/f", b"1"),
        entry("was-dir", b"file"), entry(".wh.fresh"), entry("fresh/"), entry("kept", b"k"), entry(".wh.kept"),
        entry("s", type=SYM, link="/etc/passwd", mtime=5), entry("d/n\u00e9", b"utf-8"), entry("implicit/deep/f", b"1"))
    image, result = pull_layer(fake, store, data)
    assert result.status == 0, result
    at = lambda *n: store.layer(image.diff_ids[0], *n)
    root = os.stat(at())
    assert root.st_mode & 0o7777 == 0o750 and root.st_mtime == 1234567890
    assert open(at("abs")).read() == "absolute"
    gone = os.lstat(at("d/gone"))
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(at("o"), "user.overlay.opaque") == b"y" and os.listdir(at("o")) == []
    assert os.stat(at("o")).st_mtime == 1000000000
    assert sorted(os.listdir(at())) == sorted(["abs", "d", "o", "pipe", "suid", "h", "x", "twice", "was-dir", "fresh",
                                               "kept", "s", "implicit"])
    assert stat.S_ISFIFO(os.lstat(at("pipe")).st_mode) and os.lstat(at("pipe")).st_mode & 0o777 == 0o640
    suid = os.stat(at("suid"))
    assert suid.st_mode & 0o7777 == 0o4755 and suid.st_nlink == 2
    assert (suid.st_uid, suid.st_gid) == (STORE_UID + 12, STORE_UID + 34)
    assert os.listxattr(at("x")) == ["user.mine"]
    assert open(at("twice")).read() == "second" and open(at("was-dir")).read() == "file"
    assert os.getxattr(at("fresh"), "user.overlay.opaque") == b"y"
    assert open(at("kept")).read() == "k"
    assert os.readlink(at("s")) == "/etc/passwd" and os.lstat(at("s")).st_mtime == 5
    assert open(at("d/n\u00e9")).read() == "utf-8"
    assert os.stat(at("implicit/deep")).st_mode & 0o7777 == 0o755


def test_a_file_capability_is_kept_for_the_namespace(fake, store):
    cap = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    record = b"SCHILY.xattr.security.capability=" + cap + b"\n"
    length = len(record) + 3
    body = str(length).encode() + b" " + record
    assert len(body) == length
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(body)
    data = header.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0") + tar(entry("ping", b"x", mode=0o755),
                                                                              format=tarfile.USTAR_FORMAT)
    image, result = pull_layer(fake, store, data)
    assert result.status == 0, result
    value = os.getxattr(store.layer(image.diff_ids[0], "ping"), "security.capability")
    assert value[3] == 3 and struct.unpack("<I", value[20:])[0] == STORE_UID and value[4:8] == cap[4:8]


def sparse_header(size):
    """A GNU sparse file of which nothing is there."""
    info = tarfile.TarInfo("sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[386:398] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    raw[398:410] = tarfile.itn(0, 12, tarfile.GNU_FORMAT)
    raw[483:495] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw) + b"\0" * 1024


def test_bombs_end_early(fake, store):
    zeros = tar(entry("z", b"\0" * (96 << 20)))
    member = gzip.compress(zeros, 9)
    small = {"limits": {"bytes": 32 << 20}}
    assert pull_layer(fake, store, zeros, member, **small)[1].code == "ImageTooLarge"
    many = tar(*[entry(f"f{i}") for i in range(300)])
    assert pull_layer(fake, store, many, limits={"entries": 200})[1].code == "ImageTooLarge"
    assert pull_layer(fake, store, sparse_header(1 << 45))[1].code == "ImageTooLarge"
    # zstd goes far beyond what gzip can
    image = Image([(zeros, zstd(zeros), OCI_LAYER + "+zstd")])
    assert store.pull(fake.serve("z", "v1", image)).code == "ImageTooLarge"
    # data behind the end of the archive is bounded as well
    behind = tar(entry("f", b"1")) + b"\0" * (72 << 20)
    assert pull_layer(fake, store, behind, gzip.compress(behind, 9), limits={"bytes": 1 << 20, "entries": 10})[1].code == \
        "ImageTooLarge"
    assert store.list("layers") == []


def test_a_huge_pax_header_and_broken_streams_are_refused(fake, store):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 4 << 30
    data = header.tobuf(tarfile.PAX_FORMAT) + b"1" * (2 << 20)
    assert pull_layer(fake, store, data)[1].code == "InvalidImageLayer"
    good = gzip.compress(SMALL)
    for broken in (good[:-20], good + b"garbage", good[:50] + b"\xff\xff\xff" + good[53:], zstd(SMALL)[:-3]):
        assert pull_layer(fake, store, SMALL, broken)[1].code == "InvalidImageLayer"
    assert pull_layer(fake, store, b"not a tar" * 1000)[1].code == "InvalidImageLayer"


# --- import ------------------------------------------------------------------------------------------------------------

def tree_to_tar(folder, path):
    with tarfile.open(path, "w") as t:
        t.add(folder, arcname=".")


def test_layout_folders_and_archives_are_imported(store, folder):
    image = Image([busybox_layer(), SMALL])
    layout = folder + "/layout-import"
    write_layout(layout, image, "example.com/app:v1")
    result = store.import_(layout)
    assert result.status == 0 and result.done["reference"] == "example.com/app:v1", result
    assert result.done["digest"] == image.digest
    tree_to_tar(layout, layout + ".tar")
    result = store.import_(layout + ".tar", "other/name")
    assert result.status == 0 and result.done["reference"] == "docker.io/other/name:latest", result
    remove_tree(store.path + "/layers")
    with open(layout + ".tar", "rb") as f, gzip.open(layout + ".tgz", "wb", 1) as out:
        out.write(f.read())
    assert store.import_(layout + ".tgz").status == 0
    assert len(store.list("layers")) == 2


def test_what_skopeo_saves_for_docker_is_imported(store, folder):
    image = Image([busybox_layer(), SMALL])
    write_layout(folder + "/save-layout", image, "v1")
    path = folder + "/saved.tar"
    subprocess.run(["skopeo", "copy", "-q", "--insecure-policy", f"oci:{folder}/save-layout:v1",
                    f"docker-archive:{path}:example.com/saved:v2"], check=True)
    os.chmod(path, 0o644)
    result = store.import_(path)
    assert result.status == 0 and result.done["reference"] == "example.com/saved:v2", result
    assert store.list("layers") == sorted(d[7:] for d in image.diff_ids)


def test_old_docker_archives_with_linked_layers(store, folder):
    layers = [SMALL, tar(entry("o", b"o"))]
    config = Image(layers + [SMALL]).config
    path = folder + "/old.tar"
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["old:v1"],
                            "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}]).encode()
    with open(path, "wb") as f:
        f.write(tar(entry("a/"), entry("a/layer.tar", layers[0]), entry("b/layer.tar", layers[1]),
                    entry("c/layer.tar", type=SYM, link="../a/layer.tar"), entry("c.json", config),
                    entry("manifest.json", manifest)))
    result = store.import_(path)
    assert result.status == 0 and result.done["reference"] == "docker.io/library/old:v1", result
    assert store.record(result)["layers"] == [digest(layers[1])[7:], digest(layers[0])[7:]]


def test_hostile_archives_are_refused(store, folder):
    path = folder + "/hostile.tar"
    cases = {
        "empty": tar(entry("x", b"1")),
        "climbs": tar(entry("../x", b"1")),
        "link out": tar(entry("index.json", type=SYM, link="/etc/passwd"), entry("manifest.json", type=SYM, link="../../x")),
        "link loop": tar(entry("manifest.json", type=SYM, link="manifest.json")),
        "no blobs": tar(entry("index.json", json.dumps({"schemaVersion": 2, "manifests": [Image([SMALL]).descriptor()]}).encode())),
        "not a tar": b"hello" * 200,
        "layers of nothing": tar(entry("manifest.json", b'[{"Config":"../../etc/passwd","RepoTags":["x:y"],"Layers":["/etc/passwd"]}]')),
        "not an object": tar(entry("manifest.json", b'[1]')),
        "null": tar(entry("manifest.json", b'[{"Config":null,"RepoTags":null,"Layers":[null]}]')),
    }
    for name, data in cases.items():
        with open(path, "wb") as f:
            f.write(data)
        result = store.import_(path, "x:y")
        assert result.status == 1 and result.code in ("InvalidImageLayer", "InvalidImageReference"), (name, result)
    layout = folder + "/evil-layout"
    image = Image([SMALL])
    write_layout(layout, image, "x:y")
    blob = f"{layout}/blobs/sha256/{image.layers[0][7:]}"
    os.unlink(blob)
    os.symlink("/etc/passwd", blob)
    assert store.import_(layout).code == "InvalidImageLayer"


# --- the cage ----------------------------------------------------------------------------------------------------------

def test_the_worker_has_no_new_privileges_and_a_filter(fake, store):
    image, log = Image([tar(entry("big", os.urandom(2 << 20)))]), []
    ref = fake.serve("cage", "v1", image)
    fake.routes[f"/v2/cage/blobs/{image.layers[0]}"] = slow_blob(image.blobs[image.layers[0]], log)
    pid, out = start_worker(store.job(ref), store.path)
    time.sleep(0.4)
    with open(f"/proc/{pid}/status") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    os.kill(pid, signal.SIGTERM)
    finish_worker(pid, out)
    assert status["NoNewPrivs"] == "1"
    if "address" not in os.environ.get("BERTH_SANITIZE", ""):
        assert status["Seccomp"] == "2"
    assert status["Uid"].split() == [str(STORE_UID)] * 4
