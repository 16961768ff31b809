"""What the tarball holds, and that its executables answer."""

import json
import struct
import subprocess
import tarfile

import pytest
import yaml
from conftest import COLLECTION, HERE, ROLES_WITHOUT_A_STEP

GALAXY_LIMIT = 20 * 1000 * 1000
# ELF's e_machine.
MACHINES = {62: "amd64", 183: "arm64"}
PROGRAM_INTERPRETER = 3


@pytest.fixture(scope="session")
def manifest(tarball):
    with tarfile.open(tarball) as archive:
        return json.load(archive.extractfile("MANIFEST.json"))["collection_info"]


@pytest.fixture(scope="session")
def executables(installed):
    """The executables by architecture."""
    return {link.parent.name: link.resolve() for link in installed.joinpath(COLLECTION, "plugins/modules/bin").glob("*/*")}


def test_is_small_enough_for_galaxy(tarball):
    assert tarball.stat().st_size < GALAXY_LIMIT


def test_arrives_as_it_was_packed(core, installed):
    core.run("ansible-galaxy", "collection", "verify", "--offline", "-p", str(installed), "k8slab.capi")


def test_holds_every_step_in_every_form(installed, steps):
    collection = installed / COLLECTION
    runtime = yaml.safe_load((collection / "meta/runtime.yml").read_text())
    routes = runtime["plugin_routing"]["modules"]
    assert sorted(runtime["action_groups"]["all"]) == steps
    assert routes == {step: {"action_plugin": "k8slab.capi.step"} for step in steps}
    assert sorted(role.name for role in (collection / "roles").iterdir()) == sorted([*steps, *ROLES_WITHOUT_A_STEP])
    for architecture in (collection / "plugins/modules/bin").iterdir():
        assert sorted(link.name for link in architecture.iterdir()) == steps, architecture


def test_holds_one_executable_for_each_architecture(installed, executables):
    assert executables
    assert sorted(executables.values()) == sorted((installed / COLLECTION / "libexec").iterdir())


def test_executables_are_of_their_architecture_and_static(executables):
    for architecture, executable in executables.items():
        content = executable.read_bytes()
        assert content[:4] == b"\x7fELF"
        assert MACHINES[struct.unpack_from("<H", content, 18)[0]] == architecture
        first, size, number = struct.unpack_from("<Q", content, 32) + struct.unpack_from("<HH", content, 54)
        headers = {struct.unpack_from("<I", content, first + index * size)[0] for index in range(number)}
        assert PROGRAM_INTERPRETER not in headers, f"{executable.name} wants a dynamic linker"


def test_executables_are_of_the_collections_version(executables, manifest):
    said = subprocess.run([executables["amd64"], "--version"], capture_output=True, text=True, check=True).stdout
    assert said.split()[-1] == manifest["version"]


def test_git_keeps_no_executable():
    root = HERE.parents[1]
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    files = [root / name for name in tracked if name and (root / name).is_file()]
    assert files
    assert [file for file in files if file.open("rb").read(4) == b"\x7fELF"] == []


@pytest.mark.parametrize("step", ["lxd_project", "lxd_storage_pools"])
def test_executables_run_under_ansible(core, installed, step):
    done = core.run(
        "ansible", "localhost", "-m", f"k8slab.capi.{step}", "-a", "enabeld=false", check=False, ANSIBLE_COLLECTIONS_PATH=str(installed)
    )
    assert done.returncode != 0
    assert "enabeld" in done.stdout and "`enabled`" in done.stdout, done.stdout + done.stderr
