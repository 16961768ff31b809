"""A lab that clashes with nothing and goes without a trace."""

import ipaddress
import itertools
import json
import os
import shlex
import subprocess
from pathlib import Path

from throwaway.lxd import Lxd

# What embedded/image makes.
IMAGE_ALIAS = "k8slab/bootstrap/debian-12"

_numbers = itertools.count()


class Lab:
    """Names, and the variables by which the roles come to use them."""

    def __init__(self, name, short, lxd=None):
        self.lxd = lxd or Lxd()
        self.name = self.project = self.pool = self.instance = name
        # Names of interfaces are short.
        self.network = f"{short}i"
        self.bridge = f"{short}x"
        # Where LXD listened before there was this lab, which then uses it.
        self.lent_listener = None
        self.ipv4, self.ipv6 = _free_subnets()

    @classmethod
    def throw_away(cls, lxd=None, prefix="k8slab-it"):
        """Names that nobody else uses."""
        unique = f"{os.getpid()}-{next(_numbers)}"
        return cls(f"{prefix}-{unique}", f"k8s{unique}", lxd)

    @property
    def variables(self):
        return {
            "k8s_lab_project_name": self.project,
            "k8s_lab_storage_pool_name": self.pool,
            "k8s_lab_internal_network_name": self.network,
            "k8s_lab_internal_ipv4_subnet": str(self.ipv4),
            "k8s_lab_internal_ipv6_subnet": str(self.ipv6),
            "k8s_lab_external_bridge_name": self.bridge,
            "k8s_lab_bootstrap_instance_name": self.instance,
            "k8s_lab_bootstrap_image_source": "alias",
            "k8s_lab_bootstrap_image_alias": IMAGE_ALIAS,
            "lxd_storage_pools_pools": [
                {"name": self.pool, "driver": "btrfs", "config": {"source": str(self.loop_file), "size": "3GiB"}},
            ],
        }

    @property
    def loop_file(self):
        return self.lxd.folder / "disks" / f"{self.pool}.img"

    def find_project(self):
        return self.lxd.get(f"projects/{self.project}")

    def find_pool(self):
        return self.lxd.get(f"storage-pools/{self.pool}")

    def find_network(self):
        network = self.lxd.get(f"networks/{self.network}")
        return network if network and network["managed"] else None

    def find_profile(self, name):
        return self.lxd.get(f"profiles/{name}", project=self.project)

    def find_instance(self):
        return self.lxd.get(f"instances/{self.instance}", project=self.project)

    def instance_process(self):
        """The first process of its run."""
        return self.lxd.get(f"instances/{self.instance}/state", project=self.project)["pid"]

    def instance_addresses(self, interface="eth0"):
        state = self.lxd.get(f"instances/{self.instance}/state", project=self.project)
        return [address["address"] for address in state["network"][interface]["addresses"] if address["scope"] == "global"]

    def _members(self, kind):
        # Where a project has none of its own, its listing shows those of the default project.
        if kind != "instances" and self.find_project()["config"].get(f"features.{kind}") != "true":
            return []
        return self.lxd.get(kind, recursion=1, project=self.project)

    def traces(self):
        """Everything that bears the lab's names, in LXD and on the host, less who uses what, which LXD is late to say."""
        found = {
            "project": self.find_project(),
            "pool": self.find_pool(),
            "network": self.find_network(),
            "interfaces": sorted(path.name for path in Path("/sys/class/net").glob(f"{self.network.removesuffix('i')}*")),
            "loop file": self.loop_file.exists(),
        }
        if found["project"]:
            for kind in ("profiles", "instances", "images"):
                found[kind] = self._members(kind)
        return _without(found, ("used_by",))

    def lasting(self):
        """The same without what LXD itself writes down or counts on the way."""
        passing = ("volatile.", "last_used_at", "created_at", "uploaded_at", "user.k8slab.restart-pending")
        return _without(self.traces(), passing)

    def destroy(self):
        """Whatever there is of it, also of a half-made one, and the certificates of its name."""
        for entry in self.lxd.get("certificates", recursion=1):
            if entry["name"] == self.name:
                self.lxd.delete(f"certificates/{entry['fingerprint']}")
        if self.find_project():
            # First what may be making others.
            if bootstrap := self.find_instance():
                self._drop(bootstrap)
            for instance in self._members("instances"):
                self._drop(instance)
            for kind, key in (("images", "fingerprint"), ("profiles", "name")):
                for found in self._members(kind):
                    if found[key] != "default":
                        self.lxd.delete(f"{kind}/{found[key]}", project=self.project)
            self.lxd.delete(f"projects/{self.project}")
        if self.find_network():
            drop_firewall_rules(self.network)
            self.lxd.delete(f"networks/{self.network}")
        self.lxd.delete(f"storage-pools/{self.pool}")
        self.loop_file.unlink(missing_ok=True)
        if Path("/sys/class/net", self.bridge).exists():
            subprocess.run(["ip", "link", "delete", self.bridge], check=True)

    def _drop(self, instance):
        path = f"instances/{instance['name']}"
        if instance["status"] != "Stopped":
            self.lxd.put(f"{path}/state", {"action": "stop", "force": True}, project=self.project)
        self.lxd.delete(path, project=self.project)


def _free_subnets():
    """Subnets that no route of this machine leads to."""
    routes = []
    for family in ("-4", "-6"):
        listed = subprocess.run(["ip", "-json", family, "route", "show", "table", "all"], capture_output=True, check=True)
        destinations = {route["dst"] for route in json.loads(listed.stdout)} - {"default"}
        routes += map(ipaddress.ip_network, destinations)
    start = os.getpid() % 200
    for third in itertools.chain(range(start, 250), range(start)):
        subnets = ipaddress.ip_network(f"10.213.{third}.0/24"), ipaddress.ip_network(f"fd42:213:{third}::/64")
        if not any(subnet.version == route.version and subnet.overlaps(route) for subnet in subnets for route in routes):
            return subnets
    raise RuntimeError("no subnet is free on this machine")


def _without(value, prefixes):
    if isinstance(value, dict):
        return {key: _without(item, prefixes) for key, item in value.items() if not key.startswith(prefixes)}
    if isinstance(value, list):
        return [_without(item, prefixes) for item in value]
    return value


def drop_firewall_rules(network):
    """LXD 5.0 deletes a chain that its own rules still refer to, and leaves the network half-deleted when that fails."""
    for program in ("iptables", "ip6tables"):
        for table in ("filter", "nat", "mangle"):
            rules = subprocess.run([program, "--wait", "-t", table, "-S"], capture_output=True, text=True, check=True).stdout
            for rule in rules.splitlines():
                if f'LXD network {network}"' in rule:
                    _append, *match = shlex.split(rule)
                    subprocess.run([program, "--wait", "-t", table, "-D", *match], check=True)
