"""A host of its own for the hosts' own steps: an LXD container with systemd, a network card to spare, and no Python."""

from pathlib import Path

import pytest
from throwaway.container import Container
from throwaway.lab import Lab
from throwaway.lxd import Lxd
from throwaway.playbook import Ansible

PLUGINS = Path(__file__).parent / "connection_plugins"
UPLINK = "ext0"


class Host(Container):
    """The container, past Ansible."""

    def create(self):
        super().create()
        self.run(f"ip link add {UPLINK} type veth peer name {UPLINK}-peer; ip link set {UPLINK}-peer up")


class AnsibleThere(Ansible):
    """Ansible whose target is the container."""

    host: Host

    @staticmethod
    def _environment():
        return Ansible._environment() | {"ANSIBLE_CONNECTION_PLUGINS": str(PLUGINS)}

    @property
    def there(self):
        return {"ansible_connection": "instance", "ansible_host": self.host.name}

    def step(self, step, *options, expect=0, **arguments):
        return self.play({f"k8slab.capi.{step}": arguments}, vars=self.there, options=options, expect=expect).result

    def brings(self, bundle, *options):
        """The files that the role `bundle` copies."""
        there = self.there | {"ansible_user": "root", "ansible_python_interpreter": "/usr/bin/python3", "k8s_lab_bundle": str(bundle)}
        played = self.play(roles=["k8slab.capi.bundle"], vars=there, options=options)
        copied = [task["result"] for task in played.tasks if task["action"] == "ansible.builtin.copy"]
        return [item["bundle_file"] for result in copied for item in result.get("results", []) if item.get("changed")]


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
