"""How `make lab` tells arguments that only ask from those that change the machine, by the ansible-core that it uses."""

import re
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
