"""LXD's REST interface, for looking past the steps and for drift made by hand."""

import base64
import http.client
import json
import os
import select
import socket
from pathlib import Path
from urllib.parse import urlencode

SOCKETS = [
    Path("/var/snap/lxd/common/lxd/unix.socket"),
    Path("/var/lib/lxd/unix.socket"),
    Path("/var/lib/incus/unix.socket"),
]
# Seconds that an operation may take.
PATIENCE = 120


class Refused(Exception):
    """LXD's own words, with the status of its answer."""

    def __init__(self, request, status, message):
        super().__init__(f"{request}: {message} ({status})")
        self.status = status


class Lxd:
    """One connection, kept alive."""

    def __init__(self, path=None):
        self.socket = path or next(path for path in SOCKETS if path.exists())
        self._connect = lambda: _UnixConnection(self.socket)
        self._connection = self._connect()

    @property
    def folder(self):
        return self.socket.parent

    def read(self, path, **query):
        """What has to be there."""
        return self._ask("GET", path, None, query)["metadata"]

    def get(self, path, **query):
        """What is there, or None."""
        try:
            return self.read(path, **query)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def post(self, path, body, **query):
        return self._write("POST", path, body, query)

    def put(self, path, body, **query):
        return self._write("PUT", path, body, query)

    def patch(self, path, body, **query):
        return self._write("PATCH", path, body, query)

    def remove(self, path, **query):
        """Deletes what has to be there."""
        self._write("DELETE", path, None, query)

    def delete(self, path, **query):
        """Whether it was there."""
        try:
            self.remove(path, **query)
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        return True

    def copy_image(self, fingerprint, project):
        """From the default project into another: what is exported is what is imported."""
        self._connection.request("GET", f"/1.0/images/{fingerprint}/export")
        export = self._connection.getresponse()
        kind, image = export.headers["Content-Type"], export.read()
        self.upload_image(image, project, kind)

    def upload_image(self, image, project, kind="application/octet-stream"):
        self._connection.request("POST", f"/1.0/images?project={project}", body=image, headers={"Content-Type": kind})
        return self._finish("POST images", json.load(self._connection.getresponse()))

    def listen(self, path):
        """What a WebSocket says."""
        connection = self._connect()
        connection.timeout = PATIENCE
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
        connection.request("GET", f"/1.0/{path}", headers=headers)
        answer = connection.getresponse()
        if answer.status != 101:
            raise Refused(f"GET {path}", answer.status, json.load(answer)["error"])
        return Messages(connection)

    def _forget_if_closed(self):
        """What comes unasked is the end: a server, or who forwards to it, lets go of a connection that is idle for long."""
        if self._connection.sock and select.select([self._connection.sock], [], [], 0)[0]:
            self._connection.close()

    def _write(self, method, path, body, query):
        return self._finish(f"{method} {path}", self._ask(method, path, body, query))

    def _finish(self, request, answer):
        if answer["type"] == "sync":
            return answer["metadata"]
        operation = self.get(f"operations/{answer['metadata']['id']}/wait", timeout=PATIENCE)
        if operation["status_code"] != 200:
            raise Refused(request, operation["status_code"], operation["err"] or operation["status"])
        return operation["metadata"]

    def _ask(self, method, path, body, query):
        self._forget_if_closed()
        self._connection.request(
            method,
            f"/1.0/{path}".rstrip("/") + (f"?{urlencode(query)}" if query else ""),
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        answer = json.load(self._connection.getresponse())
        if answer["type"] == "error":
            raise Refused(f"{method} {path}", answer["error_code"], answer["error"])
        return answer


class Messages:
    """The messages of a WebSocket, which a server sends unmasked and, of this kind, whole."""

    def __init__(self, connection):
        self._connection = connection
        self._stream = connection.sock.makefile("rb")

    def __iter__(self):
        while True:
            kind, length = self._stream.read(2)
            if length >= 126:
                length = int.from_bytes(self._stream.read(2 if length == 126 else 8))
            message = self._stream.read(length)
            if kind & 0x0F == 1:
                yield json.loads(message)

    def close(self):
        self._connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("lxd", timeout=None)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
