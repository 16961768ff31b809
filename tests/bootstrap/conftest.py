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

    def bootstrap(self, *options, expect=0, **variables):
        """The bootstrap phase once more."""
        running = self.ansible.start("k8slab.capi.bootstrap", self.variables | variables, options, within=self.cut.command)
        return running.end(expect)


@pytest.fixture(scope="session")
def made(ansible, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    with bundled(Lxd(), folder, "k8slab-bt", "8GiB") as (lab, variables):
        plan = ansible.start("k8slab.capi.site", variables, ["--check", "--diff"]).end()
        substrate = ansible.start("k8slab.capi.substrate", variables, []).end()
        with Cut(lab) as cut:
            run = ansible.start("k8slab.capi.bootstrap", variables, [], within=cut.command).end()
            yield Bootstrapped(lab, cut, folder, variables, ansible, plan, substrate, run)
