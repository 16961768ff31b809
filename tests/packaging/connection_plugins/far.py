"""A connection to this machine that is not called local, and that writes down what it sends."""

from __future__ import annotations

DOCUMENTATION = """
name: far
short_description: a connection that writes down what it sends
description: A connection to this machine that writes down what it sends.
extends_documentation_fragment: connection_pipelining
options:
  sent:
    description: A file; each line in it is the number of bytes of a file that was sent.
    type: path
    vars:
      - name: far_sent
"""

import os

from ansible.plugins.connection.local import Connection as Local


class Connection(Local):
    transport = "far"

    def put_file(self, in_path, out_path):
        with open(self.get_option("sent"), "a", encoding="utf-8") as sent:
            sent.write(f"{os.path.getsize(in_path)}\n")
        super().put_file(in_path, out_path)
