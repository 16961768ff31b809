"""`ansible-playbook` with the built collection, as its users run it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

BIN = Path(sys.executable).parent
PLUGINS = Path(__file__).parent / "callback_plugins"
COLLECTION = "k8slab.capi."
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


class Ansible:
    """The collection of a tarball, installed below a folder of its own."""

    def __init__(self, tarball, folder, more_collections=(), programs=BIN):
        self.folder = Path(folder)
        self._programs = programs
        self._collections = ":".join(map(str, [self.folder, *more_collections]))
        subprocess.run(
            [programs / "ansible-galaxy", "collection", "install", "--offline", "-p", self.folder, tarball],
            check=True,
            capture_output=True,
            env=self._environment(),
        )

    def play(self, *tasks, roles=(), variables=None, options=(), expect=0, **keywords):
        """Runs a play of one's own against this machine."""
        play = {"name": "Play", "roles": list(roles), "tasks": list(tasks)} | keywords
        return self.start([play], variables, options).end(expect)

    def substrate(self, lab, *options, expect=0, **variables):
        """Runs the collection's own playbook against a throw-away lab."""
        return self.start_substrate(lab, *options, **variables).end(expect)

    def start_substrate(self, lab, *options, **variables):
        # The machine itself belongs to whoever runs the tests; the container that molecule makes is there for its steps.
        others = {"base_system_enabled": False, "lxd_host_enabled": False, "binary_fetch_enabled": False}
        return self.start("k8slab.capi.substrate", lab.variables | others | variables, options)

    def start(self, playbook, variables, options, within=()):
        work = Path(tempfile.mkdtemp(dir=self.folder))
        if not isinstance(playbook, str):
            plays = [{"hosts": "k8slab_host", "gather_facts": False} | play for play in playbook]
            (work / "play.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
            playbook = "play.yml"
        inventory = {"k8slab_host": {"hosts": {"this": {}}, "vars": LOCAL | (variables or {})}}
        (work / "hosts.yml").write_text(yaml.safe_dump(inventory))
        environment = {
            "ANSIBLE_COLLECTIONS_PATH": self._collections,
            "ANSIBLE_CALLBACK_PLUGINS": str(PLUGINS),
            "ANSIBLE_CALLBACKS_ENABLED": "record",
            "RECORD_FILE": str(work / "record"),
        }
        process = subprocess.Popen(
            [*within, self._programs / "ansible-playbook", "-i", "hosts.yml", playbook, *options],
            cwd=work,
            env=self._environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Running(process, work / "record")

    @staticmethod
    def _environment():
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        return clean | {"PATH": f"{BIN}:{clean['PATH']}", "ANSIBLE_NOCOLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class Running:
    def __init__(self, process, record):
        self._process = process
        self._record = record

    def end(self, expect=0):
        stdout, stderr = self._process.communicate()
        assert self._process.returncode == expect, f"exit code {self._process.returncode}\n{stdout}\n{stderr}"
        records = [json.loads(line) for line in self._record.read_text().splitlines()] if self._record.exists() else []
        return Played(stdout, stderr, records)


class Played:
    """What a run printed, and what its tasks returned."""

    def __init__(self, stdout, stderr, records):
        self.stdout = stdout
        self.stderr = stderr
        self.tasks = [record for record in records if "task" in record]
        self.recap = records[-1].get("recap", {}).get("this", {}) if records else {}

    @property
    def result(self):
        (task,) = self.tasks
        return task["result"]

    @property
    def steps(self):
        """The results of the collection's steps by name."""
        return {
            task["action"].removeprefix(COLLECTION): task["result"] for task in self.tasks if task["action"].startswith(COLLECTION)
        }

    @property
    def changes(self):
        """What each step that changes something says of it; nothing where a secret hides it."""
        return {step: result.get("changes") for step, result in self.steps.items() if result["changed"]}
