#!/usr/bin/python3
"""Measures a Berth of its own, and docker, podman and crun beside it, in one run: sudo tests/bench/bench.py [--write]

Prints a table in Markdown; --write puts it into docs/performance.md, too. What is measured and how is in the words above
and below the table. Everything happens in a network namespace of this process, and below one temporary folder on the
disk of --dir; whatever is started is ended again, by its pid. Build first (BERTH_BUILD names the folder).
"""
import argparse
import concurrent.futures
import contextlib
import ctypes
import datetime
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/e2e"))
sys.dont_write_bytecode = True
from harness import API, BUILD, Berth, eventually, group_body, run  # noqa: E402

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MNT_DETACH, MS_REC, MS_PRIVATE = 2, 0x4000, 1 << 18
UNIFIED = "/sys/fs/cgroup/unified"
REFERENCE = "bench.local/start:1"
GETS = 1000
libc = ctypes.CDLL(None, use_errno=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p))]


def peers_folders():
    """Where docker and podman put their containers, and what both leave behind empty."""
    found = {p for name in ("docker", "libpod_parent") for p in pathlib.Path("/sys/fs/cgroup").glob(f"*/{name}")}
    return found | {p for p in (pathlib.Path("/run/docker"),) if p.exists()}


def remove_empty(folders):
    for top in folders:
        for path in [*sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True), top]:
            try:
                path.rmdir()
            except OSError:
                pass  # somebody else's, and in use


def median(values):
    return percentile(values, 0.5)


def first_instruction(text):
    match = re.search(r"first instruction at (\d+) monotonic", text)
    return int(match[1]) if match else None


def quiet(*argv, **kwargs):
    """A client's command, without pipes that its children could hold open."""
    with tempfile.TemporaryFile() as errors:
        result = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                                timeout=60, **kwargs)
        if result.returncode != 0:
            errors.seek(0)
            raise RuntimeError(f"{argv[0]} {argv[1]}: {errors.read().decode(errors='replace').strip()[-400:]}")


def end(process, number=signal.SIGTERM, timeout=20):
    """Ends what this process started."""
    if not process or process.poll() is not None:
        return
    process.send_signal(number)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Sample:
    def __init__(self, start, answer=None, delete=None, gone=None):
        self.start, self.answer, self.delete, self.gone = start, answer, delete, gone


class BerthTarget:
    """One connection that stays open; a group of one container with a public address and an open port."""

    name = "Berth: PUT of a group"

    def __init__(self, workdir, program):
        archive = workdir / "start.tar"
        run("/usr/bin/python3", ROOT / "tools/oci_image.py", archive, "--ref", "start:1", "--file", f"/start={program}",
            "--entrypoint", "/start")
        self.berth = Berth(workdir / "berth")
        try:
            self.berth.up()
            self.berth.berth("image", "import", archive, "--name", REFERENCE)
            self.berth.put("/resourcegroups/bench", {"location": "local"}, version="2021-04-01")
            self.headers = {"Authorization": "Bearer " + self.berth.token(), "Content-Type": "application/json"}
            self.connection = http.client.HTTPSConnection("127.0.0.1", self.berth.port, context=self.berth.tls, timeout=60)
            self.connection.connect()
        except BaseException:
            self.close()
            raise
        self.groups = workdir / "berth/node/groups"

    def request(self, method, path, body=None):
        """The times are those of sending the request and of having read all of the answer."""
        data = json.dumps(body).encode() if body else None
        sent = time.monotonic_ns()
        self.connection.request(method, path + f"?api-version={API}", data, self.headers)
        response = self.connection.getresponse()
        text = response.read()
        answered = time.monotonic_ns()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {text.decode()}")
        return sent, answered, json.loads(text) if text else None

    def create(self, name):
        path = self.berth.group_id("bench", name)
        sent, answered, group = self.request("PUT", path, group_body(name, REFERENCE, ports=[80], cpu=0.1, memory=0.1))
        state = group["properties"]["provisioningState"]
        if state != "Succeeded":
            raise RuntimeError(f"the PUT answered with the state {state}")
        log = eventually(lambda: first_instruction(self.request("GET", path + f"/containers/{name}/logs")[2]["content"]))
        return path, sent, answered, log

    def sample(self, i):
        path, sent, answered, first = self.create(f"b{i}")
        asked, deleted, _ = self.request("DELETE", path)
        while any(self.groups.iterdir()):
            time.sleep(0.0005)
        gone = time.monotonic_ns()
        return Sample(first - sent, answered - sent, deleted - asked, gone - asked)

    def close(self):
        self.berth.purge()


class Daemonless:
    """Commands that need a mount namespace of their own where the machine mixes both versions of control groups."""

    def __init__(self, workdir):
        def enter():
            if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
                raise OSError(ctypes.get_errno(), "no mount namespace could be made")
            if os.path.ismount(UNIFIED):
                libc.umount2(UNIFIED.encode(), MNT_DETACH)
            if os.path.isdir("/var/lib/cni"):  # where podman's network plugins remember addresses
                libc.mount(b"none", b"/var/lib/cni", b"tmpfs", 0, None)
        self.thread = concurrent.futures.ThreadPoolExecutor(1, initializer=enter)
        self.workdir = workdir

    def sample(self, i):
        return self.thread.submit(self.measure, i).result()


class Client:
    """What docker and podman share: `run -d`, `logs`, `rm -f`, on an image of one file."""

    def fill(self, program):
        folder = self.workdir / "image"
        folder.mkdir(exist_ok=True)
        shutil.copy(program, folder / "start")
        archive = self.workdir / "image.tar"
        run("tar", "-C", folder, "-cf", archive, "start")
        quiet(*self.command, "import", "--change", 'ENTRYPOINT ["/start"]', archive, REFERENCE)

    def measure(self, i):
        name = f"bench-{i}"
        sent = time.monotonic_ns()
        quiet(*self.command, "run", "-d", *self.options, "--name", name, REFERENCE)
        answered = time.monotonic_ns()
        first = eventually(lambda: first_instruction(run(*self.command, "logs", name).stdout))
        asked = time.monotonic_ns()
        quiet(*self.command, "rm", "-f", *self.remove_options, name)
        gone = time.monotonic_ns()
        return Sample(first - sent, answered - sent, gone - asked, gone - asked)


class Docker(Client):
    name = "`docker run -d`"
    options, remove_options = (), ()

    def __init__(self, workdir, program):
        self.workdir = workdir / "docker"
        self.workdir.mkdir()
        self.log = open(self.workdir / "log", "wb")
        address = f"unix://{self.workdir}/sock"
        self.command = ["/usr/bin/docker", "-H", address]
        self.daemon = subprocess.Popen(
            ["/usr/sbin/dockerd", "--data-root", self.workdir / "data", "--exec-root", self.workdir / "exec", "-H", address,
             "--pidfile", self.workdir / "pid"], stdout=self.log, stderr=self.log)
        try:
            eventually(lambda: self.daemon.poll() is not None or subprocess.run(
                [*self.command, "version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0, 40)
            if self.daemon.poll() is not None:
                lines = (self.workdir / "log").read_text(errors="replace").strip().splitlines()
                raise RuntimeError("dockerd ended: " + (lines[-1] if lines else ""))
            self.fill(program)
        except BaseException:
            self.close()
            raise

    def version(self):
        return "docker " + run(*self.command, "version", "--format", "{{.Server.Version}}").stdout.strip()

    def sample(self, i):
        return self.measure(i)

    def memory(self):
        """dockerd and the containerd that it starts."""
        containerd = (self.workdir / "exec/containerd/containerd.pid").read_text()
        return [("dockerd", self.daemon.pid), ("containerd", int(containerd))]

    def close(self):
        if self.daemon.poll() is None:
            left = run(*self.command, "ps", "-aq", check=False).stdout.split()
            if left:
                run(*self.command, "rm", "-f", *left, check=False)
        end(self.daemon)
        self.log.close()


class Podman(Daemonless, Client):
    name = "`podman run -d`"
    # Where root may not raise limits, podman's defaults can't be had.
    options = ("--ulimit", "nofile=10000:10000", "--ulimit", "nproc=4096:4096")
    remove_options = ("-t", "0")

    def __init__(self, workdir, program):
        super().__init__(workdir / "podman")
        self.workdir.mkdir()
        self.command = ["/usr/bin/podman", "--root", self.workdir / "root", "--runroot", self.workdir / "runroot",
                        "--tmpdir", self.workdir / "tmp", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        try:
            self.thread.submit(self.fill, program).result()
        except BaseException:
            self.close()
            raise

    def version(self):
        return run("/usr/bin/podman", "--version").stdout.strip().replace(" version", "")

    def close(self):
        self.thread.submit(run, *self.command, "rm", "-f", "-a", "-t", "0", check=False).result()
        self.thread.submit(run, "umount", self.workdir / "root/overlay", check=False).result()
        self.thread.shutdown()


class Crun(Daemonless):
    name = "`crun run`, no network, no monitor"

    def __init__(self, workdir, program):
        super().__init__(workdir / "crun")
        (self.workdir / "rootfs").mkdir(parents=True)
        shutil.copy(program, self.workdir / "rootfs/start")
        run("/usr/bin/crun", "spec", cwd=self.workdir)
        config = json.loads((self.workdir / "config.json").read_text())
        config["process"].update(args=["/start"], terminal=False)
        config["process"].pop("rlimits", None)
        (self.workdir / "config.json").write_text(json.dumps(config))
        self.command = ["/usr/bin/crun", "--root", self.workdir / "state", "--cgroup-manager", "cgroupfs"]

    def version(self):
        return run("/usr/bin/crun", "--version").stdout.splitlines()[0].replace(" version", "")

    def measure(self, i):
        name = f"bench-{os.getpid()}-{i}"
        sent = time.monotonic_ns()
        process = subprocess.Popen([*self.command, "run", "-b", self.workdir, name], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        line = process.stdout.readline()
        first = first_instruction(line)
        asked = time.monotonic_ns()
        try:
            if not first:
                raise RuntimeError(f"crun run: {line.strip()}")
            quiet(*self.command, "kill", name, "KILL")  # `run` waits for it and removes the rest
            process.wait(20)
            gone = time.monotonic_ns()
        finally:
            end(process, signal.SIGKILL)
            process.stdout.close()
        return Sample(first - sent, None, gone - asked, gone - asked)

    def close(self):
        self.thread.shutdown()


# --- the rest of what is measured ---

@contextlib.contextmanager
def real_time(pid):
    """This process and that one before all other work of the machine. Yields whether that is allowed."""
    threads = [int(t) for p in (os.getpid(), pid) for t in os.listdir(f"/proc/{p}/task")]
    try:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(10))
        yield True
    except PermissionError:
        yield False
    finally:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def gets(target, path):
    """GETs of a group over one TLS connection, one after the other; milliseconds."""
    berth = target.berth
    request = (f"GET {path}?api-version={API} HTTP/1.1\r\nHost: 127.0.0.1:{berth.port}\r\n"
               f"Authorization: {target.headers['Authorization']}\r\n\r\n").encode()
    times = []
    with socket.create_connection(("127.0.0.1", berth.port), timeout=30) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with berth.tls.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            for _ in range(GETS):
                sent = time.perf_counter()
                connection.sendall(request)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    part = connection.recv(65536)
                    if not part:
                        raise RuntimeError("berthd closed the connection")
                    answer += part
                head, _, body = answer.partition(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(head.decode())
                length = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)[1])
                while len(body) < length:
                    body += connection.recv(65536)
                times.append((time.perf_counter() - sent) * 1e3)
    return times


def memory_mib(pid):
    """Resident, and proportional (shared pages divided among those that map them)."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return [int(re.search(rf"^{key}: +(\d+) kB", text, re.M)[1]) / 1024 for key in ("Rss", "Pss")]


def fsync_us(workdir, n=200):
    """4 KiB appended and synced: the least that a durable commit can cost on this disk."""
    times = []
    fd = os.open(workdir / "fsync", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for _ in range(n):
        os.write(fd, b"x" * 4096)
        began = time.perf_counter()
        os.fdatasync(fd)
        times.append((time.perf_counter() - began) * 1e6)
    os.close(fd)
    return times


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal: +(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / (1 << 20)
    version = re.search(r'PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text())[1]
    cgroups = "v1 and v2 mixed" if os.path.ismount(UNIFIED) else \
        "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1"
    return (f"{os.cpu_count()} cores ({cpu[1] if cpu else platform.machine()}), {memory:.0f} GiB, {version}, Linux "
            f"{platform.release()}, control groups {cgroups}, load {os.getloadavg()[0]:.2f} at the start")


def measure_starts(targets, runs, warm_up):
    samples = {t: [] for t in targets}
    for i in range(warm_up + runs):
        for target in targets:
            sample = target.sample(i)
            if i >= warm_up:
                samples[target].append(sample)
        if (i + 1) % 10 == 0:
            say(f"  {i + 1} of {warm_up + runs} rounds")
    return samples


def column(samples, field):
    values = [getattr(s, field) for s in samples if getattr(s, field) is not None]
    return f"{median(values) / 1e6:.1f}" if values else ""


def starts_table(samples):
    rows = ["| cached image, ms | first instruction p50 | p99 | command answered p50 | delete answered p50 | all gone p50 |",
            "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for target, list_ in samples.items():
        starts = [s.start for s in list_]
        rows.append(f"| {target.name} | {median(starts) / 1e6:.1f} | {percentile(starts, 0.99) / 1e6:.1f} | "
                    f"{column(list_, 'answer')} | {column(list_, 'delete')} | {column(list_, 'gone')} |")
    return rows


def others_table(berth, docker, get_times, alone, store, syncs, samples):
    start = median([s.start for s in samples[berth]]) / 1e6
    p99 = percentile(get_times, 0.99)
    rows = ["| figure | value | target |", "| --- | ---: | ---: |",
            f"| PUT sent to first instruction, p50 | {start:.1f} ms | at most 60 ms |",
            f"| {GETS} GETs of a group over one TLS connection, p50 | {median(get_times):.2f} ms | |",
            f"| the same, p99 | {p99:.2f} ms | under 2 ms |"]
    if alone:
        rows.append(f"| the same again at real-time priority (without the machine's other work), p50 / p99 | {median(alone):.2f} / "
                    f"{percentile(alone, 0.99):.2f} ms | |")
    for name, limit in (("berthd", 20), ("berth-node", 12)):
        rss, pss = memory_mib(berth.berth.pid(name))
        rows.append(f"| {name} idle at the end of all this, resident (proportional) | {rss:.1f} MiB ({pss:.1f}) | "
                    f"under {limit} MiB |")
    for name, pid in docker.memory() if docker else ():
        rss, pss = memory_mib(pid)
        rows.append(f"| {name} idle, resident (proportional) | {rss:.1f} MiB ({pss:.1f}) | |")
    rows += [f"| store: {name} | {value} | |" for name, value in store]
    rows.append(f"| write of 4 KiB and fdatasync, p50 / p99 | {median(syncs):.0f} / {percentile(syncs, 0.99):.0f} µs | |")
    return rows


def store_rows(workdir):
    output = run(BUILD / "store-bench", workdir / "store.db", 2).stdout
    rows = []
    for line in output.splitlines():
        match = re.match(r"sqlite +(\d+) threads: +(\d+) commits/s, p50 (\d+) us, p99 (\d+) us", line)
        if match:
            rows.append((f"durable commits of 2 KiB by {match[1]} threads",
                         f"{match[2]}/s, p50 {match[3]} µs, p99 {match[4]} µs"))
    return rows


def measure(workdir, runs, warm_up):
    program = workdir / "start"
    run("cc", "-O2", "-static", "-s", "-o", program, ROOT / "tests/bench/start.c")
    targets, skipped, versions = [], [], []
    about = machine()
    say(about)
    try:
        targets.append(BerthTarget(workdir, program))
        for kind in (Docker, Podman, Crun):
            try:
                target = kind(workdir, program)
                targets.append(target)
                target.sample(999)
                versions.append(target.version())
            except (RuntimeError, AssertionError, OSError, subprocess.SubprocessError) as error:
                words = f"{kind.name} was skipped: {' '.join(str(error).split())[-300:]}"
                say(words)
                skipped.append(words)
                if targets and isinstance(targets[-1], kind):
                    targets.pop().close()
        berth = targets[0]
        docker = next((t for t in targets if isinstance(t, Docker)), None)
        samples = measure_starts(targets, runs, warm_up)
        path, *_ = berth.create("gets")
        get_times, alone = gets(berth, path), None
        with real_time(berth.berth.pid("berthd")) as allowed:
            if allowed:
                alone = gets(berth, path)
        berth.request("DELETE", path)
        eventually(lambda: not any(berth.groups.iterdir()))
        time.sleep(1)
        lines = others_table(berth, docker, get_times, alone, store_rows(workdir), fsync_us(workdir), samples)
    finally:
        for target in reversed(targets):
            target.close()
    head = [f"{about}, {os.getloadavg()[0]:.2f} at the end. Peers: {', '.join(versions) or 'none'}. {runs} runs of each, "
            f"alternating, after {warm_up} that don't count; {datetime.date.today()}."]
    return "\n".join([*head, *skipped, "", *starts_table(samples), "", *lines])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--dir", default="/var/tmp", help="where the temporary folder is made")
    parser.add_argument("--write", action="store_true", help="put the result into docs/performance.md")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench.py needs root: it starts a Berth.")
    if libc.unshare(CLONE_NEWNET) != 0:
        sys.exit("No network namespace could be made.")
    run("ip", "link", "set", "lo", "up")
    workdir = pathlib.Path(tempfile.mkdtemp(prefix="berth-bench-", dir=args.dir))
    workdir.chmod(0o755)
    before = peers_folders()
    try:
        result = measure(workdir, args.runs, args.warm_up)
    finally:
        remove_empty(peers_folders() - before)
        shutil.rmtree(workdir, ignore_errors=True)
    if workdir.exists():
        say(f"{workdir} could not be removed.")
    print(result)
    if args.write:
        page = ROOT / "docs/performance.md"
        before, _, rest = page.read_text().partition("<!-- result -->\n")
        _, _, after = rest.partition("<!-- end -->\n")
        page.write_text(f"{before}<!-- result -->\n{result}\n<!-- end -->\n{after}")


main()
