"""The address at which LXD listens for clients. It has one, so that whoever changes it takes it away from every lab of the machine."""

import contextlib
import ssl

from throwaway.lxd import Refused

LISTENER = "core.https_address"


@contextlib.contextmanager
def lent(lxd, lab):
    """Where LXD listens already, as this lab's instances reach it; nothing if the lab is to choose, which is taken back at the end."""
    server = lxd.get("")
    before = server["config"].get(LISTENER, "")
    found = found_at(before, server["environment"]["certificate"], anywhere=str(lab.ipv4[1]))
    try:
        yield found
    finally:
        if not found:
            restore(lxd, before)


def restore(lxd, before):
    try:
        lxd.patch("", {"config": {LISTENER: before}})
    except Refused:
        # The network of that address is gone.
        lxd.patch("", {"config": {LISTENER: ""}})


def found_at(configured, certificate, anywhere="127.0.0.1"):
    """Where a server answers that is configured to listen there, if it does; `anywhere` is the host for one that listens on every address."""
    host, _, port = configured.rpartition(":")
    if not port.isdigit():
        return None
    is_anywhere = host in ("", "0.0.0.0", "[::]")
    try:
        shown = ssl.get_server_certificate(("127.0.0.1" if is_anywhere else host.strip("[]"), int(port)), timeout=5)
    except OSError:
        return None
    return f"{anywhere if is_anywhere else host}:{port}" if shown.strip() == certificate.strip() else None
