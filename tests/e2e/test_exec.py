"""exec and attach: over the WebSocket as the clients of ACI do it, and with what Berth adds."""
import json
import os
import pty
import re
import select
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest
import websocket

from harness import API, BUILD, eventually, group_body, run, view

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
    where = session(berth, web, command="sh -c 'echo \"one  two\" $0; stty size 2>/dev/null; exit 3' three",
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
