"""How `make lab` tells arguments that only ask from those that change the machine, by the ansible-core that it uses."""

import fcntl
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path("embedded/lab").resolve()


@pytest.fixture(scope="session")
def only_asks(core):
    text = re.search(r"<<'PYTHON'\n(.*?)\nPYTHON\n", SCRIPT.read_text(), re.DOTALL)[1]
    return lambda *arguments: core.run("python", "-c", text, "k8slab.capi.site", *arguments, check=False)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--check"], "yes"),
        (["-C"], "yes"),
        (["-CD"], "yes"),
        (["-vC"], "yes"),
        (["--chec"], "yes"),
        (["--tags", "lxd_project", "-DC"], "yes"),
        (["--syntax-check"], "yes"),
        (["--list-tasks"], "yes"),
        ([], "no"),
        (["-D"], "no"),
        (["--tags", "--check"], None),
        (["-e", "note=--check"], "no"),
        (["--tags=-C"], "no"),
        (["--chek"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_way_to_write_check_mode_is_known(only_asks, arguments, answer):
    done = only_asks(*arguments)
    assert (done.stdout.strip() or None) == answer, done.stderr
    assert (done.returncode == 0) == (answer is not None)


def test_two_runs_do_not_meet(tmp_path):
    lock = tmp_path / "lock"
    command = f". embedded/environment.sh && run_alone {lock} && echo alone"

    def run():
        return subprocess.run(["bash", "-euc", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    assert (run().returncode, run().stdout) == (0, "alone\n")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = run()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "another make lab or make destroy is at work here" in refused.stderr
    assert (run().returncode, run().stdout) == (0, "alone\n")


@pytest.mark.parametrize("script", ["lab", "destroy", "playbook"])
def test_whoever_changes_the_lab_does_so_alone(script):
    lines = Path("embedded", script).read_text().splitlines()
    assert [line.strip() for line in lines].count("run_alone") == 1
