"""A proxy in front of an API server that lets writes through one by one, and can stop at a chosen one."""

import base64
import contextlib
import http.client
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import yaml

WRITES = {"POST", "PUT", "PATCH", "DELETE"}
# By itself, Python lets a thread that has been waiting for an answer wait for another 5 ms.
sys.setswitchinterval(0.0005)
# What concerns one connection only.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}


@dataclass
class Write:
    side: str
    method: str
    path: str

    def __str__(self):
        return f"{self.side} {self.method} {self.path}"


@dataclass
class Stop:
    """The nth write that fits. `moment` is before or after it reaches the API server; `effect` is stop, drop, delay or away: its side
    answers 503 from then on for as long."""

    pattern: str
    moment: str = "after"
    nth: int = 1
    effect: str = "stop"
    seconds: float = 2

    def fits(self, write):
        return re.search(self.pattern, str(write)) is not None

    def __str__(self):
        return f"{self.effect} {self.moment} write {self.nth} of `{self.pattern}`"


class Gate:
    """What both proxies ask before and after each write."""

    def __init__(self):
        self._turn = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self.stopped = threading.Event()
        self.journal = []
        self._away = {}
        self._stop = None
        self._seen = 0

    def arm(self, stop):
        self.journal.clear()
        self.stopped.clear()
        self._stop, self._seen = stop, 0

    def disarm(self):
        """Everything goes through again; what was held is dropped."""
        self._stop = None
        self._away.clear()
        self.stopped.clear()
        self._open.set()

    def refuse(self, side, seconds):
        """Everything that is asked of a side is answered 503 for a while."""
        self._away[side] = time.monotonic() + seconds

    def refuses(self, side):
        return time.monotonic() < self._away.get(side, 0)

    def write(self, write, forward):
        """Forwards a write in its turn. Nothing is answered where that is the fault."""
        with self._turn:
            stop = self._due(write)
            if stop and stop.moment == "before":
                if not self._hold(stop, write):
                    return None
            answer = forward()
            self.journal.append(write)
            if stop and stop.moment == "after" and not self._hold(stop, write):
                return None
            return answer

    def _due(self, write):
        if self._stop is None or not self._stop.fits(write):
            return None
        self._seen += 1
        return self._stop if self._seen == self._stop.nth else None

    def _hold(self, stop, write):
        """Whether it goes on afterwards."""
        if stop.effect == "away":
            self.refuse(write.side, stop.seconds)
            return False
        if stop.effect == "delay":
            time.sleep(stop.seconds)
            return True
        if stop.effect == "stop":
            self._open.clear()
            self.stopped.set()
            self._open.wait(120)
        return False


class Proxy:
    """One of them. Its clients trust a certificate of its own."""

    def __init__(self, side, kubeconfig, folder, gate):
        upstream = yaml.safe_load(kubeconfig.read_text())
        self.kubeconfig = folder / f"{side}.kubeconfig"
        certificate, key = folder / f"{side}.crt", folder / f"{side}.key"
        names = "subjectAltName=IP:127.0.0.1,DNS:kubernetes.default.svc"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        # Some clients take no authority for a server.
        subject = ["-subj", f"/CN={side}", "-days", "2", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"]
        command = ["openssl", "req", "-x509", *curve, *subject, "-keyout", key, "-out", certificate]
        subprocess.run(command, check=True, capture_output=True)
        self._token = upstream["users"][0]["user"].get("token")
        connect = _connector(upstream, folder / f"{side}.pem")
        self._past = connect()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(side, gate, connect, self._token))
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.server = f"https://127.0.0.1:{self._server.server_port}"
        cluster = {"server": self.server, "certificate-authority": str(certificate)}
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": side,
                    "clusters": [{"name": side, "cluster": cluster}],
                    "users": [{"name": side, "user": {"token": "the proxy asks nobody"}}],
                    "contexts": [{"name": side, "context": {"cluster": side, "user": side}}],
                }
            )
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def list(self, path):
        """All objects of a kind, past the gate; none where there is no such kind."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            self._past.request("GET", path, headers=headers)
            answer = self._past.getresponse()
            content = answer.read()
        except (http.client.HTTPException, OSError):
            # An idle connection is closed by the API server.
            self._past.close()
            return self.list(path)
        if answer.status == 429:
            # It has not got ready for a kind that was only just defined.
            time.sleep(0.5)
            return self.list(path)
        assert answer.status in (200, 404), content
        return json.loads(content)["items"] if answer.status == 200 else []

    def close(self):
        self._past.close()
        self._server.shutdown()
        self._server.server_close()


def _connector(upstream, pair):
    """Makes connections to the API server, with its administrator's certificate."""
    cluster, user = upstream["clusters"][0]["cluster"], upstream["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    if "client-key-data" in user:
        pair.touch(mode=0o600)
        pair.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        context.load_cert_chain(pair)
    address = urlsplit(cluster["server"])
    return lambda: http.client.HTTPSConnection(address.hostname, address.port, context=context, timeout=600)


def _handler(side, gate, connect, token):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer is one packet: in two, the second would wait for the first to be acknowledged, 40 ms for each of a thousand requests.
        disable_nagle_algorithm = True
        wbufsize = -1

        def setup(self):
            super().setup()
            self.upstream = connect()

        def finish(self):
            self.upstream.close()
            # The client may have been killed.
            with contextlib.suppress(OSError):
                super().finish()

        def relay(self):
            body = self._body()
            if gate.refuses(side):
                return self._refuse()
            forward = lambda: self._forward(body)  # noqa: E731
            if self.command in WRITES and not self.path.split("?")[0].endswith("reviews"):
                answer = gate.write(Write(side, self.command, self.path.split("?")[0]), forward)
            else:
                answer = forward()
            if answer is None:
                self.close_connection = True
                return None
            return self._answer(answer)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = relay

        def _body(self):
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _forward(self, body):
            kept = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP | {"authorization"}}
            if token:
                kept["Authorization"] = f"Bearer {token}"
            for attempt in (1, 2):
                try:
                    self.upstream.request(self.command, self.path, body or None, kept)
                    return self.upstream.getresponse()
                except (http.client.HTTPException, OSError):
                    # An idle connection may have been closed by the API server.
                    self.upstream.close()
                    if attempt == 2:
                        return None
            return None

        def _answer(self, answer):
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            if answer.length is not None or self.command == "HEAD":
                content = answer.read()
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while piece := answer.read1(65536):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        def _refuse(self):
            content = b'{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not now","code":503}'
            self.send_response_only(503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

        def handle(self):
            # Either end may have been killed, in the middle of a request or of an answer, too.
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                super().handle()

    return Handler
