"""A connection to this machine that is not called local, that writes down what it sends, and whose shell greets."""

from __future__ import annotations

DOCUMENTATION = """
name: far
short_description: a connection that writes down what it sends
description: A connection to this machine that writes down what it sends.
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
  sent:
    description: A file; each line in it is the number of bytes of a file that was sent, or zero for a command without input.
    type: path
    vars:
      - name: far_sent
  greeting:
    description: What every command prints first.
    type: str
    default: ""
    vars:
      - name: far_greeting
"""

import os

from ansible.plugins.connection.local import Connection as Local


class Connection(Local):
    transport = "far"

    def put_file(self, in_path, out_path):
        self._sends(os.path.getsize(in_path))
        super().put_file(in_path, out_path)

    def exec_command(self, cmd, in_data=None, sudoable=True):
        self._sends(len(in_data or b""))
        code, out, err = super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return code, self.get_option("greeting").encode() + out, err

    def _sends(self, size):
        if self.get_option("sent"):
            with open(self.get_option("sent"), "a", encoding="utf-8") as sent:
                sent.write(f"{size}\n")
