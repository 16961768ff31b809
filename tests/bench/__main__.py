"""Measures everything in turn, several times over, so that a machine whose speed drifts is fair to all."""

import argparse
import os
import tempfile
from pathlib import Path

from throwaway.lab import Lab
from throwaway.playbook import Ansible

from bench import bootstrap, peer, rest, ssh
from bench.far import away
from bench.figures import in_turn, median, say, timed, unchanged
from bench.step import Step

# As the collection's own playbooks take them: Ansible does not check the options a second time.
FIVE_ROLES = [
    {"ansible.builtin.import_role": {"name": f"k8slab.capi.{role}", "rolespec_validate": False}}
    for role in ("lxd_project", "lxd_storage_pools", "lxd_network_int_managed", "lxd_profiles", "lxd_bootstrap_instance")
]
ROUND_TRIP = 0.02
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", "target"), "release/lxd_project")
COLLECTION_BINARY = Path("target/collection/ansible_collections/k8slab/capi/libexec/k8slab-amd64")


def main():
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("tarball", type=Path)
    parser.add_argument("peer", type=Path, help="folder with the collections of a user who has no k8slab.capi")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ansible = Ansible(options.tarball.resolve(), folder, [options.peer.resolve()])
        first_runs(ansible)
        lab = Lab.throw_away(prefix="k8slab-bench")
        try:
            five_roles(ansible, lab)
            with ssh.server(folder) as near, away(near()["ansible_port"], ROUND_TRIP) as port:
                again(ansible, lab, options.rounds, near(), near(port))
            one_step(lab, options.rounds)
        finally:
            lab.destroy()
        bootstrap.measure(ansible, Path(folder), options.rounds)
    say("lxd_step_binary_mb", megabytes(RELEASE.stat().st_size))
    say("all_steps_binary_mb", megabytes(COLLECTION_BINARY.stat().st_size))
    say("tarball_mb", megabytes(options.tarball.stat().st_size))


def first_runs(ansible):
    """The five roles on an empty LXD, and the same by REST alone."""
    ours, floor = [], []
    for _ in range(3):
        for durations, make in ((floor, rest.create), (ours, lambda lab: five_roles(ansible, lab))):
            lab = Lab.throw_away(prefix="k8slab-bench")
            try:
                durations.append(timed(make, lab))
            finally:
                lab.destroy()
    say("first_run_five_roles_s", median(ours))
    say("first_run_raw_rest_s", median(floor))
    say("first_run_over_raw_rest_s", median(ours) - median(floor))


def again(ansible, lab, rounds, near, far):
    """Nothing to change, by every way."""
    tasks = peer.tasks(lab)
    ways = {
        "empty_playbook": lambda: ansible.play({"ansible.builtin.debug": {"msg": "empty"}}),
        "five_roles": lambda: unchanged(five_roles(ansible, lab)),
        "five_roles_over_ssh": lambda: unchanged(five_roles(ansible, lab, near)),
        "five_roles_from_afar": lambda: unchanged(five_roles(ansible, lab, far)),
        "peer_modules": lambda: unchanged(ansible.play(*tasks, variables=lab.variables)),
        "peer_modules_from_afar": lambda: unchanged(ansible.play(*tasks, variables=lab.variables | far)),
        "raw_rest": lambda: rest.read(lab),
    }
    medians = in_turn(ways, rounds)
    for name, seconds in medians.items():
        say(f"{name}_s", seconds)
    for name in ("five_roles", "five_roles_over_ssh", "five_roles_from_afar"):
        say(f"{name}_over_empty_playbook", medians[name] / medians["empty_playbook"])
    say("peer_modules_over_five_roles", medians["peer_modules"] / medians["five_roles"])
    say("peer_modules_over_five_roles_from_afar", medians["peer_modules_from_afar"] / medians["five_roles_from_afar"])
    say("five_roles_over_raw_rest", medians["five_roles"] / medians["raw_rest"])


def one_step(lab, rounds):
    """A step without Ansible, beside what LXD alone takes for the same questions."""
    step = Step(RELEASE, {"name": lab.project, "restricted_networks": [lab.network, lab.bridge]})
    whole, lxd_alone = [], []
    for _ in range(4 * rounds):
        whole.append(timed(step.run))
        lxd_alone.append(timed(rest.read_project, lab))
    say("one_step_ms", 1000 * median(whole))
    say("one_step_over_lxd_ms", 1000 * (median(whole) - median(lxd_alone)))
    say("one_step_peak_mb", step.peak_mb())


def five_roles(ansible, lab, variables=None):
    return ansible.play(*FIVE_ROLES, variables=lab.variables | (variables or {}))


def megabytes(size):
    return size / 1e6


main()
