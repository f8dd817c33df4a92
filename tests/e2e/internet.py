"""
The world outside, in a network namespace of its own: run under `unshare --net`, it waits until its end of the link has its
address and then serves HTTP (who asks, and what was seen so far), a DNS server (UDP and TCP), and a UDP echo.
"""
import http.server
import json
import socket
import socketserver
import struct
import sys
import threading
import time

ADDRESS = sys.argv[1]
KNOWN = {"www.example.test": "198.51.100.80"}
seen = {"datagrams": [], "questions": []}


def name_of(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += query[at] + 1
    return ".".join(labels).lower(), struct.unpack(">H", query[at + 1:at + 3])[0], at + 5


def answer_to(query, way):
    """An A record for the names that are known, NXDOMAIN for the others; over UDP, big.example.test is truncated."""
    name, kind, end = name_of(query)
    seen["questions"].append([name, way])
    head, question = query[:2], query[12:end]
    if name == "big.example.test":
        if way == "udp":
            return head + struct.pack(">HHHHH", 0x8380, 1, 0, 0, 0) + question
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(f"198.51.100.{i}")
                           for i in range(1, 101))
        return head + struct.pack(">HHHHH", 0x8180, 1, 100, 0, 0) + question + records
    if name not in KNOWN:
        return head + struct.pack(">HHHHH", 0x8183, 1, 0, 0, 0) + question
    if kind != 1:
        return head + struct.pack(">HHHHH", 0x8180, 1, 0, 0, 0) + question
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(KNOWN[name])
    return head + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) + question + record


class UdpDns(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(answer_to(data, "udp"), self.client_address)


class TcpDns(socketserver.BaseRequestHandler):
    def handle(self):
        size = struct.unpack(">H", self.request.recv(2, socket.MSG_WAITALL))[0]
        answer = answer_to(self.request.recv(size, socket.MSG_WAITALL), "tcp")
        self.request.sendall(struct.pack(">H", len(answer)) + answer)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        seen["datagrams"].append([self.client_address[0], data.decode("latin1")])
        sock.sendto(f"{self.client_address[0]} ".encode() + data, self.client_address)


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(seen) if self.path == "/seen" else self.client_address[0]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def there():
    with socket.socket() as s:
        try:
            s.bind((ADDRESS, 0))
            return True
        except OSError:
            return False


while not there():
    time.sleep(0.02)
socketserver.ThreadingTCPServer.allow_reuse_address = True
servers = [socketserver.ThreadingUDPServer(("0.0.0.0", 53), UdpDns), socketserver.ThreadingTCPServer(("0.0.0.0", 53), TcpDns),
           socketserver.ThreadingUDPServer(("0.0.0.0", 7), Echo), http.server.ThreadingHTTPServer(("0.0.0.0", 80), Web)]
for server in servers:
    threading.Thread(target=server.serve_forever).start()
print("ready", flush=True)
