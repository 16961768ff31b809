"""What the tools say that decide whether a collection is accepted: galaxy-importer, ansible-lint, ansible-test."""

import json
import sys
from pathlib import Path

import pytest
from conftest import COLLECTION, Core

# `ansible-test` fetches pip's installer from a host of its own; this one takes the pip that Python brings.
PIP_INSTALLER = "get_pip_24_2.py"
INSTALL_PIP = 'import ensurepip\n\nensurepip._main(["--default-pip"])\n'


@pytest.fixture(scope="module")
def tools():
    """The environment that holds the linters beside the lab's ansible-core."""
    return Core(Path(sys.prefix))


@pytest.fixture(scope="module")
def collection(tools, tarball, tmp_path_factory):
    folder = tmp_path_factory.mktemp("acceptance")
    tools.run("ansible-galaxy", "collection", "install", "--offline", "-p", str(folder), str(tarball))
    return folder / COLLECTION


def test_galaxy_importer_accepts_it(tools, tarball, collection, tmp_path):
    done = tools.run("python", "-m", "galaxy_importer.main", str(tarball), cwd=tmp_path, HOME=str(tmp_path))
    said = done.stdout + done.stderr
    warnings = [line for line in said.splitlines() if "WARNING" in line and "Ignore files skip ansible-test" not in line]
    assert warnings == []
    result = json.loads((tmp_path / "importer_result.json").read_text())
    listed = {(content["content_type"], content["name"]) for content in result["contents"]}
    steps = [stub.stem for stub in (collection / "plugins/modules").glob("*.py")]
    assert listed >= {("module", step) for step in steps}
    assert listed >= {("role", step) for step in steps}
    assert {("action", "step"), ("callback", "summary")} <= listed
    documented = {content["content_name"] for content in result["docs_blob"]["contents"] if content["doc_strings"]}
    assert documented >= set(steps)


def test_ansible_lint_passes_at_its_strictest(tools, collection, tmp_path):
    roots = str(collection.parents[2])
    tools.run("ansible-lint", "--offline", "--strict", "--profile", "production", cwd=collection, ANSIBLE_COLLECTIONS_PATH=roots)


def test_ansible_test_sanity(tools, collection, tmp_path):
    cache = tmp_path / ".ansible/test/cache"
    cache.mkdir(parents=True)
    (cache / PIP_INSTALLER).write_text(INSTALL_PIP)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    pip_cache = str(Path("~/.cache/pip").expanduser())
    sanity = ("sanity", "--venv", "--requirements", "--python", python)
    done = tools.run("ansible-test", *sanity, cwd=collection, check=False, HOME=str(tmp_path), PIP_CACHE_DIR=pip_cache)
    found = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("ERROR", "FATAL"))]
    assert (done.returncode, found) == (0, [])


def test_unit_tests_pass(core, collection, tmp_path):
    done = core.run(
        "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit", cwd=collection, PYTHONPATH=str(collection.parents[2])
    )
    assert " passed" in done.stdout
