"""What the README says of a server of one's own, line by line, with the container for a server."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import UPLINK, Host
from throwaway.bundled import BUNDLE
from throwaway.lab import Lab
from throwaway.lxd import Lxd
from throwaway.playbook import BIN

ROOT = Path.cwd()


@pytest.fixture(scope="module")
def host():
    """A bare one: nothing that other tests have put on theirs."""
    host = Host(Lab.throw_away(Lxd(), prefix="k8slab-readme"))
    try:
        host.create()
        # It has no internet access, and the bundle already.
        bundle = {"type": "disk", "source": str(BUNDLE), "path": str(BUNDLE), "readonly": "true"}
        host.lab.lxd.patch(f"instances/{host.name}", {"devices": {"bundle": bundle}})
        yield host
    finally:
        host.destroy()


@pytest.fixture(scope="module")
def lines():
    section = (ROOT / "README.md").read_text().partition("## Your own server")[2]
    block = re.search(r"```console\n(.*?)```", section, re.DOTALL)
    lines = [line.removeprefix("$ ") for line in block[1].splitlines()]
    assert len(lines) == 4
    return lines


@pytest.fixture(scope="module")
def site(request, host, lines, tmp_path_factory):
    """A folder with what the repository has for those who run these lines, and the inventory filled in."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "inventories", folder / "inventories")
    # The collection that is tested is built already.
    (folder / "dist").symlink_to(request.config.getoption("--tarball").resolve().parent)
    (folder / "Makefile").write_text("collection:\n\t@ls dist/k8slab-capi-*.tar.gz\n")
    copies, installs, *_ = lines
    run(copies, folder)
    here = folder / "inventories/mine"
    server = {"ansible_connection": "instance", "ansible_host": host.name, "ansible_user": "root", "ansible_become": False}
    server["k8s_lab_bundle"] = str(BUNDLE)
    (here / "host_vars").mkdir()
    (here / "host_vars/lab.example.com.yml").write_text(yaml.safe_dump(server))
    settings = here / "group_vars/k8slab_host.yml"
    text = settings.read_text()
    for name, value in {
        "k8s_lab_lxd_host_address": host.address(),
        "k8s_lab_storage_source": "loop",
        "k8s_lab_uplink_interface": UPLINK,
    }.items():
        text, count = re.subn(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
        assert count == 1, name
    settings.write_text(text)
    run(installs, folder)
    return folder


def run(line, folder):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")} | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONNECTION_PLUGINS": str(Path(__file__).parent / "connection_plugins"),
    }
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_the_plan_of_the_whole_lab_is_printed_and_nothing_is_changed(host, lines, site):
    host.run("touch /root/begun")
    look = "find / -xdev -newer /root/begun -type f -not -path '/proc/*' -not -path '/var/log/*' -not -path '/root/.ansible/*' | sort"
    before = host.run(look)
    printed = run(lines[2], site)
    assert "failed=0" in printed
    for role in ("base_system", "lxd_host", "lxd_project", "lxd_storage_pools", "bootstrap_k3s", "export_artifacts", "pivot_clusterctl_move"):
        assert f"k8slab.capi.{role} :" in printed, role
    assert host.run(look) == before
    # The last line makes what this one has planned: it is the same one without the two flags.
    assert lines[3] == lines[2].removesuffix(" --check --diff")
