"""A run of `site` that somebody kills, and what the lab has at that moment."""

import contextlib
import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

SETTINGS = yaml.safe_load(Path("inventories/embedded/group_vars/all.yml").read_text())
PROJECT = SETTINGS["k8s_lab_project_name"]
STEPS = Path(".venv/collections").resolve()
# Longer than all of the lab takes, on a machine that does something else as well.
PATIENCE = 1800


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=20, help="how often the run is killed")
    parser.addoption("--seed", type=int, default=None, help="the moments of an earlier run")


@pytest.fixture
def moments(request):
    """When each run is killed, in seconds after its start, and whether its steps are killed with it."""
    seed = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"\nseed {seed}")
    chance = random.Random(seed)
    return [(chance.uniform(1, 60), chance.random() < 0.5) for _ in range(request.config.getoption("--kills"))]


def lxc(path):
    environment = os.environ | {"LXD_DIR": "/var/lib/lxd"}
    return subprocess.run(["lxc", "query", path], capture_output=True, text=True, timeout=120, env=environment)


def there_is_a_lab():
    return lxc(f"/1.0/projects/{PROJECT}").returncode == 0


def machines():
    """The instances of clusters, each with what tells it from another one of its name."""
    said = lxc(f"/1.0/instances?project={PROJECT}&recursion=1")
    found = json.loads(said.stdout) if said.returncode == 0 else []
    return {instance["name"]: instance["config"]["volatile.uuid"] for instance in found if "user.cluster-name" in instance["config"]}


class Site:
    """A run of the playbook."""

    def __init__(self):
        environment = os.environ | {"ANSIBLE_CONFIG": "embedded/ansible.cfg", "ANSIBLE_NOCOLOR": "1"}
        self._process = subprocess.Popen(
            [".venv/bin/ansible-playbook", "k8slab.capi.site"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def end(self, seconds=PATIENCE):
        """What it printed, and its exit code; of one that takes longer the code is None, and it goes on."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            output, _ = self._process.communicate(timeout=seconds)
            return output, self._process.returncode
        return "", None

    def kill(self, steps_too):
        """Kills Ansible, and what it has started on the host as well or not; gives the last task that it began."""
        if steps_too:
            for session in {os.getsid(process) for process in steps()} - {os.getsid(0)}:
                for process in members(session):
                    end(process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        output, _ = self._process.communicate(timeout=60)
        return [line for line in output.splitlines() if line.startswith("TASK")][-1:]


def steps():
    """The processes whose program is a step of the collection."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "exe").readlink().is_relative_to(STEPS):
                yield int(folder.name)


def members(session):
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(folder.name)) == session:
                yield int(folder.name)


def end(process):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
