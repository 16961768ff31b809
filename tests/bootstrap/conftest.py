"""A lab with its bootstrap cluster, made from the bundle while every way out is cut."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from throwaway.egress import Cut
from throwaway.lab import IMAGE_ALIAS, Lab
from throwaway.lxd import Lxd
from throwaway.playbook import Ansible, Played

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
BUNDLE = CACHE / "k8slab" / "bundle"
# The machine itself belongs to whoever runs the tests.
NOT_THE_MACHINE = {"base_system_enabled": False, "lxd_host_enabled": False}


def pytest_addoption(parser):
    parser.addoption("--tarball", type=Path, required=True, help="the built collection")


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    count = {outcome: len(reports) for outcome, reports in reporter.stats.items()}
    # A check that was not carried out is one that did not pass.
    failed = sum(count.get(outcome, 0) for outcome in ("failed", "error", "skipped", "xfailed", "xpassed"))
    print(f"{count.get('passed', 0)} passed, {failed} failed")


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
    seconds: float

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
def made(request, tmp_path_factory):
    ansible = Ansible(request.config.getoption("--tarball").resolve(), tmp_path_factory.mktemp("ansible"))
    folder = tmp_path_factory.mktemp("lab")
    lxd = Lxd()
    lab = Lab.throw_away(lxd, prefix="k8slab-bt")
    pool = {"name": lab.pool, "driver": "btrfs", "config": {"source": str(lab.loop_file), "size": "8GiB"}}
    variables = lab.variables | NOT_THE_MACHINE | {
        "k8s_lab_bundle": str(BUNDLE),
        "k8s_lab_opt_root": str(folder / "opt"),
        "lxd_storage_pools_pools": [pool],
        "lxd_images_aliases": [IMAGE_ALIAS],
        "bootstrap_capn_secret_client_cert_cn": lab.name,
        "bootstrap_capn_secret_trust_name": lab.name,
        # Another lab of this machine may have set it.
        "bootstrap_capn_secret_force_https_address": True,
        "export_artifacts_root": str(folder / "artifacts"),
    }
    listened = lxd.get("")["config"].get("core.https_address", "")
    try:
        plan = ansible.start("k8slab.capi.site", variables, ["--check", "--diff"]).end()
        substrate = ansible.start("k8slab.capi.substrate", variables, []).end()
        with Cut(lab) as cut:
            started = time.monotonic()
            run = ansible.start("k8slab.capi.bootstrap", variables, [], within=cut.command).end()
            seconds = time.monotonic() - started
            yield Bootstrapped(lab, cut, folder, variables, ansible, plan, substrate, run, seconds)
    finally:
        for entry in lxd.get("certificates", recursion=1):
            if entry["name"] == lab.name:
                lxd.delete(f"certificates/{entry['fingerprint']}")
        lab.destroy()
        lxd.patch("", {"config": {"core.https_address": listened}})
