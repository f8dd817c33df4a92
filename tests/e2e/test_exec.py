"""exec and attach: over the WebSocket as the clients of ACI do it, and with what Berth adds."""
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pytest
import websocket

from harness import BUILD, eventually, view

LOOP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


@pytest.fixture(scope="module")
def rg(berth):
    name = berth.new_name("exec")
    berth.put(f"/resourcegroups/{name}", {"location": "local"}, version="2021-04-01")
    yield name
    for item in berth.get(f"/resourceGroups/{name}/providers/Microsoft.ContainerInstance/containerGroups")["value"]:
        berth.call("DELETE", item["id"])
    berth.call("DELETE", berth.sub(f"/resourcegroups/{name}"), version="2021-04-01")


@pytest.fixture(scope="module")
def web(berth, registry, rg):
    berth.create(rg, "web", registry.ref("busybox:1"), LOOP)
    berth.wait(rg, "web", lambda g: view(g).get("currentState", {}).get("state") == "Running")
    return berth.group_id(rg, "web") + "/containers/web"


def session(berth, container, expect=200, what="exec", **body):
    answer = berth.call("POST", f"{container}/{what}", body or None)
    assert answer.status == expect, answer.text
    return answer.json


def dial(berth, where, password=True, **options):
    ws = websocket.create_connection(where["webSocketUri"], sslopt={"ca_certs": str(berth.state / "ca.pem")}, timeout=30,
                                     **options)
    if password:
        ws.send(where["password"])
    return ws


def read_all(ws):
    """Messages to the end, and the code of the close frame."""
    messages = []
    while True:
        opcode, data = ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            ws.close()
            return messages, struct.unpack("!H", data[:2])[0]
        messages.append((opcode, data))


def output(ws):
    messages, code = read_all(ws)
    assert all(opcode == websocket.ABNF.OPCODE_TEXT and data for opcode, data in messages), messages
    return b"".join(data for _, data in messages).decode(), code


def channels(ws):
    """What each channel had, to the end."""
    found = {1: b"", 2: b"", 3: b""}
    messages, code = read_all(ws)
    for opcode, data in messages:
        assert opcode == websocket.ABNF.OPCODE_BINARY
        found[data[0]] += data[1:]
    return found[1], found[2], json.loads(found[3]), code


def test_a_command_line_is_quoted_as_in_a_shell(berth, web):
    where = session(berth, web, command="sh -c 'echo \"one  two\" $0; exit 3' three",
                    terminalSize={"rows": 0, "cols": 0})
    assert re.fullmatch(rf"wss://127\.0\.0\.1:{berth.port}/streams/[-0-9a-f]+\?api-version=1\.0&rows=24&cols=80",
                        where["webSocketUri"])
    assert where["password"].endswith("[[EOM]]")
    assert output(dial(berth, where)) == ("one  two three\r\n", 1000)


@pytest.mark.parametrize("opcode", [websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY])
def test_keys_come_as_text_or_binary(berth, web, opcode):
    ws = dial(berth, session(berth, web, command="/bin/sh", terminalSize={"rows": 30, "cols": 100}))
    for key in "echo a$((1+1))b; exit\r":
        ws.send(key, opcode)
    text, code = output(ws)
    assert "\r\na2b\r\n" in text and code == 1000


def test_the_terminal_has_the_size_that_was_asked_for(berth, web):
    # crun hands the terminal out and starts the command at once: the size may come a moment later.
    where = session(berth, web, command="sh -c 'sleep 0.3; stty size'", terminalSize={"rows": 30, "cols": 100})
    assert where["webSocketUri"].endswith("&rows=30&cols=100")
    assert output(dial(berth, where)) == ("30 100\r\n", 1000)


def test_output_is_valid_text_whatever_was_written(berth, web):
    script = r"printf 'a\303'; sleep 0.3; printf '\251b\377c\342\202'"
    assert output(dial(berth, session(berth, web, arguments=["sh", "-c", script]))) == ("a\u00e9b\ufffdc\ufffd\ufffd", 1000)


def test_what_cannot_be_started_says_why(berth, web):
    text, code = output(dial(berth, session(berth, web, command="/bin/nothing here")))
    assert "/bin/nothing" in text and code == 1011
    _, _, status, code = channels(dial(berth, session(berth, web, command="/bin/nothing", terminal=False)))
    assert status["error"]["code"] == "ContainerExecFailed" and "/bin/nothing" in status["error"]["message"] and code == 1011


def test_without_a_terminal_there_are_channels_and_an_exit_code(berth, web):
    ws = dial(berth, session(berth, web, arguments=["sh", "-c", "cat; echo wrong >&2; exit 7"], terminal=False))
    ws.send_binary(b"\x00hello \xff")
    ws.send_binary(b"\x00world")
    ws.send_binary(b"\xff\x00")
    assert channels(ws) == (b"hello \xffworld", b"wrong\n", {"exitCode": 7}, 1000)


def test_a_terminal_with_channels_can_be_resized(berth, web):
    where = session(berth, web, command="sh -c 'read x; stty size; exit 4'")
    ws = dial(berth, where, subprotocols=["v5.channel.k8s.io"])
    assert ws.getsubprotocol() == "v5.channel.k8s.io"
    ws.send_binary(b'\x04{"Width": 99, "Height": 33}')
    ws.send_binary(b"\x00\r")
    out, err, status, code = channels(ws)
    assert b"33 99" in out and err == b"" and status == {"exitCode": 4} and code == 1000


@pytest.mark.parametrize("body,code", [
    ({}, "InvalidCommand"),
    ({"command": " "}, "InvalidCommand"),
    ({"command": "echo 'a"}, "InvalidCommand"),
    ({"command": "a", "arguments": ["b"]}, "InvalidCommand"),
    ({"arguments": []}, "InvalidCommand"),
    ({"arguments": [""]}, "InvalidCommand"),
    ({"command": "ls", "terminalSize": {"rows": -1}}, "InvalidRequestContent"),
    ({"command": "ls", "tty": True}, "InvalidRequestContent"),
    ({"command": "ls", "terminalSize": {"width": 1}}, "InvalidRequestContent"),
])
def test_what_is_wrong_with_a_body_is_told(berth, web, body, code):
    answer = berth.call("POST", web + "/exec", body)
    assert (answer.status, answer.code) == (400, code), answer.text


def test_a_container_that_does_not_run_is_named(berth, registry, rg, web):
    berth.create(rg, "done", registry.ref("busybox:1"), ["true"], policy="Never")
    berth.wait(rg, "done", lambda g: view(g).get("currentState", {}).get("state") == "Terminated")
    done = berth.group_id(rg, "done") + "/containers/done"
    answer = berth.call("POST", done + "/exec", {"command": "ls"})
    assert (answer.status, answer.code) == (409, "ContainerNotRunning") and "Terminated" in answer.message
    assert berth.call("POST", done + "/attach").code == "ContainerNotRunning"
    answer = berth.call("POST", web.replace("containers/web", "containers/other") + "/exec", {"command": "ls"})
    assert (answer.status, answer.code) == (404, "ContainerNotFound")


# --- who may come in ---

def refused(berth, where, status, **options):
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        dial(berth, where, password=False, **options)
    assert caught.value.status_code == status


def test_a_password_is_for_one_use(berth, web):
    where = session(berth, web, command="echo yes")
    other = session(berth, web, command="echo yes")
    ws = dial(berth, where, password=False)
    refused(berth, where, 404)
    ws.send(other["password"])
    messages, code = read_all(ws)
    assert messages == [] and code == 1008
    refused(berth, where, 404)
    assert output(dial(berth, other)) == ("yes\r\n", 1000)
    refused(berth, other, 404)


def test_other_origins_and_names_are_refused_and_spend_nothing(berth, web):
    where = session(berth, web, command="echo yes")
    refused(berth, where, 403, origin="https://evil.example")
    refused(berth, where, 403, origin=f"https://evil.example:{berth.port}")
    refused(berth, where, 403, origin="null")
    refused(berth, where, 403, host=f"evil.example:{berth.port}")
    plain = berth.raw("GET", where["webSocketUri"].replace("wss:", "https:"))
    assert plain.status == 426 and plain.headers["Sec-WebSocket-Version"] == "13"
    assert output(dial(berth, where, origin=f"https://127.0.0.1:{berth.port}")) == ("yes\r\n", 1000)


def test_secrets_of_a_session_are_in_no_log(berth, web):
    where = session(berth, web, command="echo canary-in-a-command")
    output(dial(berth, where))
    for log in (berth.state / "log").glob("*"):
        text = log.read_text(errors="replace")
        assert where["password"] not in text and "canary-in-a-command" not in text


def test_frames_that_break_the_rules_end_the_session(berth, web):
    for frame, code in ((b"\x82\xff" + struct.pack("!Q", 1 << 62) + b"abcd", 1009),
                        (b"\x82\xfe\xff\xff" + b"abcd" + b"x" * 10 + b"", None),
                        (b"\x81\x01a", 1002), (b"\xc1\x81abcda", 1002), (b"\x83\x80abcd", 1002),
                        (b"\x81\x81\x00\x00\x00\x00\xff", 1007)):
        ws = dial(berth, session(berth, web, command="cat"))
        ws.sock.sendall(frame)
        if code is None:
            ws.sock.close()
        else:
            assert read_all(ws)[1] == code


# --- load ---

def test_a_reader_that_stops_reading_stalls_nobody_else(berth, registry, rg):
    berth.create(rg, "busy", registry.ref("busybox:1"), ["sh", "-c", "i=0; while :; do echo line $((i=i+1)); usleep 1000; done"])
    busy = berth.group_id(rg, "busy") + "/containers/busy"
    berth.wait(rg, "busy", lambda g: view(g).get("currentState", {}).get("state") == "Running")

    def memory_kib():
        return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{berth.pid('berthd')}/status").read())[1])
    used = memory_kib()
    stuck = [dial(berth, session(berth, busy, what="attach")), dial(berth, session(berth, busy, command="yes"))]

    def last():
        return int(berth.logs(rg, "busy", query="?tail=1").split()[-1])
    before = last()
    for _ in range(3):
        time.sleep(1)
        now = last()
        assert now > before
        before = now
    assert memory_kib() - used < 20_000
    assert output(dial(berth, session(berth, busy, command="echo still here"))) == ("still here\r\n", 1000)
    for ws in stuck:
        ws.sock.close()


def test_sessions_of_a_container_are_bounded(berth, registry, rg):
    berth.create(rg, "many", registry.ref("busybox:1"), LOOP)
    many = berth.group_id(rg, "many") + "/containers/many"
    berth.wait(rg, "many", lambda g: view(g).get("currentState", {}).get("state") == "Running")
    for _ in range(32):
        session(berth, many, command="true")
    answer = berth.call("POST", many + "/exec", {"command": "true"})
    assert (answer.status, answer.code) == (429, "TooManyRequests")


def test_a_client_that_goes_takes_its_command_along(berth, web, rg):
    ws = dial(berth, session(berth, web, command="sleep 4321"))
    listing = {"arguments": ["sh", "-c", "ps | grep -c '[s]leep 4321'"], "terminal": False}
    eventually(lambda: channels(dial(berth, session(berth, web, **listing)))[0] == b"1\n")
    ws.sock.close()
    eventually(lambda: channels(dial(berth, session(berth, web, **listing)))[0] == b"0\n")


# --- attach ---

@pytest.mark.parametrize("way", ["stop", "delete"])
def test_a_group_that_goes_ends_its_sessions_at_once(berth, registry, rg, way):
    berth.create(rg, f"ends-{way}", registry.ref("busybox:1"), LOOP)
    path = berth.group_id(rg, f"ends-{way}")
    quiet = dial(berth, session(berth, f"{path}/containers/ends-{way}", arguments=["sleep", "1000"]))
    attached = dial(berth, session(berth, f"{path}/containers/ends-{way}", what="attach"))
    eventually(lambda: berth.call("GET", path).json["properties"]["instanceView"]["state"] == "Running")
    time.sleep(0.5)
    begun = time.monotonic()
    assert (berth.call("DELETE", path) if way == "delete" else berth.call("POST", path + "/stop")).status in (200, 204)
    for ws in (quiet, attached):
        read_all(ws)
    assert time.monotonic() - begun < 4


def test_attach_is_what_comes_from_now_on(berth, registry, rg):
    script = "echo before; while [ ! -e /go ]; do usleep 20000; done; echo after; echo wrong >&2; sleep 0.3; exit 3"
    berth.create(rg, "talk", registry.ref("busybox:1"), ["sh", "-c", script], policy="Never")
    talk = berth.group_id(rg, "talk") + "/containers/talk"
    eventually(lambda: berth.logs(rg, "talk") == "before\n")
    where = session(berth, talk, what="attach")
    header = dial(berth, where, password=False, header={"Authorization": where["password"]})
    first = dial(berth, session(berth, talk, what="attach"))
    log = dial(berth, session(berth, talk, what="attach", logs=True, timestamps=True))
    time.sleep(0.5)
    output(dial(berth, session(berth, talk, command="touch /go")))
    for ws in (header, first):
        assert output(ws) == ("after\nwrong\n", 1000)
    text, code = output(log)
    assert [line.split(" ", 1)[1] for line in text.splitlines()] == ["before", "after", "wrong"] and code == 1000
    assert berth.call("POST", talk + "/attach", {"tail": 1}).code == "InvalidRequestContent"


def test_a_wrong_password_in_the_header_ends_the_session(berth, web):
    where = session(berth, web, what="attach")
    ws = dial(berth, where, password=False, header={"Authorization": "x[[EOM]]"})
    assert read_all(ws) == ([], 1008)


# --- az ---

def az_exec(env, *argv, keys=()):
    """az in a terminal; what came out of it."""
    main, child = pty.openpty()
    process = subprocess.Popen(["az", "container", "exec", *argv], stdin=child, stdout=child, stderr=child, env=env,
                               start_new_session=True)
    os.close(child)
    text, keys, deadline = b"", list(keys), time.monotonic() + 90
    while time.monotonic() < deadline:
        if select.select([main], [], [], 0.2)[0]:
            try:
                data = os.read(main, 65536)
            except OSError:
                break
            if not data:
                break
            text += data
        while keys and keys[0][0] in text:
            os.write(main, keys.pop(0)[1])
        if process.poll() is not None and not select.select([main], [], [], 0)[0]:
            break
    process.kill()
    process.wait()
    os.close(main)
    return text.decode()


@pytest.fixture(scope="module")
def az_env(berth, workdir):
    return berth.az_env(workdir / "home-exec")


def test_az_exec_is_interactive(berth, web, rg, az_env):
    text = az_exec(az_env, "-g", rg, "-n", "web", "--exec-command", "/bin/sh",
                   keys=[(b"/ #", b"echo a$((2*21))b\r"), (b"a42b", b"exit\r")])
    assert "a42b" in text


def test_az_exec_takes_arguments_and_quotes(berth, web, rg, az_env):
    assert "one  two" in az_exec(az_env, "-g", rg, "-n", "web", "--exec-command", "sh -c 'echo \"one  two\"; exit 1'")
    assert "nothing" in az_exec(az_env, "-g", rg, "-n", "web", "--exec-command", "/bin/nothing")


# --- berth exec ---

def berth_exec(berth, rg, *argv, **kwargs):
    return subprocess.run([str(BUILD / "berth"), "exec", "--state", str(berth.state), "-g", rg, *argv],
                          capture_output=True, timeout=120, **kwargs)


def test_berth_exec_keeps_streams_and_exit_codes_apart(berth, web, rg):
    done = berth_exec(berth, rg, "web", "--", "sh", "-c", "cat; echo out; echo wrong >&2; exit 42")
    assert (done.returncode, done.stdout, done.stderr) == (42, b"out\n", b"wrong\n")
    done = berth_exec(berth, rg, "-i", "web", "--", "cat", input=b"a\0b\xff")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\0b\xff", b"")
    done = berth_exec(berth, rg, "web", "--", "/bin/nothing")
    assert done.returncode == 127 and b"/bin/nothing" in done.stderr
    assert berth_exec(berth, rg, "web", "--", "touch", "/plain").returncode == 0
    done = berth_exec(berth, rg, "web", "--", "/plain")
    assert done.returncode == 126 and b"Permission denied" in done.stderr
    done = berth_exec(berth, rg, "-t", "web", "--", "sh")
    assert done.returncode == 2 and b"-t needs a terminal" in done.stderr
    done = berth_exec(berth, rg, "other", "--", "sh")
    assert done.returncode == 1 and b"ResourceNotFound" in done.stderr


def test_berth_exec_carries_50_megabytes_both_ways(berth, web, rg):
    data = os.urandom(1 << 20) * 50
    done = berth_exec(berth, rg, "-i", "web", "--", "cat", input=data)
    assert done.returncode == 0 and done.stdout == data


def test_berth_exec_has_a_terminal(berth, web, rg):
    main, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 101, 0, 0))
    process = subprocess.Popen([str(BUILD / "berth"), "exec", "--state", str(berth.state), "-g", rg, "-it", "web", "--", "sh"],
                               stdin=child, stdout=child, stderr=child, start_new_session=True)
    text = b""

    def expect(what):
        nonlocal text
        while what not in text:
            assert select.select([main], [], [], 20)[0], text
            text += os.read(main, 65536)
        text = text.split(what, 1)[1]
    expect(b"/ #")
    os.write(main, b"stty size\r")
    expect(b"31 101")
    fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process.send_signal(28)
    os.write(main, b"sleep 0.2; stty size\r")
    expect(b"40 120")
    os.write(main, b"sleep 100\r")
    time.sleep(0.3)
    os.write(main, b"\x03")
    os.write(main, b"exit 9\r")
    assert process.wait(20) == 9
    assert termios.tcgetattr(child)[3] & termios.ICANON
    os.close(child)
    os.close(main)


def test_berth_logs_follows(berth, registry, rg):
    script = "echo one; echo two; while [ ! -e /go ]; do usleep 20000; done; echo three"
    berth.create(rg, "tale", registry.ref("busybox:1"), ["sh", "-c", script], policy="Never")
    eventually(lambda: berth.logs(rg, "tale") == "one\ntwo\n")
    follower = subprocess.Popen([str(BUILD / "berth"), "logs", "-f", "--state", str(berth.state), "-g", rg, "--tail", "1",
                                 "tale"], stdout=subprocess.PIPE, text=True)
    assert follower.stdout.readline() == "two\n"
    attached = subprocess.Popen([str(BUILD / "berth"), "attach", "--state", str(berth.state), "-g", rg, "tale"],
                                stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    assert berth_exec(berth, rg, "tale", "--", "touch", "/go").returncode == 0
    assert follower.communicate(timeout=30)[0] == "three\n" and follower.returncode == 0
    assert attached.communicate(timeout=30)[0] == "three\n" and attached.returncode == 0


def test_the_log_of_the_run_before(berth, registry, rg):
    berth.create(rg, "again", registry.ref("busybox:1"), ["sh", "-c", "echo first; sleep 1000"])
    path = berth.group_id(rg, "again") + "/containers/again/logs?previous=true"
    eventually(lambda: berth.logs(rg, "again") == "first\n")
    answer = berth.call("GET", path)
    assert (answer.status, answer.code) == (409, "ContainerLogNotAvailable"), answer.text
