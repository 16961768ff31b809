"""What is thrown away goes: projects with all that is in them, networks and pools."""

import shlex
import subprocess


def members(lxd, project, kind):
    """The instances, images or profiles of a project."""
    # Where a project has none of its own, its listing shows those of the default project.
    if kind != "instances" and lxd.read(f"projects/{project}")["config"].get(f"features.{kind}") != "true":
        return []
    return lxd.get(kind, recursion=1, project=project)


def remove_project(lxd, project, first=None):
    """With all that is in it; `first` goes an instance that may be making others."""
    if first and (instance := lxd.get(f"instances/{first}", project=project)):
        remove_instance(lxd, project, instance)
    for instance in members(lxd, project, "instances"):
        remove_instance(lxd, project, instance)
    for kind, key in (("images", "fingerprint"), ("profiles", "name")):
        for found in members(lxd, project, kind):
            if found[key] != "default":
                lxd.delete(f"{kind}/{found[key]}", project=project)
    lxd.delete(f"projects/{project}")


def remove_instance(lxd, project, instance):
    path = f"instances/{instance['name']}"
    if instance["status"] != "Stopped":
        lxd.put(f"{path}/state", {"action": "stop", "force": True}, project=project)
    lxd.delete(path, project=project)


def remove_network(lxd, network):
    _drop_firewall_rules(network)
    lxd.delete(f"networks/{network}")


def remove_pool(lxd, pool):
    lxd.delete(f"storage-pools/{pool}")
    loop_file(lxd, pool).unlink(missing_ok=True)


def loop_file(lxd, pool):
    return lxd.folder / "disks" / f"{pool}.img"


def _drop_firewall_rules(network):
    """LXD 5.0 deletes a chain that its own rules still refer to, and leaves the network half-deleted when that fails."""
    for program in ("iptables", "ip6tables"):
        for table in ("filter", "nat", "mangle"):
            rules = subprocess.run([program, "--wait", "-t", table, "-S"], capture_output=True, text=True, check=True).stdout
            for rule in rules.splitlines():
                if f'LXD network {network}"' in rule:
                    _append, *match = shlex.split(rule)
                    subprocess.run([program, "--wait", "-t", table, "-D", *match], check=True)
