"""`python -m throwaway.sweep`: removes what test runs that were cut off have left in LXD. No test may run meanwhile."""

import ipaddress
import json
import re
import subprocess

from throwaway import listener
from throwaway.lxd import Lxd
from throwaway.removal import members, remove_instance, remove_network, remove_pool, remove_project

# The names of throw-away labs, of Molecule's and of the contract tests.
NAME = re.compile(r"k8slab-(molecule-[a-z-]+|[a-z]+-\d+-\d+(-\w+)?)")
INTERFACE = re.compile(r"k8s(\d+-\d+|m[0-9a-f]{6})[ix]|kt[0-9a-f]+-[0-9a-f]+-\d")
# As LXD names the ends of a pair.
PAIR = re.compile(r"veth[0-9a-f]{8}")


def sweep(lxd):
    """Says what it removes."""
    for entry in lxd.get("certificates", recursion=1):
        if NAME.match(entry["name"]):
            print(f"remove certificate {entry['name']}")
            lxd.delete(f"certificates/{entry['fingerprint']}")
    for project in _names(lxd, "projects", NAME):
        print(f"remove project {project}")
        remove_project(lxd, project)
    for instance in members(lxd, "default", "instances"):
        if NAME.fullmatch(instance["name"]):
            print(f"remove instance {instance['name']}")
            remove_instance(lxd, "default", instance)
    for network in _names(lxd, "networks", INTERFACE):
        if lxd.read(f"networks/{network}")["managed"]:
            print(f"remove network {network}")
            remove_network(lxd, network)
    for pool in _names(lxd, "storage-pools", NAME):
        print(f"remove pool {pool}")
        remove_pool(lxd, pool)
    for link in _left_links():
        print(f"remove link {link}")
        subprocess.run(["ip", "link", "delete", link], check=True)
    _listen_no_longer_where_nobody_is(lxd)


def _names(lxd, collection, wanted):
    names = (path.rpartition("/")[2] for path in lxd.get(collection))
    return [name for name in names if wanted.fullmatch(name)]


def _left_links():
    """Throw-away bridges, and one end of each pair of a dead instance: one that dies while LXD is down gives its end of the pair back
    to the host, and LXD knows neither any more. The other end goes with it."""
    shown = subprocess.run(["ip", "-json", "link", "show"], capture_output=True, check=True)
    # Of a pair whose ends are both here, each names the other.
    links = {link["ifname"]: link.get("link") or "" for link in json.loads(shown.stdout)}
    pairs = [link for link, other in links.items() if link < other and PAIR.fullmatch(link) and PAIR.fullmatch(other)]
    return [link for link in links if INTERFACE.fullmatch(link)] + pairs


def _listen_no_longer_where_nobody_is(lxd):
    """A test that was cut off has not put back where LXD listened before."""
    host = lxd.get("")["config"].get(listener.LISTENER, "").rpartition(":")[0].strip("[]")
    if not host or ipaddress.ip_address(host).is_unspecified:
        return
    shown = subprocess.run(["ip", "-oneline", "address", "show", "to", host], capture_output=True, text=True, check=True)
    if not shown.stdout:
        print(f"listen no longer on {host}")
        lxd.patch("", {"config": {listener.LISTENER: ""}})


sweep(Lxd())
