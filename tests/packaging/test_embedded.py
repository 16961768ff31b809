"""How `make lab` tells arguments that only ask from those that change the machine, by the ansible-core that it uses."""

import fcntl
import os
import re
import shutil
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


def test_no_package_is_installed_before_it_is_known_what_is_asked(tmp_path):
    shutil.copytree("embedded", tmp_path / "embedded")
    environment = tmp_path / "embedded/environment.sh"
    environment.write_text(environment.read_text().replace("/run/lock/k8slab-embedded", str(tmp_path / "lock")))
    programs = tmp_path / "programs"
    programs.mkdir()
    # A Python of the right version without ensurepip, as Debian's is before python3-venv; and an apt-get that says that it was called.
    (programs / "python3").write_text('#!/bin/sh\ncase "$2" in *version_info*) exit 0 ;; *) exit 1 ;; esac\n')
    (programs / "apt-get").write_text(f"#!/bin/sh\ntouch {tmp_path}/installed\nexit 1\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    python = tmp_path / "embedded/python"
    python.write_text(re.sub(r"for candidate in /usr/bin/python3 .*;", "for candidate in python3;", python.read_text()))
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}

    def run(*command):
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | path
        )

    assert run("embedded/python", "--check").stdout.split(maxsplit=1) == ["python", "install python3-venv\n"]
    refused = run("embedded/lab", "--check")
    assert refused.returncode == 1
    assert "install python3-venv first" in refused.stderr
    assert not (tmp_path / "installed").exists()
    assert not (tmp_path / ".venv").exists()
    # Nobody can be asked, and nothing else is: the machine is to be made a lab.
    assert run("embedded/lab").returncode != 0
    assert (tmp_path / "installed").exists()


@pytest.mark.parametrize("script", ["lab", "destroy", "playbook"])
def test_whoever_changes_the_lab_does_so_alone(script):
    lines = Path("embedded", script).read_text().splitlines()
    assert [line.strip() for line in lines].count("run_alone") == 1
