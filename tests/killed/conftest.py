"""A run of `site` that somebody kills, and what the lab has at that moment."""

import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from throwaway.lxd import Lxd

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


def there_is_a_lab():
    return Lxd().get(f"projects/{PROJECT}") is not None


def machines():
    """The instances of clusters, each with what tells it from another one of its name."""
    found = Lxd().read("instances", recursion=1, project=PROJECT) if there_is_a_lab() else []
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
            of_steps = {session for _, session, program in processes() if program.is_relative_to(STEPS)}
            for number, session, _ in processes():
                if session in of_steps:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        output, _ = self._process.communicate(timeout=60)
        return [line for line in output.splitlines() if line.startswith("TASK")][-1:]


def processes():
    """Every process that has a program: its number, its session, and the program."""
    for folder in Path("/proc").glob("[0-9]*"):
        # It may end meanwhile.
        with contextlib.suppress(OSError):
            number = int(folder.name)
            yield number, os.getsid(number), (folder / "exe").readlink()
