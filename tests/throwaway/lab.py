"""A lab that clashes with nothing and goes without a trace."""

import ipaddress
import itertools
import json
import os
import subprocess
from pathlib import Path

from throwaway.lxd import Lxd
from throwaway.removal import loop_file, members, remove_network, remove_pool, remove_project

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
        return loop_file(self.lxd, self.pool)

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
                found[kind] = members(self.lxd, self.project, kind)
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
            remove_project(self.lxd, self.project, first=self.instance)
        if self.find_network():
            remove_network(self.lxd, self.network)
        remove_pool(self.lxd, self.pool)
        if Path("/sys/class/net", self.bridge).exists():
            subprocess.run(["ip", "link", "delete", self.bridge], check=True)


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
