"""A site's own inventory, as it begins: a copy of the example."""

import shutil
from pathlib import Path

import pytest

EXAMPLE = Path("inventories/example").resolve()


@pytest.mark.parametrize("variable", ["k8s_lab_artifacts_root", "k8s_lab_uplink_interface"])
def test_what_has_to_be_given_is_asked_for_before_anything_is_done(core, installed, tmp_path, variable):
    inventory = tmp_path / "mine"
    shutil.copytree(EXAMPLE, inventory)
    settings = inventory / "group_vars/k8slab_host.yml"
    lines = settings.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(f"{variable}:")]
    assert len(kept) == len(lines) - 1, "the example asks for it"
    settings.write_text("".join(kept))
    local = ["-e", "ansible_connection=local", "-e", "ansible_become=false"]
    arguments = ["-i", str(inventory), "k8slab.capi.site", "--check", "--diff", *local]
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(installed), "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote")}
    done = core.run("ansible-playbook", *arguments, cwd=tmp_path, check=False, **environment)
    assert done.returncode == 2, done.stdout
    assert f"{variable} is not set" in done.stdout
    assert "k8slab.capi." not in done.stdout, "no role has run"
