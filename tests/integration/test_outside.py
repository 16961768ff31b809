"""The network outside of the embedded lab, under names of the test's own."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = Path("inventories/embedded/group_vars/all.yml")
NAMES = {
    "k8s_lab_uplink_interface": "ko{}-up",
    "embedded_outside_interface": "ko{}-peer",
    "embedded_router_namespace": "ko{}-router",
    "embedded_client_namespace": "ko{}-client",
    "k8s_lab_external_ipv6_prefix": "2001:db8:77:100::/64",
    "embedded_client_ipv6_prefix": "2001:db8:77:200::/64",
}
# What a program says who was connected to, once.
SERVER = """
import socket
server = socket.create_server(("::", 8080), family=socket.AF_INET6)
connection, peer = server.accept()
connection.sendall(peer[0].encode())
"""
CLIENT = """
import socket, sys
print(socket.create_connection((sys.argv[1], 8080), timeout=10).recv(99).decode())
"""


class Outside:
    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(ROOT / "embedded", folder / "embedded")
        settings = (ROOT / SETTINGS).read_text().splitlines()
        self.names = {key: name.format(os.getpid()) for key, name in NAMES.items()}
        for number, line in enumerate(settings):
            key = line.partition(":")[0]
            if key in self.names:
                settings[number] = f"{key}: {self.names[key]}"
        (folder / SETTINGS).parent.mkdir(parents=True)
        (folder / SETTINGS).write_text("\n".join(settings))
        self.uplink = self.names["k8s_lab_uplink_interface"]
        self.router = self.names["embedded_router_namespace"]
        self.client = self.names["embedded_client_namespace"]
        self.node = f"ko{os.getpid()}-node"

    def shell(self, script, check=True):
        sources = "set -euo pipefail; source embedded/environment.sh; source embedded/outside.sh; "
        return subprocess.run(["bash", "-c", sources + script], cwd=self.folder, check=check, capture_output=True, text=True)

    def make(self):
        self.shell('[[ -e /sys/class/net/$uplink || -e /run/netns/%s ]] || make_uplink' % self.node)
        self.shell("outside_stands || make_outside; announces || start_announcing")

    def stands(self):
        return self.shell("outside_stands && announces", check=False).returncode == 0

    def radvd(self):
        return Path("/run", self.router, "radvd.pid").read_text()

    def remove(self):
        run("ip", "netns", "delete", self.node, check=False)
        run("ip", "link", "delete", self.uplink, check=False)
        self.shell("remove_outside", check=False)


def run(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout


@pytest.fixture
def outside(tmp_path):
    outside = Outside(tmp_path)
    try:
        outside.make()
        yield outside
    finally:
        outside.remove()


def listed(what, *words):
    return {word for word in words if word in run(*what)}


def address_of(outside):
    """Of the node at the uplink, once it has formed one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in run("ip", "-netns", outside.node, "-6", "-oneline", "address", "show", "scope", "global", "-tentative").splitlines():
            return line.split()[3].partition("/")[0]
        time.sleep(0.2)
    raise AssertionError("no address within 30 s")


def test_a_node_answers_a_client_beyond_the_router(outside):
    run("ip", "netns", "add", outside.node)
    run("ip", "link", "set", outside.uplink, "netns", outside.node)
    run("ip", "-netns", outside.node, "link", "set", outside.uplink, "up")
    address = address_of(outside)
    assert address.startswith("2001:db8:77:100:")
    default = run("ip", "-netns", outside.node, "-6", "route", "show", "default")
    assert "proto ra" in default and 1700 < int(default.partition("expires ")[2].partition("sec")[0]) <= 1800

    for namespace, client in [(outside.router, "2001:db8:77:100::1"), (outside.client, "2001:db8:77:200::a")]:
        server = subprocess.Popen(["ip", "netns", "exec", outside.node, "python3", "-c", SERVER])
        try:
            deadline = time.monotonic() + 10
            while not run("ip", "netns", "exec", outside.node, "cat", "/proc/net/tcp6").count(":1F90 "):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert run("ip", "netns", "exec", namespace, "python3", "-c", CLIENT, address).strip() == client
        finally:
            server.kill()
            server.wait()


def test_what_stands_is_left_alone_and_what_is_missing_made_again(outside):
    assert outside.stands()
    before = outside.radvd()
    outside.make()
    assert outside.radvd() == before
    run("ip", "netns", "delete", outside.client)
    assert not outside.stands()
    outside.make()
    assert outside.stands() and outside.radvd() == before
    os.kill(int(before), 15)
    deadline = time.monotonic() + 10
    while outside.stands():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    outside.make()
    assert outside.stands() and outside.radvd() != before


def test_nothing_is_left(outside):
    announcer = outside.radvd().strip()
    outside.remove()
    assert listed(["ip", "netns", "list"], outside.router, outside.client) == set()
    assert listed(["ip", "link"], outside.uplink) == set()
    assert not Path("/proc", announcer).exists() and not Path("/run", outside.router).exists()
