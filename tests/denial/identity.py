"""A server's REST interface by a client certificate, as the infrastructure provider uses it."""

import http.client
import json
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
