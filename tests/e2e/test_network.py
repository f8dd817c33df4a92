"""
The network of groups, from everywhere: the host, other groups, and an "internet" behind a link, a namespace of its own with
addresses of 198.51.100.0/24. Most questions are asked inside containers, through a shell that listens on a port.
"""
import json
import pathlib
import re
import socket
import struct
import subprocess
import threading

import pytest

from harness import Berth, busybox_image, eventually, fetch, group_body, run

HERE, THERE, METADATA = "198.51.100.1", "198.51.100.2", "169.254.169.254"
SHELL = 7000
RG = "net"


class Internet:
    """The namespace behind the link; addresses and servers as internet.py says."""

    def __init__(self):
        script = pathlib.Path(__file__).parent / "internet.py"
        self.process = subprocess.Popen(["unshare", "--net", "/usr/bin/python3", "-B", script, THERE], text=True,
                                        stdout=subprocess.PIPE)
        self.namespace = f"/proc/{self.process.pid}/ns/net"
        own = pathlib.Path("/proc/self/ns/net").stat().st_ino
        eventually(lambda: pathlib.Path(self.namespace).stat().st_ino != own)
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", self.process.pid)
        run("ip", "address", "add", f"{HERE}/24", "dev", "up0")
        run("ip", "link", "set", "up0", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", "down0", "up")
        self.run("ip", "address", "add", f"{METADATA}/32", "dev", "lo")
        self.run("ip", "address", "add", f"{THERE}/24", "dev", "down0")
        # Public addresses are routed to this machine, as an administrator would do it. The private ones are tried, too.
        self.run("ip", "route", "add", "100.64.0.0/10", "via", HERE)
        run("ip", "route", "add", "default", "via", THERE)
        assert self.process.stdout.readline() == "ready\n"

    def run(self, *argv, **kwargs):
        return run("nsenter", f"--net={self.namespace}", *argv, **kwargs)

    def get(self, address, port=80):
        """What a client out there gets."""
        return self.run("/usr/bin/timeout", "1", "/bin/busybox", "wget", "-q", "-O", "-", f"http://{address}:{port}/", check=False).stdout

    def seen(self):
        return json.loads(run("/bin/busybox", "wget", "-q", "-O", "-", f"http://{THERE}/seen").stdout)

    def stop(self):
        self.process.kill()
        self.process.wait()
        run("ip", "link", "delete", "up0", check=False)


@pytest.fixture(scope="module")
def internet():
    internet = Internet()
    yield internet
    internet.stop()


@pytest.fixture(scope="module")
def own(workdir, internet):
    """A Berth that found the default route when it started, listening where the groups might reach it."""
    berth = Berth(workdir / "n", settings={"dns_upstreams": THERE, "stop_grace_ms": 0})
    berth.up()
    berth.put(f"/resourcegroups/{RG}", {"location": "local"}, version="2021-04-01")
    yield berth
    berth.purge()


@pytest.fixture(scope="module")
def image(workdir, registry):
    program = workdir / "udp"
    run("cc", "-static", "-O1", "-o", program, pathlib.Path(__file__).parent / "udp.c")
    registry.push(busybox_image(workdir, "net", [program]), "net:1")
    return registry.ref("net:1")


class Group:
    def __init__(self, berth, image, script, ports=(), label=None, public=True):
        self.berth, self.name = berth, berth.new_name("g")
        body = group_body(self.name, image, ["/bin/sh", "-c", script], policy="Never")
        listed = [{"port": p, "protocol": proto} for p, proto in ports]
        if public:
            body["properties"]["containers"][0]["properties"]["ports"] = listed
            body["properties"]["ipAddress"] = {"type": "Public", "ports": listed}
            if label:
                body["properties"]["ipAddress"]["dnsNameLabel"] = label
        answer = berth.call("PUT", berth.group_id(RG, self.name), body)
        assert answer.status in (200, 201), answer.text
        made = berth.wait(RG, self.name, lambda g: g["properties"]["provisioningState"] in ("Succeeded", "Failed"))
        assert made["properties"]["provisioningState"] == "Succeeded", made
        self.ip = made["properties"].get("ipAddress", {}).get("ip")
        self.fqdn = made["properties"].get("ipAddress", {}).get("fqdn")

    def sh(self, script):
        """What the script prints inside; both streams."""
        def connect():
            try:
                return socket.create_connection((self.ip, SHELL), timeout=5)
            except ConnectionRefusedError:
                return None  # the shell is about to listen
        with eventually(connect) as s:
            s.settimeout(20)
            s.sendall(f"exec 2>&1\n{script}\nexit\n".encode())
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def get(self, where):
        return self.sh(f"timeout 1 wget -q -O - http://{where}/ || echo failed")

    def log(self, ending="end\n"):
        """Its log, complete."""
        def ended():
            text = self.berth.logs(RG, self.name)
            return text if text.endswith(ending) else None
        return eventually(ended)

    def delete(self):
        assert self.berth.call("DELETE", self.berth.group_id(RG, self.name)).status == 200


SERVE_SHELL = f"busybox nc -ll -p {SHELL} -e /bin/sh"
WEB = "mkdir -p /w; echo $HOSTNAME > /w/index.html; httpd -p 80 -h /w; httpd -p 81 -h /w"


@pytest.fixture(scope="module")
def client(own, image):
    """A group to ask from."""
    return Group(own, image, SERVE_SHELL, [(SHELL, "TCP")])


@pytest.fixture(scope="module")
def web(own, image):
    """A group with a name that serves on port 80, and on 81 without saying so."""
    return Group(own, image, f"{WEB}; udp serve 80 & {SERVE_SHELL}", [(80, "TCP"), (SHELL, "TCP")], label="web-demo")


@pytest.fixture(scope="module")
def hidden(own, image):
    """A group without an address: it serves as well, and tells what it sees in its log."""
    gateway = own.config["private_pool"].split("/")[0].rsplit(".", 1)[0] + ".1"
    tries = [f"timeout 1 wget -q -O - http://{THERE}/; echo", f"udp ask {THERE} 7 hello", "timeout 1 wget -q -O - http://web-demo/",
             "timeout 5 nslookup -type=a web-demo.local.berth.internal | tail -n 2",
             f"timeout 5 nc -w 1 {gateway} {own.port} </dev/null && echo reached"]
    script = f"{WEB}; ip -4 -o address show eth0; " + "; ".join(f"echo == {i}; {t} 2>&1" for i, t in enumerate(tries))
    return Group(own, image, f"{script}; echo end; sleep 1000", public=False)


def address_of_hidden(hidden):
    return re.search(r"inet ([0-9.]+)", hidden.log()).group(1)


def can_connect(address, port, timeout=1):
    with socket.socket() as s:
        s.settimeout(timeout)
        return s.connect_ex((address, port)) == 0


def ask_udp(address, port, text):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        try:
            s.connect((address, port))
            s.send(text.encode())
            return s.recv(500).decode()
        except OSError:
            return None


# --- reaching a group --------------------------------------------------------------------------------------------------

def test_a_declared_port_is_reachable_from_everywhere(web, client, internet):
    assert fetch(web.ip) == f"{web.name}\n"
    assert client.get(web.ip) == f"{web.name}\n"
    assert client.get(web.fqdn) == f"{web.name}\n"
    assert client.get("web-demo") == f"{web.name}\n", "the search domain"
    assert web.get(web.ip) == f"{web.name}\n", "its own public address"
    assert internet.get(web.ip) == f"{web.name}\n"


def test_an_undeclared_port_is_not(web, client, internet):
    assert "0.0.0.0:81" in web.sh("netstat -ltn") or ":::81" in web.sh("netstat -ltn")
    assert web.get("127.0.0.1:81") == f"{web.name}\n", "it does serve there"
    assert not can_connect(web.ip, 81)
    assert "failed" in client.get(f"{web.ip}:81")
    assert internet.get(web.ip, 81) == ""
    # The same number of another protocol is another port.
    assert ask_udp(web.ip, 80, "x") is None
    assert "no answer" in client.sh(f"udp ask {web.ip} 80 x")


def test_a_group_without_an_address_can_not_be_reached(hidden, client, web, internet):
    address = address_of_hidden(hidden)
    assert not can_connect(address, 80)
    assert "failed" in client.get(address)
    assert internet.get(address) == ""
    assert "bad" in client.sh(f"ping -c 1 -W 1 {address} || echo bad")


def test_udp_ports(own, image, client, internet):
    echo = Group(own, image, f"udp serve 5353 & udp serve 5354 & {SERVE_SHELL}", [(5353, "UDP"), (SHELL, "TCP")])
    assert eventually(lambda: ask_udp(echo.ip, 5353, "hello")).endswith(" hello")
    assert client.sh(f"udp ask {echo.ip} 5353 hello") == f"{client.ip} hello\n", "and between groups nothing is translated"
    assert echo.sh("udp ask 127.0.0.1 5354 x") == "127.0.0.1 x\n"
    assert ask_udp(echo.ip, 5354, "hello") is None
    assert "no answer" in client.sh(f"udp ask {echo.ip} 5354 hello")
    assert not can_connect(echo.ip, 5353), "TCP with the same number"
    echo.delete()
    eventually(lambda: ask_udp(echo.ip, 5353, "hello") is None)


def test_a_deleted_group_can_not_be_reached(own, image):
    group = Group(own, image, f"{WEB}; {SERVE_SHELL}", [(80, "TCP"), (SHELL, "TCP")])
    assert fetch(group.ip) == f"{group.name}\n"
    group.delete()
    eventually(lambda: not can_connect(group.ip, 80))


# --- what a group reaches ----------------------------------------------------------------------------------------------

def test_the_host_answers_dns_and_ping_alone(own, client, hidden, internet):
    gateway = own.config["public_pool"].split("/")[0].rsplit(".", 1)[0] + ".1"
    with socket.socket() as s:
        s.bind(("0.0.0.0", 0))
        s.listen()
        s.settimeout(0.1)
        port = s.getsockname()[1]
        tries = "; ".join(f"timeout 1 nc {a} {p} </dev/null && echo reached {a} {p}" for a in (gateway, HERE, "127.0.0.1")
                          for p in (own.port, own.port + 10, port))
        assert "reached" not in client.sh(tries)
        assert "reached" not in hidden.log()
        with pytest.raises(TimeoutError):
            s.accept()
        internet.run("/usr/bin/timeout", "1", "/bin/busybox", "nc", HERE, port, stdin=subprocess.DEVNULL, check=False)
        assert s.accept(), "and yet it is there"
    assert "1 packets received" in client.sh(f"ping -c 1 -W 1 {gateway}")
    assert "bad" in client.sh(f"ping -c 1 -W 1 {HERE} || echo bad")


def test_egress_is_masqueraded(client, hidden, internet):
    assert client.get(THERE) == HERE
    assert client.sh(f"udp ask {THERE} 7 hello") == f"{HERE} hello\n"
    parts = hidden.log().split("== ")
    assert parts[1] == f"0\n{HERE}\n"
    assert parts[2] == f"1\n{HERE} hello\n"


def test_metadata_services_are_out_of_reach(client, internet):
    assert run("/bin/busybox", "wget", "-q", "-O", "-", f"http://{METADATA}/").stdout == HERE, "the host's own"
    assert "failed" in client.get(METADATA)


def test_a_forged_source_is_dropped(own, client, web, internet):
    gateway = own.config["public_pool"].split("/")[0].rsplit(".", 1)[0] + ".1"
    forged = [web.ip, gateway, HERE, THERE, "192.0.2.7", "100.65.1.1", "127.0.0.1"]
    for source in forged:
        client.sh(f"udp forge {source} {THERE} 7 forged-{source}")
    assert client.sh(f"udp forge {client.ip} {THERE} 7 true").strip() == "sent"
    texts = eventually(lambda: (lambda t: t if "true" in t else None)([d[1] for d in internet.seen()["datagrams"]]))
    assert not [t for t in texts if t.startswith("forged")]


# --- names -------------------------------------------------------------------------------------------------------------

def lookup(group, name, server=""):
    return group.sh(f"nslookup -type=a {name} {server}")


def test_names_of_groups(own, web, client, hidden):
    assert web.fqdn == "web-demo.local.berth.internal"
    assert f"Address: {web.ip}" in lookup(client, web.fqdn)
    assert f"Address: {web.ip}" in lookup(client, "WEB-Demo.Local.Berth.Internal")
    assert "NXDOMAIN" in lookup(client, "nothing.local.berth.internal")
    parts = hidden.log().split("== ")
    assert parts[3] == f"2\n{web.name}\n"
    assert f"Address: {web.ip}" in parts[4]
    from_host = run("dig", "+short", "+tcp", "-p", own.config["dns_listen"].split(":")[1], "@127.0.0.1", web.fqdn).stdout
    assert from_host == f"{web.ip}\n"


def test_a_name_goes_with_its_group(own, image, client):
    first = Group(own, image, SERVE_SHELL, [(SHELL, "TCP")], label="brief-one")
    assert f"Address: {first.ip}" in lookup(client, first.fqdn)
    taken = group_body("other", image, ports=[80], label="brief-one")
    assert own.call("PUT", own.group_id(RG, "other"), taken).status in (400, 409)
    first.delete()
    assert "NXDOMAIN" in lookup(client, first.fqdn)
    second = Group(own, image, SERVE_SHELL, [(SHELL, "TCP")], label="brief-one")
    assert f"Address: {second.ip}" in lookup(client, second.fqdn)
    second.delete()


def test_other_names_are_forwarded(client, internet):
    assert "Address: 198.51.100.80" in lookup(client, "www.example.test")
    assert "NXDOMAIN" in lookup(client, "nothing.example.test")
    asked = [q[0] for q in internet.seen()["questions"]]
    assert "www.example.test" in asked
    assert not [q for q in asked if q.endswith("berth.internal")], "our names stay here"


def query_of(name, number=0x1234):
    return struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0) + b"".join(
        bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0" + struct.pack(">HH", 1, 1)


def ask_tcp(group, name):
    """A question over TCP from inside; the answer's bytes."""
    query = query_of(name)
    escaped = "".join(f"\\x{b:02x}" for b in struct.pack(">H", len(query)) + query)
    text = group.sh("server=$(grep nameserver /etc/resolv.conf); "
                    f"(printf '{escaped}'; sleep 1) | nc -w 2 ${{server#nameserver }} 53 | busybox od -An -v -tx1")
    data = bytes.fromhex(text)
    assert len(data) > 2 and struct.unpack(">H", data[:2])[0] == len(data) - 2
    return data[2:]


def test_dns_over_tcp(client, web, internet):
    answer = ask_tcp(client, web.fqdn)
    assert answer[3] & 15 == 0 and answer.endswith(socket.inet_aton(web.ip))
    assert ask_tcp(client, "nothing.local.berth.internal")[3] & 15 == 3
    big = ask_tcp(client, "big.example.test")
    assert struct.unpack(">H", big[6:8])[0] == 100 and len(big) > 1600, "an answer that UDP could not carry"
    assert ["big.example.test", "tcp"] in internet.seen()["questions"]


def test_the_forwarder_is_for_groups_alone(own, internet):
    gateway = own.config["public_pool"].split("/")[0].rsplit(".", 1)[0] + ".1"
    assert "198.51.100.80" in run("dig", "+short", f"@{gateway}", "www.example.test").stdout
    assert internet.run("dig", "+time=1", "+tries=1", f"@{gateway}", "www.example.test", check=False).returncode != 0


def test_a_killed_forwarder_is_started_again(own, client, web):
    def porter():
        children = run("ps", "-o", "pid=,comm=", "--ppid", own.pid("berth-node"), check=False).stdout.split()
        return int(children[children.index("berth-porter") - 1]) if "berth-porter" in children else None
    first = porter()
    run("kill", "-9", first)
    eventually(lambda: porter() not in (None, first))
    assert f"Address: {web.ip}" in eventually(lambda: (lambda t: t if "Address: " + web.ip in t else None)(
        lookup(client, web.fqdn)))


# --- what is seen from inside ------------------------------------------------------------------------------------------

def test_the_files_of_the_network(own, client, hidden):
    gateway = own.config["public_pool"].split("/")[0].rsplit(".", 1)[0] + ".1"
    name = client.sh("hostname").strip()
    assert client.sh("cat /etc/hostname") == f"{name}\n"
    assert client.sh("cat /etc/hosts") == f"127.0.0.1\tlocalhost\n::1\tlocalhost\n{client.ip}\t{name}\n"
    assert client.sh("cat /etc/resolv.conf") == f"search local.berth.internal\nnameserver {gateway}\n"
    assert f"{client.ip}/32" in client.sh("ip -4 -o address show eth0")
    assert client.sh("ip route").splitlines()[0].split()[:3] == ["default", "via", gateway]
    assert client.sh("cat /proc/net/if_inet6 | grep -v ' lo$'") == "", "no IPv6"


def status(group):
    return dict(line.split(":\t", 1) for line in group.sh("cat /proc/self/status").splitlines() if ":\t" in line)


def test_no_group_has_a_root_of_the_host(own, client, web):
    first = own.config["uid_first"]
    bases = []
    for group in (client, web):
        inside, outside, count = (int(n) for n in group.sh("cat /proc/self/uid_map").split())
        assert (inside, count) == (0, 65536) and outside >= first and outside % 65536 == 0
        assert group.sh("cat /proc/self/gid_map").split() == ["0", str(outside), "65536"]
        assert group.sh("id -u").strip() == "0"
        bases.append(outside)
        seen = status(group)
        # Docker's default capabilities, and none that could be gained.
        assert {seen[k] for k in ("CapEff", "CapPrm", "CapBnd")} == {"00000000a80425fb"}, seen
        assert seen["CapAmb"] == "0000000000000000"
        assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
    assert bases[0] != bases[1]
    # And on the host: every process below a group's id range belongs to it.
    owners = {int(pathlib.Path(p, "status").read_text().split("Uid:\t")[1].split()[0])
              for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and program_of(p) == "nc"}
    assert set(bases) <= owners and 0 not in owners


def program_of(path):
    try:
        words = (path / "cmdline").read_bytes().split(b"\0")
        return words[1].decode() if words[0] == b"busybox" and len(words) > 1 else ""
    except OSError:
        return ""


@pytest.mark.parametrize("attempt", [
    "mount -t tmpfs none /tmp", "busybox unshare -U true", "ip link add x0 type dummy", "ip address add 100.64.0.99/32 dev eth0",
    "ip route del default", "echo 1 > /proc/sys/kernel/panic", "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "echo x > /proc/sysrq-trigger", "cat /proc/kcore", "cd /sys/fs/cgroup/pids || cd /sys/fs/cgroup; mkdir x", "hostname other",
    "busybox mknod /x b 8 0", "busybox chroot / busybox nsenter -t 1 -m true", "busybox insmod /bin/udp", "busybox dmesg",
    "busybox date -s 2020.01.01-00:00; [ $(date +%Y) = 2020 ]"])
def test_what_a_container_may_not(client, attempt):
    assert client.sh(f"{{ {attempt}; }} >/dev/null 2>&1 && echo done || echo denied") == "denied\n"


# --- many at once ------------------------------------------------------------------------------------------------------

def test_groups_made_together_do_not_see_each_other(own, image, client):
    made = []

    def make():
        made.append(Group(own, image, f"{WEB}; {SERVE_SHELL}", [(80, "TCP"), (SHELL, "TCP")]))
    threads = [threading.Thread(target=make) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({g.ip for g in made}) == 5
    first, *others = made
    for other in others:
        assert first.get(other.ip) == f"{other.name}\n"
        assert "failed" in first.get(f"{other.ip}:81")
        assert len({first.sh("readlink /proc/self/ns/net"), other.sh("readlink /proc/self/ns/net")}) == 2
    for group in made:
        group.delete()
