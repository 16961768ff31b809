"""The same by LXD's REST interface alone, on one connection: what nothing can go below."""

from throwaway.lab import IMAGE_ALIAS
from throwaway.lxd import Lxd

CONFINED = {"security.nesting": "true", "security.privileged": "false", "security.idmap.isolated": "true"}


def read(lab):
    """What the five steps ask when there is nothing to change."""
    lxd = Lxd()
    server, project = "", {"project": lab.project}
    for path, query in [
        *[(server, {}), (f"projects/{lab.project}", {}), (f"projects/{lab.project}", {})],
        *[(server, {}), ("storage-pools", {"recursion": 1}), *2 * [(f"storage-pools/{lab.pool}", {})]],
        *[(server, {}), *2 * [(f"networks/{lab.network}", {})]],
        *[(server, {}), *2 * [("instances", {"recursion": 1} | project)]],
        *[(f"profiles/{name}", project) for name in ("capi-base", "capi-bootstrap", "capi-controlplane", "capi-worker")],
        *[(server, {}), *2 * [(f"instances/{lab.instance}", project)], (f"instances/{lab.instance}/state", project)],
    ]:
        if lxd.get(path, **query) is None:
            raise AssertionError(f"{path} is not there")


def read_project(lab):
    lxd = Lxd()
    for path in ("", f"projects/{lab.project}", f"projects/{lab.project}"):
        lxd.get(path)


def create(lab):
    """A lab as the five roles make it, by as few requests as do it."""
    lxd = Lxd()
    features = {f"features.{name}": "true" for name in ("images", "profiles", "storage.volumes")}
    restrictions = {"restricted": "true", "restricted.containers.nesting": "allow", "restricted.devices.nic": "allow"}
    lxd.post("projects", {"name": lab.project, "config": features | {"features.networks": "false"} | restrictions})
    config = {"source": str(lab.loop_file), "size": "3GiB", "btrfs.mount_options": "user_subvol_rm_allowed"}
    lxd.post("storage-pools", {"name": lab.pool, "driver": "btrfs", "config": config})
    config = {f"{family}.{key}": "true" for family in ("ipv4", "ipv6") for key in ("nat", "dhcp")}
    config |= {f"ipv{net.version}.address": f"{net[1]}/{net.prefixlen}" for net in (lab.ipv4, lab.ipv6)}
    lxd.post("networks", {"name": lab.network, "type": "bridge", "config": config})
    root = {"type": "disk", "path": "/", "pool": lab.pool}
    eth0 = {"type": "nic", "network": lab.network, "name": "eth0"}
    project = {"project": lab.project}
    lxd.post("profiles", {"name": "capi-base", "devices": {"root": root, "eth0": eth0}}, **project)
    for name in ("capi-bootstrap", "capi-controlplane", "capi-worker"):
        lxd.post("profiles", {"name": name, "config": CONFINED}, **project)
    fingerprint = lxd.get(f"images/aliases/{IMAGE_ALIAS}")["target"]
    lxd.copy_image(fingerprint, lab.project)
    body = {"name": lab.instance, "type": "container", "profiles": ["capi-base", "capi-bootstrap"]}
    lxd.post("instances", body | {"source": {"type": "image", "fingerprint": fingerprint}}, **project)
    lxd.put(f"instances/{lab.instance}/state", {"action": "start"}, **project)
    while not reachable(lab.instance_addresses()):
        pass


def reachable(addresses):
    """As the step sees it: an address of each family."""
    return any(":" in address for address in addresses) and any("." in address for address in addresses)
