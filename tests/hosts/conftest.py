"""A host of its own for the hosts' own steps: an LXD container with systemd, a network card to spare, and no Python."""

import subprocess
from pathlib import Path

import pytest
from throwaway.lab import IMAGE_ALIAS, Lab
from throwaway.lxd import Lxd
from throwaway.playbook import Ansible

PLUGINS = Path(__file__).parent / "connection_plugins"
UPLINK = "ext0"


class Host:
    """The container, past Ansible."""

    def __init__(self, lab):
        self.name = lab.name
        self._lab = lab

    def create(self):
        lxd, lab = self._lab.lxd, self._lab
        lxd.post("storage-pools", {"name": lab.pool, "driver": "dir"})
        gateway = f"{next(lab.ipv4.hosts())}/{lab.ipv4.prefixlen}"
        network = {"ipv4.address": gateway, "ipv4.nat": "true", "ipv6.address": "none"}
        lxd.post("networks", {"name": lab.network, "type": "bridge", "config": network})
        instance = {
            "name": self.name,
            "source": {"type": "image", "alias": IMAGE_ALIAS},
            "profiles": [],
            "config": {"security.nesting": "true"},
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": lab.pool},
                "eth0": {"type": "nic", "network": lab.network},
            },
        }
        lxd.post("instances", instance)
        lxd.put(f"instances/{self.name}/state", {"action": "start"})
        self.run("until [ -S /run/systemd/private ]; do sleep 0.1; done; systemctl is-system-running --wait || true")
        self.run("/lib/systemd/systemd-networkd-wait-online --ipv4 --interface eth0 --timeout 60")
        self.run(f"ip link add {UPLINK} type veth peer name {UPLINK}-peer; ip link set {UPLINK}-peer up")

    def run(self, script):
        """What a command in the container prints."""
        done = subprocess.run(["lxc", "exec", self.name, "--", "sh", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def destroy(self):
        lxd = self._lab.lxd
        if lxd.get(f"instances/{self.name}"):
            lxd.put(f"instances/{self.name}/state", {"action": "stop", "force": True})
            lxd.delete(f"instances/{self.name}")
        self._lab.destroy()


class AnsibleThere(Ansible):
    """Ansible whose target is the container."""

    host: Host

    @staticmethod
    def _environment():
        return Ansible._environment() | {"ANSIBLE_CONNECTION_PLUGINS": str(PLUGINS)}

    def step(self, step, *options, expect=0, **arguments):
        there = {"ansible_connection": "instance", "ansible_host": self.host.name}
        return self.play({f"k8slab.capi.{step}": arguments}, vars=there, options=options, expect=expect).result


def pytest_addoption(parser):
    parser.addoption("--tarball", type=Path, required=True, help="the built collection")


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    count = {outcome: len(reports) for outcome, reports in reporter.stats.items()}
    # A check that was not carried out is one that did not pass.
    failed = sum(count.get(outcome, 0) for outcome in ("failed", "error", "skipped", "xfailed", "xpassed"))
    print(f"{count.get('passed', 0)} passed, {failed} failed")


@pytest.fixture(scope="session")
def host():
    host = Host(Lab.throw_away(Lxd(), prefix="k8slab-host"))
    try:
        host.create()
        yield host
    finally:
        host.destroy()


@pytest.fixture(scope="session")
def ansible(request, tmp_path_factory, host):
    ansible = AnsibleThere(request.config.getoption("--tarball").resolve(), tmp_path_factory.mktemp("ansible"))
    ansible.host = host
    return ansible
