"""What every suite does alike: it is given the built collection, and ends with the line "N passed, N failed"."""

import os
from pathlib import Path

import pytest
from throwaway.playbook import Ansible


def built(step):
    """The executable of a step, as cargo has just built it, wherever it builds."""
    return Path(os.environ.get("CARGO_TARGET_DIR", "target"), "debug", step).resolve()


def pytest_addoption(parser):
    parser.addoption("--tarball", type=Path, help="the built collection")


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    count = {outcome: len(reports) for outcome, reports in reporter.stats.items()}
    # A check that was not carried out is one that did not pass.
    failed = sum(count.get(outcome, 0) for outcome in ("failed", "error", "skipped", "xfailed", "xpassed"))
    print(f"{count.get('passed', 0)} passed, {failed} failed")


@pytest.fixture(scope="session")
def ansible(request, tmp_path_factory):
    return Ansible(request.config.getoption("--tarball").resolve(), tmp_path_factory.mktemp("ansible"))
