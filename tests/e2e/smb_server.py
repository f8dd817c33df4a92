"""A storage account's server: a real smbd on loopback, SMB 3 with encryption or nothing, with users that no system knows."""
import base64
import os
import pathlib
import random
import signal
import socket
import subprocess

from harness import eventually, free_port, run

NSS_WRAPPER = "libnss_wrapper.so"
UID = 61000


def new_key():
    return base64.b64encode(random.randbytes(64)).decode()


class SmbServer:
    """
    SmbServer(folder, {"account": ["share", …]}) as a context. Share names are the server's, so two accounts can't have
    the same. What a share holds is below share(name); .keys[account] is the password. options are more lines of
    smb.conf's [global].
    """

    def __init__(self, folder, accounts, options=("server smb encrypt = required",), keys=None):
        self.folder, self.accounts = pathlib.Path(folder), accounts
        self.port = free_port()
        self.keys = {a: (keys or {}).get(a) or new_key() for a in accounts}
        self.options = options
        self.process = None

    @property
    def azure_files(self):
        """The setting of the same name."""
        return f"127.0.0.1:{self.port}"

    def share(self, name):
        return self.folder / "shares" / name

    def _write(self):
        for name in ("private", "lock", "state", "cache", "pid", "shares", "ncalrpc", "log"):
            (self.folder / name).mkdir(parents=True, mode=0o755)
        (self.folder / "passwd").write_text(
            "root:x:0:0::/root:/bin/false\nnobody:x:65534:65534::/:/bin/false\n" +
            "".join(f"{a}:x:{UID + i}:{UID}::/:/bin/false\n" for i, a in enumerate(self.accounts)))
        (self.folder / "group").write_text(f"root:x:0:\nnogroup:x:65534:\nstorage:x:{UID}:\n")
        text = f"""[global]
server role = standalone server
netbios name = STORAGE
server min protocol = SMB3_00
smb ports = {self.port}
interfaces = 127.0.0.1
bind interfaces only = yes
disable netbios = yes
disable spoolss = yes
load printers = no
map to guest = never
private dir = {self.folder}/private
lock directory = {self.folder}/lock
state directory = {self.folder}/state
cache directory = {self.folder}/cache
pid directory = {self.folder}/pid
ncalrpc dir = {self.folder}/ncalrpc
log file = {self.folder}/log/smbd
log level = 1
passdb backend = tdbsam
unix extensions = no
store dos attributes = no
map archive = no
""" + "".join(line + "\n" for line in self.options)
        for i, (account, shares) in enumerate(self.accounts.items()):
            for share in shares:
                self.share(share).mkdir()
                os.chown(self.share(share), UID + i, UID)
                text += f"[{share}]\npath = {self.share(share)}\nread only = no\nvalid users = {account}\n"
        self.conf = self.folder / "smb.conf"
        self.conf.write_text(text)

    def _env(self):
        return {"PATH": os.environ["PATH"], "LD_PRELOAD": NSS_WRAPPER, "NSS_WRAPPER_PASSWD": str(self.folder / "passwd"),
                "NSS_WRAPPER_GROUP": str(self.folder / "group")}

    def __enter__(self):
        self._write()
        for account, key in self.keys.items():
            run("smbpasswd", "-c", self.conf, "-L", "-s", "-a", account, input=f"{key}\n{key}\n", env=self._env())
        self.start()
        return self

    def start(self):
        self.process = subprocess.Popen(
            ["smbd", "--foreground", "--no-process-group", "-s", str(self.conf)], env=self._env(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.group = self.process.pid

        def listening():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0
        eventually(listening)

    def signal(self, number):
        """To smbd and what it has started, one process a connection: all of its session."""
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.group:
                try:
                    os.kill(int(path.parent.name), number)
                except ProcessLookupError:
                    pass

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def stop(self):
        if self.process:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def __exit__(self, *_):
        self.stop()
