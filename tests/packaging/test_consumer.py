"""docs/consumer, as somebody copies it."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import COLLECTION

CONSUMER = Path("docs/consumer")

# A machine that is no lab yet, in place of a server: names that nobody else has, and nothing of the machine's own.
OFFLINE = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "base_system_enabled": False,
    "lxd_host_enabled": False,
    "k8s_lab_project_name": "k8slab-consumer",
    "k8s_lab_storage_pool_name": "k8slab-consumer",
    "k8s_lab_storage_source": "/var/lib/lxd/disks/k8slab-consumer.img",
    "k8s_lab_bootstrap_instance_name": "k8slab-consumer",
    "k8s_lab_internal_network_name": "k8slabcnsi",
    "k8s_lab_external_bridge_name": "k8slabcnsx",
    "k8s_lab_internal_ipv4_subnet": "10.216.77.0/24",
    "k8s_lab_internal_ipv6_subnet": "fd42:216:77::/64",
    "k8s_lab_bundle": str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k8slab/bundle"),
}


@pytest.fixture
def consumer(tmp_path, installed):
    folder = tmp_path / "consumer"
    shutil.copytree(CONSUMER, folder)
    (folder / "collections").symlink_to(installed)
    return folder


@pytest.mark.parametrize("playbook", ["playbooks/deploy.yml", "playbooks/single.yml", "k8slab.capi.publish"])
def test_playbooks_are_understood(core, consumer, playbook):
    core.run("ansible-playbook", "--syntax-check", playbook, "--extra-vars", "cluster=team-a", cwd=consumer)


def test_it_wants_the_collection_that_is_there(consumer, installed):
    (wanted,) = yaml.safe_load((consumer / "requirements.yml").read_text())["collections"]
    manifest = yaml.safe_load((installed / COLLECTION / "MANIFEST.json").read_text())["collection_info"]
    assert (wanted["name"], wanted["version"]) == ("k8slab.capi", manifest["version"])


def test_a_run_says_beforehand_what_it_would_do(core, consumer, tmp_path):
    given = tmp_path / "offline.yml"
    given.write_text(yaml.safe_dump(OFFLINE | {"k8s_lab_opt_root": str(tmp_path / "opt")}))
    done = core.run("ansible-playbook", "playbooks/deploy.yml", "--check", "--extra-vars", f"@{given}", cwd=consumer)
    assert "failed=0" in done.stdout
    assert not (tmp_path / "opt").exists()
    assert not (consumer / ".artifacts").exists()
