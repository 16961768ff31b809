"""One step as a program, the way Ansible calls it."""

import json
import os
import subprocess
import tempfile


class Step:
    def __init__(self, executable, options):
        self._executable = executable.resolve()
        self._arguments = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump(options | {"_ansible_check_mode": False, "_ansible_diff": False}, self._arguments)
        self._arguments.flush()

    def run(self):
        silence = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        process = os.posix_spawn(self._executable, [self._executable, self._arguments.name], os.environ, file_actions=silence)
        _process, status = os.waitpid(process, 0)
        if status:
            raise AssertionError(f"{self._executable.name} failed")

    def peak_mb(self):
        """By a small program, since the kernel counts a process's memory from that of the one that it was started by."""
        command = ["/usr/bin/time", "--format=%M", self._executable, self._arguments.name]
        done = subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return int(done.stderr) / 1000
