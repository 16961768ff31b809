"""Reaches a container of this machine's LXD by `lxc exec`: no SSH server and no Python there."""

import subprocess

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: lxc_exec
short_description: Reaches a container by C(lxc exec)
description: As root of the container.
options:
  container:
    description: Name of the container.
    vars:
      - name: lab_name
  project:
    description: Its project.
    vars:
      - name: lab_name
  lxd_dir:
    description: The folder of LXD's socket.
    vars:
      - name: lxd_dir
"""


class Connection(ConnectionBase):
    transport = "lxc_exec"

    def _connect(self):
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._lxc("exec", self.get_option("container"), "--", "/bin/sh", "-c", cmd, stdin=in_data)

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        self._transfer("push", in_path, self.get_option("container") + out_path)

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        self._transfer("pull", self.get_option("container") + in_path, out_path)

    def close(self):
        self._connected = False

    def _transfer(self, *arguments):
        code, _stdout, stderr = self._lxc("file", *arguments)
        if code != 0:
            raise AnsibleConnectionFailure(stderr.decode())

    def _lxc(self, *arguments, stdin=None):
        done = subprocess.run(
            ["lxc", "--project", self.get_option("project"), *arguments],
            input=stdin or b"",
            env={"LXD_DIR": self.get_option("lxd_dir"), "PATH": "/usr/bin:/bin:/snap/bin", "HOME": "/root"},
            capture_output=True,
        )
        return done.returncode, done.stdout, done.stderr
