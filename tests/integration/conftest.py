"""Labs on the real LXD."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from throwaway.lab import Lab
from throwaway.lxd import Lxd
from throwaway.playbook import Ansible, Played


def pytest_addoption(parser):
    parser.addoption("--oldest-core", type=Path, help="a virtual environment with the oldest ansible-core that is supported")


@pytest.fixture(scope="session")
def lxd():
    return Lxd()


@pytest.fixture
def oldest_ansible(request, tmp_path):
    """The oldest ansible-core that is supported, with the collection."""
    programs = request.config.getoption("--oldest-core").resolve() / "bin"
    return Ansible(request.config.getoption("--tarball").resolve(), tmp_path, programs=programs)


@pytest.fixture
def lab(lxd):
    """Names of which nothing exists yet."""
    lab = Lab.throw_away(lxd)
    yield lab
    lab.destroy()


@pytest.fixture(scope="session")
def made(ansible, lxd):
    """A whole lab, with the plan for it and the run that made it."""
    lab = Lab.throw_away(lxd)
    try:
        before = lab.traces()
        plan = ansible.substrate(lab, "--check", "--diff")
        after = lab.traces()
        run = ansible.substrate(lab)
        yield Made(lab, plan, run, untouched_by_plan=before == after, as_made=lab.lasting())
    finally:
        lab.destroy()


@dataclass
class Made:
    lab: Lab
    plan: Played
    run: Played
    untouched_by_plan: bool
    as_made: dict


@pytest.fixture
def converged(ansible, made):
    """The whole lab as it was made, also after a test that failed on the way."""
    if made.lab.lasting() != made.as_made:
        ansible.substrate(made.lab)
    return made.lab
