"""What the tests of berth-pull stand on: images made by hand, real registries, fake ones, and the worker in its user namespace."""
import base64
import ctypes
import fcntl
import gzip
import hashlib
import http.server
import io
import json
import os
import platform as machine
import shutil
import signal
import socket
import ssl
import subprocess
import tarfile
import threading
import time
import urllib.request

BUILD = os.environ.get("BERTH_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))
WORKER = os.path.abspath(os.path.join(BUILD, "berth-pull"))
STORE_UID = 1 << 28
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[machine.machine()]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(data, algorithm="sha256"):
    return algorithm + ":" + hashlib.new(algorithm, data).hexdigest()


# --- layers and images -------------------------------------------------------------------------------------------------

def entry(name, data=b"", type=None, mode=None, uid=0, gid=0, link="", mtime=1000000000, pax=None, dev=(0, 0)):
    info = tarfile.TarInfo(name)
    info.type = type or tarfile.REGTYPE
    if name.endswith("/") and type is None:
        info.type = tarfile.DIRTYPE
    info.mode = mode if mode is not None else (0o755 if info.type == tarfile.DIRTYPE else 0o644)
    info.uid, info.gid, info.linkname, info.mtime = uid, gid, link, mtime
    info.devmajor, info.devminor = dev
    info.size = len(data) if info.type == tarfile.REGTYPE else 0
    info.pax_headers = pax or {}
    return info, data


def tar(*entries, format=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as t:
        for info, data in entries:
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


class Image:
    """Blobs and manifests; layers is a list of (tar, compressed bytes, media type)."""

    def __init__(self, layers, config=None, docker=False, os_="linux", arch=ARCH, diff_ids=None, media_type=True):
        self.blobs = {}
        layers = [l if isinstance(l, tuple) else (l, gzip.compress(l, mtime=0), OCI_LAYER + "+gzip") for l in layers]
        doc = {"os": os_, "architecture": arch, "config": config or {"Cmd": ["/bin/sh"]},
               "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest(t) for t, _, _ in layers]}}
        self.config = json.dumps(doc).encode()
        self.diff_ids = doc["rootfs"]["diff_ids"]
        self.layers = [self.add(c) for _, c, _ in layers]
        self.document = {
            "schemaVersion": 2,
            "config": {"mediaType": DOCKER_CONFIG if docker else OCI_CONFIG, "digest": self.add(self.config),
                       "size": len(self.config)},
            "layers": [{"mediaType": DOCKER_LAYER if docker else t, "digest": digest(c), "size": len(c)}
                       for _, c, t in layers]}
        self.type = DOCKER_MANIFEST if docker else OCI_MANIFEST
        if media_type:
            self.document["mediaType"] = self.type
        self.seal()

    def add(self, data):
        self.blobs[digest(data)] = data
        return digest(data)

    def seal(self):
        self.manifest = json.dumps(self.document).encode()
        self.digest = digest(self.manifest)

    def descriptor(self, **more):
        return {"mediaType": self.type, "digest": self.digest, "size": len(self.manifest), **more}


def index_of(*pairs):
    """An OCI index over (image, platform)."""
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX,
                       "manifests": [i.descriptor(platform=p) for i, p in pairs]}).encode()


def write_layout(folder, image, name=None, extra_index=None):
    os.makedirs(os.path.join(folder, "blobs/sha256"))
    blobs = dict(image.blobs)
    blobs[image.digest] = image.manifest
    for d, data in blobs.items():
        with open(os.path.join(folder, "blobs/sha256", d[7:]), "wb") as f:
            f.write(data)
    notes = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
    with open(os.path.join(folder, "index.json"), "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [image.descriptor(**notes)]}, f)
    with open(os.path.join(folder, "oci-layout"), "w") as f:
        f.write('{"imageLayoutVersion": "1.0.0"}')


def busybox_layer():
    with open("/bin/busybox", "rb") as f:
        program = f.read()
    links = [entry("bin/" + n, type=tarfile.SYMTYPE, link="busybox", mode=0o777) for n in ("sh", "ls", "cat")]
    return tar(entry("bin/"), entry("bin/busybox", program, mode=0o755), *links, entry("etc/"),
               entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"), entry("tmp/", mode=0o1777))


# --- registries --------------------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def make_certificate(folder, names=("127.0.0.1", "localhost")):
    """A self-signed certificate that is its own authority; (cert, key)."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    san = ",".join(("IP:" if n[0].isdigit() else "DNS:") + n for n in names)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=" + names[0], "-addext", "subjectAltName=" + san, "-keyout", key, "-out", cert],
                   check=True, stderr=subprocess.DEVNULL)
    os.chmod(cert, 0o644)
    return cert, key


class Registry:
    """Debian's docker-registry on a free port of loopback."""

    def __init__(self, folder, tls=None, users=None):
        os.makedirs(folder)
        self.port = free_port()
        self.host = "127.0.0.1:%d" % self.port
        self.tls, self.users = tls, users
        config = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": os.path.join(folder, "data")}},
                  "http": {"addr": self.host}, "log": {"level": "error", "accesslog": {"disabled": True}}}
        if tls:
            config["http"]["tls"] = {"certificate": tls[0], "key": tls[1]}
        if users:
            path = os.path.join(folder, "htpasswd")
            for i, (name, password) in enumerate(users.items()):
                subprocess.run(["htpasswd", "-Bb" + ("c" if i == 0 else ""), path, name, password], check=True,
                               stderr=subprocess.DEVNULL)
            config["auth"] = {"htpasswd": {"realm": "test", "path": path}}
        path = os.path.join(folder, "config.json")
        with open(path, "w") as f:
            json.dump(config, f)
        self.log = open(os.path.join(folder, "log"), "w")
        self.process = subprocess.Popen(["docker-registry", "serve", path], stdout=self.log, stderr=self.log)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.log.close()

    def call(self, method, url, data=None, type=None):
        if url.startswith("/"):
            url = ("https" if self.tls else "http") + "://" + self.host + url
        request = urllib.request.Request(url, data=data, method=method)
        if type:
            request.add_header("Content-Type", type)
        if self.users:
            name, password = next(iter(self.users.items()))
            request.add_header("Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode())
        context = ssl._create_unverified_context() if self.tls else None
        return urllib.request.urlopen(request, timeout=30, context=context)

    def push_blob(self, name, data):
        where = self.call("POST", f"/v2/{name}/blobs/uploads/", b"").headers["Location"]
        self.call("PUT", where + ("&" if "?" in where else "?") + "digest=" + digest(data), data, "application/octet-stream")

    def push(self, name, tag, image):
        for data in image.blobs.values():
            self.push_blob(name, data)
        self.call("PUT", f"/v2/{name}/manifests/{tag}", image.manifest, image.type)
        return f"{self.host}/{name}:{tag}"


class Fake:
    """A registry that answers as a test tells it: routes maps a path to bytes, or to a function of the handler."""

    def __init__(self, tls=None, address="127.0.0.1", port=0):
        fake = self
        self.routes, self.requests = {}, []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                fake.requests.append((self.command, self.path, dict(self.headers)))
                route = fake.routes.get(self.path.split("?")[0])
                if route is None:
                    return self.answer(404, b'{"errors":[{"code":"X","message":"no such thing"}]}')
                if callable(route):
                    return route(self)
                self.answer(200, route)

            do_HEAD = do_GET

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                headers.setdefault("Content_Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((address, port), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.host = f"{address}:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def serve(self, name, tag, image, type=None):
        for d, data in image.blobs.items():
            self.routes[f"/v2/{name}/blobs/{d}"] = data
        self.serve_manifest(name, tag, image.manifest, type or image.type)
        return f"{self.host}/{name}:{tag}"

    def serve_manifest(self, name, tag, body, type):
        route = lambda h: h.answer(200, body, Content_Type=type)
        self.routes[f"/v2/{name}/manifests/{tag}"] = route
        self.routes[f"/v2/{name}/manifests/{digest(body)}"] = route
        return f"{self.host}/{name}:{tag}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


# --- the worker --------------------------------------------------------------------------------------------------------

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWIPC = 0x10000000, 0x00020000, 0x08000000


def start_worker(job, store, archive=None):
    """berth-pull as berth-node starts it: (pid, read end of its lines)."""
    job_r, job_w = os.pipe()
    out_r, out_w = os.pipe()
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()
    store_fd = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
    archive_fd = os.open(archive, os.O_RDONLY) if archive else -1
    pid = os.fork()
    if pid == 0:
        try:
            if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC) != 0:
                os._exit(99)
            os.write(ready_w, b"x")
            os.read(go_r, 1)
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            fds = [job_r, out_w, 2, store_fd] + ([archive_fd] if archive else [])
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 50) for fd in fds]
            for i, fd in enumerate(high):
                os.dup2(fd, i)
            os.closerange(len(fds), 200)
            os.chdir(store)
            os.execve(WORKER, [WORKER], {"LC_ALL": "C.UTF-8", "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")})
        finally:
            os._exit(98)
    for fd in (job_r, out_w, ready_w, go_r, store_fd, archive_fd):
        if fd >= 0:
            os.close(fd)
    os.read(ready_r, 1)
    for kind in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{kind}", "w") as f:
            f.write(f"0 {STORE_UID} 65536")
    os.write(go_w, b"x")
    os.close(go_w)
    os.close(ready_r)
    os.write(job_w, json.dumps(job).encode())
    os.close(job_w)
    return pid, out_r


class Result:
    def __init__(self, status, lines):
        self.status = status
        self.lines = lines
        last = lines[-1] if lines else {}
        self.done = last if last.get("event") == "done" else None
        self.error = last if last.get("event") == "error" else None
        self.code = self.error["code"] if self.error else None
        self.message = self.error["message"] if self.error else None

    def __repr__(self):
        return f"<{self.status} {self.lines[-1] if self.lines else None}>"

    def whats(self):
        return {l["layer"]: l["what"] for l in self.lines if l["event"] == "progress"}


def finish_worker(pid, out_r, timeout=60):
    timer = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
    timer.start()
    with os.fdopen(out_r) as f:
        lines = [json.loads(l) for l in f if l.endswith("\n")]
    _, status = os.waitpid(pid, 0)
    timer.cancel()
    return Result(os.waitstatus_to_exitcode(status), lines)


class Store:
    def __init__(self, path):
        self.path = path
        os.makedirs(path, 0o755)
        os.chown(path, STORE_UID, STORE_UID)

    def job(self, reference, **more):
        return {"op": "pull", "reference": reference, "platform": {"os": "linux", "architecture": ARCH},
                "credentials": None, "allowLoopbackHttp": True, "always": False, "knownDigest": None, **more}

    def pull(self, reference, timeout=60, **more):
        return finish_worker(*start_worker(self.job(reference, **more), self.path), timeout)

    def import_(self, archive, reference=None, **more):
        job = {"op": "import", "reference": reference, "platform": {"os": "linux", "architecture": ARCH}, **more}
        return finish_worker(*start_worker(job, self.path, archive))

    def list(self, sub):
        return sorted(os.listdir(os.path.join(self.path, sub)))

    def layer(self, diff_id, *names):
        return os.path.join(self.path, "layers", diff_id[7:], *names)

    def record(self, result):
        with open(os.path.join(self.path, result.done["manifest"])) as f:
            return json.load(f)

    def assert_clean(self):
        """Nothing is left of running work."""
        assert self.list("staging") == []


def remove_tree(path):
    shutil.rmtree(path, ignore_errors=True)
