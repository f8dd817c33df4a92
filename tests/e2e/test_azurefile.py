"""azureFile volumes against a real smbd, through the node's own functions (volume_tool)."""
import errno
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from harness import BUILD, eventually, free_port, run
from smb_server import SmbServer, new_key

TOOL = BUILD / "src/node/volume/volume_tool"
UID = 700 << 16


class Mounts:
    """Volumes of one group, by hand."""

    def __init__(self, folder, server, name="g"):
        self.dir = folder / name
        self.dir.mkdir(mode=0o711)
        self.server = server

    def _tool(self, verb, text=""):
        # What berth-smb says goes to a file: it outlives the tool, and would keep a pipe open.
        with open(self.dir.parent / "stderr", "ab") as log:
            begin = time.monotonic()
            result = subprocess.run([TOOL, self.dir, verb],
                                    input=text, text=True, stdout=subprocess.PIPE, stderr=log, timeout=60)
            self.seconds = time.monotonic() - begin
        return result

    def up(self, share, account, key=None, name="v", read_only=False, server=None):
        """The path of the mount, or the error as text."""
        spec = {"name": name, "uidBase": UID, "smbProgram": str(BUILD / "berth-smb"),
                "azureFiles": server or self.server.azure_files,
                "azureFile": {"share": share, "account": account, "readOnly": read_only,
                              "key": key or self.server.keys.get(account) or new_key()}}
        result = self._tool("up", json.dumps(spec))
        self.failed = result.returncode != 0
        if not self.failed:
            return pathlib.Path(result.stdout.strip())
        error = json.loads(result.stdout)
        return f"{error['code']}: {error['message']}"

    def pid(self, name="v"):
        return int((self.dir / "v" / name / "server").read_text().split()[0])

    def down(self):
        result = self._tool("down")
        assert result.returncode == 0, result.stdout
        return self.seconds


def mounts_below(folder):
    return [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]


@pytest.fixture(scope="module")
def server(workdir):
    with SmbServer(workdir / "smb", {"accone": ["share-a", "share-b"], "acctwo": ["share-c"]}) as server:
        yield server


@pytest.fixture
def mounts(tmp_path, server):
    os.chmod(tmp_path, 0o755)
    mounts = Mounts(tmp_path, server)
    yield mounts
    mounts.down()
    assert mounts_below(tmp_path) == []
    assert not (mounts.dir / "v").exists()


@pytest.fixture
def mount(mounts, server, request):
    """share-a, and an empty folder in it of the test's own."""
    path = mounts.up("share-a", "accone")
    assert not mounts.failed, path
    own = path / request.node.name.replace("[", "-").replace("]", "")
    own.mkdir()
    yield own


def at_server(server, mount):
    return server.share("share-a") / mount.name


def fails(number):
    return pytest.raises(OSError, match=rf"^\[Errno {number}\]")


# --- files ---

def test_what_is_written_is_at_the_server_at_once(server, mount):
    with open(mount / "f", "wb", buffering=0) as f:
        f.write(b"one")
        assert (at_server(server, mount) / "f").read_bytes() == b"one"
        f.write(b"two")
        os.fsync(f.fileno())
        assert (at_server(server, mount) / "f").read_bytes() == b"onetwo"
    assert (mount / "f").read_bytes() == b"onetwo"
    (at_server(server, mount) / "f").write_bytes(b"theirs")
    assert (mount / "f").read_bytes() == b"theirs"


def test_appends_go_behind_what_others_appended(server, mount):
    with open(mount / "log", "ab", buffering=0) as f:
        f.write(b"1\n")
        with open(at_server(server, mount) / "log", "ab") as other:
            other.write(b"other\n")
        f.write(b"2\n")
    assert (at_server(server, mount) / "log").read_text() == "1\nother\n2\n"


def test_folders_and_names(server, mount):
    (mount / "d").mkdir()
    with fails(errno.EEXIST):
        (mount / "d").mkdir()
    (mount / "d/x").write_text("x")
    with fails(errno.ENOTEMPTY):
        (mount / "d").rmdir()
    (mount / "d").rename(mount / "e")
    assert [p.name for p in (mount / "e").iterdir()] == ["x"]
    (mount / "e/x").unlink()
    (mount / "empty").mkdir()
    (mount / "e").rename(mount / "empty")
    assert os.listdir(mount) == ["empty"]
    (mount / "f").write_text("f")
    with fails(errno.EISDIR):
        (mount / "f").rename(mount / "empty")
    (mount / "g").write_text("g")
    (mount / "g").rename(mount / "f")
    assert (at_server(server, mount) / "f").read_text() == "g"
    with fails(errno.ENOENT):
        (mount / "g").unlink()


@pytest.mark.parametrize("name", ids=range(7), argvalues=["n" * 255, "日本" * 42, "a b%20#&", "12:30 <x>?*|\"\\..\\up.", "line\nbreak", "end. ", "ÄÖ"])
def test_names_that_linux_allows(mount, name):
    (mount / name).write_text("x")
    assert os.listdir(mount) == [name]
    assert (mount / name).read_text() == "x"
    (mount / name).rename(mount / "plain")
    assert os.listdir(mount) == ["plain"]


def test_names_that_no_server_takes(mount):
    with fails(errno.ENAMETOOLONG):
        (mount / ("n" * 256)).touch()
    with fails(errno.EILSEQ):
        open(os.fsencode(mount) + b"/\xff", "w")


def test_large_files_and_many_files(server, mount):
    with open(mount / "big", "wb") as f:
        f.seek(5 << 30)
        f.write(b"end")
    assert (mount / "big").stat().st_size == (5 << 30) + 3
    with open(mount / "big", "rb") as f:
        f.seek(5 << 30)
        assert f.read() == b"end"
    os.truncate(mount / "big", 4 << 30)
    assert (at_server(server, mount) / "big").stat().st_size == 4 << 30
    data = os.urandom(3 << 20)
    (mount / "data").write_bytes(data)
    assert (at_server(server, mount) / "data").read_bytes() == data == (mount / "data").read_bytes()
    for i in range(3000):
        (at_server(server, mount) / f"many-{i}").touch()
    assert len(os.listdir(mount)) == 3002


def test_what_is_open_survives_unlink_and_rename(mount):
    with open(mount / "tmp", "w+") as f:
        f.write("a")
        f.flush()
        (mount / "tmp").unlink()
        assert not (mount / "tmp").exists()
        f.write("b")
        f.flush()
        f.seek(0)
        assert f.read() == "ab"
    assert os.listdir(mount) == []
    (mount / "d").mkdir()
    with open(mount / "d/f", "w") as f:
        f.write("1")
        f.flush()
        (mount / "d").rename(mount / "e")
        f.write("2")
    assert (mount / "e/f").read_text() == "12"


def test_owners_modes_times_and_links(mount):
    (mount / "f").write_text("f")
    os.chmod(mount / "f", 0o600)
    os.chown(mount / "f", 1, 1)
    st = (mount / "f").stat()
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o777, UID, UID)
    os.utime(mount / "f", (1000000, 2000000))
    assert (mount / "f").stat().st_mtime == 2000000
    os.symlink("f", mount / "l")
    assert os.readlink(mount / "l") == "f" and (mount / "l").read_text() == "f" and (mount / "l").is_symlink()
    for make in (lambda: os.link(mount / "f", mount / "h"), lambda: os.mkfifo(mount / "p"),
                 lambda: os.mknod(mount / "n", 0o20666, os.makedev(1, 3))):
        with fails(errno.EPERM):
            make()
    assert os.statvfs(mount).f_blocks > 0


def test_a_read_only_mount(mounts, server):
    (server.share("share-b") / "f").write_text("f")
    path = mounts.up("share-b", "accone", read_only=True)
    assert (path / "f").read_text() == "f"
    for change in (lambda: (path / "f").write_text("x"), lambda: (path / "d").mkdir(), lambda: (path / "f").unlink()):
        with fails(errno.EROFS):
            change()


# --- mounts that can't be ---

def test_errors_say_what_is_wrong(mounts, server):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        cases = [
            (("share-a", "accone", new_key()), None, "mount error(13): Permission denied: '127.0.0.1' does not let 'accone' in with "
             "this key. The storage account's name or key is wrong"),
            (("share-a", "nobodyhere"), None, "mount error(13)"),
            (("share-c", "accone"), None, "mount error(13)"),
            (("missing", "accone"), None, "mount error(2): No such file or directory: the storage account 'accone' has no share "
             "'missing'."),
            (("share-a", "accone"), f"127.0.0.1:{free_port()}", "mount error(111): Connection refused: nothing listens on port"),
            (("share-a", "accone"), "{account}.invalid:445", "the name 'accone.invalid' can't be resolved"),
            (("share-a", "accone"), f"127.0.0.1:{silent.getsockname()[1]}", "mount error(110): '127.0.0.1' does not answer on port"),
            (("Share,uid=0", "accone"), None, "The share's name must be"),
            (("share-a", "acc/../one"), None, "The storage account's name must be"),
            (("share-a", "accone", "a,uid=0"), None, "The storage account's key must be"),
        ]
        for args, address, words in cases:
            said = mounts.up(*args, server=address)
            assert mounts.failed and said.startswith("FailedMountAzureFileVolume: The volume 'v' can't be mounted: "), (args, said)
            assert words in said, (args, said)
            assert mounts.seconds < 21, (args, mounts.seconds)
            assert mounts_below(mounts.dir) == []
            assert not (mounts.dir / "v/v/server").exists()


@pytest.mark.parametrize("option, words", ids=("SMB2", "plain"), argvalues=[
    ("server max protocol = SMB2_10\nserver min protocol = SMB2_02", "must speak SMB 3 with encryption"),
    ("server smb encrypt = off", "or the server doesn't encrypt, which it must")])
def test_a_server_without_encryption_is_refused(tmp_path, option, words):
    os.chmod(tmp_path, 0o755)
    with SmbServer(tmp_path / "smb", {"accthree": ["plain"]}, options=[*option.splitlines()]) as server:
        mounts = Mounts(tmp_path, server)
        said = mounts.up("plain", "accthree")
        assert mounts.failed and words in said, said
        mounts.down()


def test_a_failed_mount_is_mounted_when_the_cause_is_gone(mounts, server):
    mounts.up("later", "accone")
    assert mounts.failed
    mounts.up("share-a", "accone", key=new_key())
    assert mounts.failed
    path = mounts.up("share-a", "accone")
    assert not mounts.failed and os.listdir(path) is not None


# --- the program ---

def test_the_program_owns_nothing(mounts, mount, server):
    pid = mounts.pid()
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    assert {*status["Uid"].split()} == {*status["Gid"].split()} == {str((1 << 28) - 3)}
    assert status["Groups"].split() == []
    assert {status[c].strip() for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    key = server.keys["accone"]
    for name in ("cmdline", "environ"):
        assert key not in pathlib.Path(f"/proc/{pid}/{name}").read_text()
    assert {*os.listdir(f"/proc/{pid}/root")} <= {"usr", "etc", "lib", "lib32", "lib64", "run", "dev", ".smb", "berth-smb"}
    places = [line.split()[4] for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    assert not any("groups" in p or p.startswith("/tmp") for p in places), places
    assert key not in (mounts.dir.parent / "stderr").read_text()


def test_a_living_mount_is_left_alone_and_a_dead_one_replaced(mounts, mount):
    (mount / "f").write_text("f")
    pid = mounts.pid()
    path = mounts.up("share-a", "accone")
    assert mounts.pid() == pid and len(mounts_below(mounts.dir)) == 1
    os.kill(pid, signal.SIGKILL)

    def broken():
        try:
            os.stat(mount / "other")
        except OSError as e:
            return e.errno == errno.ENOTCONN
    eventually(broken)
    assert mounts.up("share-a", "accone") == path and not mounts.failed
    assert mounts.pid() != pid and len(mounts_below(mounts.dir)) == 1
    assert (mount / "f").read_text() == "f"


def test_what_a_kill_left_is_found(mounts, mount):
    """A note of a process that isn't there, or is another one; a process without a mount."""
    note = mounts.dir / "v/v/server"
    pid = mounts.pid()
    mine = note.read_text()
    note.write_text(f"{os.getpid()} 1")
    path = mounts.up("share-a", "accone")
    assert not mounts.failed and mounts.pid() != pid and (path / mount.name).is_dir()
    eventually(lambda: not pathlib.Path(f"/proc/{pid}").exists() or "Z" in pathlib.Path(f"/proc/{pid}/stat").read_text())
    assert mine != note.read_text()
    pid = mounts.pid()
    run("umount", "-l", path)
    path = mounts.up("share-a", "accone")
    assert mounts.pid() != pid and (path / mount.name).is_dir()
    note.write_text("nonsense")
    path = mounts.up("share-a", "accone")
    assert (path / mount.name).is_dir()


# --- the server ---

def test_a_restarted_server(server, mount):
    with open(mount / "f", "w+") as f:
        f.write("before ")
        f.flush()
        server.stop()
        server.start()
        f.write("after")
        f.flush()
        f.seek(0)
        assert f.read() == "before after"
    assert (at_server(server, mount) / "f").read_text() == "before after"
    assert os.listdir(mount) == ["f"]


def test_a_server_that_is_gone_for_a_while(server, mount):
    (mount / "f").write_text("f")
    server.stop()
    begin = time.monotonic()
    with pytest.raises(OSError):
        (mount / "g").write_text("g")
    assert time.monotonic() - begin < 60
    server.start()
    eventually(lambda: (mount / "f").exists())
    (mount / "g").write_text("g")


def test_a_frozen_server_harms_who_mounted_it_alone(workdir, tmp_path, mounts, mount):
    os.chmod(tmp_path, 0o755)
    with SmbServer(workdir / "smb-frozen", {"accfour": ["frozen"]}) as frozen:
        other = Mounts(tmp_path, frozen, "other")
        path = other.up("frozen", "accfour")
        (path / "f").write_text("f")
        frozen.freeze()
        try:
            readers = [subprocess.Popen(["ls", path / f"d{i}"], stderr=subprocess.PIPE, text=True) for i in range(4)]
            begin = time.monotonic()
            (mount / "f").write_text("others go on")
            assert time.monotonic() - begin < 5
            for reader in readers:
                words = reader.communicate(timeout=90)[1]
                assert "timed out" in words, words
            assert time.monotonic() - begin < 60
            waiting = subprocess.Popen(["ls", path / "again"], stderr=subprocess.DEVNULL)
            time.sleep(4)
            assert other.down() < 10
            waiting.wait(timeout=10)
            assert mounts_below(other.dir) == []
            said = other.up("frozen", "accfour")
            assert other.failed and "mount error(110)" in said, said
            assert other.seconds < 25
            other.down()
        finally:
            frozen.thaw()


def test_a_server_with_a_name(mounts, server):
    """Which the library looks up by itself again, after the lock-down."""
    path = mounts.up("share-a", "accone", server=f"localhost:{server.port}")
    assert not mounts.failed, path
    (path / "by-name").write_text("x")
    assert (server.share("share-a") / "by-name").read_text() == "x"
    server.stop()
    server.start()
    assert (path / "by-name").read_text() == "x"
