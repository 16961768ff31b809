"""A root module with a state of its own, and OpenTofu for it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOFU = REPOSITORY / "embedded" / "tofu"


class Root:
    """A copy of tests/terraform/workload, which finds the module and the charts where it does in the repository."""

    def __init__(self, folder, **variables):
        self.folder = folder / "tests" / "terraform" / "workload"
        shutil.copytree(REPOSITORY / "tests/terraform/workload", self.folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        for name in ("terraform", "charts"):
            (folder / name).symlink_to(REPOSITORY / name)
        self.variables = variables
        self.processes = []
        self("init", "-input=false")

    def __call__(self, *arguments, expect=0, limit=1800):
        process = self.start(*arguments)
        try:
            process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            kill(process)
            raise
        said = Path(process.said.name).read_text()
        assert process.returncode == expect, f"{arguments}: exit code {process.returncode}\n{said}"
        return said

    def start(self, *arguments):
        self._write_variables()
        plain = [] if arguments[0] in ("output", "state") else ["-no-color"]
        command = [TOFU, f"-chdir={self.folder}", *arguments, *plain]
        # A file takes whatever it says, where a pipe that nobody reads would stop it.
        with tempfile.NamedTemporaryFile("w", dir=self.folder, prefix="said-", delete=False) as said:
            # A group of its own, so that it can be killed with all that it has started.
            process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True, cwd=REPOSITORY)
        process.said = said
        self.processes.append(process)
        return process

    def end(self):
        """Whatever a failed test has left running."""
        for process in self.processes:
            if process.poll() is None:
                kill(process)

    def _write_variables(self):
        path = self.folder / "given.auto.tfvars.json"
        path.write_text(json.dumps(self.variables))
        path.chmod(0o600)

    def apply(self, **changed):
        self.variables |= changed
        return self("apply", "-auto-approve", "-input=false")

    def start_apply(self):
        return self.start("apply", "-auto-approve", "-input=false")

    def refused(self, **changed):
        """What a plan says that fails."""
        before, self.variables = self.variables, self.variables | changed
        try:
            # Lines are broken where the screen ends, and are framed.
            return " ".join(self("plan", "-input=false", expect=1).replace("│", " ").split())
        finally:
            self.variables = before

    def is_done(self):
        """Whether another plan has nothing to change."""
        self("plan", "-input=false", "-detailed-exitcode", "-lock=false")

    def destroy(self):
        return self("destroy", "-auto-approve", "-input=false")

    def start_destroy(self):
        return self.start("destroy", "-auto-approve", "-input=false")

    def output(self, name):
        return json.loads(self("output", "-json", name))

    @property
    def resources(self):
        """What the state has, by type and name."""
        state = self.folder / "terraform.tfstate"
        try:
            found = json.loads(state.read_text())["resources"]
        except (FileNotFoundError, json.JSONDecodeError):
            # Not there yet, or being written.
            return []
        return [f"{one['type']}.{one['name']}" for one in found if one["mode"] == "managed"]


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
