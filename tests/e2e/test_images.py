"""Images: registries that work, refuse, break or lie; archives; the cache."""
import base64
import http.server
import json
import os
import subprocess
import threading
import time
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

import pull_lib as lib
from harness import BUILD, Berth, Registry, eventually, free_port, make_certificate, run, view

SH = ["/bin/sh", "-c"]
ALICE = ("alice", "s3cret-pass")


@pytest.fixture(scope="module")
def berth(workdir, private_registry):
    """A Berth of this file's own, which tries again soon."""
    berth = Berth(workdir / "i", settings={"registry_ca": private_registry.ca, "restart_backoff_ms": 500, "stop_grace_ms": 0})
    berth.up()
    yield berth
    berth.purge()


@pytest.fixture(scope="module")
def certificate(workdir, private_registry):
    """For servers on two hosts, from an authority that Berth trusts."""
    folder = workdir / "certificate"
    folder.mkdir()
    return make_certificate(folder, private_registry.ca, private_registry.folder / "ca.key", "127.0.0.1", "127.0.0.2")


def failure(berth, group, name, image, **kwargs):
    """Creates a group whose image can't be had; returns the reason that it shows."""
    started = time.monotonic()
    made = berth.create(group, name, image, policy="Never", **kwargs)
    assert made["properties"]["provisioningState"] == "Failed", made
    assert time.monotonic() - started < 25
    messages = [e["message"] for e in view(made)["events"] if e["name"] == "Failed"]
    assert messages, view(made)
    assert image.split(":")[0] in messages[-1]
    return messages[-1]


def test_an_image_that_does_not_exist(berth, registry, group):
    message = failure(berth, group, "absent", registry.ref("nothing:1"))
    assert f"'{registry.address}' does not have it" in message


def test_a_reason_is_told_within_a_second_of_knowing_it(berth, fake, group):
    answered = []

    def slowly(handler):
        time.sleep(0.3)
        answered.append(time.monotonic())
        handler.answer(404)
    fake.routes["/v2/slow/manifests/1"] = slowly
    berth.create(group, "slow", f"{fake.host}/slow:1", wait=False)
    berth.wait(group, "slow", lambda g: [e for e in view(g).get("events", []) if e["name"] == "Failed"])
    assert time.monotonic() - answered[0] < 1


def test_az_prints_the_reason(berth, registry, group, workdir):
    env = berth.az_env(workdir / "images-home")
    result = run("az", "container", "create", "-g", group, "-n", "az", "--image", registry.ref("nothing:3"), "--os-type", "Linux",
                 "--cpu", "1", "--memory", "1", env=env, check=False)
    assert result.returncode != 0
    assert registry.ref("nothing:3") in result.stderr and "does not have it" in result.stderr, result.stderr


def test_the_operation_says_why(berth, registry, group):
    answer = berth.call("PUT", berth.group_id(group, "op"), {
        "location": "local", "properties": {"osType": "Linux", "containers": [{"name": "op", "properties": {
            "image": registry.ref("nothing:2"), "resources": {"requests": {"cpu": 1, "memoryInGB": 1}}}}]}})
    assert answer.status == 201
    operation = answer.headers["Azure-AsyncOperation"]
    done = eventually(lambda: (lambda o: o if o["status"] == "Failed" else None)(
        berth.call("GET", operation, version=None).json))
    assert registry.ref("nothing") in done["error"]["message"]


def test_a_registry_that_is_down(berth, group):
    message = failure(berth, group, "down", f"127.0.0.1:{free_port()}/x:1")
    assert "refused" in message.lower() or "connect" in message.lower()


def test_a_registry_comes_back_and_a_retry_succeeds(berth, registry, group):
    registry.stop()
    try:
        failure(berth, group, "retry", registry.ref("busybox:late"))
    finally:
        registry.start()
    run("skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false",
        f"docker://{registry.ref('busybox:1')}", f"docker://{registry.ref('busybox:late')}")
    group = berth.wait(group, "retry", lambda g: g["properties"]["provisioningState"] == "Succeeded")
    assert [e["name"] for e in view(group)["events"]] == ["Pulling", "Failed", "BackOff", "Pulled", "Created", "Started"]


def test_tls_and_a_password(berth, private_registry, group):
    image = private_registry.ref("busybox:1")
    name, password = private_registry.user
    refused = failure(berth, group, "nologin", image)
    assert "401" in refused or "credential" in refused.lower() or "unauthorized" in refused.lower()
    failure(berth, group, "badlogin", image,
            credentials={"server": private_registry.address, "username": name, "password": "wrong"})
    made = berth.create(group, "login", image, [*SH, "sleep 1000"],
                        credentials={"server": private_registry.address, "username": name, "password": password})
    assert made["properties"]["provisioningState"] == "Succeeded"
    assert made["properties"]["imageRegistryCredentials"] == [{"server": private_registry.address, "username": name}]
    assert password not in json.dumps(made)
    # What one tenant may use is not another's: the cached image needs a password again.
    failure(berth, group, "stolen", image)


class Liar(http.server.BaseHTTPRequestHandler):
    """A registry that answers with what the test put into `pages`: path → (status, headers, body)."""
    pages = {}

    def do_GET(self):
        status, headers, body = self.pages.get(self.path, (404, {}, b"{}"))
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def liar():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    Liar.pages = {"/v2/": (200, {}, b"{}")}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def manifest_of(config_digest, layer_digest, size=10):
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST,
                       "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": 2},
                       "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer_digest,
                                   "size": size}]}).encode()


def sha(data):
    import hashlib
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_a_manifest_that_is_not_its_digest(berth, liar, group):
    wrong = sha(b"something else")
    Liar.pages["/v2/x/manifests/" + wrong] = (200, {"Content-Type": MANIFEST}, manifest_of(sha(b"{}"), sha(b"l")))
    message = failure(berth, group, "digest", f"{liar}/x@{wrong}")
    assert "digest" in message


def test_a_layer_that_is_not_what_it_says(berth, liar, group):
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha(b"tar")]},
                         "config": {"Cmd": ["/x"]}}).encode()
    layer = b"not gzip at all"
    body = json.loads(manifest_of(sha(config), sha(layer), len(layer)))
    body["config"]["size"] = len(config)
    manifest = json.dumps(body).encode()
    Liar.pages["/v2/x/manifests/1"] = (200, {"Content-Type": MANIFEST, "Docker-Content-Digest": sha(manifest)}, manifest)
    Liar.pages["/v2/x/blobs/" + sha(config)] = (200, {}, config)
    Liar.pages["/v2/x/blobs/" + sha(layer)] = (200, {}, layer)
    failure(berth, group, "layer", f"{liar}/x:1")
    leftovers = list((berth.state / "node/images/staging").iterdir())
    assert not leftovers


@pytest.fixture
def fake():
    fake = lib.Fake()
    yield fake
    fake.stop()


def runs_after_a_retry(berth, group, name):
    berth.wait(group, name, lambda g: g["properties"]["provisioningState"] == "Succeeded")
    return berth.wait(group, name, lambda g: g["properties"]["instanceView"]["state"] == "Running")


def busybox(*more):
    return lib.Image([lib.busybox_layer(), *more], config={"Cmd": ["/bin/sh", "-c", "while true; do /bin/busybox sleep 1; done"]})


def test_a_registry_that_is_repaired(berth, fake, group):
    image = busybox()
    ref = fake.serve("broken", "1", image)
    blob = f"/v2/broken/blobs/{image.layers[0]}"
    fake.routes[blob] = b"x" * len(image.blobs[image.layers[0]])
    message = failure(berth, group, "broken", ref)
    assert "digest" in message
    fake.routes[blob] = lambda h: h.answer(500, b'{"errors":[{"message":"the disk is on fire"}]}')
    berth.wait(group, "broken", lambda g: "the disk is on fire" in view(g)["events"][-1]["message"])
    images = berth.state / "node/images"
    assert [list((images / folder).iterdir()) for folder in ("staging", "partial", "layers")] == [[], [], []] or \
        image.diff_ids[0][7:] not in os.listdir(images / "layers")
    fake.routes[blob] = image.blobs[image.layers[0]]
    runs_after_a_retry(berth, group, "broken")


def paced(data, log, cut=None):
    """A blob, slowly; the connection breaks after `cut` bytes."""
    def route(handler):
        start = int(handler.headers["Range"][6:-1]) if handler.headers.get("Range") else 0
        log.append(start)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        end = cut or len(data)
        for at in range(start, end, 65536):
            handler.wfile.write(data[at:min(at + 65536, end)])
            time.sleep(0.01)
        if cut:
            handler.server.shutdown_now()
            handler.close_connection = True
            handler.connection.close()
    return route


def test_a_registry_that_dies_midway(berth, group):
    image, log = busybox(lib.tar(lib.entry("big", os.urandom(4 << 20)))), []
    fake = lib.Fake()
    fake.server.shutdown_now = fake.server.socket.close  # nobody answers any more
    ref = fake.serve("dying", "1", image)
    blob = f"/v2/dying/blobs/{image.layers[1]}"
    fake.routes[blob] = paced(image.blobs[image.layers[1]], log, cut=3 << 20)
    message = failure(berth, group, "dying", ref)
    assert "refused" in message and fake.host in message
    fake.stop()
    again = lib.Fake(port=fake.port)
    try:
        again.routes = {**fake.routes, blob: paced(image.blobs[image.layers[1]], log)}
        runs_after_a_retry(berth, group, "dying")
    finally:
        again.stop()
    assert log[0] == 0 and len(log) == 2 and log[1] > 2 << 20, "what had come was not fetched again"


def test_a_pull_is_shared(berth, fake, group):
    image, log = busybox(lib.tar(lib.entry("big", os.urandom(4 << 20)))), []
    ref = fake.serve("shared", "1", image)
    fake.routes[f"/v2/shared/blobs/{image.layers[1]}"] = paced(image.blobs[image.layers[1]], log)
    for name in ("one", "two"):
        berth.create(group, name, ref, wait=False)
    eventually(lambda: log)
    with subprocess.Popen([BUILD / "berth", "image", "pull", ref, "--state", berth.state], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as third:
        for name in ("one", "two"):
            runs_after_a_retry(berth, group, name)
        assert third.wait(20) == 0
    assert log == [0]


def test_blobs_on_another_host(berth, certificate, group):
    """A registry may send the client elsewhere for the blobs, and the password stays behind."""
    front, back = lib.Fake(certificate), lib.Fake(certificate, address="127.0.0.2")
    basic = "Basic " + base64.b64encode(":".join(ALICE).encode()).decode()
    image = busybox()
    try:
        ref = front.serve("moved", "1", image)
        for path, body in list(front.routes.items()):
            def route(handler, path=path, body=body):
                if handler.headers.get("Authorization") != basic:
                    handler.answer(401, WWW_Authenticate='Basic realm="x"')
                elif "/blobs/" in path:
                    handler.answer(307, Location=f"https://{back.host}/store{path}?signature=1")
                else:
                    body(handler)
            front.routes[path] = route
        login = {"server": front.host, "username": ALICE[0], "password": ALICE[1]}
        message = failure(berth, group, "moved", ref, credentials=login)
        assert front.host in message and "does not have it" in message
        back.routes = {f"/store/v2/moved/blobs/{d}": data for d, data in image.blobs.items()}
        runs_after_a_retry(berth, group, "moved")
        assert back.requests and all("Authorization" not in headers for _, _, headers in back.requests)
        assert all(path.endswith("?signature=1") for _, path, _ in back.requests)
    finally:
        front.stop()
        back.stop()


# --- a registry with a token server ------------------------------------------------------------------------------------

def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token_for(certificate, user, scope):
    """A token as docker-registry wants it: signed by a certificate of the authority that it was told."""
    key = serialization.load_pem_private_key(open(certificate[1], "rb").read(), None)
    chain = x509.load_pem_x509_certificate(open(certificate[0], "rb").read()).public_bytes(serialization.Encoding.DER)
    kind, name, actions = scope.split(":") if scope else ("", "", "")
    allowed = user == ALICE or name == "open"
    now = int(time.time())
    header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(chain).decode()]}
    claims = {"iss": "test issuer", "aud": "test service", "sub": user[0] if user else "", "jti": str(now), "iat": now,
              "nbf": now - 10, "exp": now + 300,
              "access": [{"type": kind, "name": name, "actions": actions.split(",")}] if allowed else []}
    text = encode(json.dumps(header).encode()) + "." + encode(json.dumps(claims).encode())
    r, s = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return text + "." + encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


@pytest.fixture(scope="module")
def token_registry(workdir, certificate, private_registry, images):
    """docker-registry with a token server: the repository `open` is for anyone to pull, the others are alice's."""
    server = lib.Fake(certificate)

    def token(handler):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(handler.path).query))
        login = handler.headers.get("Authorization", "")
        user = tuple(base64.b64decode(login[6:]).decode().split(":", 1)) if login.startswith("Basic ") else None
        if user not in (None, ALICE):
            return handler.answer(401)
        handler.answer(200, json.dumps({"token": token_for(certificate, user, query.get("scope"))}).encode())
    server.routes["/token"] = token
    auth = {"token": {"realm": f"https://{server.host}/token", "service": "test service", "issuer": "test issuer",
                      "rootcertbundle": private_registry.ca}}
    with Registry(workdir / "tokens", user=ALICE, auth=auth, tls=certificate) as registry:
        registry.push(images["busybox"], "open:1")
        registry.push(images["busybox"], "closed:1")
        registry.server = server
        yield registry
    server.stop()


def test_tokens(berth, token_registry, group):
    closed = token_registry.ref("closed:1")
    login = {"server": token_registry.address, "username": ALICE[0], "password": ALICE[1]}
    made = berth.create(group, "anyone", token_registry.ref("open:1"), [*SH, "sleep 1000"])
    assert made["properties"]["provisioningState"] == "Succeeded", view(made)
    message = failure(berth, group, "nologin", closed)
    assert f"'{token_registry.address}'" in message and "credentials" in message
    message = failure(berth, group, "badlogin", closed, credentials={**login, "password": "wrong"})
    assert "refuses the credentials" in message
    made = berth.create(group, "login", closed, [*SH, "sleep 1000"], credentials=login)
    assert made["properties"]["provisioningState"] == "Succeeded", view(made)
    failure(berth, group, "stolen", closed)


def test_a_redirect_to_another_host_is_not_followed_blindly(berth, liar, group):
    Liar.pages["/v2/x/manifests/1"] = (307, {"Location": "http://169.254.169.254/latest/meta-data"}, b"")
    message = failure(berth, group, "redirect", f"{liar}/x:1")
    assert "redirect" in message.lower() or "169.254" in message


def test_an_import_needs_no_registry(berth, registry, images, group):
    berth.berth("image", "import", str(images["busybox"]), "--name", "local.test/tools:1")
    listed = berth.berth("image", "list").stdout
    assert "local.test/tools:1" in listed
    made = berth.create(group, "imported", "local.test/tools:1", [*SH, "sleep 1000"])
    assert made["properties"]["provisioningState"] == "Succeeded"
    cached = berth.get("/providers/Microsoft.ContainerInstance/locations/local/cachedImages")["value"]
    assert "local.test/tools:1" in [i["image"] for i in cached]
    berth.call("DELETE", berth.group_id(group, "imported"))
    berth.berth("image", "remove", "local.test/tools:1")
    assert "local.test/tools:1" not in berth.berth("image", "list").stdout
    pulled = berth.berth("image", "pull", registry.ref("hello:1"))
    assert "@sha256:" in pulled.stdout
