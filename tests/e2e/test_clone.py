"""gitRepo volumes: berth-clone against a real git server on loopback TLS, and against servers and repositories of the bad kind."""
import json
import os
import pathlib
import signal
import stat
import subprocess
import time

import pytest

from git_server import GitServer, Listener, git
from harness import BUILD, eventually, run

TOOL = str(BUILD / "src/node/volume/volume_tool")
WORKER = str(BUILD / "berth-clone")
BASE = 1000000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with GitServer(tmp_path_factory.mktemp("git") / "server") as server:
        yield server


class Volume:
    """A volume of a group of its own, in this process' mount namespace."""

    def __init__(self, folder, server):
        self.folder, self.server = folder, server
        folder.mkdir(mode=0o711)
        self.data = folder / "v/repo/data"

    def request(self, repository, revision=None, directory=None, **more):
        repo = {"repository": repository if "://" in repository or ":" in repository else self.server.url(repository)}
        if revision is not None:
            repo["revision"] = revision
        if directory is not None:
            repo["directory"] = directory
        return json.dumps({"cloneProgram": WORKER, "ca": self.server.ca, "allowLoopback": True, "uidBase": BASE,
                           "gitRepo": repo, **more})

    def start(self, *args, **kwargs):
        return subprocess.Popen([TOOL, str(self.folder), "up", self.request(*args, **kwargs)], stdout=subprocess.PIPE,
                                text=True)

    def up(self, *args, **kwargs):
        process = self.start(*args, **kwargs)
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
        assert out.strip() == str(self.data)
        return self.data

    def refused(self, *args, **kwargs):
        process = self.start(*args, **kwargs)
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 1, out
        answer = json.loads(out)
        assert answer["code"] == "FailedMount"
        # Nothing is left mounted, and the next try starts from nothing.
        assert not os.path.ismount(self.data)
        assert not (self.folder / "v/repo/image").exists()
        prefix = "The volume 'repo' can't be mounted: "
        assert answer["message"].startswith(prefix)
        message = answer["message"][len(prefix):]
        assert message.isprintable()
        return message

    def down(self):
        run(TOOL, self.folder, "down")


@pytest.fixture
def volume(tmp_path, server):
    tmp_path.chmod(0o711)
    volume = Volume(tmp_path / "group", server)
    yield volume
    volume.down()
    assert not list(volume.folder.iterdir())


@pytest.fixture(scope="module")
def app(server):
    """app.git: three commits on main, a branch, tags, an odd file mode and a symlink."""
    repo = server.repo("team/app.git")
    repo.first = repo.commit({"file": b"one\n"})
    repo.second = repo.commit({"file": b"two\n"}, parent=repo.first)
    repo.tag("v1", repo.first)
    repo.tag("v2", repo.second, annotated=True)
    repo.side = repo.commit({"file": b"side\n"}, branch="feature/side", parent=repo.first)
    repo.third = repo.commit({"file": b"three\n", "run.sh": ("100755", b"#!/bin/sh\n"), "deep/er/x": b"x",
                              "link": ("120000", b"/etc/passwd")}, parent=repo.second)
    return repo


def head(folder):
    return git(folder, "-c", f"safe.directory={folder}", "rev-parse", "HEAD").decode().strip()


def history(folder):
    return int(git(folder, "-c", f"safe.directory={folder}", "rev-list", "--count", "HEAD"))


# --- what is asked for ---

def test_head_is_cloned_shallow_for_the_groups_root(volume, app):
    data = volume.up("team/app.git")
    clone = data / "app"
    assert (clone / "file").read_text() == "three\n"
    assert head(clone) == app.third and history(clone) == 1
    assert os.readlink(clone / "link") == "/etc/passwd"
    assert stat.S_IMODE((clone / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((clone / "file").stat().st_mode) == 0o644
    owners = {(os.lstat(os.path.join(at, n)).st_uid, os.lstat(os.path.join(at, n)).st_gid)
              for at, folders, files in os.walk(data) for n in folders + files}
    assert owners == {(BASE, BASE)}
    assert not (clone / ".git/hooks").exists()
    assert [p.name for p in data.iterdir()] == ["app"]


@pytest.mark.parametrize("revision, commit, text", [
    ("feature/side", "side", "side\n"), ("refs/heads/feature/side", "side", "side\n"), ("v1", "first", "one\n"),
    ("v2", "second", "two\n"), ("refs/tags/v1", "first", "one\n"), ("v2~1", "first", "one\n"),
    ("origin/feature/side", "side", "side\n"), ("HEAD", "third", "three\n"), ("main", "third", "three\n")])
def test_revision_by_name(volume, app, revision, commit, text):
    data = volume.up("team/app.git", revision)
    assert (data / "app/file").read_text() == text
    assert head(data / "app") == getattr(app, commit)


@pytest.mark.parametrize("revision", ["v2~1", "first"])
def test_revision_that_takes_a_second_try_at_the_volumes_root(volume, app, revision):
    data = volume.up("team/app.git", getattr(app, revision, revision)[:20], ".")
    assert head(data) == app.first and (data / "file").read_text() == "one\n"


@pytest.mark.parametrize("length", [40, 12])
def test_revision_by_commit(volume, app, length):
    data = volume.up("team/app.git", app.first[:length])
    assert head(data / "app") == app.first and (data / "app/file").read_text() == "one\n"


def test_commit_that_an_old_server_does_not_give_by_its_name(tmp_path, app, server):
    tmp_path.chmod(0o711)
    with GitServer(tmp_path / "old", protocol=0) as old:
        os.symlink(server.root / "team", old.root / "team")
        volume = Volume(tmp_path / "group", old)
        data = volume.up("team/app.git", app.first)
        assert head(data / "app") == app.first
        volume.down()


@pytest.mark.parametrize("directory, place", [(None, "app"), (".", "."), ("a/b", "a/b"), ("with blank", "with blank"),
                                              ("-c", "-c"), ("slash/", "slash"), ("--upload-pack=x", "--upload-pack=x")])
def test_directory(volume, app, directory, place):
    data = volume.up("team/app.git", directory=directory)
    assert (data / place / "file").read_text() == "three\n"


def test_host_by_its_name_and_the_next_address_when_one_refuses(volume, app, server):
    """localhost is ::1 too, where nobody listens."""
    data = volume.up(server.url("team/app.git", host="localhost"))
    assert (data / "app/file").read_text() == "three\n"


def test_authorities_of_the_system_count_with_and_without_those_of_the_setting(volume, app, server, tmp_path):
    with GitServer(tmp_path / "other") as other:
        for ca in (None, other.ca):
            result = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c",
                                     'mount --bind "$1" /etc/ssl/certs/ca-certificates.crt && "$2" "$3" up "$4"; "$2" "$3" down',
                                     "sh", server.ca, TOOL, str(volume.folder), volume.request("team/app.git", ca=ca)],
                                    stdout=subprocess.PIPE, text=True, timeout=60)
            assert result.stdout.strip() == str(volume.data)


def test_server_of_plain_files(volume, server):
    repo = server.repo("plain/files.git")
    repo.commit({"file": b"plain\n"})
    repo.plain()
    data = volume.up("plain/files.git")
    assert (data / "files/file").read_text() == "plain\n"


def test_empty_repository(volume, server):
    """Refused, since a web server that answers everything looks the same; mounted as soon as it has a commit."""
    repo = server.repo("empty.git")
    assert volume.refused("empty.git").endswith(" is empty, or the URL does not lead to a git repository.")
    repo.commit({"file": b"first\n"})
    assert (volume.up("empty.git") / "empty/file").read_text() == "first\n"


def test_user_and_password_of_the_url_are_sent_and_left_nowhere(tmp_path, app, server):
    tmp_path.chmod(0o711)
    with GitServer(tmp_path / "private", user=("me", "s3cret:/@")) as private:
        os.symlink(server.root / "team", private.root / "team")
        volume = Volume(tmp_path / "group", private)
        url = private.url("team/app.git")
        assert volume.refused(url).startswith("The repository isn't there, or its server wants a user and a password: '" + url)
        message = volume.refused(url.replace("https://", "https://me:wrong@"))
        assert message.startswith("The repository") and "wrong" not in message
        data = volume.up(url.replace("https://", "https://me:s3cret%3A%2F%40@"))
        assert (data / "app/file").read_text() == "three\n"
        assert "s3cret" not in (data / "app/.git/config").read_text()
        assert url in (data / "app/.git/config").read_text()
        volume.down()


# --- once ---

def test_second_call_clones_nothing_and_keeps_what_was_written(volume, app, server):
    data = volume.up("team/app.git")
    (data / "app/written").write_text("by a container")
    before = len(server.requests)
    volume.up("team/app.git")
    # As after a restart of the machine.
    run("umount", data)
    volume.up("team/app.git")
    assert len(server.requests) == before
    assert (data / "app/written").read_text() == "by a container"


def test_kill_and_cancel_leave_nothing_and_the_next_call_clones_anew(volume, app, server):
    for sig in (signal.SIGKILL, signal.SIGTERM):
        process = volume.start(server.url("hang/x.git"))
        eventually(lambda: any(p == "/hang/x.git/info/refs?service=git-upload-pack" for _, p, _ in server.requests))
        worker = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(worker) == 1
        process.send_signal(sig)
        out, _ = process.communicate(timeout=30)
        if sig == signal.SIGTERM:
            assert json.loads(out)["code"] == "Canceled"
        eventually(lambda: not os.path.exists(f"/proc/{worker[0]}"))
        server.requests.clear()
    assert (volume.up("team/app.git") / "app/file").read_text() == "three\n"


# --- bounds ---

def test_repository_larger_than_the_volume(volume, server):
    repo = server.repo("big.git")
    # Compressed it is small: the server's bytes don't show it.
    repo.commit({"zeros": bytes(64 << 20)})
    message = volume.refused("big.git", maxBytes=32 << 20)
    assert message.startswith("The repository is too large"), message
    noise = server.repo("noise.git")
    noise.commit({"noise": os.urandom(40 << 20)})
    message = volume.refused("noise.git", maxBytes=32 << 20)
    assert message.startswith("The repository is too large"), message


def test_a_hundred_thousand_files(volume, server):
    """Twice: in a volume that has room for them, and in one that hasn't."""
    repo = server.repo("many.git")
    blob = repo.blob(b"x")
    folder = repo.tree([("100644", f"{i:04d}", blob) for i in range(1000)])
    repo.commit_tree(repo.tree([("40000", f"{i:03d}", folder) for i in range(100)]))
    message = volume.refused("many.git", maxBytes=64 << 20)
    assert message.startswith("The repository is too large"), message
    data = volume.up("many.git", maxBytes=2 << 30)
    assert sum(len(files) for at, _, files in os.walk(data / "many") if "/.git" not in at) == 100000


def test_tree_of_trees_that_unfolds_without_end(volume, server):
    repo = server.repo("bomb.git")
    oid = repo.blob(b"boom")
    mode = "100644"
    for _ in range(10):
        oid = repo.tree([(mode, f"f{i}", oid) for i in range(10)])
        mode = "40000"
    repo.commit_tree(oid)
    message = volume.refused("bomb.git", maxBytes=32 << 20)
    assert message.startswith("The repository is too large"), message


def test_references_without_end(volume, server):
    started = time.monotonic()
    message = volume.refused("flood/x.git", maxBytes=32 << 20)
    assert "too large" in message or "could not be cloned" in message or "does not lead" in message, message
    assert time.monotonic() - started < 100


# --- bad servers ---

@pytest.mark.parametrize("path, words", [
    ("nowhere.git", "was not found on its server"),
    ("error/x.git", "error of its own"),
    ("busy/x.git", "too many requests"),
    ("html/x.git", "not lead to a git repository"),
    ("garbage/x.git", "not lead to a git repository"),
    ("redirect/x.git", "redirects to another place")])
def test_answers_of_bad_servers(volume, server, path, words):
    message = volume.refused(path)
    assert words in message and "\x1b" not in message, message


def test_nothing_is_followed_to_another_place(volume, server):
    """Redirects and alternates, to another port of this machine that would show it."""
    with Listener() as listener:
        server.redirect_to = f"https://127.0.0.1:{listener.port}/team/app.git"
        volume.refused("redirect/x.git")
        repo = server.repo("plain/alternates.git")
        repo.commit({"file": b"plain\n"})
        repo.plain()
        for path in (repo.path / "objects").glob("??/*"):
            path.unlink()
        server.plain_alternates = f"https://127.0.0.1:{listener.port}/objects"
        volume.refused("plain/alternates.git")
        server.plain_alternates = None
        assert listener.connections == 0


def test_server_that_says_nothing(volume):
    """It accepts, and that is all: no TLS."""
    with Listener() as listener:
        started = time.monotonic()
        message = volume.refused(f"https://127.0.0.1:{listener.port}/x.git")
        assert "did not answer in time" in message
        assert time.monotonic() - started < 60


def test_server_that_is_no_tls(volume):
    with Listener(b"SSH-2.0-OpenSSH_9.2\r\n") as listener:
        message = volume.refused(f"https://127.0.0.1:{listener.port}/x.git")
        assert "does not speak TLS" in message


def test_authority_that_is_not_trusted(volume, server, app, tmp_path):
    with GitServer(tmp_path / "other") as other:
        message = volume.refused(other.url("x.git"))
        assert "is not trusted" in message
    # Without the setting only the system's own count.
    assert "is not trusted" in volume.refused("team/app.git", ca=None)


def test_certificate_for_another_name(volume, tmp_path):
    with GitServer(tmp_path / "named", names=("git.example",)) as named:
        volume.server = named
        assert "another name" in volume.refused("x.git")


def test_places_that_may_not_be_asked(volume, server, app):
    assert "only addresses that a repository may not have" in volume.refused("team/app.git", allowLoopback=False)
    assert "only addresses" in volume.refused(f"https://localhost:{server.port}/team/app.git", allowLoopback=False)
    for host in ("169.254.169.254", "168.63.129.16", "0.0.0.0", "0x7f.1", "2130706433", "224.0.0.1"):
        message = volume.refused(f"https://{host}:{server.port}/team/app.git", allowLoopback=False)
        assert "only addresses" in message, (host, message)
    assert "could not be resolved" in volume.refused("https://git.invalid/x.git")
    assert "refused the connection" in volume.refused("https://127.0.0.1:1/x.git")


@pytest.mark.parametrize("url", ["http://127.0.0.1/x.git", "file:///etc", "ext::sh -c touch% /tmp/x", "git://h/x",
                                 "ssh://h/x", "--upload-pack=touch:/tmp/x", "https:///x", "https://[::1]/x.git",
                                 "https://host/a\nb", "git@github.com:a/b", "https://host:99999/x", "/var/lib:berth"])
def test_urls_that_are_none(volume, url):
    message = volume.refused(url)
    assert "https" in message or "IPv6" in message or "no path" in message, message


@pytest.mark.parametrize("revision", ["--foo", "-b", "a..b", "main:file", "a b", "@{-1}", "main^{/x}", "*", "x\\y",
                                      "--upload-pack=x"])
def test_revisions_that_are_none(volume, app, revision):
    assert volume.refused("team/app.git", revision) == "The revision must be a branch, a tag or a commit."


@pytest.mark.parametrize("revision", ["nowhere", "deadbeef", "0" * 40, "refs/heads/none", "v1~9", "file"])
def test_revisions_that_are_not_there(volume, app, server, revision):
    message = volume.refused("team/app.git", revision)
    name = revision.replace("refs/heads/", "")
    assert message == f"The revision '{name}' was not found in the repository '{server.url('team/app.git')}'."


@pytest.mark.parametrize("directory", ["..", "../x", "a/../b", "/etc", "a//b", "./a", "x" * 300, "a\nb"])
def test_directories_that_are_none(volume, app, directory):
    assert volume.refused("team/app.git", directory=directory).startswith("The directory must be a relative path")


# --- bad repositories ---

def names_of(oid, tree):
    """Entries that must never be written: name → how the tree has it."""
    return {"dotdot": [("40000", "..", tree)], "dot-git": [("40000", ".git", tree)], "upper": [("40000", ".GIT", tree)],
            "short": [("40000", "git~1", tree)], "hfs": [("40000", ".g\u200cit", tree)], "slash": [("100644", "a/../../b", oid)],
            "absolute": [("100644", "/etc/x", oid)], "dot-git-link": [("120000", ".git", oid)],
            "stream": [("40000", ".git::$INDEX_ALLOCATION", tree)], "blank": [("40000", ".git ", tree)],
            "modules": [("120000", ".gitmodules", oid)],
            # The same name as a link first and as a folder after: what is written must not go through the link.
            "through": [("120000", "a", oid), ("40000", "a", tree)]}


@pytest.mark.parametrize("name", list(names_of("", "")))
def test_names_that_git_refuses(volume, server, name):
    repo = server.repo(f"names-{name}.git")
    tree = repo.tree([("100755", "hook", repo.blob(b"#!/bin/sh\ntouch /volume/owned\n"))])
    repo.commit_tree(repo.tree(names_of(repo.blob(b".git/hooks"), tree)[name]))
    process = volume.start(f"names-{name}.git")
    out, _ = process.communicate(timeout=60)
    if process.returncode == 0:
        # Cloned, but the folder of git is git's own, and nothing is outside the clone.
        clone = volume.data / f"names-{name}"
        assert (clone / ".git/HEAD").is_file() and not (clone / ".git/hooks").exists()
        assert [p.name for p in volume.data.iterdir()] == [clone.name]
    else:
        assert "file name that git refuses" in out or "could not be" in out, out
        assert not os.path.ismount(volume.data)


def test_nothing_in_a_repository_is_run(volume, server):
    """Hooks, submodules of every protocol, filters of attributes, LFS, configuration files."""
    repo = server.repo("evil.git")
    sub = server.repo("sub.git")
    commit = sub.commit({"x": b"x"})
    modules = "".join(f'[submodule "{n}"]\n\tpath = {n}\n\turl = {u}\n\tupdate = !touch /volume/owned\n' for n, u in
                      (("file", "file:///usr/share"), ("ext", "ext::sh -c touch% /volume/owned"), ("https", server.url("sub.git")),
                       ("dash", "-u./x")))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12\n"
    script = ("100755", b"#!/bin/sh\ntouch /volume/owned\n")
    files = {".gitmodules": modules.encode(), ".gitattributes": b"* filter=evil diff=evil merge=evil\n*.bin filter=lfs\n",
             ".gitconfig": b'[filter "evil"]\n\tsmudge = touch /volume/owned\n', "big.bin": pointer,
             "hooks/post-checkout": script, ".githooks/post-checkout": script, "HEAD": b"ref: refs/heads/main\n",
             "config": b"[core]\n\tfsmonitor = touch /volume/owned\n\thooksPath = hooks\n", "objects/x": b"", "refs/x": b""}
    first = repo.commit(files)
    entries = [(m, n, o) for m, n, o in
               (line.replace("\t", " ").split(" ", 3)[::1][:1] + [line.split("\t")[1], line.split()[2]]
                for line in git(repo.path, "ls-tree", first).decode().splitlines())]
    entries = [(m.lstrip("0"), n, o) for m, n, o in entries] + [("160000", n, commit) for n in ("file", "ext", "https")]
    repo.commit_tree(repo.tree(repo._sorted(entries)))
    server.requests.clear()
    data = volume.up("evil.git")
    clone = data / "evil"
    assert (clone / "big.bin").read_bytes() == pointer
    assert not any((clone / n / "x").exists() for n in ("file", "ext", "https"))
    assert not (clone / ".git/modules").exists()
    assert [p.name for p in data.iterdir()] == ["evil"]
    assert all("/evil.git/" in path for _, path, _ in server.requests)
    assert "filter" not in (clone / ".git/config").read_text()


def test_git_sees_nothing_of_the_machine(volume, server, tmp_path):
    """A git of the test's own, bound over the real one in a mount namespace of its own, tells what it can see and do."""
    script = tmp_path / "git"
    script.write_text("""#!/bin/sh
exec >&2
echo -n "fatal: "
echo -n "root=$(echo /*) etc=$(echo /etc/*) id=$(id -u) "
echo -n "env=$(env | cut -d= -f1 | sort | tr '\\n' ',') "
for f in /x /usr/x /etc/x /dev/x; do echo x 2>/dev/null > $f && echo -n "wrote=$f "; done
echo x > /volume/ok && echo -n "volume=ok "
chown 1 /volume/ok 2>/dev/null && echo -n "chown "
mount -t tmpfs x /tmp 2>/dev/null && echo -n "mount "
unshare -n true 2>/dev/null && echo -n "unshare "
unshare -U true 2>/dev/null && echo -n "userns "
chroot / /bin/true 2>/dev/null && echo -n "chroot "
kill -0 1 2>/dev/null && echo -n "kill "
python3 -c 'import socket; socket.create_connection(("127.0.0.1", 22), 2)' 2>/dev/null && echo -n "net "
ulimit -c
exit 1
""")
    script.chmod(0o755)
    request = volume.request("team/app.git")
    result = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c",
                             'mount --bind "$1" /usr/bin/git && "$2" "$3" up "$4"; "$2" "$3" down', "sh", str(script), TOOL,
                             str(volume.folder), request], stdout=subprocess.PIPE, text=True, timeout=60)
    message = json.loads(result.stdout.splitlines()[0])["message"]
    assert "id=0 " in message and "volume=ok" in message, message
    root = message.split("root=")[1].split(" etc=")[0].split()
    assert set(root) <= {"/bin", "/lib", "/lib32", "/lib64", "/libx32", "/dev", "/etc", "/tmp", "/usr", "/volume",
                         *(["/proc"] if "/proc" in root and "asan" in str(BUILD) else [])}, root
    assert "etc=/etc/ssl " in message
    for word in ("wrote=", "chown", "mount", "unshare", "userns", "chroot", "net "):
        assert word not in message.split(" env=")[1].split(" ", 1)[1], message


def test_arguments_and_environment_hold_no_password(volume, server):
    """Whoever may look into /proc sees none of it."""
    process = volume.start(server.url("hang/p.git").replace("https://", "https://me:canary-password@"))
    eventually(lambda: any(p.startswith("/hang/p.git") for _, p, _ in server.requests))
    seen = 0
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if path.name == str(process.pid):
            continue
        seen += b"hang/p.git" in text
        assert b"canary-password" not in text, path
    assert seen > 0
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
