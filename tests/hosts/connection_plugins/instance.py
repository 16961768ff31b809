"""An LXD instance as Ansible's target: whatever is in it, by LXD alone."""

from __future__ import annotations

import subprocess

from ansible.errors import AnsibleError
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: instance
short_description: Work in an LXD instance
description: Runs commands in an instance of the default project and copies files there.
options:
  remote_addr:
    description: The instance.
    type: str
    vars:
      - name: ansible_host
"""


class Connection(ConnectionBase):
    transport = "instance"
    has_pipelining = False

    def _connect(self):
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data, sudoable)
        done = self._lxc("exec", self._instance, "--", "/bin/sh", "-c", cmd, given=in_data)
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        self._copy("push", in_path, f"{self._instance}{out_path}")

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        self._copy("pull", f"{self._instance}{in_path}", out_path)

    def close(self):
        self._connected = False

    @property
    def _instance(self):
        return self.get_option("remote_addr")

    def _copy(self, direction, source, target):
        done = self._lxc("file", direction, source, target)
        if done.returncode:
            raise AnsibleError(done.stderr.decode())

    @staticmethod
    def _lxc(*words, given=None):
        return subprocess.run(["lxc", *words], input=given or b"", capture_output=True, check=False)
