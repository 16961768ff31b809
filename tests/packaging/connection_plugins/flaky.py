"""A connection to this machine that is cut as often as `flaky_cuts` says when a job is attached to, and that is not called local."""

from __future__ import annotations

DOCUMENTATION = """
name: flaky
short_description: a connection that is cut
description: A connection to this machine that is cut.
extends_documentation_fragment: connection_pipelining
options:
  # ansible-core's local connection reads these two of whatever is made of it.
  become_success_timeout:
    description: As for the local connection.
    type: int
    default: 10
  become_strip_preamble:
    description: As for the local connection.
    type: bool
    default: true
  cuts:
    description: A folder; each file in it stands for one cut to come.
    type: path
    vars:
      - name: flaky_cuts
"""

import pathlib

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local


class Connection(Local):
    transport = "flaky"

    def exec_command(self, cmd, in_data=None, sudoable=True):
        # With the job's folder: the bare word is also in the stand-in, which is sent like this.
        if b"--attach /" in cmd.encode() + (in_data or b"") and self.get_option("cuts"):
            for cut in pathlib.Path(self.get_option("cuts")).iterdir():
                cut.unlink()
                raise AnsibleConnectionFailure("cut")
        return super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
