"""The collection's own playbook from a bare LXD to a lab, and how the lab stays one."""

import ipaddress

import pytest

STEPS = {"lxd_project", "lxd_storage_pools", "lxd_network_int_managed", "lxd_profiles", "lxd_bootstrap_instance"}
PROFILES = ("capi-base", "capi-bootstrap", "capi-controlplane", "capi-worker")


def test_check_mode_plans_the_whole_lab_on_a_bare_lxd(made):
    lab, plan = made.lab, made.plan
    assert set(plan.changes) == STEPS
    assert plan.changes["lxd_project"] == [f"create project {lab.project}"]
    assert plan.changes["lxd_profiles"] == [f"create profile {name}" for name in PROFILES]
    assert plan.changes["lxd_bootstrap_instance"] == [f"create instance {lab.instance}", f"start instance {lab.instance}"]
    assert "+  restricted.devices.proxy: block" in plan.stdout
    assert "+  ipv4.address: " in plan.stdout
    assert "+status: Running" in plan.stdout


def test_check_mode_leaves_no_trace(made):
    assert made.untouched_by_plan


def test_check_mode_names_what_it_could_not_look_at(made):
    assert made.plan.steps["lxd_bootstrap_instance"]["deferred"] == [f"there is no project {made.lab.project}"]


def test_the_first_run_does_what_was_planned(made):
    planned, done = dict(made.plan.changes), dict(made.run.changes)
    # Where the image is can only be seen from within the project.
    image, *instance = done.pop("lxd_bootstrap_instance")
    assert image.startswith("copy image ")
    assert planned.pop("lxd_bootstrap_instance") == instance
    assert planned == done


def test_the_first_run_makes_the_lab(converged):
    project = converged.find_project()
    assert project["config"]["restricted"] == "true"
    assert project["config"]["restricted.devices.proxy"] == "block"
    assert project["config"]["restricted.networks.access"] == f"{converged.network},{converged.bridge}"

    pool = converged.find_pool()
    assert (pool["driver"], pool["status"]) == ("btrfs", "Created")

    network = converged.find_network()
    assert network["config"]["ipv4.address"] == f"{converged.ipv4[1]}/{converged.ipv4.prefixlen}"
    assert network["config"]["ipv6.address"] == f"{converged.ipv6[1]}/{converged.ipv6.prefixlen}"

    assert converged.find_profile("capi-base")["devices"] == {
        "root": {"type": "disk", "path": "/", "pool": converged.pool},
        "eth0": {"type": "nic", "network": converged.network, "name": "eth0"},
    }
    assert converged.find_profile("capi-worker")["devices"]["eth1"]["parent"] == converged.bridge

    instance = converged.find_instance()
    assert instance["status"] == "Running"
    assert instance["profiles"] == ["capi-base", "capi-bootstrap"]
    assert instance["expanded_config"]["security.idmap.isolated"] == "true"


def test_the_instance_has_addresses_of_both_families(converged):
    addresses = [ipaddress.ip_address(address) for address in converged.instance_addresses()]
    for subnet in (converged.ipv4, converged.ipv6):
        assert any(address in subnet for address in addresses), subnet


def test_the_lab_knows_that_it_is_one(ansible, converged):
    lab = ansible.substrate(converged, "--tags", "lab_facts").steps["lab_facts"]["lab"]
    (missing,) = lab["missing"]
    assert (lab["phase"], "kubeconfig" in missing) == ("substrate", True)
    assert set(lab["bootstrap_addresses"]) == set(converged.instance_addresses())


def test_a_second_run_changes_nothing(ansible, converged):
    before = converged.traces()
    played = ansible.substrate(converged)
    assert played.recap["changed"] == 0
    assert played.changes == {}
    assert converged.traces() == before


def test_the_oldest_ansible_does_the_same(oldest_ansible, lab):
    plan = oldest_ansible.substrate(lab, "--check", "--diff")
    assert lab.find_project() is None
    done = oldest_ansible.substrate(lab)
    assert set(plan.changes) == set(done.changes) == STEPS
    assert lab.find_instance()["status"] == "Running"
    assert oldest_ansible.substrate(lab).changes == {}


@pytest.mark.parametrize("tag", ["lxd_profiles", "lxd-profiles"])
def test_a_tag_selects_one_step(ansible, converged, tag):
    assert set(ansible.substrate(converged, "--tags", tag).steps) == {"lxd_profiles"}


def test_two_runs_at_once_both_succeed(ansible, converged):
    for drift in DRIFTS.values():
        drift(converged)
    twins = [ansible.start_substrate(converged), ansible.start_substrate(converged)]
    for twin in twins:
        twin.end()
    assert ansible.substrate(converged).changes == {}


def bend_project(lab):
    config = lab.find_project()["config"] | {"restricted.devices.proxy": "allow"}
    lab.lxd.put(f"projects/{lab.project}", {"description": "by hand", "config": config})


def bend_pool(lab):
    pool = lab.find_pool()
    lab.lxd.put(f"storage-pools/{lab.pool}", {"description": "by hand", "config": pool["config"]})


def bend_network(lab):
    config = lab.find_network()["config"] | {"ipv4.nat": "false", "ipv6.dhcp": "false"}
    lab.lxd.put(f"networks/{lab.network}", {"description": "by hand", "config": config})


def bend_profiles(lab):
    worker = lab.find_profile("capi-worker")
    bent = {"config": worker["config"] | {"security.nesting": "false"}, "devices": worker["devices"]}
    del bent["devices"]["eth1"]
    lab.lxd.put("profiles/capi-worker", bent, project=lab.project)
    lab.lxd.delete("profiles/capi-controlplane", project=lab.project)


def bend_instance(lab):
    instance = {"description": "by hand", "profiles": ["capi-base"], "config": {}, "devices": {}}
    lab.lxd.patch(f"instances/{lab.instance}", instance, project=lab.project)
    lab.lxd.put(f"instances/{lab.instance}/state", {"action": "stop", "force": True}, project=lab.project)


DRIFTS = {
    "lxd_project": bend_project,
    "lxd_storage_pools": bend_pool,
    "lxd_network_int_managed": bend_network,
    "lxd_profiles": bend_profiles,
    "lxd_bootstrap_instance": bend_instance,
}


@pytest.mark.parametrize("step", DRIFTS)
def test_drift_is_foreseen_and_undone(ansible, converged, step):
    as_made = converged.lasting()
    DRIFTS[step](converged)
    bent = converged.traces()
    assert converged.lasting() != as_made

    foreseen = ansible.substrate(converged, "--check", "--diff")
    assert converged.traces() == bent
    assert set(foreseen.changes) == {step}

    done = ansible.substrate(converged, "--diff")
    assert done.changes == foreseen.changes
    assert done.steps[step]["diff"] == foreseen.steps[step]["diff"]
    assert converged.lasting() == as_made
    assert ansible.substrate(converged).changes == {}


def test_what_others_set_survives(ansible, converged):
    as_made = converged.lasting()
    volumes = f"storage-pools/{converged.pool}/volumes/custom"
    converged.lxd.post(volumes, {"name": "scratch"}, project=converged.project)
    add_foreign(converged)
    with_foreign = converged.lasting()

    assert ansible.substrate(converged).changes == {}
    assert converged.lasting() == with_foreign
    for drift in DRIFTS.values():
        drift(converged)
    assert set(ansible.substrate(converged).changes) == STEPS
    assert converged.lasting() == with_foreign

    remove_foreign(converged)
    converged.lxd.delete(f"{volumes}/scratch", project=converged.project)
    assert converged.lasting() == as_made


FOREIGN_KEY = "user.owner"
WRITABLE = ("description", "config", "devices", "profiles", "architecture", "ephemeral")


def add_foreign(lab):
    device = {"type": "disk", "path": "/scratch", "pool": lab.pool, "source": "scratch"}
    for written in rewritten(lab):
        written["config"][FOREIGN_KEY] = "somebody else"
        if "devices" in written:
            written["devices"]["scratch"] = device


def remove_foreign(lab):
    for written in rewritten(lab):
        del written["config"][FOREIGN_KEY]
        if "devices" in written:
            del written["devices"]["scratch"]


def rewritten(lab):
    """The writable part of each kind of object in turn, written back as the caller leaves it."""
    in_project = {"project": lab.project}
    for path, query in (
        (f"projects/{lab.project}", {}),
        (f"storage-pools/{lab.pool}", {}),
        (f"networks/{lab.network}", {}),
        ("profiles/capi-worker", in_project),
        (f"instances/{lab.instance}", in_project),
    ):
        found = lab.lxd.get(path, **query)
        written = {key: found[key] for key in WRITABLE if key in found}
        yield written
        lab.lxd.put(path, written, **query)
