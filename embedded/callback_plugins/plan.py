# Copyright: (c) k8slab.capi contributors
# SPDX-License-Identifier: MIT
"""Prints what a run in check mode would change, step by step, and nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plan
type: stdout
short_description: Prints what a run in check mode would change
description:
  - One line for each planned change behind the step that would make it; nothing for a step that would change nothing.
  - Failures go to stderr.
"""

import sys

from ansible.plugins.callback import CallbackBase

# A plan is to be read before a question is answered; --diff shows the rest.
SHOWN_CHANGES = 8


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "plan"

    def v2_runner_on_ok(self, result):
        if not result._result.get("changed"):
            return
        changes = result._result.get("changes") or [result._task.get_name()]
        step = result._task.action.rpartition(".")[2]
        for change in changes[:SHOWN_CHANGES]:
            print(f"  {step:<24}{change}")
            step = ""
        if len(changes) > SHOWN_CHANGES:
            print(f"  {'':<24}and {len(changes) - SHOWN_CHANGES} more")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if ignore_errors:
            return
        print(f"{result._task.get_name()}: {result._result.get('msg')}", file=sys.stderr)
        for hint in result._result.get("hints", []):
            print(f"  try: {hint}", file=sys.stderr)

    def v2_runner_on_unreachable(self, result):
        self.v2_runner_on_failed(result)
