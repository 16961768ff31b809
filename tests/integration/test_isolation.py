"""Both isolations on one lab, and the way between them."""

from pathlib import Path

import pytest
from throwaway.lab import Lab

ROLES = ["lab_facts", "lxd_project", "lxd_storage_pools", "lxd_network_int_managed", "lxd_profiles"]
TAGS = ",".join(ROLES)
# LXD 5.0 refuses raw.lxc and linux.kernel_modules in the profiles of a restricted project without it.
LOWLEVEL = {"restricted.virtual-machines.lowlevel": "allow"}


@pytest.fixture(scope="module")
def plain(ansible, lxd):
    """A lab without an instance, since this machine may lack the kernel modules that one of the reference's profiles asks for."""
    lab = Lab.throw_away(lxd)
    try:
        ansible.substrate(lab, "--tags", TAGS)
        yield lab
    finally:
        lab.destroy()


def reference(ansible, lab, *options):
    variables = {"k8s_lab_isolation": "reference", "lxd_project_extra_restrictions": LOWLEVEL}
    return ansible.substrate(lab, "--tags", TAGS, *options, **variables)


def test_reference_has_the_shape_of_the_reference_roles(ansible, plain):
    reference(ansible, plain)
    config = plain.find_project()["config"]
    for key, value in {
        "restricted.containers.privilege": "unprivileged",
        "restricted.containers.lowlevel": "allow",
        "restricted.containers.interception": "allow",
        "restricted.devices.disk": "allow",
        "restricted.devices.disk.paths": "/boot",
        "restricted.devices.unix-char": "allow",
        "restricted.devices.proxy": "allow",
    }.items():
        assert config[key] == value, key
    assert "restricted.networks.access" not in config

    worker = plain.find_profile("capi-worker")
    assert worker["config"]["raw.lxc"] == "lxc.apparmor.profile=unconfined"
    # A kernel that loads no modules is asked for none.
    modules = "br_netfilter,ip_vs,nf_conntrack,nf_tables,overlay,vxlan" if Path("/proc/modules").exists() else None
    assert worker["config"].get("linux.kernel_modules") == modules
    assert worker["devices"]["kmsg"] == {"type": "unix-char", "source": "/dev/kmsg", "path": "/dev/kmsg"}
    assert worker["devices"]["host-boot"]["readonly"] == "true"
    assert plain.find_profile("capi-base")["devices"]["eth0"] == {
        "type": "nic",
        "nictype": "bridged",
        "parent": plain.network,
        "name": "eth0",
    }
    assert reference(ansible, plain).changes == {}


def strict(ansible, lab):
    """One run tightens, from the inside out, and does what its check mode foresees."""
    foreseen = ansible.substrate(lab, "--tags", TAGS, "--check")
    done = ansible.substrate(lab, "--tags", TAGS)
    assert done.changes == foreseen.changes


def test_changing_the_isolation_leaves_nothing_of_the_other(ansible, plain):
    strict(ansible, plain)
    as_strict = plain.lasting()

    reference(ansible, plain)
    as_reference = plain.lasting()
    assert as_reference != as_strict

    strict(ansible, plain)
    assert plain.lasting() == as_strict

    foreseen = reference(ansible, plain, "--check")
    done = reference(ansible, plain)
    assert done.changes == foreseen.changes
    assert plain.lasting() == as_reference


def test_a_lab_with_a_running_instance_changes_in_one_run(ansible, lab):
    ansible.substrate(lab)
    as_strict = lab.lasting()
    process = lab.instance_process()
    loose = {"k8s_lab_isolation": "reference", "lxd_project_extra_restrictions": LOWLEVEL}

    foreseen = ansible.substrate(lab, "--check", **loose)
    done = ansible.substrate(lab, **loose)
    assert done.changes == foreseen.changes
    assert lab.find_project()["config"]["restricted.containers.lowlevel"] == "allow"
    assert lab.find_instance()["status"] == "Running"
    assert ansible.substrate(lab, **loose).changes == {}

    foreseen = ansible.substrate(lab, "--check")
    done = ansible.substrate(lab)
    assert done.changes == foreseen.changes
    assert lab.lasting() == as_strict
    assert lab.find_instance()["status"] == "Running"
    assert lab.instance_process() != process, "it runs by the profiles that it has now"
    assert ansible.substrate(lab).changes == {}


def test_a_project_is_not_tightened_around_what_it_holds(ansible, plain):
    reference(ansible, plain)
    failure = ansible.substrate(plain, "--tags", "lxd_project", expect=2).steps["lxd_project"]
    assert failure["code"] == "LXD_RESTRICTION_CONFLICT"
    assert any("playbook substrate" in hint for hint in failure["hints"])


def test_strict_cannot_be_talked_into_low_level_keys(ansible, plain):
    options = ["--tags", "lxd_project"]
    played = ansible.substrate(plain, *options, expect=2, lxd_project_extra_restrictions=LOWLEVEL)
    assert played.steps["lxd_project"]["code"] == "OPTION_COLLISION"
