"""What `ansible-doc` shows of the collection."""

import json
import subprocess

import pytest
from conftest import COLLECTION, ROLES_WITHOUT_A_STEP


@pytest.fixture
def ansible_doc(core, installed):
    def ansible_doc(*arguments):
        done = core.run("ansible-doc", *arguments, ANSIBLE_COLLECTIONS_PATH=str(installed))
        # Some releases warn about a collection of their own.
        assert "k8slab" not in done.stderr, done.stderr
        return done.stdout

    return ansible_doc


def test_lists_every_module_and_nothing_else(ansible_doc, steps):
    listed = json.loads(ansible_doc("--json", "-l", "k8slab.capi"))
    assert sorted(listed) == [f"k8slab.capi.{step}" for step in steps]
    assert all(listed.values())


def test_documents_every_module(ansible_doc, steps):
    names = [f"k8slab.capi.{step}" for step in steps]
    documented = json.loads(ansible_doc("--json", *names))
    assert sorted(documented) == sorted(names)
    for name, module in documented.items():
        assert module["doc"]["options"], name
        assert module["examples"].strip(), name
        assert {"changes", "code", "hints", "stages"} <= module["return"].keys(), name


def test_reads_well(ansible_doc):
    text = ansible_doc("k8slab.capi.lxd_project")
    for heading in ("OPTIONS", "ATTRIBUTES", "EXAMPLES", "RETURN VALUES"):
        assert heading in text


def test_documents_every_role(ansible_doc, steps):
    roles = sorted(f"k8slab.capi.{role}" for role in [*steps, *ROLES_WITHOUT_A_STEP])
    assert sorted(json.loads(ansible_doc("--json", "-t", "role", "-l", "k8slab.capi"))) == roles
    for name, role in json.loads(ansible_doc("--json", "-t", "role", *roles)).items():
        prefix = name.rpartition(".")[2] + "_"
        options = role["entry_points"]["main"]["options"]
        assert options and all(option.startswith(prefix) for option in options), name


def test_documents_the_callback(ansible_doc):
    assert "callbacks_enabled=k8slab.capi.summary" in ansible_doc("-t", "callback", "k8slab.capi.summary")


def test_stubs_are_what_the_executable_says(installed, steps):
    modules = installed / COLLECTION / "plugins/modules"
    for step in steps:
        said = subprocess.run([modules / "bin/amd64" / step, "--docs", "stub"], capture_output=True, text=True, check=True).stdout
        assert said.strip() == (modules / f"{step}.py").read_text().strip(), step
