"""A git server on loopback: `git http-backend` behind TLS, and beside it everything that a bad server can do."""
import base64
import http.server
import os
import pathlib
import select
import shutil
import socket
import ssl
import subprocess
import threading

from harness import make_certificate, run

ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1",
       "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t",
       "GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}


def git(folder, *args, data=None):
    """Bytes in, bytes out."""
    result = subprocess.run(["git", "-C", str(folder), *args], input=data, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=ENV, timeout=120)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return result.stdout


class Repo:
    """A bare repository below the server's root, whose objects can be anything."""

    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--bare", "--initial-branch=main", ".")

    def blob(self, data):
        return git(self.path, "hash-object", "-w", "--stdin", data=data).decode().strip()

    def tree(self, entries):
        """Entries are (mode, name, object id); nothing is checked."""
        raw = b"".join(f"{mode} ".encode() + (name if isinstance(name, bytes) else name.encode()) + b"\0" +
                       bytes.fromhex(oid) for mode, name, oid in entries)
        return git(self.path, "hash-object", "-t", "tree", "--literally", "-w", "--stdin", data=raw).decode().strip()

    def commit_tree(self, tree, branch="main", parent=None):
        args = ["commit-tree", tree, "-m", "m", *(["-p", parent] if parent else [])]
        commit = git(self.path, *args).decode().strip()
        git(self.path, "update-ref", f"refs/heads/{branch}", commit)
        return commit

    def commit(self, files, branch="main", parent=None):
        """files: name → bytes, or ("120000", target) for a symlink; names may have folders."""
        folders, entries = {}, []
        for name, value in files.items():
            if "/" in name:
                first, rest = name.split("/", 1)
                folders.setdefault(first, {})[rest] = value
            else:
                mode, data = value if isinstance(value, tuple) else ("100644", value)
                entries.append((mode, name, self.blob(data)))
        for name, inner in folders.items():
            entries.append(("40000", name, self._folder(inner)))
        return self.commit_tree(self.tree(self._sorted(entries)), branch, parent)

    def _folder(self, files):
        entries, folders = [], {}
        for name, value in files.items():
            if "/" in name:
                first, rest = name.split("/", 1)
                folders.setdefault(first, {})[rest] = value
            else:
                mode, data = value if isinstance(value, tuple) else ("100644", value)
                entries.append((mode, name, self.blob(data)))
        entries += [("40000", name, self._folder(inner)) for name, inner in folders.items()]
        return self.tree(self._sorted(entries))

    @staticmethod
    def _sorted(entries):
        return sorted(entries, key=lambda e: e[1] + ("/" if e[0] == "40000" else ""))

    def tag(self, name, commit, annotated=False):
        git(self.path, "tag", *(["-a", "-m", "t"] if annotated else []), name, commit)

    def plain(self):
        """Ready for the protocol of plain files."""
        git(self.path, "update-server-info")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_any()

    def do_POST(self):
        self.handle_any()

    def handle_any(self):
        server = self.server.owner
        server.requests.append((self.command, self.path, dict(self.headers)))
        kind = self.path.split("/")[1]
        special = getattr(self, "be_" + kind, None)
        if special:
            special()
        elif server.refuses(self):
            self.answer(401, b"who?\n", {"WWW-Authenticate": 'Basic realm="test"'})
        else:
            self.backend()

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    # --- bad servers, by the first part of the path ---

    def be_redirect(self):
        self.answer(302, headers={"Location": self.server.owner.redirect_to})

    def be_hang(self):
        self.server.owner.stopping.wait(300)

    def be_error(self):
        self.answer(500, b"<html>oops</html>")

    def be_busy(self):
        self.answer(429)

    def be_html(self):
        self.answer(200, b"<html>\x1b[31mnot git\x1b[0m</html>", {"Content-Type": "text/html"})

    def be_garbage(self):
        self.answer(200, os.urandom(4096), {"Content-Type": "application/x-git-upload-pack-advertisement"})

    def be_flood(self):
        """References without end."""
        self.send_response(200)
        self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(b"001e# service=git-upload-pack\n0000")
        line = b"0" * 39 + b"1 refs/heads/" + b"x" * 60000
        try:
            while not self.server.owner.stopping.is_set():
                self.wfile.write(b"%04x%s" % (len(line) + 4, line))
        except OSError:
            pass

    def be_plain(self):
        """The protocol of plain files: no program, no shallow clones."""
        path = self.server.owner.root / self.path.split("?")[0].lstrip("/")
        if self.server.owner.plain_alternates and self.path.endswith("objects/info/http-alternates"):
            self.answer(200, self.server.owner.plain_alternates.encode() + b"\n")
        elif path.is_file():
            self.answer(200, path.read_bytes(), {"Content-Type": "text/plain"})
        else:
            self.answer(404)

    # --- git http-backend ---

    def backend(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if "Content-Length" in self.headers else b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while (size := int(self.rfile.readline(), 16)):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        env = {**ENV, "GIT_PROJECT_ROOT": str(self.server.owner.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
               "REQUEST_METHOD": self.command, "QUERY_STRING": query, "CONTENT_LENGTH": str(len(body)),
               "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_ADDR": "127.0.0.1",
               "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
               "GIT_PROTOCOL": self.headers.get("Git-Protocol", "") if self.server.owner.protocol == 2 else "",
               "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        result = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                env=env, timeout=300)
        head, _, rest = result.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.answer(int(headers.pop("Status", "200 OK").split()[0]), rest, headers)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner, context):
        self.owner, self.context = owner, context
        super().__init__(("127.0.0.1", 0), _Handler)

    def finish_request(self, request, client_address):
        # In the connection's own thread: one that doesn't shake hands holds up nobody.
        try:
            request.settimeout(300)
            with self.context.wrap_socket(request, server_side=True) as tls:
                self.RequestHandlerClass(tls, client_address, self)
        except OSError:
            pass

    def handle_error(self, *_):
        pass


class GitServer:
    """`url(name)` of `repo(name)`. Requests are recorded. `user` = (name, password) is asked of everybody; `protocol` is
    the newest version of git's that is spoken; `redirect_to` is where /redirect/… leads."""

    def __init__(self, folder, user=None, protocol=2, names=("127.0.0.1", "localhost")):
        self.folder = pathlib.Path(folder)
        self.root = self.folder / "repos"
        self.user, self.protocol, self.names = user, protocol, names
        self.redirect_to = "http://169.254.169.254/latest/meta-data/"
        self.plain_alternates = None
        self.requests = []
        self.stopping = threading.Event()

    def __enter__(self):
        self.root.mkdir(parents=True)
        self.ca, key = (str(self.folder / n) for n in ("ca.pem", "ca.key"))
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
            "-out", self.ca, "-days", "2", "-subj", "/CN=Test git CA")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*make_certificate(self.folder, self.ca, key, *self.names))
        self.server = _Server(self, context)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def repo(self, name):
        return Repo(self.root / name)

    def url(self, path="", host="127.0.0.1"):
        return f"https://{host}:{self.port}/{path}"

    def refuses(self, request):
        if not self.user:
            return False
        expected = "Basic " + base64.b64encode(":".join(self.user).encode()).decode()
        return request.headers.get("Authorization") != expected


class Listener:
    """A port that records who connects, and says `data` or nothing."""

    def __init__(self, data=b"", address="127.0.0.1"):
        self.data = data
        self.socket = socket.create_server((address, 0))
        self.port = self.socket.getsockname()[1]
        self.connections = 0
        self.open = []
        self.wake = socket.socketpair()
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def _serve(self):
        while True:
            ready, _, _ = select.select([self.socket, self.wake[0]], [], [])
            if self.wake[0] in ready:
                return
            connection, _ = self.socket.accept()
            self.connections += 1
            self.open.append(connection)
            if self.data:
                connection.sendall(self.data)

    def __exit__(self, *_):
        self.wake[1].send(b"x")
        self.thread.join()
        for s in (self.socket, *self.wake, *self.open):
            s.close()
