"""Everything that the certificate is tried with.

An act is made for a place: it lays out what it needs there as the administrator, and says what is tried and how to see that it was
carried out. Nothing dangerous is ever started, and nothing but throw-away objects is changed.
"""

import json
from dataclasses import dataclass
from typing import Callable

from place import SUBNET

# What is written into an object to see whether it was changed.
MARK = "changed by the denial suite"


@dataclass
class Act:
    """What is tried by somebody's client, and whether it was carried out."""

    attempt: Callable
    happened: Callable


def config(**keys):
    return {"config": {name.replace("__", "."): value for name, value in keys.items()}}


def device(**keys):
    return {"devices": {"tried": keys}}


# What makes an instance dangerous, as config and devices. NETWORK is one that is not the lab's.
DANGERS = {
    "raw.idmap": config(raw__idmap="both 0 0"),
    "raw.lxc": config(raw__lxc="lxc.hook.pre-start=/bin/true"),
    "raw.apparmor": config(raw__apparmor="capability,"),
    "linux.kernel_modules": config(linux__kernel_modules="ip_tables"),
    "system call interception": config(security__syscalls__intercept__mknod="true"),
    "an id map that others share": config(security__idmap__isolated="false"),
    "privileged": config(security__privileged="true"),
    "a proxy to the admin socket": device(
        type="proxy", bind="instance", listen="unix:/run/l.sock", connect="unix:/var/lib/lxd/unix.socket"
    ),
    "a proxy on the host": device(type="proxy", bind="host", listen="tcp:127.0.0.1:9", connect="tcp:127.0.0.1:9"),
    "a NIC on another bridge": device(type="nic", nictype="bridged", parent="NETWORK"),
    "a NIC in another network": device(type="nic", network="NETWORK"),
    "a NIC on the uplink": device(type="nic", nictype="macvlan", parent="eth0"),
    "the uplink itself": device(type="nic", nictype="physical", parent="eth0"),
    "/dev/mem": device(type="unix-char", source="/dev/mem", path="/dev/mem"),
    "a block device": device(type="unix-block", path="/dev/tried", major="7", minor="0"),
    "a device to be plugged in": device(type="unix-hotplug", vendorid="1234"),
    "a USB device": device(type="usb", vendorid="1234"),
    "a GPU": device(type="gpu"),
    "/ as a disk": device(type="disk", source="/", path="/mnt"),
    "/etc as a disk": device(type="disk", source="/etc", path="/mnt"),
    "/boot as a disk, shifted": device(type="disk", source="/boot", path="/mnt", shift="true"),
}


def laid_out(danger, place):
    text = json.dumps({"config": {}, "devices": {}} | danger)
    if "NETWORK" in text:
        place.make_network()
    return json.loads(text.replace("NETWORK", place.name))


def created_with(danger):
    def act(place):
        body = place.body(**laid_out(danger, place))
        return Act(lambda client: client.post("instances", body, project=place.project), place.instance)

    return act


def changed_to(danger):
    def act(place):
        place.make_instance()
        before, body = place.instance(), place.body(**laid_out(danger, place))
        change = {"config": body["config"], "devices": body["devices"]}
        return Act(
            lambda client: client.patch(f"instances/{place.name}", change, project=place.project),
            lambda: [place.instance()[part] for part in change] != [before[part] for part in change],
        )

    return act


def profile_with(danger):
    def act(place):
        place.make_profile()
        before, change = place.profile(), laid_out(danger, place)
        return Act(
            lambda client: client.patch(f"profiles/{place.name}", change, project=place.project),
            lambda: place.profile() != before,
        )

    return act


def edit_a_network(place):
    place.make_network()
    return Act(
        lambda client: client.patch(f"networks/{place.name}", {"description": MARK}, project=place.project),
        lambda: place.network()["description"] == MARK,
    )


def delete_a_network(place):
    place.make_network()
    return Act(
        lambda client: client.remove(f"networks/{place.name}", project=place.project),
        lambda: place.network() is None,
    )


def edit_the_labs_network(place):
    """The one that its instances use."""
    network = place.network_of_the_lab()
    line = f"txt-record={place.name}.invalid"
    return Act(
        lambda client: client.patch(f"networks/{network}", {"config": {"raw.dnsmasq": line}}, project=place.project),
        lambda: place.admin.get(f"networks/{network}")["config"].get("raw.dnsmasq") == line,
    )


def create_a_network(place):
    body = {"name": place.name, "config": {"ipv4.address": "none", "ipv6.address": "none"}}
    return Act(lambda client: client.post("networks", body, project=place.project), place.network)


def forward_in_a_network(place):
    place.make_network(SUBNET)
    forward = {"listen_address": "192.0.2.77"}
    return Act(
        lambda client: client.post(f"networks/{place.name}/forwards", forward, project=place.project),
        lambda: place.admin.get(f"networks/{place.name}/forwards"),
    )


def forward_in_the_labs_network(place):
    """The port of LXD itself, at an address that leads nowhere else: whoever listens goes on to be heard."""
    network = place.network_of_the_lab()
    path, address = f"networks/{network}/forwards", "198.51.100.77"
    target = place.address_in(network)
    port = {"protocol": "tcp", "listen_port": "8443", "target_port": "8443", "target_address": target}
    place.take_back(f"{path}/{address}")
    return Act(
        lambda client: client.post(path, {"listen_address": address, "ports": [port]}, project=place.project),
        lambda: target in json.dumps(place.admin.get(f"{path}/{address}")),
    )


def create_a_pool(place):
    return Act(lambda client: client.post("storage-pools", {"name": place.name, "driver": "dir"}), place.pool)


def edit_a_pool(place):
    place.make_pool()
    return Act(
        lambda client: client.patch(f"storage-pools/{place.name}", {"description": MARK}),
        lambda: place.pool()["description"] == MARK,
    )


def delete_a_pool(place):
    place.make_pool()
    return Act(lambda client: client.remove(f"storage-pools/{place.name}"), lambda: place.pool() is None)


def configure_the_server(place):
    key = "core.proxy_ignore_hosts"
    place.put_back_config(key)
    return Act(
        lambda client: client.patch("", {"config": {key: f"{place.name}.invalid"}}),
        lambda: place.admin.get("")["config"].get(key) == f"{place.name}.invalid",
    )


def create_a_project(place):
    return Act(lambda client: client.post("projects", {"name": place.name, "config": {}}), place.own_project)


def edit_a_project(place):
    place.make_project()
    return Act(
        lambda client: client.patch(f"projects/{place.name}", {"description": MARK}),
        lambda: place.own_project()["description"] == MARK,
    )


def delete_a_project(place):
    place.make_project()
    return Act(lambda client: client.remove(f"projects/{place.name}"), lambda: place.own_project() is None)


def loosen_the_project(place):
    """Its own, in the lab."""
    path = f"projects/{place.restricted_project()}"
    return Act(
        lambda client: client.patch(path, {"config": {"restricted": "false"}}),
        lambda: place.admin.get(path)["config"]["restricted"] != "true",
    )


def trust_somebody(place):
    body = {"type": "client", "name": place.name, "certificate": place.somebody(), "restricted": False}
    return Act(lambda client: client.post("certificates", body), place.trusted)


def loosen_the_certificate(place):
    """Its own, in the lab."""
    path = f"certificates/{place.certificate()}"
    return Act(
        lambda client: client.patch(path, {"restricted": False, "projects": []}),
        lambda: not place.admin.get(path)["restricted"],
    )


def distrust_somebody(place):
    place.trust_somebody()
    return Act(lambda client: client.remove(f"certificates/{place.trusted()['fingerprint']}"), lambda: not place.trusted())


def list_instances_elsewhere(place):
    place.make_instance(place.other_project)
    seen = []
    return Act(
        lambda client: seen.extend(client.read("instances", recursion=1, project=place.other_project)),
        lambda: place.name in [instance["name"] for instance in seen],
    )


def create_elsewhere(place):
    return Act(
        lambda client: client.post("instances", place.body(), project=place.other_project),
        lambda: place.instance(place.other_project),
    )


def change_elsewhere(place):
    place.make_instance(place.other_project)
    return Act(
        lambda client: client.patch(f"instances/{place.name}", {"description": MARK}, project=place.other_project),
        lambda: place.instance(place.other_project)["description"] == MARK,
    )


def delete_elsewhere(place):
    place.make_instance(place.other_project)
    return Act(
        lambda client: client.remove(f"instances/{place.name}", project=place.other_project),
        lambda: place.instance(place.other_project) is None,
    )


def copy_from_elsewhere(place):
    place.make_instance(place.other_project)
    source = {"type": "copy", "source": place.name, "project": place.other_project}
    body = place.body() | {"name": f"{place.name}-copy", "source": source}
    return Act(
        lambda client: client.post("instances", body, project=place.project),
        lambda: place.admin.get(f"instances/{place.name}-copy", project=place.project),
    )


def copy_a_volume_from_elsewhere(place):
    volumes = place.make_volume(place.other_project)
    source = {"type": "copy", "name": place.name, "pool": place.pool_of_the_lab, "project": place.other_project}
    body = {"name": f"{place.name}-copy", "type": "custom", "source": source}
    return Act(
        lambda client: client.post(volumes, body, project=place.project),
        lambda: place.admin.get(f"{volumes}/{place.name}-copy", project=place.project),
    )


def move_elsewhere(place):
    place.make_instance()
    body = {"name": f"{place.name}-copy", "migration": True, "live": False, "project": place.other_project}
    return Act(
        lambda client: client.post(f"instances/{place.name}", body, project=place.project),
        lambda: place.admin.get(f"instances/{place.name}-copy", project=place.other_project),
    )


def edit_a_profile_elsewhere(place):
    place.make_profile(place.other_project)
    return Act(
        lambda client: client.patch(f"profiles/{place.name}", {"description": MARK}, project=place.other_project),
        lambda: place.profile(place.other_project)["description"] == MARK,
    )


def hear_of_elsewhere(place):
    heard = []

    def attempt(client):
        events = client.listen(f"events?project={place.other_project}&type=lifecycle")
        place.make_instance(place.other_project)
        heard.append(json.dumps(next(iter(events))))
        events.close()

    return Act(attempt, lambda: place.name in "".join(heard))


WAYS = {"created with": created_with, "changed to": changed_to, "a profile with": profile_with}
IN_INSTANCES = {f"{name}, {way}": make(danger) for way, make in WAYS.items() for name, danger in DANGERS.items()}
IN_NETWORKS = {
    "edit a network": edit_a_network,
    "delete a network": delete_a_network,
    "create a network": create_a_network,
    "forward in a network": forward_in_a_network,
}
BEYOND_THE_PROJECT = {
    "create a pool": create_a_pool,
    "edit a pool": edit_a_pool,
    "delete a pool": delete_a_pool,
    "configure the server": configure_the_server,
    "create a project": create_a_project,
    "edit another project": edit_a_project,
    "delete another project": delete_a_project,
    "loosen the project": loosen_the_project,
    "trust somebody": trust_somebody,
    "distrust somebody": distrust_somebody,
    "loosen the certificate": loosen_the_certificate,
    "list another project's instances": list_instances_elsewhere,
    "create an instance elsewhere": create_elsewhere,
    "change an instance elsewhere": change_elsewhere,
    "delete an instance elsewhere": delete_elsewhere,
    "move an instance elsewhere": move_elsewhere,
    "edit a profile elsewhere": edit_a_profile_elsewhere,
}
# What the step may report as residual, and what that means.
RESIDUAL = {
    "edit the lab's network": ("network-edit", edit_the_labs_network),
    "forward in the lab's network": ("network-forward", forward_in_the_labs_network),
    "copy an instance from elsewhere": ("project-copy", copy_from_elsewhere),
    "copy a volume from elsewhere": ("project-copy", copy_a_volume_from_elsewhere),
    "hear of an instance elsewhere": ("project-events", hear_of_elsewhere),
}
# Refused in a project of the reference's shape, too.
ALWAYS_REFUSED = [
    "privileged",
    "a block device",
    "a device to be plugged in",
    "a USB device",
    "a GPU",
    "/ as a disk",
    "/etc as a disk",
]
