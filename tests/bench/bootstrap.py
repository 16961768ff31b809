"""The bootstrap cluster: how long it takes to come up, how much of that is ours, and how long it takes to see that it is up."""

from throwaway.bundled import bundled
from throwaway.lxd import Lxd

from bench.figures import in_turn, say, timed, unchanged

FOUR_ROLES = [
    f"k8slab.capi.{role}" for role in ("bootstrap_k3s", "bootstrap_clusterctl", "bootstrap_capn_secret", "export_artifacts")
]
# The stages in which a step waits for Kubernetes to start, images to be imported, and clusterctl to end.
NOT_OURS = {"bootstrap_k3s": "service", "bootstrap_clusterctl": "init"}


def measure(ansible, folder, rounds):
    with bundled(Lxd(), folder, "k8slab-bench", "8GiB") as (_lab, variables):
        ansible.start("k8slab.capi.substrate", variables, []).end()
        played = []
        whole = timed(lambda: played.append(ansible.play(roles=FOUR_ROLES, variables=variables)))
        waited = sum(
            stage["seconds"]
            for step, name in NOT_OURS.items()
            for stage in played[0].steps[step]["stages"]
            if stage["name"] == name
        )
        say("bootstrap_four_roles_s", whole)
        say("bootstrap_not_ours_s", waited)
        ways = {
            "bootstrap_empty_playbook_s": lambda: ansible.play({"ansible.builtin.debug": {"msg": "empty"}}),
            "bootstrap_four_roles_again_s": lambda: unchanged(ansible.play(roles=FOUR_ROLES, variables=variables)),
            "substrate_and_bootstrap_again_s": lambda: unchanged(both(ansible, variables)),
        }
        medians = in_turn(ways, rounds)
        for name, seconds in medians.items():
            say(name, seconds)
        whole, empty = medians["substrate_and_bootstrap_again_s"], medians["bootstrap_empty_playbook_s"]
        say("substrate_and_bootstrap_again_over_empty_playbook", whole / empty)


def both(ansible, variables):
    """The first two phases of `site`, in one run."""
    return ansible.start("k8slab.capi.substrate", variables, ["k8slab.capi.bootstrap"]).end()
