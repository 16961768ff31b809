"""Fixtures around the built collection, installed by every ansible-core that is under test."""

import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
COLLECTION = Path("ansible_collections/k8slab/capi")
ROLES_WITHOUT_A_STEP = ["bundle", "cluster"]


def pytest_addoption(parser):
    parser.addoption("--core", type=Path, action="append", required=True, help="a virtual environment with an ansible-core")


def pytest_generate_tests(metafunc):
    if "core" in metafunc.fixturenames:
        cores = [core_in(folder) for folder in metafunc.config.getoption("core")]
        metafunc.parametrize("core", cores, ids=str, indirect=True, scope="session")


@cache
def core_in(folder):
    """The same one for every test: pytest sets a fixture up anew for each other parameter."""
    return Core(folder)


class Core:
    """One ansible-core, in a virtual environment of its own."""

    def __init__(self, folder):
        self.bin = folder.resolve() / "bin"
        self.version = self.run("python", "-c", "import ansible.release; print(ansible.release.__version__, end='')").stdout

    def __str__(self):
        return f"core-{self.version}"

    def run(self, program, *arguments, cwd="/", check=True, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))}
        path = f"{self.bin}:{os.environ['PATH']}"
        done = subprocess.run(
            [self.bin / program, *arguments],
            cwd=cwd,
            env=clean | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "ANSIBLE_NOCOLOR": "1"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{program} exits with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="session")
def tarball(request):
    return request.config.getoption("tarball").resolve()


@pytest.fixture(scope="session")
def core(request):
    return request.param


@pytest.fixture(scope="session")
def installed(core, tarball, tmp_path_factory):
    """The folder that `ansible-galaxy` installed the collection below."""
    folder = tmp_path_factory.mktemp(str(core))
    core.run("ansible-galaxy", "collection", "install", "--offline", "-p", str(folder), str(tarball))
    return folder


@pytest.fixture(scope="session")
def steps(installed):
    return sorted(stub.stem for stub in (installed / COLLECTION / "plugins/modules").glob("*.py"))


@pytest.fixture(scope="session")
def reachable():
    """A folder that every user can enter. pytest closes its own to others whenever one more pytest starts."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="session")
def with_stand_in(installed, reachable):
    """The installed collection with the scripted stand-in as its executable, for both architectures."""
    folder = reachable / installed.name
    shutil.copytree(installed, folder, symlinks=True)
    executables = folder / COLLECTION / "plugins/modules/bin"
    for architecture in ("amd64", "arm64"):
        shutil.rmtree(executables / architecture, ignore_errors=True)
        (executables / architecture).mkdir()
        for step in ("lab_plan", "lxd_project", "lxd_storage_pools"):
            shutil.copy(HERE / "stand_in", executables / architecture / step)
    return folder


@pytest.fixture
def play(core, with_stand_in, tmp_path):
    """Runs tasks against this machine with the stand-in for an executable; gives what they registered, and what was printed."""

    def play(*tasks, variables=None, options=(), check=True, **environment):
        report = tmp_path / "report.json"
        connection = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        registered = [
            {"name": f"Task {number}", "register": f"result_{number}", "ignore_errors": True} | task
            for number, task in enumerate(tasks)
        ]
        results = ", ".join(f"result_{number}" for number in range(len(tasks)))
        keep = {
            "name": "Keep the results",
            "ansible.builtin.copy": {"content": f"{{{{ [{results}] | to_json }}}}", "dest": str(report), "mode": "0600"},
            "check_mode": False,
            "diff": False,
            "vars": {"ansible_connection": "local"},
        }
        plays = [
            {
                "name": "Stand-in",
                "hosts": "edge-1",
                "gather_facts": False,
                "module_defaults": {"group/k8slab.capi.all": {"from_group": "yes"}},
                "tasks": [*registered, keep],
            }
        ]
        hosts = {"edge-1": connection | (variables or {}), "edge-2": connection}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        (tmp_path / "play.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
        environment = {
            "ANSIBLE_COLLECTIONS_PATH": str(with_stand_in),
            "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection_plugins"),
            "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        } | environment
        done = core.run("ansible-playbook", "-i", "hosts.yml", "play.yml", *options, cwd=tmp_path, check=check, **environment)
        results = json.loads(report.read_text()) if report.exists() else []
        return Played(results, done.stdout, done.stderr)

    return play


class Played:
    def __init__(self, results, stdout, stderr):
        self.results = results
        self.stdout = stdout
        self.stderr = stderr

    @property
    def result(self):
        (result,) = self.results
        return result
