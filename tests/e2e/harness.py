"""What the end-to-end tests share: a Berth, a registry, az, and plain requests."""
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
API = "2023-05-01"
_names = itertools.count(1)


def free_port():
    """Free, as is the one ten above it (a Berth's DNS), and not among those that connections get."""
    for port in random.sample(range(10000, 30000), 200):
        try:
            for kind, number in ((socket.SOCK_STREAM, port), (socket.SOCK_STREAM, port + 10), (socket.SOCK_DGRAM, port + 10)):
                with socket.socket(socket.AF_INET, kind) as s:
                    s.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")


def run(*argv, check=True, timeout=120, **kwargs):
    result = subprocess.run([str(a) for a in argv], text=True, capture_output=True, timeout=timeout, **kwargs)
    if check and result.returncode != 0:
        raise AssertionError(f"{argv} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return result


def eventually(condition, timeout=20, step=0.05):
    """Calls until the answer is true; returns it. Fails with the last answer."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            assert value, f"still {value!r} after {timeout} s"
            return value
        time.sleep(step)


def busybox_image(workdir, name="busybox", programs=(), cmd=("sh",)):
    """An OCI archive NAME:1 of busybox and the named programs, in /bin."""
    out = workdir / f"{name}.tar"
    applets = ("sh", "sleep", "echo", "cat", "id", "ls", "wget", "nslookup", "httpd", "nc", "seq", "dd", "ps", "kill",
               "true", "false", "env", "hostname", "ip", "mount", "touch", "rm", "mkdir", "head", "tail", "grep",
               "date", "ping", "trap", "usleep", "md5sum", "yes", "tr", "stat", "chown", "timeout", "netstat", "readlink")
    links = [f"--link=/bin/{a}=busybox" for a in applets]
    files = ["--file=/bin/busybox=/bin/busybox", *(f"--file=/bin/{p.name}={p}" for p in programs)]
    # Also the folder /tmp, which the real one has.
    for place, text in (("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n"),
                        ("etc/group", "root:x:0:\nweb:x:1000:\n"), ("tmp/.keep", "")):
        path = workdir / pathlib.Path(place).name
        path.write_text(text)
        files.append(f"--file=/{place}={path}")
    run("/usr/bin/python3", ROOT / "tools/oci_image.py", out, "--ref", f"{name}:1", *files, *links,
        *[f"--cmd={word}" for word in cmd])
    return out


def node_env(ca, **more):
    """What a program for node gets. Debian's node 18 has the SDK's `crypto` only when asked."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "NODE_EXTRA_CA_CERTS": str(ca), **more}
    if run("node", "--version").stdout.startswith("v18."):
        env["NODE_OPTIONS"] = "--experimental-global-webcrypto"
    return env


def make_certificate(folder, ca, ca_key, *names):
    """A certificate of this authority for the names; (certificate, key)."""
    key, cert = (str(folder / n) for n in ("server.key", "server.pem"))
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
        cert + ".csr", "-subj", "/CN=" + names[0])
    ext = folder / "ext"
    ext.write_text("subjectAltName=" + ",".join(("IP:" if n[0].isdigit() else "DNS:") + n for n in names) + "\n")
    run("openssl", "x509", "-req", "-in", cert + ".csr", "-CA", ca, "-CAkey", ca_key, "-out", cert, "-days", "2",
        "-extfile", ext)
    return cert, key


class Registry:
    """docker-registry on loopback: plain for anyone, TLS and htpasswd when a user is given, or what is given as `auth`."""

    def __init__(self, folder, user=None, auth=None, tls=None):
        self.folder, self.user, self.auth, self.tls = folder, user, auth, tls
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.ca = ""
        self.process = None

    def _tls(self):
        ca, ca_key = (str(self.folder / n) for n in ("ca.pem", "ca.key"))
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", ca_key,
            "-out", ca, "-days", "2", "-subj", "/CN=Test registry CA")
        self.ca = ca
        return make_certificate(self.folder, ca, ca_key, "127.0.0.1", "localhost")

    def __enter__(self):
        self.folder.mkdir(parents=True)
        config = {"version": 0.1, "log": {"accesslog": {"disabled": True}, "level": "error"},
                  "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}, "delete": {"enabled": True}},
                  "http": {"addr": self.address}}
        if self.user and not self.tls:
            self.tls = self._tls()
        if self.tls:
            config["http"]["tls"] = dict(zip(("certificate", "key"), self.tls))
        if self.auth:
            config["auth"] = self.auth
        elif self.user:
            passwords = self.folder / "htpasswd"
            passwords.write_text(run("htpasswd", "-Bbn", *self.user).stdout)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(passwords)}}
        self.config = self.folder / "config.yml"
        self.config.write_text(json.dumps(config))
        self.start()
        return self

    def start(self):
        self.process = subprocess.Popen(["docker-registry", "serve", str(self.config)], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

        def listening():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0
        eventually(listening)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_):
        self.stop()

    def push(self, archive, reference):
        options = ["--dest-tls-verify=false"]
        if self.user:
            options.append("--dest-creds=" + ":".join(self.user))
        run("skopeo", "--insecure-policy", "copy", "--quiet", *options, f"oci-archive:{archive}",
            f"docker://{self.address}/{reference}")

    def ref(self, name):
        return f"{self.address}/{name}"


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers = status, headers
        self.text = body.decode()
        self.json = json.loads(body) if body[:1] in (b"{", b"[") else None

    @property
    def code(self):
        return (self.json or {}).get("error", {}).get("code")

    @property
    def message(self):
        return (self.json or {}).get("error", {}).get("message")


class Berth:
    def __init__(self, state, settings=None):
        self.state = state
        self.port = free_port()
        self.endpoint = f"https://127.0.0.1:{self.port}"
        self.settings = settings or {}
        self._token = None

    def berth(self, *argv, **kwargs):
        return run(BUILD / "berth", *argv, "--state", self.state, **kwargs)

    def up(self):
        settings = [f"--set={k}={v}" for k, v in self.settings.items()]
        self.berth("up", "--listen", f"127.0.0.1:{self.port}", *settings, "--detach")
        self.admin = json.loads((self.state / "admin.json").read_text())
        self.config = json.loads((self.state / "config.json").read_text())
        self.tls = ssl.create_default_context(cafile=str(self.state / "ca.pem"))

    def down(self):
        self.berth("down")

    def purge(self):
        self.berth("down", "--purge", timeout=180)

    def pid(self, name):
        return int((self.state / "run" / f"{name}.pid").read_text().split()[0])

    def kill(self, *names):
        for name in names:
            pid = self.pid(name)
            os.kill(pid, signal.SIGKILL)

            def gone():
                try:
                    return pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
                except OSError:
                    return True
            eventually(gone)

    @staticmethod
    def new_name(prefix):
        return f"{prefix}-{next(_names)}"

    # --- requests ---

    def token(self):
        if not self._token:
            form = (f"grant_type=client_credentials&client_id={self.admin['clientId']}"
                    f"&client_secret={self.admin['clientSecret']}").encode()
            answer = self.raw("POST", "/adfs/oauth2/token", form, {"Content-Type": "application/x-www-form-urlencoded"})
            self._token = answer.json["access_token"]
        return self._token

    def raw(self, method, path, body=None, headers=None):
        request = urllib.request.Request(path if "://" in path else self.endpoint + path, data=body, method=method,
                                         headers=headers or {})
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=60) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())

    def call(self, method, path, body=None, version=API, headers=None):
        if version and "api-version" not in path:
            path += ("&" if "?" in path else "?") + "api-version=" + version
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return self.raw(method, path, data, {"Authorization": "Bearer " + self.token(),
                                             "Content-Type": "application/json", **(headers or {})})

    def sub(self, path):
        return f"/subscriptions/{self.admin['subscriptionId']}{path}"

    def get(self, path, **kwargs):
        answer = self.call("GET", self.sub(path), **kwargs)
        assert answer.status == 200, (answer.status, answer.text)
        return answer.json

    def put(self, path, body, **kwargs):
        answer = self.call("PUT", self.sub(path), body, **kwargs)
        assert answer.status in (200, 201), (answer.status, answer.text)
        return answer.json

    # --- container groups ---

    def group_id(self, rg, name):
        return self.sub(f"/resourceGroups/{rg}/providers/Microsoft.ContainerInstance/containerGroups/{name}")

    def create(self, rg, name, image, command=None, wait=True, expect=(200, 201), **properties):
        answer = self.call("PUT", self.group_id(rg, name), group_body(name, image, command, **properties))
        assert answer.status in expect, (answer.status, answer.text)
        if not wait or answer.status >= 400:
            return answer.json
        return self.wait(rg, name, lambda g: g["properties"]["provisioningState"] in ("Succeeded", "Failed"))

    def show(self, rg, name):
        answer = self.call("GET", self.group_id(rg, name))
        return answer.json if answer.status == 200 else None

    def wait(self, rg, name, condition, timeout=30):
        return eventually(lambda: (lambda g: g if g and condition(g) else None)(self.show(rg, name)), timeout)

    def logs(self, rg, name, container=None, query=""):
        path = self.group_id(rg, name) + f"/containers/{container or name}/logs{query}"
        answer = self.call("GET", path)
        assert answer.status == 200, answer.text
        return answer.json["content"]

    # --- az ---

    def az_env(self, home):
        home.mkdir(exist_ok=True)
        lines = self.berth("az").stdout
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8"}
        result = run("bash", "-c", 'eval "$1" >&2; env -0', "bash", lines, env=env, timeout=180)
        return dict(line.split("=", 1) for line in result.stdout.split("\0") if "=" in line)


def group_body(name, image, command=None, policy="Always", ports=None, label=None, cpu=0.5, memory=0.5, env=None,
               credentials=None, tags=None, location="local", containers=None):
    container = {"name": name, "properties": {"image": image, "resources": {"requests": {"cpu": cpu, "memoryInGB": memory}}}}
    if command:
        container["properties"]["command"] = command
    if env:
        container["properties"]["environmentVariables"] = [{"name": k, "value": v} for k, v in env.items()]
    body = {"location": location, "tags": tags or {},
            "properties": {"osType": "Linux", "restartPolicy": policy, "containers": containers or [container]}}
    if ports:
        listed = [{"port": p, "protocol": "TCP"} for p in ports]
        container["properties"]["ports"] = listed
        body["properties"]["ipAddress"] = {"type": "Public", "ports": listed}
        if label:
            body["properties"]["ipAddress"]["dnsNameLabel"] = label
    if credentials:
        body["properties"]["imageRegistryCredentials"] = [credentials]
    return body


def view(group, index=0):
    return group["properties"]["containers"][index]["properties"].get("instanceView", {})


def fetch(address, port=80, timeout=3):
    """A container runs before its program listens: it may take a moment until somebody accepts."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}:{port}/", timeout=timeout) as response:
                return response.read().decode()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _nft_elements(instance):
    """Elements of the sets of this instance's tables, as "table/set element", but for what was turned on at its start."""
    found = []
    for item in json.loads(run("nft", "-j", "list", "ruleset").stdout)["nftables"]:
        held = item.get("set") or item.get("map")
        if held and instance in held["table"] and held["name"] != "forwarding":
            found += [f"nft {held['table']}/{held['name']} {e}" for e in held.get("elem", [])]
    return found


def _processes(state):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].rsplit(b"/", 1)[-1] in (b"conmon", b"crun", b"berth-pull") and any(str(state).encode() in w for w in words):
            found.append(f"process {path.parent.name} {words[0].decode()}")
    return found


def _entries(path):
    return [str(p) for p in path.iterdir()] if path.is_dir() else []


def _mounts(berth):
    """Mounts of groups where the node sees them, and any of this Berth where the machine does."""
    inside = pathlib.Path(f"/proc/{berth.pid('berth-node')}/mountinfo").read_text()
    return [line for line in inside.splitlines() if f"{berth.state}/node/groups/" in line or f"{berth.state}/node/ns/" in line]


def _loops(state):
    """Loop devices of this Berth's volumes."""
    found = []
    for path in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found += [f"{path.parts[3]} {line}" for line in path.read_text().splitlines() if str(state) in line]
        except OSError:
            pass
    return found


def store_keys(berth, *prefixes):
    db = sqlite3.connect(f"file:{berth.state}/control/berth.db?mode=ro", uri=True)
    try:
        return [k for (k,) in db.execute("SELECT key FROM kv ORDER BY key") if k.startswith(prefixes)]
    finally:
        db.close()


def leftovers(berth):
    """What a running Berth without groups must not have."""
    instance = berth.config["instance"]
    links = [line for line in run("ip", "-o", "link").stdout.splitlines() if f" v{instance}" in line]
    cgroups = [str(p) for top in pathlib.Path("/sys/fs/cgroup").glob(f"*/berth-{instance}") for p in _folders(top)]
    cgroups += [str(p) for p in _folders(pathlib.Path(f"/sys/fs/cgroup/berth-{instance}"))]
    folders = [e for name in ("groups", "ns", "crun", "images/uses", "images/staging") for e in _entries(berth.state / "node" / name)]
    return (links + cgroups + folders + _mounts(berth) + _loops(berth.state) + _nft_elements(instance) + _processes(berth.state) +
            store_keys(berth, "cg/", "cgstatus/", "gone/", "ip/", "label/"))


def _folders(path):
    try:
        return [p for p in path.iterdir() if p.is_dir()]
    except OSError:
        return []


def remains(state, config):
    """What a Berth that was purged must not have left on the machine."""
    instance = config["instance"]
    found = [line for line in run("ip", "-o", "link").stdout.splitlines() if instance in line]
    found += [line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if str(state) in line]
    found += [line for line in run("nft", "list", "tables").stdout.splitlines() if instance in line]
    found += [str(p) for p in pathlib.Path("/sys/fs/cgroup").glob(f"*/berth-{instance}")] + _processes(state)
    found += [str(p) for p in pathlib.Path("/run/berth").glob("*") if p.is_file() and p.read_text() == str(state)]
    found += _loops(state)
    return found + ([str(state)] if state.exists() else [])
