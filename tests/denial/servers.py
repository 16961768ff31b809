"""The servers that the certificate is tried on."""

import fcntl
import socket
import tempfile
from pathlib import Path

from throwaway.container import Container
from throwaway.lab import Lab
from throwaway.listener import LISTENER, found_at, restore
from throwaway.lxd import Lxd

BACKPORTS = "deb http://deb.debian.org/debian bookworm-backports main"
INSTALL = """
    set -e
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends --target-release bookworm-backports \\
        install incus iptables nftables dnsmasq-base
"""
# Incus starts nothing where cgroups are not mounted as the kernel has them.
CGROUPS = Path(__file__).parents[2] / "bundle/instances/kubeadm/rootfs/usr/lib/k8slab/mount-cgroups"
# The tests of the step itself take turns by it, too.
TURN = Path(tempfile.gettempdir(), "k8slab-test-listener")


def server(name):
    """A server by the name that the command line gives it."""
    return Incus() if name == "incus" else Here(None if name == "lxd" else Path(name))


class Here:
    """One that runs on this machine. Where it listens already, the certificate is tried there."""

    def __init__(self, socket):
        self.admin = Lxd(socket)
        self.carried_out = set()
        self.kind = self.admin.get("")["environment"]["server"]

    def __enter__(self):
        self._turn = TURN.open("w")
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        server = self.admin.get("")
        self._before = server["config"].get(LISTENER, "")
        self.address = found_at(self._before, server["environment"]["certificate"])
        if not self.address:
            self._listen("")
            self.address = free_address()
        return self

    def __exit__(self, *_):
        restore(self.admin, self._before)
        self._turn.close()

    def _listen(self, address):
        self.admin.patch("", {"config": {LISTENER: address}})


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "127.0.0.1:{1}".format(*listener.getsockname())


class Incus:
    """Incus from Debian's backports in a container of this machine's LXD."""

    kind = "incus"

    def __init__(self):
        self.carried_out = set()
        self._container = Container(Lab.throw_away(Lxd(), prefix="k8slab-incus"))
        self._folder = tempfile.TemporaryDirectory(prefix="incus-")

    def __enter__(self):
        try:
            container = self._container
            container.create()
            container.run(CGROUPS.read_text())
            container.run(f"echo '{BACKPORTS}' >/etc/apt/sources.list.d/backports.list")
            container.run(INSTALL)
            container.run("incus admin waitready --timeout 60")
            published = Path(self._folder.name, "incus.socket")
            container.publish("/var/lib/incus/unix.socket", published)
            self.admin = Lxd(published)
            self.address = f"{container.address()}:8443"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._container.destroy()
        self._folder.cleanup()
