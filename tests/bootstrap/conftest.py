"""A lab with its bootstrap cluster, made from the bundle while every way out is cut."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from throwaway.bundled import bundled
from throwaway.egress import Cut
from throwaway.lab import Lab
from throwaway.lxd import Lxd
from throwaway.playbook import Ansible, Played


@dataclass
class Bootstrapped:
    lab: Lab
    cut: Cut
    folder: Path
    variables: dict
    ansible: Ansible
    plan: Played
    substrate: Played
    run: Played

    @property
    def kubeconfig(self):
        return self.folder / "artifacts" / "mgmt.kubeconfig"

    @property
    def kubectl(self):
        return [*self.cut.command, self.folder / "opt" / "bin" / "kubectl", "--kubeconfig", self.kubeconfig]

    @property
    def clusterctl_config(self):
        return self.folder / "opt" / "etc" / "bootstrap_clusterctl" / "clusterctl.yaml"

    def start_bootstrap(self, *options, **variables):
        """The bootstrap phase once more."""
        return self.ansible.start("k8slab.capi.bootstrap", self.variables | variables, options, within=self.cut.command)

    def bootstrap(self, *options, expect=0, **variables):
        return self.start_bootstrap(*options, **variables).end(expect)


@pytest.fixture(scope="session")
def made(ansible, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    with bundled(Lxd(), folder, "k8slab-bt", "8GiB") as (lab, variables), Cut(lab) as cut:

        def play(phase, *options):
            return ansible.start(f"k8slab.capi.{phase}", variables, options, within=cut.command).end()

        plan = play("site", "--check", "--diff")
        substrate = play("substrate")
        cut.connect()
        run = play("bootstrap")
        yield Bootstrapped(lab, cut, folder, variables, ansible, plan, substrate, run)
