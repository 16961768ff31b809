# -*- coding: utf-8 -*-
# Copyright: (c) k8slab.capi contributors
# SPDX-License-Identifier: MIT
"""Runs the executable of a step that fits the host's CPU, and shows what the step says while it works."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

COLLECTION = "k8slab.capi"
EXECUTABLES = Path(__file__).resolve().parents[1] / "modules" / "bin"
# How a host's file begins that holds an executable for later tasks.
KEPT = "k8slab-executable-"
# What `uname -m` and Ansible's facts call a CPU, and what the collection calls it.
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

# The shell's exit code for a file that it found and could not execute.
CANNOT_EXECUTE = 126

# A host whose network is being changed, or that restarts its SSH server, is given this long to come back.
RECONNECT_SECONDS = 120
RECONNECT_PAUSE_SECONDS = 15


class StepFailure(Exception):
    """A failure that no executable can report, in the form in which executables report theirs."""

    def __init__(self, code, message, hints, outcome="failed", **more):
        super().__init__(message)
        self.result = {outcome: True, "changed": False, "msg": message, "code": code, "hints": hints, **more}


class ActionModule(ActionBase):
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        try:
            result.update(self._run_step(task_vars))
        except StepFailure as failure:
            result.update(failure.result)
        return result

    def _run_step(self, task_vars):
        architecture = self._architecture(task_vars)
        step = self._task.action.rpartition(".")[2]
        arguments = dict(self._task.args)
        if not self._task.check_mode and not self._task.async_val:
            arguments["_k8slab_job"] = True

        result = self._execute_module(
            module_name=f"{COLLECTION}.bin.{architecture}.{step}",
            module_args=arguments,
            task_vars=task_vars,
            wrap_async=bool(self._task.async_val) and not self._connection.has_native_async,
        )
        if "module_stdout" in result and result.get("rc") == CANNOT_EXECUTE:
            self._explain_refusal(architecture)
        job = result.pop("_k8slab_job", None)
        return self._follow(job, task_vars) if job else result

    def _transfer_file(self, local_path, remote_path):
        """Sends an executable once: later tasks take what the host has kept of it, as far as it is still the same."""
        path = Path(os.fsdecode(local_path))
        if self._connection.transport == "local" or path.parent.parent.resolve() != EXECUTABLES:
            return super()._transfer_file(local_path, remote_path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        folder = os.path.dirname(self._connection._shell.tmpdir.rstrip("/"))
        kept = f"{folder}/{KEPT}{digest[:16]}"
        here = shlex.quote(remote_path)
        # The copy is what is verified, as it alone is in a folder that nobody else can write to.
        taken = f"cp {shlex.quote(kept)} {here} && echo {shlex.quote(f'{digest}  {remote_path}')} | sha256sum -c"
        if self._low_level_execute_command(taken, sudoable=False)["rc"] != 0:
            super()._transfer_file(local_path, remote_path)
            keep = f"rm -f {shlex.quote(folder)}/{KEPT}*; cp {here} {shlex.quote(kept)}"
            # Without it, the next task sends the executable again, and that is all.
            self._low_level_execute_command(keep, sudoable=False)
        return remote_path

    def _architecture(self, task_vars):
        shipped = sorted(entry.name for entry in EXECUTABLES.glob("*") if entry.is_dir())
        machine = self._known_machine(task_vars)
        if machine is None and len(shipped) == 1:
            return shipped[0]
        machine = machine or self._ask_machine()
        architecture = ARCHITECTURES.get(machine)
        if architecture not in shipped:
            raise unsupported(machine, shipped)
        return architecture

    def _known_machine(self, task_vars):
        if self._connection.transport == "local":
            return os.uname().machine
        delegate = self._task.delegate_to
        host_vars = task_vars.get("ansible_delegated_vars", {}).get(delegate, {}) if delegate else task_vars
        return host_vars.get("ansible_facts", {}).get("architecture")

    def _ask_machine(self):
        return self._low_level_execute_command("uname -m", sudoable=False)["stdout"].strip()

    def _explain_refusal(self, architecture):
        machine = self._ask_machine()
        if ARCHITECTURES.get(machine) != architecture:
            raise unsupported(machine, [architecture])
        folder = self._connection._shell.tmpdir
        raise StepFailure(
            "REMOTE_TMP_NOEXEC",
            f"the host does not execute files in {folder}",
            ["the file system is probably mounted noexec; point ansible_remote_tmp at another one"],
        )

    def _follow(self, job, task_vars):
        """Shows what a job says until it gives its result."""
        offset = 0
        while True:
            answer = self._attach(job, offset)
            try:
                # A login shell may have printed something before the answer.
                start = answer["stdout"].index("{")
                news, _end = json.JSONDecoder().raw_decode(answer["stdout"], start)
                events, offset, result = news["events"], news["from"], news["result"]
            except (ValueError, KeyError) as error:
                raise job_lost(job, answer) from error
            for event in events:
                self._show(event, task_vars)
            if result is not None:
                return result

    def _attach(self, job, offset):
        """Asks a job for what happened since `offset`; the answer comes at the first news, or after some seconds without any."""
        command = shlex.join([*job["attach"], "--from", str(offset)])
        deadline = time.monotonic() + RECONNECT_SECONDS
        pause = 1
        while True:
            try:
                return self._low_level_execute_command(command)
            except AnsibleConnectionFailure as error:
                if time.monotonic() + pause > deadline:
                    # Removing the temporary folder would need the connection, and its failure would hide this one.
                    self._cleanup_remote_tmp = False
                    raise connection_lost(job, error) from error
            time.sleep(pause)
            pause = min(2 * pause, RECONNECT_PAUSE_SECONDS)
            self._reset_connection()

    def _reset_connection(self):
        try:
            self._connection.reset()
        except (AttributeError, AnsibleConnectionFailure):
            # Not every connection can be reset, and one that is down need not be.
            pass

    def _show(self, event, task_vars):
        if self._task.no_log:
            return
        host = task_vars.get("inventory_hostname", "")
        if self._task.delegate_to:
            host = f"{host} -> {self._task.delegate_to}"
        stage = f", {event['stage']}" if event["stage"] else ""
        line = f"[{host}] {event['seconds']:.0f} s{stage}: {event['message']}"
        # To standard error, since standard output may be a machine-readable report. One line, whatever the host put in it.
        display.display("".join(char if char.isprintable() else " " for char in line), stderr=True)


def unsupported(machine, shipped):
    if shipped:
        hint = f"use a host with a {' or '.join(shipped)} CPU, or build the collection for this one"
    else:
        hint = "it was installed from its sources; build it with `make collection` and install the tarball"
    return StepFailure(
        "ARCH_UNSUPPORTED",
        f"this collection has no executable for a `{machine}` CPU, only for: {', '.join(shipped) or 'none'}",
        [hint],
    )


def job_lost(job, answer):
    return StepFailure(
        "JOB_LOST",
        f"the step was started, but its job does not answer (job folder {job['folder']})",
        ["the machine may have been restarted; run the play again, a step goes on from the live state"],
        detail=(answer["stderr"] or answer["stdout"]).strip(),
    )


def connection_lost(job, error):
    return StepFailure(
        "CONNECTION_LOST",
        f"the connection was lost and did not come back within {RECONNECT_SECONDS} s; the step goes on (job folder {job['folder']})",
        [
            f"on the host, `{shlex.join(job['attach'])}` tells how far it is",
            "once the host can be reached, run the play again; a step goes on from the live state",
        ],
        outcome="unreachable",
        detail=str(error),
    )
