"""A container with systemd on this machine's LXD, which stands in for a host of its own."""

import subprocess

from throwaway.lab import IMAGE_ALIAS
from throwaway.wait import eventually


class Container:
    """Named as a lab, with that lab's pool and network, which leads out; past Ansible."""

    def __init__(self, lab):
        self.name = lab.name
        self.lab = lab

    def create(self):
        lxd, lab = self.lab.lxd, self.lab
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
        listens = eventually(lambda: self.carries_out("[ -S /run/systemd/private ]"))
        assert listens is True, f"{self.name}: systemd is not up"
        self.run("systemctl is-system-running --wait || true")
        self.run("/lib/systemd/systemd-networkd-wait-online --ipv4 --interface eth0 --timeout 60")

    def run(self, script):
        """What a command in the container prints."""
        done = self._execute(script)
        assert done.returncode == 0, f"{script}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()

    def carries_out(self, script):
        """Whether it ends well."""
        return self._execute(script).returncode == 0

    def _execute(self, script):
        return subprocess.run(["lxc", "exec", self.name, "--", "sh", "-c", script], capture_output=True, text=True, check=False)

    def publish(self, socket, path):
        """Has a unix socket of the container listen on this machine too."""
        device = {"type": "proxy", "bind": "host", "listen": f"unix:{path}", "connect": f"unix:{socket}", "mode": "0600"}
        self.lab.lxd.patch(f"instances/{self.name}", {"devices": {path.stem: device}})

    def address(self):
        """Its IPv4 address."""
        state = self.lab.lxd.get(f"instances/{self.name}/state")
        (own,) = [address["address"] for address in state["network"]["eth0"]["addresses"] if address["family"] == "inet"]
        return own

    def destroy(self):
        lxd = self.lab.lxd
        if lxd.get(f"instances/{self.name}"):
            lxd.put(f"instances/{self.name}/state", {"action": "stop", "force": True})
            lxd.delete(f"instances/{self.name}")
        self.lab.destroy()
