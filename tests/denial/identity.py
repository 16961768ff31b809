"""A server's REST interface by a client certificate, as the infrastructure provider uses it."""

import base64
import http.client
import json
import os
import ssl

from throwaway.lxd import Lxd, Refused


class Identity(Lxd):
    def __init__(self, address, folder, server_certificate):
        context = ssl.create_default_context(cadata=server_certificate)
        # Neither LXD's nor Incus's own certificate bears the address.
        context.check_hostname = False
        context.load_cert_chain(folder / "client.crt", folder / "client.key")
        host, _, port = address.rpartition(":")
        self._connect = lambda: http.client.HTTPSConnection(host.strip("[]"), int(port), context=context)
        self._connection = self._connect()

    def transfer(self, method, path, body=None, **headers):
        """Bytes as they are."""
        self._connection.request(method, f"/1.0/{path}", body=body, headers=headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise Refused(f"{method} {path}", answer.status, json.loads(content)["error"])
        return content

    def listen(self, path):
        """What a WebSocket says, one message after the other."""
        connection = self._connect()
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
        connection.request("GET", f"/1.0/{path}", headers=headers)
        answer = connection.getresponse()
        if answer.status != 101:
            raise Refused(f"GET {path}", answer.status, json.load(answer)["error"])
        return Messages(connection)


class Messages:
    """The messages of a WebSocket, which a server sends unmasked and, of this kind, whole."""

    def __init__(self, connection):
        connection.sock.settimeout(20)
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
