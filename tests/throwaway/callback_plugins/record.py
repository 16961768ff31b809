"""Writes every task's result down for the tests."""

import json
import os

from ansible.parsing.ajson import AnsibleJSONEncoder
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record
type: aggregate
short_description: Writes every task's result down for the tests
description: One JSON object a line, into the file that the environment names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self._path = os.environ["RECORD_FILE"]

    def _write(self, **record):
        with open(self._path, "a", encoding="utf-8") as file:
            print(json.dumps(record, cls=AnsibleJSONEncoder), file=file)

    def _result(self, status, result):
        self._write(task=result._task.get_name(), action=result._task.action, status=status, result=result._result)

    def v2_runner_on_ok(self, result):
        self._result("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._result("failed", result)

    def v2_runner_on_unreachable(self, result):
        self._result("unreachable", result)

    def v2_runner_on_skipped(self, result):
        self._result("skipped", result)

    def v2_playbook_on_stats(self, stats):
        self._write(recap={host: stats.summarize(host) for host in stats.processed})
