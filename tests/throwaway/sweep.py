"""`python -m throwaway.sweep`: removes what test runs that were cut off have left in LXD. No test may run meanwhile."""

import ipaddress
import json
import re
import subprocess
from pathlib import Path

from throwaway import listener
from throwaway.lab import drop_firewall_rules
from throwaway.lxd import Lxd

# The names of throw-away labs, of Molecule's and of the contract tests.
NAME = re.compile(r"k8slab-(molecule-[a-z-]+|[a-z]+-\d+-\d+(-\w+)?)")
INTERFACE = re.compile(r"k8s(\d+-\d+|m[0-9a-f]{6})[ix]|kt[0-9a-f]+-[0-9a-f]+-\d")
# As LXD names the ends of a pair.
PAIR = re.compile(r"veth[0-9a-f]{8}")


def sweep(lxd):
    """Says what it removes."""
    for entry in lxd.get("certificates", recursion=1):
        if NAME.match(entry["name"]):
            _remove(lxd, f"certificates/{entry['fingerprint']}")
    projects = [name for name in _names(lxd, "projects") if NAME.fullmatch(name)]
    for project in projects:
        _empty(lxd, project)
        _remove(lxd, f"projects/{project}")
    for name in _names(lxd, "instances"):
        if NAME.fullmatch(name):
            _remove_instance(lxd, name, "default")
    for name in _names(lxd, "networks"):
        if INTERFACE.fullmatch(name) and lxd.read(f"networks/{name}")["managed"]:
            drop_firewall_rules(name)
            _remove(lxd, f"networks/{name}")
    for name in _names(lxd, "storage-pools"):
        if NAME.fullmatch(name):
            _remove(lxd, f"storage-pools/{name}")
            (lxd.folder / "disks" / f"{name}.img").unlink(missing_ok=True)
    for interface in _links():
        if INTERFACE.fullmatch(interface) or _is_of_a_dead_instance(interface):
            print(f"remove {interface}")
            # The other end of a pair goes with it.
            subprocess.run(["ip", "link", "delete", interface], check=True)
    _listen_no_longer_where_nobody_is(lxd)


def _links():
    """Each pair by one of its ends."""
    ends = set()
    for path in sorted(Path("/sys/class/net").iterdir()):
        if path.name not in ends:
            ends.add(_other_end(path.name))
            yield path.name


def _other_end(interface):
    """Of a pair whose ends are both here."""
    return _show(interface).get("link")


def _show(interface):
    shown = subprocess.run(["ip", "-json", "link", "show", interface], capture_output=True, check=True)
    return json.loads(shown.stdout)[0]


def _is_of_a_dead_instance(interface):
    """An instance that dies while LXD is down gives its end of the pair back to the host, and LXD knows neither any more."""
    return all(PAIR.fullmatch(end or "") for end in (interface, _other_end(interface)))


def _names(lxd, collection, **query):
    return [path.split("?")[0].rsplit("/", 1)[-1] for path in lxd.get(collection, **query)]


def _empty(lxd, project):
    config = lxd.read(f"projects/{project}")["config"]
    for name in _names(lxd, "instances", project=project):
        _remove_instance(lxd, name, project)
    for kind in ("images", "profiles"):
        # Where a project has none of its own, its listing shows those of the default project.
        if config.get(f"features.{kind}") == "true":
            for name in _names(lxd, kind, project=project):
                if name != "default":
                    _remove(lxd, f"{kind}/{name}", project=project)


def _remove_instance(lxd, name, project):
    path = f"instances/{name}"
    if lxd.read(path, project=project)["status"] != "Stopped":
        lxd.put(f"{path}/state", {"action": "stop", "force": True}, project=project)
    _remove(lxd, path, project=project)


def _remove(lxd, path, **query):
    print(f"remove {path}", *query.values())
    lxd.delete(path, **query)


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
